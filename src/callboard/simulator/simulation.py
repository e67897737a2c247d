"""The course of one simulation: tasks arrive, agents claim, run, fail, come and go.

What agents and board do is what the engine and workers do, without the time that calls take:
a ready task is reserved for whom the strategy chooses or waits in its lane; an agent with room
takes its reservations, then the lanes that fit it, then steals. Clocks, bounds and orders are
those of ``include/place.lua``, ``include/claim.lua`` and ``sdk/exchange.py``.
"""

from __future__ import annotations

import heapq
import random
from bisect import insort
from collections import deque
from collections.abc import Callable, Iterable
from typing import Any, Final, Protocol

from callboard.domain.prefetch import PREFETCH_MAX, worth_ahead
from callboard.domain.retry import DEFAULT_POLICY
from callboard.simulator.scenario import CHANCES, Scenario, SimulatedAgent, SimulatedTask

PRIORITY_STEP: Final = 60.0
"""Seconds of waiting that a point of priority is worth: a board's default."""

TAKE_UP: Final = 5.0
"""A reservation lapses after this."""

POLL: Final = 1.0
"""An idle worker looks again after this, give or take a quarter."""

LEASE: Final = 30.0
"""What a crashed agent held is found, and the agent with it, after this."""

WAITER_LASTS: Final = 4.0
"""A crashed agent that waited for work counts as waiting for about this long."""

STEAL_VICTIMS: Final = 3
STEAL_MOST: Final = 100
RETRY: Final = DEFAULT_POLICY


class Job:
    """A task on its way.

    Attributes:
        was_passed_up: An agent chosen for it did not take it up in time: it now goes to who
            waits for work, whatever the strategy.
        score: Its place in the order of claiming.
        stamp: Changes whenever it changes hands: news of an earlier hold are stale by it.
        ready_at: When it could first be claimed.
        began_at: When its first attempt began.
        ended_at: When it was done, or buried after its last failure.
    """

    __slots__ = (
        "began_at",
        "ended_at",
        "failures",
        "id",
        "index",
        "is_done",
        "needs",
        "ready_at",
        "running_since",
        "score",
        "stamp",
        "task",
        "was_passed_up",
    )

    def __init__(self, index: int, task: SimulatedTask) -> None:
        self.id, self.index, self.task = f"t{index}", index, task
        self.score = self.ready_at = self.running_since = 0.0
        self.failures = self.stamp = 0
        self.needs = len(task.depends_on)
        self.is_done = self.was_passed_up = False
        self.began_at: float | None = None
        self.ended_at: float | None = None

    def __lt__(self, other: Job) -> bool:
        return (self.score, self.index) < (other.score, other.index)


class Agent:
    """An agent at work.

    Attributes:
        running: What its slots are taken by, by place in the scenario.
        ahead: Claimed, but not begun.
        reserved: For it, not claimed, in the order of claiming.
        busy: Seconds that its slots were taken, summed.
        view: What the chooser keeps of it.
    """

    def __init__(self, spec: SimulatedAgent, prefetch: int | None) -> None:
        self.spec, self.id, self.slots, self.skills = spec, spec.id, spec.slots, spec.skills
        self.limit = spec.slots + (PREFETCH_MAX if prefetch is None else prefetch)
        self.running: dict[int, Job] = {}
        self.ahead: deque[Job] = deque()
        self.reserved: list[Job] = []
        self.is_here = self.is_waiting = False
        self.waiting_since = self.busy = 0.0
        self.gone_at: float | None = None
        self.view: Any = None
        self._prefetch = prefetch
        self._duration, self._measured = 0.0, 0

    @property
    def held(self) -> int:
        """Tasks claimed and not ended."""
        return len(self.running) + len(self.ahead)

    @property
    def has_slot(self) -> bool:
        """Whether it could begin one more at once."""
        return len(self.running) < self.slots

    def wants(self) -> int:
        """How many more it asks for: free slots, and what a worker has ahead."""
        ahead = self._prefetch
        if ahead is None:
            ahead = worth_ahead(self._measured, self._duration, self.slots)
        return max(0, self.slots + ahead - self.held)

    def measure(self, seconds: float) -> None:
        """Note how long an attempt took, as a worker does."""
        self._measured += 1
        self._duration += max(0.05, 1 / self._measured) * (seconds - self._duration)


class Chooser(Protocol):
    """Chooses an agent for a task, and is told what becomes of the agents.

    Attributes:
        is_push: It chooses among all that have room, at once; else among those that wait.
        is_oracle: What it gave it neither takes back nor lets others steal.
        decisions: Choices made so far; where nobody could be chosen there was none.
    """

    is_push: bool
    is_oracle: bool
    decisions: int

    def join(self, agent: Agent) -> None:
        """An agent has come."""

    def leave(self, agent: Agent) -> None:
        """An agent has gone, and it is known."""

    def moved(self, agent: Agent) -> None:
        """What the agent holds, or whether it waits, has changed."""

    def ended(self, agent: Agent, kind: str, seconds: float, is_done: bool, now: float) -> None:
        """An attempt of the agent has ended."""

    def choose(self, job: Job, now: float) -> Agent | None:
        """The agent to have the task, None to leave it in its lane."""


