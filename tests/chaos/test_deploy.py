"""What docs/how-to/deploy.md says of backups and upgrades, done for real."""

from __future__ import annotations

import re
import shutil
from pathlib import Path
from typing import Any

import pytest

import callboard
from callboard.domain.event import Gap
from tests.chaos.board import check_each_was_done_once
from tests.chaos.coordinator_load import Load
from tests.engine.connection_support import Engine
from tests.http.nodes import Node
from tests.waiting import block_until

ROOT = Path(__file__).resolve().parents[2]

pytestmark = pytest.mark.timeout(300)


# Backup


def fill(node: Node, first: int, count: int) -> None:
    for number in range(first, first + count):
        node.ok("POST", "/tasks", {"id": f"t-{number}", "kind": "greet", "payload": number})


def tasks_of(node: Node) -> set[str]:
    found = node.ok("GET", "/tasks?limit=1000")["page"]["tasks"]
    return {task["id"] for task in found}


def named(first: int, count: int) -> set[str]:
    return {f"t-{number}" for number in range(first, first + count)}


def check_it_works(node: Node) -> None:
    """Tasks can be claimed and completed, those of the backup first."""
    node.ok("PUT", "/agents/mira", {})
    (one,) = node.ok("POST", "/tasks/claim", {"agent": "mira"})["claims"]["tasks"]
    node.ok("POST", f"/tasks/{one['id']}/complete", {"fence": one["fence"], "result": 1})


def snapshot(engine: Engine, to: Path) -> tuple[str, ...]:
    before = engine.admin.lastsave()
    engine.admin.bgsave()
    block_until(
        lambda: (
            engine.admin.info("persistence")["rdb_bgsave_in_progress"] == 0
            and engine.admin.lastsave() >= before
        ),
        "the snapshot",
    )
    shutil.copy(engine.folder / "dump.rdb", to / "dump.rdb")
    return ("--appendonly", "no")


def log_copied(engine: Engine, to: Path) -> tuple[str, ...]:
    engine.admin.config_set("auto-aof-rewrite-percentage", 0)
    shutil.copytree(engine.folder / "appendonlydir", to / "appendonlydir")
    engine.admin.config_set("auto-aof-rewrite-percentage", 100)
    return ("--appendonly", "yes")


@pytest.mark.parametrize("way", [snapshot, log_copied], ids=["snapshot", "log"])
async def test_a_backup_taken_under_way_is_an_engine_again(way: Any, tmp_path: Path) -> None:
    with Engine("--appendonly", "yes") as engine, Node("--url", engine.url) as node:
        fill(node, 0, 50)
        (claimed,) = await claim(engine.url)
        options = way(engine, tmp_path)
        fill(node, 50, 20)
        async with callboard.connect(engine.url) as cb:
            late = await cb.events.cursor()

    restored = Engine(*options)
    for part in tmp_path.iterdir():
        part.rename(restored.folder / part.name)
    with restored, Node("--url", restored.url) as node:
        found = tasks_of(node)
        check_it_works(node)
        node.ok("POST", f"/tasks/{claimed}/cancel", {})
        async with callboard.connect(restored.url) as cb:
            told, _ = await cb.events.read(late)

    assert found == named(0, 50)
    assert isinstance(told[0], Gap), "a reader that was ahead is told that it missed something"


async def claim(url: str) -> list[str]:
    async with callboard.connect(url) as cb:
        await cb.agents.register("noor")
        return [task.id for task in (await cb.tasks.claim("noor")).tasks]


def test_a_copy_of_a_stopped_embedded_engine_is_one_of_its_own(tmp_path: Path) -> None:
    source, copy = tmp_path / "source", tmp_path / "copy"
    with Node("--data", str(source)) as node:
        fill(node, 0, 10)
        assert node.stop() == 0
    shutil.copytree(source, copy, ignore=shutil.ignore_patterns("*.sock"))

    with Node("--data", str(source)) as node, Node("--data", str(copy)) as other:
        fill(node, 10, 5)
        check_it_works(other)
        found, elsewhere = tasks_of(node), tasks_of(other)

    assert found == named(0, 15)
    assert elsewhere == named(0, 10)


# Upgrade


@pytest.fixture
def newer(tmp_path: Path) -> Path:
    """A release with another function library: one in whose functions something was changed."""
    source = tmp_path / "newer"
    shutil.copytree(ROOT / "src", source, ignore=shutil.ignore_patterns("__pycache__"))
    function = source / "callboard" / "engine" / "lua" / "task_complete.lua"
    text = function.read_text()
    first = re.search(r"^local ", text, re.MULTILINE)
    assert first is not None
    changed = f"local _a_newer_release = 1\n{text[first.start() :]}"
    function.write_text(text[: first.start()] + changed)
    return source


async def test_nodes_of_two_releases_work_side_by_side_and_the_old_may_go(newer: Path) -> None:
    with (
        Engine() as engine,
        Node("--url", engine.url) as old,
        Node("--url", engine.url, env={"PYTHONPATH": str(newer)}) as new,
    ):
        async with Load([old.url, new.url], submitters=10, agents=10) as load:
            await load.until(lambda: len(load.completed) > 200, "both work")
            libraries = engine.admin.execute_command("FUNCTION", "LIST")
            old.kill()
            before = len(load.completed)
            await load.until(lambda: len(load.completed) > before + 100, "the new one does")
            await load.finish()
        async with callboard.connect(engine.url) as board:
            await check_each_was_done_once(board, sorted(load.acknowledged))

    assert len(libraries) == 2
    assert set(load.statuses()) <= {409}
