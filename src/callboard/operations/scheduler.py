"""The scheduler: which agent is given which task, by what strategy, and why."""

from __future__ import annotations

from functools import partial
from typing import Final

from callboard.operations.operation import operations_of
from callboard.services.scheduler import Scheduler

_operation = operations_of("scheduler")
_read = partial(_operation, verb="GET", role="read", is_repeatable=True)
_steer = partial(_operation, role="operate")

OPERATIONS: Final = (
    _steer("assign", Scheduler.assign, verb="POST", path="/scheduler/assign", answers="decisions"),
    _read("strategy", Scheduler.strategy, path="/scheduler/strategy", answers="strategy"),
    _steer(
        "set_strategy",
        Scheduler.set_strategy,
        verb="PUT",
        path="/scheduler/strategy",
        answers="strategy",
        is_repeatable=True,
    ),
    _read("load", Scheduler.load, path="/scheduler/load", answers="load"),
    _read(
        "distribution",
        Scheduler.distribution,
        path="/scheduler/distribution",
        answers="distribution",
    ),
    _read("decisions", Scheduler.decisions, path="/scheduler/decisions", answers="decisions"),
    _read(
        "why_this_agent",
        Scheduler.why_this_agent,
        path="/scheduler/tasks/{task}",
        answers="decision",
    ),
)
