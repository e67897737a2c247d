"""Callboard: the coordination system for teams of software agents.

    async with callboard.connect() as cb:
        handle = await cb.tasks.submit("greet", {"name": "Ada"})
        print(await handle.result())

The names below are imported when they are first used, so that a command line that needs
none of them starts at once.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

from callboard.version import __version__ as __version__

if TYPE_CHECKING:
    from callboard.app import BoardView, Callboard
    from callboard.domain.board import BoardSettings
    from callboard.domain.breaker import BreakerPolicy, Permit
    from callboard.domain.conflict import Case, Conflict, ConflictStrategy, Party, Verdict
    from callboard.domain.context import Context
    from callboard.domain.error import ErrorReport, ErrorRule
    from callboard.domain.event import Event, Gap
    from callboard.domain.flow import FlowKey, FlowLimits
    from callboard.domain.lock import Lock
    from callboard.domain.message import (
        PEERS,
        REGISTERED,
        SUBORDINATES,
        Message,
        MessageSpec,
        Role,
        Topic,
    )
    from callboard.domain.metric import Metric, TrainingStep
    from callboard.domain.record import Claimed
    from callboard.domain.recurring import Recurring
    from callboard.domain.retry import Failure, RetryPolicy
    from callboard.domain.strategy import Assignment, Candidate, Decision, Strategy
    from callboard.domain.task import Requirements, Status, Task, TaskSpec
    from callboard.engine.handed_in import Completion, FailedAttempt
    from callboard.exceptions import CallboardError, Fatal, Retry
    from callboard.sdk.connect import connect
    from callboard.sdk.context import TaskContext
    from callboard.sdk.worker import Worker
    from callboard.services.tasks import TaskHandle

_HOMES = {
    "Assignment": "callboard.domain.strategy",
    "BoardSettings": "callboard.domain.board",
    "BoardView": "callboard.app",
    "BreakerPolicy": "callboard.domain.breaker",
    "Callboard": "callboard.app",
    "CallboardError": "callboard.exceptions",
    "Candidate": "callboard.domain.strategy",
    "Case": "callboard.domain.conflict",
    "Claimed": "callboard.domain.record",
    "Completion": "callboard.engine.handed_in",
    "Conflict": "callboard.domain.conflict",
    "ConflictStrategy": "callboard.domain.conflict",
    "Context": "callboard.domain.context",
    "Decision": "callboard.domain.strategy",
    "ErrorReport": "callboard.domain.error",
    "ErrorRule": "callboard.domain.error",
    "Event": "callboard.domain.event",
    "FailedAttempt": "callboard.engine.handed_in",
    "Failure": "callboard.domain.retry",
    "Fatal": "callboard.exceptions",
    "FlowKey": "callboard.domain.flow",
    "FlowLimits": "callboard.domain.flow",
    "Gap": "callboard.domain.event",
    "Lock": "callboard.domain.lock",
    "Message": "callboard.domain.message",
    "MessageSpec": "callboard.domain.message",
    "PEERS": "callboard.domain.message",
    "REGISTERED": "callboard.domain.message",
    "Party": "callboard.domain.conflict",
    "Metric": "callboard.domain.metric",
    "Permit": "callboard.domain.breaker",
    "Recurring": "callboard.domain.recurring",
    "Requirements": "callboard.domain.task",
    "Retry": "callboard.exceptions",
    "RetryPolicy": "callboard.domain.retry",
    "Role": "callboard.domain.message",
    "SUBORDINATES": "callboard.domain.message",
    "Status": "callboard.domain.task",
    "Strategy": "callboard.domain.strategy",
    "Task": "callboard.domain.task",
    "TaskContext": "callboard.sdk.context",
    "TaskHandle": "callboard.services.tasks",
    "TaskSpec": "callboard.domain.task",
    "Topic": "callboard.domain.message",
    "Verdict": "callboard.domain.conflict",
    "TrainingStep": "callboard.domain.metric",
    "Worker": "callboard.sdk.worker",
    "connect": "callboard.sdk.connect",
}

__all__ = [
    "PEERS",
    "REGISTERED",
    "SUBORDINATES",
    "Assignment",
    "BoardSettings",
    "BoardView",
    "BreakerPolicy",
    "Callboard",
    "CallboardError",
    "Candidate",
    "Case",
    "Claimed",
    "Completion",
    "Conflict",
    "ConflictStrategy",
    "Context",
    "Decision",
    "ErrorReport",
    "ErrorRule",
    "Event",
    "FailedAttempt",
    "Failure",
    "Fatal",
    "FlowKey",
    "FlowLimits",
    "Gap",
    "Lock",
    "Message",
    "MessageSpec",
    "Metric",
    "Party",
    "Permit",
    "Recurring",
    "Requirements",
    "Retry",
    "RetryPolicy",
    "Role",
    "Status",
    "Strategy",
    "Task",
    "TaskContext",
    "TaskHandle",
    "TaskSpec",
    "Topic",
    "TrainingStep",
    "Verdict",
    "Worker",
    "connect",
]


def __getattr__(name: str) -> Any:
    home = _HOMES.get(name)
    if home is None:
        raise AttributeError(f"module 'callboard' has no attribute {name!r}")
    value = getattr(import_module(home), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
