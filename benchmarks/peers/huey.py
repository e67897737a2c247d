"""huey: four threads on Valkey, blocking pop, at most once; graphs by its chord."""

from __future__ import annotations

import asyncio
import threading
from typing import Any

from huey import RedisHuey, chord  # type: ignore[import-not-found]

from benchmarks.peers.protocol import Control, Tally, arguments, serve_client

THREADS = 4


def declare(url: str, tally: Tally) -> tuple[RedisHuey, dict[str, Any]]:
    """The queue and its tasks, the same on both sides."""
    queue = RedisHuey("bench", url=url)

    @queue.task()
    def noop(payload: dict[str, Any]) -> None:
        tally.noop()

    @queue.task()
    def stamp(payload: dict[str, Any]) -> None:
        tally.stamp()

    @queue.task()
    def middle() -> None:
        return None

    @queue.task()
    def join(results: list[Any]) -> None:
        tally.stamp()

    @queue.task()
    def root(width: int) -> None:
        queue.enqueue(chord([middle.s() for _ in range(width)], join.s()))

    return queue, {"noop": noop, "stamp": stamp, "root": root}


class HueyClient:
    """Synchronous and one at a time: huey has no batch call."""

    bulk = None

    def __init__(self) -> None:
        self._tasks: dict[str, Any] = {}

    def remaining(self) -> dict[str, Any]:
        # Popped tasks are nowhere in the engine: the harness also waits for the
        # worker's count.
        return {"mode": "remaining", "commands": [["LLEN", "huey.redis.bench"]]}

    async def open(self, url: str) -> None:
        queue, self._tasks = declare(url, Tally(None))
        queue.storage.conn.ping()

    async def submit(self, kind: str, payload: dict[str, Any]) -> None:
        self._tasks[kind](payload)

    async def submit_many(self, kind: str, payload: dict[str, Any], count: int) -> None:
        for _ in range(count):
            self._tasks[kind](payload)

    async def submit_graph(self, width: int) -> None:
        self._tasks["root"](width)


def run_worker(url: str, tally: Tally) -> None:
    """Consume until the process is told to end."""
    queue, _ = declare(url, tally)
    queue.storage.conn.ping()
    consumer = queue.create_consumer(workers=THREADS, periodic=False)
    Control(tally).ready_then_go()
    consumer.start()
    threading.Event().wait()


if __name__ == "__main__":
    options = arguments()
    if options.role == "client":
        asyncio.run(serve_client(HueyClient(), options, ["huey", "redis", "hiredis"])())
    else:
        run_worker(options.url, Tally(options.signal_fd))
