"""``callboard run`` and ``callboard runs``: from a request to its answer, and what lies between."""

from __future__ import annotations

import json
import os
import signal
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from callboard.domain.run import Run
from callboard.teams.host import Host
from tests.interfaces.cli_support import Cli, Program, run_alone
from tests.interfaces.teams_support import HANDLERS, TEAM, begun, forget_handlers, write_team

SOCKETS = f"callboard-{os.getuid()}"
"""The folder for the sockets of a user's engines, which stays."""


@pytest.fixture
def team(tmp_path: Path) -> Path:
    """The file of a team that waits at a gate."""
    return write_team(tmp_path / "team")


def held_at_gate(cli: Cli, team: Path, *arguments: str) -> Program:
    """A run in a process of its own, come as far as its gate."""
    program = cli.started("run", str(team), "first gate last", *arguments)
    program.read_until("worker begins gate", stderr=True)
    return program


def has_no_control_characters(text: str) -> bool:
    return all(c.isprintable() or c == "\n" for c in text)


@pytest.fixture(autouse=True)
def forgetful() -> Iterator[None]:
    """Modules of one test's team are not those of the next."""
    yield
    forget_handlers()


# Refusals


def test_where_nothing_ran_it_says_how_to_begin(cli: Cli) -> None:
    said = 'No runs yet. Start one: callboard run team.yaml "…"\n'

    assert cli.ok("runs", "list").out == said
    assert cli("runs", "show", "last").code == 4
    assert cli("runs", "show", "last").err == f"Error: {said}"
    assert cli.json("runs", "list") == {"runs": []}


def test_a_mistyped_run_is_told_with_the_nearest(cli: Cli, team: Path) -> None:
    cli.ok("run", str(team), "first", "--id", "monday-survey")

    ran = cli("--json", "runs", "show", "mondya-survey")

    assert ran.code == 4
    assert ran.error["code"] == "run_not_found"
    assert ran.error["message"] == "No run 'mondya-survey'; did you mean monday-survey?"
    assert cli("runs", "cancel", "mnoday").err.endswith("did you mean monday-survey?\n")
    assert cli("runs", "cancel", "zzz").err.endswith("See: callboard runs list\n")


def test_a_beginning_is_enough_where_only_one_run_has_it(cli: Cli, team: Path) -> None:
    cli.ok("run", str(team), "first", "--id", "monday-1")
    cli.ok("run", str(team), "first", "--id", "monday-2")

    ran = cli("runs", "show", "monday")

    assert ran.code == 2
    assert ran.err == (
        "Error: 2 runs begin with 'monday': monday-2, monday-1. Give more of the id.\n"
    )
    assert cli.json("runs", "show", "monday-2")["run"]["id"] == "monday-2"
    assert cli.json("runs", "show", "last")["run"]["id"] == "monday-2"


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["--team", "gaet"], "has no team 'gaet'; did you mean gate?"),
        (["--var", "RETRYS=1"], "asks for ${RETRYS}; did you mean RETRIES?"),
        (["--var", "RETRIES"], "not of the form NAME=value"),
        (["--var", "RETRIES=many"], "team.yaml:6: agents.worker.retry.max_retries"),
        (["--id", "last"], "A run cannot be called 'last'"),
        (["--lease", "soon"], "lease is 'soon'"),
    ],
)
def test_what_cannot_be_run_is_told_and_begins_nothing(
    cli: Cli, team: Path, arguments: list[str], said: str
) -> None:
    ran = cli("run", str(team), "first", *arguments)

    assert ran.code == 2
    assert said in ran.err
    assert ran.err.count("\n") == 1
    assert cli.json("runs", "list") == {"runs": []}


def test_an_agent_that_cannot_be_made_is_told_before_anything_is_begun(
    cli: Cli, tmp_path: Path
) -> None:
    wrong = TEAM.replace("handlers:plan", "handlers:paln").replace("handlers:work", "nosuch:work")
    team = write_team(tmp_path / "team", team=wrong)

    ran = cli("--json", "run", str(team), "first")

    assert ran.code == 2
    assert ran.error["code"] == "agent_unusable"
    assert "'paln'" in ran.error["message"] and "'nosuch'" in ran.error["message"]
    assert cli.json("runs", "list") == {"runs": []}
    assert cli.json("teams", "list") == {"teams": []}


