"""What operations answer: a status, and where they take many items one for each, in order."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import msgspec

from callboard.engine.functions import Functions
from callboard.engine.replies import raise_refusal


class Answer(msgspec.Struct, frozen=True):
    """What became of one item.

    Attributes:
        id: The task.
        status: The function's word: ``ok``, ``replayed``, ``lease_lost``, ``task_not_found``, …
    """

    id: str
    status: str

    @property
    def is_ok(self) -> bool:
        """Done as asked, now or by an earlier call."""
        return self.status not in REFUSALS

    def check(self, **context: Any) -> Answer:
        """Return self, or raise the refusal that the status stands for."""
        if not self.is_ok:
            raise_refusal(self.status, (), task=self.id, **context)
        return self


Answers = list[Answer]

CASCADE_CALLS_MAX = 10_000

REFUSALS = frozenset(
    {
        "lease_lost",
        "task_not_found",
        "illegal_state",
        "unique_conflict",
        "finished",
        "dependency_failed",
    }
)


def answers_of(ids: Sequence[str], raw: bytes) -> list[Answer]:
    """Pair the ids with the comma-separated words of a reply."""
    words = raw.decode().split(",") if raw else []
    return [Answer(task_id, word) for task_id, word in zip(ids, words, strict=True)]


def checked(reply: Sequence[Any], *expected: str, **context: Any) -> str:
    """The reply's status where it is among *expected*, else the exception of the refusal."""
    status: str = reply[0].decode()
    if status not in expected:
        raise_refusal(status, reply, **context)
    return status


async def finish_cascade(functions: Functions) -> None:
    """Work off what a call left in the durable queue; the janitor would do it too."""
    for _ in range(CASCADE_CALLS_MAX):
        reply = await functions.call("task_cascade", 10)
        checked(reply, "ok")
        if not reply[1]:
            return
