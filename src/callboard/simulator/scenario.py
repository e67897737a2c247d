"""What a simulation is given: agents, tasks, and what they do not know of each other."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Final

CHANCES: Final = 4
"""Attempts whose chances are drawn with the task: each strategy then meets the same luck."""


@dataclass(frozen=True, slots=True)
class SimulatedAgent:
    """An agent as it really is, which no strategy sees.

    Attributes:
        speed: Work it does in a second, in each of its slots.
        slots: Tasks that it runs at once.
        skills: Capabilities that it has.
        kind_speeds: What its speed is multiplied by for tasks of a kind, 1 where not named.
        fail_rate: Share of its attempts that fail.
        joins_at: When it comes, in seconds.
        leaves_at: When it goes; None where it stays.
        crashes: Whether it goes without a word: what it ran is found after a lease.
    """

    id: str
    speed: float = 1.0
    slots: int = 1
    skills: frozenset[str] = frozenset()
    kind_speeds: dict[str, float] = field(default_factory=dict)
    fail_rate: float = 0.0
    joins_at: float = 0.0
    leaves_at: float | None = None
    crashes: bool = False

    def seconds(self, kind: str, work: float) -> float:
        """How long it takes for so much work of a kind."""
        return work / (self.speed * self.kind_speeds.get(kind, 1.0))


@dataclass(frozen=True, slots=True)
class SimulatedTask:
    """A task that arrives.

    Attributes:
        at: When it is submitted, in seconds.
        work: Seconds that an agent of speed 1 takes.
        key: What ``consistent_hash`` and ``affinity`` go by.
        requires: Capabilities that an agent needs.
        priority: As that of any task: a point is worth a minute of waiting.
        depends_on: Places of other tasks in the scenario's list, which must be done before.
        chances: For each attempt: whether it fails (below the agent's rate), after which
            share of its time, and which share of the back-off is waited.
        counted: Whether its time counts. Of a graph, only its last task's does.
        since: From when its time counts, in seconds; None for from when it could be claimed.
    """

    at: float
    work: float
    kind: str = "work"
    key: str = ""
    requires: frozenset[str] = frozenset()
    priority: int = 0
    depends_on: tuple[int, ...] = ()
    chances: tuple[tuple[float, float, float], ...] = ()
    counted: bool = True
    since: float | None = None


@dataclass(frozen=True, slots=True)
class Scenario:
    """One draw of a load.

    Attributes:
        stale: How old what strategies see of agents may be, in seconds: the age of the view
            of a scheduler that stands beside the engine. Callboard's own are in it, at 0.
        fails_early: Failures come after a part of the time, not at its end.
    """

    name: str
    agents: tuple[SimulatedAgent, ...]
    tasks: tuple[SimulatedTask, ...]
    stale: float = 0.0
    fails_early: bool = False
