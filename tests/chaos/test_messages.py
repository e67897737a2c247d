"""Messages when whoever sends, takes or answers is killed, or the engine under them is."""

from __future__ import annotations

import os
import random
import signal
from collections import Counter
from contextlib import suppress
from functools import partial
from pathlib import Path
from typing import Any

import pytest

import callboard
from callboard import Callboard
from callboard.domain.event import Event
from callboard.domain.message import MessageSpec
from callboard.engine.embedded import engine_status
from callboard.exceptions import EngineError
from tests.chaos.processes import Program, Stage
from tests.waiting import block_until, until

pytestmark = pytest.mark.timeout(240)

LEASE = 1.0


def told(program: Program, what: str) -> list[Any]:
    return [line[what] for line in program.hear_all() if what in line]


def first(program: Program, what: str) -> Any:
    return block_until(lambda: told(program, what), f"it tells {what}")[0]


def have_handled(stage: Stage, count: int) -> bool:
    return sum(len(told(one, "handled")) for one in stage.programs) > count


def have_sent(senders: list[Program], batches: int) -> bool:
    return all(len(told(one, "sent")) >= batches for one in senders)


async def eventually(cb: Callboard, agent: str, **wanted: int) -> None:
    """Wait until so many messages of an inbox stand there; sweeping meanwhile."""

    async def is_so() -> bool:
        await cb.messages.sweep()
        counts = await cb.messages.counts(agent)
        return all(getattr(counts, name) == value for name, value in wanted.items())

    await until(is_so, f"{wanted}")


async def acknowledged(cb: Callboard) -> Counter[str]:
    """How often each message was acknowledged, by the events."""
    found: Counter[str] = Counter()
    cursor: str | None = None
    while True:
        entries, following = await cb.events.read(cursor)
        for entry in entries:
            if isinstance(entry, Event) and entry.type == "message:acknowledged":
                found.update(fact.id for fact in entry.facts)
        if following == cursor:
            return found
        cursor = following


def engine_pid(data: Path, earlier: int | None = None) -> int:
    def pid() -> int | None:
        found = engine_status(data).pid
        return None if found == earlier else found

    found = block_until(pid, "the engine runs")
    assert found is not None
    return found


async def test_a_receiver_killed_between_taking_and_acknowledging_loses_nothing(
    cb: Callboard, stage: Stage, engine_url: str, namespace: str
) -> None:
    ids = [(await cb.messages.send("noor", n)).id for n in range(10)]
    taker = stage.start(
        "mailer", do="take", url=engine_url, namespace=namespace, agent="noor", lease=LEASE
    )
    assert first(taker, "taken") == [[message_id, 1] for message_id in ids]
    assert await cb.messages.take("noor", 10) == []

    taker.kill()
    await eventually(cb, "noor", waiting=10)

    again = await cb.messages.take("noor", 10)
    assert [(message.id, message.deliveries) for message in again] == [(m, 2) for m in ids]


async def test_receivers_killed_at_random_handle_every_message_and_end_each_once(
    cb: Callboard, stage: Stage, engine_url: str, namespace: str
) -> None:
    chance = random.Random(3)
    where = {"url": engine_url, "namespace": namespace, "agent": "noor", "lease": LEASE}
    sent = await cb.messages.send_many(
        MessageSpec(to="noor", payload=n, sender=f"s{n % 3}", max_deliveries=1_000)
        for n in range(400)
    )
    servers = [stage.start("mailer", do="serve", pause=0.02, **where) for _ in range(3)]
    for killed in range(6):
        block_until(partial(have_handled, stage, 40 * killed), "they work")
        victim = servers.pop(chance.randrange(len(servers)))
        victim.kill()
        servers.append(stage.start("mailer", do="serve", pause=0.002, **where))

    await eventually(cb, "noor", finished=400, waiting=0, delayed=0, taken=0, dead=0)

    handled = {name for one in stage.programs for name in told(one, "handled")}
    assert handled == {one.id for one in sent}
    assert await acknowledged(cb) == Counter({one.id: 1 for one in sent})


async def test_an_engine_that_is_killed_loses_no_acknowledged_message(
    data: Path, stage: Stage
) -> None:
    async with callboard.connect(data=data) as cb:
        senders = [
            stage.start("mailer", do="send", data=str(data), agent="noor", prefix=f"s{n}")
            for n in range(2)
        ]
        killed: int | None = None
        for round_ in range(1, 4):
            block_until(partial(have_sent, senders, 8 * round_), "more is sent")
            killed = engine_pid(data, killed)
            os.kill(killed, signal.SIGKILL)
        for sender in senders:
            sender.tell(end=True)
            assert sender.wait() == 0, sender.errors
        sent = [name for one in senders for batch in told(one, "sent") for name in batch]

        while True:
            with suppress(EngineError):  # the engine's last end, unless this link saw it before
                await cb.messages.counts("noor")
                break
        found: list[str] = []
        per_sender: dict[str, list[int]] = {"s0": [], "s1": []}
        while taken := await cb.messages.take("noor", 1_000):
            for message in taken:
                found.append(message.id)
                per_sender[message.sender].append(message.value)
            await cb.messages.acknowledge_many(taken)

    assert len(sent) >= 480
    assert Counter(found) == Counter(sent)
    assert all(values == sorted(values) for values in per_sender.values())


async def test_a_request_outlives_who_asked_it(
    cb: Callboard, stage: Stage, engine_url: str, namespace: str
) -> None:
    where = {"url": engine_url, "namespace": namespace, "agent": "noor"}
    asker = stage.start("mailer", do="ask", value=21, id="q", **where)
    assert first(asker, "asks")
    await eventually(cb, "noor", waiting=1)
    asker.kill()
    taken = await cb.messages.take("noor")
    await cb.messages.reply(taken[0], 42)

    again = stage.start("mailer", do="ask", value=21, id="q", **where)

    assert first(again, "reply") == 42
    assert (await cb.messages.wait_reply("q")).value == 42


async def test_a_request_outlives_who_took_it(
    cb: Callboard, stage: Stage, engine_url: str, namespace: str
) -> None:
    where = {"url": engine_url, "namespace": namespace, "agent": "noor", "lease": LEASE}
    asker = stage.start("mailer", do="ask", value=21, id="q", **where)
    taker = stage.start("mailer", do="take", **where)
    assert first(taker, "taken") == [["q", 1]]
    taker.kill()

    stage.start("mailer", do="serve", **where)

    assert first(asker, "reply") == 42


async def test_a_request_outlives_the_engine(data: Path, stage: Stage) -> None:
    async with callboard.connect(data=data) as cb:
        asker = stage.start("mailer", do="ask", value=21, id="q", data=str(data), agent="noor")
        assert first(asker, "asks")
        await eventually(cb, "noor", waiting=1)
        killed = engine_pid(data)

        os.kill(killed, signal.SIGKILL)
        stage.start("mailer", do="serve", data=str(data), agent="noor", lease=5.0)

        assert first(asker, "reply") == 42
