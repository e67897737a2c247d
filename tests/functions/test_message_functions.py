"""Messages on the engine: kept, given out once at a time, in order, bounded, and gone in time."""

from __future__ import annotations

import asyncio
import random
from contextlib import suppress
from typing import Any

import msgspec
import pytest

from callboard.domain.message import (
    LETTERS,
    MOVES,
    PEERS,
    SUBORDINATES,
    Message,
    MessageSpec,
    MessageStatus,
    Role,
    Topic,
)
from callboard.exceptions import (
    AlreadyAnswered,
    EngineError,
    Held,
    IdConflict,
    InboxFull,
    InvalidArgument,
    LeaseLost,
    MessageExpired,
    MessageNotFound,
    NotAPeer,
    NotARequest,
    NotInHierarchy,
    TooLarge,
    TooManyRecipients,
)
from callboard.messaging import Messages
from tests.functions.support import MIRA, NOOR, Stage, types_of

pytestmark = pytest.mark.every_engine

DAY = 86_400
ROOT_KEYS = {"callboard:format", "events", "agent:mira", "agent:noor"}


@pytest.fixture
def messages(stage: Stage) -> Messages:
    return Messages(stage.namespace)


def values(taken: list[Message] | tuple[Message, ...]) -> list[Any]:
    return [message.value for message in taken]


async def settle(stage: Stage, messages: Messages, seconds: float) -> None:
    """Let time pass as a running sweep sees it, and sweep until nothing more is due."""
    await stage.advance(seconds)
    for _ in range(1_000):
        if not await messages.sweep():
            return
    raise AssertionError("the sweep found more for ever")


async def keys_left(stage: Stage) -> set[str]:
    names = await stage.key_names()
    return {name for name in names if not name.startswith("agents:")} - ROOT_KEYS


async def drain(messages: Messages, agent: str = NOOR) -> list[Message]:
    taken = await messages.take(agent, 1_000)
    await messages.acknowledge_many(taken)
    return taken


# What is refused


@pytest.mark.parametrize(
    "wrong",
    [
        {"to": "no name"},
        {"to": []},
        {"to": 7},
        {"to": {"noor": 1}},
        {"to": Role()},
        {"to": Topic("a b")},
        {"to": PEERS},
        {"payload": float("nan")},
        {"payload": print},
        {"type": "no type"},
        {"sender": "a b"},
        {"id": "a b"},
        {"priority": "highest"},
        {"priority": 1_001},
        {"ttl": 0},
        {"ttl": "1"},
        {"protocol": "carrier_pigeon"},
        {"protocol": "broadcast"},
        {"protocol": "peer_to_peer"},
        {"protocol": "hierarchical", "sender": MIRA, "to": Topic("t")},
        {"max_deliveries": 0},
        {"thread": "a b"},
        {"in_reply_to": "a b"},
        {"metadata": "none"},
        {"unknown": 1},
    ],
    ids=str,
)
async def test_what_is_no_message_is_refused_at_the_edge(
    stage: Stage, messages: Messages, wrong: dict[str, Any]
) -> None:
    before = await stage.dump()

    with pytest.raises(InvalidArgument):
        await messages.send(**{"to": NOOR, "payload": 1, **wrong})

    assert await stage.dump() == before


async def test_what_is_too_large_is_refused_and_what_just_fits_is_not(messages: Messages) -> None:
    with pytest.raises(TooLarge):
        await messages.send(NOOR, "x" * (262_144 - 1))
    with pytest.raises(TooLarge):
        await messages.send([f"a{n}" for n in range(1_001)], 1)

    await messages.send(NOOR, "x" * (262_144 - 2))


async def test_the_same_id_again_sends_nothing_and_with_another_body_is_refused(
    stage: Stage, messages: Messages
) -> None:
    first = await messages.send(NOOR, {"n": 1}, id="m1", sender=MIRA)
    before = await stage.dump()

    again = await messages.send(NOOR, {"n": 1}, id="m1", sender=MIRA)
    with pytest.raises(IdConflict, match="m1 was sent before"):
        await messages.send(NOOR, {"n": 2}, id="m1", sender=MIRA)
    with pytest.raises(IdConflict):
        await messages.send(MIRA, {"n": 1}, id="m1", sender=MIRA)

    assert (first.status, again.status, again.recipients) == ("ok", "replayed", (NOOR,))
    assert await stage.dump() == before
    assert await messages.unread(NOOR) == 1


async def test_an_id_twice_in_one_batch_is_one_message(messages: Messages) -> None:
    specs = [MessageSpec(to=NOOR, payload=n, id="m") for n in (1, 1, 2)]

    sent = await messages.send_many(specs)

    assert [one.status for one in sent] == ["ok", "replayed", "id_conflict"]
    assert values(await drain(messages)) == [1]


async def test_a_full_inbox_refuses_and_is_named_and_others_of_the_batch_are_sent(
    stage: Stage, messages: Messages
) -> None:
    await messages.set_limit(NOOR, 2)
    specs = [MessageSpec(to=to, payload=n) for n, to in enumerate([NOOR, NOOR, NOOR, MIRA])]

    sent = await messages.send_many(specs)
    before = await stage.dump()
    with pytest.raises(InboxFull, match="inbox of noor is full") as caught:
        await messages.send([MIRA, NOOR], "both or none")

    assert [one.status for one in sent] == ["ok", "ok", "inbox_full", "ok"]
    assert sent[2].full == (NOOR,)
    assert caught.value.details["agents"] == [NOOR]
    assert await stage.dump() == before


async def test_a_taken_message_still_takes_room_and_an_acknowledged_one_does_not(
    messages: Messages,
) -> None:
    await messages.set_limit(NOOR, 1)
    await messages.send(NOOR, 1)
    taken = await messages.take(NOOR)

    with pytest.raises(InboxFull):
        await messages.send(NOOR, 2)
    await messages.acknowledge(taken[0])

    assert (await messages.send(NOOR, 3)).is_ok


async def test_a_full_subscriber_does_not_keep_a_topic_from_the_others(messages: Messages) -> None:
    for agent in (MIRA, NOOR):
        await messages.subscribe(agent, "news")
    await messages.set_limit(NOOR, 1)
    await messages.send(NOOR, 0)

    sent = await messages.publish("news", 1)

    assert (sent.recipients, sent.full) == ((MIRA,), (NOOR,))


# Taking and acknowledging


