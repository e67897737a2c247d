"""``callboard metrics``."""

from __future__ import annotations

import pytest
from prometheus_client.parser import text_string_to_metric_families

from tests.interfaces.cli_support import Cli


@pytest.mark.parametrize(
    "arguments",
    [
        ("record", "latency", "fast"),
        ("record", "latency", "inf"),
        ("record", "no name", "1"),
        ("record", "latency", "1", "--tag", "kind"),
        ("record", "loss", "1", "--training", "p"),
        ("series", "latency", "--every", "0"),
        ("series", "latency", "--every", "1m", "--aggregate", "median"),
        ("top", "--window", "0"),
        ("set", "latency", "--points", "0"),
        ("clear",),
    ],
    ids=" ".join,
)
def test_what_cannot_be_meant_is_refused(cli: Cli, arguments: tuple[str, ...]) -> None:
    assert cli("metrics", *arguments, "--json").code == 2


def test_a_board_that_is_not_there_is_not_measured(cli: Cli) -> None:
    assert cli("metrics", "show", "--board", "nowhere", "--json").error["code"] == "board_not_found"


def test_where_there_is_nothing_it_says_what_to_do(cli: Cli) -> None:
    assert "callboard tasks add" in cli.ok("metrics", "show").out
    for name in (("series",), ("top",)):
        assert "callboard metrics record" in cli.ok("metrics", *name).out
    assert cli.ok("metrics", "series", "latency").out.startswith("No points of 'latency'")
    assert cli.json("metrics", "series") == {"series": []}


def test_show_tells_tasks_agents_and_cost(cli: Cli, monkeypatch: pytest.MonkeyPatch) -> None:
    cli.bury("fetch")
    cli.add("greet")
    monkeypatch.setenv("COLUMNS", "80")

    shown = cli.ok("metrics", "show").out
    value = cli.json("metrics", "show")
    source = cli.json("metrics", "show", "--source", "--board", "default")

    assert "failed last minute  1" in shown
    assert "fetch 1, greet 1" in shown
    assert value["task_metrics"]["pending_by_type"] == {"greet": 1}
    assert source["taskMetrics"]["totalTasks"] == 2
    assert source["performanceMetrics"]["memoryUsage"] > 0


def test_points_are_recorded_listed_and_spanned(cli: Cli) -> None:
    for value in ("1", "2", "4.5"):
        cli.ok("metrics", "record", "latency", value, "--tag", "kind=greet")

    shown = cli.ok("metrics", "series", "latency", "--tag", "kind=greet").out
    points = cli.json("metrics", "series", "latency", "--tag", "kind=greet")["points"]
    spans = cli.json(
        *("metrics", "series", "latency", "--tag", "kind=greet"),
        *("--every", "365d", "--aggregate", "sum"),
    )["points"]
    (listed,) = cli.json("metrics", "series")["series"]
    (top,) = cli.json("metrics", "top")["series"]

    assert "▁▃█" in shown
    assert [point["value"] for point in points] == [1, 2, 4.5]
    assert sum(span["value"] for span in spans) == 7.5
    assert (listed["name"], listed["tags"]) == ("latency", {"kind": "greet"})
    assert (top["points"], top["mean"]) == (3, 2.5)
    assert cli.json("metrics", "clear", "latency", "--yes") == {"removed": 1}


def test_a_training_is_recorded_by_step(cli: Cli) -> None:
    for step, loss in (("2", "0.5"), ("1", "0.9"), ("2", "0.4")):
        cli.ok("metrics", "record", "loss", loss, "--training", "proj-1", "--step", step)

    points = cli.json("metrics", "series", "loss", "--training", "proj-1")["points"]

    assert [(point["step"], point["value"]) for point in points] == [(1, 0.9), (2, 0.4)]


def test_how_much_is_kept_is_set(cli: Cli) -> None:
    assert cli.ok("metrics", "set", "latency", "--points", "2", "--keep", "1h").out == "Set.\n"
    for value in "123":
        cli.ok("metrics", "record", "latency", value)

    points = cli.json("metrics", "series", "latency")["points"]

    assert [point["value"] for point in points] == [2, 3]


def test_prometheus_reads_what_is_printed(cli: Cli) -> None:
    cli.add("greet")

    families = {f.name for f in text_string_to_metric_families(cli.ok("metrics", "prometheus").out)}

    assert {"callboard_tasks", "callboard_tasks_ended", "callboard_agents"} <= families
    assert cli.json("metrics", "prometheus")["text"].startswith("# HELP callboard_tasks ")


def test_history_is_of_what_was_sampled(cli: Cli) -> None:
    cli.add("greet")
    cli.ok("metrics", "prometheus")

    points = cli.json("metrics", "history", "totalTasks")["points"]

    assert [point["value"] for point in points] == [1]
