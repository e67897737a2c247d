"""One socket to the engine: redis-py opens it (TCP, TLS, unix; HELLO, AUTH, SELECT), others use it.

Nothing here retries, and nothing has a read time limit: by default redis-py
8.1 repeats a call whose reply was lost, which would run it twice.
"""

from __future__ import annotations

import asyncio
import random
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import Any, Protocol, cast

import hiredis
from redis.asyncio.connection import Connection as TcpConnection
from redis.asyncio.connection import DefaultParser, SSLConnection
from redis.asyncio.retry import Retry
from redis.backoff import NoBackoff
from redis.maint_notifications import MaintNotificationsConfig

__all__ = [
    "Argument",
    "SSLConnection",
    "TcpConnection",
    "Wire",
    "ask",
    "backoff",
    "open_wire",
    "pack",
]

Argument = bytes | str | int | float

# Its type stub asks for a tuple of one item.
pack: Callable[[tuple[Argument, ...]], bytes] = cast(Any, hiredis.pack_command)

# Half of asyncio's own stream buffer limit (2 x 64 KiB): one read empties most of it.
_READ_BYTES = 64 * 1024

_BACKOFF_BASE = 0.05
_BACKOFF_CAP = 2.0


class RedisConnection(Protocol):
    """The part of redis-py's connections that is used here."""

    @property
    def is_connected(self) -> bool: ...

    async def connect(self) -> None: ...

    async def disconnect(self, nowait: bool = False) -> None: ...

    async def send_packed_command(
        self, command: Iterable[bytes], check_health: bool = True
    ) -> None: ...

    async def read_response(
        self, *, disconnect_on_error: bool = True, push_request: bool = False
    ) -> Any: ...


@dataclass
class Meter:
    """Counts the reads that brought bytes, so that a slow big reply is not taken for a stall."""

    chunks: int = 0


@dataclass(frozen=True)
class Wire:
    """A redis-py connection, the meter of what it received, and where it leads."""

    connection: RedisConnection
    meter: Meter
    place: str


async def open_wire(options: Mapping[str, Any], time_limit: float) -> Wire:
    """Connect and shake hands within *time_limit* seconds, or leave nothing open.

    Raises:
        TimeoutError: The handshake took too long; redis-py itself limits only the dialling.
        redis.exceptions.RedisError: Refused, unreachable, or not authenticated.
    """
    wire = _make_wire(options, time_limit)
    try:
        async with asyncio.timeout(time_limit):
            await wire.connection.connect()
    except BaseException:
        await wire.connection.disconnect(nowait=True)
        raise
    return wire


async def ask(wire: Wire, *command: Argument) -> Any:
    """Send one command on a wire that nobody else uses yet, and return its reply."""
    packed = pack(command)
    await wire.connection.send_packed_command([packed], check_health=False)
    return await wire.connection.read_response(disconnect_on_error=False)


def backoff(attempt: int, *, base: float = _BACKOFF_BASE, cap: float = _BACKOFF_CAP) -> float:
    """Seconds to wait before try number *attempt* (from 0): exponential, capped, full jitter.

    Full jitter spreads the clients of a restarted engine evenly: see "Exponential
    Backoff And Jitter", AWS Architecture Blog, 2015.
    """
    return random.uniform(0.0, min(cap, base * 2.0 ** min(attempt, 30)))


def _make_wire(options: Mapping[str, Any], time_limit: float) -> Wire:
    meter = Meter()
    arguments = dict(options)
    connection_class = arguments.pop("connection_class", TcpConnection)
    connection = connection_class(
        **arguments,
        parser_class=_metered_parser(meter),
        protocol=3,
        decode_responses=False,
        socket_connect_timeout=time_limit,
        socket_timeout=None,
        socket_read_size=_READ_BYTES,
        health_check_interval=0,
        retry=Retry(NoBackoff(), 0),
        driver_info=None,
        # Valkey answers this redis-py extension with an error, once per connection.
        maint_notifications_config=MaintNotificationsConfig(enabled=False),
    )
    place = options.get("path") or f"{options['host']}:{options['port']}"
    return Wire(cast(RedisConnection, connection), meter, place)


def _metered_parser(meter: Meter) -> type:
    base = cast(Any, DefaultParser)

    async def read_from_socket(self: Any) -> Any:
        received = await base.read_from_socket(self)
        meter.chunks += 1
        return received

    return type("MeteredParser", (base,), {"read_from_socket": read_from_socket})
