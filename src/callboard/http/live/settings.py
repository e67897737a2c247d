"""What bounds the live side of a coordinator."""

from __future__ import annotations

import msgspec


class LiveSettings(msgspec.Struct, frozen=True, kw_only=True):
    """Bounds of streams and sockets; the defaults suit thousands of listeners a process.

    Attributes:
        tick: Seconds: news is handed out at once after a silence, and at most so often else.
        ring_events: Events that are kept encoded, for those who read more slowly.
        ring_bytes: Their bytes.
        chunk_bytes: About how many bytes a listener is given at once.
        keep_alive: Seconds of silence after which a stream says that it lives.
        write_timeout: Seconds after which one who does not read at all is cut off.
        retry: Seconds after which a reader of a stream that ended is to come back.
        replays_max: Listeners that read old events from the engine at the same time.
        streams_max: Streams and sockets of a namespace that may be open at once.
        grace: Seconds that an agent whose stream broke has to come back, before what it did
            not begin goes to others.
        outstanding_max: Tasks that one stream or socket may have handed out and unfinished.
        calls_max: Calls that one socket may have under way.
        frame_bytes: Size of the largest frame that a socket may send.
        socket_timeout: Seconds within which an agent has to come back whose socket broke.
    """

    tick: float = 0.02
    ring_events: int = 10_000
    ring_bytes: int = 16 << 20
    chunk_bytes: int = 256 << 10
    keep_alive: float = 15.0
    write_timeout: float = 30.0
    retry: float = 2.0
    replays_max: int = 8
    streams_max: int = 20_000
    grace: float = 10.0
    outstanding_max: int = 1_000
    calls_max: int = 1_000
    frame_bytes: int = 8 << 20
    socket_timeout: float = 30.0
