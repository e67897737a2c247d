"""Connections: how many, how long they may be silent, and how large their first words are.

uvicorn bounds neither the headers of a request, nor the time in which they come, nor how
many connections say nothing. This protocol does, at the cost of a few look-ups a request.
"""

from __future__ import annotations

import asyncio
import logging
import time
import weakref
from typing import Any, Final

from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol
from uvicorn.protocols.websockets.websockets_sansio_impl import WebSocketsSansIOProtocol

from callboard.http import errors
from callboard.http.route import Reply
from callboard.http.security.headers import guarded
from callboard.http.security.settings import AccessSettings
from callboard.http.security.whole import WHOLE, Whole

SWEEP_SECONDS: Final = 0.5
ABORT: Final = "callboard.abort"
"""In ``scope["extensions"]``: drops the connection at once, with all that was not read."""

CLOSING_SWEEPS: Final = 10
"""Those that close are looked at every so many sweeps: it takes a look at each connection."""

IN_LINE_MAX: Final = 64
"""Requests that may wait on one connection for the answer of the one before.

What comes behind them is not looked at, and the connection closes after the last answer.
"""

FILES_BESIDE: Final = 128
"""What a process has open besides its connections."""

_REASONS: Final = {
    400: b"Bad Request",
    408: b"Request Timeout",
    431: b"Request Header Fields Too Large",
    503: b"Service Unavailable",
}
_log = logging.getLogger("callboard.http")

Watched = dict["GuardedProtocol", float]
"""Since when: the first are those that it is true of the longest."""


class Watch:
    """The connections of one server, and what each of them waits for.

    Attributes:
        heads: Something is awaited of them before a request is there: a connection that said
            nothing yet, or a part of a request's head.
        quiet: They were answered, and say nothing.
        bodies: A part of a request's body is awaited of them.
        stuck: Their peers do not take what is written.
    """

    def __init__(self, settings: AccessSettings, most: int) -> None:
        self.settings = settings
        self.most = most
        self.heads: Watched = {}
        self.quiet: Watched = {}
        self.bodies: Watched = {}
        self.stuck: Watched = {}
        self._closing: weakref.WeakKeyDictionary[Any, float] = weakref.WeakKeyDictionary()
        self._timer: asyncio.TimerHandle | None = None
        self._sweeps = 0
        self._connections: set[Any] = set()

    def begin(self, connections: set[Any]) -> None:
        """Look after the connections from now on, until there are none."""
        self._connections = connections
        if self._timer is None:
            self._timer = asyncio.get_running_loop().call_later(SWEEP_SECONDS, self._sweep)

    def make_room(self, newest: GuardedProtocol) -> bool:
        """Drop the connection that is waited for the longest; whether there was one."""
        for waiting in (self.quiet, self.heads, self.bodies):
            victim = next((one for one in waiting if one is not newest), None)
            if victim is not None:
                victim.drop()
                return True
        return False

    def forget(self, protocol: GuardedProtocol) -> None:
        """It is closed, or is no connection of HTTP any more."""
        self.heads.pop(protocol, None)
        self.quiet.pop(protocol, None)
        self.bodies.pop(protocol, None)
        self.stuck.pop(protocol, None)

    def _sweep(self) -> None:
        self._timer = None
        now = time.monotonic()
        settings = self.settings
        for one in _overdue(self.heads, now - settings.head_seconds):
            one.give_up()
        for one in _overdue(self.quiet, now - settings.idle_seconds):
            one.drop()
        for one in _overdue(self.stuck, now - settings.write_seconds):
            one.drop()
        self._sweeps += 1
        if self._sweeps % CLOSING_SWEEPS == 0:
            self._end_closing(now)
        if self._connections:
            self._timer = asyncio.get_running_loop().call_later(SWEEP_SECONDS, self._sweep)

    def _end_closing(self, now: float) -> None:
        """Drop what closes and whose peer does not take the last of it; WebSockets too."""
        for one in list(self._connections):
            transport = one.transport
            if transport is None or not transport.is_closing():
                continue
            if now - self._closing.setdefault(one, now) > self.settings.write_seconds:
                transport.abort()


def _overdue(waiting: Watched, since: float) -> list[GuardedProtocol]:
    found = []
    for one, at in waiting.items():
        if at > since:
            break
        found.append(one)
    return found


