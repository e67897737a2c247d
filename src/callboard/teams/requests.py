"""What an agent of a team is asked: the same in Python, on a command's input, in an HTTP body."""

from __future__ import annotations

from typing import Any, Literal

import msgspec


class Outcome(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """How a task ended, with as much of its result as fits.

    Attributes:
        worker: The member of the team that did it; empty where nobody did.
        status: ``done``, ``failed`` or ``cancelled``.
        result: What it returned; cut as ``is_truncated`` says.
        error: Why it failed or was cancelled.
        is_truncated: The result was too large: a text has lost its middle, anything else
            has become a mapping of its size in bytes, its first and its last characters.
        notes: What was remarked on it.
    """

    id: str
    title: str
    status: str
    worker: str = ""
    result: Any = None
    error: str | None = None
    is_truncated: bool = False
    notes: tuple[str, ...] = ()


class Outline(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """A task that has not ended."""

    id: str
    title: str
    status: str


class Member(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """A worker that the planner may give tasks to."""

    name: str
    description: str = ""
    capabilities: tuple[str, ...] = ()


class PlanLimits(msgspec.Struct, frozen=True, kw_only=True):
    """What the planner has left: tasks it may still add, rounds it may still be asked in."""

    tasks_left: int
    rounds_left: int


class TaskNote(msgspec.Struct, frozen=True, kw_only=True):
    """The task that a worker is to do."""

    id: str
    title: str
    description: str = ""
    payload: Any = None


class _Asked(msgspec.Struct, frozen=True, kw_only=True):
    """What all requests say.

    Attributes:
        run: The run's id.
        agent: The name, in the team, of who is asked.
        request: What the user asked the team for.
        attempt: 1 at first; more where an earlier attempt failed or was lost.
        previous_error: What the last attempt failed with.
    """

    run: str
    team: str
    agent: str
    request: str
    attempt: int = 1
    previous_error: str | None = None


class PlanRequest(_Asked, frozen=True, kw_only=True):
    """Asks the planner for tasks: at first, and again as results arrive.

    Attributes:
        round: 1 at first.
        finished: The tasks that ended since the last round.
        unfinished: Tasks that have not ended, at most 200.
        counts: How many tasks of the run stand where, by status.
    """

    round: int
    workers: tuple[Member, ...]
    limits: PlanLimits
    finished: tuple[Outcome, ...] = ()
    unfinished: tuple[Outline, ...] = ()
    counts: dict[str, int] = {}
    role: Literal["planner"] = "planner"


class WorkRequest(_Asked, frozen=True, kw_only=True):
    """Asks a worker to do one task.

    Attributes:
        results: How the tasks ended that this one depends on, by id.
    """

    task: TaskNote
    results: dict[str, Outcome] = {}
    role: Literal["worker"] = "worker"


class SynthesisRequest(_Asked, frozen=True, kw_only=True):
    """Asks the synthesizer for the answer.

    Attributes:
        tasks: All tasks of the run, in the order in which they were planned.
        counts: How many stand where, by status.
        remark: Why planning ended early, where it did.
    """

    tasks: tuple[Outcome, ...]
    counts: dict[str, int]
    remark: str = ""
    role: Literal["synthesizer"] = "synthesizer"


Request = PlanRequest | WorkRequest | SynthesisRequest