def test_a_file_with_several_teams_asks_which(cli: Cli, tmp_path: Path) -> None:
    spec = TEAM[TEAM.index("    gate:") :]
    team = write_team(tmp_path / "team", team=TEAM + spec.replace("gate:", "other:"))

    ran = cli("run", str(team), "first")

    assert ran.code == 2
    assert ran.err.endswith("has several teams. Name one: --team gate or other\n")
    assert cli.ok("run", str(team), "first", "--team", "other", "-q").out == "first: done\n"
    assert [each["name"] for each in cli.json("teams", "list")["teams"]] == ["other"]


def test_a_run_that_has_not_failed_is_not_retried_nor_deleted_while_it_lives(
    cli: Cli, team: Path
) -> None:
    cli.ok("run", str(team), "first", "--id", "r1")
    cli("run", str(team), "gate", "--id", "r2", "--timeout", "100ms")

    assert cli("runs", "retry", "r1").code == 1
    assert cli("--json", "runs", "delete", "r2").error["code"] == "illegal_state"
    assert cli("runs", "replay", "r1", "--from", "soon").code == 2


# A run from its request to its answer


def test_a_run_answers_with_its_tasks_and_its_id(cli: Cli, team: Path) -> None:
    ran = cli.ok("run", str(team), "first second", "--id", "r1")

    lines = ran.out.splitlines()
    assert lines[:3] == ["first: done", "second: done", ""]
    assert lines[3].split() == ["TASK", "STATUS", "WORKER", "TRIES", "TOOK", "TITLE"]
    assert lines[4].split()[:4] == ["first", "done", "worker", "1"]
    assert lines[5].endswith("Do second")
    assert lines[6].startswith("Run r1 done. 2 tasks (2 done) in ")
    assert lines[7].startswith("All of it: callboard runs show r1 --url ")


def test_what_happens_is_told_line_by_line_on_stderr_without_control_characters(
    cli: Cli, team: Path
) -> None:
    ran = cli("run", str(team), "first broken", "--id", "r1")

    told = [line.partition(" s  ")[2] for line in ran.err.splitlines()]
    assert "phase: execution" in told
    assert "worker begins first: Do first" in told
    assert "broken failed with worker: no such page: \N{REPLACEMENT CHARACTER}[31m404" in told
    assert has_no_control_characters(ran.out + ran.err)


def test_what_agents_print_does_not_get_into_the_answer(cli: Cli, team: Path) -> None:
    ran = cli.ok("run", str(team), "first", "--quiet")

    assert ran.out == "first: done\n"
    assert "printed by an agent" in ran.err


def test_a_program_gets_one_json_object(cli: Cli, team: Path) -> None:
    ran = cli.ok("--json", "run", str(team), "first broken", "--id", "r1")

    told = json.loads(ran.out)
    assert set(told) == {"run", "answer", "tasks", "failures", "seconds"}
    assert told["run"]["phase"] == "done"
    assert told["answer"] == "first: done\nbroken: failed"
    assert [task["status"] for task in told["tasks"]] == ["done", "failed"]
    assert [failed["id"] for failed in told["failures"]] == ["broken"]
    assert told["seconds"] > 0


def test_the_same_file_run_again_is_the_same_version(cli: Cli, team: Path) -> None:
    cli.ok("run", str(team), "first", "-q")
    cli.ok("run", str(team), "first", "-q", "--var", "RETRIES=2")

    assert [run["version"] for run in cli.json("runs", "list")["runs"]] == [1, 1]
    assert cli.json("runs", "show", "last")["run"]["variables"] == {"RETRIES": "2"}


def test_the_team_that_init_writes_runs(cli: Cli, tmp_path: Path) -> None:
    cli.ok("init", str(tmp_path / "begin"))

    ran = cli.ok("run", str(tmp_path / "begin" / "team.yaml"), str(tmp_path / "begin"))

    assert ran.out.startswith("3 text files with ")
    assert "Run " in ran.out and " done. 2 tasks (2 done)" in ran.out


def test_a_task_that_failed_is_told_with_its_cure_and_the_cure_works(cli: Cli, team: Path) -> None:
    ran = cli.ok("run", str(team), "first broken last", "--id", "r1")

    assert "  broken  no such page: \N{REPLACEMENT CHARACTER}[31m404\n" in ran.out
    assert "    worker, 1 try. Mend what it says, then: callboard runs retry r1 broken" in ran.out
    assert "  last  Dependency broken ended failed.\n" in ran.out
    assert ran.out.count(": callboard runs retry r1 broken --url ") == 2

    (team.parent / "mended").touch()
    again = cli.ok("runs", "retry", "r1", "broken")

    assert again.out.startswith("first: done\nbroken: done\nlast: done\n")
    assert begun(team.parent) == ["first", "broken", "broken", "last"]


