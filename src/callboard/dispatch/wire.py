"""One connection of HTTP/1.1: it writes a request, and reads its response."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Callable, Mapping
from typing import Final, Literal, cast

import httptools

from callboard.dispatch.answers import SMALL_BYTES, Place

HEAD_BYTES: Final = 65_536
"""The longest head that a response may have."""

JOINED_BYTES: Final = 65_536
"""Up to which length a body leaves in one write with its head; a longer one is not copied."""

STREAM_BYTES: Final = 262_144
"""What of a stream may wait to be read; then the sender is kept waiting."""

Word = Literal["connect", "timeout", "broken", "stale", "too_large", "refused", "unusable"]


class HttpFailure(Exception):
    """There is no response to a request.

    Attributes:
        word: ``connect`` (no connection), ``timeout``, ``broken`` (it closed midway, or does
            not speak HTTP), ``stale`` (a kept connection had been closed), ``too_large`` (the
            response), ``refused`` (the address), ``unusable`` (the URL or a header).
        is_sent: The request may have arrived; False: certainly not.
    """

    def __init__(self, word: Word, message: str, *, is_sent: bool) -> None:
        super().__init__(message)
        self.word = word
        self.is_sent = is_sent


class Response:
    """A response, whole.

    Attributes:
        status: Its code.
        headers: By name in lower case; of repeated ones the values are joined by commas.
        body: As it came.
    """

    __slots__ = ("body", "headers", "status")

    def __init__(self, status: int, headers: Mapping[str, str], body: bytes) -> None:
        self.status = status
        self.headers = headers
        self.body = body

    def __repr__(self) -> str:
        return f"<Response {self.status}, {len(self.body)} bytes>"


class Stream:
    """A response whose body is read as it comes: ``async for chunk in stream``.

    Attributes:
        status: Its code.
        headers: By name in lower case.
    """

    def __init__(self, silence: float | None = None) -> None:
        self.status = 0
        self.headers: Mapping[str, str] = {}
        self._silence = silence
        self._chunks: deque[bytes] = deque()
        self._size = 0
        self._is_over = False
        self._failure: HttpFailure | None = None
        self._news = asyncio.Event()
        self._transport: asyncio.Transport | None = None
        self._is_paused = False

    def __aiter__(self) -> Stream:
        return self

    async def __anext__(self) -> bytes:
        while not self._chunks:
            if self._failure is not None:
                raise self._failure
            if self._is_over:
                raise StopAsyncIteration
            self._news.clear()
            try:
                async with asyncio.timeout(self._silence):
                    await self._news.wait()
            except TimeoutError:
                raise HttpFailure(
                    "timeout", f"nothing came for {self._silence:g} s", is_sent=True
                ) from None
        chunk = b"".join(self._chunks) if len(self._chunks) > 1 else self._chunks[0]
        self._chunks.clear()
        self._size = 0
        if self._is_paused and self._transport is not None:
            self._is_paused = False
            self._transport.resume_reading()
        return chunk

    async def read(self, most: int) -> bytes:
        """The whole body, at most *most* bytes. Raises HttpFailure where it is longer."""
        parts, size = [], 0
        async for chunk in self:
            size += len(chunk)
            if size > most:
                raise HttpFailure("too_large", f"the body is over {most:,} bytes", is_sent=True)
            parts.append(chunk)
        return b"".join(parts)

    def _begin(self, status: int, headers: Mapping[str, str], transport: asyncio.Transport) -> None:
        self.status, self.headers, self._transport = status, headers, transport

    def _feed(self, data: bytes) -> None:
        self._chunks.append(data)
        self._size += len(data)
        self._news.set()
        if self._size > STREAM_BYTES and not self._is_paused and self._transport is not None:
            self._is_paused = True
            self._transport.pause_reading()

    def _end(self, failure: HttpFailure | None = None) -> None:
        if not self._is_over:
            self._is_over, self._failure = True, failure
            self._news.set()


class Exchange:
    """A request under way, and what has come of its response."""

    __slots__ = (
        *("answer", "body_bytes", "chunks", "has_asked", "headers", "method", "place"),
        *("size", "status", "stream"),
    )

    def __init__(
        self,
        method: str,
        body_bytes: int,
        stream: Stream | None = None,
        place: Place | None = None,
    ) -> None:
        self.method = method
        self.body_bytes = body_bytes
        self.stream = stream
        self.place = place
        self.has_asked = place is None  # for room, or needs none
        self.answer: asyncio.Future[Response | Stream] = asyncio.get_running_loop().create_future()
        self.status = 0
        self.headers: dict[str, str] = {}
        self.chunks: list[bytes] = []
        self.size = 0

    def fail(self, failure: HttpFailure) -> None:
        """End it without a response."""
        if not self.answer.done():
            self.answer.set_exception(failure)
        elif self.stream is not None:
            self.stream._end(failure)


class Connection(asyncio.Protocol):
    """One connection; requests go over it one after another.

    Attributes:
        on_lost: Called once it is closed, by either side.
        is_free: It can take the next request.
    """

    def __init__(self, name: str) -> None:
        self._name = name
        self._transport: asyncio.Transport | None = None
        self._parser = httptools.HttpResponseParser(self)
        self._exchange: Exchange | None = None
        self._timer: asyncio.TimerHandle | None = None
        self._head = 0  # received, until the head is whole
        self._head_bytes = 0  # of its headers, and of what follows the body
        self._heard = False
        self._was_used = False
        self._is_reading = False
        self._until_closed = False
        self._is_paused = False  # its answer waits for room
        self.is_free = True
        self.on_lost: Callable[[], None] | None = None

    @property
    def is_open(self) -> bool:
        """Nobody closed it yet, as far as is known here."""
        return self._transport is not None and not self._transport.is_closing()

    async def send(self, exchange: Exchange, head: bytes, body: bytes) -> Response | Stream:
        """Write a request; answers its response, or of a stream its beginning."""
        transport = self._transport
        if transport is None or transport.is_closing():
            raise HttpFailure("stale", f"{self._name} closed the connection", is_sent=False)
        self._exchange, self._heard, self._head, self.is_free = exchange, False, 0, False
        if len(body) <= JOINED_BYTES:
            transport.write(head + body)
        else:
            transport.write(head)
            transport.write(body)
        return await exchange.answer

    def abort(self) -> None:
        """Close it at once."""
        self.cancel_timer()
        self.is_free = False
        if self._transport is not None:
            self._transport.abort()

    def keep_for(self, seconds: float) -> None:
        """Close it unless it is used again within this time."""
        self._timer = asyncio.get_running_loop().call_later(seconds, self.abort)

    def cancel_timer(self) -> None:
        """It is used again, or closed."""
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    # Called by the loop

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Connected."""
        # Not checked: uvloop's transports are none of asyncio's classes.
        self._transport = cast("asyncio.Transport", transport)

    def data_received(self, data: bytes) -> None:
        """Read on."""
        if self._exchange is None:
            self.abort()  # nobody asked
            return
        if not self._heard:
            self._heard = True
        if not self._is_reading:
            self._head += len(data)
            if self._head > HEAD_BYTES + len(data):
                return self._broken("too_large", f"{self._name} answered with too long a head")
        try:
            self._parser.feed_data(data)
        except httptools.HttpParserUpgrade:
            self._broken("broken", f"{self._name} changed the protocol")
        except httptools.HttpParserError as error:
            self._broken("broken", f"{self._name} does not speak HTTP: {error}")

    def eof_received(self) -> bool:
        """The other side sends no more: the end of a body that has no length."""
        if self._until_closed and self._exchange is not None:
            self.is_free = False
            self._finish(can_stay=False)
        return False

    def connection_lost(self, exc: Exception | None) -> None:
        """It is closed: whoever waits is told."""
        self.is_free = False
        if self._exchange is not None:
            if self._heard:
                self._broken("broken", f"{self._name} closed the connection midway")
            elif self._was_used:
                self._broken("stale", f"{self._name} closed the connection")
            else:
                self._broken("broken", f"{self._name} closed the connection without an answer")
        self._transport = None
        if self.on_lost is not None:
            self.on_lost()

    # Called by the parser

    def on_message_begin(self) -> None:
        """A response begins."""
        self._is_reading, self._head_bytes = False, 0
        if self._exchange is None:
            self.abort()  # nobody asked

    def on_header(self, name: bytes, value: bytes) -> None:
        """One header."""
        exchange = self._exchange
        self._head_bytes += len(name) + len(value) + 4
        if self._head_bytes > HEAD_BYTES:
            self._broken("too_large", f"{self._name} answered with too long a head")
        elif exchange is not None:
            key, text = name.decode("latin-1").lower(), value.decode("latin-1")
            known = exchange.headers.get(key)
            exchange.headers[key] = text if known is None else f"{known}, {text}"

    def on_headers_complete(self) -> None:
        """The head is there."""
        exchange, status = self._exchange, self._parser.get_status_code()
        if exchange is None:
            return
        if status < 200:  # others follow
            exchange.headers.clear()
            return
        exchange.status, self._is_reading = status, True
        headers = exchange.headers
        self._until_closed = (
            "content-length" not in headers and "transfer-encoding" not in headers
        ) and status not in (204, 304)
        if exchange.method == "HEAD":
            self._finish(can_stay=False)
        elif exchange.stream is None:
            length = headers.get("content-length", "")
            if length.isdecimal() and int(length) > exchange.body_bytes:
                self._too_large(exchange)
            elif length.isdecimal() and int(length) > SMALL_BYTES:
                self._ask_for_room(exchange, int(length))
        elif not exchange.answer.done():
            assert self._transport is not None
            exchange.stream._begin(status, headers, self._transport)
            exchange.answer.set_result(exchange.stream)

    def on_body(self, data: bytes) -> None:
        """A piece of the body."""
        exchange = self._exchange
        if exchange is None:
            return
        if exchange.stream is not None:
            exchange.stream._feed(data)
            return
        exchange.size += len(data)
        if exchange.size > exchange.body_bytes:
            self._too_large(exchange)
            return
        exchange.chunks.append(data)
        if exchange.size > SMALL_BYTES:  # of a length that it did not say before
            self._ask_for_room(exchange, exchange.body_bytes)

    def on_message_complete(self) -> None:
        """The response is whole."""
        if self._exchange is not None and self._exchange.status:
            self._finish(can_stay=self._parser.should_keep_alive())

    def _ask_for_room(self, exchange: Exchange, size: int) -> None:
        """Have the sender wait until there is room for its answer."""
        if exchange.has_asked:
            return
        assert exchange.place is not None
        exchange.has_asked = True
        if not exchange.place.ask(size, self._read_on) and self._transport is not None:
            self._is_paused = True
            self._transport.pause_reading()

    def _read_on(self) -> None:
        if self._is_paused:
            self._is_paused = False
            if self.is_open and self._transport is not None:
                self._transport.resume_reading()

    def _finish(self, *, can_stay: bool) -> None:
        self._read_on()
        exchange, self._exchange = self._exchange, None
        assert exchange is not None
        self._was_used, self._is_reading, self._until_closed = True, False, False
        self.is_free = can_stay and self.is_open
        if exchange.stream is not None:
            exchange.stream._end()
        elif not exchange.answer.done():
            body = exchange.chunks[0] if len(exchange.chunks) == 1 else b"".join(exchange.chunks)
            exchange.answer.set_result(Response(exchange.status, exchange.headers, body))

    def _too_large(self, exchange: Exchange) -> None:
        text = f"{self._name} answered with more than {exchange.body_bytes:,} bytes"
        self._broken("too_large", text)

    def _broken(self, word: Word, text: str) -> None:
        exchange, self._exchange = self._exchange, None
        self.is_free = False
        if self._transport is not None:
            self._transport.abort()
        if exchange is not None:
            exchange.fail(HttpFailure(word, text, is_sent=True))
