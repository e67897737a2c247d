"""The gate: the default strategy holds its own on each of the loads that it is judged by."""

from __future__ import annotations

import pytest

from callboard.domain.strategy import BEST_IDLE, STRATEGIES
from callboard.simulator.comparison import Settings, compare
from callboard.simulator.loads import LOADS

OF_THE_ORACLE = 1.25
OF_THE_BEST = 1.05


@pytest.mark.parametrize("load", [load.name for load in LOADS.values() if load.is_reference])
def test_the_default_is_near_the_oracle_and_no_worse_than_any_other(load: str) -> None:
    (table,) = compare([load], STRATEGIES, Settings(seeds=3, tasks=3_000, processes=1))

    ratio = {row.strategy: row.ratio.median for row in table.rows}
    best = min(ratio[strategy] for strategy in STRATEGIES if strategy != BEST_IDLE)
    assert ratio[BEST_IDLE] <= OF_THE_ORACLE, ratio
    assert ratio[BEST_IDLE] <= OF_THE_BEST * best, ratio
