"""Loads are drawn from their seed alone, and are what they say."""

from __future__ import annotations

import math

import pytest

from callboard.simulator.loads import LOADS, draw
from callboard.simulator.scenario import CHANCES, Scenario


def offered(scenario: Scenario) -> float:
    """Work that comes in a second, as a share of what the first agents can do."""
    capacity = sum(a.speed * a.slots for a in scenario.agents if a.joins_at == 0)
    return math.fsum(t.work for t in scenario.tasks) / scenario.tasks[-1].at / capacity


@pytest.mark.parametrize("name", LOADS)
def test_a_load_is_the_same_for_the_same_seed_and_another_for_another(name: str) -> None:
    assert draw(name, 1, tasks=100) == draw(name, 1, tasks=100)
    assert draw(name, 1, tasks=100) != draw(name, 2, tasks=100)


@pytest.mark.parametrize("name", LOADS)
def test_a_load_has_what_was_asked_for(name: str) -> None:
    drawn = draw(name, 1, agents=10, tasks=500)

    assert 480 <= len(drawn.tasks) <= 500
    assert len([agent for agent in drawn.agents if agent.joins_at == 0]) == 10
    assert all(task.work > 0 and len(task.chances) == CHANCES for task in drawn.tasks)
    assert [t.at for t in drawn.tasks] == sorted(t.at for t in drawn.tasks)
    assert any(task.counted for task in drawn.tasks)


@pytest.mark.parametrize(
    ("name", "rho"),
    [("fresh", 0.8), ("stale", 0.8), ("flaky", 0.7), ("bursts", 0.65), ("graphs", 0.6)],
)
def test_the_agents_are_as_busy_as_the_load_says(name: str, rho: float) -> None:
    means = [offered(draw(name, seed, tasks=20_000)) for seed in (1, 2, 3)]

    assert sum(means) / 3 == pytest.approx(rho, rel=0.1)


def test_a_heavy_tail_is_mostly_few_tasks() -> None:
    def share(name: str) -> float:
        works = sorted((t.work for t in draw(name, 1, tasks=20_000).tasks), reverse=True)
        return sum(works[:200]) / sum(works)

    assert share("fresh") < 0.12
    assert share("heavy-tail") > 0.2


def test_stale_is_fresh_but_for_the_age_of_the_view() -> None:
    fresh, stale = draw("fresh", 3, tasks=50), draw("stale", 3, tasks=50)

    assert (fresh.agents, fresh.tasks) == (stale.agents, stale.tasks)
    assert (fresh.stale, stale.stale) == (0.0, 2.0)


def test_every_agent_of_a_scarce_skill_can_do_the_rest_too() -> None:
    drawn = draw("scarce-skill", 1)

    assert sum("rare" in agent.skills for agent in drawn.agents) == 5
    needing = sum(bool(task.requires) for task in drawn.tasks) / len(drawn.tasks)
    assert 0.02 < needing < 0.25