async def test_what_was_sent_before_the_receiver_exists_is_there_when_it_comes(
    stage: Stage, messages: Messages
) -> None:
    await messages.send("later", {"hello": True}, sender=MIRA)
    await settle(stage, messages, DAY - 60)

    await stage.agent("later")
    await settle(stage, messages, 3 * DAY)

    assert values(await messages.take("later")) == [{"hello": True}]


async def test_a_name_that_is_never_registered_loses_its_messages_after_a_day(
    stage: Stage, messages: Messages
) -> None:
    await messages.send("nobody", "early", id="early")
    await settle(stage, messages, DAY / 2)
    await messages.send("nobody", "late", id="late")

    await settle(stage, messages, DAY / 2 + 10)
    assert values(await messages.take("nobody", 5, lease=1)) == ["late"]
    assert (await messages.get("early")).status == "expired"

    for _ in range(4):
        await settle(stage, messages, 2 * DAY)
    assert await keys_left(stage) == set()


async def test_an_agent_that_is_removed_keeps_its_inbox_for_a_day(
    stage: Stage, messages: Messages
) -> None:
    await messages.send(NOOR, 1)
    await settle(stage, messages, 2 * DAY)
    await stage.agent(NOOR)
    await stage.call("agent_deregister", NOOR, "ann")

    await settle(stage, messages, DAY / 2)
    kept = await messages.unread(NOOR)
    await settle(stage, messages, DAY)

    assert (kept, await messages.unread(NOOR)) == (1, 0)


async def test_a_taken_message_is_given_to_nobody_else_until_its_lease_is_over(
    stage: Stage, messages: Messages
) -> None:
    await messages.send(NOOR, 1)

    first = await messages.take(NOOR, 5, lease=30, taker="i1")
    while_held = await messages.take(NOOR, 5)
    await stage.advance(31)
    second = await messages.take(NOOR, 5, taker="i2")

    assert values(first) == [1]
    assert while_held == []
    assert (second[0].id, second[0].deliveries) == (first[0].id, 2)
    assert second[0].fence > first[0].fence
    with pytest.raises(LeaseLost):
        await messages.acknowledge(first[0])
    await messages.acknowledge(second[0])


async def test_an_overdue_holder_may_still_acknowledge_while_nobody_else_was_given_it(
    stage: Stage, messages: Messages
) -> None:
    await messages.send(NOOR, 1)
    taken = await messages.take(NOOR, lease=1)
    await stage.advance(5)

    await messages.acknowledge(taken[0])
    await messages.acknowledge(taken[0])

    assert (await messages.get(taken[0].id)).status == "read"
    assert await messages.take(NOOR) == []


async def test_a_renewal_keeps_a_message_and_never_shortens_its_time(
    stage: Stage, messages: Messages
) -> None:
    await messages.send(NOOR, 1)
    taken = await messages.take(NOOR, lease=10)
    await stage.advance(8)

    await messages.renew(taken, lease=30)
    await messages.renew(taken, lease=1)
    await stage.advance(20)

    assert await messages.take(NOOR) == []
    await stage.advance(15)
    assert len(await messages.take(NOOR)) == 1
    assert (await messages.renew(taken))[0].status == "lease_lost"


async def test_priorities_go_first_and_within_one_the_order_sent_is_kept(
    messages: Messages,
) -> None:
    order = ["low", "normal", "urgent", "high", "normal", "critical", 31, "low"]
    for n, priority in enumerate(order):
        await messages.send(NOOR, n, priority=priority, sender=MIRA)

    assert values(await messages.take(NOOR, 100)) == [6, 2, 5, 3, 1, 4, 0, 7]


async def test_batches_keep_the_order_of_each_sender(messages: Messages) -> None:
    async def send(sender: str) -> None:
        for start in range(0, 200, 50):
            await messages.send_many(
                MessageSpec(to=NOOR, payload=n, sender=sender) for n in range(start, start + 50)
            )

    await asyncio.gather(*(send(f"s{n}") for n in range(5)))
    taken = await messages.take(NOOR, 1_000)

    for n in range(5):
        assert [m.value for m in taken if m.sender == f"s{n}"] == list(range(200))


async def test_one_that_came_back_stands_where_it_stood(messages: Messages) -> None:
    for n in range(4):
        await messages.send(NOOR, n)
    taken = await messages.take(NOOR, 3)

    await messages.release(taken[1])

    assert values(await messages.take(NOOR, 5)) == [1, 3]


async def test_a_batch_of_acknowledgements_is_answered_one_by_one(messages: Messages) -> None:
    for n in range(3):
        await messages.send(NOOR, n)
    taken = await messages.take(NOOR, 3)
    await messages.release(taken[1])
    gone = msgspec.structs.replace(taken[0], id="unknown")

    answers = await messages.acknowledge_many([taken[0], taken[1], gone, taken[2], taken[2]])

    words = ["ok", "lease_lost", "message_not_found", "ok", "replayed"]
    assert [answer.status for answer in answers] == words


async def test_of_one_message_to_many_each_has_its_own_copy(messages: Messages) -> None:
    sent = await messages.send([MIRA, NOOR], {"x": 1}, id="m")

    mine = await messages.take(MIRA)
    await messages.acknowledge(mine[0])

    assert sent.recipients == (MIRA, NOOR)
    assert {m.agent: m.status.value for m in await messages.copies("m")} == {
        MIRA: "read",
        NOOR: "pending",
    }
    assert values(await messages.take(NOOR)) == [{"x": 1}]


async def test_what_takes_more_than_four_mebibytes_comes_in_parts(messages: Messages) -> None:
    for _ in range(20):
        await messages.send(NOOR, "x" * 250_000)

    first = await messages.take(NOOR, 20)
    second = await messages.take(NOOR, 20)

    assert (len(first), len(second)) == (16, 4)


async def test_what_only_looks_takes_nothing(messages: Messages) -> None:
    for n in range(5):
        await messages.send(NOOR, n, priority="high" if n == 3 else "normal")
    await messages.take(NOOR)

    page = await messages.inbox(NOOR, limit=3, offset=1)

    assert (values(page.messages), page.total) == ([1, 2, 4], 5)
    assert [m.status.value for m in (await messages.inbox(NOOR, state="taken")).messages] == [
        "delivered"
    ]
    assert await messages.unread(NOOR) == 5


async def test_marking_as_read_ends_what_nobody_has_taken(messages: Messages) -> None:
    for n in range(3):
        await messages.send(NOOR, n, id=f"m{n}")
    taken = await messages.take(NOOR)

    answers = await messages.mark_read(NOOR, ["m0", "m1", "m1", "none"])

    assert [a.status for a in answers] == ["held", "ok", "replayed", "message_not_found"]
    assert values(await messages.take(NOOR, 5)) == [2]
    await messages.acknowledge(taken[0])


