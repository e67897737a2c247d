"""A run of a team: its phases, and what is read of it."""

from __future__ import annotations

from datetime import datetime
from enum import StrEnum
from typing import Final

import msgspec

LEAD_BOARD: Final = "runs"
"""The board of the leading tasks: who holds a run's decides what comes next in it."""

PLAN: Final = "plan"
WORK: Final = "work"
SYNTHESIS: Final = "synthesis"
"""Kinds of task on a run's own board; ``work.<member>`` is bound to one member."""


class Phase(StrEnum):
    """Where a run stands."""

    PLANNING = "planning"
    EXECUTION = "execution"
    REPLANNING = "replanning"
    SYNTHESIS = "synthesis"
    DONE = "done"
    FAILED = "failed"
    CANCELLED = "cancelled"

    @property
    def is_ended(self) -> bool:
        """Done, failed or cancelled."""
        return self in ENDED


ENDED: Final = frozenset({Phase.DONE, Phase.FAILED, Phase.CANCELLED})


class Run(msgspec.Struct, frozen=True, kw_only=True):
    """A run as it stood when it was read.

    Attributes:
        id: Also the name of its board.
        team: The team's name.
        version: Which version of the team it runs.
        request: What the user asked for.
        variables: What ``--var`` gave, for the placeholders of the team's file.
        generation: 1, and one more for each time it was retried after its end.
        round: The last round of planning whose tasks are on the board.
        planning: Why no further planning will happen; empty while it may.
        reason: Why it ended as it did, or is being ended.
        is_paused: Nothing more is begun.
        deadline_at: When its time is over; moves while it is paused.
        host: Where it was started, and in which folder.
        counts: Tasks created and done, as of its end.
    """

    id: str
    team: str
    version: int
    request: str
    phase: Phase
    variables: dict[str, str] = {}
    generation: int = 1
    round: int = 0
    planning: str = ""
    reason: str = ""
    is_paused: bool = False
    created_at: datetime
    created_by: str = ""
    deadline_at: datetime
    ended_at: datetime | None = None
    host: str = ""
    folder: str = ""
    counts: dict[str, int] = {}


def lead_id(run: str, generation: int) -> str:
    """The id of a run's leading task on the board of leads."""
    return run if generation == 1 else f"{run}.{generation}"


def lead_kind(team: str) -> str:
    """Its kind: hosts claim the runs of the teams that they know."""
    return f"run.{team}"


def plan_id(round_number: int) -> str:
    """The id of the task that asks the planner for the *n*-th time."""
    return f"plan-{round_number}"


def answer_id(generation: int) -> str:
    """The id of the task that asks the synthesizer."""
    return f"answer-{generation}"


def agent_name(member: str, run: str) -> str:
    """The agent that is a member of a team in one run."""
    return f"{member}.{run}"


def member_of(holder: str, run: str) -> str:
    """The member behind a holder ``agent/instance``; the agent itself where it is none of ours."""
    return holder.partition("/")[0].removesuffix(f".{run}")
