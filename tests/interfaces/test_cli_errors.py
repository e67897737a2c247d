"""``callboard errors``."""

from __future__ import annotations

import pytest

from tests.interfaces.cli_support import Cli


def test_a_group_that_is_not_there_is_refused(cli: Cli) -> None:
    assert cli("errors", "show", "0" * 32, "--json").error["code"] == "error_not_found"
    assert cli("errors", "show", "0" * 32).code == 4
    assert cli("errors", "show", "zz").code == 2
    assert cli("errors", "resolve", "abcd").code == 2


@pytest.mark.parametrize(
    "arguments",
    [
        ("list", "--severity", "bad"),
        ("list", "--limit", "0"),
        ("list", "--since", "never"),
        ("list", "--since", "99999999d"),
        ("groups", "--state", "bad"),
        ("record", "E", "--severity", "bad"),
        ("set", "--cooldown", "soon"),
        ("clear",),
    ],
    ids=" ".join,
)
def test_what_cannot_be_meant_is_refused(cli: Cli, arguments: tuple[str, ...]) -> None:
    assert cli("errors", *arguments, "--json").code == 2


def test_where_nothing_went_wrong_it_says_so(cli: Cli) -> None:
    for name in ("list", "groups", "counters", "cascades"):
        assert cli.ok("errors", name).out.startswith(("No ", "No errors"))
    assert cli.json("errors", "list") == {"errors": []}
    assert "callboard errors record" in cli.ok("errors", "groups").out


def test_a_failed_task_is_listed_grouped_and_shown(
    cli: Cli, monkeypatch: pytest.MonkeyPatch
) -> None:
    task = cli.bury("greet")
    monkeypatch.setenv("COLUMNS", "100")

    listed = cli.ok("errors", "list").out
    (group,) = cli.json("errors", "groups")["groups"]
    shown = cli.ok("errors", "show", group["fingerprint"][:8]).out
    whole = cli.json("errors", "show", group["fingerprint"])

    assert task in listed
    assert "no such page" in listed
    assert max(map(len, listed.splitlines())) <= 100
    assert (group["count"], group["state"]) == (1, "open")
    assert "By minute" in shown
    assert [error["task"] for error in whole["errors"]] == [task]
    assert cli.json("errors", "counters")["counters"] == {group["name"]: 1}


def test_what_is_recorded_by_hand_says_how_often_it_came(cli: Cli) -> None:
    first = cli.ok("errors", "record", "RateLimitError", "429 for key 17", "--component", "api")
    again = cli.json("errors", "record", "RateLimitError", "429 for key 18")

    assert first.out.startswith("Recorded as low: the first of its kind (")
    assert (again["count"], again["is_new"], again["severity"]) == (2, False, "low")
    assert cli.json("errors", "list", "--component", "api")["errors"][0]["component"] == "api"
    assert cli.json("errors", "list", "--since", "1h", "--name", "Nothing") == {"errors": []}


def test_a_group_is_resolved_ignored_and_opened_by_its_first_digits(cli: Cli) -> None:
    mark = cli.json("errors", "record", "E", "m")["fingerprint"]

    assert "is resolved." in cli.ok("errors", "resolve", mark[:8], "--note", "fixed").out
    assert cli.json("errors", "groups", "--state", "resolved")["groups"][0]["note"] == "fixed"
    assert cli.json("errors", "ignore", mark[:8])["state"] == "ignored"
    assert cli.json("errors", "reopen", mark)["state"] == "open"


def test_three_types_are_shown_as_a_cascade(cli: Cli) -> None:
    for name in ("A", "B", "C"):
        cli.ok("errors", "record", name)

    assert "A (1), B (1), C (1)" in cli.ok("errors", "cascades").out
    (cascade,) = cli.json("errors", "cascades")["cascades"]
    assert cascade["error_types"] == ["A", "B", "C"]


def test_errors_are_cleared_and_their_tracking_set(cli: Cli) -> None:
    cli.bury("greet")

    assert cli.json("errors", "clear", "--yes") == {"cleared": True}
    assert cli.ok("errors", "set", "--no-track", "--cooldown", "10m", "--stacks").out == "Set.\n"
    cli.bury("greet")

    assert cli.json("errors", "list") == {"errors": []}