class GuardedProtocol(HttpToolsProtocol):
    """A connection of HTTP/1.1 that cannot be kept open, or made large, for nothing.

    Attributes:
        watch: Of its server.
    """

    watch: Watch

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self._fed = 0
        self._chunks = 0
        self._is_chunk_empty = False
        self._is_in_head = False
        self._is_full = False
        self._refusal: tuple[int, str, str] | None = None
        self._answering: Any = None

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        """Watch it; where there are too many, the most silent one goes, or this one."""
        super().connection_made(transport)
        watch = self.watch
        watch.begin(self.connections)
        watch.heads[self] = time.monotonic()
        if len(self.connections) > watch.most and not watch.make_room(self):
            self._refuse(503, "busy", "All connections are in use. Try again.")

    def connection_lost(self, exc: Exception | None) -> None:
        """Forget it, and tell the request that is being answered, whatever stands behind it."""
        self.watch.forget(self)
        super().connection_lost(exc)
        answering = self._answering
        if answering is not None and not answering.response_complete:
            answering.disconnected = True
            answering.message_event.set()

    def data_received(self, data: bytes) -> None:
        """Take what came; a head has a bound and a time."""
        if self._is_full:
            return
        watch = self.watch
        if self in watch.quiet:
            del watch.quiet[self]
            watch.heads[self] = time.monotonic()
        if self._is_chunk_empty:
            self._feed_trailers(data)
        elif self._is_in_head or self in watch.heads:
            self._fed += len(data)
            super().data_received(data)
            if self._fed > watch.settings.head_bytes_max and self._is_in_head:
                self._refuse(431, "head_too_large", self._large)
        else:
            super().data_received(data)

    def on_chunk_header(self) -> None:
        """A part of a body begins, or, if nothing comes of it, what may stand behind a body."""
        self._chunks += 1
        self._is_chunk_empty = True
        self._fed = 0

    def on_body(self, body: bytes) -> None:
        """A part of a body came."""
        if self._is_full:
            return
        self._is_chunk_empty = False
        super().on_body(body)

    def on_message_begin(self) -> None:
        """A request begins; who answers it may drop it."""
        super().on_message_begin()
        self._is_in_head = True
        scope: Any = self.scope
        scope["extensions"] = {ABORT: self.transport.abort}

    def on_headers_complete(self) -> None:
        """A request is there, unless its head was too large, or too many are there already."""
        if self._is_full:
            return
        watch = self.watch
        watch.heads.pop(self, None)
        self._is_in_head = False
        fed, self._fed = self._fed, 0
        if fed > watch.settings.head_bytes_max:
            # More came with it: that may be the body.
            size = len(self.url) + sum(len(name) + len(value) for name, value in self.headers)
            if size > watch.settings.head_bytes_max:
                self._refusal = (431, "head_too_large", self._large)
                raise ValueError("the head is too large")
        if len(self.pipeline) >= IN_LINE_MAX:
            self._take_no_more()
            return
        watch.bodies[self] = 0.0
        super().on_headers_complete()
        if not self.pipeline:
            self._answering = self.cycle
        scope: Any = self.scope
        if "path" in scope:  # Else it is to be a WebSocket.
            scope["extensions"][WHOLE] = Whole(self.cycle)

    def on_message_complete(self) -> None:
        """All of a request is there."""
        if self._is_full:
            return
        self._is_chunk_empty = False
        self._fed = 0
        self.watch.bodies.pop(self, None)
        super().on_message_complete()

    def on_response_complete(self) -> None:
        """It may be silent for a while now."""
        is_last = not self.pipeline
        self._answering = None if is_last else self.pipeline[-1][0]
        super().on_response_complete()
        if is_last and not self.transport.is_closing():
            self.watch.quiet[self] = time.monotonic()

    def handle_websocket_upgrade(self) -> None:
        """Others look after WebSockets, where no other answer would stand among the frames."""
        if self._is_full:
            return
        if self._answering is not None:
            self._take_no_more()
            return
        self.watch.forget(self)
        super().handle_websocket_upgrade()

    def pause_writing(self) -> None:
        """Its peer takes nothing for now."""
        super().pause_writing()
        self.watch.stuck.setdefault(self, time.monotonic())

    def resume_writing(self) -> None:
        """Its peer takes something again."""
        super().resume_writing()
        self.watch.stuck.pop(self, None)

    def send_400_response(self, msg: str) -> None:
        """Answer what is no HTTP, in the form of all answers."""
        if self._is_full:
            return
        cycle: Any = self.cycle
        if self._refusal is None and self._answering is not None and not cycle.more_body:
            self._take_no_more()  # What was asked before is done perhaps: that is to be told.
            return
        status, code, detail = self._refusal or (400, "bad_request", "This is no HTTP request.")
        self._refuse(status, code, detail)

    def give_up(self) -> None:
        """The head of a request did not come in its time."""
        self.watch.forget(self)
        if self._fed:
            self._refuse(408, "head_too_slow", "The request did not come in time.")
        else:
            self.drop()

    def drop(self) -> None:
        """Close it, with all that was not sent."""
        self.watch.forget(self)
        self.transport.abort()

    def _feed_trailers(self, data: bytes) -> None:
        """Take what stands behind a body, within the bound of what stands before it."""
        before = self._chunks
        super().data_received(data)
        if self._is_chunk_empty and self._chunks == before:
            self._fed += len(data)
            if self._fed > self.watch.settings.head_bytes_max:
                self._refuse(431, "head_too_large", self._large)

    def _take_no_more(self) -> None:
        """Answer what waits, the last with the word that there comes no other; then close."""
        self._is_full = True
        newest: Any = self.pipeline[0][0] if self.pipeline else self._answering
        newest.keep_alive = False

    def _refuse(self, status: int, code: str, detail: str) -> None:
        self.watch.forget(self)
        if self.transport.is_closing():
            return
        cycle: Any = self.cycle
        if cycle is None or cycle.response_complete:  # Else it would stand in another answer.
            reply = errors.refused(status, detail, code, after=1 if status == 503 else None)
            self.transport.write(_as_bytes(status, reply))
        self.transport.close()

    @property
    def _large(self) -> str:
        most = self.watch.settings.head_bytes_max
        return f"The request's line and headers may have {most:,} bytes."


