"""Every channel that the earlier designs name, heard by a plain subscriber, with its payload."""

from __future__ import annotations

import asyncio
import json
import re
from collections.abc import AsyncIterator, Awaitable, Callable
from datetime import datetime
from typing import Any, Final

import pytest
import redis.asyncio

import callboard
from callboard.domain.breaker import BreakerPolicy
from tests.docs.pages import ROOT, rows

pytestmark = pytest.mark.every_engine

Act = Callable[[callboard.Callboard], Awaitable[Any]]
Shape = dict[str, Any]
WAIT_SECONDS: Final = 5.0


class Moment:
    """Any time in ISO 8601, with its zone."""

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, str):
            return False
        return datetime.fromisoformat(other).tzinfo is not None

    def __repr__(self) -> str:
        return "<a moment>"


AT: Final = Moment()


async def claimed(cb: callboard.Callboard, task: str) -> int:
    await cb.tasks.submit("fetch", id=task)
    return (await cb.tasks.take(task, "mira")).fence


async def complete(cb: callboard.Callboard) -> None:
    await cb.tasks.complete("t1", fence=await claimed(cb, "t1"), result={"rows": 3})


async def fail(cb: callboard.Callboard) -> None:
    await cb.tasks.fail("t1", fence=await claimed(cb, "t1"), error="no", delay=60)


async def fail_for_good(cb: callboard.Callboard) -> None:
    await cb.tasks.fail("t1", fence=await claimed(cb, "t1"), error="no", retryable=False)


async def succeed_again(cb: callboard.Callboard) -> None:
    await cb.tasks.fail("t1", fence=await claimed(cb, "t1"), error="no", delay=0)
    (again,) = (await cb.tasks.claim("mira")).tasks
    await cb.tasks.complete("t1", fence=again.fence)


async def train(cb: callboard.Callboard) -> None:
    await cb.metrics.record_training("proj-1", 40, {"loss": 0.25, "wer": 0.125})


def err(severity: str) -> Act:
    async def act(cb: callboard.Callboard) -> None:
        await cb.errors.record(
            "TimeoutError",
            "too slow",
            task="t1",
            agent="mira",
            severity=severity,  # type: ignore[arg-type]
        )

    return act


async def cascade(cb: callboard.Callboard) -> None:
    for name in ("A", "B", "C"):
        await cb.errors.record(name, "m")


async def trip(cb: callboard.Callboard) -> None:
    await cb.breakers.configure("api", BreakerPolicy(failure_threshold=1))
    await cb.breakers.record(await cb.breakers.admit("api"), "failure")


async def half_open(cb: callboard.Callboard) -> None:
    await cb.breakers.configure("api", BreakerPolicy())
    await cb.breakers.force("api", "half-open")


async def share(cb: callboard.Callboard) -> None:
    await cb.context.set("proj-1", {"name": "Voice 2", "status": "training"})


async def share_status(cb: callboard.Callboard) -> None:
    await share(cb)
    await cb.context.set("proj-1", {"status": "done"})


FAILURE: Final = {
    "type": "task_failure",
    "agent": "mira",
    "taskId": "t1",
    "error": {"name": "TimeoutError", "message": "too slow"},
    "timestamp": AT,
}
SHARED: Final = {"type": "project_context_updated", "projectId": "proj-1", "timestamp": AT}

