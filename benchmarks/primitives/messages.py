"""W10: what messages cost, beside Redis streams with a consumer group on the same engine.

In batches, one process sends a hundred, takes them and acknowledges them, again and again, for
four agents at once. At a steady thousand a second, each is timed from
just before it is sent until its receiver, which listens on a connection of its own, has it.

The stream is what redis-py's asynchronous client does for such batches: XADD in a pipeline,
XREADGROUP, XACK. It has no priorities, no expiry, no check of the inbox's bound, no
redelivery, and it blocks a connection to wait.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable
from typing import Any

import redis.asyncio

import callboard
from benchmarks.engine import Engine, EngineOptions, running_engine
from benchmarks.peers.protocol import PAYLOAD
from benchmarks.primitives.samples import Samples
from benchmarks.report import figure, rows
from benchmarks.results import Results

KEY = "W10"
BATCH = 100
AGENTS = 4
GAP_SECONDS = 0.001
OURS, STREAM = "callboard", "a Redis stream, redis-py"


def measure(options: EngineOptions, results: Results, *, quick: bool, runs: int) -> None:
    """Add the figures of batches and of a steady flow."""
    batches, flow = (20, 300) if quick else (300, 5_000)
    for _ in range(runs):
        for batched, steady in ((_batched, _steady), (_stream_batched, _stream_steady)):
            with running_engine(options) as engine:
                asyncio.run(batched(engine, batches, results))
            with running_engine(options) as engine:
                asyncio.run(steady(engine, flow, results))


def render(results: Results) -> str:
    """The table."""
    return rows(results, KEY, "Messages: sent, taken and acknowledged")


def _client(url: str) -> Any:
    """Untyped, since the types of a stream's replies depend on the protocol."""
    return redis.asyncio.Redis.from_url(url)


async def _batched(engine: Engine, batches: int, results: Results) -> None:
    async with callboard.connect(engine.url, adopt=True) as cb:

        async def one(agent: str) -> int:
            specs = [
                callboard.MessageSpec(to=agent, payload=PAYLOAD, sender="noor")
                for _ in range(BATCH)
            ]
            await cb.messages.send_many(specs)
            taken = await cb.messages.take(agent, BATCH)
            answers = await cb.messages.acknowledge_many(taken)
            return sum(answer.is_ok for answer in answers)

        await _rate(OURS, engine, one, batches, results)


async def _stream_batched(engine: Engine, batches: int, results: Results) -> None:
    async with _client(engine.url) as client:
        for n in range(AGENTS):
            await client.xgroup_create(f"agent-{n}", "all", id="0", mkstream=True)
        body = {"payload": str(PAYLOAD)}

        async def one(agent: str) -> int:
            pipe = client.pipeline(transaction=False)
            for _ in range(BATCH):
                pipe.xadd(agent, body, maxlen=10_000, approximate=True)
            await pipe.execute()
            [(_, entries)] = await client.xreadgroup("all", "one", {agent: ">"}, count=BATCH)
            return int(await client.xack(agent, "all", *(entry for entry, _ in entries)))

        await _rate(STREAM, engine, one, batches, results)


async def _rate(
    name: str, engine: Engine, one: Callable[[str], Awaitable[int]], batches: int, results: Results
) -> None:
    async def again(agent: str, times: int) -> None:
        for _ in range(times):
            if await one(agent) != BATCH:
                raise RuntimeError("a message was not acknowledged")

    async def all_of(times: int) -> None:
        await asyncio.gather(*(again(f"agent-{n}", times) for n in range(AGENTS)))

    await all_of(1)
    cpu = engine.cpu().total
    started = time.perf_counter()
    await all_of(batches // AGENTS)
    seconds = time.perf_counter() - started
    total = batches // AGENTS * AGENTS * BATCH
    figure(results, KEY, name, f"in batches of {BATCH}, acknowledged/s", total / seconds, 0)
    engine_us = (engine.cpu().total - cpu) / total * 1e6
    figure(results, KEY, name, "engine CPU, µs/message", engine_us, 1)


async def _steady(engine: Engine, count: int, results: Results) -> None:
    async with (
        callboard.connect(engine.url, adopt=True) as sender,
        callboard.connect(engine.url, adopt=True) as receiver,
    ):
        await receiver.agents.register("mira")
        delivered = Samples()

        async def listen() -> None:
            async for message in receiver.messages.listen("mira"):
                delivered.add(time.perf_counter() - message.decode(float))
                if delivered.count == count:
                    return

        async def send(at: float) -> None:
            await sender.messages.send("mira", at, sender="noor")

        await _flow(OURS, listen, send, count, delivered, results)


async def _stream_steady(engine: Engine, count: int, results: Results) -> None:
    async with _client(engine.url) as sender, _client(engine.url) as receiver:
        await receiver.xgroup_create("inbox", "mira", id="0", mkstream=True)
        delivered = Samples()

        async def listen() -> None:
            while delivered.count < count:
                for _, entries in await receiver.xreadgroup(
                    "mira", "one", {"inbox": ">"}, count=BATCH, block=1_000
                ):
                    for entry, body in entries:
                        delivered.add(time.perf_counter() - float(body[b"at"]))
                        await receiver.xack("inbox", "mira", entry)

        async def send(at: float) -> None:
            await sender.xadd("inbox", {"at": repr(at)}, maxlen=10_000, approximate=True)

        await _flow(STREAM, listen, send, count, delivered, results)


async def _flow(
    name: str,
    listen: Callable[[], Awaitable[None]],
    send: Callable[[float], Awaitable[None]],
    count: int,
    delivered: Samples,
    results: Results,
) -> None:
    listening = asyncio.ensure_future(listen())
    sent = []
    begun = time.perf_counter()
    for n in range(count):
        await asyncio.sleep(max(0.0, begun + n * GAP_SECONDS - time.perf_counter()))
        sent.append(asyncio.ensure_future(send(time.perf_counter())))
    await asyncio.gather(*sent)
    await asyncio.wait_for(listening, 60)
    figure(results, KEY, name, "at 1,000/s, sent to taken p50, ms", delivered.ms(50), 2)
    figure(results, KEY, name, "p99, ms", delivered.ms(99), 2)
