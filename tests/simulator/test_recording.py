"""Recorded loads: what a board did, read as agents with speeds and tasks with work."""

from __future__ import annotations

import json
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from callboard.domain.agent import Agent, State
from callboard.domain.task import Requirements, Status, Task
from callboard.exceptions import InvalidArgument
from callboard.simulator.recording import read_recording, record
from callboard.simulator.scenario import Scenario

NOON = datetime(2026, 5, 4, 12, tzinfo=UTC)


def written(tmp_path: Path, *rows: dict[str, Any] | str) -> Path:
    file = tmp_path / "load.jsonl"
    lines = (row if isinstance(row, str) else json.dumps(row) for row in rows)
    file.write_text("\n".join(lines) + "\n", "utf-8")
    return file


def read(tmp_path: Path, *rows: dict[str, Any] | str) -> Scenario:
    return read_recording(written(tmp_path, *rows))


@pytest.mark.parametrize(
    ("row", "says"),
    [
        ("nonsense", r"load.jsonl:2: .*malformed"),
        ('{"at": 1}', r":2: .*`seconds`"),
        ('{"at": -1, "seconds": 1}', r":2: .*negative"),
        ('{"at": "x", "seconds": 1}', r":2: .*Expected `float`"),
        ('{"speed": 1}', r":2: .*`agent`"),
        ("[1]", r":2: .*Expected `object`"),
    ],
)
def test_a_line_that_is_none_is_named(tmp_path: Path, row: str, says: str) -> None:
    with pytest.raises(InvalidArgument, match=says):
        read(tmp_path, {"at": 0, "seconds": 1}, row)


def test_a_file_without_tasks_says_how_to_get_some(tmp_path: Path) -> None:
    with pytest.raises(InvalidArgument, match="callboard simulate record"):
        read(tmp_path, {"agent": "a"})


def test_speeds_follow_from_how_long_each_took_for_the_same_kind(tmp_path: Path) -> None:
    rows = [
        {"at": i, "kind": kind, "seconds": seconds * factor, "agent": agent}
        for i in range(50)
        for kind, seconds in (("short", 1.0), ("long", 60.0))
        for agent, factor in (("quick", 0.5), ("slow", 2.0))
    ]

    found = read(tmp_path, *rows)

    speeds = {agent.id: agent.speed for agent in found.agents}
    assert speeds == {"quick": pytest.approx(2.0, rel=0.05), "slow": pytest.approx(0.5, rel=0.05)}
    work = {task.kind: task.work for task in found.tasks}
    assert work == {"short": pytest.approx(1, rel=0.05), "long": pytest.approx(60, rel=0.05)}


def test_an_agent_that_only_tasks_name_has_as_many_slots_as_it_used(tmp_path: Path) -> None:
    found = read(
        tmp_path,
        {"at": 0, "seconds": 10, "agent": "a", "ended": 10},
        {"at": 0, "seconds": 5, "agent": "a", "ended": 8},
        {"at": 0, "seconds": 2, "agent": "a", "ended": 10},
        {"at": 0, "seconds": 2, "agent": "a", "ended": 12},
        {"agent": "b", "slots": 7},
    )

    assert {agent.id: agent.slots for agent in found.agents} == {"a": 2, "b": 7}


def test_agents_are_made_up_where_none_is_named(tmp_path: Path) -> None:
    found = read(tmp_path, {"at": 0, "seconds": 1, "requires": ["net"]})

    assert len(found.agents) == 40
    assert all("net" in agent.skills for agent in found.agents)


def test_dependencies_are_found_by_id_and_the_unknown_are_left_out(tmp_path: Path) -> None:
    found = read(
        tmp_path,
        {"at": 5, "seconds": 1, "id": "join", "depends_on": ["root", "gone"]},
        {"at": 0, "seconds": 1, "id": "root"},
    )

    assert [task.depends_on for task in found.tasks] == [(), (0,)]


def test_an_agent_that_names_kinds_is_given_no_others(tmp_path: Path) -> None:
    found = read(
        tmp_path,
        {"agent": "reader", "skills": ["kind:read"]},
        {"agent": "any"},
        {"at": 0, "seconds": 1, "kind": "read"},
        {"at": 1, "seconds": 1, "kind": "write"},
    )

    fits = [
        [agent.id for agent in found.agents if task.requires <= agent.skills]
        for task in found.tasks
    ]
    assert fits[0] == ["reader", "any"]


def done(task_id: str, at: float, seconds: float, **fields: Any) -> Task:
    return Task(
        id=task_id,
        board="b",
        kind="fetch",
        status=Status.DONE,
        created_at=NOON + timedelta(seconds=at),
        since=NOON + timedelta(seconds=at + 1 + seconds),
        duration=seconds,
        agent="mira",
        **fields,
    )


def test_what_is_recorded_can_be_read(tmp_path: Path) -> None:
    agent = Agent(
        id="mira",
        agent_type="worker",
        status="active",
        declared="active",
        state=State.ACTIVE,
        reason="",
        health=1.0,
        capabilities=("net",),
        services=("db",),
        labels={"zone": "eu"},
        slots=3,
        registered_at=NOON,
        at=NOON,
    )
    needs = Requirements(agent_type="worker", capabilities=("net",), labels={"zone": "eu"})
    tasks = [
        done("t2", 2.5, 1.0, depends_on=("t1",), priority=5),
        done("t1", 0.0, 4.0, requirements=needs),
    ]
    file = tmp_path / "load.jsonl"

    file.write_bytes(b"\n".join(record(tasks, [agent])))
    found = read_recording(file)

    assert [(t.at, t.kind, t.priority, t.depends_on) for t in found.tasks] == [
        (0.0, "fetch", 0, ()),
        (2.5, "fetch", 5, (0,)),
    ]
    assert [(a.id, a.slots) for a in found.agents] == [("mira", 3)]
    assert found.tasks[0].requires == {"net", "label:zone=eu", "type:worker"}
    assert found.tasks[0].requires <= found.agents[0].skills
    assert b"payload" not in file.read_bytes()
