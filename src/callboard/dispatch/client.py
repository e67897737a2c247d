"""A small HTTP/1.1 client for calls to agents and to other coordinators.

Connections are kept and shared by host, bounded for each. Redirects are not followed, no
proxy is used, no cookie is kept. Exactly an address that a host's name was looked up to, and
that the rules allow, is connected to.
"""

from __future__ import annotations

import asyncio
import re
import ssl
from collections import deque
from collections.abc import AsyncIterator, Callable, Iterable, Mapping
from contextlib import asynccontextmanager
from functools import lru_cache
from typing import Final
from urllib.parse import quote, urlsplit

from callboard.dispatch.answers import Place
from callboard.dispatch.names import Names
from callboard.dispatch.wire import Connection, Exchange, HttpFailure, Response, Stream
from callboard.outgoing import AddressRules, fault_of, literal, refusal, without_user

__all__ = ["Client", "HttpFailure", "Response", "Stream"]

PER_HOST_MAX: Final = 64
TIMEOUT_SECONDS: Final = 30.0
CONNECT_SECONDS: Final = 10.0
BODY_BYTES: Final = 16_777_216
"""The longest body that a response may have, unless said otherwise."""

IDLE_SECONDS: Final = 15.0
"""How long a connection is kept that nobody uses."""

REPEATABLE: Final = frozenset({"GET", "PUT", "DELETE", "OPTIONS"})
"""Methods that may be sent again, by their definition (RFC 9110, 9.2.2)."""

_TOKEN = re.compile(r"[!#$%&'*+.^_`|~0-9A-Za-z-]+")
_HEADER_UNSAFE = re.compile(r"[\x00\r\n]")


class Target:
    """A URL, taken apart once."""

    __slots__ = ("host", "is_tls", "key", "line", "netloc", "port")

    def __init__(self, url: str) -> None:
        if why := fault_of(url):
            raise HttpFailure(
                "unusable", f"{without_user(url)!r} cannot be called: {why}", is_sent=False
            )
        parts = urlsplit(url)
        host, port = parts.hostname or "", parts.port
        self.host = host if host.isascii() else host.encode("idna").decode("ascii")
        self.is_tls = parts.scheme == "https"
        self.port = port or (443 if self.is_tls else 80)
        self.key = (self.host, self.port, self.is_tls)
        shown = f"[{self.host}]" if ":" in self.host else self.host
        self.netloc = shown if port is None else f"{shown}:{port}"
        path = quote(parts.path, safe="/%:@!$&'()*+,;=~-._") or "/"
        query = quote(parts.query, safe="/?%:@!$&'()*+,;=~-._[]")
        self.line = path + (f"?{query}" if query else "")


@lru_cache(maxsize=4096)
def target_of(url: str) -> Target:
    """The URL, taken apart. Raises HttpFailure where it cannot be called."""
    return Target(url)


class _Host:
    """The connections to one host: those in use are counted, those idle are kept."""

    __slots__ = ("idle", "open", "waiters")

    def __init__(self) -> None:
        self.idle: list[Connection] = []
        self.open = 0
        self.waiters: deque[asyncio.Future[Connection | None]] = deque()

    @property
    def is_forgettable(self) -> bool:
        """Nothing is known of it that matters."""
        return not (self.open or self.waiters)


