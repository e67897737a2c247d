"""An account of one board, kept from its events alone, and the check that it balances.

The live view is drawn from it, and at the end a second account is made from the whole
stream and compared with what the board itself says.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import Final

from callboard.domain.event import Event, Fact, Gap
from callboard.domain.task import Status

NAMES_SHOWN: Final = 3


@dataclass(frozen=True)
class Entry:
    """One fact of a task's life: under which fence, by or from whom, when."""

    fence: int
    holder: str
    at: datetime
    extra: str = ""


@dataclass
class Life:
    """What the events say of one task."""

    is_created: bool = False
    state: str = ""
    holder: str = ""
    claims: list[Entry] = field(default_factory=list)
    losses: list[Entry] = field(default_factory=list)
    retries: list[Entry] = field(default_factory=list)
    completions: list[Entry] = field(default_factory=list)
    failures: list[Entry] = field(default_factory=list)
    cancellations: list[Entry] = field(default_factory=list)

    @property
    def outcomes(self) -> int:
        """How often it ended; once is right."""
        return len(self.completions) + len(self.failures) + len(self.cancellations)

    @property
    def ended_at(self) -> datetime | None:
        """When it ended; None where it has not."""
        ends = [*self.completions, *self.failures, *self.cancellations]
        return ends[-1].at if ends else None


_LISTS: Final[Mapping[str, str]] = {
    "task:claimed": "claims",
    "task:lease_lost": "losses",
    "task:retry_scheduled": "retries",
    "task:completed": "completions",
    "task:failed": "failures",
    "task:cancelled": "cancellations",
}
_HOLDS: Final = frozenset({"claimed", "in_progress"})


class Ledger:
    """The lives of a board's tasks, from its events in order."""

    def __init__(self, board: str) -> None:
        self.board = board
        self.lives: dict[str, Life] = {}
        self.events = 0
        self.last = 0
        self.gaps: list[str] = []

    def apply(self, event: Event | Gap) -> None:
        """Enter an event; those of other boards only prove that none is missing."""
        if isinstance(event, Gap):
            self.gaps.append(f"events {event.first} to {event.last} are missing ({event.reason})")
            self.last = event.last
            return
        if self.last and event.n != self.last + 1:
            self.gaps.append(f"event {event.n} follows on {self.last}")
        self.last = event.n
        if event.board != self.board or not event.type.startswith("task:"):
            return
        self.events += 1
        for fact in event.facts:
            self._enter(event, fact)

    def _enter(self, event: Event, fact: Fact) -> None:
        life = self.lives.setdefault(fact.id, Life())
        life.state = fact.state
        life.holder = fact.holder if fact.state in _HOLDS else ""
        if event.type == "task:created":
            life.is_created = True
        entries = _LISTS.get(event.type)
        if entries is not None:
            getattr(life, entries).append(Entry(fact.fence, fact.holder, event.at, fact.extra))

    @property
    def ended(self) -> int:
        """How many tasks have ended."""
        return sum(life.outcomes > 0 for life in self.lives.values())

    def held_by(self, agent: str) -> list[str]:
        """What an agent holds, the longest held first."""
        held = [
            (task, life) for task, life in self.lives.items() if life.holder.split("/")[0] == agent
        ]
        return [task for task, life in sorted(held, key=lambda item: item[1].claims[-1].fence)]

    def done_by(self) -> Counter[str]:
        """Accepted results by agent."""
        return Counter(
            life.completions[-1].holder.split("/")[0]
            for life in self.lives.values()
            if life.completions
        )


@dataclass(frozen=True)
class Check:
    """One thing that must hold, whether it does, and the figures."""

    claim: str
    holds: bool
    detail: str


def check(
    ledger: Ledger, planned: Iterable[str], on_board: Mapping[str, Status], lost: Sequence[str] = ()
) -> list[Check]:
    """Whether the account balances.

    Args:
        ledger: From all events of the run.
        planned: Ids of all tasks submitted.
        on_board: What the board itself says of each of its tasks.
        lost: What the killed worker held.
    """
    lives = {task: ledger.lives.get(task, Life()) for task in planned}
    lives |= {task: life for task, life in ledger.lives.items() if task not in lives}
    checks = [
        _no_gap(ledger),
        _nothing_lost(lives),
        _nothing_twice(lives),
        _nothing_stale(lives),
        _board_agrees(lives, on_board),
    ]
    if lost:
        checks.append(_taken_over(lives, lost))
    return checks


def _no_gap(ledger: Ledger) -> Check:
    detail = "; ".join(ledger.gaps[:NAMES_SHOWN]) or f"{ledger.events:,} events of this board read"
    return Check("no event is missing", not ledger.gaps and ledger.events > 0, detail)


def _nothing_lost(lives: Mapping[str, Life]) -> Check:
    bad = [task for task, life in lives.items() if not life.is_created or life.outcomes == 0]
    ended = Counter(
        "done" if life.completions else "failed" if life.failures else "cancelled"
        for life in lives.values()
        if life.outcomes
    )
    figures = ", ".join(f"{count:,} {word}" for word, count in ended.most_common())
    detail = _named("without an outcome", bad) or f"{len(lives):,} tasks submitted: {figures}"
    return Check("nothing lost", not bad, detail)


def _nothing_twice(lives: Mapping[str, Life]) -> Check:
    bad = [task for task, life in lives.items() if life.outcomes > 1]
    done = sum(bool(life.completions) for life in lives.values())
    results = sum(len(life.completions) for life in lives.values())
    detail = _named("ended more than once", bad) or f"{results:,} results taken for {done:,} tasks"
    return Check("nothing recorded twice", not bad, detail)


def _nothing_stale(lives: Mapping[str, Life]) -> Check:
    """Each result came from the last to whom the task was given, and under that very fence."""
    bad = []
    for task, life in lives.items():
        for completion in life.completions:
            is_current = bool(life.claims) and life.claims[-1].fence == completion.fence
            if not is_current or any(loss.fence == completion.fence for loss in life.losses):
                bad.append(task)
    detail = _named("ended by a holder that had lost them", bad) or "each result by the last holder"
    return Check("no stale result taken", not bad, detail)


def _board_agrees(lives: Mapping[str, Life], on_board: Mapping[str, Status]) -> Check:
    bad = [task for task, life in lives.items() if life.state != on_board.get(task)]
    bad += [task for task in on_board if task not in lives]
    detail = _named("differ", bad) or f"{len(on_board):,} tasks compared"
    return Check("the board says the same", not bad, detail)


def _taken_over(lives: Mapping[str, Life], lost: Sequence[str]) -> Check:
    bad = []
    for task in lost:
        life = lives.get(task, Life())
        if not life.losses or not life.claims or life.claims[-1].fence <= life.losses[-1].fence:
            bad.append(task)
    detail = (
        _named("were not given to others", bad) or f"all {len(lost)} were given to others and ended"
    )
    return Check("the killed worker's tasks came back", not bad, detail)


def _named(what: str, tasks: Sequence[str]) -> str:
    if not tasks:
        return ""
    shown = ", ".join(tasks[:NAMES_SHOWN]) + (", …" if len(tasks) > NAMES_SHOWN else "")
    return f"{len(tasks)} {what}: {shown}"
