"""``callboard tasks claim`` and what its holder does."""

from __future__ import annotations

import pytest

from tests.interfaces.cli_support import Cli


@pytest.mark.parametrize(
    "command",
    [["complete"], ["fail", "broken"], ["renew"], ["release"], ["start"], ["progress", "1"]],
    ids=lambda command: command[0],
)
def test_a_stale_fence_is_refused(cli: Cli, command: list[str]) -> None:
    cli.add("greet")
    task, fence = cli.claim()
    verb, *more = command

    ran = cli("tasks", verb, task, "--fence", str(int(fence) - 1), *more, "--json")

    assert ran.code == 1
    assert ran.error["code"] == "lease_lost"


def test_a_fence_must_be_given(cli: Cli) -> None:
    ran = cli("tasks", "complete", "a")

    assert ran.code == 2
    assert "--fence" in ran.err


def test_a_result_that_is_no_json_completes_nothing(cli: Cli) -> None:
    cli.add("greet")
    task, fence = cli.claim()

    ran = cli("tasks", "complete", task, "--fence", fence, "{bad")

    assert ran.code == 2
    assert cli.json("tasks", "show", task)["status"] == "claimed"


def test_a_task_that_the_agent_does_not_fit_cannot_be_taken(cli: Cli) -> None:
    task = cli.add("greet", "--require-capability", "python")

    ran = cli("tasks", "claim", task, "--agent", "mira", "--json")

    assert ran.code == 1
    assert ran.error["code"] == "does_not_fit"


def test_a_paused_board_gives_nothing(cli: Cli) -> None:
    cli.add("greet")
    cli.ok("boards", "pause", "default")

    ran = cli("tasks", "claim", "--agent", "mira", "--json")

    assert ran.code == 1
    assert ran.error["code"] == "paused"


def test_claim_registers_the_agent_and_prints_id_and_fence(cli: Cli) -> None:
    task = cli.add("greet", '{"name": "Ada"}', "--require-capability", "python")

    told = cli.ok("tasks", "claim", "--agent", "mira", "--capability", "python").out

    agent = cli.json("agents", "show", "mira")
    fence = cli.json("tasks", "show", task)["fence"]
    assert f"callboard tasks complete {task} --fence {fence}" in told
    assert agent["capabilities"] == ["python"]
    assert agent["held"] == 1


def test_claim_leaves_an_agent_that_is_there_as_it_is(cli: Cli) -> None:
    cli.ok("agents", "register", "mira", "--capability", "python", "--service", "mail")

    cli.ok("tasks", "claim", "--agent", "mira")
    with_more = cli.ok("tasks", "claim", "--agent", "mira", "--capability", "sql")

    agent = cli.json("agents", "show", "mira")
    assert with_more.code == 0
    assert (agent["capabilities"], agent["services"]) == (["sql"], ["mail"])


def test_claim_for_programs(cli: Cli) -> None:
    task = cli.add("greet", '{"name": "Ada"}')

    value = cli.json("tasks", "claim", "--agent", "mira", "--limit", "5")

    (claimed,) = value["tasks"]
    assert value["status"] == "ok"
    assert claimed["id"] == task
    assert claimed["payload"] == {"name": "Ada"}
    assert set(claimed) == {"id", "board", "kind", "fence", "attempt", "agent", "until", "payload"}


def test_nothing_to_claim_is_no_error(cli: Cli) -> None:
    cli.add("greet", "--require-capability", "python")

    told = cli.ok("tasks", "claim", "--agent", "mira").out
    value = cli.json("tasks", "claim", "--agent", "mira")

    assert told.startswith("Nothing on board 'default' for mira now.")
    assert value == {"status": "empty", "tasks": []}


def test_a_result_is_accepted_once(cli: Cli) -> None:
    cli.add("greet")
    task, fence = cli.claim()

    first = cli.ok("tasks", "complete", task, "--fence", fence, '{"said": "Hello"}')
    again = cli.ok("tasks", "complete", task, "--fence", fence, "2")

    assert first.out == f"Task {task} done.\n"
    assert "done already" in again.out
    assert cli.json("tasks", "show", task)["result"] == {"said": "Hello"}


def test_a_result_may_be_left_out_or_come_by_a_pipe(cli: Cli) -> None:
    for _ in range(2):
        cli.add("greet")
    one, fence_of_one = cli.claim()
    other, fence_of_other = cli.claim()

    cli.ok("tasks", "complete", one, "--fence", fence_of_one)
    cli.ok("tasks", "complete", other, "--fence", fence_of_other, "-", stdin="[1, 2]\n")

    assert cli.json("tasks", "show", one)["result"] is None
    assert cli.json("tasks", "show", other)["result"] == [1, 2]


def test_a_failure_is_tried_again_or_buried(cli: Cli) -> None:
    cli.add("greet", "--retries", "1", "--retry-base", "0")
    task, fence = cli.claim()
    first = cli.ok("tasks", "fail", task, "--fence", fence, "no such page", "--type", "Gone")
    _, fence = cli.claim()
    last = cli.ok("tasks", "fail", task, "--fence", fence, "no such page", "--json").json

    assert "is tried again later" in first.out
    assert last["answers"][0]["status"] == "failed"
    shown = cli.json("dlq", "show", task)
    assert [attempt["error"]["type"] for attempt in shown["attempts"]] == ["Gone", "Error"]


def test_a_claim_is_started_renewed_and_released(cli: Cli) -> None:
    cli.add("greet")
    task, fence = cli.claim()

    cli.ok("tasks", "start", task, "--fence", fence)
    kept = cli.ok("tasks", "progress", task, "--fence", fence, '{"page": 3}')
    cli.ok("tasks", "progress", task, "--fence", fence, "[1]", "--partial")
    renewed = cli.ok("tasks", "renew", task, "--fence", fence, "--lease", "30m")
    held = cli.json("tasks", "show", task)
    released = cli.ok("tasks", "release", task, "--fence", fence)

    assert kept.out == f"Kept on task {task}.\n"
    assert (held["status"], held["progress"], held["partial"]) == ("in_progress", {"page": 3}, [1])
    assert "another 30m" in renewed.out
    assert "back on the board" in released.out
    assert cli.json("tasks", "show", task)["status"] == "pending"


def test_the_holder_hears_that_it_shall_stop(cli: Cli) -> None:
    cli.add("greet")
    task, fence = cli.claim()

    asked = cli.ok("tasks", "cancel", task)
    renewed = cli.ok("tasks", "renew", task, "--fence", fence)
    released = cli.ok("tasks", "release", task, "--fence", fence)

    assert "was asked to stop" in asked.out
    assert "cancellation was asked for" in renewed.out
    assert "ended cancelled" in released.out


def test_a_claim_is_handed_to_another(cli: Cli) -> None:
    cli.ok("agents", "register", "noor")
    cli.add("greet")
    task, fence = cli.claim()

    told = cli.ok("tasks", "handoff", task, "--fence", fence, "--to", "noor")

    assert told.out == f"Task {task} is reserved for noor.\n"
    assert cli.claim("noor")[0] == task