class Client:
    """Calls over HTTP from one event loop; ``aclose`` closes what is open.

    Args:
        rules: Which addresses are refused; those of ``callboard.outgoing`` by default.
        per_host: Connections to one host at once; more requests wait for one.
        connect_timeout: Seconds until connected, name and TLS included.
        idle: Seconds that a connection is kept that nobody uses.
        tls: Where not the system's certificates are to be trusted.
    """

    def __init__(
        self,
        *,
        rules: AddressRules | None = None,
        per_host: int = PER_HOST_MAX,
        connect_timeout: float = CONNECT_SECONDS,
        idle: float = IDLE_SECONDS,
        tls: ssl.SSLContext | None = None,
    ) -> None:
        self._rules = rules or AddressRules()
        self._per_host = per_host
        self._connect_timeout = connect_timeout
        self._idle = idle
        self._tls = tls
        self._hosts: dict[tuple[str, int, bool], _Host] = {}
        self._connections: set[Connection] = set()
        self._names = Names()
        self._is_closed = False

    async def request(
        self,
        method: str,
        url: str,
        headers: Mapping[str, str] | None = None,
        body: bytes = b"",
        *,
        timeout: float = TIMEOUT_SECONDS,
        repeat: bool | None = None,
        body_bytes: int = BODY_BYTES,
        place: Place | None = None,
        until_sent: float | None = None,
    ) -> Response:
        """Send a request and read the whole response.

        Args:
            headers: Sent besides ``Host`` and ``Content-Length``.
            timeout: Seconds for all of it, waiting for a connection included.
            repeat: Whether it may be sent again where a kept connection turned out to be
                closed, and nothing was received; by its method unless given.
            body_bytes: The longest body to read.
            place: What the body takes of a room that it shares with others; it waits for it.
            until_sent: Seconds, of *timeout*, until there is a connection to send it on.

        Raises:
            HttpFailure: There is no response; ``is_sent`` says whether it may have arrived.
        """
        target = target_of(url)
        head = _head(method, target, headers, len(body))
        may_repeat = method in REPEATABLE if repeat is None else repeat
        exchange: Exchange | None = None
        try:
            async with asyncio.timeout(timeout):
                async with asyncio.timeout(until_sent):
                    connection = await self._take(target)
                while True:
                    exchange = Exchange(method, body_bytes, place=place)
                    try:
                        return await self._exchange(connection, target, exchange, head, body)
                    except HttpFailure as failure:
                        if failure.word != "stale" or (failure.is_sent and not may_repeat):
                            raise
                        may_repeat = may_repeat and not failure.is_sent
                    connection = await self._take(target, fresh=True)
        except TimeoutError:
            if exchange is None:
                raise HttpFailure(
                    "timeout", f"{target.netloc} had no connection free in time", is_sent=False
                ) from None
            raise HttpFailure(
                "timeout", f"{target.netloc} did not answer within {timeout:g} s", is_sent=True
            ) from None

    @asynccontextmanager
    async def stream(
        self,
        method: str,
        url: str,
        headers: Mapping[str, str] | None = None,
        body: bytes = b"",
        *,
        timeout: float = TIMEOUT_SECONDS,
        silence: float | None = None,
    ) -> AsyncIterator[Stream]:
        """Send a request and give the response as its body comes, on a connection of its own.

        What is not read yet is bounded: the sender is then kept waiting.

        Args:
            timeout: Seconds until the response's head is there.
            silence: Seconds without a byte of the body after which it counts as broken.

        Raises:
            HttpFailure: There is no response, or, while it is read, no more of it.
        """
        target = target_of(url)
        exchange = Exchange(method, 0, Stream(silence))
        connection: Connection | None = None
        try:
            try:
                async with asyncio.timeout(timeout):
                    connection = await self._connect(target)
                    head = _head(method, target, headers, len(body))
                    await connection.send(exchange, head, body)
            except TimeoutError:
                raise HttpFailure(
                    "timeout",
                    f"{target.netloc} did not answer within {timeout:g} s",
                    is_sent=connection is not None,
                ) from None
            assert exchange.stream is not None
            yield exchange.stream
        finally:
            if connection is not None:
                connection.abort()
            self._forget(target)

    async def aclose(self) -> None:
        """Close all connections; requests that are under way fail."""
        self._is_closed = True
        for host in self._hosts.values():
            for waiter in host.waiters:
                if not waiter.done():
                    waiter.set_exception(_closed())
        for connection in list(self._connections):
            connection.abort()
        self._hosts.clear()
        self._names.close()

    # Connections

    def _host(self, target: Target) -> _Host:
        host = self._hosts.get(target.key)
        if host is None:
            host = self._hosts[target.key] = _Host()
        return host

    def _forget(self, target: Target) -> None:
        host = self._hosts.get(target.key)
        if host is not None and host.is_forgettable:
            del self._hosts[target.key]

    async def _exchange(
        self, connection: Connection, target: Target, exchange: Exchange, head: bytes, body: bytes
    ) -> Response:
        try:
            response = await connection.send(exchange, head, body)
            assert isinstance(response, Response)
        finally:
            self._give_back(target, connection)
        return response

    async def _take(self, target: Target, *, fresh: bool = False) -> Connection:
        """A connection that nobody else uses: a kept one, a new one, or the next that is free."""
        host = self._host(target)
        if fresh:
            for kept in list(host.idle):  # likely as dead as the one that was
                kept.abort()
        while host.idle:
            connection = host.idle.pop()
            connection.cancel_timer()
            if connection.is_open:
                return connection
            host.open -= 1
        if host.open >= self._per_host:
            waiter: asyncio.Future[Connection | None]
            waiter = asyncio.get_running_loop().create_future()
            host.waiters.append(waiter)
            try:
                handed = await waiter
            except asyncio.CancelledError:
                if waiter.done() and not waiter.cancelled() and waiter.exception() is None:
                    self._pass_on(target, host, waiter.result())
                elif waiter in host.waiters:
                    host.waiters.remove(waiter)
                raise
            if handed is not None:
                return handed
        else:
            host.open += 1
        try:
            connection = await self._connect(target)
        except BaseException:
            self._pass_on(target, host, None)
            raise
        connection.on_lost = self._lost(target, host, connection)
        return connection

    def _lost(self, target: Target, host: _Host, connection: Connection) -> Callable[[], None]:
        """What is to happen where it is closed while nobody uses it."""

        def forget() -> None:
            self._connections.discard(connection)
            connection.cancel_timer()
            if connection in host.idle:
                host.idle.remove(connection)
                self._pass_on(target, host, None)

        return forget

    def _give_back(self, target: Target, connection: Connection) -> None:
        host = self._hosts.get(target.key)
        if host is None:  # closed meanwhile
            connection.abort()
        elif connection.is_free and connection.is_open:
            self._pass_on(target, host, connection)
        else:
            connection.abort()
            self._pass_on(target, host, None)

    def _pass_on(self, target: Target, host: _Host, connection: Connection | None) -> None:
        """Hand a connection, or the right to make one, to whoever waits longest; else keep it."""
        while host.waiters:
            waiter = host.waiters.popleft()
            if not waiter.done():
                waiter.set_result(connection)
                return
        if connection is not None and not self._is_closed:
            connection.keep_for(self._idle)
            host.idle.append(connection)
        else:
            host.open -= 1
            self._forget(target)

    async def _connect(self, target: Target) -> Connection:
        loop = asyncio.get_running_loop()
        failure: OSError | None = None
        if self._is_closed:
            raise _closed()
        try:
            async with asyncio.timeout(self._connect_timeout):
                for address in await self._look_up(target):
                    try:
                        _, connection = await loop.create_connection(
                            lambda: Connection(target.netloc),
                            address,
                            target.port,
                            ssl=self._context() if target.is_tls else None,
                            server_hostname=target.host if target.is_tls else None,
                        )
                        return self._opened(connection)
                    except OSError as error:  # nothing was sent yet, so another may be tried
                        failure = failure or error
        except TimeoutError:
            raise HttpFailure(
                "connect",
                f"{target.netloc} took no connection within {self._connect_timeout:g} s",
                is_sent=False,
            ) from None
        assert failure is not None
        why = failure.strerror or str(failure) or type(failure).__name__
        raise HttpFailure(
            "connect", f"{target.netloc} cannot be reached: {why}", is_sent=False
        ) from failure

    def _opened(self, connection: Connection) -> Connection:
        if self._is_closed:  # meanwhile
            connection.abort()
            raise _closed()
        self._connections.add(connection)
        connection.on_lost = lambda: self._connections.discard(connection)
        return connection

    def _context(self) -> ssl.SSLContext:
        if self._tls is None:
            self._tls = ssl.create_default_context()
        return self._tls

    async def _look_up(self, target: Target) -> list[str]:
        """The addresses to try, in order."""
        written = literal(target.host)
        if written is not None:
            if self._rules.is_refused(target.host, written):
                raise HttpFailure("refused", refusal(target.host, written), is_sent=False)
            return [target.host]
        found = await self._names.look_up(target.host)
        usable = self._rules.usable(target.host, found)
        if not usable:
            first = literal(found[0])
            assert first is not None
            raise HttpFailure("refused", refusal(target.host, first), is_sent=False)
        return usable


def _closed() -> HttpFailure:
    return HttpFailure("connect", "the client is closed", is_sent=False)


def _head(method: str, target: Target, headers: Mapping[str, str] | None, length: int) -> bytes:
    """The request's head, on the way to the wire."""
    if not _TOKEN.fullmatch(method):
        raise HttpFailure("unusable", f"{method!r} is no method", is_sent=False)
    lines = [f"{method} {target.line} HTTP/1.1\r\nhost: {target.netloc}\r\n"]
    if length or method in ("POST", "PUT", "PATCH"):
        lines.append(f"content-length: {length}\r\n")
    lines += _lines((headers or {}).items())
    lines.append("\r\n")
    try:
        return "".join(lines).encode("latin-1")
    except UnicodeEncodeError as error:
        raise HttpFailure("unusable", "a header is not Latin-1", is_sent=False) from error


def _lines(headers: Iterable[tuple[str, str]]) -> Iterable[str]:
    for name, value in headers:
        if not _TOKEN.fullmatch(name) or _HEADER_UNSAFE.search(value):
            raise HttpFailure("unusable", f"{name!r} is no header, or its value", is_sent=False)
        yield f"{name}: {value}\r\n"
