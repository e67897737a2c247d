"""``callboard init``: what it writes runs, and nothing that was there is lost."""

from __future__ import annotations

import importlib.util
import json
import subprocess
from pathlib import Path
from types import ModuleType
from typing import Any

import msgspec
import pytest

from callboard.domain.plan import read_plan
from callboard.teams.document import read_document, team_of
from callboard.teams.requests import (
    Outcome,
    PlanLimits,
    PlanRequest,
    SynthesisRequest,
    TaskNote,
    WorkRequest,
)
from tests.interfaces.cli_support import Cli

NAMES = ["team.yaml", "handlers.py", "counter.py"]
ASKED: dict[str, Any] = {"run": "r1", "team": "survey", "request": "What is in this folder?"}


@pytest.fixture
def started(cli: Cli, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The folder ``team`` as init leaves it, below the working directory."""
    monkeypatch.chdir(tmp_path)
    cli.ok("init", "team")
    return tmp_path / "team"


def handlers_of(folder: Path) -> ModuleType:
    spec = importlib.util.spec_from_file_location("handlers_of_init", folder / "handlers.py")
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def plan_request(request: str) -> PlanRequest:
    limits = PlanLimits(tasks_left=200, rounds_left=5)
    return PlanRequest(
        **{**ASKED, "request": request}, agent="planner", round=1, workers=(), limits=limits
    )


def run_counter(folder: Path, request: WorkRequest) -> Any:
    done = subprocess.run(
        ["python3", "counter.py"],
        input=msgspec.json.encode(request) + b"\n",
        capture_output=True,
        cwd=folder,
        timeout=60,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


def work_through(folder: Path, request: str) -> Any:
    """Do what a run of the team does, task by task; answer what the synthesizer writes."""
    handlers = handlers_of(folder)
    plan = read_plan(
        handlers.plan(plan_request(request)),
        round_number=1,
        members={"counter": (), "reader": ()},
        tasks_left=200,
    )
    outcomes: dict[str, Outcome] = {}
    for task in plan.tasks:
        work = WorkRequest(
            **ASKED,
            agent=task.worker,
            task=TaskNote(id=task.id, title=task.title, payload=task.payload),
            results={need: outcomes[need] for need in task.depends_on},
        )
        result = run_counter(folder, work) if task.worker == "counter" else handlers.read(work)
        outcomes[task.id] = Outcome(
            id=task.id, title=task.title, status="done", worker=task.worker, result=result
        )
    return handlers.write(
        SynthesisRequest(
            **ASKED, agent="writer", tasks=tuple(outcomes.values()), counts={"done": len(outcomes)}
        )
    )


# What it refuses


def test_a_file_that_is_there_is_kept_and_nothing_is_written(cli: Cli, tmp_path: Path) -> None:
    (tmp_path / "handlers.py").write_text("mine")

    ran = cli("--json", "init", str(tmp_path))

    assert ran.code == 2
    assert ran.error["code"] == "config_error"
    assert ran.error["message"] == (
        f"{tmp_path} has handlers.py already. Name another folder, or have them replaced with "
        "--force."
    )
    assert [path.name for path in tmp_path.iterdir()] == ["handlers.py"]
    assert (tmp_path / "handlers.py").read_text() == "mine"


def test_a_link_that_leads_nowhere_is_not_written_through(cli: Cli, tmp_path: Path) -> None:
    (tmp_path / "team.yaml").symlink_to(tmp_path / "elsewhere")

    ran = cli("init", str(tmp_path))

    assert ran.code == 2
    assert [path.name for path in tmp_path.iterdir()] == ["team.yaml"]


def test_a_file_in_the_place_of_the_folder_is_refused(cli: Cli, tmp_path: Path) -> None:
    (tmp_path / "team").write_text("mine")

    ran = cli("init", str(tmp_path / "team"))

    assert ran.code == 2
    assert ran.err == (
        f"Error: {tmp_path / 'team'} cannot be written: File exists. Name another folder.\n"
    )


# What it writes


def test_force_replaces_what_is_there(cli: Cli, tmp_path: Path) -> None:
    (tmp_path / "handlers.py").write_text("mine")

    cli.ok("init", str(tmp_path), "--force")

    assert (tmp_path / "handlers.py").read_text().startswith('"""The agents of team.yaml')


def test_it_writes_into_the_working_directory_and_names_the_next_command(
    cli: Cli, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)

    ran = cli.ok("init")

    assert ran.out == (
        "Wrote team.yaml\n"
        "Wrote handlers.py\n"
        "Wrote counter.py\n"
        "Next: callboard run team.yaml 'What is in this folder?'\n"
    )
    assert sorted(path.name for path in tmp_path.iterdir()) == sorted(NAMES)


def test_it_makes_the_folder_and_tells_programs_what_to_run(
    cli: Cli, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)

    told = cli.json("init", "my team/first")

    assert told == {
        "folder": str(tmp_path / "my team/first"),
        "files": NAMES,
        "next": "callboard run 'my team/first/team.yaml' 'What is in this folder?'",
    }
    assert (tmp_path / "my team/first/team.yaml").is_file()


def test_the_team_is_one_that_callboard_reads(started: Path) -> None:
    document = read_document(started / "team.yaml", environ={})

    team = team_of("survey", document.teams["survey"], environ={})
    assert list(document.teams) == ["survey"]
    assert (team.planner, team.workers, team.synthesizer) == (
        "planner",
        ("counter", "reader"),
        "writer",
    )
    assert {name: agent.kind for name, agent in team.agents.items()} == {
        "planner": "callable",
        "counter": "command",
        "reader": "callable",
        "writer": "callable",
    }
    assert team.agents["counter"].timeout == 60.0


def test_a_value_of_the_team_may_be_given_from_outside(started: Path) -> None:
    document = read_document(started / "team.yaml", environ={})

    team = team_of("survey", document.teams["survey"], environ={"COUNT_SECONDS": "5"})

    assert team.agents["counter"].timeout == 5.0


# What the agents do


def test_the_agents_survey_the_folder_that_the_request_names(started: Path) -> None:
    notes = started.parent / "notes"
    (notes / "sub").mkdir(parents=True)
    (notes / ".hidden").mkdir()
    (notes / "a.md").write_text("# Harbour\n\nBoats and boats and harbour boats.\n")
    (notes / "sub" / "b.txt").write_text("one line\n")
    (notes / "sub" / "c.bin").write_bytes(b"\x00\x01")
    (notes / ".hidden" / "d.md").write_text("unseen\n")

    answer = work_through(started, "Please survey 'notes'.")

    assert answer == (
        "2 text files with 4 lines and 10 words: 1 .md, 1 .txt.\n"
        "\n"
        "The longest:\n"
        "\n"
        "- a.md, 3 lines. It begins: 'Harbour'. Its words: boats, harbour."
    )


def test_the_agents_survey_the_working_directory_unless_told_otherwise(started: Path) -> None:
    answer = work_through(started, "What is in this folder?")

    assert answer.startswith("3 text files with ")
    assert "2 .py, 1 .yaml" in answer
    assert "- team/handlers.py, " in answer


def test_a_folder_without_text_files_is_surveyed_too(started: Path) -> None:
    (started.parent / "empty").mkdir()

    assert work_through(started, "empty") == "There are no text files to survey here."


def test_many_files_are_shared_out_with_two_tasks_a_part(started: Path) -> None:
    many = started.parent / "many"
    many.mkdir()
    for n in range(60):
        (many / f"{n:02}.txt").write_text("x\n")

    tasks = handlers_of(started).plan(plan_request("many"))["tasks"]

    assert [task["id"] for task in tasks] == [
        "count-1",
        "read-1",
        "count-2",
        "read-2",
        "count-3",
        "read-3",
    ]
    assert [len(task["payload"]["files"]) for task in tasks[::2]] == [25, 25, 10]
    assert tasks[5]["depends_on"] == ["count-3"]


def test_bytes_that_are_no_text_are_counted_all_the_same(started: Path) -> None:
    (started / "odd.txt").write_bytes(b"\xff\xfe one\n\x80 two three\n")
    payload = {"folder": str(started), "files": ["odd.txt"]}
    task = TaskNote(id="count-1", title="Count", payload=payload)

    counted = run_counter(started, WorkRequest(**ASKED, agent="counter", task=task))

    assert counted == {"files": [{"path": "odd.txt", "lines": 2, "words": 5}]}


def test_what_was_not_done_is_named_in_the_answer(started: Path) -> None:
    counted = {"files": [{"path": "a.md", "lines": 3, "words": 8}]}
    tasks = (
        Outcome(id="count-1", title="Count a.md", status="done", result=counted),
        Outcome(id="read-1", title="Read a.md", status="failed", error="no such file"),
    )

    answer = handlers_of(started).write(
        SynthesisRequest(**ASKED, agent="writer", tasks=tasks, counts={"done": 1, "failed": 1})
    )

    assert answer.startswith("One text file with 3 lines and 8 words: a.md.\n")
    assert answer.endswith("\n\nNot done: Read a.md.")
