"""dramatiq: threads (3 to drain on Valkey, 1 for latency and graphs), prefetch 4,000."""

from __future__ import annotations

import asyncio
import os
import threading
from typing import Any

# Read by dramatiq when it is imported. The default (twice the threads) makes its
# fetch loop sleep whenever the prefetch is full.
os.environ.setdefault("dramatiq_queue_prefetch", "4000")

import dramatiq  # type: ignore[import-not-found]
from dramatiq.brokers.redis import RedisBroker  # type: ignore[import-not-found]
from dramatiq.middleware import GroupCallbacks  # type: ignore[import-not-found]
from dramatiq.rate_limits.backends import RedisBackend  # type: ignore[import-not-found]

from benchmarks.peers.protocol import Control, Tally, arguments, serve_client

THREADS = {"drain": 3, "latency": 1, "graph": 1}


def declare(url: str, tally: Tally) -> tuple[RedisBroker, dict[str, Any]]:
    """The broker and its actors, the same on both sides."""
    broker = RedisBroker(url=url)
    broker.add_middleware(GroupCallbacks(RedisBackend(client=broker.client)))
    dramatiq.set_broker(broker)

    @dramatiq.actor
    def noop(payload: dict[str, Any]) -> None:
        tally.noop()

    @dramatiq.actor
    def stamp(payload: dict[str, Any]) -> None:
        tally.stamp()

    @dramatiq.actor
    def middle() -> None:
        return None

    @dramatiq.actor
    def join() -> None:
        tally.stamp()

    @dramatiq.actor
    def root(width: int) -> None:
        fan = dramatiq.group([middle.message() for _ in range(width)])
        fan.add_completion_callback(join.message())
        fan.run()

    return broker, {"noop": noop, "stamp": stamp, "root": root}


class DramatiqClient:
    """Synchronous and one at a time: dramatiq has no batch call."""

    bulk = None

    def __init__(self) -> None:
        self._actors: dict[str, Any] = {}

    def remaining(self) -> dict[str, Any]:
        return {"mode": "remaining", "commands": [["HLEN", "dramatiq:default.msgs"]]}

    async def open(self, url: str) -> None:
        broker, self._actors = declare(url, Tally(None))
        broker.client.ping()

    async def submit(self, kind: str, payload: dict[str, Any]) -> None:
        self._actors[kind].send(payload)

    async def submit_many(self, kind: str, payload: dict[str, Any], count: int) -> None:
        for _ in range(count):
            self._actors[kind].send(payload)

    async def submit_graph(self, width: int) -> None:
        self._actors["root"].send(width)


def run_worker(url: str, workload: str, tally: Tally) -> None:
    """Consume until the process is told to end."""
    broker, _ = declare(url, tally)
    broker.client.ping()
    worker = dramatiq.Worker(broker, worker_threads=THREADS[workload])
    Control(tally).ready_then_go()
    worker.start()
    threading.Event().wait()


if __name__ == "__main__":
    options = arguments()
    if options.role == "client":
        packages = ["dramatiq", "redis", "hiredis"]
        asyncio.run(serve_client(DramatiqClient(), options, packages)())
    else:
        run_worker(options.url, options.workload, Tally(options.signal_fd))
