"""``callboard engine``, ``functions`` and ``doctor``."""

from __future__ import annotations

import json
from datetime import UTC, datetime
from pathlib import Path

import pytest

from callboard.cli import doctor, main
from callboard.engine.probe import EngineFacts
from tests.interfaces.cli_support import Cli, Program, run_alone


def facts(**changes: object) -> EngineFacts:
    values: dict[str, object] = {
        "software": "valkey",
        "version": "9.1.0",
        "is_cluster": False,
        "durability": "everysec",
        "replicas": 0,
        "maxmemory": 0,
        "used_memory": 1 << 20,
        "incarnation": "a",
        "format": "1.0",
        **changes,
    }
    return EngineFacts(**values)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("durability", "level", "said"),
    [
        ("always", "ok", "before it is acknowledged"),
        ("everysec", "ok", "a power cut may cost the last second"),
        ("snapshots", "note", "a crash loses"),
        ("none", "note", "loses everything"),
        ("unknown", "note", "nothing can be said"),
        ("no", "note", "appendfsync is no"),
    ],
)
def test_durability_is_told_as_it_is(durability: str, level: str, said: str) -> None:
    found = {finding.about: finding for finding in doctor.of_engine(facts(durability=durability))}

    assert found["durability"].level == level
    assert said in found["durability"].text


def test_an_engine_that_is_nearly_full_is_a_problem() -> None:
    found = {
        finding.about: finding
        for finding in doctor.of_engine(facts(maxmemory=100 << 20, used_memory=95 << 20))
    }

    assert found["memory"].level == "problem"
    assert "95%" in found["memory"].text
    assert "purge" in found["memory"].cure


@pytest.mark.parametrize(
    ("server", "level", "said"),
    [
        (1000.5, "ok", "within"),
        (1030.5, "note", "30.0 s behind"),
        (970.5, "note", "30.0 s ahead of"),
    ],
)
def test_a_clock_that_is_off_is_noted(server: float, level: str, said: str) -> None:
    found = doctor.of_clock(server, 1000.0, 1001.0)

    assert found.level == level
    assert said in found.text


@pytest.mark.parametrize(
    ("server", "said"),
    [
        (1000.0, "unknown"),
        (1003.9, "unknown"),
        (1004.5, "unknown"),
        (1031.0, "29.0 s behind"),
    ],
)
def test_a_slow_answer_is_not_taken_for_a_clock_that_is_off(server: float, said: str) -> None:
    found = doctor.of_clock(server, 1000.0, 1004.0)

    assert found.level == "note"
    assert said in found.text


def test_all_is_well_on_a_new_namespace(cli: Cli) -> None:
    told = cli.ok("doctor")
    value = cli.json("doctor")

    assert told.out.endswith("All is well.\n")
    assert value["ok"] is True
    assert {finding["about"] for finding in value["findings"]} >= {
        "callboard",
        "choice",
        "engine",
        "durability",
        "memory",
        "clock",
        "agents",
        "boards",
    }


def test_tasks_that_nobody_can_claim_are_a_problem(cli: Cli) -> None:
    task = cli.add("greet")

    ran = cli("doctor")

    assert ran.code == 1
    assert f"nobody can claim {task}" in ran.out
    assert "callboard worker module:app" in ran.out
    assert "1 problem, 0 notes." in ran.out


def test_what_waits_for_a_person_is_noted(cli: Cli) -> None:
    cli.bury("greet")
    cli.add("greet")
    task, fence = cli.claim()
    cli.ok("tasks", "ask", task, "--fence", fence, '"Which branch?"')
    cli.ok("boards", "pause", "default")

    told = cli.ok("doctor").out

    assert "Cure: callboard boards resume default" in told
    assert "1 dead letter" in told
    assert "1 task waiting for an answer" in told
    assert "0 problems, 3 notes." in told


def test_a_doctor_without_an_engine_says_so(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    code = main(["doctor", "--json", "--url", f"unix://{tmp_path}/nosuch.sock"])

    value = json.loads(capsys.readouterr().out)
    assert code == 3
    assert value["ok"] is False
    assert value["findings"][-1]["level"] == "problem"


def test_a_server_is_not_ours_to_stop(cli: Cli) -> None:
    for verb in ("status", "stop"):
        ran = cli("engine", verb)

        assert ran.code == 2
        assert "--data" in ran.err


def test_functions_are_loaded(cli: Cli) -> None:
    value = cli.json("functions", "load")

    assert value["library"].startswith("callboard_")
    assert value["functions"] > 30
    assert "is loaded" in cli.ok("functions", "load").out


def test_an_engine_that_never_ran_is_stopped(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    code = main(["engine", "status", "--data", str(tmp_path / "board")])
    told = capsys.readouterr().out
    stopped = main(["engine", "stop", "--data", str(tmp_path / "board"), "--json"])
    value = json.loads(capsys.readouterr().out)

    assert code == 3
    assert "stopped" in told
    assert (stopped, value["stopped"]) == (0, False)
    assert not (tmp_path / "board").exists()


def test_the_embedded_engine_lives_as_long_as_it_is_used(tmp_path: Path) -> None:
    where = ["--data", str(tmp_path / "board")]
    added = run_alone("tasks", "add", "greet", "--id", "a", *where)
    tail = Program(["tail", "--since", "1h", *where])
    tail.read_until("task:created")

    running = run_alone("engine", "status", "--json", *where)
    in_use = run_alone("engine", "stop", *where)
    forced = run_alone("engine", "stop", "--force", *where)
    kept = run_alone("tasks", "show", "a", "--json", *where)
    tail.process.terminate()
    tail.end()

    assert added.code == 0
    assert (running.code, running.json["state"], running.json["in_use"]) == (0, "ready", True)
    assert in_use.code == 1
    assert "is in use" in in_use.err
    assert forced.code == 0
    assert kept.json["status"] == "pending"


def test_a_lost_agent_is_noted_with_the_cure() -> None:
    from callboard.domain.agent import Agent, State

    now = datetime.now(UTC)
    agent = Agent(
        id="mira",
        agent_type="worker",
        status="inactive",
        declared="active",
        state=State.LOST,
        reason="mira was not heard for 30 s; what it held was given back.",
        health=0.0,
        registered_at=now,
        gone="lost",
        gone_at=now,
        at=now,
    )

    about, lost = doctor.of_agents([agent])

    assert about.text == "1 known, 0 of them may take work"
    assert (lost.level, lost.about) == ("note", "agent mira")
    assert lost.cure.endswith("callboard agents deregister mira")
