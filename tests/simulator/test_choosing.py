"""The simulator chooses with the engine's own code, and asks one's own as the engine does."""

from __future__ import annotations

import sys

import pytest

from callboard.domain.strategy import STRATEGIES
from callboard.exceptions import ConfigError, InvalidArgument, StrategyFailed
from callboard.simulator.choosing import ORACLE, check_strategies
from callboard.simulator.comparison import simulate
from callboard.simulator.loads import draw

OWN = "tests.simulator.strategies"


@pytest.mark.parametrize("strategy", STRATEGIES)
def test_each_strategy_of_the_engine_does_all_tasks(strategy: str) -> None:
    measures = simulate(draw("churn", 1, agents=8, tasks=200), strategy)

    assert (measures.done, measures.failed, measures.unfinished) == (200, 0, 0)
    assert measures.decisions > 0


@pytest.mark.parametrize("load", ["fresh", "stale", "specialists", "scarce-skill"])
def test_a_strategy_in_python_sees_what_one_of_the_engine_sees(load: str) -> None:
    scenario = draw(load, 1, agents=10, tasks=300)

    assert simulate(scenario, f"{OWN}:FewestTasks") == simulate(scenario, "least_connections")


def test_a_strategy_that_throws_is_named() -> None:
    with pytest.raises(StrategyFailed, match=r"Throws.*no agents to divide by"):
        simulate(draw("fresh", 1, agents=2, tasks=2), f"{OWN}:Throws")


def test_aliases_stand_for_their_strategy_and_each_is_taken_once() -> None:
    found = check_strategies(["least-loaded", "Least_Connections", ORACLE, "round-robin"])

    assert found == ("least_connections", "oracle", "round_robin")


@pytest.mark.parametrize(
    ("given", "says"),
    [
        ("leest_connections", "did you mean least_connections"),
        ("xyz", "known are best_idle"),
        (f"{OWN}:Nothing", "Cannot import"),
        ("no_such_module_at_all:x", "Cannot import"),
        (f"{OWN}:NO_STRATEGY", r"without a method choose"),
    ],
)
def test_what_is_no_strategy_is_refused(given: str, says: str) -> None:
    with pytest.raises(InvalidArgument, match=says):
        check_strategies([given])


def test_without_lupa_the_error_says_how_to_install_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "lupa.lua51", None)

    with pytest.raises(ConfigError, match=r"with the extra simulate"):
        check_strategies(["best_idle"])