def test_a_run_whose_planner_fails_exits_with_one(cli: Cli, tmp_path: Path) -> None:
    broken = HANDLERS.replace(
        "    words = request", '    raise OSError("no plan")\n    words = request'
    )
    retry = TEAM.replace('plan"}', 'plan", retry: {max_retries: 0}}')
    team = write_team(tmp_path / "team", team=retry, handlers=broken)

    ran = cli("run", str(team), "first", "--id", "r1")

    assert ran.code == 1
    assert "Run r1 failed: planning failed: no plan. 0 tasks in " in ran.out
    assert "Mend the agent, then: callboard runs retry r1 --url" in ran.out


def test_of_many_tasks_those_that_failed_and_the_last_ones_are_shown(cli: Cli, team: Path) -> None:
    words = ["broken", *(f"t{n}" for n in range(30))]
    # Independent of each other, so that one failure leaves the others alone.
    handlers = team.parent / "handlers.py"
    handlers.write_text(handlers.read_text().replace("if n else []", "if False else []"))

    ran = cli.ok("run", str(team), " ".join(words), "--id", "r1")

    rows = [line.split()[0] for line in ran.out.splitlines() if " worker " in line]
    assert rows == ["broken", *(f"t{n}" for n in range(11, 30))]
    assert "… and 11 tasks more: callboard runs show r1 --url " in ran.out
    assert len(cli.json("runs", "show", "r1")["tasks"]) == 31
    shown = cli.ok("runs", "show", "r1", "-n", "31").out
    assert "t0 " in shown and "more" not in shown.partition("Answer")[0].replace("no more", "")


# Left, and gone on with


