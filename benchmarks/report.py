"""The tables that ``make bench`` prints: figures, ratios, targets, and others' load."""

from __future__ import annotations

import statistics
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from benchmarks.results import Metric, Results, Summary
from benchmarks.workloads import BULK, BYTES, DRAIN, FAN, P50, P99, TABLES

OURS = "callboard"
#: Others' work on this much of a core moves the figures by more than their spread.
NOISY_CORES = 0.15

#: The figures of W6, each for one task claimed and completed.
CLAIM_FIGURES = {
    "function": "in functions, µs/task",
    "engine": "engine thread, µs/task",
    "wall": "wall, µs/task",
}

#: The figures of W7: a run, the same tasks without one, and rounds of planning.
TEAM_FIGURES = ("a run, s", "the bare board, s", "the run costs more, µs/task")
ROUND_FIGURES = {
    "calls": "calls of functions",
    "sent": "bytes sent",
    "received": "bytes received",
}


@dataclass(frozen=True)
class Target:
    """A figure that Callboard set out to reach: an absolute bound, or a multiple of a peer's."""

    metric: Metric
    bound: float
    peer: str | None = None


TARGETS = (
    Target(DRAIN, 2.5, "bullmq"),
    Target(DRAIN, 15, "saq"),
    Target(BULK, 100_000),
    Target(P50, 0.4),
    Target(P99, 1.0),
    Target(FAN, 0.15),
    Target(BYTES, 600),
)


def render(results: Results, names: Sequence[str], workloads: Iterable[str]) -> str:
    """The whole report as text."""
    parts = [_facts(results)]
    parts += [_workload(results, names, key) for key in workloads if key in TABLES]
    parts += [_claims(results), _teams(results), _targets(results), _notes(results)]
    return "\n\n".join(part for part in parts if part) + "\n"


def table(head: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """A Markdown table with aligned columns, as readable in a terminal as on a page."""
    widths = [max(len(row[at]) for row in (head, *rows)) for at in range(len(head))]

    def line(cells: Sequence[str]) -> str:
        padded = [
            cell.ljust(width) if at == 0 else cell.rjust(width)
            for at, (cell, width) in enumerate(zip(cells, widths, strict=True))
        ]
        return "| " + " | ".join(padded) + " |"

    rule = "|" + "|".join("-" * (w + 1) + (":" if at else "-") for at, w in enumerate(widths)) + "|"
    return "\n".join([line(head), rule, *(line(row) for row in rows)])


def spread(summary: Summary | None, digits: int) -> str:
    """``median (least–greatest)``, or a dash."""
    if summary is None:
        return "-"
    median = f"{summary.median:,.{digits}f}"
    if summary.runs == 1:
        return median
    return f"{median} ({summary.least:,.{digits}f}–{summary.greatest:,.{digits}f})"


def _facts(results: Results) -> str:
    lines = [f"{name}: {value}" for name, value in results.facts.items()]
    for contender, versions in results.versions.items():
        lines.append(f"{contender}: " + ", ".join(f"{k} {v}" for k, v in versions.items()))
    return "\n".join(lines)


def _workload(results: Results, names: Sequence[str], key: str) -> str:
    title, metrics = TABLES[key]
    head = [""]
    for metric in metrics:
        head.append(metric.title)
        if metric.higher_is_better is not None:
            head.append("Callboard is")
    rows = []
    for name in names:
        row = [name]
        for metric in metrics:
            summary = results.summary(metric.key, name)
            row.append(spread(summary, metric.digits))
            if metric.higher_is_better is not None:
                row.append(_ratio(results, metric, name))
        rows.append(row)
    return f"## {key}: {title}\n\n{table(head, rows)}{_quiet(results, key)}"


def _ratio(results: Results, metric: Metric, peer: str) -> str:
    """How many times better Callboard's median is; under 1 it is worse."""
    ours, theirs = results.summary(metric.key, OURS), results.summary(metric.key, peer)
    if peer == OURS or ours is None or theirs is None:
        return "-"
    better = ours.median / theirs.median if metric.higher_is_better else theirs.median / ours.median
    return f"{better:.2f} ×" if better < 10 else f"{better:.1f} ×"


def _quiet(results: Results, key: str) -> str:
    cores = results.foreign.get(key)
    if not cores:
        return ""
    usual, most = statistics.median(cores), max(cores)
    text = f"\n\nOther processes used {usual:.2f} cores (at most {most:.2f})."
    if most > NOISY_CORES:
        text += f" Over {NOISY_CORES} the figures are unsure: compare ratios, or run again."
    return text


def _teams(results: Results) -> str:
    """W7, Callboard alone: a run beside the bare board, and rounds of planning."""
    keys = {"team/run/s": 3, "team/bare/s": 3, "team/over/us": 0}
    if "team/run/s" not in results.values:
        return ""
    head = ["", *TEAM_FIGURES]
    row = [spread(results.summary(key, OURS), digits) for key, digits in keys.items()]
    rounds: dict[int, dict[str, Summary | None]] = {}
    for key in results.values:
        if key.startswith("team/round/"):
            _, _, finished, what = key.split("/")
            rounds.setdefault(int(finished), {})[what] = results.summary(key, OURS)
    body = [
        [f"{finished:,}"] + [spread(found.get(what), 0) for what in ROUND_FIGURES]
        for finished, found in rounds.items()
    ]
    return (
        "## W7: A team's run of no-op tasks in 10 layers, 8 workers\n\n"
        + table(head, [["callboard", *row]])
        + "\n\nFrom one round of planning to the next, with ten tasks in between:\n\n"
        + table(["tasks that had ended before", *ROUND_FIGURES.values()], body)
    )


def _claims(results: Results) -> str:
    """W6, Callboard alone: rows by waiting tasks, lanes and tasks a call."""
    rows: dict[tuple[int, int, int], dict[str, Summary | None]] = {}
    for key in results.values:
        if key.startswith("claim/"):
            _, waiting, lanes, batch, what = key.split("/")
            case = (int(waiting), int(lanes), int(batch))
            rows.setdefault(case, {})[what] = results.summary(key, OURS)
    if not rows:
        return ""
    head = ["waiting, lanes, tasks a call", *CLAIM_FIGURES.values()]
    body = [
        [f"{waiting:,}, {lanes}, {batch}"] + [spread(found.get(what), 1) for what in CLAIM_FIGURES]
        for (waiting, lanes, batch), found in rows.items()
    ]
    return "## W6: A claim and its completion, Callboard\n\n" + table(head, body)


def _targets(results: Results) -> str:
    rows = []
    for target in TARGETS:
        ours = results.summary(target.metric.key, OURS)
        if ours is None:
            continue
        value, unit = ours.median, ""
        if target.peer is not None:
            theirs = results.summary(target.metric.key, target.peer)
            if theirs is None:
                continue
            value, unit = value / theirs.median, f" × {target.peer}"
        up = bool(target.metric.higher_is_better)
        reached = value >= target.bound if up else value <= target.bound
        digits = 2 if target.peer else target.metric.digits
        sign = "≥" if up else "≤"
        rows.append(
            [
                target.metric.title,
                f"{sign} {target.bound:,.{digits}f}{unit}",
                f"{value:,.{digits}f}{unit}",
                "yes" if reached else "no",
            ]
        )
    if not rows:
        return ""
    return "## Targets\n\n" + table(["", "target", "median", "reached"], rows)


def _notes(results: Results) -> str:
    if not results.notes:
        return ""
    return "## Notes\n\n" + "\n".join(f"- {note}" for note in results.notes)
