"""``callboard conflicts``: reported, voted on, referred, decided."""

from __future__ import annotations

import pytest

from tests.interfaces.cli_support import Cli


def reported(cli: Cli, *arguments: str) -> str:
    """A conflict of mira and noor over a lock; its id."""
    conflict: str = cli.json("conflicts", "report", "resource", "db", "mira", "noor", *arguments)[
        "id"
    ]
    return conflict


# Refusals


def test_where_there_is_none_it_says_how_to_report_one(cli: Cli) -> None:
    for more in ([], ["--resolved"], ["--for", "ann"]):
        assert "callboard conflicts report" in cli.ok("conflicts", "list", *more).out
    assert cli("conflicts", "show", "c").code == 4


@pytest.mark.parametrize(
    "arguments",
    [
        ["quarrel", "db", "mira"],
        ["resource", "db", "mira", "mira"],
        ["resource", "db", "mira", "--priority", "noor=1"],
        ["resource", "db", "mira", "--priority", "mira=high"],
        ["resource", "db", "mira", "--priority", "mira"],
        ["context", "p", "mira"],
    ],
    ids=" ".join,
)
def test_what_is_no_report_is_exit_code_2(cli: Cli, arguments: list[str]) -> None:
    ran = cli("conflicts", "report", *arguments)

    assert ran.code == 2
    assert ran.err.startswith("Error: ")


def test_a_missing_priority_and_an_unknown_strategy_are_told_with_the_cure(cli: Cli) -> None:
    conflict = reported(cli, "--priority", "mira=1")

    missing = cli("--json", "conflicts", "resolve", conflict)
    unknown = cli("conflicts", "resolve", conflict, "--strategy", "coin")

    assert (missing.code, missing.error["code"]) == (2, "missing_input")
    assert missing.error["details"]["missing"] == ["noor"]
    assert unknown.code == 2
    assert "Known are: priority, timestamp, optimistic" in unknown.err


def test_what_was_decided_is_final(cli: Cli) -> None:
    conflict = reported(cli)
    cli.ok("conflicts", "resolve", conflict, "--priority", "mira=1", "--priority", "noor=2")

    ran = cli("--json", "conflicts", "resolve", conflict, "--priority", "mira=9")

    assert (ran.code, ran.error["code"]) == (1, "already_resolved")
    assert ran.error["details"]["winner"] == "noor"


# What it does


def test_a_verdict_writes_the_winners_value(cli: Cli) -> None:
    conflict = cli.json(
        *("conflicts", "report", "context", "proj-1", "mira", "noor", "--about", "status"),
        *("--priority", "mira=1", "--priority", "noor=5"),
        *("--value", "mira=done", "--value", 'noor={"step": 3}'),
    )["id"]

    said = cli.ok("conflicts", "resolve", conflict).out

    assert f"Conflict {conflict}: noor wins, by priority." in said
    assert "written" in said
    assert cli.json("context", "show", "proj-1")["fields"] == {"status": {"step": 3}}


def test_a_vote_is_taken_and_decides(cli: Cli) -> None:
    conflict = reported(cli)
    opened = cli.ok("conflicts", "poll", conflict, "-m", "ann,bob", "-m", "eve").out
    assert f"3 may vote on {conflict}, 2 have to." in opened

    cli.ok("conflicts", "vote", conflict, "ann", "mira")
    assert cli("conflicts", "vote", conflict, "carl", "mira").code == 1
    shown = cli.ok("conflicts", "show", conflict).out
    last = cli.ok("conflicts", "vote", conflict, "bob", "mira").out

    assert "not yet: bob, eve" in shown
    assert last == f"Vote of bob taken. Conflict {conflict} is decided for mira.\n"
    assert "mira by vote" in cli.ok("conflicts", "list", "--resolved").out


def test_an_arbiter_finds_what_lies_with_them_and_decides(cli: Cli) -> None:
    conflict = reported(cli)
    cli.ok("conflicts", "refer", conflict, "ann", "--deadline", "10m")

    (pending,) = cli.json("conflicts", "list", "--for", "ann")["conflicts"]
    assert pending["id"] == conflict
    assert "lies with ann" in cli.ok("conflicts", "list").out
    assert cli("conflicts", "decide", conflict, "mira", "--by", "bob").code == 1
    cli.ok("conflicts", "decide", conflict, "mira", "--by", "ann", "--reason", "she was first")

    shown = cli.json("conflicts", "show", conflict)
    assert shown["resolution"]["winner"] == "mira"
    assert [entry["what"] for entry in shown["trail"]] == ["reported", "referred", "resolved"]
    assert "because   she was first" in cli.ok("conflicts", "show", conflict).out


def test_they_are_counted_and_cleaned_up(cli: Cli) -> None:
    conflict = reported(cli, "--priority", "mira=1", "--priority", "noor=2")
    reported(cli)
    cli.ok("conflicts", "resolve", conflict)

    assert cli.json("conflicts", "stats") == {
        "total": 2,
        "active": 1,
        "resolved": 1,
        "by_strategy": {"priority": 1},
        "by_type": {"resource": 2},
    }
    assert "by type" in cli.ok("conflicts", "stats").out
    assert cli.ok("conflicts", "cleanup").out == "Removed 0 conflicts.\n"
    assert cli.ok("conflicts", "cleanup", "--older-than", "0").out == "Removed 1 conflicts.\n"
