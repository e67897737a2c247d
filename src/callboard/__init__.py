"""Callboard: the coordination system for teams of software agents.

    async with callboard.connect() as cb:
        handle = await cb.tasks.submit("greet", {"name": "Ada"})
        print(await handle.result())

The names below are imported when they are first used, so that a command line that needs
none of them starts at once.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from callboard.app import BoardView, Callboard, connect
    from callboard.domain.board import BoardSettings
    from callboard.domain.event import Event, Gap
    from callboard.domain.retry import Failure, RetryPolicy
    from callboard.domain.task import Claimed, Requirements, Status, Task, TaskSpec
    from callboard.exceptions import CallboardError, Fatal, Retry
    from callboard.sdk.context import TaskContext
    from callboard.sdk.worker import Worker
    from callboard.services.claims import Completion, FailedAttempt
    from callboard.services.tasks import TaskHandle

__version__ = "0.1.0"

_HOMES = {
    "BoardSettings": "callboard.domain.board",
    "BoardView": "callboard.app",
    "Callboard": "callboard.app",
    "CallboardError": "callboard.exceptions",
    "Claimed": "callboard.domain.task",
    "Completion": "callboard.services.claims",
    "Event": "callboard.domain.event",
    "FailedAttempt": "callboard.services.claims",
    "Failure": "callboard.domain.retry",
    "Fatal": "callboard.exceptions",
    "Gap": "callboard.domain.event",
    "Requirements": "callboard.domain.task",
    "Retry": "callboard.exceptions",
    "RetryPolicy": "callboard.domain.retry",
    "Status": "callboard.domain.task",
    "Task": "callboard.domain.task",
    "TaskContext": "callboard.sdk.context",
    "TaskHandle": "callboard.services.tasks",
    "TaskSpec": "callboard.domain.task",
    "Worker": "callboard.sdk.worker",
    "connect": "callboard.app",
}

__all__ = [
    "BoardSettings",
    "BoardView",
    "Callboard",
    "CallboardError",
    "Claimed",
    "Completion",
    "Event",
    "FailedAttempt",
    "Failure",
    "Fatal",
    "Gap",
    "Requirements",
    "Retry",
    "RetryPolicy",
    "Status",
    "Task",
    "TaskContext",
    "TaskHandle",
    "TaskSpec",
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
