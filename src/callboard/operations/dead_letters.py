"""Dead letters: tasks that failed for good, with every attempt kept."""

from __future__ import annotations

from functools import partial
from typing import Final

from callboard.operations.operation import operations_of
from callboard.services.dead_letters import DeadLetters

_operation = operations_of("dead_letters")
_read = partial(_operation, verb="GET", role="read", is_repeatable=True)
_steer = partial(_operation, verb="POST", role="operate", is_repeatable=True)

_ONE: Final = "/dead-letters/{task_id}"

OPERATIONS: Final = (
    _read("list", DeadLetters.list, path="/dead-letters", answers="dead_letters"),
    _read("count", DeadLetters.count, path="/dead-letter-count", answers="count"),
    _read("get", DeadLetters.get, path=_ONE, answers="dead_letter"),
    _steer("requeue", DeadLetters.requeue, path=f"{_ONE}/requeue", answers="answer"),
    _steer(
        "requeue_many", DeadLetters.requeue_many, path="/dead-letters/requeue", answers="answers"
    ),
    _steer("purge", DeadLetters.purge, path="/dead-letters/purge", answers="answers"),
)
