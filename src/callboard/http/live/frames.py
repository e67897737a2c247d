"""How live news is written: blocks of server-sent events, and JSON frames. Pure."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any, Final

import msgspec

encode: Final = msgspec.json.Encoder(order=None).encode


def block(name: str, data: bytes, cursor: str = "") -> bytes:
    """One server-sent event. *data* is JSON, or other text; a line of it never ends the block."""
    if b"\n" in data or b"\r" in data:
        lines = data.replace(b"\r\n", b"\n").replace(b"\r", b"\n").split(b"\n")
        data = b"\ndata: ".join(lines)
    head = f"id: {cursor}\nevent: {name}\ndata: " if cursor else f"event: {name}\ndata: "
    return head.encode() + data + b"\n\n"


def opening(retry: float, cursor: str = "") -> bytes:
    """What a stream begins with: when to come back, and from where."""
    return f"retry: {round(retry * 1000)}\n".encode() + place(cursor)


def place(cursor: str) -> bytes:
    """Moves the reader's ``Last-Event-ID`` without an event; an empty line where there is none."""
    return f"id: {cursor}\n\n".encode() if cursor else b"\n"


def keep_alive(cursor: str = "") -> bytes:
    """A comment that keeps proxies from closing a silent stream, with where it stands."""
    return b": keep-alive\n" + place(cursor)


def frame(type_: str, **fields: Any) -> str:
    """One frame of a WebSocket: a JSON object with its type first."""
    return encode({"type": type_, **fields}).decode()


def events_frame(events: Iterable[bytes], cursor: str) -> str:
    """A frame of events that are JSON already, and the cursor behind the last."""
    head = b'{"type":"events","cursor":"' + cursor.encode() + b'","events":['
    return (head + b",".join(events) + b"]}").decode()
