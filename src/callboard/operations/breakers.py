"""Circuit breakers: asked before a call, told of its outcome, set by hand."""

from __future__ import annotations

from functools import partial
from typing import Final

from callboard.operations.operation import operations_of
from callboard.services.breakers import Breakers

_operation = operations_of("breakers")
_read = partial(_operation, verb="GET", role="read", is_repeatable=True)
_work = partial(_operation, verb="POST", role="work")
_steer = partial(_operation, verb="POST", role="operate", is_repeatable=True)

_ONE: Final = "/breakers/{component}"

OPERATIONS: Final = (
    _read("list", Breakers.list, path="/breakers", answers="breakers"),
    _read("get", Breakers.get, path=_ONE, answers="breaker"),
    _read("metrics", Breakers.metrics, path=f"{_ONE}/metrics", answers="metrics"),
    _steer("configure", Breakers.configure, verb="PUT", path=_ONE, answers="is_new"),
    _steer("remove", Breakers.remove, verb="DELETE", path=_ONE, answers=""),
    _steer("isolate", Breakers.isolate, path=f"{_ONE}/isolate", answers=""),
    _steer("force", Breakers.force, path=f"{_ONE}/force", answers=""),
    _steer("reset", Breakers.reset, path=f"{_ONE}/reset", answers=""),
    _steer("reset_all", Breakers.reset_all, path="/breakers/reset", answers="count"),
    _work("admit", Breakers.admit, path=f"{_ONE}/admit", answers="permit"),
    _work("record", Breakers.record, path="/permits/record", answers="counts", is_repeatable=True),
    _work("renew", Breakers.renew, path="/permits/renew", answers="", is_repeatable=True),
)
