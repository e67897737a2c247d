"""Dead letters: failed tasks that no retry will cure, kept with payload and every attempt."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from datetime import datetime
from typing import Any, Protocol

import msgspec

from callboard.domain.bounds import check_ids
from callboard.domain.task import Attempt, Task, at_ms
from callboard.engine.answers import Answer, Answers
from callboard.engine.namespace import Namespace
from callboard.exceptions import IllegalState

PAGE = 500
Attempts = list[Attempt]


class DeadLetter(msgspec.Struct, frozen=True, kw_only=True):
    """A dead letter as a line of a list.

    Attributes:
        why: The last error's type, as ``poison``, ``timeout`` or the exception's name.
    """

    id: str
    kind: str
    board: str
    why: str
    message: str
    attempts: int
    failures: int
    crashes: int
    buried_at: datetime


class BoardTasks(Protocol):
    """What is needed of the board's tasks."""

    board: str

    async def get(self, task_id: str) -> Task:
        """Read one, or raise."""

    async def get_many(self, task_ids: Sequence[str]) -> list[Task | None]:
        """Read many, None where there is none."""

    async def attempts(self, task_id: str) -> Attempts:
        """What was tried."""

    async def retry(self, task_id: str, *, payload: Any = ..., by: str = ...) -> Answer:
        """Put one back."""

    async def retry_many(self, task_ids: Sequence[str], *, by: str = ...) -> Answers:
        """Put many back."""

    async def purge(self, task_ids: Sequence[str], *, by: str = ...) -> Answers:
        """Remove finished ones."""


class DeadLetters:
    """The dead letters of one board."""

    def __init__(self, namespace: Namespace, tasks: BoardTasks) -> None:
        self._namespace = namespace
        self._tasks = tasks
        self.board = tasks.board

    async def list(
        self, *, kind: str | None = None, why: str | None = None, limit: int = 100
    ) -> list[DeadLetter]:
        """The newest dead letters, of this kind and this error type where given."""
        found: list[DeadLetter] = []
        start = 0
        while len(found) < limit:
            raw = await self._namespace.connection.call(
                "ZREVRANGE", self._key, start, start + PAGE - 1, "WITHSCORES"
            )
            pairs = _pairs(raw)
            tasks = await self._tasks.get_many([task_id for task_id, _ in pairs])
            for (_, buried), task in zip(pairs, tasks, strict=True):
                if task is None:
                    continue
                letter = _letter(task, buried)
                if (kind is None or letter.kind == kind) and (why is None or letter.why == why):
                    found.append(letter)
            if len(pairs) < PAGE:
                break
            start += PAGE
        return found[:limit]

    async def count(self) -> int:
        """How many there are."""
        return int(await self._namespace.connection.call("ZCARD", self._key))

    async def get(self, task_id: str) -> tuple[Task, Attempts]:
        """The task with its payload, and every attempt. Raises TaskNotFound, IllegalState."""
        task = await self._tasks.get(task_id)
        if await self._namespace.connection.call("ZSCORE", self._key, task_id) is None:
            raise IllegalState(
                f"Task {task_id} is {task.status} and no dead letter. See callboard tasks show "
                f"{task_id}.",
                task=task_id,
                status=task.status.value,
            )
        return task, await self._tasks.attempts(task_id)

    async def requeue(self, task_id: str, *, payload: Any = ..., by: str = "") -> Answer:
        """Put one back with fresh budgets, and revive what failed for its sake.

        Args:
            payload: Replaces the payload, where given.

        Raises:
            TaskNotFound, IllegalState, UniqueConflict: Nothing changed.
        """
        await self.get(task_id)
        return await self._tasks.retry(task_id, payload=payload, by=by)

    async def requeue_many(self, task_ids: Sequence[str], *, by: str = "") -> Answers:
        """Put many back; each answers for itself."""
        return await self._tasks.retry_many(task_ids, by=by)

    async def purge(self, task_ids: Iterable[str], *, by: str = "") -> Answers:
        """Remove these for good; each answers for itself."""
        return await self._tasks.purge(check_ids(task_ids), by=by)

    @property
    def _key(self) -> str:
        return self._namespace.keys.dead_letters(self.board)


def _pairs(raw: Sequence[Any]) -> Sequence[tuple[str, float]]:
    if raw and isinstance(raw[0], list | tuple):
        return [(member.decode(), float(score)) for member, score in raw]
    return [(raw[i].decode(), float(raw[i + 1])) for i in range(0, len(raw), 2)]


def _letter(task: Task, buried_ms: float) -> DeadLetter:
    error = task.error or {}
    return DeadLetter(
        id=task.id,
        kind=task.kind,
        board=task.board,
        why=str(error.get("type", "")),
        message=str(error.get("message", "")),
        attempts=task.attempt,
        failures=task.failures,
        crashes=task.crashes,
        buried_at=at_ms(buried_ms),
    )
