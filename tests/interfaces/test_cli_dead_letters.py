"""``callboard dlq``."""

from __future__ import annotations

import sys

import pytest

from tests.interfaces.cli_support import Cli


def test_a_task_that_is_no_dead_letter_is_refused(cli: Cli) -> None:
    task = cli.add("greet")

    assert cli("dlq", "show", "nosuch").code == 4
    assert cli("dlq", "show", task, "--json").error["code"] == "illegal_state"
    assert cli("dlq", "requeue", task).code == 1


@pytest.mark.parametrize("verb", ["requeue", "purge"])
def test_ids_or_a_filter_but_not_both_or_none(cli: Cli, verb: str) -> None:
    assert cli("dlq", verb).code == 2
    assert cli("dlq", verb, "a", "--all").code == 2


def test_no_dead_letters_is_good_news(cli: Cli) -> None:
    assert cli.ok("dlq", "list").out == (
        "No dead letters on board 'default': no task failed for good.\n"
    )
    assert cli.json("dlq", "list") == {"dead_letters": [], "total": 0}


def test_dead_letters_are_listed(cli: Cli, monkeypatch: pytest.MonkeyPatch) -> None:
    task = cli.bury("greet")
    cli.bury("fetch")
    monkeypatch.setenv("COLUMNS", "60")

    shown = cli.ok("dlq", "list").out
    value = cli.json("dlq", "list", "--kind", "greet", "--why", "Error")
    none = cli.ok("dlq", "list", "--why", "poison").out

    assert task in shown
    assert max(map(len, shown.splitlines())) <= 60
    assert value["total"] == 2
    assert [letter["id"] for letter in value["dead_letters"]] == [task]
    assert value["dead_letters"][0]["message"] == "no such page"
    assert none == "None of 2 dead letters on board 'default' match.\n"


def test_show_prints_payload_and_every_attempt(cli: Cli) -> None:
    task = cli.bury("greet", '{"name": "Ada"}')

    shown = cli.ok("dlq", "show", task).out
    value = cli.json("dlq", "show", task)

    assert '{"name": "Ada"}' in shown
    assert "Error: no such page" in shown
    assert f"callboard dlq requeue {task}" in shown
    assert value["payload"] == {"name": "Ada"}
    assert len(value["attempts"]) == 1


def test_requeue_puts_one_back_with_another_payload(cli: Cli) -> None:
    task = cli.bury("greet", "1")

    told = cli.ok("dlq", "requeue", task, "--payload", "2")

    assert told.out == f"Task {task} is back on the board.\n"
    shown = cli.json("tasks", "show", task)
    assert (shown["status"], shown["payload"]) == ("pending", 2)


def test_requeue_lets_the_payload_be_edited(cli: Cli, monkeypatch: pytest.MonkeyPatch) -> None:
    task = cli.bury("greet", '{"page": 1}')
    change = "f = open(sys.argv[1], 'r+'); t = f.read(); f.seek(0); f.write(t.replace('1', '2'))"
    script = f"import sys; {change}"

    monkeypatch.setenv("EDITOR", f'{sys.executable} -c "pass"')
    unchanged = cli("dlq", "requeue", task, "--edit")
    monkeypatch.setenv("EDITOR", f'{sys.executable} -c "{script}"')
    cli.ok("dlq", "requeue", task, "--edit")

    assert unchanged.code == 2
    assert "was not changed" in unchanged.err
    assert cli.json("tasks", "show", task)["payload"] == {"page": 2}


def test_requeue_by_filter_can_be_tried_first(cli: Cli) -> None:
    tasks = [cli.bury("fetch"), cli.bury("fetch")]
    other = cli.bury("greet")

    dry = cli.json("dlq", "requeue", "--kind", "fetch", "--dry-run")
    told = cli.ok("dlq", "requeue", "--kind", "fetch", "--dry-run").out
    done = cli.json("dlq", "requeue", "--kind", "fetch")

    assert dry["would"] == {"verb": "requeue", "ids": tasks}
    assert told.startswith("Would requeue 2 tasks:")
    assert [answer["id"] for answer in done["answers"]] == tasks
    assert [letter["id"] for letter in cli.json("dlq", "list")["dead_letters"]] == [other]


def test_purge_by_filter_asks_and_by_id_does_not(cli: Cli) -> None:
    one, two = cli.bury("greet"), cli.bury("greet")

    unasked = cli("dlq", "purge", "--all", stdin="")
    named = cli.ok("dlq", "purge", one)
    every = cli.ok("dlq", "purge", "--all", "--yes")

    assert unasked.code == 2
    assert named.out == f"Task {one} removed.\n"
    assert every.out == f"Task {two} removed.\n"
    assert cli.json("dlq", "list")["total"] == 0
