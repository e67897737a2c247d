"""What is counted of a simulation."""

from __future__ import annotations

import math
from collections.abc import Sequence

import msgspec

from callboard.simulator.simulation import Simulation


class Measures(msgspec.Struct, frozen=True, kw_only=True):
    """One course of a load under one strategy. Times are in seconds.

    A task's time is that from when it could be claimed until it ended, retries included; a
    run's from its arrival until its last task ended.

    Attributes:
        mean: Of the times.
        p50: The median of the times; p95 and p99 likewise.
        max_wait: The longest that a task waited for its first attempt to begin.
        fairness: Jain's index of the shares of time in which agents were busy: 1 where all
            were equally so, 1 / n where one did everything.
        decisions: Choices that the strategy made.
        done: Tasks done.
        failed: Tasks buried after their last retry.
        unfinished: Tasks that no agent was left for.
        stolen: Reservations that another agent took over.
        lapsed: Reservations that were not taken up in time.
        makespan: When the last task ended.
    """

    mean: float
    p50: float
    p95: float
    p99: float
    max_wait: float
    fairness: float
    decisions: int
    done: int
    failed: int
    unfinished: int
    stolen: int
    lapsed: int
    makespan: float


def measure(simulation: Simulation) -> Measures:
    """Count what a simulation that has run came to."""
    jobs = simulation.jobs
    times = sorted(
        job.ended_at - (job.ready_at if job.task.since is None else job.task.since)
        for job in jobs
        if job.task.counted and job.ended_at is not None
    )
    return Measures(
        mean=math.fsum(times) / len(times) if times else 0.0,
        p50=quantile(times, 0.50),
        p95=quantile(times, 0.95),
        p99=quantile(times, 0.99),
        max_wait=max((j.began_at - j.ready_at for j in jobs if j.began_at is not None), default=0),
        fairness=jain(_shares(simulation)),
        decisions=simulation.chooser.decisions,
        done=sum(job.is_done for job in jobs),
        failed=sum(job.ended_at is not None and not job.is_done for job in jobs),
        unfinished=sum(job.ended_at is None for job in jobs),
        stolen=simulation.stolen,
        lapsed=simulation.lapsed,
        makespan=simulation.now,
    )


def quantile(ordered: Sequence[float], share: float) -> float:
    """The smallest of the values that *share* of them do not exceed; 0 of none."""
    return ordered[max(0, math.ceil(share * len(ordered)) - 1)] if ordered else 0.0


def jain(values: Sequence[float]) -> float:
    """``(Σx)² / (n Σx²)``, R. Jain, D. Chiu, W. Hawe, 1984; 1 of none, or where all are 0."""
    squares = math.fsum(x * x for x in values)
    return math.fsum(values) ** 2 / (len(values) * squares) if squares else 1.0


def _shares(simulation: Simulation) -> list[float]:
    """Of each agent that was there, the share of its slots' time that was used."""
    found = []
    for agent in simulation.agents:
        gone = simulation.now if agent.gone_at is None else agent.gone_at
        was_here = min(gone, simulation.now) - agent.spec.joins_at
        if was_here > 0:
            found.append(agent.busy / (agent.slots * was_here))
    return found
