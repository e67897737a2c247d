"""What a coordinator says of itself over the documented routes: that it lives, what it is."""

from __future__ import annotations

from typing import Final

import msgspec

from callboard.http import errors
from callboard.http.documented.shapes import answer, documented
from callboard.http.route import Call, Reply, Route
from callboard.version import __version__

SERVICE: Final = "agent-coordinator"

ENDPOINTS: Final = (
    "/health", "/ready", "/agents/register", "/agents/discover", "/tasks/submit", "/tasks/status",
    "/load-balancer/stats", "/messages/send", "/metrics", "/docs", "/openapi.json",
)  # fmt: skip


class Health(msgspec.Struct, frozen=True, kw_only=True):
    """This process answers; whether the engine does is said at ``/ready``."""

    status: str
    service: str
    timestamp: str
    version: str


class Service(msgspec.Struct, frozen=True, kw_only=True):
    """What this is, and where to begin."""

    service: str
    description: str
    version: str
    endpoints: tuple[str, ...]


async def health(call: Call) -> Reply:
    """Answer at once, whatever the engine does."""
    return answer(
        Health(
            status="healthy",
            service=SERVICE,
            timestamp=errors.now(),
            version=__version__,
        )
    )


async def root(call: Call) -> Reply:
    """Say what this is."""
    return answer(
        Service(
            service="Callboard Agent Coordinator",
            description="Coordinates teams of software agents.",
            version=__version__,
            endpoints=ENDPOINTS,
        )
    )


def routes() -> list[Route]:
    """Health and the description."""
    return [
        documented(
            *("GET", "/health", health, Health),
            role=None,
            summary="Say that this process answers.",
            tag="system",
        ),
        documented(
            *("GET", "/", root, Service),
            role=None,
            summary="Say what this is.",
            tag="system",
        ),
    ]
