"""How tasks look: to people as lines, to programs as values."""

from __future__ import annotations

import shlex
from collections.abc import Iterator, Sequence
from typing import Any, Final

import msgspec
from rich.text import Text

from callboard.cli.render import (
    Column,
    age,
    clock,
    fields,
    heading,
    json_text,
    one_line,
    span,
    status,
    table,
    when,
)
from callboard.domain.board import DEFAULT_BOARD
from callboard.domain.record import Claimed
from callboard.domain.task import Attempt, Note, Task
from callboard.domain.why import Why
from callboard.services.tasks import Page

_COLUMNS: Final = (
    Column("ID"),
    Column("STATUS"),
    Column("KIND", shrinks=True),
    Column("AGENT", drop=1, shrinks=True),
    Column("TRIES", drop=3, right=True),
    Column("SINCE", drop=2, right=True),
)
RESULT_SHOWN: Final = 4_000


def page(found: Page, board: str, width: int, is_filtered: bool) -> Iterator[str | Text]:
    """A page of a listing, and how to get the next."""
    where = "" if board == DEFAULT_BOARD else f" --board {board}"
    if not found.tasks:
        yield (
            f"No tasks on board {board!r} match."
            if is_filtered
            else f"No tasks on board {board!r}. Add one: callboard tasks add KIND PAYLOAD{where}"
        )
    else:
        rows = (
            (task.id, task.status, task.kind, task.agent, task.attempt, age(task.since))
            for task in found.tasks
        )
        yield from table(_COLUMNS, rows, width)
    if found.cursor is not None:
        yield f"There are more: --cursor {found.cursor}"


def shape(task: Task) -> dict[str, Any]:
    """A task as JSON, always with all its fields."""
    requirements = msgspec.structs.asdict(task.requirements)
    return {**msgspec.structs.asdict(task), "requirements": requirements}


def whole(task: Task, attempts: Sequence[Attempt], notes: Sequence[Note]) -> Iterator[str | Text]:
    """All of a task."""
    yield from fields(_life(task) + _wishes(task))
    for title, value in (
        ("Payload", task.payload),
        ("Question", task.question),
        ("Answer", task.answer),
        ("Progress", task.progress),
        ("Partial result", task.partial),
        ("Result", task.result),
    ):
        if value is not None and value != msgspec.Raw(b"null"):
            yield heading(title)
            yield _indented(json_text(value, RESULT_SHOWN))
    yield from failures(attempts, task)
    if notes:
        yield heading("Notes")
        for note in notes:
            yield _indented(f"{clock(note.at)}  {note.author or 'somebody'}: {note.content}")
    if not task.status.is_finished:
        where = "" if task.board == DEFAULT_BOARD else f" --board {task.board}"
        yield Text(f"Why is it {task.status}? callboard tasks why {task.id}{where}", style="dim")


def _life(task: Task) -> list[tuple[str, object]]:
    holder = f"{task.agent}/{task.instance}" if task.instance else task.agent
    return [
        ("id", task.id),
        ("board", task.board),
        ("kind", task.kind),
        ("title", one_line(task.title)),
        ("about", task.description),
        (
            "status",
            status(task.status).append(f", since {when(task.since)}"),
        ),
        ("until", when(task.until)),
        ("holder" if task.status.is_held else "last holder", holder),
        ("fence", task.fence or None),
        ("attempt", task.attempt or None),
        ("failures", task.failures or None),
        ("crashes", task.crashes or None),
        ("took", None if task.duration is None else span(task.duration)),
        ("reason", task.reason),
        ("because of", task.cause),
        ("asked to stop", "yes" if task.cancel_requested else None),
        ("added", when(task.created_at)),
        ("by", task.created_by),
    ]