# Redelivery, expiry, dead letters


async def test_messages_are_given_back_and_renewed_by_id_and_fence_alone(
    messages: Messages,
) -> None:
    for name in ("m-1", "m-2"):
        await messages.send("noor", 1, id=name)
    taken = await messages.take("noor", 2, lease=10)
    pairs = [(one.id, one.fence) for one in taken]

    renewed = await messages.renew_ids("noor", [*pairs, ("m-3", 1)], lease=60)
    back = await messages.release_ids("noor", [pairs[0], (pairs[1][0], 0)], unharmed=True)

    assert [one.status for one in renewed] == ["ok", "ok", "message_not_found"]
    assert [one.status for one in back] == ["ok", "lease_lost"]
    assert [one.id for one in await messages.take("noor", 2)] == ["m-1"]


async def test_a_message_given_back_as_often_as_it_may_be_is_a_dead_letter(
    messages: Messages,
) -> None:
    await messages.send(NOOR, 1, id="m", max_deliveries=3)

    words = []
    for n in range(3):
        taken = await messages.take(NOOR)
        words.append(await messages.release(taken[0], reason=f"failure {n}"))
    dead = (await messages.inbox(NOOR, state="dead")).messages

    assert words == ["ok", "ok", "dead"]
    assert await messages.take(NOOR) == []
    assert (dead[0].id, dead[0].deliveries, dead[0].error) == ("m", 3, "failure 2")


async def test_lost_leases_make_a_dead_letter_too(stage: Stage, messages: Messages) -> None:
    await messages.send(NOOR, 1, id="m", max_deliveries=2)

    for _ in range(2):
        assert len(await messages.take(NOOR, lease=1)) == 1
        await settle(stage, messages, 2)

    assert (await messages.get("m")).status == "dead"


async def test_a_release_unharmed_spends_no_delivery(messages: Messages) -> None:
    await messages.send(NOOR, 1, max_deliveries=1)

    for _ in range(5):
        taken = await messages.take(NOOR)
        assert await messages.release(taken[0], unharmed=True) == "ok"

    assert (await messages.take(NOOR))[0].deliveries == 1


async def test_a_delayed_release_comes_when_it_is_due(stage: Stage, messages: Messages) -> None:
    await messages.send(NOOR, 1, id="m")
    taken = await messages.take(NOOR)

    await messages.release(taken[0], delay=10)
    await stage.advance(9)
    too_early = await messages.take(NOOR)
    status = (await messages.get("m")).status
    await stage.advance(2)

    assert (too_early, status.value) == ([], "delayed")
    assert values(await messages.take(NOOR)) == [1]


async def test_a_requeued_dead_letter_has_all_its_deliveries_again(messages: Messages) -> None:
    await messages.send(NOOR, 1, id="m", max_deliveries=1)
    await messages.release((await messages.take(NOOR))[0])

    answers = await messages.requeue(NOOR, ["m", "none", "m"])

    assert [a.status for a in answers] == ["ok", "message_not_found", "illegal_state"]
    assert (await messages.take(NOOR))[0].deliveries == 1


async def test_a_purged_message_is_gone_and_a_taken_one_is_not_purged(
    stage: Stage, messages: Messages
) -> None:
    await messages.send(NOOR, 1, id="taken", sender=MIRA)
    await messages.send([NOOR, MIRA], 2, id="both", sender=MIRA)
    taken = await messages.take(NOOR)

    answers = await messages.purge(NOOR, ["taken", "both", "none"])

    assert [a.status for a in answers] == ["held", "ok", "message_not_found"]
    assert [m.agent for m in await messages.copies("both")] == [MIRA]
    await messages.purge(MIRA, "both")
    with pytest.raises(MessageNotFound, match="No message 'both'"):
        await messages.get("both")
    await messages.acknowledge(taken[0])


@pytest.mark.parametrize("how", ["take", "sweep"])
async def test_an_expired_message_is_never_given_out(
    stage: Stage, messages: Messages, how: str
) -> None:
    for n in range(30):
        await messages.send(NOOR, n, ttl=10, id=f"m{n}")
    await messages.send(NOOR, "stays")
    await stage.advance(11)
    if how == "sweep":
        await settle(stage, messages, 0)

    taken = await messages.take(NOOR, 100)

    assert values(taken) == ["stays"]
    assert (await messages.get("m29")).status == "expired"


async def test_a_message_that_expires_while_it_is_taken_may_be_finished_but_does_not_come_back(
    stage: Stage, messages: Messages
) -> None:
    for name in ("finished", "failed"):
        await messages.send(NOOR, 1, ttl=5, id=name)
    taken = {m.id: m for m in await messages.take(NOOR, 2)}
    await settle(stage, messages, 6)

    await messages.acknowledge(taken["finished"])

    assert await messages.release(taken["failed"]) == "expired"
    assert (await messages.get("finished")).status == "read"


# To many


async def test_a_role_reaches_those_who_have_all_of_it_when_it_is_sent(
    stage: Stage, messages: Messages
) -> None:
    await stage.agent("c1", agent_type="critic", capabilities=["read", "write"])
    await stage.agent("c2", agent_type="critic", capabilities=["read"], services=["http"])
    await stage.agent("w1", agent_type="writer", capabilities=["read", "write"])

    critics = await messages.send(Role(agent_type="critic"), 1, sender="c2")
    writers = await messages.send(Role(capabilities=("read", "write")), 2)
    served = await messages.send(Role(services=("http",), agent_type="critic"), 3)
    nobody = await messages.send(Role(agent_type="painter"), 4)
    await stage.agent("p1", agent_type="painter")

    assert critics.recipients == ("c1",)
    assert set(writers.recipients) == {"c1", "w1"}
    assert served.recipients == ("c2",)
    assert (nobody.status, nobody.count) == ("ok", 0)
    assert await messages.unread("p1") == 0


async def test_more_than_a_thousand_recipients_are_refused(
    stage: Stage, messages: Messages
) -> None:
    for start in range(0, 1_002, 100):
        await asyncio.gather(
            *(stage.agent(f"a{n}", agent_type="ant") for n in range(start, start + 100))
        )

    with pytest.raises(TooManyRecipients):
        await messages.send(Role(agent_type="ant"), 1)


