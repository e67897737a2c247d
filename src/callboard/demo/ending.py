"""The last page of the demo: what happened, whether it balances, what to try next."""

from __future__ import annotations

import shutil
import sys
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from rich.console import Console
from rich.padding import Padding
from rich.table import Table
from rich.text import Text

from callboard.demo.crew import Hand
from callboard.demo.ledger import Check, Ledger
from callboard.demo.show import Line

GRACE_NOTICED_SECONDS: Final = 2.0
"""Later than this after the end of a lease, the reason is told."""


@dataclass(frozen=True, kw_only=True)
class Outcome:
    """What the last page is written from.

    Attributes:
        where: The option that leads commands to this engine; empty where none is needed.
    """

    board: str
    lines: Sequence[Line]
    ledger: Ledger
    victim: Hand | None
    lease: float
    checks: Sequence[Check]
    report: Path
    where: str


def tell(console: Console, outcome: Outcome) -> None:
    """Print the last page; plain output has shown the events as they came."""
    if console.is_terminal:
        _heading(console, "What happened")
        for line in outcome.lines:
            table = Table.grid(padding=(0, 2, 0, 0))
            table.add_row(Text(f"{line.at:6.1f} s", style="dim"), Text(line.text, style=line.style))
            console.print(table)
    if outcome.victim is not None and outcome.victim.held:
        _heading(console, f"What became of the tasks of {outcome.victim.agent}, which was killed")
        for text in _fates(outcome, outcome.victim):
            _item(console, "·", text)
    _heading(console, "In figures")
    for text in _figures(outcome.ledger):
        _item(console, "·", text)
    _heading(console, "Checked against the event stream")
    for check in outcome.checks:
        mark, style = ("✓", "green") if check.holds else ("✗", "bold red")
        _item(console, mark, f"{check.claim}: {check.detail}", style)
    _heading(console, "The report")
    _item(console, " ", str(outcome.report))
    _heading(console, "Try next")
    for command, what in _commands(outcome):
        console.print(Text(f"  {command}", style="cyan"), soft_wrap=True)
        _item(console, " ", what, "dim")


def markdown(outcome: Outcome) -> str:
    """The same as a section of the report."""
    sections = ["\n## How this survey went"]
    told = [f"{line.at:.1f} s: {line.text}" for line in outcome.lines]
    fates = list(_fates(outcome, outcome.victim)) if outcome.victim else []
    checks = [
        f"{'✓' if each.holds else '✗'} {each.claim}: {each.detail}" for each in outcome.checks
    ]
    for lead, texts in (
        ("", told),
        ("What became of the tasks of the killed worker:", fates),
        ("In figures:", list(_figures(outcome.ledger))),
        ("Checked against the event stream:", checks),
    ):
        if texts:
            sections += [lead] if lead else []
            sections.append("\n".join(f"- {text}" for text in texts))
    return "\n\n".join(sections) + "\n"


def _heading(console: Console, text: str) -> None:
    console.print()
    console.print(Text(text, style="bold"))


def _item(console: Console, mark: str, text: str, style: str = "") -> None:
    if not console.is_terminal:
        console.print(Text(f"  {mark} {text}"), soft_wrap=True)
        return
    table = Table.grid(padding=(0, 1, 0, 0))
    table.add_row(Text(mark, style=style), Text(text, style=style if style == "dim" else ""))
    console.print(Padding(table, (0, 0, 0, 2)))


def _fates(outcome: Outcome, victim: Hand) -> Iterator[str]:
    latest = 0.0
    for task in victim.held:
        life = outcome.ledger.lives[task]
        back = next(
            (loss for loss in life.losses if loss.holder.startswith(victim.agent + "/")), None
        )
        if back is None or victim.killed_at is None or life.ended_at is None:
            continue
        after = (back.at - victim.killed_at).total_seconds()
        latest = max(latest, after)
        by = next((e.holder.split("/")[0] for e in reversed(life.completions)), "")
        ended = (life.ended_at - victim.killed_at).total_seconds()
        how = f"done by {by}" if by else "ended as a dead letter"
        yield f"{task}: back on the board after {after:.1f} s, {how} after {ended:.1f} s"
    if latest > outcome.lease + GRACE_NOTICED_SECONDS:
        yield (
            f"The lease was {outcome.lease:g} s. They came back later, since an engine that stood "
            "still before gives every lease a grace of 10 s."
        )


def _figures(ledger: Ledger) -> Iterator[str]:
    done = ledger.done_by()
    yield "done by " + ", ".join(f"{agent} {count:,}" for agent, count in sorted(done.items()))
    retries = sum(len(life.retries) for life in ledger.lives.values())
    losses = sum(len(life.losses) for life in ledger.lives.values())
    dead = sum(len(life.failures) for life in ledger.lives.values())
    yield (
        f"{retries:,} failed attempts tried again, {losses:,} claims lost with their worker, "
        f"{dead:,} dead {'letter' if dead == 1 else 'letters'}"
    )


def _program() -> str:
    """How the command line is called from here: by name, or by path where it has none."""
    if shutil.which("callboard"):
        return "callboard"
    beside = Path(sys.executable).with_name("callboard")
    if not beside.exists():
        return f"{Path(sys.executable).name} -m callboard.cli"
    here = Path.cwd()
    return str(beside.relative_to(here) if beside.is_relative_to(here) else beside)


def _commands(outcome: Outcome) -> Iterator[tuple[str, str]]:
    board, where, program = outcome.board, outcome.where, _program()
    yield f"{program} boards show {board}{where}", "the board as it stands now"
    dead = [task for task, life in outcome.ledger.lives.items() if life.failures]
    if dead:
        yield (
            f"{program} dlq show {dead[0]} --board {board}{where}",
            "the dead letter with its payload, error and every attempt",
        )
        yield (
            f"{program} tasks why {dead[0]} --board {board}{where}",
            "why it stands where it stands, and what would move it",
        )
    if outcome.victim is not None and outcome.victim.held:
        task = outcome.victim.held[0]
        yield (
            f"{program} tasks show {task} --board {board}{where}",
            "a task that outlived its worker, with both of its attempts",
        )
    yield f"{program} agents list{where}", "who was there, and who was lost"
