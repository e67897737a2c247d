"""Callboard itself, driven through its public API by the same protocol as the peers."""

from __future__ import annotations

import asyncio
from collections.abc import Coroutine
from typing import Any

import callboard
from benchmarks.peers.protocol import Control, Tally, arguments, serve_client
from callboard import TaskSpec, Worker

CONCURRENCY = 100


class CallboardClient:
    """Submits to the board ``default``; a batch is one all-or-nothing call."""

    bulk = "submit_many (all or nothing)"

    def __init__(self) -> None:
        self._board: callboard.Callboard

    def remaining(self) -> dict[str, Any]:
        return {"mode": "finished", "commands": [["ZCARD", "tasks:default:done"]]}

    async def open(self, url: str) -> None:
        self._board = await callboard.connect(url).__aenter__()

    async def submit(self, kind: str, payload: dict[str, Any]) -> None:
        await self._board.tasks.submit(kind, payload)

    async def submit_many(self, kind: str, payload: dict[str, Any], count: int) -> None:
        await self._board.tasks.submit_many(
            [TaskSpec(kind=kind, payload=payload) for _ in range(count)]
        )

    async def submit_graph(self, width: int) -> None:
        middle = [f"middle-{number}" for number in range(width)]
        specs = [TaskSpec(id="root", kind="middle")]
        specs += [TaskSpec(id=name, kind="middle", depends_on=["root"]) for name in middle]
        specs.append(TaskSpec(id="join", kind="join", depends_on=middle))
        await self._board.tasks.submit_many(specs)


async def work(url: str, tally: Tally) -> None:
    """Consume until the process is told to end."""
    async with callboard.connect(url) as board:
        worker = Worker(board, agent="bench", concurrency=CONCURRENCY)

        @worker.handles("noop")
        async def noop(payload: dict[str, Any]) -> None:
            tally.noop()

        @worker.handles("stamp")
        async def stamp(payload: dict[str, Any]) -> None:
            tally.stamp()

        @worker.handles("middle")
        async def middle(payload: Any) -> None:
            return None

        @worker.handles("join")
        async def join(payload: Any) -> None:
            tally.stamp()

        Control(tally).ready_then_go()
        await worker.run()


def run(main: Coroutine[Any, Any, None]) -> None:
    """Run on uvloop where it is installed, as Callboard's own entry points do."""
    try:
        import uvloop
    except ImportError:
        asyncio.run(main)
    else:
        uvloop.run(main)


if __name__ == "__main__":
    options = arguments()
    if options.role == "client":
        packages = ["callboard", "redis", "hiredis", "msgspec", "uvloop"]
        run(serve_client(CallboardClient(), options, packages)())
    else:
        run(work(options.url, Tally(options.signal_fd)))
