"""Teams: their descriptions, by name and version."""

from __future__ import annotations

from functools import partial
from typing import Final

from callboard.operations.operation import operations_of
from callboard.services.teams import Teams

_operation = operations_of("teams")
_read = partial(_operation, verb="GET", role="read", is_repeatable=True)

_ONE: Final = "/teams/{name}"

OPERATIONS: Final = (
    _read("list", Teams.list, path="/teams", answers="teams"),
    _read("get", Teams.get, path=_ONE, answers="team"),
    _read("versions", Teams.versions, path=f"{_ONE}/versions", answers="versions"),
    # The same document again adds no version.
    _operation(
        "add",
        Teams.add,
        verb="PUT",
        path=_ONE,
        role="operate",
        answers="team",
        is_repeatable=True,
    ),
    _operation("remove", Teams.remove, verb="DELETE", path=_ONE, role="operate", answers=""),
)
