"""Many processes at one inbox at once: each message to one of them, in the order sent."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import pytest

import callboard
from callboard.domain.message import MessageSpec
from tests.chaos.processes import Stage

PROGRAMS = Path(__file__).resolve().parents[1] / "chaos" / "programs"
PROCESSES = 8

pytestmark = pytest.mark.timeout(180)


@pytest.fixture
def stage() -> Iterator[Stage]:
    stage = Stage(PROGRAMS)
    yield stage
    stage.close()


async def test_many_processes_take_each_message_once(
    valkey_url: str, namespace: str, stage: Stage
) -> None:
    async with callboard.connect(valkey_url, namespace=namespace) as cb:
        sent = await cb.messages.send_many(MessageSpec(to="noor", payload=n) for n in range(3_000))
        takers = [
            stage.start("mailer", do="drain", url=valkey_url, namespace=namespace, agent="noor")
            for _ in range(PROCESSES)
        ]
        for taker in takers:
            assert taker.hear() == {"ready": True}
        for taker in takers:
            taker.tell(go=True)
        shares = [taker.hear()["acknowledged"] for taker in takers]

        assert Counter(one for share in shares for one in share) == Counter(m.id for m in sent)
        assert sum(1 for share in shares if share) > 1
        assert (await cb.messages.counts("noor")).finished == 3_000


async def test_the_order_of_each_sender_is_kept_while_many_send(
    valkey_url: str, namespace: str, stage: Stage
) -> None:
    async with callboard.connect(valkey_url, namespace=namespace) as cb:
        senders = [
            stage.start(
                "mailer",
                do="send",
                url=valkey_url,
                namespace=namespace,
                agent="noor",
                prefix=f"s{n}",
            )
            for n in range(4)
        ]
        found: dict[str, list[int]] = {f"s{n}": [] for n in range(4)}
        async with asyncio.timeout(120):
            while min(len(values) for values in found.values()) < 300:
                taken = await cb.messages.take("noor", 50)
                for message in taken:
                    found[message.sender].append(message.value)
                await cb.messages.acknowledge_many(taken)
                await asyncio.sleep(0)
        for sender in senders:
            sender.tell(end=True)

        for values in found.values():
            assert values == list(range(len(values)))


async def test_the_same_id_sent_by_many_at_once_is_one_message(
    valkey_url: str, namespace: str
) -> None:
    boards = [callboard.connect(valkey_url, namespace=namespace) for _ in range(8)]
    for cb in boards:
        await cb.open()
    try:
        sent = await asyncio.gather(
            *(cb.messages.send("noor", n, id=f"m{n}") for n in range(100) for cb in boards)
        )

        words = Counter((one.id, one.status) for one in sent)
        assert all(words[f"m{n}", "ok"] == 1 for n in range(100))
        assert all(words[f"m{n}", "replayed"] == 7 for n in range(100))
        assert await boards[0].messages.unread("noor") == 100
    finally:
        for cb in boards:
            await cb.close()
