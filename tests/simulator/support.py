"""Small scenarios, and a chooser that does what the test says."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from callboard.simulator.choosing import chooser_of
from callboard.simulator.scenario import Scenario, SimulatedAgent, SimulatedTask
from callboard.simulator.simulation import Agent, Chooser, Job, Simulation


class Scripted:
    """Pushes as told: by the task's id to an agent's, or to nobody."""

    is_push = True
    is_oracle = False

    def __init__(self, choose: Callable[[str], str | None]) -> None:
        self.decisions = 0
        self._choose = choose
        self._agents: dict[str, Agent] = {}

    def join(self, agent: Agent) -> None:
        self._agents[agent.id] = agent

    def leave(self, agent: Agent) -> None:
        del self._agents[agent.id]

    def moved(self, agent: Agent) -> None: ...

    def ended(self, agent: Agent, kind: str, seconds: float, is_done: bool, now: float) -> None: ...

    def choose(self, job: Job, now: float) -> Agent | None:
        chosen = None if job.was_passed_up else self._choose(job.id)
        return self._agents.get(chosen or "")


def scenario(
    agents: Sequence[SimulatedAgent], tasks: Sequence[SimulatedTask], **settings: object
) -> Scenario:
    return Scenario("made", tuple(agents), tuple(tasks), **settings)  # type: ignore[arg-type]


def run(made: Scenario, chooser: str | Chooser = "best_idle", **settings: object) -> Simulation:
    if isinstance(chooser, str):
        chooser = chooser_of(chooser, stale=made.stale)
    simulation = Simulation(made, chooser, **settings)  # type: ignore[arg-type]
    simulation.run()
    return simulation


def ended(simulation: Simulation) -> list[float | None]:
    """When each task ended, to the millisecond."""
    return [job.ended_at and round(job.ended_at, 3) for job in simulation.jobs]


def began(simulation: Simulation) -> list[float | None]:
    return [job.began_at and round(job.began_at, 3) for job in simulation.jobs]
