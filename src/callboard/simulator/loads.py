"""Made-up loads: agents of unequal speed, and tasks that come as they do in practice.

Chance comes from a seed and the load's name alone, so each strategy meets the same agents, the
same tasks and the same luck.
"""

from __future__ import annotations

import math
import random
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from typing import Final

from callboard.simulator.scenario import CHANCES, Scenario, SimulatedAgent, SimulatedTask

AGENTS: Final = 40
TASKS: Final = 8_000
SPEED_SIGMA: Final = 0.6
"""Spread of speeds: the fastest tenth is about five times as fast as the slowest."""

SLOTS: Final = (1, 4)
WORK_SIGMA: Final = 1.0
HEAVY_SIGMA: Final = 1.6
"""Spread of work: its heaviest hundredth is 41 times the median, against 10 at 1.0."""

KINDS: Final = 5


@dataclass(frozen=True, slots=True)
class Load:
    """A load that can be drawn.

    Attributes:
        summary: What it is, in a line.
        draw: Makes the scenario of a seed with so many agents and tasks.
        is_reference: One of those that the default strategy is held against.
    """

    name: str
    summary: str
    draw: Callable[[int, int, int], Scenario]
    is_reference: bool = False


def draw(name: str, seed: int, *, agents: int = AGENTS, tasks: int = TASKS) -> Scenario:
    """The scenario of a load and a seed. Raises KeyError where there is no such load."""
    return LOADS[name].draw(seed, agents, tasks)


def team(chance: random.Random, count: int) -> list[SimulatedAgent]:
    """Agents of unequal speed and 1 to 4 slots."""
    return [
        SimulatedAgent(
            id=f"agent-{i:02}",
            speed=chance.lognormvariate(0.0, SPEED_SIGMA),
            slots=chance.randint(*SLOTS),
        )
        for i in range(count)
    ]


def _capacity(agents: list[SimulatedAgent]) -> float:
    """Work done in a second where all slots are taken."""
    return sum(agent.speed * agent.slots for agent in agents)


def _works(chance: random.Random, mean: float, sigma: float) -> Iterator[float]:
    mu = math.log(mean) - sigma * sigma / 2
    while True:
        yield chance.lognormvariate(mu, sigma)


def chances(chance: random.Random) -> tuple[tuple[float, float, float], ...]:
    """The luck of a task's attempts."""
    return tuple((chance.random(), chance.random(), chance.random()) for _ in range(CHANCES))


def _poisson(
    chance: random.Random, count: int, rate: Callable[[float], float], top: float
) -> Iterator[float]:
    """Arrivals at a rate that changes, by thinning those at its *top*."""
    at = 0.0
    while count:
        at += chance.expovariate(top)
        if chance.random() * top <= rate(at):
            count -= 1
            yield at


def _steady(
    name: str,
    *,
    rho: float,
    sigma: float = WORK_SIGMA,
    stale: float = 0.0,
    fail_rate: float = 0.0,
    mean: float = 1.0,
    factor: Callable[[float, float], float] = lambda at, span: 1.0,
    peak: float = 1.0,
) -> Callable[[int, int, int], Scenario]:
    """A load whose arrivals have the rate of *rho* × capacity × ``factor(at, span)``."""

    def made(seed: int, agents: int, tasks: int) -> Scenario:
        chance = random.Random(f"{name}:{seed}")
        crew = [replace(agent, fail_rate=fail_rate) for agent in team(chance, agents)]
        rate = rho * _capacity(crew) / mean
        span = tasks / rate
        works = _works(chance, mean, sigma)
        times = _poisson(chance, tasks, lambda at: rate * factor(at, span), rate * peak)
        jobs = tuple(
            SimulatedTask(at=at, work=next(works), key=f"k{i % 200}", chances=chances(chance))
            for i, at in enumerate(times)
        )
        return Scenario(name, tuple(crew), jobs, stale=stale)

    return made


def _bursting(at: float, span: float) -> float:
    """A third of each 15 s at twice and a half the mean, the rest at a quarter of it."""
    return 2.5 if at % 15.0 < 5.0 else 0.25


def _by_day(at: float, span: float) -> float:
    """Three days of a high noon and a low night."""
    return 1.0 + 0.6 * math.sin(6.0 * math.pi * at / span)


