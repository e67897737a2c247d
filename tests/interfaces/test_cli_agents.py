"""``callboard agents``."""

from __future__ import annotations

import pytest

from tests.interfaces.cli_support import Cli


@pytest.mark.parametrize("verb", ["show", "tasks", "drain", "activate", "deregister", "heartbeat"])
def test_an_agent_that_is_not_there_is_exit_code_4(cli: Cli, verb: str) -> None:
    ran = cli("agents", verb, "nosuch", "--json")

    assert ran.code == 4
    assert ran.error["code"] == "agent_not_found"


def test_a_status_that_is_none_is_exit_code_2(cli: Cli) -> None:
    ran = cli("agents", "list", "--status", "asleep")

    assert ran.code == 2
    assert "draining" in ran.err


def test_no_agents_teaches(cli: Cli) -> None:
    assert cli.ok("agents", "list").out == (
        "No agents. Start a worker: callboard worker module:app\n"
    )
    assert cli.ok("agents", "list", "--capability", "sql").out == "No agents match.\n"
    assert cli.json("agents", "list") == {"agents": []}


def test_agents_are_registered_found_and_shown(cli: Cli, monkeypatch: pytest.MonkeyPatch) -> None:
    told = cli.ok(
        *("agents", "register", "mira", "--type", "specialist", "--capability", "python,sql"),
        *("--service", "mail", "--label", "zone=eu", "--kind", "greet", "--tag", "night"),
        *("--max-concurrent", "3", "--interval", "1m"),
    )
    cli.ok("agents", "register", "noor")
    monkeypatch.setenv("COLUMNS", "60")

    listed = cli.ok("agents", "list").out
    found = cli.json("agents", "list", "--capability", "sql", "--label", "zone=eu")
    shown = cli.ok("agents", "show", "mira").out
    value = cli.json("agents", "show", "mira")

    assert told.out == "Agent mira registered; it is active.\n"
    assert [agent["id"] for agent in found["agents"]] == ["mira"]
    assert max(map(len, listed.splitlines())) <= 60
    assert "mira" in listed
    assert "python, sql" in shown
    assert (value["agent_type"], value["max_concurrent"], value["heartbeat_interval"]) == (
        "specialist",
        3,
        60.0,
    )


def test_an_agent_is_heard(cli: Cli) -> None:
    cli.ok("agents", "register", "mira")

    assert cli.ok("agents", "heartbeat", "mira").out == "Agent mira heard.\n"
    cli.ok("agents", "drain", "mira")
    assert "no new work" in cli.ok("agents", "heartbeat", "mira").out


def test_an_agent_drains_and_is_active_again(cli: Cli) -> None:
    cli.add("greet")
    cli.ok("agents", "register", "mira")

    drained = cli.ok("agents", "drain", "mira")
    refused = cli("tasks", "claim", "--agent", "mira")
    again = cli.json("agents", "activate", "mira")

    assert "Undo it: callboard agents activate mira" in drained.out
    assert refused.code == 1
    assert again == {"agent": "mira", "status": "active", "before": "draining"}
    cli.claim()


def test_what_a_deregistered_agent_held_goes_back(cli: Cli) -> None:
    cli.add("greet")
    task, _ = cli.claim()

    told = cli.ok("agents", "deregister", "mira")

    assert told.out == "Agent mira is off the roster; 1 task went back.\n"
    assert cli.json("tasks", "show", task)["status"] == "pending"


def test_the_tasks_that_an_agent_holds_are_listed(cli: Cli) -> None:
    cli.ok("agents", "register", "mira")
    empty = cli.ok("agents", "tasks", "mira").out
    cli.ok("tasks", "add", "greet", "--id", "t1")
    cli.ok("tasks", "claim", "--agent", "mira")

    told = cli.ok("agents", "tasks", "mira").out
    (task,) = cli.json("agents", "tasks", "mira")["tasks"]

    assert empty == "mira holds no task. What waits: callboard boards list\n"
    assert "t1" in told
    assert (task["board"], task["id"]) == ("default", "t1")
    assert str(task["fence"]) in told