async def test_a_topic_reaches_its_subscribers_but_not_the_sender(messages: Messages) -> None:
    assert await messages.subscribe(MIRA, "news")
    assert await messages.subscribe(NOOR, "news", types=["status_update"])
    assert not await messages.subscribe(NOOR, "news", types=["status_update"])
    await messages.subscribe("olga", "news")

    any_type = await messages.publish("news", 1, sender=MIRA)
    status = await messages.publish("news", 2, sender=MIRA, type="status_update")
    assert await messages.unsubscribe("olga", "news")
    assert not await messages.unsubscribe("olga", "news")
    after = await messages.publish("news", 3, sender=NOOR)

    assert any_type.recipients == ("olga",)
    assert status.recipients == (NOOR, "olga")
    assert after.recipients == (MIRA,)
    assert values(await messages.take("olga", 5)) == [1, 2]
    subscribed = await messages.subscriptions()
    assert {(s.agent, s.topic, s.types) for s in subscribed} == {
        (MIRA, "news", ()),
        (NOOR, "news", ("status_update",)),
    }
    assert {s.agent for s in await messages.subscribers("news")} == {MIRA, NOOR}


async def test_a_thousand_topics_an_agent_and_no_more(messages: Messages) -> None:
    await asyncio.gather(*(messages.subscribe(NOOR, f"t{n}") for n in range(1_000)))

    with pytest.raises(TooLarge, match="noor would have more than 1000 topics"):
        await messages.subscribe(NOOR, "one-more")


async def test_a_thousand_peers_an_agent_and_no_more(messages: Messages) -> None:
    await messages.set_hierarchy(NOOR, [f"s{n}" for n in range(1_000)])

    with pytest.raises(TooLarge, match="more than 1000 subordinates"):
        await messages.add_subordinate(NOOR, "one-more")


async def test_peer_to_peer_only_reaches_peers(messages: Messages) -> None:
    with pytest.raises(NotAPeer, match="'noor' is no peer"):
        await messages.send(NOOR, 1, sender=MIRA, protocol="peer_to_peer")
    assert await messages.add_peer(MIRA, NOOR)
    assert not await messages.add_peer(MIRA, NOOR)

    await messages.send(NOOR, 2, sender=MIRA, protocol="peer_to_peer")
    both = await messages.send(PEERS, 3, sender=MIRA)
    with pytest.raises(NotAPeer):
        await messages.send(MIRA, 4, sender=NOOR, protocol="peer_to_peer")
    with pytest.raises(InvalidArgument):
        await messages.add_peer(MIRA, MIRA)
    await messages.remove_peer(MIRA, NOOR)
    with pytest.raises(NotAPeer):
        await messages.send(NOOR, 5, sender=MIRA, protocol="peer_to_peer")

    assert both.recipients == (NOOR,)
    assert values(await messages.take(NOOR, 5)) == [2, 3]


async def test_hierarchical_goes_up_and_down_one_step_and_nowhere_else(
    messages: Messages,
) -> None:
    await messages.set_hierarchy("lead", [MIRA, NOOR])

    down = await messages.send(SUBORDINATES, 1, sender="lead", protocol="hierarchical")
    await messages.send("lead", 2, sender=MIRA, protocol="hierarchical", type="status_update")
    with pytest.raises(NotInHierarchy):
        await messages.send(NOOR, 3, sender=MIRA, protocol="hierarchical")
    await messages.set_hierarchy("lead", [NOOR])
    with pytest.raises(NotInHierarchy):
        await messages.send("lead", 4, sender=MIRA, protocol="hierarchical")

    assert set(down.recipients) == {MIRA, NOOR}
    up = await messages.take("lead")
    assert (up[0].type, up[0].protocol, up[0].value) == ("hierarchical", "hierarchical", 2)
    assert [link.name for link in await messages.subordinates("lead")] == [NOOR]


# Requests and replies


async def test_a_reply_goes_to_who_waits_and_ends_the_request(messages: Messages) -> None:
    sent = await messages.send_request(NOOR, {"q": 1}, timeout=10, sender=MIRA)
    assert await messages.reply_of(sent.id) is None
    taken = await messages.take(NOOR)

    reply_id = await messages.reply(taken[0], {"a": 2})

    reply = await messages.reply_of(sent.id)
    assert reply is not None
    assert (reply.id, reply.value, reply.in_reply_to, reply.sender, reply.agent) == (
        reply_id,
        {"a": 2},
        sent.id,
        NOOR,
        MIRA,
    )
    assert (await messages.get(sent.id)).status == "read"
    assert await messages.unread(MIRA) == 0


async def test_a_request_is_answered_once(messages: Messages) -> None:
    await messages.send_request(NOOR, 1, timeout=10, id="q")
    taken = await messages.take(NOOR)

    await messages.reply(taken[0], "first", id="r")
    await messages.reply(taken[0], "first", id="r")
    with pytest.raises(AlreadyAnswered, match="by reply r"):
        await messages.reply(taken[0], "second")
    with pytest.raises(AlreadyAnswered):
        await messages.reply(taken[0], "other", id="r")


async def test_a_reply_after_the_deadline_is_refused(stage: Stage, messages: Messages) -> None:
    await messages.send_request(NOOR, 1, timeout=10, id="q")
    taken = await messages.take(NOOR)
    await stage.advance(11)

    with pytest.raises(MessageExpired, match="deadline passed"):
        await messages.reply(taken[0], "late")


async def test_who_lost_a_request_cannot_answer_it_and_who_has_it_can(
    stage: Stage, messages: Messages
) -> None:
    await messages.send_request(NOOR, 1, timeout=100, id="q")
    lost = await messages.take(NOOR, lease=1)
    await stage.advance(2)
    has_it = await messages.take(NOOR)

    with pytest.raises(LeaseLost):
        await messages.reply(lost[0], "stale")
    with pytest.raises(Held):
        await messages.reply_to(NOOR, "q", "without a fence")
    await messages.reply(has_it[0], "fresh")

    reply = await messages.reply_of("q")
    assert reply is not None
    assert reply.value == "fresh"


async def test_only_a_request_is_replied_to_and_awaited(messages: Messages) -> None:
    await messages.send(NOOR, 1, id="m")
    taken = await messages.take(NOOR)

    with pytest.raises(NotARequest):
        await messages.reply(taken[0], 2)
    with pytest.raises(NotARequest):
        await messages.reply_of("m")
    with pytest.raises(MessageNotFound):
        await messages.reply_of("none")
    with pytest.raises(MessageNotFound):
        await messages.reply_to(NOOR, "none", 1)


