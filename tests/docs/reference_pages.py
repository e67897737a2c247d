"""The lists in docs/reference that are made from the code: the Python API, the functions.

    python -m tests.docs.reference_pages

writes them anew below the mark in each page; what stands above is written by hand.
"""

from __future__ import annotations

import inspect
import re
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, Final

import msgspec

import callboard
from callboard import messaging, testing
from callboard import runs as callboard_runs
from callboard.dispatch import Dispatcher, DispatchSettings, DispatchState
from callboard.domain import (
    access,
    agent,
    board,
    breaker,
    conflict,
    error,
    event,
    graph,
    lock,
    metric,
    plan,
    report,
    retry,
    roster,
    run,
    snapshot,
    story,
    strategy,
    task,
    team,
    why,
)
from callboard.domain import context as shared
from callboard.domain import flow as domain_flow
from callboard.domain import message as mail
from callboard.domain import recurring as domain_recurring
from callboard.domain.record import Claimed
from callboard.engine import handed_in
from callboard.engine.answers import Answer
from callboard.engine.library import LUA, Header, parse_header
from callboard.engine.message_answers import MessageAnswer
from callboard.engine.probe import EngineFacts
from callboard.janitor import Janitor
from callboard.locking import Locks
from callboard.observer import Observers
from callboard.sdk.context import TaskContext
from callboard.sdk.worker import Worker
from callboard.services import (
    agents,
    boards,
    breakers,
    claims,
    conflicts,
    context,
    dead_letters,
    errors,
    events,
    flow,
    mailboxes,
    messages,
    metrics,
    recurring,
    runs,
    scheduler,
    tasks,
    teams,
)
from callboard.services.access import Access
from callboard.services.locks import LockTable
from callboard.teams import document, requests
from callboard.teams.agents import Invocation
from callboard.teams.host import Host
from tests.docs.http_page import http_routes

PAGES: Final = Path(__file__).resolve().parents[2] / "docs" / "reference"
MARK: Final = "<!-- Made by python -m tests.docs.reference_pages: change the code, not this. -->\n"

# What is behind each heading: how a caller writes it, and the classes it has methods of.
METHODS: Final[tuple[tuple[str, str, tuple[type, ...]], ...]] = (
    ("The connection", "cb", (callboard.Callboard,)),
    ("Tasks", "cb.tasks", (tasks.Tasks, claims.Holding)),
    ("A submitted task", "handle", (tasks.TaskHandle,)),
    ("Dead letters", "cb.dead_letters", (dead_letters.DeadLetters,)),
    ("Boards", "cb.boards", (boards.Boards,)),
    ("Flow control", "cb.flow", (flow.Flow,)),
    ("Recurring tasks", "cb.recurring", (recurring.Recurrences,)),
    ("Circuit breakers", "cb.breakers", (breakers.Breakers,)),
    ("A guarded call", "guard", (breakers.Guard,)),
    ("Bringing tasks to agents", "dispatcher", (Dispatcher,)),
    ("Agents", "cb.agents", (agents.Agents,)),
    ("Events", "cb.events", (events.Events,)),
    ("Locks", "cb.locks", (Locks, LockTable)),
    ("Errors", "cb.errors", (errors.Errors,)),
    ("Metrics", "cb.metrics", (metrics.Metrics,)),
    ("Messages", "cb.messages", (messaging.Messages, messages.Post, mailboxes.Mailboxes)),
    ("Teams", "cb.teams", (teams.Teams,)),
    ("Runs", "cb.runs", (callboard_runs.Runs,)),
    ("Choosing agents", "cb.scheduler", (scheduler.Scheduler,)),
    ("A strategy of one's own", "strategy", (strategy.Strategy,)),
    ("Contexts and what agents are doing", "cb.context", (context.Contexts,)),
    ("Conflicts", "cb.conflicts", (conflicts.Conflicts,)),
    ("API keys and the audit log", "cb.access", (Access,)),
    ("A host of a run", "host", (Host,)),
    ("The records of runs", "cb.runs.records", (runs.RunRecords,)),
    ("The worker", "worker", (Worker,)),
    ("The handler's context", "ctx", (TaskContext,)),
    ("A claimed task", "claimed", (Claimed,)),
    ("The task graph", "graph", (graph.TaskGraph,)),
    ("The janitor", "janitor", (Janitor,)),
    ("Observers", "observers", (Observers,)),
    ("A throw-away board", "board", (testing.ThrowawayBoard,)),
    ("Its clock", "board.clock", (testing.Clock,)),
)

FUNCTIONS: Final[tuple[tuple[str, Callable[..., Any]], ...]] = (
    ("callboard.connect", callboard.connect),
    ("callboard.testing.board", testing.board),
    ("callboard.testing.run_handler", testing.run_handler),
    ("callboard.teams.read_document", document.read_document),
    ("callboard.teams.team_of", document.team_of),
)

