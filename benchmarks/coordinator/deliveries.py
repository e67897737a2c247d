"""W17: tasks a second from the submit to the accepted completion, and how long one takes.

By push: the coordinator posts each task to an agent's endpoint, whose answer is the result.
By WebSocket: an agent on a socket is sent each task and completes it there. One coordinator,
then two on one engine. The first figure is of tasks that wait already, the second of one task
at a time, from before its submit until it is done.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import subprocess
import sys
import time
from collections.abc import Iterator

from websockets.asyncio.client import connect

import callboard
from benchmarks.coordinator.service import Service, free_port, serving
from benchmarks.engine import EngineOptions, running_engine
from benchmarks.primitives.samples import Samples
from benchmarks.report import figure, rows
from benchmarks.results import Results
from callboard import TaskSpec

KEY = "W17"
AGENTS = 4
OUTSTANDING = 100
PAYLOAD = {"model": "llama2", "prompt": "test prompt"}


def measure(options: EngineOptions, results: Results, *, quick: bool, runs: int) -> None:
    """Add the figures of both ways, with one coordinator and with two."""
    count, singles = (1_000, 50) if quick else (20_000, 500)
    for _ in range(runs):
        for nodes in (1, 2):
            with running_engine(options) as engine, contextlib.ExitStack() as stack:
                services = [stack.enter_context(serving(engine.url)) for _ in range(nodes)]
                ports = [stack.enter_context(_pushed_agent()) for _ in range(AGENTS)]
                for n, port in enumerate(ports):
                    services[n % nodes].post(
                        "/agents/register",
                        {
                            "agent_id": f"pushed-{n}",
                            "agent_type": "worker",
                            "endpoints": {"http": f"http://127.0.0.1:{port}"},
                        },
                    )
                name = f"push to {AGENTS} agents, {nodes} coordinator{'s' * (nodes > 1)}"
                asyncio.run(_drain(engine.url, name, count, singles, results))
        with running_engine(options) as engine, serving(engine.url) as service:
            asyncio.run(_by_socket(engine.url, service, count, singles, results))


def render(results: Results) -> str:
    """The table."""
    return rows(results, KEY, "From the submit to the accepted completion", "way")


async def _drain(url: str, name: str, count: int, singles: int, results: Results) -> None:
    async with callboard.connect(url, adopt=True) as cb:
        await _finish(cb, 200)
        seconds = await _finish(cb, count)
        samples = Samples()
        for _ in range(singles):
            began = time.perf_counter()
            handle = await cb.tasks.submit("task", PAYLOAD)
            await handle.result(timeout=30)
            samples.add(time.perf_counter() - began)
    figure(results, KEY, name, "tasks/s", count / seconds, 0)
    figure(results, KEY, name, "one by one, p50 ms", samples.ms(50))
    figure(results, KEY, name, "p99 ms", samples.ms(99))


async def _finish(cb: callboard.Callboard, count: int) -> float:
    """Submit so many, and wait until all of them are done; the seconds from before the submit."""
    before = (await cb.boards.get("default")).counts.done if await _exists(cb) else 0
    began = time.perf_counter()
    await cb.tasks.submit_many(TaskSpec(kind="task", payload=PAYLOAD) for _ in range(count))
    while True:
        done = (await cb.boards.get("default")).counts.done - before
        if done >= count:
            return time.perf_counter() - began
        await asyncio.sleep(0.02 if done < count * 0.9 else 0.002)


async def _exists(cb: callboard.Callboard) -> bool:
    return any(board.name == "default" for board in await cb.boards.list())


async def _by_socket(
    url: str, service: Service, count: int, singles: int, results: Results
) -> None:
    agent = asyncio.create_task(_socket_agent(service))
    drain = asyncio.create_task(_drain(url, "WebSocket, one agent", count, singles, results))
    try:
        await asyncio.wait({agent, drain}, return_when=asyncio.FIRST_COMPLETED)
        if agent.done():
            agent.result()
        await drain
    finally:
        drain.cancel()
        agent.cancel()
        await asyncio.gather(drain, agent, return_exceptions=True)


async def _socket_agent(service: Service) -> None:
    """Takes tasks on a socket and completes each at once."""
    async with connect(service.url.replace("http", "ws", 1) + "/ws", max_size=None) as socket:
        await socket.send(json.dumps({"type": "register", "agent": "socket-agent", "id": "r"}))
        await socket.send(json.dumps({"type": "subscribe", "work": {"limit": OUTSTANDING}}))
        async for text in socket:
            frame = json.loads(text)
            if frame["type"] in ("error", "problem"):
                raise RuntimeError(text)
            if frame["type"] == "task":
                task = frame["task"]
                done = {"task_id": task["id"], "fence": task["fence"], "result": {"ok": True}}
                await socket.send(json.dumps({"type": "complete", **done}))


@contextlib.contextmanager
def _pushed_agent() -> Iterator[int]:
    port = free_port()
    process = subprocess.Popen(
        [sys.executable, "-m", "benchmarks.coordinator.pushed_agent", str(port)]
    )
    try:
        time.sleep(0.5)
        yield port
    finally:
        process.kill()
        process.wait()
