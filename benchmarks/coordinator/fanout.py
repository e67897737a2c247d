"""W18: one coordinator sends every event to 200 readers of ``/events`` at 500 events a second.

An event is a task that is submitted, with its id; what is measured is from before the submit
until a reader has the event, over all readers, and what CPU time the service spends meanwhile.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import time

import callboard
from benchmarks.coordinator.service import Service, serving
from benchmarks.engine import EngineOptions, running_engine
from benchmarks.primitives.samples import Samples
from benchmarks.report import figure, rows
from benchmarks.results import Results

KEY = "W18"
READERS = 200
RATE = 500


def measure(options: EngineOptions, results: Results, *, quick: bool, runs: int) -> None:
    """Add the figures of one fan-out."""
    seconds = 2 if quick else 10
    for _ in range(runs):
        with running_engine(options) as engine, serving(engine.url, "--no-dispatch") as service:
            asyncio.run(_measure(engine.url, service, seconds, results))


def render(results: Results) -> str:
    """The table."""
    return rows(results, KEY, f"{RATE} events/s to {READERS} readers", "stream")


async def _measure(url: str, service: Service, seconds: int, results: Results) -> None:
    sent_at: dict[str, float] = {}
    samples, received = Samples(), [0] * READERS
    opened = asyncio.Semaphore(0)

    async def read(n: int) -> None:
        reader, writer = await asyncio.open_connection("127.0.0.1", service.port, limit=1 << 20)
        writer.write(b"GET /events?types=task:created HTTP/1.1\r\nhost: 127.0.0.1\r\n\r\n")
        await reader.readuntil(b"\r\n\r\n")
        opened.release()
        try:
            while True:
                line = await reader.readline()
                if not line:
                    return
                if line.startswith(b"data:"):
                    at = time.perf_counter()
                    received[n] += 1
                    if n % 10 == 0:  # Decoding each would measure the reader.
                        for fact in json.loads(line[5:]).get("facts", ()):
                            samples.add(at - sent_at.get(fact["id"], at))
        finally:
            writer.close()

    readers = [asyncio.create_task(read(n)) for n in range(READERS)]
    for _ in range(READERS):
        await opened.acquire()
    async with callboard.connect(url, adopt=True) as cb:
        cpu, began = service.cpu_seconds(), time.perf_counter()
        for n in range(RATE * seconds):
            await asyncio.sleep(max(0.0, began + n / RATE - time.perf_counter()))
            sent_at[f"t{n}"] = time.perf_counter()
            await cb.tasks.submit("task", id=f"t{n}")
        await asyncio.sleep(0.5)
        took = time.perf_counter() - began
        cpu = service.cpu_seconds() - cpu
    for task in readers:
        task.cancel()
    with contextlib.suppress(asyncio.CancelledError):
        await asyncio.gather(*readers, return_exceptions=True)
    figure(results, KEY, "SSE", "delivered/s", sum(received) / took, 0)
    figure(results, KEY, "SSE", "p50 ms", samples.ms(50))
    figure(results, KEY, "SSE", "p99 ms", samples.ms(99))
    figure(results, KEY, "SSE", "service CPU, %", cpu / took * 100, 0)
    figure(results, KEY, "SSE", "memory MB", service.memory_mb(), 0)
