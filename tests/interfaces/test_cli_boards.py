"""``callboard boards``."""

from __future__ import annotations

import pytest

from tests.interfaces.cli_support import Cli


@pytest.mark.parametrize("command", [["show"], ["pause"], ["resume"]], ids=lambda c: c[0])
def test_a_board_that_is_not_there_is_exit_code_4(cli: Cli, command: list[str]) -> None:
    ran = cli("boards", *command, "nosuch")

    assert ran.code == 4
    assert "'nosuch'" in ran.err


@pytest.mark.parametrize(
    "arguments",
    [["pause"], ["pause", "a", "--all"], ["resume"], ["set", "a"], ["set", "a", "--limit", "0"]],
)
def test_what_is_not_clear_is_exit_code_2(cli: Cli, arguments: list[str]) -> None:
    assert cli("boards", *arguments).code == 2


def test_no_boards_teaches(cli: Cli) -> None:
    assert "callboard tasks add" in cli.ok("boards", "list").out
    assert cli.json("boards", "list") == {"boards": []}


def test_boards_are_listed_with_their_counts(cli: Cli, monkeypatch: pytest.MonkeyPatch) -> None:
    cli.add("greet")
    cli.add("greet", "--board", "run-42")
    monkeypatch.setenv("COLUMNS", "60")

    shown = cli.ok("boards", "list").out.splitlines()
    value = cli.json("boards", "list")

    assert [line.split()[:2] for line in shown[1:]] == [["default", "1"], ["run-42", "1"]]
    assert max(map(len, shown)) <= 60
    assert [board["counts"]["pending"] for board in value["boards"]] == [1, 1]


def test_a_board_is_shown_as_a_bar(cli: Cli, monkeypatch: pytest.MonkeyPatch) -> None:
    for _ in range(3):
        cli.add("greet")
    cli.claim()
    cli.bury("greet")
    monkeypatch.setenv("COLUMNS", "60")

    shown = cli.ok("boards", "show").out
    value = cli.json("boards", "show", "default")

    assert "▓" in shown
    assert "2 pending" in shown
    assert "1 failed" in shown
    assert "callboard dlq list --board default" in shown
    assert max(map(len, shown.splitlines())) <= 60
    assert value["counts"]["dead_letters"] == 1


def test_pause_and_resume(cli: Cli) -> None:
    cli.add("greet")

    paused = cli.ok("boards", "pause", "default")
    shown = cli.ok("boards", "show").out
    resumed = cli.json("boards", "resume", "default")

    assert paused.out == "Paused board 'default'. Held tasks go on.\n"
    assert "Resume it: callboard boards resume default" in shown
    assert resumed == {"board": "default", "kinds": [], "paused": False}
    assert cli.json("boards", "show")["is_paused"] is False


def test_kinds_are_paused_by_name(cli: Cli) -> None:
    cli.add("greet")

    cli.ok("boards", "pause", "default", "--kind", "deploy,greet")
    cli.ok("boards", "resume", "default", "--kind", "greet")

    assert cli.json("boards", "show")["paused_kinds"] == ["deploy"]
    assert "Paused kinds: deploy" in cli.ok("boards", "show").out


def test_the_whole_namespace_is_paused(cli: Cli) -> None:
    cli.add("greet")

    cli.ok("boards", "pause", "--all")
    paused = cli.json("boards", "show")["is_paused"]
    cli.ok("boards", "resume", "--all")

    assert paused is True
    assert cli.json("boards", "show")["is_paused"] is False


def test_settings_are_made_and_shown(cli: Cli) -> None:
    made = cli.json("boards", "set", "run-42", "--limit", "50000", "--finished-for", "7d")
    shown = cli.ok("boards", "show", "run-42").out

    assert made["settings"]["limit"] == 50_000
    assert made["settings"]["finished_for"] == 604_800
    assert "50,000" in shown
    assert "No tasks. Add one: callboard tasks add KIND PAYLOAD --board run-42" in shown


def test_the_step_of_a_board_cannot_change(cli: Cli) -> None:
    cli.add("greet")

    ran = cli("boards", "set", "default", "--step", "5m")

    assert ran.code == 1
    assert "priority step" in ran.err


def test_waiting_tasks_are_shown_by_priority_and_cleared(cli: Cli) -> None:
    assert "callboard boards show default" in cli.ok("boards", "queues").out
    for priority in ("high", "high", "low"):
        cli.add("greet", "--priority", priority)
    cli.claim()

    shown = cli.ok("boards", "queues").out.splitlines()
    cleared = cli.json("boards", "clear", "--priority", "high")
    after = cli.json("boards", "queues")

    assert [line.split() for line in shown] == [
        *(["urgent", "0"], ["critical", "0"], ["high", "1"], ["normal", "0"], ["low", "1"])
    ]
    assert cleared == {"board": "default", "priority": "high", "cleared": 1}
    assert (after["queues"]["high"], after["queues"]["low"]) == (0, 1)


@pytest.mark.parametrize("priority", [[], ["--priority", "asap"]], ids=["none", "unknown"])
def test_a_queue_to_clear_needs_a_priority_that_there_is(cli: Cli, priority: list[str]) -> None:
    ran = cli("boards", "clear", *priority)

    assert ran.code == 2
    assert "urgent" in ran.err