async def test_a_thread_holds_what_was_written_in_it(messages: Messages) -> None:
    await messages.send_request(NOOR, "q", timeout=100, id="root", sender=MIRA)
    await messages.reply((await messages.take(NOOR))[0], "a")
    await messages.send(MIRA, "more", in_reply_to="root", sender=NOOR)
    await messages.send(NOOR, "apart", sender=MIRA)
    await messages.send(NOOR, "named", thread="plan", sender=MIRA, id="p1")
    await messages.send(MIRA, "answer", in_reply_to="p1", sender=NOOR)

    root = await messages.history(thread="root")
    plan = await messages.history(thread="plan")

    assert (sorted(values(root.messages)), root.total) == (["a", "more", "q"], 3)
    assert sorted(values(plan.messages)) == ["answer", "named"]


# The history


async def test_the_history_is_asked_by_sender_receiver_or_all_and_in_pages(
    stage: Stage, messages: Messages
) -> None:
    for n in range(5):
        await messages.send(NOOR, n, sender=MIRA)
        await stage.advance(1)
    await messages.send(MIRA, "back", sender=NOOR)

    page = await messages.history(sender=MIRA, limit=2, offset=1)
    received = await messages.history(receiver=MIRA)
    everything = await messages.history()

    assert (values(page.messages), page.total) == ([3, 2], 5)
    assert values(received.messages) == ["back"]
    assert everything.total == 6
    with pytest.raises(InvalidArgument):
        await messages.history(sender=MIRA, receiver=NOOR)


async def test_read_messages_are_kept_for_a_day_and_then_nothing_is_left(
    stage: Stage, messages: Messages
) -> None:
    await messages.send(NOOR, 1, sender=MIRA, id="m", thread="t")
    await messages.send([NOOR, MIRA], 2, sender=MIRA)
    await messages.send_request(NOOR, 3, timeout=60, sender=MIRA)
    await drain(messages, MIRA)
    for message in await messages.take(NOOR, 10):
        if message.is_request:
            await messages.reply(message, 4)
        else:
            await messages.acknowledge(message)

    await settle(stage, messages, DAY - 60)
    kept = await messages.history()
    await settle(stage, messages, 120)

    assert kept.total == 4
    assert await keys_left(stage) == set()


async def test_finished_messages_are_bounded_by_number_without_a_sweep(
    stage: Stage, messages: Messages
) -> None:
    for start in range(0, 12_000, 1_000):
        await messages.send_many(
            MessageSpec(to=NOOR, payload=n, sender=MIRA) for n in range(start, start + 1_000)
        )
        await drain(messages)

    counts = await messages.counts(NOOR)

    assert counts.finished == 10_000
    assert (await messages.history(sender=MIRA)).total == 10_000
    assert len(await stage.connection.call("KEYS", stage.keys.prefix + "message:*")) == 10_000


async def test_dead_letters_leave_after_thirty_days(stage: Stage, messages: Messages) -> None:
    await messages.send(NOOR, 1, id="m", max_deliveries=1)
    await messages.release((await messages.take(NOOR))[0])

    await settle(stage, messages, 29 * DAY)
    kept = (await messages.counts(NOOR)).dead
    await settle(stage, messages, 2 * DAY)

    assert kept == 1
    assert await keys_left(stage) == set()


async def test_topics_and_links_of_a_name_that_is_gone_go_too(
    stage: Stage, messages: Messages
) -> None:
    await messages.subscribe("ghost", "t")
    await messages.add_peer("ghost", NOOR)
    await messages.set_limit("ghost", 5)
    await messages.broadcast(1, sender=MIRA)
    await messages.hear("ghost")

    await settle(stage, messages, DAY / 2)
    assert len(await messages.subscribers("t")) == 1
    await settle(stage, messages, DAY)

    assert await messages.subscribers("t") == []
    assert await messages.peers() == []
    await settle(stage, messages, 8 * DAY)
    assert await keys_left(stage) == set()


async def test_links_of_a_registered_agent_stay(stage: Stage, messages: Messages) -> None:
    await messages.subscribe(NOOR, "t")
    await messages.set_hierarchy(NOOR, [MIRA])

    await settle(stage, messages, 90 * DAY)

    assert len(await messages.subscribers("t")) == 1
    assert len(await messages.subordinates(NOOR)) == 1


# Broadcasts


async def test_every_agent_hears_a_broadcast_once_but_the_one_who_sent_it(
    messages: Messages,
) -> None:
    sent = await messages.broadcast({"x": 1}, sender=MIRA, id="b")
    again = await messages.broadcast({"x": 1}, sender=MIRA, id="b")
    with pytest.raises(IdConflict):
        await messages.broadcast({"x": 2}, sender=MIRA, id="b")

    heard = await messages.hear(NOOR)
    own = await messages.hear(MIRA)

    assert (sent.number, sent.count, again.number, again.replayed) == (1, 1, 1, True)
    assert heard is not None
    assert [(m.id, m.value, m.sender, m.number) for m in heard.messages] == [
        ("b", {"x": 1}, MIRA, 1)
    ]
    assert own is not None
    assert own.messages == ()
    await messages.heard(NOOR, heard)
    assert (await messages.hear(NOOR)).messages == ()  # type: ignore[union-attr]
    assert (await messages.counts(NOOR)).broadcasts == 0


async def test_broadcasts_that_were_not_acknowledged_come_again(
    stage: Stage, messages: Messages
) -> None:
    for n in range(3):
        await messages.broadcast(n)
    first = await messages.hear(NOOR, lease=10)
    assert first is not None
    held = await messages.hear(NOOR)
    await messages.heard(NOOR, first, upto=first.messages[0].number, hold=10)
    await stage.advance(11)

    second = await messages.hear(NOOR)

    assert held is None
    assert second is not None
    assert values(second.messages) == [1, 2]
    with pytest.raises(LeaseLost):
        await messages.heard(NOOR, first)


async def test_a_broadcast_that_nobody_acknowledges_is_passed_over_after_five_times(
    messages: Messages,
) -> None:
    await messages.broadcast("poison")
    await messages.broadcast("fine")

    given = []
    for _ in range(6):
        hearing = await messages.hear(NOOR)
        assert hearing is not None
        given.append(values(hearing.messages))
        await messages.heard(NOOR, hearing, upto=0)

    assert given == [["poison", "fine"]] * 5 + [["fine"]]


async def test_one_who_registers_later_hears_only_what_comes_then(
    stage: Stage, messages: Messages
) -> None:
    for n in range(5):
        await stage.advance(1)
        await messages.broadcast(n)
    await stage.advance(1)
    await stage.agent("late")
    await messages.broadcast("after")

    late = await messages.hear("late")
    unknown = await messages.hear("unknown")

    assert late is not None
    assert values(late.messages) == ["after"]
    assert unknown is not None
    assert len(unknown.messages) == 6


