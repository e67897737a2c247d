"""The processes that are measured, seen from the harness."""

from __future__ import annotations

import contextlib
import importlib.util
import json
import os
import select
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from benchmarks import peer_setup
from benchmarks.peer_setup import PeerMissing

ROOT = Path(__file__).resolve().parent.parent
REPLY_SECONDS_MAX = 180.0


class DriverError(RuntimeError):
    """A driver died, fell silent or answered nonsense; the message carries its last words."""


@dataclass(frozen=True)
class Contender:
    """One of the compared libraries: its name and the program that drives it."""

    name: str
    command: tuple[str, ...]


def _python_peer(name: str) -> Contender:
    return Contender(name, (peer_setup.python_peers(), "-m", f"benchmarks.peers.{name}"))


def _bullmq() -> Contender:
    return Contender("bullmq", (peer_setup.node_peers(), str(peer_setup.PEERS / "bullmq.mjs")))


def _callboard() -> Contender:
    found = importlib.util.find_spec("callboard")
    if found is None or found.origin is None:
        raise PeerMissing("the package callboard is not installed here (run `make setup`)")
    return Contender("callboard", (sys.executable, "-m", "benchmarks.callboard_driver"))


CONTENDERS: dict[str, Callable[[], Contender]] = {
    "callboard": _callboard,
    "bullmq": _bullmq,
    "dramatiq": lambda: _python_peer("dramatiq"),
    "huey": lambda: _python_peer("huey"),
    "saq": lambda: _python_peer("saq"),
}
PEERS = tuple(name for name in CONTENDERS if name != "callboard")


class Driver:
    """One driver process, client or worker, spoken to in JSON lines."""

    def __init__(
        self, contender: Contender, role: str, url: str, workload: str, signal_fd: int | None
    ) -> None:
        self.name = f"{contender.name} {role}"
        self._errors = tempfile.TemporaryFile()  # noqa: SIM115 (closed in `close`)
        command = [*contender.command, role, "--url", url, "--workload", workload]
        if signal_fd is not None:
            command += ["--signal-fd", str(signal_fd)]
        self._process = subprocess.Popen(
            command,
            cwd=ROOT,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=self._errors,
            pass_fds=() if signal_fd is None else (signal_fd,),
        )
        self._buffer = b""
        self.ready: dict[str, Any] = {}

    @property
    def pid(self) -> int:
        """The driver's process id."""
        return self._process.pid

    def wait_until_ready(self) -> None:
        """Take the driver's first line, which describes it."""
        self.ready = self.hear()

    def ask(self, op: str, **request: Any) -> dict[str, Any]:
        """Send a request and wait for its reply, up to three minutes."""
        self.tell(op, **request)
        return self.hear()

    def tell(self, op: str, **request: Any) -> None:
        """Send a request that has no reply."""
        assert self._process.stdin is not None
        try:
            self._process.stdin.write(json.dumps({"op": op, **request}).encode() + b"\n")
            self._process.stdin.flush()
        except BrokenPipeError as error:
            raise self._failure("died") from error

    def hear(self) -> dict[str, Any]:
        """The next line that the driver prints."""
        assert self._process.stdout is not None
        descriptor = self._process.stdout.fileno()
        deadline = time.monotonic() + REPLY_SECONDS_MAX
        while b"\n" not in self._buffer:
            ready, _, _ = select.select([descriptor], [], [], max(0, deadline - time.monotonic()))
            if not ready:
                raise self._failure(f"said nothing for {REPLY_SECONDS_MAX:.0f} s")
            chunk = os.read(descriptor, 1 << 16)
            if not chunk:
                raise self._failure("died")
            self._buffer += chunk
        line, _, self._buffer = self._buffer.partition(b"\n")
        try:
            message: dict[str, Any] = json.loads(line)
        except ValueError as error:
            raise self._failure(f"printed {line[:200]!r}, which is no JSON,") from error
        return message

    def close(self) -> None:
        """Tell the driver to stop, and end it if it does not within five seconds."""
        with contextlib.suppress(DriverError):
            self.tell("stop")
        try:
            self._process.wait(5)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()
        for stream in (self._process.stdin, self._process.stdout, self._errors):
            assert stream is not None
            with contextlib.suppress(OSError):
                stream.close()

    def _failure(self, what: str) -> DriverError:
        self._errors.seek(0)
        tail = self._errors.read().decode(errors="replace").strip().splitlines()[-15:]
        return DriverError("\n".join([f"The {self.name} {what}.", *tail]))


@contextlib.contextmanager
def running_client(
    contender: Contender, url: str, *, workload: str = "drain", signal_fd: int | None = None
) -> Iterator[Driver]:
    """A connected client that is ended afterwards."""
    driver = Driver(contender, "client", url, workload, signal_fd)
    try:
        driver.wait_until_ready()
        yield driver
    finally:
        driver.close()


@contextlib.contextmanager
def running_workers(
    contender: Contender,
    url: str,
    count: int,
    *,
    workload: str = "drain",
    signal_fd: int | None = None,
) -> Iterator[list[Driver]]:
    """*count* workers that are connected and wait for ``go``; they are ended afterwards."""
    workers: list[Driver] = []
    try:
        while len(workers) < count:
            workers.append(Driver(contender, "worker", url, workload, signal_fd))
        for worker in workers:
            worker.wait_until_ready()
        yield workers
    finally:
        for worker in workers:
            worker.close()


@contextlib.contextmanager
def start_pipe() -> Iterator[tuple[int, int]]:
    """A pipe for the moments at which stamped tasks start: (client's end, worker's end)."""
    reader, writer = os.pipe()
    try:
        yield reader, writer
    finally:
        os.close(reader)
        os.close(writer)
