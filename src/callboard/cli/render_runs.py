"""How runs look: to people as lines, to programs as values."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence
from typing import Any, Final

import msgspec
from rich.text import Text

from callboard.cli import render_tasks
from callboard.cli.failures import counted, printable
from callboard.cli.render import (
    STYLES,
    Column,
    age,
    fields,
    heading,
    one_line,
    span,
    status,
    table,
    when,
)
from callboard.cli.run_ids import NO_RUNS
from callboard.domain.report import Report
from callboard.domain.run import Phase, Run, member_of
from callboard.domain.task import Status, Task

TASKS_SHOWN: Final = 20
FAILURES_SHOWN: Final = 10
REQUEST_SHOWN: Final = 2_000

_COLUMNS: Final = (
    Column("RUN"),
    Column("PHASE"),
    Column("TEAM", drop=2, shrinks=True),
    Column("SINCE", drop=1, right=True),
    Column("REQUEST", drop=3, shrinks=True),
)
_TASK_COLUMNS: Final = (
    Column("TASK", shrinks=True),
    Column("STATUS"),
    Column("WORKER", drop=1, shrinks=True),
    Column("TRIES", drop=3, right=True),
    Column("TOOK", drop=2, right=True),
    Column("TITLE", drop=4, shrinks=True),
)
_FIRST: Final = {Status.FAILED: 0, Status.CANCELLED: 1}
"""What ended badly is looked for first."""


def listing(runs: Sequence[Run], width: int, limit: int, *, is_filtered: bool) -> Iterator[Any]:
    """Runs, a line each, the newest first."""
    if not runs:
        yield "No runs match." if is_filtered else NO_RUNS
        return
    rows = (
        (run.id, _phase(run), run.team, age(run.created_at), one_line(run.request)[:200])
        for run in runs
    )
    yield from table(_COLUMNS, rows, width)
    if len(runs) == limit:
        yield f"There may be more: -n {limit * 2}"


def shape(report: Report) -> dict[str, Any]:
    """A run with its tasks as JSON."""
    return {
        "run": report.run,
        "answer": report.answer,
        "tasks": [render_tasks.shape(task) for task in report.tasks],
        "failures": report.failures,
        "seconds": report.seconds,
    }


def whole(report: Report, where: str, width: int, limit: int) -> Iterator[str | Text]:
    """All of a run: what was asked, where it stands, its tasks, its answer."""
    run = report.run
    yield from fields(_life(report))
    yield from _tasks(report, where, width, limit)
    if report.answer is not None:
        yield heading("Answer")
        yield answer_text(report.answer)
    yield from _failures(report, where)
    yield from next_steps(run, where, has_failures=bool(report.failures), is_shown=True)


def ending(
    report: Report, where: str, width: int, *, is_kept: bool, is_brief: bool = False
) -> Iterator[str | Text]:
    """What a run came to: its answer, its tasks, its failures, and what to do next."""
    run = report.run
    if report.answer is not None:
        yield answer_text(report.answer)
    if is_brief:
        if run.phase is not Phase.DONE:
            yield _sum(report)
        return
    if report.answer is not None:
        yield ""
    # Of what is not kept, nothing can be looked up later.
    yield from _tasks(report, where, width, TASKS_SHOWN, is_kept=is_kept)
    yield from _failures(report, where, is_kept=is_kept)
    yield _sum(report)
    if is_kept:
        yield from next_steps(run, where, has_failures=bool(report.failures))
    else:
        yield Text("Its engine was temporary: nothing of it is kept.", style="dim")


def answer_text(answer: Any) -> str:
    """An answer for people: a text as it is, anything else as indented JSON."""
    if isinstance(answer, str):
        return printable(answer).rstrip("\n")
    return msgspec.json.format(msgspec.json.encode(answer), indent=2).decode()


def next_steps(
    run: Run, where: str, *, has_failures: bool, is_shown: bool = False
) -> Iterator[Text]:
    """The commands that come next."""
    if not run.phase.is_ended:
        steps = [("Follow it", "watch"), ("Host it here", "join"), ("End it", "cancel")]
    elif run.phase is Phase.DONE and not has_failures:
        steps = [("All of it", "show"), ("What happened", "replay")]
    else:
        steps = [("All of it", "show"), ("Try again what failed", "retry")]
    for what, verb in steps[1:] if is_shown and run.phase.is_ended else steps:
        yield Text(f"{what}: callboard runs {verb} {run.id}{where}", style="dim")


def _life(report: Report) -> list[tuple[str, object]]:
    run = report.run
    counts = Counter(str(task.status) for task in report.tasks)
    ended = run.phase.is_ended
    given = ", ".join(f"{name}={value}" for name, value in sorted(run.variables.items()))
    return [
        ("run", run.id),
        ("team", f"{run.team}, version {run.version}"),
        ("request", printable(run.request)[:REQUEST_SHOWN]),
        ("phase", status(_phase(run))),
        ("reason", one_line(run.reason)),
        ("tasks", ", ".join(f"{count:,} {word}" for word, count in counts.most_common())),
        ("rounds", run.round or None),
        ("no more plans", one_line(run.planning)),
        ("retries", run.generation - 1 or None),
        ("began", when(run.created_at)),
        ("ended", when(run.ended_at)),
        ("took" if ended else "so far", span(report.seconds)),
        ("work", span(_work_seconds(report))),
        ("hosts", None if ended or report.is_led else "nobody leads it now"),
        ("time is over", None if ended or run.is_paused else when(run.deadline_at)),
        ("variables", given),
        ("by", run.created_by),
        ("started on", f"{run.host} in {run.folder}" if run.folder else run.host),
    ]


def _phase(run: Run) -> str:
    return "paused" if run.is_paused and not run.phase.is_ended else run.phase.value


def _tasks(
    report: Report, where: str, width: int, limit: int, *, is_kept: bool = True
) -> Iterator[str | Text]:
    if not report.tasks:
        yield Text("It has no tasks.", style="dim")
        return
    chosen = _chosen(report.tasks, limit)
    rows = (
        (
            task.id,
            task.status.value,
            member_of(task.agent, report.run.id),
            task.attempt,
            "" if task.duration is None else span(task.duration),
            one_line(task.title)[:200],
        )
        for task in chosen
    )
    yield from table(_TASK_COLUMNS, rows, width)
    left = len(report.tasks) - len(chosen)
    if left:
        more = f": callboard runs show {report.run.id}{where} -n {len(report.tasks)}"
        yield Text(f"… and {counted(left, 'task')} more{more if is_kept else ''}", style="dim")


def _chosen(tasks: Sequence[Task], limit: int) -> list[Task]:
    """So many tasks: those that ended badly, and then the last ones; in their order."""
    places = sorted(range(len(tasks)), key=lambda n: (_FIRST.get(tasks[n].status, len(_FIRST)), -n))
    return [tasks[n] for n in sorted(places[: max(limit, 1)])]


def _failures(report: Report, where: str, *, is_kept: bool = True) -> Iterator[str | Text]:
    if not report.failures:
        return
    yield heading("Failures")
    for failed in report.failures[:FAILURES_SHOWN]:
        yield Text(f"  {one_line(failed.id)}  ").append(one_line(failed.error)[:1_000], style="red")
        tries = "1 try" if failed.attempts == 1 else f"{failed.attempts} tries"
        told = [failed.worker, tries if failed.attempts else ""]
        about = f"{', '.join(word for word in told if word)}. " if any(told) else ""
        yield Text(f"    {about}{failed.cure + where if is_kept else ''}".rstrip(), style="dim")
    left = len(report.failures) - FAILURES_SHOWN
    if left > 0:
        more = f": callboard dlq list --board {report.run.id}{where}" if is_kept else ""
        yield Text(f"  … and {left:,} more{more}", style="dim")


def _sum(report: Report) -> Text:
    run = report.run
    phase = run.phase.value if run.phase.is_ended else f"in {_phase(run)}"
    counts = Counter(str(task.status) for task in report.tasks)
    parts = ", ".join(f"{count:,} {word}" for word, count in counts.most_common())
    line = Text().append(f"Run {run.id} ").append(phase, style=STYLES.get(_phase(run), ""))
    if run.phase is not Phase.DONE and run.reason:
        line.append(f": {one_line(run.reason)[:1_000]}")
    line.append(f". {counted(len(report.tasks), 'task')}" + (f" ({parts})" if parts else ""))
    return line.append(f" in {span(report.seconds)}, {span(_work_seconds(report))} of work.")


def _work_seconds(report: Report) -> float:
    return sum(task.duration or 0.0 for task in (*report.tasks, *report.asked))
