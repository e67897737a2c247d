"""Contexts: what agents share, and what each says it is doing."""

from __future__ import annotations

from functools import partial
from typing import Final

from callboard.operations.operation import BOUNDED, operations_of
from callboard.operations.wires import Names
from callboard.services.context import Contexts

_operation = operations_of("context")
_read = partial(_operation, verb="GET", role="read", is_repeatable=True)
_work = partial(_operation, verb="POST", role="work")

_ONE: Final = "/contexts/{project}"
_KIND: Final = "/activities/{agent_type}"

OPERATIONS: Final = (
    _read("list", Contexts.list, path="/contexts", answers="contexts"),
    _read("get", Contexts.get, path=_ONE, answers="context"),
    _operation(
        "get_many",
        Contexts.get_many,
        verb="POST",
        path="/contexts/read",
        role="read",
        answers="contexts",
        types={"projects": Names},
        hidden=BOUNDED,
        is_repeatable=True,
    ),
    _work("set", Contexts.set, path=f"{_ONE}/fields", answers="written"),
    _work(
        "increment",
        Contexts.increment,
        path=f"{_ONE}/increment",
        answers="value",
        types={"amount": int | float},
    ),
    _work("delete", Contexts.delete, verb="DELETE", path=_ONE, answers=""),
    _work(
        "set_state",
        Contexts.set_state,
        verb="PUT",
        path="/agents/{agent}/activity",
        answers="activity",
        is_repeatable=True,
    ),
    _read("states", Contexts.states, path=_KIND, answers="activities"),
    _read("available", Contexts.available, path=f"{_KIND}/available", answers="agents"),
)