async def test_a_reader_behind_what_is_kept_gets_a_gap(stage: Stage, messages: Messages) -> None:
    await messages.broadcast("old")
    hearing = await messages.hear(NOOR)
    assert hearing is not None
    await messages.heard(NOOR, hearing)
    for _ in range(2):
        await messages.broadcast("missed")
    await settle(stage, messages, 7 * DAY + 1)
    await stage.agent(NOOR)
    await messages.broadcast("kept")

    first = await messages.hear(NOOR)
    assert first is not None
    await messages.heard(NOOR, first, upto=0)
    again = await messages.hear(NOOR)

    assert (first.gap, values(first.messages)) == ((2, 3), ["kept"])
    assert again is not None
    assert again.gap == (2, 3)
    await messages.heard(NOOR, again)
    assert (await messages.hear(NOOR)).gap is None  # type: ignore[union-attr]


async def test_a_reader_of_whose_broadcasts_nothing_is_kept_gets_a_gap_alone(
    stage: Stage, messages: Messages
) -> None:
    await messages.broadcast("heard")
    hearing = await messages.hear(NOOR)
    assert hearing is not None
    await messages.heard(NOOR, hearing)
    await messages.broadcast("missed")
    await settle(stage, messages, 8 * DAY)
    await stage.agent(NOOR)

    found = await messages.hear(NOOR)

    assert found is not None
    assert (found.gap, found.messages) == ((2, 2), ())
    await messages.heard(NOOR, found)
    assert (await messages.hear(NOOR)).gap is None  # type: ignore[union-attr]


async def test_broadcasts_are_bounded_by_number(stage: Stage, messages: Messages) -> None:
    for start in range(0, 10_200, 200):
        await asyncio.gather(*(messages.broadcast(n) for n in range(start, start + 200)))

    assert await stage.raw("XLEN", "broadcasts") == 10_000
    assert len(await stage.connection.call("KEYS", stage.keys.prefix + "message:*")) == 10_000


# Why


async def test_why_says_in_words_where_a_message_is(stage: Stage, messages: Messages) -> None:
    async def text(message_id: str) -> str:
        return (await messages.why(message_id)).text

    await messages.send(NOOR, 0, id="first", max_deliveries=2)
    await messages.send(NOOR, 1, id="second", ttl=3_600)
    await messages.send("ghost", 2, id="lost")
    waiting = await messages.why("second")
    taken = await messages.take(NOOR, taker="i1")

    assert (waiting.before, waiting.agent_status) == (1, "active")
    assert "behind 1 others; 0 are taken, and noor is active" in waiting.text
    assert "It expires at" in waiting.text
    assert "nobody called ghost is registered, so it is kept for a day" in await text("lost")
    assert "noor i1 has taken it, and has to acknowledge it by" in await text("first")
    await messages.release(taken[0], delay=60)
    assert "It was given back, and waits until" in await text("first")
    await stage.advance(61)
    await messages.release((await messages.take(NOOR))[0], reason="it hurts")
    assert "never acknowledged: it hurts. Put it back: callboard messages requeue" in await text(
        "first"
    )
    await drain(messages)
    assert "noor acknowledged it at" in await text("second")
    with pytest.raises(MessageNotFound):
        await messages.why("second", agent=MIRA)


# Events, states, foreign values


async def test_the_documented_keys_of_messages(stage: Stage, messages: Messages) -> None:
    await messages.send(NOOR, {"n": 1}, sender=MIRA, id="m", type="coordination")
    await messages.subscribe(NOOR, "t")
    await messages.add_peer(MIRA, NOOR)

    body = msgspec.json.decode(await stage.raw("HGET", "message:m", "body"))

    assert body == {"sender": MIRA, "to": NOOR, "type": "coordination", "payload": {"n": 1}}
    for key, member in (
        ("messages:sender:mira", b"m"),
        ("messages:receiver:noor", b"m"),
        ("messages:timestamp", b"m"),
        ("peers:mira", b"noor"),
        ("subscriptions:agent:noor", b"t"),
    ):
        assert await stage.raw("ZRANGE", key, 0, -1) == [member]
    assert await stage.raw("HKEYS", "subscriptions:topic:t") == [b"noor"]


async def test_what_happens_to_a_message_is_told(stage: Stage, messages: Messages) -> None:
    await messages.send(NOOR, 1, id="m", sender=MIRA, type="coordination")
    since = await stage.events.cursor()
    taken = await messages.take(NOOR, taker="i1")
    await messages.release(taken[0], reason="no")
    await messages.acknowledge((await messages.take(NOOR))[0])

    told = await stage.news()
    sent = next(event for event in told if event.type == "message:sent")
    received = next(event for event in told if event.type == "message:received")

    assert types_of(await stage.news(since)) == [
        "message:received",
        "message:released",
        "message:received",
        "message:acknowledged",
    ]
    assert (sent.by, sent.facts[0].holder, sent.facts[0].extra) == (MIRA, MIRA, "noor|coordination")
    assert (received.facts[0].id, received.facts[0].holder, received.facts[0].extra) == (
        "m",
        "noor/i1",
        "mira|1",
    )


async def test_the_states_that_are_met_are_those_of_the_table(
    stage: Stage, messages: Messages
) -> None:
    met: set[tuple[str, str]] = set()
    before: dict[str, str] = {}

    async def look() -> None:
        raw = await stage.raw("HGETALL", "inbox:noor:state")
        flat = dict(zip(raw[::2], raw[1::2], strict=True)) if isinstance(raw, list) else raw
        for name, line in flat.items():
            if name.startswith(b"#"):
                continue
            now = LETTERS[chr(line[0])].value
            if before.get(name, now) != now:
                met.add((before[name], now))
            before[name] = now

    async def run(*steps: Any) -> None:
        for step in steps:
            await step()
            await look()

    taken: list[Message] = []

    async def take() -> None:
        taken[:] = await messages.take(NOOR, 1, lease=5)

    for n in range(3):
        await messages.send(NOOR, n, id=f"m{n}", max_deliveries=2)
    await look()
    await run(
        take,
        lambda: messages.release(taken[0]),
        take,
        lambda: messages.release(taken[0]),
        lambda: messages.requeue(NOOR, "m0"),
        take,
        lambda: messages.release(taken[0], delay=3),
        lambda: settle(stage, messages, 4),
        take,
        lambda: messages.acknowledge(taken[0]),
        take,
        lambda: messages.release(taken[0], delay=3),
        lambda: messages.mark_read(NOOR, ["m1", "m2"]),
        lambda: messages.send(NOOR, 1, id="x1", ttl=2),
        lambda: settle(stage, messages, 3),
        lambda: messages.send(NOOR, 1, id="x2", ttl=2),
        take,
        lambda: messages.release(taken[0], delay=60),
        lambda: settle(stage, messages, 3),
        lambda: messages.send(NOOR, 1, id="x3", ttl=2),
        take,
        lambda: settle(stage, messages, 20),
    )

    legal = {(a.value, b.value) for a, many in MOVES.items() for b in many}
    assert met == legal
    assert set(MOVES) == set(MessageStatus)


