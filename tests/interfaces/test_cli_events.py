"""``callboard tail``."""

from __future__ import annotations

import json
import signal

import pytest

from tests.interfaces.cli_support import Cli


@pytest.mark.parametrize(
    "arguments",
    [["--cursor", "nonsense"], ["--since", "yore"], ["--since", "1h", "--cursor", "a:1"]],
)
def test_a_place_that_is_none_is_exit_code_2(cli: Cli, arguments: list[str]) -> None:
    ran = cli("tail", "--no-follow", *arguments)

    assert ran.code == 2
    assert ran.err.startswith("Error: ")


@pytest.mark.parametrize("how", [["--no-follow"], []])
def test_a_type_that_no_event_has_is_refused_with_the_nearest(cli: Cli, how: list[str]) -> None:
    ran = cli("--json", "tail", *how, "--type", "task:*", "--type", "task:complete")

    assert (ran.code, ran.error["details"]) == (2, {"field": "types"})
    assert "Did you mean task:completed?" in ran.error["message"]


def test_what_happened_is_told_a_line_a_fact(cli: Cli) -> None:
    task = cli.add("greet")
    cli.claim()

    lines = cli.ok("tail", "--no-follow", "--since", "1h", "--type", "task:*").out.splitlines()

    assert ["task:created" in lines[0], "task:claimed" in lines[1]] == [True, True]
    assert all(task in line for line in lines)
    assert "mira" in lines[1]


def test_json_is_a_line_an_event(cli: Cli) -> None:
    task = cli.add("greet")

    lines = cli.ok("--json", "tail", "--no-follow", "--type", "task:created").out.splitlines()

    (event,) = map(json.loads, lines)
    assert (event["type"], event["board"], event["facts"][0]["id"]) == (
        "task:created",
        "default",
        task,
    )
    assert event["at"].endswith("Z")


def test_events_of_one_board_and_so_many(cli: Cli) -> None:
    cli.add("greet")
    for _ in range(2):
        cli.add("greet", "--board", "run-42")
    choice = ["tail", "--no-follow", "--type", "task:*", "--board", "run-42"]

    every = cli.ok("--json", *choice).out.splitlines()
    first = cli.ok("--json", *choice, "--limit", "1").out.splitlines()

    assert [json.loads(line)["board"] for line in every] == ["run-42", "run-42"]
    assert first == every[:1]


def test_it_goes_on_behind_a_cursor(cli: Cli) -> None:
    cli.add("greet")
    seen = [json.loads(line) for line in cli.ok("--json", "tail", "--no-follow").out.splitlines()]
    task = cli.add("greet")

    after = cli.ok("--json", "tail", "--no-follow", "--cursor", seen[-1]["cursor"]).out

    assert [json.loads(line)["facts"][0]["id"] for line in after.splitlines()] == [task]


def test_a_gap_is_told(cli: Cli) -> None:
    cli.add("greet")

    told = cli.ok("tail", "--no-follow", "--cursor", "another:7").out
    value = json.loads(cli.ok("--json", "tail", "--no-follow", "--cursor", "another:7").out)

    assert told.startswith("Gap: the cursor is of another life")
    assert (value["type"], value["reason"]) == ("gap", "incarnation")


def test_it_follows_until_it_is_interrupted(cli: Cli) -> None:
    cli.add("greet")
    tail = cli.started("tail", "--since", "1h", "--type", "task:*")
    tail.read_until("task:created")

    cli.claim()
    tail.read_until("task:claimed")
    tail.signal(signal.SIGINT)
    ran = tail.end()

    assert ran.code == 130
    assert ran.err == ""


def test_sigterm_ends_it_as_cleanly(cli: Cli) -> None:
    cli.add("greet")
    tail = cli.started("tail", "--since", "1h", "--json")
    tail.read_until("task:created")

    tail.signal(signal.SIGTERM)
    ran = tail.end()

    assert ran.code == 143
    assert ran.err == ""