# Channel, what is done, and the last message that is heard on it.
DOCUMENTED: Final[list[tuple[str, Act, Shape]]] = [
    (
        "events:tasks:completed",
        complete,
        {
            "projectId": "default",
            "taskId": "t1",
            "agent": "mira",
            "completedAt": AT,
            "result": {"rows": 3},
        },
    ),
    (
        "events:training:progress",
        train,
        {"projectId": "proj-1", "step": 40, "loss": 0.25, "wer": 0.125, "timestamp": AT},
    ),
    *((f"events:errors:{word}", err(word), FAILURE) for word in ("low", "medium", "high")),
    ("events:errors:critical", err("critical"), FAILURE),
    (
        "events:errors:correlations",
        cascade,
        {
            "type": "error_cascade_detected",
            "severity": "critical",
            "error_types": ["A", "B", "C"],
            "error_counts": {"A": 1, "B": 1, "C": 1},
            "recommendation": "Investigate root cause - multiple subsystems failing",
            "timestamp": AT,
        },
    ),
    (
        "events:errors:circuit_breakers",
        trip,
        {
            "type": "circuit_breaker_opened",
            "component": "api",
            "reason": "1 failure",
            "timestamp": AT,
        },
    ),
    (
        "events:errors:circuit_breakers",
        half_open,
        {"type": "circuit_breaker_half_open", "component": "api", "timestamp": AT},
    ),
    (
        "events:errors:retry_scheduled",
        fail,
        {
            "type": "retry_scheduled",
            "taskId": "t1",
            "attempt": 1,
            "delayMs": 60_000,
            "timestamp": AT,
        },
    ),
    (
        "events:errors:retry_success",
        succeed_again,
        {"type": "retry_success", "taskId": "t1", "attempt": 1, "timestamp": AT},
    ),
    (
        "events:errors:retry_exhausted",
        fail_for_good,
        {
            "type": "retry_exhausted",
            "taskId": "t1",
            "projectId": "default",
            "attempts": 1,
            "timestamp": AT,
        },
    ),
    ("events:context:updated", share, SHARED),
    ("events:context:updated", share_status, SHARED),
]


@pytest.fixture
async def cb(engine_url: str, namespace: str) -> AsyncIterator[callboard.Callboard]:
    async with callboard.connect(engine_url, namespace=namespace, adopt=True) as opened:
        await opened.agents.register("mira")
        yield opened


@pytest.mark.parametrize(
    ("channel", "act", "payload"),
    DOCUMENTED,
    ids=[f"{channel}-{act.__name__}" for channel, act, _ in DOCUMENTED],
)
async def test_each_documented_channel_carries_its_payload(
    cb: callboard.Callboard, engine_url: str, channel: str, act: Act, payload: Shape
) -> None:
    client = redis.asyncio.from_url(engine_url)
    prefix = cb.namespace.keys.prefix
    async with client.pubsub(ignore_subscribe_messages=True) as listener:
        await listener.psubscribe(pattern(prefix))
        await listener.get_message(timeout=WAIT_SECONDS)

        await act(cb)

        heard = await until_quiet(listener, prefix)
    await client.aclose()

    assert heard[channel][-1] == payload
    assert set(heard) <= {name for name, _, _ in DOCUMENTED}


def pattern(prefix: str) -> str:
    """All channels of a namespace that may be documented ones."""
    return prefix.replace("{", "[{]").replace("}", "[}]") + "events:*"


async def until_quiet(listener: Any, prefix: str) -> dict[str, list[Any]]:
    """What was published by now, by channel, without the namespace's prefix."""
    heard: dict[str, list[Any]] = {}
    seconds = WAIT_SECONDS
    async with asyncio.timeout(4 * WAIT_SECONDS):
        while (message := await listener.get_message(timeout=seconds)) is not None:
            channel = message["channel"].decode().removeprefix(prefix)
            heard.setdefault(channel, []).append(json.loads(message["data"]))
            seconds = 0.1  # the engine has published all before it answered
    return heard


async def test_channels_that_are_switched_off_carry_nothing(
    cb: callboard.Callboard, engine_url: str
) -> None:
    await cb.boards.configure_namespace(channels=False)
    client = redis.asyncio.from_url(engine_url)
    async with client.pubsub(ignore_subscribe_messages=True) as listener:
        await listener.psubscribe(pattern(cb.namespace.keys.prefix))
        await listener.get_message(timeout=WAIT_SECONDS)

        for act in (complete, train, err("low"), cascade, trip, share):
            await act(cb)

        message = await listener.get_message(timeout=0.2)
    await client.aclose()

    assert message is None


def test_the_pages_list_these_channels_and_no_others() -> None:
    tested = {re.sub(r":(low|medium|high|critical)$", ":{severity}", c) for c, _, _ in DOCUMENTED}

    for page in ("compatibility.md", "events.md"):
        said = {
            name
            for cells in rows(ROOT / "docs/reference" / page)
            for name in re.findall(r"events:[a-z_:{}]+", cells)
        }
        assert said == tested, page