@pytest.mark.parametrize(("number", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
def test_a_run_that_is_left_for_a_signal_is_gone_on_with_by_join(
    cli: Cli, team: Path, number: signal.Signals, code: int
) -> None:
    program = held_at_gate(cli, team, "--id", "r1")

    program.signal(number)
    left = program.end()

    assert left.code == code
    assert "Left run r1; it stays where it was.\n" in left.err
    assert "Go on: callboard runs join r1 --url " in left.err
    assert "End it: callboard runs cancel r1 --url " in left.err
    run = cli.json("runs", "show", "r1")
    assert run["run"]["phase"] == "execution"
    assert [task["status"] for task in run["tasks"]] == ["done", "pending", "blocked"]

    assert "nobody leads it now" in cli.ok("runs", "show", "r1").out

    (team.parent / "open").touch()
    ran = cli.ok("runs", "join", "r1")

    assert ran.out.startswith("first: done\ngate: done\nlast: done\n")
    assert "another host leads the run on, in execution" in ran.err
    assert begun(team.parent) == ["first", "gate", "gate", "last"]


def test_a_handler_that_hears_nothing_does_not_keep_a_second_signal_waiting(
    cli: Cli, tmp_path: Path
) -> None:
    deaf = "import time\n\ndef work(request):\n    time.sleep(600)\n\n"
    plan = 'def plan(request):\n    return {"tasks": [{"id": "deaf"}], "done": True}\n'
    write = "def write(request):\n    return 1\n"
    team = write_team(tmp_path / "team", handlers=deaf + plan + write)
    program = cli.started("run", str(team), "x", "--id", "r1")
    program.read_until("worker begins deaf", stderr=True)

    program.signal(signal.SIGINT)
    program.signal(signal.SIGINT)
    left = program.end()

    assert left.code == 130
    assert cli.json("runs", "show", "r1")["run"]["phase"] == "execution"


def test_a_run_is_left_after_the_time_that_was_given(cli: Cli, team: Path) -> None:
    ran = cli("run", str(team), "gate", "--id", "r1", "--timeout", "300ms")

    assert ran.code == 1
    assert ran.err.endswith("Error: Run r1 has not ended within 0.3 s.\n")
    assert cli.json("runs", "show", "r1")["run"]["phase"] == "execution"


def test_a_run_with_an_id_that_is_there_is_joined(cli: Cli, team: Path) -> None:
    cli("run", str(team), "first gate", "--id", "r1", "--timeout", "300ms")
    (team.parent / "open").touch()

    ran = cli.ok("run", str(team), "first gate", "--id", "r1", "-q")

    assert ran.out == "first: done\ngate: done\n"
    assert cli("run", str(team), "something else", "--id", "r1").code == 1


def test_join_asks_for_the_folder_where_it_is_gone(cli: Cli, team: Path, tmp_path: Path) -> None:
    cli("run", str(team), "gate", "--id", "r1", "--timeout", "100ms")
    team.parent.rename(tmp_path / "moved")
    forget_handlers()
    (tmp_path / "moved" / "open").touch()

    ran = cli("runs", "join", "r1")

    assert ran.code == 2
    assert "callboard runs join r1 --folder DIR" in ran.err
    assert cli.ok("runs", "join", "r1", "-q", "--folder", str(tmp_path / "moved")).out == (
        "gate: done\n"
    )


def test_a_detached_run_goes_on_in_the_background(
    cli: Cli, team: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))

    told = cli.json("run", str(team), "first gate", "--id", "r1", "--detach")

    assert told["run"]["id"] == "r1"
    assert told["log"] == str(tmp_path / "run-r1.log")
    (team.parent / "open").touch()
    watched = cli.ok("runs", "watch", "r1")
    assert "worker did gate" in watched.out
    assert cli.json("runs", "show", "r1")["answer"] == "first: done\ngate: done"


def test_with_the_embedded_engine_a_detached_run_logs_beside_its_data(
    team: Path, tmp_path: Path
) -> None:
    data = str(tmp_path / "data")

    ran = run_alone("run", str(team), "first", "--id", "r1", "--detach", "--data", data)

    assert ran.code == 0, ran
    assert ran.out.splitlines()[1] == f"Log: {tmp_path}/data/run-r1.log"
    watched = run_alone("runs", "watch", "r1", "--data", data)
    assert watched.code == 0, watched
    assert "first: done\n" in watched.out


# An engine for one run


@pytest.fixture
def short_tmp() -> Iterator[Path]:
    """A folder for temporary files whose path leaves room for a socket's name."""
    with tempfile.TemporaryDirectory(prefix="cb") as folder:
        yield Path(folder)


@pytest.fixture
def temporary(team: Path) -> Path:
    """The team's file, asking for an engine that ends with the process."""
    team.write_text(TEAM + "providers: {tasks: {backend: in_memory}}\n")
    return team


def test_an_engine_for_one_run_leaves_nothing_behind(
    temporary: Path, tmp_path: Path, short_tmp: Path
) -> None:
    ran = run_alone("run", str(temporary), "first", env={"TMPDIR": str(short_tmp)}, cwd=tmp_path)

    assert ran.code == 0, ran
    assert ran.out.startswith("first: done\n")
    assert ran.out.endswith("Its engine was temporary: nothing of it is kept.\n")
    assert [each.name for each in short_tmp.iterdir() if each.name != SOCKETS] == []
    assert not (tmp_path / ".callboard").exists()


def test_a_run_left_on_an_engine_for_one_run_is_told_to_be_gone(
    temporary: Path, tmp_path: Path, short_tmp: Path
) -> None:
    program = Program(["run", str(temporary), "gate"], env={"TMPDIR": str(short_tmp)}, cwd=tmp_path)
    program.read_until("worker begins gate", stderr=True)

    program.signal(signal.SIGINT)
    left = program.end()

    assert left.code == 130
    assert left.err.endswith("Its engine was temporary: nothing of it is kept.\n")
    assert "join" not in left.err
    assert [each.name for each in short_tmp.iterdir() if each.name != SOCKETS] == []


def test_what_would_be_gone_at_once_is_not_detached(temporary: Path, tmp_path: Path) -> None:
    ran = run_alone("run", str(temporary), "first", "--detach", cwd=tmp_path)

    assert ran.code == 2
    assert "--data .callboard" in ran.err


# Looking at runs


def test_runs_are_listed_the_newest_first_and_by_team_and_phase(cli: Cli, team: Path) -> None:
    cli.ok("run", str(team), "first", "--id", "r1")
    cli("run", str(team), "gate", "--id", "r2", "--timeout", "100ms")

    listed = cli.ok("runs", "list").out.splitlines()

    assert listed[0].split() == ["RUN", "PHASE", "TEAM", "SINCE", "REQUEST"]
    assert [line.split()[0] for line in listed[1:]] == ["r2", "r1"]
    done = cli.json("runs", "list", "--phase", "done")["runs"]
    assert [run["id"] for run in done] == ["r1"]
    assert cli.ok("runs", "list", "--team", "nosuch").out == "No runs match.\n"
    assert cli.ok("runs", "list", "-n", "1").out.endswith("There may be more: -n 2\n")


def test_a_replay_tells_everything_once_and_goes_on_from_a_cursor(cli: Cli, team: Path) -> None:
    cli.ok("run", str(team), "first", "--id", "r1")

    events = [
        json.loads(line) for line in cli.ok("--json", "runs", "replay", "r1").out.splitlines()
    ]

    types = [event["type"] for event in events]
    assert types[:2] == ["team_start", "phase_change"]
    assert types[-1] == "done"
    assert types.count("task_completed") == 1
    place = types.index("task_claimed")
    rest = cli.ok("--json", "runs", "replay", "r1", "--from", events[place]["cursor"])
    assert [json.loads(line) for line in rest.out.splitlines()] == events[place + 1 :]


def test_watching_for_a_program_ends_with_the_run_and_with_its_exit_code(
    cli: Cli, team: Path
) -> None:
    host = held_at_gate(cli, team, "--id", "r1")
    watcher = cli.started("runs", "watch", "r1", "--json")
    watcher.read_until("task_claimed")

    cli.ok("runs", "cancel", "r1", "--reason", "outdated")

    ended = watcher.end()
    assert ended.code == 1
    assert "cancelled" in [json.loads(line)["type"] for line in ended.out.splitlines()]
    left = host.end()
    assert left.code == 1
    assert "Run r1 cancelled: outdated. 3 tasks (2 cancelled, 1 done) in " in left.out


def test_the_graph_of_a_run_is_that_of_its_board(cli: Cli, team: Path) -> None:
    cli.ok("run", str(team), "first last", "--id", "r1")

    assert cli.ok("runs", "graph", "r1").out == cli.ok("tasks", "graph", "--board", "r1").out
    assert '"first" -> "last"' in cli.ok("runs", "graph", "r1", "--dot").out


def test_a_paused_run_begins_nothing_until_it_is_resumed(cli: Cli, team: Path) -> None:
    cli("run", str(team), "gate last", "--id", "r1", "--timeout", "200ms")

    paused = cli.ok("runs", "pause", "r1")

    assert paused.out.startswith("Paused run r1. Undo it: callboard runs resume r1 --url ")
    assert cli.ok("runs", "list").out.splitlines()[1].split()[1] == "paused"
    assert cli.ok("runs", "resume", "r1").out == "Run r1 goes on.\n"
    assert cli.json("runs", "show", "r1")["run"]["is_paused"] is False


@pytest.mark.parametrize("verb", ["pause", "resume"])
def test_a_run_that_has_ended_is_neither_paused_nor_resumed(
    cli: Cli, team: Path, verb: str
) -> None:
    cli.ok("run", str(team), "first", "--id", "r1")

    ran = cli("runs", verb, "r1")

    assert (ran.code, ran.out) == (1, "")
    assert ran.err.startswith("Error: Run r1 has ended (done): ")


def test_a_run_that_was_deleted_before_its_answer_was_read_is_told_with_how_it_ended(
    cli: Cli, team: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    serve = Host.serve

    async def and_be_deleted(host: Host) -> Run:
        ended = await serve(host)
        await host._cb.runs.delete(ended.id)
        return ended

    monkeypatch.setattr(Host, "serve", and_be_deleted)

    ran = cli("run", str(team), "first", "--id", "r1")

    assert ran.code == 4
    assert ran.err.endswith(
        "Error: Run r1 ended (done), and somebody deleted it before its answer was read here.\n"
    )


def test_a_retry_that_is_not_hosted_here_is_left_to_others(cli: Cli, team: Path) -> None:
    cli.ok("run", str(team), "broken", "--id", "r1")
    (team.parent / "mended").touch()

    ran = cli.ok("runs", "retry", "r1", "--no-host")

    assert ran.out.startswith("Put back. Follow it: callboard runs watch r1")
    assert cli.json("runs", "show", "r1")["run"]["phase"] == "execution"
    assert cli.ok("runs", "join", "r1", "-q").out == "broken: done\n"


def test_runs_are_deleted_by_id_or_by_age(cli: Cli, team: Path) -> None:
    for name in ("r1", "r2", "r3"):
        cli.ok("run", str(team), "first", "--id", name)

    assert cli.ok("runs", "delete", "r2").out == "Deleted run r2.\n"
    assert cli("runs", "delete", "last").code == 2
    assert cli.ok("runs", "delete", "--older-than", "1h", "--yes").out == (
        "No run matches, so nothing was changed.\n"
    )
    assert cli.ok("runs", "delete", "--older-than", "0", "--yes").out == "Deleted 2 runs.\n"
    assert cli.json("runs", "list") == {"runs": []}
