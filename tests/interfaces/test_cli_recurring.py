"""``callboard recurring``."""

from __future__ import annotations

import pytest

from tests.interfaces.cli_support import Cli

NIGHTLY = ("nightly", "report", '{"a": 1}', "--cron", "0 3 * * *", "--timezone", "Europe/Berlin")


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["n", "k"], "either cron or every"),
        (["n", "k", "--cron", "61 * * * *"], "minute '61'"),
        (["n", "k", "--cron", "* * * * *", "--timezone", "Mars"], "Europe/Berlin"),
        (["n", "k", "--every", "soon"], "every"),
        (["n", "k", "--every", "1m", "--catch-up", "some"], "skip or one or all"),
        (["n", "k", "{", "--every", "1m"], "JSON"),
        (["n", "k", "--every", "1m", "--rate-key", "a b"], "rate_key"),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, list) else "",
)
def test_what_cannot_recur_is_exit_code_2(cli: Cli, arguments: list[str], said: str) -> None:
    ran = cli("recurring", "create", *arguments)

    assert ran.code == 2
    assert said in " ".join(ran.err.split())


@pytest.mark.parametrize("command", ["show", "next", "pause", "resume", "trigger", "delete"])
def test_one_that_is_not_there_is_exit_code_4(cli: Cli, command: str) -> None:
    ran = cli("recurring", command, "nosuch")

    assert ran.code == 4
    assert "callboard recurring list" in ran.err


def test_none_teach(cli: Cli) -> None:
    assert "callboard recurring create NAME KIND" in cli.ok("recurring", "list").out
    assert cli.json("recurring", "list") == {"recurring": []}


def test_one_is_created_shown_and_listed(cli: Cli) -> None:
    made = cli.ok("recurring", "create", *NIGHTLY, "--priority", "high", "--rate-key", "r").out
    listed = cli.ok("recurring", "list").out
    value = cli.json("recurring", "show", "nightly")

    assert "0 3 * * * Europe/Berlin" in made
    assert "rate r" in made
    assert listed.splitlines()[1].split()[:2] == ["nightly", "0"]
    assert value["definition"]["payload"] == {"a": 1}
    assert value["definition"]["template"]["priority"] == 10


def test_a_name_is_taken_unless_it_is_to_be_replaced(cli: Cli) -> None:
    cli.ok("recurring", "create", *NIGHTLY)
    cli.ok("recurring", "create", *NIGHTLY)

    taken = cli("recurring", "create", "nightly", "report", "--every", "1h")
    replaced = cli.json("recurring", "create", "nightly", "report", "--every", "1h", "--replace")

    assert taken.code == 1
    assert "--replace" in taken.err
    assert replaced["definition"]["every"] == 3_600


def test_next_ticks_are_told_in_their_zone_and_in_utc(cli: Cli) -> None:
    cli.ok("recurring", "create", *NIGHTLY)

    shown = cli.ok("recurring", "next", "nightly", "-n", "2").out.splitlines()
    value = cli.json("recurring", "next", "nightly", "-n", "2")

    assert len(shown) == len(value["ticks"]) == 2
    assert " 03:00:00 CE" in shown[0]
    assert shown[0].endswith(value["ticks"][0])


def test_pause_resume_trigger_and_delete(cli: Cli) -> None:
    cli.ok("recurring", "create", *NIGHTLY, "--board", "b")

    paused = cli.ok("recurring", "pause", "nightly").out
    shown = cli.ok("recurring", "show", "nightly").out
    task = cli.json("recurring", "trigger", "nightly")
    resumed = cli.json("recurring", "resume", "nightly")
    deleted = cli.ok("recurring", "delete", "nightly").out

    assert "callboard recurring resume nightly" in paused
    assert "It fires nothing" in shown
    assert task["task"].startswith("nightly-")
    assert cli.json("tasks", "show", task["task"], "--board", "b")["kind"] == "report"
    assert resumed["is_paused"] is False
    assert deleted == "Deleted nightly. Its tasks stay.\n"
