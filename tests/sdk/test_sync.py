"""``callboard.sync``: the asynchronous API, told to wait."""

from __future__ import annotations

import asyncio
import inspect
import os
import signal
import subprocess
import sys
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest

import callboard.sync
from callboard import Status, TaskSpec, app, locking, runs
from callboard.exceptions import (
    ConfigError,
    EngineError,
    IdConflict,
    LeaseLost,
    TaskFailed,
    TaskNotFound,
)
from callboard.sdk import sync
from callboard.services import (
    access,
    agents,
    boards,
    breakers,
    conflicts,
    context,
    dead_letters,
    events,
    scheduler,
    tasks,
    teams,
)


@pytest.fixture
def cb(engine_url: str, namespace: str) -> Iterator[callboard.sync.Callboard]:
    with callboard.sync.connect(engine_url, namespace=namespace, adopt=True) as opened:
        yield opened


# The same API

# A subscription belongs to the loop that waits on it.
ONLY_ASYNC = {"listen"}


@pytest.mark.parametrize(
    ("facade", "original"),
    [
        (sync.Tasks, app.BoardTasks),
        (sync.TaskHandle, tasks.TaskHandle),
        (sync.DeadLetters, dead_letters.DeadLetters),
        (sync.Boards, boards.Boards),
        (sync.Agents, agents.Agents),
        (sync.Events, events.Events),
        (sync.Teams, teams.Teams),
        (sync.Locks, locking.Locks),
        (sync.Runs, runs.Runs),
        (sync.Scheduler, scheduler.Scheduler),
        (sync.Breakers, breakers.Breakers),
        (sync.Contexts, context.Contexts),
        (sync.Conflicts, conflicts.Conflicts),
        (sync.Access, access.Access),
    ],
    ids=lambda one: f"{one.__module__}.{one.__name__}",
)
def test_each_method_has_its_counterpart_of_the_same_signature(
    facade: type[Any], original: type[Any]
) -> None:
    methods = {
        name: method
        for name, method in inspect.getmembers(original, inspect.isroutine)
        if not name.startswith("_") and name not in ONLY_ASYNC
    }

    for name, method in methods.items():
        mine = inspect.getattr_static(facade, name, None)
        assert mine is not None, f"{facade.__name__}.{name} is missing"
        mine = getattr(facade, name)
        assert not inspect.iscoroutinefunction(mine)
        assert list(inspect.signature(mine).parameters) == list(
            inspect.signature(method).parameters
        )
        assert inspect.getdoc(mine) == inspect.getdoc(method)


def test_connect_takes_what_the_asynchronous_one_takes() -> None:
    assert inspect.signature(callboard.sync.connect) == inspect.signature(callboard.connect)


# Refusals and errors


def test_an_exception_keeps_its_type_and_details(cb: callboard.sync.Callboard) -> None:
    cb.tasks.submit("greet", 1, id="t")

    with pytest.raises(IdConflict):
        cb.tasks.submit("greet", 2, id="t")
    with pytest.raises(TaskNotFound) as missing:
        cb.tasks.get("gone")
    with pytest.raises(LeaseLost):
        cb.tasks.complete("t", fence=7)
    with pytest.raises(TimeoutError):
        cb.tasks.handle("t").result(timeout=0.01)

    assert missing.value.details["task"] == "gone"


def test_an_unusable_url_is_refused_before_anything_starts() -> None:
    before = threading.active_count()

    with pytest.raises(ConfigError):
        callboard.sync.connect("nonsense://host")

    assert threading.active_count() == before


def test_a_failed_opening_leaves_no_thread_behind(tmp_path: Path) -> None:
    before = threading.active_count()
    tmp_path.joinpath("theirs").write_text("not an engine's")

    with pytest.raises(ConfigError):
        callboard.sync.connect(data=tmp_path).open()

    assert threading.active_count() == before


def test_a_call_after_close_says_so(engine_url: str, namespace: str) -> None:
    cb = callboard.sync.connect(engine_url, namespace=namespace, adopt=True).open()
    cb.close()
    cb.close()

    with pytest.raises(EngineError, match="is closed. Open a new one"):
        cb.tasks.submit("greet")
    with pytest.raises(EngineError, match="is not open"):
        callboard.sync.connect(engine_url).board("b")


def test_a_call_from_the_portals_own_thread_is_refused(cb: callboard.sync.Callboard) -> None:
    portal = cb.tasks._portal

    async def inside() -> None:
        cb.tasks.submit("greet")

    with pytest.raises(EngineError, match="would wait for itself"):
        portal.run(inside())


def test_closing_ends_a_call_that_waits_in_another_thread(engine_url: str, namespace: str) -> None:
    cb = callboard.sync.connect(engine_url, namespace=namespace, adopt=True).open()
    handle = cb.tasks.submit("greet")
    entered = threading.Event()

    def wait() -> None:
        entered.set()
        handle.result()

    with ThreadPoolExecutor(1) as threads:
        waiting = threads.submit(wait)
        entered.wait(10)
        cb.tasks.get(handle.id)
        cb.close()

        with pytest.raises(EngineError, match="closed"):
            waiting.result(10)


