"""The tables that ``make bench`` prints: figures, ratios, targets, and others' load."""

from __future__ import annotations

import statistics
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass

from benchmarks.results import Metric, Results, Summary
from benchmarks.workloads import BULK, BYTES, DRAIN, FAN, P50, P99, TABLES

OURS = "callboard"
#: Others' work on this much of a core moves the figures by more than their spread.
NOISY_CORES = 0.15


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


def render(
    results: Results,
    names: Sequence[str],
    workloads: Iterable[str],
    alone: Iterable[Callable[[Results], str]] = (),
) -> str:
    """The whole report as text; *alone* render the workloads that have tables of their own."""
    parts = [_facts(results)]
    parts += [_workload(results, names, key) for key in workloads if key in TABLES]
    parts += [part(results) for part in alone]
    parts += [_targets(results), _notes(results)]
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


def rows(results: Results, workload: str, title: str, corner: str = "") -> str:
    """The table of a workload whose figures were added by ``figure``; empty without any."""
    found: dict[str, dict[str, str]] = {}
    columns: dict[str, None] = {}
    for key in results.values:
        if key.startswith(f"{workload}|"):
            _, row, column, digits = key.split("|")
            columns[column] = None
            found.setdefault(row, {})[column] = spread(results.summary(key, OURS), int(digits))
    if not found:
        return ""
    body = [[row, *(cells.get(column, "-") for column in columns)] for row, cells in found.items()]
    return f"## {workload}: {title}\n\n{table([corner, *columns], body)}"


def figure(
    results: Results, workload: str, row: str, column: str, value: float, digits: int = 2
) -> None:
    """Keep one run's figure for a cell of the workload's own table."""
    results.add(Metric(f"{workload}|{row}|{column}|{digits}", column, None, digits), OURS, value)


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
