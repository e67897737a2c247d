"""How the events of a run look to people: a line each."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any, Final

from rich.text import Text

from callboard.cli.render import STYLES, clock, one_line
from callboard.domain.event import Gap
from callboard.domain.story import RunEvent

TEXT_SHOWN: Final = 200
"""Characters of an error, a title or what an agent says: the whole is with the task."""


@dataclass(frozen=True)
class Line:
    """An event in words, with the seconds since the run began before it."""

    type: str
    text: Text


def line_of(event: RunEvent | Gap, began: datetime) -> Line | None:
    """The line that tells an event; None for one that says nothing by itself."""
    if isinstance(event, Gap):
        text = f"events {event.first:,} to {event.last:,} are no longer kept"
        return Line("gap", Text().append(f"{'':9}  ").append(text, style="yellow"))
    tell = _TELL.get(event.type)
    if tell is None:
        words, style = event.type.replace("_", " "), ""
    else:
        words, style = tell(event.data)
    if not words:
        return None
    seconds = max((event.at - began).total_seconds(), 0.0)
    line = Text().append(f"{seconds:7.1f} s  ", style="dim")
    return Line(event.type, line.append(one_line(words), style=style))


Words = tuple[str, str]


def _started(data: dict[str, Any]) -> Words:
    return f"team {data.get('team_name')} begins run {data.get('team_run_id')}", "bold"


def _phase(data: dict[str, Any]) -> Words:
    return f"phase: {data.get('phase')}", "bold"


def _created(data: dict[str, Any]) -> Words:
    task = data.get("task") or {}
    after = ", ".join(task.get("depends_on") or ())
    text = _named(task.get("id"), task.get("title"))
    return f"added {text}" + (f", after {_cut(after)}" if after else ""), ""


def _asked(data: dict[str, Any]) -> Words:
    name = str(data.get("invocation_id", "")).partition(".")[0]
    what = "is asked for the answer" if name.startswith("answer-") else f"is asked for {name}"
    return f"{data.get('agent')} {what}", ""


def _silent(_: dict[str, Any]) -> Words:
    return "", ""


def _claimed(data: dict[str, Any]) -> Words:
    attempt = int(data.get("attempt") or 0)
    again = f", try {attempt}" if attempt > 1 else ""
    return f"{data.get('agent')} begins {_named(data.get('task_id'), data.get('title'))}{again}", ""


def _said(data: dict[str, Any]) -> Words:
    content = str(data.get("content", ""))
    return (f"{data.get('agent')} says of {_which(data)}: {_cut(content)}", "") if content else _NIL


def _tool(data: dict[str, Any]) -> Words:
    return f"{data.get('agent')} uses {_cut(str(data.get('name')))} for {_which(data)}", ""


def _completed(data: dict[str, Any]) -> Words:
    return f"{data.get('agent')} did {_which(data)}", STYLES["done"]


def _failed(data: dict[str, Any]) -> Words:
    who = f" with {data['agent']}" if data.get("agent") else ""
    return f"{_which(data)} failed{who}: {_cut(str(data.get('error', '')))}", STYLES["failed"]


def _again(data: dict[str, Any]) -> Words:
    due = data.get("due")
    ahead = (due - datetime.now(UTC)).total_seconds() if isinstance(due, datetime) else 0.0
    when = f" at {clock(due)}" if ahead > 1 else ""
    error = _cut(str(data.get("error") or "it failed"))
    return f"{_which(data)} is tried again{when}: {error}", "yellow"


def _task_cancelled(data: dict[str, Any]) -> Words:
    reason = data.get("reason")
    return f"{_which(data)} cancelled" + (f": {_cut(str(reason))}" if reason else ""), "dim"


def _lost(data: dict[str, Any]) -> Words:
    return f"{_which(data)} was lost by {data.get('agent')}, and goes to whoever is free", "yellow"


def _put_back(data: dict[str, Any]) -> Words:
    return f"{_named(data.get('task_id'), data.get('title'))} is put back", ""


def _worker_error(data: dict[str, Any]) -> Words:
    return f"{data.get('agent')}: {_cut(str(data.get('error', '')))}", STYLES["failed"]


def _resumed(data: dict[str, Any]) -> Words:
    return f"another host leads the run on, in {data.get('phase') or 'its phase'}", "yellow"


def _cancelled(data: dict[str, Any]) -> Words:
    return f"cancelled: {_cut(str(data.get('reason') or 'no reason was given'))}", "bold"


def _error(data: dict[str, Any]) -> Words:
    return f"failed: {_cut(str(data.get('detail') or 'no reason was kept'))}", "bold red"


def _done(data: dict[str, Any]) -> Words:
    return f"done: {data.get('tasks_completed')} of {data.get('tasks_created')} tasks", "bold green"


_NIL: Final[Words] = ("", "")
_TELL: Final[Mapping[str, Callable[[dict[str, Any]], Words]]] = {
    "team_start": _started,
    "phase_change": _phase,
    "task_created": _created,
    "invocation_start": _asked,
    "worker_start": _silent,
    "worker_done": _silent,
    "worker_error": _worker_error,
    "retry_done": _silent,
    "task_claimed": _claimed,
    "agent_token": _said,
    "agent_log": _said,
    "agent_tool": _tool,
    "task_completed": _completed,
    "task_failed": _failed,
    "task_retry_scheduled": _again,
    "task_cancelled": _task_cancelled,
    "task_lost": _lost,
    "task_retry": _put_back,
    "run_resumed": _resumed,
    "paused": lambda _: ("paused: nothing more is begun", "yellow"),
    "unpaused": lambda _: ("goes on after a pause", ""),
    "cancelled": _cancelled,
    "error": _error,
    "done": _done,
}


def _which(data: dict[str, Any]) -> str:
    """The task, or the question to planner or synthesizer without its attempt."""
    return str(data.get("task_id") or str(data.get("invocation_id", "")).partition(".")[0])


def _named(task: Any, title: Any) -> str:
    return f"{task}: {_cut(str(title))}" if title and title != task else str(task)


def _cut(text: str) -> str:
    line = one_line(text)
    return line if len(line) <= TEXT_SHOWN else f"{line[:TEXT_SHOWN]}…"