KEYS = [
    *("inbox:noor", "inbox:noor:state", "inbox:noor:leases", "inbox:noor:delayed"),
    *("inbox:noor:expiry", "inbox:noor:finished", "inbox:noor:dead", "messages:receiver:noor"),
    *("inboxes", "messages:timestamp", "messages:sender:mira", "messages:thread:t", "events"),
    *("broadcasts", "broadcasts:cursors", "peers:noor", "subscriptions:agent:noor"),
    *("subscriptions:topic:t", "message:m2", "message:q"),
]


@pytest.mark.parametrize(
    "how",
    "send publish take acknowledge release renew reply requeue purge subscribe link broadcast "
    "hear heard configure".split(),
)
async def test_a_foreign_value_stops_the_operation_before_its_first_write(
    stage: Stage, messages: Messages, how: str
) -> None:
    for key in KEYS:
        for name in await stage.key_names():
            if name != "callboard:format" and not name.startswith("agent"):
                await stage.raw("DEL", name)
        await messages.subscribe(NOOR, "t")
        await messages.add_peer(NOOR, MIRA)
        await messages.send(NOOR, 0, id="m0", max_deliveries=1)
        await messages.release((await messages.take(NOOR))[0])
        await messages.send_request(NOOR, 3, timeout=60, id="q", sender=MIRA)
        await messages.send(NOOR, 1, id="m1", sender=MIRA, ttl=60, thread="t")
        taken = await messages.take(NOOR, 2)
        await messages.send(NOOR, 2, id="m2", sender=MIRA, thread="t")
        await messages.broadcast(1, sender=MIRA)
        hearing = await messages.hear(NOOR)
        assert hearing is not None
        await stage.raw("DEL", key)
        await stage.raw("SET", key, "not ours")
        calls: dict[str, Any] = {
            "send": lambda: messages.send(
                NOOR, 1, sender=MIRA, ttl=5, in_reply_to="m2", thread="t", id="m2x"
            ),
            "publish": lambda: messages.publish("t", 1, sender=MIRA),
            "take": lambda: messages.take(NOOR, 5),
            "acknowledge": lambda t=taken: messages.acknowledge_many(t),
            "release": lambda t=taken: messages.release_many(t, reason="why"),
            "renew": lambda t=taken: messages.renew(t),
            "reply": lambda t=taken: messages.reply(t[0], 1),
            "requeue": lambda: messages.requeue(NOOR, ["m0"]),
            "purge": lambda: messages.purge(NOOR, ["m0", "m2"]),
            "subscribe": lambda: messages.subscribe(NOOR, "t", types=["a"]),
            "link": lambda: messages.add_peer(NOOR, "olga"),
            "broadcast": lambda: messages.broadcast(2, sender=MIRA, thread="t"),
            "hear": lambda: messages.hear("olga"),
            "heard": lambda h=hearing: messages.heard(NOOR, h),
            "configure": lambda: messages.set_limit(NOOR, 5),
        }
        before = await stage.dump()

        error = await failure_of(calls[how]())

        if error:
            assert "of the wrong type" in error
            assert await stage.dump() == before, key


async def test_a_foreign_value_in_one_inbox_does_not_stop_the_sweep_of_others(
    stage: Stage, messages: Messages
) -> None:
    for agent in (MIRA, NOOR):
        await messages.send(agent, 1, ttl=5, id=f"to-{agent}")
    await stage.raw("DEL", "inbox:mira:leases")
    await stage.raw("SET", "inbox:mira:leases", "not ours")

    await settle(stage, messages, 10)

    assert (await messages.get("to-noor")).status == "expired"


async def test_a_long_mixed_life_leaves_nothing(stage: Stage, messages: Messages) -> None:
    chance = random.Random(7)
    names = [MIRA, NOOR, "ghost"]
    taken: list[Message] = []
    for n in range(400):
        what = chance.randrange(9)
        agent = chance.choice(names)
        if what < 3:
            await messages.send(
                chance.choice([agent, names, PEERS]),
                n,
                sender=chance.choice(names),
                ttl=chance.choice([None, 5]),
                thread=chance.choice(["", "t"]),
                max_deliveries=chance.choice([1, 3]),
            )
        elif what == 3:
            await messages.send_request(agent, n, timeout=20, sender=chance.choice(["", MIRA]))
        elif what == 4:
            taken += await messages.take(agent, 3, lease=4)
        elif what == 5 and taken:
            await messages.acknowledge_many([taken.pop()])
        elif what == 6 and taken:
            message = taken.pop()
            await messages.release_many([message], delay=chance.choice([0, 3]))
        elif what == 7 and taken and taken[-1].is_request:
            with suppress(LeaseLost, MessageExpired, AlreadyAnswered, MessageNotFound):
                await messages.reply(taken.pop(), n)
        else:
            await messages.broadcast(n, sender=agent)
            await messages.add_peer(agent, chance.choice([x for x in names if x != agent]))
            await settle(stage, messages, 1)
    for agent in names:
        hearing = await messages.hear(agent)
        if hearing:
            await messages.heard(agent, hearing)

    for name in (MIRA, NOOR):
        await stage.call("agent_deregister", name, "ann")
    for days in (2, 2, 31, 2, 2):
        await settle(stage, messages, days * DAY)

    assert await keys_left(stage) == set()


async def failure_of(call: Any) -> str:
    """What the engine said against it; nothing where it did not meet the foreign value."""
    try:
        await call
    except EngineError as error:
        return error.message
    return ""


# Bounds of one call


