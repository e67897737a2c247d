"""A comparison says the same whoever runs it, and holds all against the oracle."""

from __future__ import annotations

from pathlib import Path

import pytest

from callboard.exceptions import InvalidArgument, StrategyFailed
from callboard.simulator.comparison import Settings, compare

SMALL = Settings(seeds=2, agents=6, tasks=120, processes=1)


def test_the_number_of_processes_changes_nothing() -> None:
    loads, strategies = ["fresh", "churn"], ["best_idle", "round_robin"]
    heard: list[tuple[int, int]] = []

    alone = compare(loads, strategies, SMALL)
    in_two = compare(
        loads,
        strategies,
        Settings(seeds=2, agents=6, tasks=120, processes=2),
        lambda done, of: heard.append((done, of)),
    )

    assert alone == in_two
    assert heard == [(n, 12) for n in range(1, 13)]


def test_the_oracle_is_the_first_row_and_the_measure_of_the_others() -> None:
    (table,) = compare(["fresh"], ["best_idle", "oracle"], SMALL)

    assert [row.strategy for row in table.rows] == ["oracle", "best_idle"]
    oracle, own = table.rows
    assert (oracle.ratio.low, oracle.ratio.high) == (1.0, 1.0)
    ratios = [own.seeds[i].p95 / oracle.seeds[i].p95 for i in range(2)]
    assert own.ratio.median == pytest.approx(sum(ratios) / 2)
    assert (own.ratio.low, own.ratio.high) == (min(ratios), max(ratios))


@pytest.mark.parametrize(
    ("settings", "says"),
    [
        (Settings(seeds=0), "seeds is 0; it must be 1 to 100"),
        (Settings(agents=1_001), "agents is 1001"),
        (Settings(tasks=0), "tasks is 0"),
        (Settings(prefetch=-1), "prefetch is -1"),
        (Settings(processes=0), "processes is 0"),
    ],
)
def test_a_setting_out_of_bounds_is_refused(settings: Settings, says: str) -> None:
    with pytest.raises(InvalidArgument, match=says):
        compare(["fresh"], ["best_idle"], settings)


@pytest.mark.parametrize(
    ("load", "says"), [("flake", "did you mean flaky"), ("no/such.jsonl", "there are fresh")]
)
def test_what_is_no_load_is_refused(load: str, says: str) -> None:
    with pytest.raises(InvalidArgument, match=says):
        compare([load], ["best_idle"], SMALL)


def test_a_fault_in_another_process_is_told_here() -> None:
    settings = Settings(seeds=4, agents=2, tasks=10, processes=2)

    with pytest.raises(StrategyFailed, match="Throws"):
        compare(["fresh"], ["tests.simulator.strategies:Throws"], settings)


def test_a_recorded_load_is_run_once(tmp_path: Path) -> None:
    file = tmp_path / "load.jsonl"
    file.write_text('{"at": 0, "seconds": 1}\n{"at": 1, "seconds": 2}\n', "utf-8")

    (table,) = compare([str(file)], ["best_idle"], SMALL)

    assert (table.load, table.tasks, len(table.rows[0].seeds)) == (str(file), 2, 1)
