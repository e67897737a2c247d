"""What a driver says and hears: JSON lines on its standard input and output.

A driver program runs in one of two roles, in a process of its own.

``client``: prints one ``ready`` line, then answers each request line with one reply line.

    {"op": "submit", "n": 5000}        -> {"seconds": 0.9, "cpu": 0.5}   one call after the other
    {"op": "submit_many", "n": 50000}  -> {"seconds": 0.5, "cpu": 0.5}   the peer's best batch call
    {"op": "latency", "n": 500, "gap": 0.002} -> {"samples": [0.0004, ...]}
    {"op": "graph", "width": 1000}     -> {"seconds": 0.15}              1 -> width -> 1
    {"op": "stop"}                     -> the process ends

``worker``: prints ``ready`` once everything is imported and connected, starts to
consume at ``{"op": "go"}``, answers ``{"op": "stats"}`` and ends at ``{"op": "stop"}``.

Handlers named ``stamp`` and ``join`` write the moment they start, as one double,
into a pipe that the client holds the other end of. All processes share the
machine's monotonic clock, so latency is start minus submit with no third party.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import importlib.metadata
import json
import os
import resource
import struct
import sys
import threading
import time
from collections.abc import Awaitable, Callable, Coroutine, Iterator
from typing import Any, Protocol

PAYLOAD_BYTES = 200
#: A JSON object of 200 bytes: ``{"pad": "xxx…"}`` is 11 bytes around the padding.
PAYLOAD: dict[str, Any] = {"pad": "x" * (PAYLOAD_BYTES - len(json.dumps({"pad": ""})))}
BATCH = 1_000
WARM_UP = 20
START_SECONDS_MAX = 60.0


class Client(Protocol):
    """The submitting side of one peer."""

    @property
    def bulk(self) -> str | None:
        """How ``submit_many`` does it, for the report; ``None`` where the peer has nothing."""
        ...

    def remaining(self) -> dict[str, Any]:
        """How the harness sees that a queue is drained.

        ``commands`` are read-only commands that each answer an integer; their sum
        falls to 0 (``"mode": "remaining"``) or rises to the number of tasks
        (``"mode": "finished"``).
        """
        ...

    async def open(self, url: str) -> None:
        """Connect."""
        ...

    async def submit(self, kind: str, payload: dict[str, Any]) -> None:
        """Submit one task and wait for the engine's word."""
        ...

    async def submit_many(self, kind: str, payload: dict[str, Any], count: int) -> None:
        """Submit *count* (at most 1,000) tasks the fastest way the peer offers."""
        ...

    async def submit_graph(self, width: int) -> None:
        """Start 1 -> *width* -> 1; the last task runs as ``join``."""
        ...


class Tally:
    """What one worker process saw: executions, and when the first and the last one began."""

    def __init__(self, signal_fd: int | None) -> None:
        self._signal_fd = signal_fd
        self._begun: list[float] = []

    def noop(self) -> None:
        """Count one execution; exact from many threads too, as appending is one step."""
        self._begun.append(time.monotonic())

    def stamp(self) -> None:
        """Tell the client the moment of this start."""
        now = time.monotonic()
        if self._signal_fd is not None:
            os.write(self._signal_fd, struct.pack("d", now))

    def stats(self) -> dict[str, Any]:
        """The worker's own account, with its CPU seconds and peak resident memory."""
        usage = resource.getrusage(resource.RUSAGE_SELF)
        return {
            "count": len(self._begun),
            "first": self._begun[0] if self._begun else 0.0,
            "last": self._begun[-1] if self._begun else 0.0,
            "cpu": usage.ru_utime + usage.ru_stime,
            # Linux counts in KiB, macOS in bytes.
            "rss_mib": usage.ru_maxrss / (1024 if sys.platform != "darwin" else 1024 * 1024),
        }


class Control:
    """A worker's line to the harness: ``ready``, then ``go``, then stats on request."""

    def __init__(self, tally: Tally) -> None:
        self._tally = tally

    def ready_then_go(self) -> None:
        """Say ready, block until the harness says go, answer it in a thread from then on."""
        _say({"ready": True})
        _hear()
        threading.Thread(target=self._answer, daemon=True).start()

    def _answer(self) -> None:
        while (request := _hear()) is not None and request["op"] != "stop":
            _say(self._tally.stats())
        # The measurement is over and the engine is about to be thrown away:
        # a graceful shutdown would only cost time.
        os._exit(0)


