"""The REST interface of the source documents, in exactly its shapes and statuses."""

from __future__ import annotations

from callboard.http.documented import (
    agents,
    balancer,
    health,
    inbox,
    messages,
    metrics,
    peers,
    stream,
    tasks,
    topics,
)
from callboard.http.route import Route

_MODULES = (health, agents, tasks, balancer, messages, peers, inbox, topics, stream, metrics)


def routes() -> list[Route]:
    """All documented routes."""
    return [route for module in _MODULES for route in module.routes()]
