"""``callboard scheduler``: strategies, assignments, decisions and load, for people and programs."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.interfaces.cli_support import Cli

# Refusals


def test_an_assignment_of_nothing_is_refused_with_what_to_give(cli: Cli) -> None:
    ran = cli("--json", "scheduler", "assign")

    assert (ran.code, ran.error["code"]) == (2, "invalid_argument")
    assert ran.error["message"] == "Give ids of TASKs, or --most N for the next ones."


@pytest.mark.parametrize("verb", [("set", "round_robbin"), ("assign", "t", "-s", "round_robbin")])
def test_a_mistyped_strategy_is_told_with_those_there_are(cli: Cli, verb: tuple[str, ...]) -> None:
    ran = cli("--json", "scheduler", *verb)

    assert (ran.code, ran.error["code"]) == (2, "invalid_argument")
    assert "round_robin" in ran.error["message"]


def test_a_strategy_that_cannot_be_imported_is_told(cli: Cli) -> None:
    ran = cli("--json", "scheduler", "assign", "t", "--strategy", "no_such_module:pick")

    assert ran.code == 2
    assert "Cannot import the strategy 'no_such_module:pick'" in ran.error["message"]


def test_a_strategy_that_throws_is_named(
    cli: Cli, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.syspath_prepend(tmp_path)
    (tmp_path / "throwing_strategy.py").write_text(
        "class Throws:\n    def choose(self, assignment):\n        raise KeyError('x')\n"
    )
    cli.ok("agents", "register", "mira")
    task = cli.add("work")

    ran = cli("--json", "scheduler", "assign", task, "-s", "throwing_strategy:Throws")

    assert ran.error["code"] == "strategy_failed"
    assert "Strategy 'throwing_strategy.Throws' failed on task" in ran.error["message"]
    assert cli.json("tasks", "show", task)["status"] == "pending"


# Where there is nothing yet


def test_where_nothing_was_decided_it_says_how_to_begin(cli: Cli) -> None:
    assert "callboard scheduler assign --most 10" in cli.ok("scheduler", "decisions").out
    assert "No decision matches" in cli.ok("scheduler", "decisions", "--agent", "mira").out
    assert "Nothing waits on board 'default'" in cli.ok("scheduler", "assign", "--most", "3").out
    assert "callboard worker module:app" in cli.ok("scheduler", "load").out
    assert "an agent claimed it by itself" in cli.ok("scheduler", "why", "t").out


# What it does


def test_the_strategies_are_listed_with_what_they_take_and_the_boards(cli: Cli) -> None:
    told = cli.ok("scheduler", "strategies").out

    assert "least_connections" in told
    assert "the fewest tasks" in told
    assert told.rstrip().endswith("Board 'default' goes by best_idle.")


def test_a_boards_strategy_is_set_by_name_or_alias_and_shown(cli: Cli) -> None:
    assert cli.ok("scheduler", "set", "round-robin", "-b", "b").out == (
        "Board 'b' goes by round_robin.\n"
    )
    cli.ok("boards", "set", "c", "--strategy", "least-loaded")

    assert cli.json("scheduler", "strategies", "-b", "b")["strategy"] == "round_robin"
    assert cli.json("boards", "show", "c")["settings"]["strategy"] == "least_connections"


def test_tasks_are_assigned_and_it_is_told_to_whom_and_why(cli: Cli) -> None:
    cli.ok("agents", "register", "mira", "--weight", "2", "--priority", "5")
    cli.ok("agents", "register", "noor")
    ids = [cli.add("work") for _ in range(3)]

    told = cli.ok("scheduler", "assign", ids[0], "-s", "least_connections").out
    rest = cli.json("scheduler", "assign", "--most", "5", "-s", "least_connections")

    assert told == (
        "Agent 'mira', of 2 with room, by least_connections: it has the fewest tasks: 0.\n"
    )
    assert [(d["task"], d["agent"], d["status"]) for d in rest["decisions"]] == [
        (ids[1], "noor", "ok"),
        (ids[2], "mira", "ok"),
    ]
    why = cli.ok("scheduler", "why", ids[1]).out
    assert "Compared" in why
    assert "noor" in why
    assert "by least_connections" in cli.ok("tasks", "why", ids[1]).out
    listed = cli.json("scheduler", "decisions", "--agent", "mira")["decisions"]
    assert [d["task"] for d in listed] == [ids[2], ids[0]]
    assert ids[2] in cli.ok("scheduler", "decisions").out


def test_the_load_names_what_the_documented_statistics_name(cli: Cli) -> None:
    cli.ok("agents", "register", "mira", "--weight", "2")
    cli.ok("agents", "register", "noor")
    for _ in range(3):
        cli.add("work")
    cli.ok("scheduler", "assign", "--most", "3", "-s", "weighted_round_robin")

    stats = cli.json("scheduler", "load")

    assert stats == {
        "strategy": "best_idle",
        "total_assignments": 3,
        "successful_assignments": 3,
        "failed_assignments": 0,
        "success_rate": 1.0,
        "active_agents": 2,
        "agent_weights": 1,
        "avg_agent_load": 1.5,
        "loads": {"mira": 2, "noor": 1},
    }
    told = cli.ok("scheduler", "load").out
    assert "1.5 tasks" in told
    assert "mira" in told
    agent = cli.json("agents", "show", "mira")
    assert (agent["weight"], agent["priority"]) == (2.0, 0)


def test_the_distribution_names_what_the_documented_statistics_name(cli: Cli) -> None:
    cli.ok("agents", "register", "mira")
    cli.add("work")

    stats = cli.json("scheduler", "distribution")

    names = ("tasks_distributed", "tasks_completed", "tasks_failed", "avg_distribution_time")
    assert [stats[name] for name in names] == [0, 0, 0, 0.0]
    assert (stats["load"]["strategy"], stats["load"]["active_agents"]) == ("least_connections", 1)
    told = cli.ok("scheduler", "distribution").out
    assert "callboard serve" in told
    assert "least_connections" in told


def test_a_strategy_of_ones_own_is_named_by_module_and_attribute(
    cli: Cli, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.syspath_prepend(tmp_path)
    (tmp_path / "last_strategy.py").write_text(
        "class Last:\n    def choose(self, assignment):\n"
        "        return assignment.candidates[-1].id\n"
    )
    cli.ok("agents", "register", "mira")
    cli.ok("agents", "register", "noor")
    task = cli.add("work")

    (decision,) = cli.json("scheduler", "assign", task, "-s", "last_strategy:Last")["decisions"]

    assert (decision["agent"], decision["strategy"]) == ("noor", "last_strategy.Last")
