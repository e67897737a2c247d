"""Requests and answers in one piece, where the server lets them pass so.

ASGI hands a body over in parts, and has an answer told in two messages, each of which is
awaited by every layer. Most bodies are there before anybody asks for them, and most answers
are complete: for those there is a shorter way, an extension of ASGI. Other servers, and
answers in parts, go the usual one.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Any, Final

from uvicorn.protocols.http.httptools_impl import STATUS_LINE

from callboard.http.security.headers import Header

Send = Callable[[dict[str, Any]], Awaitable[None]]

WHOLE: Final = "callboard.whole"
"""In ``scope["extensions"]``: a ``Whole``, where the server takes messages of ``ANSWER``."""

ANSWER: Final = "callboard.answer"
"""A message with ``status``, ``headers``, ``body`` and ``block``, the bytes of more headers."""


class Whole:
    """The shorter way of one request.

    Args:
        cycle: uvicorn's ``RequestResponseCycle``, which says all that it does by the interface
            of ASGI too; from here on its answers may come whole.
    """

    __slots__ = ("_cycle", "_send")

    def __init__(self, cycle: Any) -> None:
        self._cycle = cycle
        self._send: Send | None = cycle.send
        cycle.send = self.send

    def take_body(self, most: int) -> bytes | None:
        """The body, where all of it is there and it is not over *most* bytes; else None.

        Whoever gets it finds nothing more of it in the messages of ASGI.
        """
        cycle = self._cycle
        if cycle is None or cycle.more_body or cycle.disconnected or cycle.waiting_for_100_continue:
            return None
        found: bytearray = cycle.body
        if len(found) > most:
            return None
        cycle.body = bytearray()
        cycle.message_event.clear()
        cycle.flow.resume_reading()
        return bytes(found)

    def send(self, message: dict[str, Any]) -> Awaitable[None]:
        """Send a message of ASGI, or a whole answer."""
        if self._send is None:
            raise RuntimeError("The answer is complete already.")
        if message["type"] != ANSWER:
            return self._send(message)
        return self._answer(message)

    async def _answer(self, message: dict[str, Any]) -> None:
        cycle = self._cycle
        if cycle.flow.write_paused and not cycle.disconnected:
            await cycle.flow.drain()
        if cycle.disconnected:
            return
        if cycle.response_started:
            raise RuntimeError("An answer was begun already.")
        cycle.response_started = True
        cycle.waiting_for_100_continue = False
        parts = [STATUS_LINE[message["status"]]]
        is_closing = not cycle.keep_alive
        for headers in (cycle.default_headers, message["headers"]):
            for name, value in headers:
                if name == b"connection" and value == b"close":
                    cycle.keep_alive = is_closing = False
                parts += (name, b": ", _checked(value), b"\r\n")
        if is_closing:
            parts.append(b"connection: close\r\n")
        parts += (message["block"], b"\r\n", message["body"])
        cycle.transport.write(b"".join(parts))
        cycle.response_complete = True
        cycle.message_event.set()
        if not cycle.keep_alive:
            cycle.transport.close()
        cycle.on_response()
        # Else each request would be a ring that only the collector of garbage takes apart.
        del cycle.send
        self._cycle = self._send = None


def in_block(headers: tuple[Header, ...]) -> bytes:
    """The bytes of headers that stand in many answers alike."""
    return b"".join(b"%b: %b\r\n" % (name, _checked(value)) for name, value in headers)


def _checked(value: bytes) -> bytes:
    if b"\n" in value or b"\r" in value or b"\0" in value:
        raise RuntimeError("A header's value may have no end of a line.")
    return value
