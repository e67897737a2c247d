"""Assertions on a board, which say what was there instead."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from typing import Any, Final

import msgspec

from callboard.domain.task import Status, Task
from callboard.engine import codec
from callboard.exceptions import TaskNotFound
from callboard.services.tasks import Tasks

SHOWN_MOST: Final = 10
SHOWN_CHARACTERS: Final = 300


async def assert_submitted(
    tasks: Tasks, kind: str, payload: Any, times: int | None, fields: Mapping[str, Any]
) -> list[Task]:
    """Compare the tasks of a kind with what is expected of them."""
    ids = [one.id async for one in tasks.iterate(kind=kind)]
    there = [task for task in await tasks.get_many(ids) if task is not None]
    there.sort(key=lambda task: (task.created_at, task.id))
    wanted = ... if payload is ... else _plain(payload)
    found = [
        task
        for task in there
        if (wanted is ... or task.payload_as() == wanted)
        and all(getattr(task, name) == value for name, value in fields.items())
    ]
    is_met = bool(found) if times is None else len(found) == times
    if not is_met:
        raise AssertionError(await _not_submitted(tasks, kind, wanted, times, fields, found, there))
    return found


async def assert_done(tasks: Tasks, task_id: str, result: Any) -> Task:
    """Compare a task's end with ``done`` and its result."""
    task = await _ended(tasks, task_id, Status.DONE)
    wanted = ... if result is ... else _plain(result)
    if wanted is not ... and task.result != wanted:
        raise AssertionError(
            f"Task {task_id} ({task.kind}) is done with another result.\n"
            f"  expected: {_shown(wanted)}\n  it has:   {_shown(task.result)}"
        )
    return task


async def assert_failed(tasks: Tasks, task_id: str, error: str) -> Task:
    """Compare a task's end with ``failed`` and its error."""
    task = await _ended(tasks, task_id, Status.FAILED)
    said = _error_of(task)
    if error not in said:
        raise AssertionError(
            f"Task {task_id} ({task.kind}) failed otherwise.\n"
            f"  expected: {error}\n  it says:  {said}"
        )
    return task


async def _ended(tasks: Tasks, task_id: str, wanted: Status) -> Task:
    try:
        task = await tasks.get(task_id)
    except TaskNotFound as error:
        raise AssertionError(
            f"Task {task_id} is not on board {tasks.board!r}, which has {await _census(tasks)}."
        ) from error
    if task.status is wanted:
        return task
    lines = [f"Task {task_id} ({task.kind}) is {task.status}, not {wanted}."]
    lines.append(f"  why: {(await tasks.why(task_id)).text}")
    if task.error is not None:
        lines.append(f"  last error: {_error_of(task)}")
    if task.status is Status.DONE:
        lines.append(f"  result: {_shown(task.result)}")
    raise AssertionError("\n".join(lines))


async def _not_submitted(
    tasks: Tasks,
    kind: str,
    payload: Any,
    times: int | None,
    fields: Mapping[str, Any],
    found: list[Task],
    there: list[Task],
) -> str:
    what = f"of kind {kind!r}"
    if payload is not ...:
        what += f" with payload {_shown(payload)}"
    for name, value in fields.items():
        what += f", {name}={value!r}"
    number = "a task" if times is None else "no task" if times == 0 else f"{times} ×"
    lines = [f"Expected {number} {what} on board {tasks.board!r}; there are {len(found)}."]
    for task in there[:SHOWN_MOST]:
        extra = "".join(f", {name}={getattr(task, name)!r}" for name in fields)
        lines.append(f"  {task.id} ({task.status}): payload {_shown(task.payload_as())}{extra}")
    if len(there) > SHOWN_MOST:
        lines.append(f"  and {len(there) - SHOWN_MOST} more of this kind")
    if not there:
        lines.append(f"  none of this kind; the board has {await _census(tasks)}")
    return "\n".join(lines)


async def _census(tasks: Tasks) -> str:
    kinds = Counter([one.kind async for one in tasks.iterate()])
    return ", ".join(f"{count} × {kind}" for kind, count in kinds.most_common()) or "no tasks"


def _plain(value: Any) -> Any:
    """The value as it reads once it was JSON: what the board gives back."""
    return msgspec.json.decode(codec.encode_json("expected value", value))


def _error_of(task: Task) -> str:
    error = task.error or {}
    return f"{error.get('type', '')}: {error.get('message', '')}"


def _shown(value: Any) -> str:
    text = repr(value)
    return text if len(text) <= SHOWN_CHARACTERS else text[: SHOWN_CHARACTERS - 1] + "…"
