"""One worker process of the demo: the worker of ``survey``, for a board and an agent.

It stops when its parent is gone: its standard input is a pipe that only the parent holds.
"""

from __future__ import annotations

import asyncio
import logging
import sys
from typing import Final

from callboard.exceptions import CallboardError
from callboard.sdk.connect import connect
from callboard.sdk.worker import load_worker

WORKER: Final = "callboard.demo.survey:worker"


async def work(board: str, agent: str) -> None:
    """Do the board's tasks until a signal comes, or the parent is gone."""
    worker = load_worker(WORKER)
    worker.board, worker.agent = board, agent
    loop = asyncio.get_running_loop()
    reader = asyncio.StreamReader()
    transport, _ = await loop.connect_read_pipe(
        lambda: asyncio.StreamReaderProtocol(reader), sys.stdin
    )

    async def watch() -> None:
        await reader.read()
        worker.stop()

    watching = asyncio.create_task(watch())
    try:
        async with connect() as cb:
            await worker.run(cb)
    finally:
        watching.cancel()
        transport.close()


def main() -> int:
    """``python -m callboard.demo.hand BOARD AGENT``; the engine comes from the environment."""
    logging.basicConfig(level=logging.WARNING, format="%(asctime)s %(name)s: %(message)s")
    _, board, agent = sys.argv
    try:
        asyncio.run(work(board, agent))
    except CallboardError as error:
        logging.getLogger("callboard.demo").error("%s", error)
        return 1
    except KeyboardInterrupt:
        return 130
    return 0


if __name__ == "__main__":
    sys.exit(main())
