"""Errors: recorded, listed, grouped, resolved."""

from __future__ import annotations

from functools import partial
from typing import Any, Final

from callboard.domain.retry import Failure
from callboard.operations.operation import Wire, operations_of
from callboard.services.errors import Errors


def _failure(error: Any) -> Any:
    return Failure.from_exception(error) if isinstance(error, BaseException) else error


_operation = operations_of("errors")
_read = partial(_operation, verb="GET", role="read", is_repeatable=True)
_work = partial(_operation, verb="POST", role="work")
_steer = partial(_operation, verb="POST", role="operate", is_repeatable=True)

_GROUP: Final = "/errors/groups/{fingerprint}"

OPERATIONS: Final = (
    _work(
        "record",
        Errors.record,
        path="/errors",
        answers="recorded",
        types={"error": Wire(Failure | str, _failure)},
    ),
    _work("record_many", Errors.record_many, path="/errors/batch", answers="recorded"),
    _read("list", Errors.list, path="/errors", answers="errors"),
    _read("counters", Errors.counters, path="/errors/counters", answers="counters"),
    _read("correlations", Errors.correlations, path="/errors/correlations", answers="cascades"),
    _read("details", Errors.details, path="/errors/tasks/{task}", answers="details"),
    _read("groups", Errors.groups, path="/errors/groups", answers="groups"),
    _read("group", Errors.group, path=_GROUP, answers="group"),
    _steer("resolve", Errors.resolve, path=f"{_GROUP}/resolve", answers="group"),
    _steer("ignore", Errors.ignore, path=f"{_GROUP}/ignore", answers="group"),
    _steer("reopen", Errors.reopen, path=f"{_GROUP}/reopen", answers="group"),
    _steer("configure", Errors.configure, verb="PUT", path="/errors/settings", answers=""),
    _steer("clear", Errors.clear, verb="DELETE", path="/errors", answers=""),
)