VALUES: Final[tuple[type, ...]] = (
    task.TaskSpec,
    task.Requirements,
    retry.RetryPolicy,
    retry.Failure,
    task.Task,
    task.TaskSummary,
    task.Note,
    task.Attempt,
    why.Why,
    Answer,
    tasks.Page,
    claims.Claims,
    handed_in.Completion,
    handed_in.FailedAttempt,
    claims.Step,
    dead_letters.DeadLetter,
    domain_flow.FlowKey,
    domain_flow.FlowLimits,
    domain_flow.FlowHolder,
    domain_recurring.Recurring,
    domain_recurring.Definition,
    domain_recurring.Template,
    breaker.BreakerPolicy,
    breaker.Breaker,
    breaker.BreakerMetrics,
    breaker.Permit,
    board.Board,
    board.BoardSettings,
    board.Counts,
    agent.AgentSpec,
    agent.InstanceSpec,
    agent.Agent,
    agent.Instance,
    roster.Registration,
    roster.Beat,
    roster.Heard,
    roster.HeldTask,
    roster.AgentCounts,
    metric.Metric,
    metric.MetricPoint,
    metric.Series,
    metric.Mean,
    metric.Percentiles,
    metric.Bucket,
    metric.Top,
    metric.TrainingStep,
    metric.TrainingPoint,
    snapshot.Snapshot,
    snapshot.TaskMetrics,
    snapshot.Durations,
    snapshot.AgentMetrics,
    snapshot.ResourceMetrics,
    snapshot.CoordinationMetrics,
    snapshot.PerformanceMetrics,
    access.ApiKey,
    access.IssuedKey,
    access.Ticket,
    access.AuditEntry,
    access.AuditPage,
    access.Credential,
    error.ErrorReport,
    error.ErrorRule,
    error.Recorded,
    error.Classification,
    error.ErrorEntry,
    error.ErrorInfo,
    error.ErrorGroup,
    error.Cascade,
    event.Event,
    event.Fact,
    event.Gap,
    lock.Lock,
    lock.Resource,
    lock.LockHolder,
    lock.LockWait,
    lock.WaitGraph,
    lock.WaitEdge,
    lock.Incident,
    lock.LockReasons,
    mail.MessageSpec,
    mail.Role,
    mail.Topic,
    mail.Message,
    mail.SentMessage,
    MessageAnswer,
    mail.BroadcastSent,
    mail.Hearing,
    mail.InboxCounts,
    mail.MessagePage,
    mail.MessageWhy,
    mail.Subscription,
    mail.Link,
    run.Run,
    report.Report,
    report.Failed,
    story.RunEvent,
    team.TeamSpec,
    team.AgentDefinition,
    document.TeamDocument,
    Invocation,
    requests.PlanRequest,
    requests.WorkRequest,
    requests.SynthesisRequest,
    requests.Outcome,
    requests.Outline,
    requests.Member,
    requests.PlanLimits,
    requests.TaskNote,
    plan.PlannedTask,
    strategy.Assignment,
    strategy.Candidate,
    strategy.Decision,
    strategy.Scored,
    strategy.LoadStats,
    strategy.Distribution,
    DispatchSettings,
    DispatchState,
    teams.TeamVersion,
    shared.Context,
    shared.ContextSummary,
    shared.Written,
    shared.Change,
    shared.Activity,
    conflict.Conflict,
    conflict.Party,
    conflict.Resolution,
    conflict.Ballot,
    conflict.Vote,
    conflict.Entry,
    conflict.ConflictStats,
    conflict.Case,
    conflict.Verdict,
    conflicts.VoteTaken,
    EngineFacts,
    testing.Drained,
    testing.HandlerRun,
)


def python_api() -> str:
    """Every public method with its signature and the first line of its docstring."""
    lines = ["## Functions", ""]
    for name, function in FUNCTIONS:
        lines += _entry(name, function)
    for heading, name, owners in METHODS:
        lines += [f"## {heading}: `{name}`", ""]
        for owner in owners:
            for method_name, method in _public(owner):
                lines += _entry(f"{name}.{method_name}", method)
    lines += ["## Values", ""]
    for value in VALUES:
        lines += _value(value)
    return "\n".join(lines)


def functions() -> str:
    """Every function on the engine with what its header declares."""
    lines: list[str] = []
    for path in sorted(LUA.iterdir(), key=lambda path: path.name):
        if path.name.endswith(".lua"):
            text = path.read_text("utf-8")
            lines += _function(parse_header(path.name[:-4], text), text)
    return "\n".join(lines)


MADE: Final[dict[str, Callable[[], str]]] = {
    "python-api.md": python_api,
    "functions.md": functions,
    "http.md": http_routes,
}