async def test_one_call_delivers_to_some_two_thousand_inboxes_and_send_many_goes_on(
    stage: Stage, messages: Messages, monkeypatch: pytest.MonkeyPatch
) -> None:
    names = [f"a{n}" for n in range(1_000)]
    calls: list[tuple[int, int]] = []
    inner = stage.namespace.functions.call

    async def noting(name: str, *values: Any) -> Any:
        reply = await inner(name, *values)
        calls.append((values[1], len(reply[2].split(b","))))
        return reply

    monkeypatch.setattr(messages._functions, "call", noting)
    specs = [MessageSpec(to=names, payload=n) for n in range(12)]
    sent = await messages.send_many(specs)
    monkeypatch.undo()

    assert [one.status for one in sent] == ["ok"] * 12
    assert [one.count for one in sent] == [1_000] * 12
    assert max(answered for _, answered in calls) == 2
    assert (await messages.counts("a999")).waiting == 12


async def test_what_one_call_leaves_of_a_topics_messages_is_sent_by_the_next(
    stage: Stage, messages: Messages, monkeypatch: pytest.MonkeyPatch
) -> None:
    for n in range(110):
        await messages.subscribe(f"a{n}", "builds")
    answered: list[int] = []
    inner = stage.namespace.functions.call

    async def noting(name: str, *values: Any) -> Any:
        reply = await inner(name, *values)
        answered.append(len(reply[2].split(b",")))
        return reply

    monkeypatch.setattr(messages._functions, "call", noting)

    sent = await messages.send_many(
        [MessageSpec(to=Topic("builds"), payload=n, id=f"m{n}") for n in range(200)]
    )
    monkeypatch.undo()

    assert [(one.id, one.status, one.count) for one in sent] == [
        (f"m{n}", "ok", 110) for n in range(200)
    ]
    assert max(answered) == 19
    assert (await messages.counts("a109")).waiting == 200


async def test_more_than_a_thousand_taken_messages_are_renewed_released_and_acknowledged(
    messages: Messages,
) -> None:
    await messages.send_many([MessageSpec(to="noor", payload=n) for n in range(1_001)])
    first = await messages.take("noor", 1_000) + await messages.take("noor", 1)

    renewed = await messages.renew(first)
    released = await messages.release_many(first, unharmed=True)
    again = await messages.take("noor", 1_000) + await messages.take("noor", 1)
    ended = await messages.acknowledge_many(again)

    assert {len(renewed), len(released), len(ended)} == {1_001}
    assert {one.status for one in [*renewed, *released, *ended]} == {"ok"}
    assert [one.id for one in ended] == [one.id for one in again]


async def test_pages_end_by_bytes_and_the_rest_is_asked_for(
    stage: Stage, messages: Messages, monkeypatch: pytest.MonkeyPatch
) -> None:
    body = "x" * 250_000
    await messages.send_many(
        [MessageSpec(to="noor", payload=f"{n:02}{body}", sender="mira") for n in range(40)]
    )
    sizes: list[int] = []
    inner = stage.namespace.functions.call

    async def noting(name: str, *values: Any) -> Any:
        reply = await inner(name, *values)
        sizes.append(len(reply[3]) // 3)
        return reply

    monkeypatch.setattr(messages._functions, "call", noting)
    inbox = await messages.inbox("noor", limit=30, offset=5)
    history = await messages.history(sender="mira", limit=30)
    monkeypatch.undo()

    assert [message.value[:2] for message in inbox.messages] == [f"{n:02}" for n in range(5, 35)]
    assert inbox.total == 40
    assert len({message.id for message in history.messages}) == 30
    assert max(sizes) * 250_000 < 5 * 1_048_576


async def test_pages_of_messages_to_many_show_each_inbox(messages: Messages) -> None:
    names = [f"a{n}" for n in range(1_000)]
    await messages.send_many([MessageSpec(to=names, payload=n) for n in range(7)])

    page = await messages.history(limit=10)

    assert len(page.messages) == 7_000
    assert {message.agent for message in page.messages} == set(names)


# What is said twice, or of the wrong type


async def test_one_id_twice_in_a_batch_is_one_message_with_its_receivers(
    messages: Messages,
) -> None:
    spec = MessageSpec(to=["noor", "mira"], payload=1, id="twice")

    first, second = await messages.send_many([spec, spec])

    assert (first.status, second.status) == ("ok", "replayed")
    assert set(second.recipients) == {"noor", "mira"}


async def test_one_id_twice_in_a_purge_is_removed_once(stage: Stage, messages: Messages) -> None:
    await messages.send("noor", 1, id="m")
    since = await stage.events.cursor()

    answers = await messages.purge("noor", ["m", "m"])

    assert [one.status for one in answers] == ["ok", "message_not_found"]
    assert types_of(await stage.news(since)) == ["message:purged"]


WRONG_TYPES: dict[str, Any] = {
    "acknowledge_many-nothing": lambda m: m.acknowledge_many(None),
    "acknowledge_many-number": lambda m: m.acknowledge_many([5]),
    "acknowledge_ids-numbers": lambda m: m.acknowledge_ids("noor", [5]),
    "release_ids-numbers": lambda m: m.release_ids("noor", [5]),
    "renew_ids-no-agent": lambda m: m.renew_ids("", [("m", 1)]),
    "release_many-nothing": lambda m: m.release_many(None),
    "renew-nothing": lambda m: m.renew(None),
    "send_many-nothing": lambda m: m.send_many(None),
    "send_many-text": lambda m: m.send_many("noor"),
    "heard-nothing": lambda m: m.heard("noor", None),
    "purge-number": lambda m: m.purge("noor", 5),
    "mark_read-number": lambda m: m.mark_read("noor", 5),
    "trace_context-half-a-character": lambda m: m.send("noor", 1, trace_context="\udc80"),
    "by-half-a-character": lambda m: m.purge("noor", "m", by="\udc80"),
}


@pytest.mark.parametrize("call", WRONG_TYPES.values(), ids=WRONG_TYPES.keys())
async def test_what_is_no_message_is_refused_as_an_argument(messages: Messages, call: Any) -> None:
    with pytest.raises(InvalidArgument):
        await call(messages)


async def test_a_broadcast_and_a_reply_say_why_they_lie_in_no_inbox(
    messages: Messages,
) -> None:
    sent = await messages.broadcast("hello", sender="mira")
    request = await messages.send_request("noor", 1, timeout=60, sender="mira")
    taken = (await messages.take("noor"))[0]
    reply = await messages.reply(taken, 2)

    unheard = await messages.why(sent.id, agent="noor")
    hearing = await messages.hear("noor")
    assert hearing is not None
    await messages.heard("noor", hearing)
    heard = await messages.why(sent.id, agent="noor")
    plain = await messages.why(sent.id)
    answered = await messages.why(reply)

    assert "noor has not acknowledged it" in unheard.text
    assert "noor has acknowledged it" in heard.text
    assert "broadcast 1" in plain.text
    assert f"reply to {request.id}" in answered.text
