"""``callboard flow``, and the keys of tasks."""

from __future__ import annotations

import pytest

from tests.interfaces.cli_support import Cli


@pytest.mark.parametrize(
    "arguments",
    [
        ["limit", "k"],
        ["limit", "k", "--concurrency", "many"],
        ["limit", "k", "--concurrency", "-1"],
        ["limit", "k", "--rate", "fast"],
        ["limit", "k", "--rate", "1", "--per", "soon"],
        ["limit", "a*b", "--concurrency", "1"],
        ["weight", "k", "0"],
        ["show", "no key"],
        ["show"],
    ],
    ids=" ".join,
)
def test_what_is_not_clear_is_exit_code_2(cli: Cli, arguments: list[str]) -> None:
    assert cli("flow", *arguments).code == 2


@pytest.mark.parametrize(
    "arguments",
    [["k"], ["k", "--rate", "0"], ["k", "--rate", "99999"], ["k", "--concurrency", "-1"]],
    ids=" ".join,
)
def test_a_refused_limit_is_explained_without_python(cli: Cli, arguments: list[str]) -> None:
    said = cli("flow", "limit", *arguments).err

    assert "callboard flow remove k" in said or "unlimited" in said
    assert "math." not in said
    assert "cb." not in said


def test_a_key_that_nothing_is_set_for_is_exit_code_4_to_remove(cli: Cli) -> None:
    ran = cli("flow", "remove", "k")

    assert ran.code == 4
    assert "callboard flow list" in ran.err


def test_no_keys_teach(cli: Cli) -> None:
    shown = cli.ok("flow", "list").out

    assert "callboard flow limit KEY --concurrency 5" in shown
    assert "--concurrency-key KEY" in shown
    assert cli.json("flow", "list") == {"keys": []}


def test_a_limit_is_set_and_shown_with_who_has_it(cli: Cli) -> None:
    made = cli.ok("flow", "limit", "openai", "-c", "1", "--rate", "30", "--per", "1m").out
    cli.add("call", "--id", "one", "--concurrency-key", "openai")
    cli.add("call", "--id", "two", "--concurrency-key", "openai")
    cli.claim()
    shown = cli.ok("flow", "show", "openai").out
    value = cli.json("flow", "show", "openai")
    why = cli.ok("tasks", "why", "two").out

    assert "1 in 2.0s" in made
    assert "default/one" in shown
    assert (value["running"], value["waiting"]) == (1, 1)
    assert value["own"]["concurrency"] == 1
    assert "(1 of 1, held by default/one)" in " ".join(why.split())


def test_keys_are_listed_in_any_width(cli: Cli, monkeypatch: pytest.MonkeyPatch) -> None:
    cli.ok("flow", "limit", "customer-*", "--concurrency", "3")
    cli.ok("flow", "limit", "customer-7", "--rate", "unlimited", "--concurrency", "unlimited")
    cli.ok("flow", "weight", "customer-7", "2.5")
    monkeypatch.setenv("COLUMNS", "50")

    shown = cli.ok("flow", "list").out.splitlines()
    value = cli.json("flow", "list")

    assert [line.split()[0] for line in shown] == ["KEY", "customer-*", "customer-7"]
    assert max(map(len, shown)) <= 50
    assert [one["key"] for one in value["keys"]] == ["customer-*", "customer-7"]
    assert value["keys"][1]["own"]["weight"] == 2.5


def test_pause_resume_and_remove(cli: Cli) -> None:
    cli.add("call", "--rate-key", "k", "--fairness-key", "f")

    paused = cli.ok("flow", "pause", "k")
    shown = cli.ok("flow", "show", "k").out
    resumed = cli.ok("flow", "resume", "k")
    cli.ok("flow", "limit", "k", "--rate", "5")
    removed = cli.json("flow", "remove", "k")

    assert paused.out == "Paused tasks with key 'k'. Held tasks go on.\n"
    assert "Resume it: callboard flow resume k" in shown
    assert resumed.out == "Tasks with key 'k' may be claimed again.\n"
    assert removed == {"key": "k", "removed": True}
    assert cli.json("flow", "list") == {"keys": []}


def test_the_keys_of_a_task_are_shown(cli: Cli) -> None:
    cli.add("call", "--id", "t", "--rate-key", "r", "--fairness-key", "f")

    shown = cli.ok("tasks", "show", "t").out
    value = cli.json("tasks", "show", "t")

    assert "rate key" in shown
    assert (value["rate_key"], value["fairness_key"]) == ("r", "f")