@pytest.mark.skipif(not hasattr(os, "fork"), reason="no fork here")
@pytest.mark.filterwarnings("ignore:.*fork.*:DeprecationWarning")
def test_a_forked_child_gets_an_error_and_leaves_the_parents_connection_alone(
    cb: callboard.sync.Callboard,
) -> None:
    cb.tasks.submit("greet", id="t")
    read, write = os.pipe()

    child = os.fork()
    if child == 0:
        try:
            cb.tasks.get("t")
        except EngineError as error:
            os.write(write, str(error).encode())
        finally:
            cb.close()
            os._exit(0)
    os.close(write)
    with os.fdopen(read) as pipe:
        said = pipe.read()
    os.waitpid(child, 0)

    assert "opened before a fork" in said
    assert cb.tasks.get("t").status is Status.PENDING


def test_ctrl_c_ends_the_wait_and_the_program(tmp_path: Path, valkey_url: str) -> None:
    program = """
import asyncio, sys, callboard.sync

async def waits():
    while any("Handle.result" in repr(task) for task in asyncio.all_tasks()):
        await asyncio.sleep(0)

with callboard.sync.connect(sys.argv[1], namespace=sys.argv[2], adopt=True) as cb:
    handle = cb.tasks.submit("greet", id="t")
    try:
        print("waiting", flush=True)
        handle.result()
    except KeyboardInterrupt:
        cb.tasks._portal.run(asyncio.wait_for(waits(), 5))
        print("interrupted", cb.tasks.get("t").status, flush=True)
"""
    namespace = "ctrl-c-" + tmp_path.name
    command = [sys.executable, "-c", program, valkey_url, namespace]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == "waiting\n"
        process.send_signal(signal.SIGINT)
        said = process.stdout.read()

    assert said == "interrupted pending\n"
    assert process.returncode == 0


# Use


def test_work_is_submitted_done_and_awaited(cb: callboard.sync.Callboard) -> None:
    handle = cb.tasks.submit("greet", {"name": "Ada"}, id="t")
    cb.agents.register("mira")

    claimed = cb.tasks.claim("mira").tasks[0]
    cb.tasks.complete(claimed.id, fence=claimed.fence, result="Hello Ada")

    assert (handle.id, handle.existed) == ("t", False)
    assert handle.result(timeout=10) == "Hello Ada"
    assert handle.task().status is Status.DONE
    assert cb.tasks.submit("greet", {"name": "Ada"}, id="t").existed
    assert [one.id for one in cb.tasks.submit_many([TaskSpec(kind="greet", id="u")])] == ["u"]
    assert cb.boards.get("default").counts.total == 2


def test_another_boards_view_has_its_own_tasks_and_dead_letters(
    cb: callboard.sync.Callboard,
) -> None:
    jobs = cb.board("jobs")
    cb.agents.register("mira")
    handle = jobs.tasks.submit("greet")

    claimed = jobs.tasks.claim("mira").tasks[0]
    jobs.tasks.fail(claimed.id, fence=claimed.fence, error="no", retryable=False)

    with pytest.raises(TaskFailed, match="no"):
        handle.result(timeout=10)
    assert [letter.id for letter in jobs.dead_letters.list()] == [handle.id]
    assert (jobs.name, jobs.tasks.board, jobs.dead_letters.board) == ("jobs", "jobs", "jobs")
    assert cb.dead_letters.count() == 0


def test_events_are_followed_with_a_for_loop(cb: callboard.sync.Callboard) -> None:
    cursor = cb.events.cursor()
    for number in range(3):
        cb.tasks.submit("greet", id=f"t{number}")

    seen = []
    for event in cb.events.follow(cursor, types=["task:created"]):
        assert isinstance(event, callboard.Event)
        seen += [fact.id for fact in event.facts]
        if len(seen) == 3:
            break

    assert seen == ["t0", "t1", "t2"]


def test_an_iteration_that_ends_ends_the_loop(cb: callboard.sync.Callboard) -> None:
    cb.tasks.submit_many([TaskSpec(kind="greet", id="a"), TaskSpec(kind="greet", id="b")])

    assert sorted(one.id for one in cb.tasks.iterate()) == ["a", "b"]


def test_a_loop_that_is_left_ends_its_subscription(cb: callboard.sync.Callboard) -> None:
    cb.tasks.submit("greet")
    start = cb.events.cursor().split(":")[0] + ":0"

    for _ in cb.events.follow(start):
        break

    connection = cb._inner.namespace.connection
    bell = cb._inner.namespace.keys.events_bell

    async def nobody_listens() -> bool:
        async with asyncio.timeout(10):
            while (await connection.call("PUBSUB", "SHARDNUMSUB", bell))[1]:
                await asyncio.sleep(0)
        return True

    assert cb.tasks._portal.run(nobody_listens())


def test_many_threads_may_use_one_connection(cb: callboard.sync.Callboard) -> None:
    with ThreadPoolExecutor(8) as threads:
        handles = list(threads.map(lambda n: cb.tasks.submit("greet", n), range(80)))

    assert len({handle.id for handle in handles}) == 80
    assert cb.boards.get("default").counts.pending == 80


def test_the_embedded_engine_stops_with_its_last_user(tmp_path: Path) -> None:
    from callboard.engine.embedded import engine_status

    with callboard.sync.connect(data=tmp_path / "data") as cb:
        assert cb.is_connected
        assert cb.choice.is_embedded
        assert engine_status(tmp_path / "data").is_running

    assert not cb.is_connected
    assert not engine_status(tmp_path / "data").is_running