class GuardedSocket(WebSocketsSansIOProtocol):
    """A WebSocket that who serves it may drop."""

    async def run_asgi(self) -> None:
        """Serve it."""
        scope: Any = self.scope
        scope["extensions"][ABORT] = self.transport.abort
        await super().run_asgi()

    async def send(self, message: Any) -> None:
        """Pass it on; a socket that was refused by an answer of HTTP is dealt with.

        Else the server would log each as a fault, and strangers could fill its log.
        """
        await super().send(message)
        if self.initial_response is not None and self.close_sent:
            self.handshake_complete = True


def guarded_protocol(settings: AccessSettings) -> type[GuardedProtocol]:
    """The protocol of one server: uvicorn's setting ``http``."""
    most = min(settings.connections_max, _files_max() - FILES_BESIDE)
    if most < settings.connections_max:
        _log.warning(
            "At most %d connections at once, not %d: the system allows this process no more "
            "files. Raise it: ulimit -n, or LimitNOFILE= of systemd.",
            most,
            settings.connections_max,
        )
    watch = Watch(settings, max(most, 1))
    return type("GuardedHttpProtocol", (GuardedProtocol,), {"watch": watch})


def _files_max() -> int:
    """How many files this process may have open, after it asked for as many as it can have."""
    try:
        import resource
    except ImportError:
        return 1 << 20
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    wanted = hard if hard != resource.RLIM_INFINITY else 1 << 20
    if soft == resource.RLIM_INFINITY:
        return 1 << 20
    if soft < wanted:
        try:
            resource.setrlimit(resource.RLIMIT_NOFILE, (wanted, hard))
        except (OSError, ValueError):
            return soft
    return wanted


def _as_bytes(status: int, reply: Reply) -> bytes:
    headers = guarded(
        (
            (b"content-type", reply.content_type.encode()),
            (b"content-length", b"%d" % len(reply.body)),
            (b"connection", b"close"),
            *reply.headers,
        )
    )
    lines = b"".join(b"%b: %b\r\n" % header for header in headers)
    return b"HTTP/1.1 %d %b\r\n%b\r\n%b" % (status, _REASONS[status], lines, reply.body)
