"""The names that other programs rely on, each with the type that the documents give it."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator

import pytest

import callboard
from callboard.domain.agent import AGENT_TYPES, STATUSES
from callboard.domain.task import PRIORITIES, Status, Task, TaskSpec
from tests.docs.event_kinds import EVENT_KINDS

pytestmark = pytest.mark.every_engine


@pytest.fixture
async def cb(engine_url: str, namespace: str) -> AsyncIterator[callboard.Callboard]:
    async with callboard.connect(engine_url, namespace=namespace, adopt=True) as opened:
        await opened.agents.register("mira")
        yield opened


async def call(cb: callboard.Callboard, command: str, key: str, *rest: str) -> object:
    return await cb.namespace.connection.call(command, cb.namespace.keys.prefix + key, *rest)


async def failed(cb: callboard.Callboard, board: str, *, retryable: bool) -> str:
    tasks = cb.board(board).tasks
    handle = await tasks.submit("fetch")
    claimed = await tasks.take(handle.id, "mira")
    await tasks.fail(handle.id, fence=claimed.fence, error="no", retryable=retryable, delay=60)
    return handle.id


async def test_a_board_is_a_hash_of_its_tasks_as_submitted(cb: callboard.Callboard) -> None:
    handle = await cb.board("run-42").tasks.submit("fetch", {"n": 12345678901234567, "list": []})

    assert await call(cb, "TYPE", "tasks:run-42") == b"hash"
    raw = await call(cb, "HGET", "tasks:run-42", handle.id)
    assert isinstance(raw, bytes)
    assert b'"payload":{"n":12345678901234567,"list":[]}' in raw
    assert json.loads(raw)["kind"] == "fetch"


@pytest.mark.parametrize(("board", "key"), [("default", "retry:queue"), ("b", "retry:queue:b")])
async def test_a_retry_waits_in_the_documented_queue(
    cb: callboard.Callboard, board: str, key: str
) -> None:
    task = await failed(cb, board, retryable=True)

    assert await call(cb, "TYPE", key) == b"zset"
    due = (await cb.board(board).tasks.get(task)).until
    assert due is not None
    score = await call(cb, "ZSCORE", key, task)
    assert float(score) == pytest.approx(due.timestamp() * 1000, abs=1)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("board", "key"),
    [("default", "retry:dead_letter_queue"), ("b", "retry:dead_letter_queue:b")],
)
async def test_a_dead_letter_lies_in_the_documented_queue(
    cb: callboard.Callboard, board: str, key: str
) -> None:
    task = await failed(cb, board, retryable=False)

    assert await call(cb, "TYPE", key) == b"zset"
    assert await call(cb, "ZCARD", key) == 1
    assert await call(cb, "ZSCORE", key, task) is not None


async def test_an_agent_is_a_hash_and_a_member_of_the_active_set(cb: callboard.Callboard) -> None:
    await cb.agents.report_load("mira", {"cpu": 0.25})

    raw = await call(cb, "HGETALL", "agent:mira")
    values = list(raw.values()) if isinstance(raw, dict) else list(raw)[1::2]  # type: ignore[call-overload]
    names = list(raw) if isinstance(raw, dict) else list(raw)[::2]  # type: ignore[call-overload]
    fields = {name.decode(): value.decode() for name, value in zip(names, values, strict=True)}

    assert {
        "agent_id", "agent_type", "status", "capabilities", "services", "endpoints", "metadata",
        "last_heartbeat", "registration_time", "load_metrics", "health_score", "version", "tags",
    } <= fields.keys()  # fmt: skip
    assert (fields["agent_id"], fields["agent_type"], fields["status"]) == (
        "mira", "worker", "active",
    )  # fmt: skip
    assert json.loads(fields["load_metrics"]) == {"cpu": 0.25}
    assert json.loads(fields["capabilities"]) == []
    assert await call(cb, "TYPE", "agents:active") == b"set"
    assert await call(cb, "SISMEMBER", "agents:active", "mira") == 1


def test_the_documented_event_types_exist() -> None:
    assert {
        "task:created", "task:assigned", "task:started", "task:completed", "task:failed",
        "task:cancelled", "workstealing:request",
    } <= set(EVENT_KINDS)  # fmt: skip


def test_the_documented_statuses_exist() -> None:
    assert {
        "pending", "claimed", "in_progress", "done", "blocked", "failed", "assigned", "cancelled",
    } <= set(Status)  # fmt: skip


def test_the_documented_fields_of_a_task_exist() -> None:
    submitted = {
        "id", "title", "description", "priority", "depends_on", "suggested_worker", "created_by",
        "metadata",
    }  # fmt: skip

    assert submitted <= set(TaskSpec.__struct_fields__)
    assert {*submitted, "status", "agent", "result"} <= set(Task.__struct_fields__)


def test_the_documented_priorities_exist() -> None:
    assert dict(PRIORITIES) == {
        "low": -10, "normal": 0, "high": 10, "critical": 20, "urgent": 30,
    }  # fmt: skip


def test_the_documented_types_and_statuses_of_agents_exist() -> None:
    assert set(AGENT_TYPES) == {
        "coordinator", "worker", "specialist", "monitor", "gateway", "orchestrator",
    }  # fmt: skip
    assert {"active", "inactive", "busy", "maintenance", "error"} <= set(STATUSES)