def _public(owner: type) -> Iterator[tuple[str, Any]]:
    for name, member in vars(owner).items():
        if name.startswith("_"):
            continue
        plain = member.__func__ if isinstance(member, staticmethod | classmethod) else member
        if inspect.isfunction(plain) or isinstance(plain, property):
            yield name, plain


def _entry(name: str, member: Any) -> list[str]:
    summary = _a_line_each(_first_line(member))
    if isinstance(member, property):
        return [f"**`{name}`**", "", *summary, ""]
    word = "await " if inspect.iscoroutinefunction(member) else ""
    return [f"**`{word}{name}{_signature(member)}`**", "", *summary, ""]


def _signature(member: Any) -> str:
    """The signature as it is written: annotations are text, defaults are not."""
    signature = inspect.signature(inspect.unwrap(member))
    parts: list[str] = []
    for one in signature.parameters.values():
        if one.name == "self":
            continue
        if one.kind is one.KEYWORD_ONLY and "*" not in parts and not _has_star(parts):
            parts.append("*")
        star = "*" if one.kind is one.VAR_POSITIONAL else ""
        star = "**" if one.kind is one.VAR_KEYWORD else star
        parts.append(f"{star}{one.name}: {_type(one.annotation)}{_default(one.default)}")
    return f"({', '.join(parts)}) -> {_type(signature.return_annotation)}"


def _has_star(parts: list[str]) -> bool:
    return any(part.startswith("*") for part in parts)


def _type(annotation: Any) -> str:
    written = annotation if isinstance(annotation, str) else inspect.formatannotation(annotation)
    return re.sub(r"\b(tasks|agents)\.", "", written)


def _default(value: Any) -> str:
    if value is inspect.Parameter.empty:
        return ""
    return " = ..." if value is ... else f" = {value!r}"


def _value(value: type) -> list[str]:
    lines = [f"### `{value.__name__}`", "", _first_line(value), ""]
    meanings = _attributes(inspect.getdoc(value) or "")
    if issubclass(value, msgspec.Struct):
        lines += ["| field | default | what it is |", "|---|---|---|"]
        for field in msgspec.structs.fields(value):
            lines.append(f"| `{field.name}` | {_shown(field)} | {meanings.get(field.name, '')} |")
    else:
        lines += ["| field | what it is |", "|---|---|"]
        names = inspect.get_annotations(value)
        lines += [f"| `{name}` | {meanings.get(name, '')} |" for name in names]
    return [*lines, ""]


def _shown(field: msgspec.structs.FieldInfo) -> str:
    """A field's default; nothing where it must be given, or is an empty collection."""
    if field.default is msgspec.NODEFAULT:
        return ""
    plain = isinstance(field.default, str | int | float) or field.default is None
    return f"`{field.default!r}`" if plain and field.default != "" else ""


def _attributes(text: str) -> dict[str, str]:
    """The `Attributes:` section of a docstring."""
    _, _, section = text.partition("Attributes:\n")
    found: dict[str, str] = {}
    name = ""
    for line in section.splitlines():
        if line and not line.startswith(" "):
            break
        start = re.match(r"    (\w+): (.*)", line)
        if start:
            name = start[1]
            found[name] = start[2]
        elif name and line.strip():
            found[name] += " " + line.strip()
    return {key: _markdown(value) for key, value in found.items()}


def _first_line(member: Any) -> str:
    text = inspect.getdoc(member) or ""
    return _markdown(" ".join(text.partition("\n\n")[0].split()))


def _markdown(text: str) -> str:
    return text.replace("``", "`").replace("|", "\\|")


def _function(header: Header, text: str) -> list[str]:
    lines = [f"### `{header.name}`", "", *_sentences(text), "", "| | |", "|---|---|"]
    rows = (
        ("takes", _words(f"{name}:{kind}" for name, kind in header.arguments)),
        ("answers", _words(header.statuses)),
        ("for each item", _words(header.items)),
        ("events", _words(header.events)),
        ("flags", _words(header.flags)),
    )
    return [*lines, *(f"| {what} | {words} |" for what, words in rows if words), ""]


def _sentences(text: str) -> list[str]:
    """The prose of a header, a sentence a line."""
    prose: list[str] = []
    for line in text.splitlines():
        if not line.startswith("--") or re.match(r"-- [A-Z]{4,}\b", line):
            break
        prose.append(line[2:].strip())
    return _a_line_each(" ".join(" ".join(prose).split()))


def _a_line_each(text: str) -> list[str]:
    return re.sub(r"\. (?=[A-Z`])", ".\n", text).splitlines()


def _words(words: Any) -> str:
    return ", ".join(f"`{word}`" for word in words)


def main() -> None:
    """Write the pages anew."""
    for name, make in MADE.items():
        above, _, _ = (PAGES / name).read_text("utf-8").partition(MARK)
        (PAGES / name).write_text(f"{above}{MARK}\n{make()}", "utf-8")


if __name__ == "__main__":
    main()
