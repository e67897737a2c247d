"""Callboard: the coordination system for teams of software agents.

async with callboard.connect() as cb:
    handle = await cb.tasks.submit("greet", {"name": "Ada"})
    print(await handle.result())
"""

from callboard.app import BoardView, Callboard, connect
from callboard.domain.board import BoardSettings
from callboard.domain.event import Event, Gap
from callboard.domain.retry import Failure, RetryPolicy
from callboard.domain.task import Claimed, Requirements, Status, Task, TaskSpec
from callboard.exceptions import CallboardError, Fatal, Retry
from callboard.services.claims import Completion, FailedAttempt
from callboard.services.tasks import TaskHandle

__version__ = "0.1.0"

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
    "TaskHandle",
    "TaskSpec",
    "connect",
]
