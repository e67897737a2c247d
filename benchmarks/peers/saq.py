"""saq: asyncio on uvloop, 50 slots, no batch call (20 enqueues in flight instead)."""

from __future__ import annotations

import asyncio
from typing import Any

import uvloop
from redis.asyncio import Redis
from saq import Worker  # type: ignore[import-not-found]
from saq.queue.redis import RedisQueue  # type: ignore[import-not-found]

from benchmarks.peers.protocol import Control, Tally, arguments, serve_client

CONCURRENCY = 50
IN_FLIGHT = 20


def open_queue(url: str) -> RedisQueue:
    """A queue with saq's own defaults."""
    return RedisQueue(Redis.from_url(url), name="bench")


class SaqClient:
    """Enqueues with saq's default job settings."""

    bulk = f"{IN_FLIGHT} concurrent enqueues (no batch call)"

    def __init__(self) -> None:
        self._queue: RedisQueue

    def remaining(self) -> dict[str, Any]:
        return {"mode": "remaining", "commands": [["ZCARD", "saq:bench:incomplete"]]}

    async def open(self, url: str) -> None:
        self._queue = open_queue(url)
        await self._queue.connect()

    async def submit(self, kind: str, payload: dict[str, Any]) -> None:
        await self._queue.enqueue(kind, payload=payload)

    async def submit_many(self, kind: str, payload: dict[str, Any], count: int) -> None:
        left = iter(range(count))

        async def feed() -> None:
            for _ in left:
                await self._queue.enqueue(kind, payload=payload)

        await asyncio.gather(*(feed() for _ in range(IN_FLIGHT)))

    async def submit_graph(self, width: int) -> None:
        await self._queue.enqueue("root", width=width, timeout=60)


def run_worker(url: str, tally: Tally) -> None:
    """Consume until the process is told to end."""

    async def noop(_ctx: Any, *, payload: dict[str, Any]) -> None:
        tally.noop()

    async def stamp(_ctx: Any, *, payload: dict[str, Any]) -> None:
        tally.stamp()

    async def middle(_ctx: Any) -> None:
        return None

    async def join(_ctx: Any) -> None:
        tally.stamp()

    async def root(ctx: Any, *, width: int) -> None:
        # saq has no dependencies: the root holds its slot until all children are done.
        queue = ctx["worker"].queue
        await queue.map("middle", [{} for _ in range(width)])
        await queue.enqueue("join")

    async def main() -> None:
        queue = open_queue(url)
        await queue.connect()
        # Named explicitly: saq would register a nested function under its qualified name.
        functions = [(task.__name__, task) for task in (noop, stamp, middle, join, root)]
        worker = Worker(queue, functions=functions, concurrency=CONCURRENCY)
        Control(tally).ready_then_go()
        await worker.start()

    uvloop.run(main())


if __name__ == "__main__":
    options = arguments()
    if options.role == "client":
        uvloop.run(serve_client(SaqClient(), options, ["saq", "redis", "hiredis", "uvloop"])())
    else:
        run_worker(options.url, Tally(options.signal_fd))
