"""The course of a run: from what stands on its board, what comes next. Pure."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass, field
from itertools import islice
from typing import Final

from callboard.domain.run import Phase, answer_id, plan_id
from callboard.domain.task import Status
from callboard.domain.team import TeamSpec

ASK_SHARE: Final = 0.25
"""The planner is asked again once this share of what was open when it was last asked has ended:
each round then sees news worth a round, and rounds grow with the logarithm of the tasks."""

BARREN_ROUNDS: Final = 2
"""Rounds in a row before which no task was done: planning then leads nowhere."""

NEWS_MAX: Final = 5_000
"""Ends that the planner is told of in one round; further ones are told in the next."""

OPEN_SHOWN: Final = 200
"""Open tasks that the planner is told of: enough to see what is under way."""

SAME_PLAN: Final = "the planner gave the same plan twice"
NO_PROGRESS: Final = f"no task was done before {BARREN_ROUNDS} rounds of planning in a row"
NOTHING_MORE: Final = "nothing more was planned"


@dataclass(frozen=True, slots=True)
class Ask:
    """Ask the planner, and tell it what has ended since it was last asked."""

    round: int
    finished: tuple[str, ...]
    barren: int


@dataclass(frozen=True, slots=True)
class TakePlan:
    """Put the tasks of the answered round on the board."""

    round: int


@dataclass(frozen=True, slots=True)
class EndPlanning:
    """Ask the planner no more."""

    reason: str


@dataclass(frozen=True, slots=True)
class Synthesise:
    """Ask the synthesizer for the answer."""


@dataclass(frozen=True, slots=True)
class End:
    """The run has ended."""

    phase: Phase
    reason: str


Step = Ask | TakePlan | EndPlanning | Synthesise | End | None


@dataclass(slots=True)
class Course:
    """What a run's leader knows of it, kept true by the run's events.

    A run may have very many tasks, and each event asks what comes next: so what is asked
    for is kept by ``note``, and nothing here walks all tasks.

    Attributes:
        round: The last round whose tasks are on the board.
        planning: Why the planner is asked no more; empty while it may be.
        work: The status of each task that was planned, in the order of planning; changed by
            ``note`` alone.
        reported: Those whose end the planner was told, or is being told.
        own: The status of each task by which the planner or the synthesizer is asked.
        fingerprints: Of the plans so far.
        barren: Rounds in a row before which no task was done.
        open_at_ask: How many tasks were open when the planner was last asked.
        spent: All turns but the last are used up.
    """

    team: TeamSpec
    generation: int = 1
    round: int = 0
    planning: str = ""
    work: dict[str, Status] = field(default_factory=dict)
    reported: set[str] = field(default_factory=set)
    own: dict[str, Status] = field(default_factory=dict)
    fingerprints: set[str] = field(default_factory=set)
    barren: int = 0
    open_at_ask: int = 0
    spent: bool = False
    # Mappings to nothing are sets that keep their order.
    _open: dict[str, None] = field(default_factory=dict)
    _waiting: dict[str, None] = field(default_factory=dict)
    _failed: dict[str, None] = field(default_factory=dict)
    _fresh: dict[str, Status] = field(default_factory=dict)
    _fresh_done: int = 0
    _tally: Counter[Status] = field(default_factory=Counter)

    def note(self, task_id: str, status: Status) -> None:
        """A planned task was added, or has moved."""
        before = self.work.get(task_id)
        if before is not None:
            self._tally[before] -= 1
        self._tally[status] += 1
        self.work[task_id] = status
        _keep(self._open, task_id, not status.is_finished)
        _keep(self._waiting, task_id, not status.is_finished and not status.is_held)
        _keep(self._failed, task_id, status is Status.FAILED)
        if not status.is_finished:
            self._drop_news(task_id)
            self.reported.discard(task_id)
        elif task_id not in self.reported:
            self._drop_news(task_id)
            self._fresh[task_id] = status
            self._fresh_done += status is Status.DONE

    def _drop_news(self, task_id: str) -> None:
        if self._fresh.pop(task_id, None) is Status.DONE:
            self._fresh_done -= 1

    def note_asked(self, finished: Iterable[str], barren: int, open_count: int) -> None:
        """The planner was asked, and told of these ends, while so many tasks were open."""
        for task_id in finished:
            self.reported.add(task_id)
            self._drop_news(task_id)
        self.barren = barren
        self.open_at_ask = open_count

    @property
    def open(self) -> list[str]:
        """Planned tasks that have not ended, the first 200; those put back come last."""
        return list(islice(self._open, OPEN_SHOWN))

    @property
    def open_count(self) -> int:
        """How many planned tasks have not ended."""
        return len(self._open)

    @property
    def waiting(self) -> list[str]:
        """All of those that nobody holds."""
        return list(self._waiting)

    @property
    def has_news(self) -> bool:
        """Tasks have ended that the planner was not told of."""
        return bool(self._fresh)

    @property
    def counts(self) -> dict[str, int]:
        """Planned tasks by status."""
        counts = {"total": len(self.work), "unfinished": len(self._open)}
        for status in (Status.DONE, Status.FAILED, Status.CANCELLED):
            counts[status.value] = self._tally[status]
        return counts

    @property
    def tasks_left(self) -> int:
        """How many more tasks the run may get."""
        return max(0, self.team.max_tasks - len(self.work))

    @property
    def rounds_left(self) -> int:
        """How often the planner may still be asked."""
        return max(0, self.team.max_rounds - self.round)

    def next(self) -> Step:
        """What comes next; None where the next thing to do is to wait."""
        failed = self._first_failed() if self.team.on_failure == "stop" else None
        if failed:
            return End(Phase.FAILED, f"task {failed} failed, and the team stops at a failure")
        answer = self.own.get(answer_id(self.generation))
        if answer is not None:
            return self._after(answer)
        plan = self.own.get(plan_id(self.round + 1))
        if plan is not None and not self.planning:
            return self._planned(plan)
        if not self.planning:
            step = self._ask_or_end()
            if step is not None or self._open:
                return step
        return None if self._open else Synthesise()

    def _first_failed(self) -> str | None:
        return next(iter(self._failed), None)

    def _after(self, answer: Status) -> Step:
        if answer is Status.DONE:
            return End(Phase.DONE, "")
        if answer.is_finished:
            return End(Phase.FAILED, "the synthesizer failed")
        return None

    def _planned(self, plan: Status) -> Step:
        if plan is Status.DONE:
            return TakePlan(self.round + 1)
        if not plan.is_finished:
            return None
        if self.round == 0:
            return End(Phase.FAILED, "planning failed")
        return EndPlanning(f"round {self.round + 1} of planning failed")

    def _ask_or_end(self) -> Step:
        if self.round == 0:
            return Ask(1, (), 0)
        team = self.team
        if team.replan == "never":
            return EndPlanning("the team plans once")
        if self.rounds_left == 0:
            return EndPlanning(f"all {team.max_rounds} rounds of planning are used up")
        if self.tasks_left == 0:
            return EndPlanning(f"the run has its {team.max_tasks:,} tasks")
        if self.spent:
            return EndPlanning(f"its {team.global_max_turns:,} turns are used up")
        if not self._is_due():
            return None
        barren = 0 if self._fresh_done else self.barren + 1
        if barren >= BARREN_ROUNDS:
            return EndPlanning(NO_PROGRESS)
        news = tuple(islice(self._fresh, NEWS_MAX))
        return Ask(self.round + 1, news, barren)

    def _is_due(self) -> bool:
        """Whether the news is worth a round; the last round is kept for when all has ended."""
        if not self._open:
            return True
        if self.team.replan == "idle" or self.rounds_left == 1:
            return False
        return len(self._fresh) >= max(1, math.ceil(self.open_at_ask * ASK_SHARE))


def _keep(kept: dict[str, None], task_id: str, is_in: bool) -> None:
    """Have it among these, where it then stands last, or not."""
    if is_in:
        kept.setdefault(task_id)
    else:
        kept.pop(task_id, None)
