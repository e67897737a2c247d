"""``callboard tasks``: adding, looking, steering."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from tests.interfaces.cli_support import Cli


def lines(*tasks: object) -> str:
    return "".join(json.dumps(task) + "\n" for task in tasks)


# Refusals


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        ([], "KIND"),
        (["greet", "{bad"], "payload is not valid JSON"),
        (["greet", "Ada"], "text needs quotes of its own"),
        (["greet", "@nosuch.json"], "nosuch.json"),
        (["not a kind"], "kind"),
        (["greet", "--priority", "soon"], "low, normal, high"),
        (["greet", "--delay", "soon"], "as in 90 or 5m"),
        (["greet", "--deadline", "tomorrow"], "2031-05-01T09:30:00Z"),
        (["greet", "--require-label", "zone"], "key=value"),
        (["greet", "--metadata", "[1]"], "JSON object"),
        (["greet", "--retries", "-1"], "max_retries"),
        (["greet", "--on-failure", "panic"], "fail, skip or run"),
        (["greet", "--from", "tasks.jsonl"], "--from"),
    ],
)
def test_what_cannot_be_added_is_told_and_adds_nothing(
    cli: Cli, arguments: list[str], said: str
) -> None:
    ran = cli("tasks", "add", *arguments)

    assert ran.code == 2
    assert said in ran.err
    assert ran.err.startswith("Error: ")
    assert ran.err.count("\n") == 1
    assert cli.json("tasks", "list")["tasks"] == []


def test_an_id_with_another_body_is_refused(cli: Cli) -> None:
    cli.ok("tasks", "add", "greet", "1", "--id", "a")

    ran = cli("tasks", "add", "greet", "2", "--id", "a", "--json")

    assert ran.code == 1
    assert ran.error["code"] == "id_conflict"


def test_a_bad_line_of_a_file_adds_nothing(cli: Cli) -> None:
    ran = cli("tasks", "add", "--from", "-", stdin=lines({"kind": "greet"}, {"knid": "greet"}))

    assert ran.code == 2
    assert "Line 2 of standard input" in ran.err
    assert "knid" in ran.err
    assert cli.json("tasks", "list")["tasks"] == []


@pytest.mark.parametrize(
    ("line", "said"),
    [
        ({"kind": "no good"}, "kind 'no good' is not a valid name"),
        ({"kind": "greet", "id": "a b"}, "task id 'a b' is not a valid name"),
        ({"kind": "greet", "priority": 5_000}, "Priority 5000"),
    ],
)
def test_all_lines_are_checked_before_the_first_task_is_added(
    cli: Cli, line: dict[str, object], said: str
) -> None:
    many = [{"kind": "greet"} for _ in range(2_000)]

    ran = cli("tasks", "add", "--from", "-", "--json", stdin=lines(*many, line))

    assert ran.code == 2
    assert ran.error["details"]["line"] == 2_001
    assert ran.error["message"].startswith("Line 2001 of standard input: ")
    assert said in ran.error["message"]
    assert cli.json("tasks", "list")["tasks"] == []


def test_a_cycle_in_a_file_adds_nothing(cli: Cli) -> None:
    many = [{"kind": "greet", "id": f"t{i}", "depends_on": [f"t{i + 1}"]} for i in range(2_100)]

    ran = cli(
        "tasks",
        "add",
        "--from",
        "-",
        stdin=lines(*many, {"kind": "greet", "id": "t2100", "depends_on": ["t0"]}),
    )

    assert "depend" in ran.err
    assert cli.json("tasks", "list")["tasks"] == []


def test_an_error_in_a_later_batch_says_how_many_were_added(cli: Cli) -> None:
    cli.ok("tasks", "add", "greet", "1", "--id", "t2000")
    many = [{"kind": "greet", "id": f"t{i}"} for i in range(2_001)]

    ran = cli("tasks", "add", "--from", "-", "--json", stdin=lines(*many))

    assert ran.code == 1
    assert ran.error["details"]["submitted"] == 2_000
    assert "2,000 tasks were added" in ran.error["message"]


@pytest.mark.parametrize(
    "command",
    [
        ["show"],
        ["why"],
        ["cancel"],
        ["retry"],
        ["purge"],
        ["note", "text"],
        ["answer", "1"],
        ["priority", "5"],
        ["wait"],
        ["complete", "--fence", "1"],
        ["fail", "--fence", "1", "broken"],
        ["renew", "--fence", "1"],
        ["release", "--fence", "1"],
        ["start", "--fence", "1"],
        ["claim", "--agent", "mira"],
    ],
    ids=lambda command: command[0],
)
def test_a_task_that_is_not_there_is_exit_code_4(cli: Cli, command: list[str]) -> None:
    verb, *more = command

    ran = cli("tasks", verb, "nosuch", *more)

    assert ran.code == 4
    assert "'nosuch'" in ran.err


# Adding


def test_a_task_is_added_with_all_that_was_said(cli: Cli) -> None:
    cli.ok("tasks", "add", "base", "--id", "base")

    task = cli.add(
        *("greet", '{"name": "Ada"}', "--id", "greet-1", "--title", "Greet Ada"),
        *("--description", "Kindly.", "--priority", "high", "--depends-on", "base"),
        *("--on-failure", "run", "--unique", "ada", "--suggest", "mira"),
        *("--metadata", '{"team": "blue"}', "--created-by", "noor", "--trace", "00-1-2-01"),
        *("--require-type", "worker", "--require-capability", "python,sql"),
        *("--require-service", "mail", "--require-label", "zone=eu", "--require-health", "0.5"),
        *("--deadline", "2031-05-01T09:30:00Z", "--not-before", "2030-05-01T09:30:00+00:00"),
        *("--timeout", "5m", "--lease", "1m", "--retries", "7", "--retry-base", "500ms"),
        *("--retry-factor", "3", "--retry-cap", "1h"),
    )

    shown = cli.json("tasks", "show", task)
    assert task == shown["id"] == "greet-1"
    assert shown["payload"] == {"name": "Ada"}
    assert shown["requirements"] == {
        "agent_type": "worker",
        "capabilities": ["python", "sql"],
        "services": ["mail"],
        "labels": {"zone": "eu"},
        "min_health_score": 0.5,
    }
    assert shown["retry"] == {
        "max_retries": 7,
        "base": 0.5,
        "factor": 3.0,
        "cap": 3600.0,
        "jitter": "full",
    }
    expected = {
        "title": "Greet Ada",
        "description": "Kindly.",
        "priority": 10,
        "depends_on": ["base"],
        "on_dependency_failure": "run",
        "unique": "ada",
        "suggested_worker": "mira",
        "metadata": {"team": "blue"},
        "created_by": "noor",
        "trace_context": "00-1-2-01",
        "deadline": "2031-05-01T09:30:00Z",
        "not_before": "2030-05-01T09:30:00Z",
        "timeout": 300.0,
        "lease": 60.0,
        "status": "blocked",
    }
    assert {name: shown[name] for name in expected} == expected


def test_a_payload_is_kept_as_written(cli: Cli, tmp_path: Path) -> None:
    file = tmp_path / "payload.json"
    file.write_text('{"big": 12345678901234567890123, "x": 1.10}\n')

    from_file = cli.add("greet", f"@{file}")
    from_stdin = cli.json("tasks", "add", "greet", "-", stdin="[1.10]")["id"]

    assert '"big": 12345678901234567890123' in cli.ok("tasks", "show", from_file).out
    assert "1.10" in cli.ok("tasks", "show", from_stdin).out


def test_adding_the_same_again_says_that_it_was_there(cli: Cli) -> None:
    first = cli.json("tasks", "add", "greet", "--id", "a")
    again = cli.json("tasks", "add", "greet", "--id", "a")

    assert first == {"id": "a", "board": "default", "existed": False}
    assert again == {"id": "a", "board": "default", "existed": True}
    assert "was there already" in cli.ok("tasks", "add", "greet", "--id", "a").out


def test_many_tasks_are_added_from_a_file(cli: Cli, tmp_path: Path) -> None:
    file = tmp_path / "tasks.jsonl"
    file.write_text(
        lines(
            {"kind": "index", "id": "b", "depends_on": ["a"], "priority": "high"},
            {"kind": "fetch", "id": "a", "payload": {"page": 1}},
        )
        + "\n"
    )

    added = cli.json("tasks", "add", "--from", str(file))
    again = cli.ok("tasks", "add", "--from", str(file))

    assert added == {"board": "default", "submitted": 2, "existed": 0, "ids": ["b", "a"]}
    assert "Added 0 tasks to board 'default'. 2 were there already." in again.out
    assert cli.json("tasks", "show", "b")["status"] == "blocked"


# Looking


def test_an_empty_board_teaches(cli: Cli) -> None:
    assert cli.ok("tasks", "list").out == (
        "No tasks on board 'default'. Add one: callboard tasks add KIND PAYLOAD\n"
    )
    assert cli.ok("tasks", "list", "--board", "run").out == (
        "No tasks on board 'run'. Add one: callboard tasks add KIND PAYLOAD --board run\n"
    )
    assert "match" in cli.ok("tasks", "list", "--kind", "greet").out
    assert "Add some" in cli.ok("tasks", "graph").out
    assert cli.json("tasks", "list") == {"tasks": [], "cursor": None}


def test_a_list_is_narrowed_and_paged(cli: Cli) -> None:
    for i in range(3):
        cli.add("greet", "--id", f"a{i}")
    cli.add("fetch", "--id", "b")
    cli.ok("tasks", "cancel", "a2")

    cancelled = cli.json("tasks", "list", "--status", "cancelled")
    fetched = cli.json("tasks", "list", "--kind", "fetch", "--status", "pending")

    assert [task["id"] for task in cancelled["tasks"]] == ["a2"]
    assert [task["id"] for task in fetched["tasks"]] == ["b"]
    assert set(fetched["tasks"][0]) >= {"id", "kind", "status", "priority", "created_at", "since"}


def test_a_list_fits_sixty_columns_with_whole_ids(
    cli: Cli, monkeypatch: pytest.MonkeyPatch
) -> None:
    task = cli.add("a-kind-with-a-long-name-that-has-no-room")
    long = cli.add("greet", "--id", "x" * 90)
    monkeypatch.setenv("COLUMNS", "60")

    with_long = cli.ok("tasks", "list").out
    cli.ok("tasks", "cancel", long)
    shown = cli.ok("tasks", "list", "--status", "pending").out

    assert long in with_long
    assert task in with_long
    assert task in shown
    assert "pending" in shown
    assert max(map(len, shown.splitlines())) <= 60


def test_a_pipe_gets_everything_uncut(cli: Cli) -> None:
    cli.add("a-kind-with-a-long-name-that-has-no-room-anywhere-in-eighty-columns-of-a-terminal")

    shown = cli.ok("tasks", "list").out

    assert "a-kind-with-a-long-name-that-has-no-room-anywhere-in-eighty-columns" in shown


def test_show_tells_attempts_and_notes(cli: Cli) -> None:
    cli.add("greet", '{"name": "Ada"}')
    task, fence = cli.claim()
    cli.ok("tasks", "fail", task, "--fence", fence, "no such page")
    cli.ok("tasks", "note", task, "Ask Ada first.", "--author", "noor")

    shown = cli.ok("tasks", "show", task).out
    value = cli.json("tasks", "show", task)

    assert '"name"' in shown
    assert "no such page" in shown
    assert "noor: Ask Ada first." in shown
    assert value["attempts"][0]["error"]["message"] == "no such page"
    assert value["notes"][0]["content"] == "Ask Ada first."


def test_why_says_it_in_words_and_data(cli: Cli) -> None:
    task = cli.add("greet")

    told = cli.ok("tasks", "why", task).out
    value = cli.json("tasks", "why", task)

    assert "No agent is registered" in told
    assert value["code"] == "no_agents"
    assert value["status"] == "pending"


def test_a_graph_shows_tree_and_critical_path(cli: Cli) -> None:
    cli.add("fetch", "--id", "a")
    cli.add("index", "--id", "b", "--depends-on", "a")
    cli.add("index", "--id", "c", "--depends-on", "a", "--depends-on", "unknown")
    cli.add("report", "--id", "d", "--depends-on", "b,c")

    told = cli.ok("tasks", "graph").out
    cut = cli.ok("tasks", "graph", "--limit", "2").out
    dot = cli.ok("tasks", "graph", "--dot").out
    value = cli.json("tasks", "graph")

    assert "Critical path" in told
    assert "a  3" in told
    assert "Never submitted" in told
    assert "  b  blocked  index" in told
    assert "↑ above" in told
    assert "… and more" in cut
    assert dot.startswith('digraph "default" {')
    assert value["ready"] == ["a"]
    assert value["unresolved"] == {"c": ["unknown"]}


# Waiting


def test_wait_prints_the_result(cli: Cli) -> None:
    cli.add("greet")
    task, fence = cli.claim()
    waiting = cli.started("tasks", "wait", task)
    cli.ok("tasks", "complete", task, "--fence", fence, '{"said": "Hello"}')

    ran = waiting.end()

    assert (ran.code, ran.out) == (0, '{"said":"Hello"}\n')


def test_add_and_wait_for_a_task_that_fails_is_exit_code_1(cli: Cli) -> None:
    waiting = cli.started("tasks", "add", "greet", "--wait")
    waiting.read_until("Waiting for task", stderr=True)
    task, fence = cli.claim()
    cli.ok("tasks", "fail", task, "--fence", fence, "no such page", "--no-retry")

    ran = waiting.end()

    assert ran.code == 1
    assert "Error: no such page" in ran.err


def test_wait_gives_up_in_time(cli: Cli) -> None:
    task = cli.add("greet")

    ran = cli("tasks", "wait", task, "--timeout", "10ms", "--json")

    assert ran.code == 1
    assert ran.error["code"] == "timeout"


# Steering


def test_cancel_answers_for_each(cli: Cli) -> None:
    task = cli.add("greet")

    ran = cli("tasks", "cancel", task, "nosuch", "--json")

    assert ran.code == 4
    done, missing = ran.json["answers"]
    assert done == {"id": task, "ok": True, "status": "cancelled", "message": None}
    assert missing["status"] == "task_not_found"
    assert cli.json("tasks", "show", task)["reason"] == "requested"


def test_refusals_of_several_kinds_are_exit_code_1(cli: Cli) -> None:
    cli.add("greet")
    task, fence = cli.claim()
    cli.ok("tasks", "complete", task, "--fence", fence)

    ran = cli("tasks", "cancel", task, "nosuch")

    assert ran.code == 1
    assert ran.err.count("Error: ") == 2


def test_a_cancelled_task_can_be_retried_with_another_payload(cli: Cli) -> None:
    task = cli.add("greet", "1")
    cli.ok("tasks", "cancel", task, "--reason", "outdated")

    ran = cli.ok("tasks", "retry", task, "--payload", "2")

    assert ran.out == f"Task {task} is back on the board.\n"
    assert cli.json("tasks", "show", task)["payload"] == 2


def test_a_payload_goes_with_one_task(cli: Cli) -> None:
    assert cli("tasks", "retry", "a", "b", "--payload", "2").code == 2


def test_priority_moves_a_task(cli: Cli) -> None:
    cli.add("greet", "--id", "first")
    cli.add("greet", "--id", "second")

    cli.ok("tasks", "priority", "second", "urgent")
    cli.ok("tasks", "priority", "first", "--", "-5")

    assert cli.claim()[0] == "second"
    assert cli.json("tasks", "show", "first")["priority"] == -5


def test_a_question_is_asked_and_answered(cli: Cli) -> None:
    cli.add("greet")
    task, fence = cli.claim()

    asked = cli.ok("tasks", "ask", task, "--fence", fence, '"Which branch?"')
    waiting = cli.json("tasks", "show", task)
    answered = cli.ok("tasks", "answer", task, '"main"')

    assert f"callboard tasks answer {task}" in asked.out
    assert (waiting["status"], waiting["question"]) == ("input_required", "Which branch?")
    assert "goes on" in answered.out
    assert cli.json("tasks", "show", task)["answer"] == "main"


def test_purge_removes_what_is_named(cli: Cli) -> None:
    task = cli.add("greet")

    refused = cli("tasks", "purge", task)
    cli.ok("tasks", "cancel", task)
    removed = cli.ok("tasks", "purge", task)

    assert refused.code == 1
    assert removed.out == f"Task {task} removed.\n"
    assert cli.json("tasks", "list")["tasks"] == []


def test_purge_by_status_shows_first_and_asks(cli: Cli) -> None:
    task = cli.add("greet")
    cli.ok("tasks", "cancel", task)
    choice = ["tasks", "purge", "--status", "cancelled"]

    shown = cli.ok(*choice, "--dry-run").out
    unasked = cli(*choice, stdin="")
    done = cli.ok(*choice, "--yes")
    nothing = cli.ok(*choice, "--yes")

    assert task in shown
    assert unasked.code == 2
    assert "--yes" in unasked.err
    assert done.out == f"Task {task} removed.\n"
    assert "No task matches" in nothing.out


def test_purge_wants_to_know_what(cli: Cli) -> None:
    assert cli("tasks", "purge").code == 2
    assert cli("tasks", "purge", "a", "--status", "done").code == 2
