"""The one table of routes: what the source documents, what the library can do, what is live."""

from __future__ import annotations

from callboard.http import binding, documented, live, system
from callboard.http.live import bells
from callboard.http.route import Route
from callboard.http.security import tickets
from callboard.operations import OPERATIONS


def all_routes() -> list[Route]:
    """Every route of a coordinator; where two would meet, the documented one is meant."""
    documented_routes = documented.routes()
    taken = {(route.verb, _shape(route.path)) for route in documented_routes}
    made = [
        route
        for operation in OPERATIONS.values()
        for route in binding.routes_of(operation)
        if (route.verb, _shape(route.path)) not in taken
    ]
    return [
        *documented_routes,
        *made,
        *live.routes(),
        *bells.routes(),
        *tickets.routes(),
        *system.routes(),
    ]


def _shape(path: str) -> str:
    """The path without the names of its parameters."""
    return "/".join("{}" if part.startswith("{") else part for part in path.split("/"))
