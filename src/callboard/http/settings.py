"""How a coordinator is set up."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

import msgspec

from callboard.http.live.settings import LiveSettings

if TYPE_CHECKING:
    from callboard.dispatch import DispatchSettings

PORT: Final = 9001


class ServeSettings(msgspec.Struct, frozen=True, kw_only=True):
    """What a coordinator serves, and how.

    Attributes:
        namespace: That of callers who name none.
        namespaces_max: Connections to namespaces that are open at once; the one unused the
            longest is closed first, and before it one that has nothing to do.
        recalls: Open, without being asked, the namespaces that coordinators of this engine
            served in the last thirty days and that have something to do.
        call_timeout: Seconds that a call on the engine may take.
        dispatches: Run the dispatch loop.
        dispatch: How it does that, but for the strategy; None for what is usual.
        sweeps: Run the janitor.
        drain: Seconds that requests under way get to end in when the coordinator stops.
        strategy: The strategy that a served namespace's default board is given where it has
            none of its own; None leaves it.
        live: Bounds of streams and sockets.
    """

    namespace: str = ""
    namespaces_max: int = 64
    recalls: bool = True
    call_timeout: float = 5.0
    dispatches: bool = True
    dispatch: DispatchSettings | None = None
    sweeps: bool = True
    drain: float = 10.0
    strategy: str | None = "least_connections"
    live: LiveSettings = LiveSettings()