class Simulation:
    """One scenario under one strategy.

    Attributes:
        now: Seconds since it began.
        stolen: Reservations taken over by another agent.
        lapsed: Reservations not taken up in time.
    """

    def __init__(
        self,
        scenario: Scenario,
        chooser: Chooser,
        *,
        seed: int = 0,
        steals: bool = True,
        prefetch: int | None = None,
    ) -> None:
        self.scenario = scenario
        self.chooser = chooser
        self.now = 0.0
        self.stolen = self.lapsed = 0
        self.jobs = [Job(i, task) for i, task in enumerate(scenario.tasks)]
        own = 0 if chooser.is_oracle else prefetch
        self.agents = [Agent(spec, own) for spec in scenario.agents]
        self._steals = steals and chooser.is_push and not chooser.is_oracle
        self._chance = random.Random(f"polls:{seed}")
        self._lanes: dict[frozenset[str], list[Job]] = {}
        self._events: list[tuple[float, int, Callable[..., None], tuple[Any, ...]]] = []
        self._scheduled, self._open = 0, len(self.jobs)
        self._dependents: dict[int, list[Job]] = {}
        for job in self.jobs:
            for need in job.task.depends_on:
                self._dependents.setdefault(need, []).append(job)

    def run(self, progress: Callable[[int], None] | None = None) -> None:
        """Go through all that happens, until every task has ended or nothing happens any more.

        *progress* is told each five hundred events how many tasks have ended.
        """
        for agent in self.agents:
            self._at(agent.spec.joins_at, self._join, agent)
            if agent.spec.leaves_at is not None:
                gone = self._crash if agent.spec.crashes else self._drain
                self._at(agent.spec.leaves_at, gone, agent)
        for job in self.jobs:
            self._at(job.task.at, self._arrive, job)
        events, steps = self._events, 0
        while events and self._open:
            self.now, _, happens, arguments = heapq.heappop(events)
            happens(*arguments)
            steps += 1
            if progress and steps % 500 == 0:
                progress(len(self.jobs) - self._open)

    def _at(self, when: float, happens: Callable[..., None], *arguments: Any) -> None:
        self._scheduled += 1
        heapq.heappush(self._events, (when, self._scheduled, happens, arguments))

    # Tasks

    def _arrive(self, job: Job) -> None:
        if job.needs == 0:
            self._make_ready(job)

    def _make_ready(self, job: Job) -> None:
        job.ready_at = self.now
        self._offer_anew(job)

    def _offer_anew(self, job: Job) -> None:
        job.score = self.now - job.task.priority * PRIORITY_STEP
        self._offer(job)

    def _offer(self, job: Job) -> None:
        """To whom the strategy chooses, or into its lane."""
        job.stamp += 1
        agent = self.chooser.choose(job, self.now)
        if agent is None:
            heapq.heappush(self._lanes.setdefault(job.task.requires, []), job)
        elif agent.has_slot and agent.is_here:
            self._begin(agent, job)
            self._stand(agent)
        else:
            insort(agent.reserved, job)
            if len(agent.reserved) >= agent.slots and not agent.is_here:
                agent.is_waiting = False
            if not self.chooser.is_oracle:
                self._at(self.now + TAKE_UP, self._lapse, agent, job, job.stamp)
            self.chooser.moved(agent)

    def _lapse(self, agent: Agent, job: Job, stamp: int) -> None:
        if job.stamp == stamp:
            agent.reserved.remove(job)
            self.lapsed += 1
            self.chooser.moved(agent)
            job.was_passed_up = True
            self._offer(job)
            job.was_passed_up = False

    def _begin(self, agent: Agent, job: Job) -> None:
        job.stamp += 1
        if job.began_at is None:
            job.began_at = self.now
        seconds = agent.spec.seconds(job.task.kind, job.task.work)
        fails = False
        if agent.spec.fail_rate:
            luck, share, _ = job.task.chances[job.failures % CHANCES]
            fails = luck < agent.spec.fail_rate
            seconds *= share if fails and self.scenario.fails_early else 1.0
        agent.running[job.index], job.running_since = job, self.now
        self._at(self.now + seconds, self._end, agent, job, job.stamp, seconds, not fails)

    def _end(self, agent: Agent, job: Job, stamp: int, seconds: float, is_done: bool) -> None:
        if job.stamp != stamp:
            return
        job.stamp += 1
        del agent.running[job.index]
        agent.busy += seconds
        agent.measure(seconds)
        while agent.ahead and agent.has_slot:
            self._begin(agent, agent.ahead.popleft())
        self.chooser.moved(agent)
        self.chooser.ended(agent, job.task.kind, seconds, is_done, self.now)
        if is_done:
            job.is_done = True
            self._close(job)
        else:
            self._fail(job)
        if agent.is_here:
            self._claim(agent)

    def _fail(self, job: Job) -> None:
        job.failures += 1
        if RETRY.allows(job.failures):
            share = job.task.chances[(job.failures - 1) % CHANCES][2]
            self._at(self.now + RETRY.delay(job.failures, share), self._offer_anew, job)
        else:
            self._close(job)

    def _close(self, job: Job) -> None:
        job.ended_at = self.now
        self._open -= 1
        for other in self._dependents.get(job.index, ()):
            other.needs -= 1
            if other.needs == 0 and other.task.at <= self.now:
                self._make_ready(other)

    # Agents

    def _claim(self, agent: Agent) -> None:
        """Its reservations, then the lanes that fit it, then what it can steal."""
        want = agent.wants()
        taken = agent.reserved[:want]
        del agent.reserved[:want]
        while len(taken) < want:
            lane = self._best_lane(agent)
            if lane is None:
                break
            taken.append(heapq.heappop(lane))
        if not taken and want and self._steals:
            taken = self._steal(agent, want)
        for job in taken:
            job.stamp += 1
            if agent.has_slot:
                self._begin(agent, job)
            else:
                agent.ahead.append(job)
        self._stand(agent)

    def _best_lane(self, agent: Agent) -> list[Job] | None:
        best: list[Job] | None = None
        for requires, lane in self._lanes.items():
            if lane and requires <= agent.skills and (best is None or lane[0] < best[0]):
                best = lane
        return best

    def _steal(self, agent: Agent, want: int) -> list[Job]:
        """Half of what fits of the reservations of the most loaded, the last ones first."""
        victims = []
        for other in self.agents:
            if other is not agent and len(other.reserved) > 1:
                fitting = [job for job in other.reserved if job.task.requires <= agent.skills]
                victims.append((other, fitting))
        victims.sort(key=lambda victim: (-len(victim[1]), victim[0].id))
        most, taken = min(want, STEAL_MOST), list[Job]()
        for other, fitting in victims[:STEAL_VICTIMS]:
            half = len(fitting) // 2
            for job in fitting[: -half - 1 : -1][: most - len(taken)] if half else ():
                other.reserved.remove(job)
                taken.append(job)
            self.chooser.moved(other)
        self.stolen += len(taken)
        return taken

    def _stand(self, agent: Agent) -> None:
        """Whether it waits for work now; where work may be stolen, it looks again by and by."""
        waits = agent.is_here and agent.has_slot
        if waits and not agent.is_waiting:
            agent.waiting_since = self.now
            if self._steals:
                self._poll_later(agent)
        agent.is_waiting = waits
        self.chooser.moved(agent)

    def _poll_later(self, agent: Agent) -> None:
        pause = POLL * (0.75 + self._chance.random() / 2)
        self._at(self.now + pause, self._poll, agent, agent.waiting_since)

    def _poll(self, agent: Agent, since: float) -> None:
        if agent.is_waiting and agent.waiting_since == since:
            self._claim(agent)
            if agent.is_waiting:
                self._poll_later(agent)

    def _join(self, agent: Agent) -> None:
        agent.is_here = True
        self.chooser.join(agent)
        self._claim(agent)

    def _drain(self, agent: Agent) -> None:
        """It gives back what it has not begun, and goes when the rest is done."""
        agent.is_here, agent.gone_at = False, self.now
        self._stand(agent)
        self.chooser.leave(agent)
        self._give_back([*agent.ahead, *agent.reserved])
        agent.ahead.clear()
        agent.reserved.clear()

    def _crash(self, agent: Agent) -> None:
        """It is gone at once; the engine finds out by and by what it had."""
        agent.is_here, agent.gone_at = False, self.now
        agent.busy += sum(self.now - job.running_since for job in agent.running.values())
        lost = [*agent.running.values(), *agent.ahead]
        for job in lost:
            job.stamp += 1
        agent.running.clear()
        agent.ahead.clear()
        self._at(self.now + LEASE, self._give_back, lost)
        if self.chooser.is_oracle:
            self.chooser.leave(agent)
            self._give_back(agent.reserved)
            agent.reserved = []
        else:
            self._at(self.now + WAITER_LASTS, self._stand, agent)
            self._at(self.now + LEASE, self.chooser.leave, agent)

    def _give_back(self, jobs: Iterable[Job]) -> None:
        """They keep their place in the order."""
        for job in jobs:
            self._offer(job)
