"""What is said of a run as a whole: its tasks, its answer, and what failed with the cure."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import msgspec

from callboard.domain.run import PLAN, SYNTHESIS, WORK, Run, member_of
from callboard.domain.task import Status, Task


class Failed(msgspec.Struct, frozen=True, kw_only=True):
    """A task of a run that failed, and what can be done about it."""

    id: str
    title: str
    worker: str
    error: str
    attempts: int
    cure: str


class Report(msgspec.Struct, frozen=True, kw_only=True):
    """A run with all of its tasks, read at one time.

    Attributes:
        answer: What the synthesizer returned; None where it has not.
        tasks: Those that were planned, in the order in which they were added.
        asked: Those by which planner and synthesizer were asked.
        seconds: From the start to the end, or until now.
        is_led: A host has its lease; without one nothing more comes of it.
    """

    run: Run
    answer: Any
    tasks: tuple[Task, ...]
    asked: tuple[Task, ...]
    failures: tuple[Failed, ...]
    seconds: float
    is_led: bool


def is_work(kind: str) -> bool:
    """Whether a task of this kind was planned; the others ask planner and synthesizer."""
    return kind == WORK or kind.startswith(f"{WORK}.")


def failures_of(tasks: Sequence[Task], run: str) -> tuple[Failed, ...]:
    """The tasks that failed, each with what to do about it."""
    by_id = {task.id: task for task in tasks}
    return tuple(
        _failed(task, _root(task, by_id), run) for task in tasks if task.status is Status.FAILED
    )


def _root(task: Task, by_id: Mapping[str, Task]) -> Task:
    """The task whose own failure this one's goes back to."""
    for _ in range(len(by_id)):
        if task.cause is None or task.cause not in by_id:
            break
        task = by_id[task.cause]
    return task


def _failed(task: Task, root: Task, run: str) -> Failed:
    error = str((task.error or {}).get("message", "no message was kept"))
    if root is not task:
        cure = f"Mend {root.id} first, which it needs: callboard runs retry {run} {root.id}"
    elif task.kind in (PLAN, SYNTHESIS):
        cure = f"Mend the agent, then: callboard runs retry {run}"
    else:
        cure = f"Mend what it says, then: callboard runs retry {run} {task.id}"
    return Failed(
        id=task.id,
        title=task.title,
        worker=member_of(task.agent, run),
        error=error,
        attempts=task.attempt,
        cure=cure,
    )
