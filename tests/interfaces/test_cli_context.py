"""``callboard context``: fields set, shown, watched; what agents are doing."""

from __future__ import annotations

import json

import pytest

from tests.interfaces.cli_support import Cli

# Refusals


def test_where_there_is_no_context_it_says_how_to_make_one(cli: Cli) -> None:
    assert cli.ok("context", "list").out == (
        "No contexts yet. Make one: callboard context set PROJECT NAME=VALUE\n"
    )
    ran = cli("context", "show", "proj-1")
    assert ran.code == 4
    assert "callboard context set proj-1" in ran.err


@pytest.mark.parametrize(
    "arguments",
    [
        ["a:b", "x=1"],
        ["p"],
        ["p", "x"],
        ["p", "=1"],
        ["p", "--add", "n=many"],
        ["p", "x=1", "--ttl", "soon"],
        ["p", "x=1", "--remove", "x"],
    ],
    ids=" ".join,
)
def test_what_is_no_write_is_exit_code_2(cli: Cli, arguments: list[str]) -> None:
    ran = cli("context", "set", *arguments)

    assert ran.code == 2
    assert ran.err.startswith("Error: ")


def test_another_revision_is_refused_with_the_one_that_it_is_at(cli: Cli) -> None:
    rev = cli.json("context", "set", "p", "n=1")["rev"]
    cli.ok("context", "set", "p", "n=2")

    ran = cli("--json", "context", "set", "p", "n=3", "--if-rev", str(rev))

    assert ran.code == 1
    assert ran.error["code"] == "rev_conflict"
    assert ran.error["details"]["rev"] > rev
    assert cli.json("context", "show", "p")["fields"] == {"n": 2}


# What it does


def test_values_are_json_where_they_read_as_such(cli: Cli) -> None:
    cli.ok(
        "context", "set", "p", "status=in training", "n=5", 'code="5"', "tags=[1,2]", "none=null"
    )

    assert cli.json("context", "show", "p")["fields"] == {
        "status": "in training",
        "n": 5,
        "code": "5",
        "tags": [1, 2],
        "none": None,
    }
    shown = cli.ok("context", "show", "p").out.splitlines()
    assert shown[0].split() == ["context", "p"]
    assert ["tags", "[1,2]"] in [line.split() for line in shown]


def test_fields_are_removed_and_counted_up(cli: Cli) -> None:
    cli.ok("context", "set", "p", "n=1", "old=1")

    ran = cli.ok("context", "set", "p", "--add", "n=2", "--add", "new=1", "--remove", "old")

    assert ran.out.endswith("n is 3 now. new is 1 now.\n")
    assert cli.json("context", "show", "p")["fields"] == {"n": 3, "new": 1}
    assert cli.json("context", "show", "p", "n")["fields"] == {"n": 3}


def test_a_context_may_have_an_end_and_lose_it(cli: Cli) -> None:
    cli.ok("context", "set", "p", "n=1", "--ttl", "1h")
    assert cli.json("context", "show", "p")["expires_at"] is not None

    cli.ok("context", "set", "p", "--ttl", "forever")

    assert cli.json("context", "show", "p")["expires_at"] is None


def test_contexts_are_listed_and_deleted(cli: Cli) -> None:
    cli.ok("context", "set", "one", "n=1")
    cli.ok("context", "set", "two", "n=1", "m=2")

    listed = cli.json("context", "list")["contexts"]
    assert [(one["project"], one["fields"]) for one in listed] == [("two", 2), ("one", 1)]
    assert cli.ok("context", "list").out.splitlines()[1].split()[:2] == ["two", "2"]
    cli.ok("context", "delete", "two")
    assert [one["project"] for one in cli.json("context", "list")["contexts"]] == ["one"]


def test_a_watch_tells_what_changed_since_a_revision(cli: Cli) -> None:
    cli.ok("context", "set", "p", "n=1")

    lines = cli.ok("--json", "context", "watch", "p", "--since", "0", "--limit", "1").out
    told = cli.ok("context", "watch", "p", "--since", "0", "--limit", "1").out

    change = json.loads(lines)
    assert (change["kind"], change["context"]["fields"]) == ("current", {"n": 1})
    assert "p  current  1 fields" in told


def test_agents_say_what_they_do(cli: Cli) -> None:
    assert cli("context", "state", "mira", "idle").code == 4
    assert "No agent of type worker" in cli.ok("context", "states", "worker").out
    cli.ok("agents", "register", "mira")

    said = cli.ok("context", "state", "mira", "busy", "--task", "t1").out

    assert said == "Agent mira, a worker, is busy with t1.\n"
    (state,) = cli.json("context", "states", "worker")["states"]
    assert (state["agent"], state["status"], state["current_task"]) == ("mira", "busy", "t1")
    assert "mira" in cli.ok("context", "states", "worker", "--status", "busy").out
    assert cli("context", "state", "mira", "asleep").code == 2
