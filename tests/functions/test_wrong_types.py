"""Somebody else's value under one of our names: an error, and nothing half-written."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Any

import pytest

from callboard.domain.task import at_ms
from callboard.exceptions import EngineError
from tests.functions.support import BOARD, MIRA, NOOR, Stage, changed, spec

pytestmark = pytest.mark.every_engine

Operation = Callable[[Stage, dict[str, int]], Awaitable[Any]]

BOARD_KEYS = (
    "state board heads leases reserved scheduled blocked input done failed cancelled results "
    "unique unresolved deadlines outcomes outcome_times waiters fair aside"
).split()
KEYS = [
    "tasks:b",
    *(f"tasks:b:{name}" for name in BOARD_KEYS),
    "retry:queue:b",
    "retry:dead_letter_queue:b",
    "events",
    "boards",
    "cascades",
    "agents:heartbeats",
    "agents:alone",
    "held:mira",
    "parked:mira",
    "tasks:b:parked",
    "agents:runs:mira",
    "scheduler:decisions",
    "scheduler:counters",
    "errors:tasks:log",
    "errors:counters",
    "errors:unique_signatures",
    "errors:recent",
]


async def everything(stage: Stage) -> dict[str, int]:
    """A board with a task in each kind of place, and one held by mira that others wait for."""
    deadline = at_ms(stage.now / 1_000 + 3_600_000)
    options: dict[str, Any] = {"deadline": deadline, "payload": "x" * 40_000}
    await stage.submit(
        *(spec(name, unique=name, **options) for name in ("held", "asks", "done", "dead")),
        spec("after", "held"),
        spec("late", "unknown"),
        spec("soon", delay=60),
        spec("hers", suggested_worker=MIRA),
        spec("other", kind="other"),
    )
    fences = {name: await stage.held(name) for name in ("held", "asks", "done", "dead")}
    await stage.submit("parked", "plain")
    fences.update({name: await stage.held(name) for name in ("parked", "plain")})
    await stage.park("parked", fences["parked"])
    await stage.ask("asks", fences["asks"])
    await stage.complete("done", fences["done"])
    await stage.fail("dead", fences["dead"], retryable=False)
    await stage.agent("olga", kinds=["nothing"])
    await stage.wait_as("olga")
    return fences


OPERATIONS: dict[str, Operation] = {
    "submit": lambda s, f: s.submit(
        spec("n1", "held", "u2", unique="n1"),
        spec("n2", delay=5),
        spec("n3", "dead"),
        spec("n4", deadline=at_ms(s.now / 1_000 + 1_000)),
        spec("n5", payload="x" * 40_000),
    ),
    "claim": lambda s, f: s.claim(limit=10),
    "wait": lambda s, f: s.claim(limit=10, wait=5),
    "take": lambda s, f: s.take("other"),
    "step": lambda s, f: s.step(done=[("held", f["held"], "1")], limit=5),
    "start": lambda s, f: s.start("held", f["held"]),
    "complete": lambda s, f: s.complete("held", f["held"]),
    "complete_plain": lambda s, f: s.complete("plain", f["plain"]),
    "complete_parked": lambda s, f: s.complete("parked", f["parked"]),
    "fail": lambda s, f: s.fail("held", f["held"]),
    "fail_parked": lambda s, f: s.fail("parked", f["parked"]),
    "fail_for_good": lambda s, f: s.fail("held", f["held"], retryable=False),
    "renew": lambda s, f: s.renew("held", f["held"]),
    "release": lambda s, f: s.release("held", f["held"]),
    "release_parked": lambda s, f: s.release("parked", f["parked"]),
    "defer": lambda s, f: s.release("held", f["held"], delay_ms=500),
    "handoff": lambda s, f: s.handoff("held", f["held"]),
    "progress": lambda s, f: s.progress("held", f["held"]),
    "split": lambda s, f: s.split("held", f["held"], spec("c1", unique="c1"), spec("c2", delay=5)),
    "ask": lambda s, f: s.ask("held", f["held"]),
    "park": lambda s, f: s.park("held", f["held"]),
    "answer": lambda s, f: s.answer("asks"),
    "cancel": lambda s, f: s.cancel("other"),
    "confirm_cancel": lambda s, f: s.cancel("held", f["held"]),
    "cancel_blocked": lambda s, f: s.cancel("after"),
    "retry": lambda s, f: s.retry("dead"),
    "reprioritise": lambda s, f: s.reprioritise("other", 5),
    "purge": lambda s, f: s.purge("done", "dead"),
    "note": lambda s, f: s.note("held"),
    "tell": lambda s, f: s.tell("held", f["held"]),
    "configure": lambda s, f: s.configure(limit=5),
    "sweep": lambda s, f: s.call("board_sweep", BOARD, 100),
    "dispatch": lambda s, f: s.dispatch(),
    "deliver": lambda s, f: s.deliver("held", f["held"]),
    "undeliver": lambda s, f: s.undeliver("held", f["held"]),
    "undeliver_at_last": lambda s, f: s.undeliver("held", f["held"], most=1),
}


@pytest.mark.parametrize("name", OPERATIONS)
async def test_a_foreign_value_stops_the_operation_before_its_first_write(
    stage: Stage, name: str
) -> None:
    for key in KEYS:
        fences = await everything(stage)
        if name == "sweep":
            await stage.configure(unresolved_after=1, finished_for=1, dead_for=1)
            stage.now += 100_000_000
            await stage.call("namespace_tick", 1_000, 1)
        await stage.raw("DEL", key)
        await stage.raw("SET", key, "not ours")
        before = await stage.dump()

        error = await failure_of(OPERATIONS[name](stage, fences))

        if error:
            assert "of the wrong type" in error
            assert changed(before, await stage.dump()) == set(), key
        else:
            assert await stage.raw("GET", key) == b"not ours", key
        names = await stage.key_names()
        await stage.connection.call("DEL", *(stage.keys.prefix + name for name in names))
        await stage.call("namespace_open", "replication", "incarnation1")
        await stage.agent(MIRA)
        await stage.agent(NOOR)


async def failure_of(call: Awaitable[Any]) -> str:
    """The message of the error that the call ends in; empty where it ends well."""
    try:
        await call
    except EngineError as error:
        return str(error)
    return ""