def _wishes(task: Task) -> list[tuple[str, object]]:
    needs = task.requirements
    labels = ", ".join(f"{key}={value}" for key, value in needs.labels.items())
    retry = task.retry
    return [
        ("priority", task.priority or None),
        ("depends on", ", ".join(task.depends_on)),
        (
            "if one fails",
            None if task.on_dependency_failure == "fail" else task.on_dependency_failure,
        ),
        ("split from", task.parent),
        ("split into", ", ".join(child for split in task.children for child in split)),
        ("unique key", task.unique),
        ("needs type", needs.agent_type),
        ("needs capabilities", ", ".join(needs.capabilities)),
        ("needs services", ", ".join(needs.services)),
        ("needs labels", labels),
        ("needs health", needs.min_health_score or None),
        ("suggested for", task.suggested_worker),
        ("affinity key", task.affinity_key),
        ("concurrency key", task.concurrency_key),
        ("rate key", task.rate_key),
        ("fairness key", task.fairness_key),
        ("not before", when(task.not_before)),
        ("deadline", when(task.deadline)),
        ("timeout", None if task.timeout is None else span(task.timeout)),
        ("lease", None if task.lease is None else span(task.lease)),
        (
            "retries",
            f"{retry.max_retries}, first within {span(retry.base)}, at most {span(retry.cap)}",
        ),
        ("metadata", None if task.metadata is None else json_text(task.metadata)),
        ("trace", task.trace_context),
    ]


def failures(attempts: Sequence[Attempt], task: Task) -> Iterator[str | Text]:
    """Every attempt that did not succeed; the task's own error where none was kept."""
    if attempts:
        yield heading("Attempts", "that did not succeed")
    for attempt in attempts:
        error = attempt.error
        took = span((attempt.ended_at - attempt.claimed_at).total_seconds())
        who = attempt.agent or "nobody"
        yield Text(f"  {attempt.attempt}. ").append(
            one_line(f"{error.get('type')}: {error.get('message')}"), style="red"
        )
        yield Text(
            f"     {who}, fence {attempt.fence}, {clock(attempt.ended_at)}, after {took}",
            style="dim",
        )
        if error.get("traceback"):
            yield _indented(str(error["traceback"]), "     ")
    if task.error and not attempts:
        yield heading("Error")
        yield _indented(f"{task.error.get('type')}: {task.error.get('message')}")


def _indented(text: str, indent: str = "  ") -> str:
    return "\n".join(indent + line for line in text.splitlines())


def why(found: Why) -> Iterator[str | Text]:
    """The explanation, and the facts behind it."""
    yield (
        Text("Task ")
        .append(found.task)
        .append(" is ")
        .append_text(status(found.status))
        .append(".")
    )
    yield found.text
    verdicts = ((word.replace("_", " "), ", ".join(names)) for word, names in found.agents.items())
    yield from fields(
        [
            ("waits for", "\n".join(found.waits_for)),
            ("until", when(found.until)),
            *verdicts,
            *((f"lacks {what}", f"{count} agents") for what, count in found.missing.items()),
        ]
    )


def claimed_shape(task: Claimed) -> dict[str, Any]:
    """A claimed task as JSON."""
    return {
        "id": task.id,
        "board": task.board,
        "kind": task.kind,
        "fence": task.fence,
        "attempt": task.attempt,
        "agent": task.agent,
        "until": task.until,
        "payload": task.payload,
    }


def claimed(found: Sequence[Claimed], board: str, agent: str) -> Iterator[str | Text]:
    """What was claimed, and the commands that end the claim."""
    if not found:
        yield f"Nothing on board {board!r} for {agent} now. See: callboard boards show {board}"
    where = "" if board == DEFAULT_BOARD else f" --board {shlex.quote(board)}"
    for task in found:
        yield from fields(
            [
                ("id", task.id),
                ("fence", task.fence),
                ("kind", task.kind),
                ("attempt", task.attempt),
                ("until", when(task.until)),
                ("payload", json_text(task.payload)),
            ]
        )
        yield Text(
            f"Done? callboard tasks complete {task.id} --fence {task.fence} RESULT{where}",
            style="dim",
        )