def _flaky_agents(seed: int, agents: int, tasks: int) -> Scenario:
    drawn = _steady("flaky-agents", rho=0.7)(seed, agents, tasks)
    chance = random.Random(f"flaky-agents:who:{seed}")
    bad = set(chance.sample(range(agents), max(1, agents // 5)))
    crew = tuple(
        replace(agent, fail_rate=0.5 if i in bad else 0.0) for i, agent in enumerate(drawn.agents)
    )
    return replace(drawn, agents=crew, fails_early=True)


def _specialists(seed: int, agents: int, tasks: int) -> Scenario:
    """Each agent is good at some kinds and bad at others."""
    drawn = _steady("specialists", rho=0.7)(seed, agents, tasks)
    chance = random.Random(f"specialists:who:{seed}")
    kinds = [f"kind-{i}" for i in range(KINDS)]
    crew = tuple(
        replace(
            agent, kind_speeds={kind: chance.lognormvariate(0.0, SPEED_SIGMA) for kind in kinds}
        )
        for agent in drawn.agents
    )
    jobs = tuple(replace(task, kind=chance.choice(kinds)) for task in drawn.tasks)
    return replace(drawn, agents=crew, tasks=jobs)


def _scarce_skill(seed: int, agents: int, tasks: int) -> Scenario:
    """An eighth of the agents have a skill that a share of the tasks needs."""
    drawn = _steady("scarce-skill", rho=0.75)(seed, agents, tasks)
    chance = random.Random(f"scarce-skill:who:{seed}")
    skilled = set(chance.sample(range(agents), max(1, agents // 8)))
    crew = [
        replace(agent, skills=frozenset({"rare"}) if i in skilled else frozenset())
        for i, agent in enumerate(drawn.agents)
    ]
    # They could do half as much again of it, were they kept for it.
    share = _capacity([crew[i] for i in skilled]) / (0.75 * _capacity(crew)) / 1.5
    jobs = tuple(
        replace(task, kind="rare", requires=frozenset({"rare"}))
        if chance.random() < share
        else task
        for task in drawn.tasks
    )
    return replace(drawn, agents=tuple(crew), tasks=jobs)


def _churn(seed: int, agents: int, tasks: int) -> Scenario:
    """Agents stay for five minutes in the mean; half of them go by a crash; others come."""
    mean, rho = 10.0, 0.65
    drawn = _steady("churn", rho=rho, mean=mean)(seed, agents, tasks)
    chance = random.Random(f"churn:who:{seed}")
    horizon = drawn.tasks[-1].at
    crew: list[SimulatedAgent] = []
    for agent in drawn.agents:
        joins_at, one = 0.0, agent
        while joins_at < horizon:
            leaves_at = joins_at + chance.expovariate(1 / 300.0)
            stays = leaves_at >= horizon
            crew.append(
                replace(
                    one,
                    id=f"agent-{len(crew):03}",
                    joins_at=joins_at,
                    leaves_at=None if stays else leaves_at,
                    crashes=chance.random() < 0.5,
                )
            )
            joins_at = leaves_at + chance.expovariate(1 / 20.0)
            # Who comes is somebody new, and of another speed.
            one = replace(agent, speed=chance.lognormvariate(0.0, SPEED_SIGMA))
    return replace(drawn, agents=tuple(crew))


def _graphs(seed: int, agents: int, tasks: int) -> Scenario:
    """Runs of a root, 4 to 20 tasks that need it, and one that needs those; timed as a whole."""
    mean, rho = 10.0, 0.6
    chance = random.Random(f"graphs:{seed}")
    crew = team(chance, agents)
    works = _works(chance, mean, WORK_SIGMA)
    # A run has 14 tasks in the mean.
    rate = rho * _capacity(crew) / (14.0 * mean)
    jobs: list[SimulatedTask] = []
    at = 0.0
    while len(jobs) + 6 <= tasks:
        at += chance.expovariate(rate)
        width = min(chance.randint(4, 20), tasks - len(jobs) - 2)
        root = len(jobs)
        fan = tuple(range(root + 1, root + 1 + width))
        shapes = [((), "plan"), *(((root,), "work") for _ in fan), (fan, "join")]
        for needs, kind in shapes:
            jobs.append(
                SimulatedTask(
                    at=at,
                    work=next(works),
                    kind=kind,
                    key=f"run-{root}",
                    depends_on=needs,
                    chances=chances(chance),
                    counted=kind == "join",
                    since=at,
                )
            )
    return Scenario("graphs", tuple(crew), tuple(jobs))


LOADS: Final[dict[str, Load]] = {
    load.name: load
    for load in (
        Load("fresh", "Steady, 80 % of what the agents can do.", _steady("fresh", rho=0.8), True),
        Load(
            "stale",
            "The same, chosen by a view of the agents that is up to 2 s old.",
            _steady("fresh", rho=0.8, stale=2.0),
            True,
        ),
        Load(
            "flaky",
            "At 70 %; a fifth of all attempts fail and are tried again.",
            _steady("flaky", rho=0.7, fail_rate=0.2),
            True,
        ),
        Load(
            "heavy-tail",
            "At 70 %; few tasks are most of the work.",
            _steady("heavy-tail", rho=0.7, sigma=HEAVY_SIGMA),
            True,
        ),
        Load(
            "bursts",
            "At 65 % in the mean; most of it in 5 s of each 15.",
            _steady("bursts", rho=0.65, factor=_bursting, peak=2.5),
        ),
        Load(
            "diurnal",
            "At 60 % in the mean, between 24 % at night and 96 % at noon.",
            _steady("diurnal", rho=0.6, factor=_by_day, peak=1.6),
        ),
        Load("graphs", "Runs of a root, a fan and a join; whole runs are timed.", _graphs),
        Load("churn", "Agents crash, drain and are replaced by others.", _churn),
        Load("scarce-skill", "An eighth of the agents have what some tasks need.", _scarce_skill),
        Load("specialists", "Each agent is fast at some kinds, slow at others.", _specialists),
        Load("flaky-agents", "A fifth of the agents fail half of what they do.", _flaky_agents),
    )
}
