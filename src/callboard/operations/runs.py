"""Runs of teams: started, read, waited for, steered; to follow one there is its stream."""

from __future__ import annotations

from functools import partial
from typing import Final

from callboard.operations.operation import operations_of
from callboard.runs import Runs

_operation = operations_of("runs")
_read = partial(_operation, verb="GET", role="read", is_repeatable=True)
_steer = partial(_operation, verb="POST", role="operate", answers="run")

_ONE: Final = "/runs/{run}"

OPERATIONS: Final = (
    _operation(
        "start",
        Runs.start,
        verb="POST",
        path="/runs",
        role="work",
        answers="run",
        # Whoever hosts the run has a folder and an environment; a caller's are elsewhere.
        hidden=frozenset({"folder", "environ"}),
    ),
    _read("list", Runs.list, path="/runs", answers="runs"),
    _read("get", Runs.get, path=_ONE, answers="run"),
    _read("report", Runs.report, path=f"{_ONE}/report", answers="report"),
    _read("wait", Runs.wait, path=f"{_ONE}/wait", answers="run", is_waiting=True),
    _steer("cancel", Runs.cancel, path=f"{_ONE}/cancel", is_repeatable=True),
    _steer("pause", Runs.pause, path=f"{_ONE}/pause", is_repeatable=True),
    _steer("resume", Runs.resume, path=f"{_ONE}/resume", is_repeatable=True),
    _steer("retry", Runs.retry, path=f"{_ONE}/retry"),
    _operation("delete", Runs.delete, verb="DELETE", path=_ONE, role="operate", answers=""),
)
