"""Hosts of runs that are killed, in every phase and between any two steps, and those after them."""

from __future__ import annotations

import asyncio
import json
import signal
import uuid
from collections import Counter
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest

import callboard
from callboard.domain.event import Gap
from callboard.domain.run import Phase, Run
from callboard.exceptions import IllegalState
from tests.chaos.processes import Program, Stage
from tests.waiting import until

LEASE = 1.0
PLAYED_AT_ONCE = 4

TEAM = {
    "team": {"planner": "planner", "synthesizer": "writer", "workers": ["w"], "replan": "idle"},
    "agents": {name: {"callable": "nobody:asks"} for name in ("planner", "writer", "w")},
}
ANSWER = {"a": "did a", "b": "did b", "c": "did c", "d": "did d"}

# Where the first host dies; what it was executing just then, which is executed again; and how
# often planner and synthesizer are asked in all. The plan is a, then b, then c; then d.
POINTS = [
    ("planning", "", 4, 1),
    ("accepted", "", 3, 1),
    ("submitted", "", 3, 1),
    ("claimed-a", "", 3, 1),
    ("claimed-c", "", 3, 1),
    ("working-a", "a", 3, 1),
    ("working-b", "b", 3, 1),
    ("replanning-2", "", 4, 1),
    ("submitted-2", "", 3, 1),
    ("replanning-3", "", 4, 1),
    ("asked", "", 3, 1),
    ("synthesis", "", 3, 2),
    ("answered", "", 3, 1),
    ("ended", "", 3, 1),
]

pytestmark = pytest.mark.timeout(180)


class Scene:
    """A run, its hosts, and the file in which its members write what they do."""

    def __init__(self, stage: Stage, url: str, namespace: str, log: Path) -> None:
        self.url, self.namespace = url, namespace
        self._stage = stage
        self._log = log
        self._log.touch()

    async def begin(self, cb: callboard.Callboard) -> Run:
        await cb.teams.add("team", TEAM)
        self.run = await cb.runs.start("team", "Do it.")
        return self.run

    def host(self, **arguments: Any) -> Program:
        return self._stage.start(
            "team_host",
            url=self.url,
            namespace=self.namespace,
            run=self.run.id,
            lease=LEASE,
            log=str(self._log),
            **arguments,
        )

    def killed_at(self, point: str) -> None:
        """Let a host die there."""
        host = self.host(die=point)
        assert host.wait() == -signal.SIGKILL, (point, host.errors)

    def ended_by_another(self) -> None:
        host = self.host()
        assert host.wait() == 0, host.errors

    def noted(self, what: str) -> list[dict[str, Any]]:
        lines = [json.loads(line) for line in self._log.read_text().splitlines()]
        return [line for line in lines if line["what"] == what]

    @property
    def begun(self) -> Counter[str]:
        """How often each task was executed."""
        return Counter(line["task"] for line in self.noted("began"))

    async def events(self, cb: callboard.Callboard) -> Counter[str]:
        found: Counter[str] = Counter()
        async for event in cb.runs.events(self.run.id):
            assert not isinstance(event, Gap)
            found[event.type] += 1
        return found


@pytest.fixture
def scene(stage: Stage, engine_url: str, namespace: str, tmp_path: Path) -> Scene:
    return Scene(stage, engine_url, namespace, tmp_path / "log")