class Starts:
    """The client's end of the pipe: the moments at which stamped tasks began."""

    def __init__(self, fd: int) -> None:
        self._fd = fd
        self._moments: asyncio.Queue[float] = asyncio.Queue()
        os.set_blocking(fd, False)
        asyncio.get_running_loop().add_reader(fd, self._read)

    def _read(self) -> None:
        chunk = os.read(self._fd, 4096)
        for (moment,) in struct.iter_unpack("d", chunk):
            self._moments.put_nowait(moment)

    async def next(self) -> float:
        """The next start, or ``TimeoutError`` after a minute."""
        return await asyncio.wait_for(self._moments.get(), START_SECONDS_MAX)


def arguments() -> argparse.Namespace:
    """The command line that every driver takes."""
    parser = argparse.ArgumentParser()
    parser.add_argument("role", choices=["client", "worker"])
    parser.add_argument("--url", required=True)
    parser.add_argument("--workload", choices=["drain", "latency", "graph"], default="drain")
    parser.add_argument("--signal-fd", type=int, default=None)
    return parser.parse_args()


def serve_client(
    client: Client, options: argparse.Namespace, packages: list[str]
) -> Callable[[], Coroutine[Any, Any, None]]:
    """A coroutine function that connects *client* and answers requests until told to stop."""

    async def serve() -> None:
        await client.open(options.url)
        starts = None if options.signal_fd is None else Starts(options.signal_fd)
        _say(
            {
                "ready": True,
                "bulk": client.bulk,
                "remaining": client.remaining(),
                "versions": dict(_versions(packages)),
            }
        )
        loop = asyncio.get_running_loop()
        while (request := await loop.run_in_executor(None, _hear)) is not None:
            if request["op"] == "stop":
                break
            _say(await _answer(client, starts, request))
        sys.stdout.flush()
        os._exit(0)

    return serve


def _versions(packages: list[str]) -> Iterator[tuple[str, str]]:
    for name in packages:
        with contextlib.suppress(importlib.metadata.PackageNotFoundError):
            yield name, importlib.metadata.version(name)


async def _answer(client: Client, starts: Starts | None, request: dict[str, Any]) -> dict[str, Any]:
    match request["op"]:
        case "submit":
            return await _timed(_submit_each(client, request["n"]))
        case "submit_many":
            return await _timed(_submit_batches(client, request["n"]))
        case "latency":
            assert starts is not None
            return {"samples": await _latency(client, starts, request["n"], request["gap"])}
        case "graph":
            assert starts is not None
            begin = time.monotonic()
            await client.submit_graph(request["width"])
            return {"seconds": await starts.next() - begin}
        case other:
            raise ValueError(f"unknown request {other!r}")


async def _timed(work: Awaitable[None]) -> dict[str, Any]:
    cpu, begin = time.process_time(), time.monotonic()
    await work
    return {"seconds": time.monotonic() - begin, "cpu": time.process_time() - cpu}


async def _submit_each(client: Client, count: int) -> None:
    for _ in range(count):
        await client.submit("noop", PAYLOAD)


async def _submit_batches(client: Client, count: int) -> None:
    for start in range(0, count, BATCH):
        await client.submit_many("noop", PAYLOAD, min(BATCH, count - start))


async def _latency(client: Client, starts: Starts, count: int, gap: float) -> list[float]:
    samples = []
    for _ in range(WARM_UP + count):
        submitted = time.monotonic()
        await client.submit("stamp", PAYLOAD)
        samples.append(await starts.next() - submitted)
        await asyncio.sleep(gap)
    return samples[WARM_UP:]


def _say(message: dict[str, Any]) -> None:
    print(json.dumps(message), flush=True)


def _hear() -> dict[str, Any] | None:
    line = sys.stdin.readline()
    if not line:
        return None
    message: dict[str, Any] = json.loads(line)
    return message
