"""Recurring tasks: submitted by the clock."""

from __future__ import annotations

from functools import partial
from typing import Final

from callboard.domain.recurring import Template
from callboard.operations.operation import operations_of
from callboard.services.recurring import Recurrences

_operation = operations_of("recurring")
_read = partial(_operation, verb="GET", role="read", is_repeatable=True)
_steer = partial(_operation, verb="POST", role="operate", answers="recurring")

_ONE: Final = "/recurring/{name}"

OPERATIONS: Final = (
    _steer(
        "create",
        Recurrences.create,
        verb="PUT",
        path=_ONE,
        fields=Template,
        is_repeatable=True,
    ),
    _read("list", Recurrences.list, path="/recurring", answers="recurring"),
    _read("get", Recurrences.get, path=_ONE, answers="recurring"),
    _read("next", Recurrences.next, path=f"{_ONE}/next", answers="ticks"),
    _steer("pause", Recurrences.pause, path=f"{_ONE}/pause", is_repeatable=True),
    _steer("resume", Recurrences.resume, path=f"{_ONE}/resume", is_repeatable=True),
    _operation(
        "trigger",
        Recurrences.trigger,
        verb="POST",
        path=f"{_ONE}/trigger",
        role="operate",
        answers="task_id",
    ),
    _operation(
        "delete",
        Recurrences.delete,
        verb="DELETE",
        path=_ONE,
        role="operate",
        answers="",
    ),
)