@pytest.fixture(scope="module")
def played(engine_url: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[dict[str, Scene]]:
    """For each point a run whose first host died there, and which a second host has ended."""
    folder = tmp_path_factory.mktemp("runs")
    namespace = f"killed-hosts-{uuid.uuid4().hex[:12]}"
    stage = Stage(Path(__file__).parent / "programs")
    scenes = {point: Scene(stage, engine_url, namespace, folder / point) for point, *_ in POINTS}

    async def begin() -> None:
        async with callboard.connect(engine_url, namespace=namespace) as cb:
            for scene in scenes.values():
                await scene.begin(cb)

    def play(point: str) -> None:
        scenes[point].killed_at(point)
        scenes[point].ended_by_another()

    try:
        asyncio.run(begin())
        with ThreadPoolExecutor(PLAYED_AT_ONCE) as pool:
            list(pool.map(play, scenes))
        yield scenes
    finally:
        stage.close()


@pytest.mark.parametrize(
    ("point", "again", "plans", "answers"), POINTS, ids=[point[0] for point in POINTS]
)
async def test_a_run_whose_host_is_killed_is_ended_by_another(
    played: dict[str, Scene], point: str, again: str, plans: int, answers: int
) -> None:
    """What was claimed stays claimed, what was planned is planned again, and the run is lost."""
    scene = played[point]
    async with callboard.connect(scene.url, namespace=scene.namespace) as cb:
        ended = await cb.runs.get(scene.run.id)
        answer = await cb.runs.result(scene.run.id)
        events = await scene.events(cb)

    assert (ended.phase, ended.generation, ended.round) == (Phase.DONE, 1, 3)
    assert answer == ANSWER
    assert scene.begun == {task: 1 + (task == again) for task in "abcd"}
    assert (len(scene.noted("planned")), len(scene.noted("wrote"))) == (plans, answers)
    assert (events["done"], events["error"], events["task_failed"]) == (1, 0, 0)
    assert (events["task_created"], events["task_completed"]) == (4, 4)
    assert bool(events["run_resumed"]) == (point != "ended")


async def test_of_two_hosts_one_is_killed_and_the_other_ends_the_run(
    scene: Scene, cb: callboard.Callboard, tmp_path: Path
) -> None:
    gate = tmp_path / "gate"
    run = await scene.begin(cb)
    hosts = {host.pid: host for host in (scene.host(gate=str(gate)), scene.host(gate=str(gate)))}

    async def b_was_begun() -> bool:
        return scene.begun["b"] == 1

    await until(b_was_begun, "a host does b")
    [working] = [line["pid"] for line in scene.noted("began") if line["task"] == "b"]
    hosts.pop(working).kill()
    gate.touch()
    [left] = hosts.values()

    assert left.wait() == 0, left.errors
    assert (await cb.runs.get(run.id)).phase is Phase.DONE
    assert await cb.runs.result(run.id) == ANSWER
    assert scene.begun == {"a": 1, "b": 2, "c": 1, "d": 1}
    events = await scene.events(cb)
    assert (events["done"], events["task_completed"]) == (1, 4)


async def test_a_run_whose_hosts_are_killed_one_after_another_ends(
    scene: Scene, cb: callboard.Callboard
) -> None:
    run = await scene.begin(cb)
    for point in ("planning", "accepted", "working-b", "submitted-2", "answered"):
        scene.killed_at(point)

    scene.ended_by_another()

    assert (await cb.runs.get(run.id)).phase is Phase.DONE
    assert await cb.runs.result(run.id) == ANSWER
    assert scene.begun == {"a": 1, "b": 2, "c": 1, "d": 1}
    assert len(scene.noted("wrote")) == 1
    assert (await scene.events(cb))["done"] == 1


async def test_a_run_that_was_cancelled_while_its_host_was_dead_stays_cancelled(
    scene: Scene, cb: callboard.Callboard
) -> None:
    run = await scene.begin(cb)
    scene.killed_at("working-b")
    await cb.runs.cancel(run.id)

    scene.ended_by_another()

    events = await scene.events(cb)
    assert (await cb.runs.get(run.id)).phase is Phase.CANCELLED
    assert scene.begun == {"a": 1, "b": 1}
    assert (events["cancelled"], events["done"]) == (1, 0)

    async def can_be_deleted() -> bool:
        try:
            await cb.runs.delete(run.id)
        except IllegalState:
            return False
        return True

    await until(can_be_deleted, "the lease of the killed host is over")
