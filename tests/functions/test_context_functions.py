"""Contexts: whole or not at all, by revision, with types and an end; and what agents are doing."""

from __future__ import annotations

import asyncio
import json
from typing import Any

import pytest

from callboard.domain.context import Doing
from callboard.domain.task import at_ms
from callboard.exceptions import (
    AgentNotFound,
    ContextNotFound,
    EngineError,
    InvalidArgument,
    LockLost,
    NotANumber,
    RevisionConflict,
    TooLarge,
)
from callboard.locking import Locks
from callboard.services.context import Contexts
from tests.functions.support import MIRA, NOOR, START_US, Stage
from tests.functions.test_wrong_types import failure_of

pytestmark = pytest.mark.every_engine

START_MS = START_US // 1_000


@pytest.fixture
def contexts(stage: Stage) -> Contexts:
    return Contexts(stage.namespace, stage.events.follow, stage.events.cursor)


# Refusals


@pytest.mark.parametrize(
    "fields",
    [[f"f{i}" for i in range(1_001)], ["n"] * 5_000, None, 5, "n", [1], ["a:b"]],
    ids=["1,001", "5,000 times one", "None", "a number", "text", "no name", "colon"],
)
async def test_what_is_no_list_of_up_to_a_thousand_fields_is_refused(
    contexts: Contexts, fields: Any
) -> None:
    await contexts.set("p", {"n": 1})

    for call in (contexts.get("p", fields), contexts.get_many(["p"], fields)):
        with pytest.raises(InvalidArgument):
            await call

    assert len((await contexts.get("p", [*(f"f{i}" for i in range(999)), "n"])).fields) == 1


@pytest.mark.parametrize(
    "wrong",
    [
        {"project": "a:b"},
        {"project": ""},
        {"fields": {"a:b": 1}},
        {"fields": {"": 1}},
        {"fields": [1]},
        {"fields": {"x": float("nan")}},
        {"fields": {"x": [float("inf")]}},
        {"fields": {"x": print}},
        {"fields": {"x": "\ud800"}},
        {"fields": {}},
        {"remove": "abc"},
        {"remove": ["n"]},
        {"increment": {"x": "1"}},
        {"increment": {"x": True}},
        {"increment": {"x": 2**53}},
        {"increment": {"n": 1}},
        {"if_rev": -1},
        {"if_rev": "1"},
        {"ttl": 0},
        {"ttl": 31_536_001},
        {"sliding": True},
        {"sliding": True, "ttl": None},
        {"lock": "x"},
        {"lock": 5},
        {"by": 1},
    ],
    ids=str,
)
async def test_what_is_no_write_is_refused_at_the_edge(
    stage: Stage, contexts: Contexts, wrong: dict[str, Any]
) -> None:
    before = await stage.dump()

    with pytest.raises(InvalidArgument):
        await contexts.set(**{"project": "p", "fields": {"n": 1}, **wrong})

    assert await stage.dump() == before


async def test_values_and_contexts_are_bounded_and_nothing_of_too_much_is_kept(
    stage: Stage, contexts: Contexts
) -> None:
    with pytest.raises(TooLarge, match="262,144"):
        await contexts.set("p", {"x": "x" * 262_145})
    with pytest.raises(TooLarge):
        await contexts.set("p", {"x": ["x" * 262_144]})
    with pytest.raises(TooLarge, match="at most 1,000"):
        await contexts.set("p", {f"f{i}": i for i in range(1_001)})
    await contexts.set("many", {f"f{i}": i for i in range(1_000)})
    for i in range(15):
        await contexts.set("big", {f"f{i}": "x" * 262_144})
    before = await stage.dump()

    with pytest.raises(TooLarge, match="1,000 fields"):
        await contexts.set("many", {"one": 1, "f1": 2})
    with pytest.raises(TooLarge, match="4,194,304 bytes"):
        await contexts.set("big", {"one": "x" * 262_144, "f1": 1, "two": "x" * 262_144})

    assert await stage.dump() == before
    await contexts.set("many", {"one": 1}, remove=["f1"])
    await contexts.set("big", {"f1": 1, "one": "x" * 262_144})


async def test_what_is_not_there_is_not_found(stage: Stage, contexts: Contexts) -> None:
    before = await stage.dump()

    for call in (contexts.get("p"), contexts.delete("p"), contexts.set("p", ttl=5)):
        with pytest.raises(ContextNotFound, match="No context 'p'"):
            await call

    assert await contexts.get_many(["p", "q"]) == [None, None]
    assert await contexts.list() == []
    assert await stage.dump() == before


async def test_another_revision_refuses_the_whole_write(stage: Stage, contexts: Contexts) -> None:
    first = await contexts.set("p", {"a": 1}, by="ann")
    second = await contexts.set("p", {"b": 1}, by="bob")
    before = await stage.dump()

    for stale in (first.rev, 0, second.rev + 1):
        with pytest.raises(RevisionConflict, match="written by 'bob'") as refused:
            await contexts.set("p", {"a": 2}, if_rev=stale)
        assert refused.value.details["rev"] == second.rev
        with pytest.raises(RevisionConflict):
            await contexts.delete("p", if_rev=stale)
    with pytest.raises(RevisionConflict, match="is not there"):
        await contexts.set("other", {"a": 2}, if_rev=first.rev)

    assert await stage.dump() == before
    await contexts.set("p", {"a": 2}, if_rev=second.rev)
    assert (await contexts.get("p")).fields == {"a": 2, "b": 1}


@pytest.mark.parametrize("value", ["text", "", "0x10", "nan", "inf", True, None, [1], 2**53 - 1])
async def test_only_numbers_are_incremented_and_nothing_else_of_the_write_happens(
    stage: Stage, contexts: Contexts, value: Any
) -> None:
    await contexts.set("p", {"n": value})
    before = await stage.dump()

    with pytest.raises(NotANumber, match="Field 'n'"):
        await contexts.set("p", {"a": 1}, increment={"n": 1})

    assert await stage.dump() == before


@pytest.mark.parametrize("key", ["context:project:p", "context:about:p", "contexts",
                                 "contexts:due", "events"])  # fmt: skip
@pytest.mark.parametrize("how", ["set", "delete", "sweep"])
async def test_a_foreign_value_stops_the_operation_before_its_first_write(
    stage: Stage, contexts: Contexts, key: str, how: str
) -> None:
    await contexts.set("p", {"a": 1}, ttl=5)
    await stage.advance(6 if how == "sweep" else 0)
    await stage.raw("DEL", key)
    await stage.raw("SET", key, "not ours")
    before = await stage.dump()
    calls = {
        "set": lambda: contexts.set("p", {"b": 1}, ttl=9),
        "delete": lambda: contexts.delete("p"),
        "sweep": contexts.sweep,
    }

    error = await failure_of(calls[how]())

    if error:
        assert "of the wrong type" in error
        assert await stage.dump() == before
    else:
        assert await stage.raw("GET", key) == b"not ours"


# Values and types


async def test_values_come_back_as_they_were_and_lie_plain_in_the_documented_hash(
    stage: Stage, contexts: Contexts
) -> None:
    fields = {
        "name": "Voice 2", "status": "training", "dataset_size": 125_000, "quality_score": 0.93,
        "is_final": False, "parent": None, "tags": ["a", {"b": []}], "empty": "", "none": [],
        "digits": "007", "big": 12345678901234567890, "truth": "true", "half": 2.0,
    }  # fmt: skip

    await contexts.set("proj-1", fields)

    found = (await contexts.get("proj-1")).fields
    assert found == fields
    assert {name: type(value) for name, value in found.items()} == {
        name: type(value) for name, value in fields.items()
    }
    assert await plain(stage, "context:project:proj-1") == {
        "name": "Voice 2", "status": "training", "dataset_size": "125000",
        "quality_score": "0.93", "is_final": "false", "parent": "null", "tags": '["a",{"b":[]}]',
        "empty": "", "none": "[]", "digits": "007", "big": "12345678901234567890",
        "truth": "true", "half": "2.0",
    }  # fmt: skip


async def plain(stage: Stage, key: str) -> dict[str, str]:
    raw = await stage.raw("HGETALL", key)
    pairs = raw.items() if isinstance(raw, dict) else zip(raw[::2], raw[1::2], strict=True)
    return {name.decode(): value.decode() for name, value in pairs}


async def test_what_somebody_else_wrote_is_read_as_text_and_can_be_taken_over(
    stage: Stage, contexts: Contexts
) -> None:
    await stage.raw("HSET", "context:project:p", "status", "idle", "size", "5")

    found = await contexts.get("p")
    assert (found.rev, found.fields, found.updated_at) == (0, {"status": "idle", "size": "5"}, None)
    written = await contexts.set("p", {"size": 6}, if_rev=0)
    await stage.raw("HSET", "context:project:p", "size", "many")

    assert (await contexts.get("p")).fields == {"status": "idle", "size": "many"}
    assert (await contexts.get("p")).rev == written.rev


async def test_one_write_sets_removes_and_increments(stage: Stage, contexts: Contexts) -> None:
    first = await contexts.set("p", {"a": 1, "b": "x", "c": 1.5}, by="ann")

    stage.now += 1_000_000
    second = await contexts.set(
        "p", {"b": "y", "e": 1}, remove=["a", "gone"], increment={"c": 0.25, "d": 2}, by="bob"
    )

    found = await contexts.get("p")
    assert found.fields == {"b": "y", "c": 1.75, "d": 2, "e": 1}
    assert second.sums == {"c": 1.75, "d": 2}
    assert (found.rev, found.updated_by) == (second.rev, "bob")
    assert found.updated_at == second.at == at_ms(START_MS + 1_000)
    assert second.rev > first.rev
    assert (found["b"], found.get("a"), found.get("a", 3)) == ("y", None, 3)
    assert (await contexts.get("p", ["b", "gone"])).fields == {"b": "y"}


async def test_replace_leaves_nothing_else(contexts: Contexts) -> None:
    await contexts.set("p", {"a": 1, "b": [1], "c": None})

    await contexts.set("p", {"b": "text"}, increment={"a": 5}, replace=True)

    assert (await contexts.get("p")).fields == {"b": "text", "a": 5} or (
        await contexts.get("p")
    ).fields == {"b": "text", "a": 6}
    await contexts.set("p", replace=True)
    assert (await contexts.get("p")).fields == {}


async def test_increments_of_fractions_stay_short(stage: Stage, contexts: Contexts) -> None:
    assert [await contexts.increment("p", "x", 0.1) for _ in range(3)] == [0.1, 0.2, 0.1 + 0.2]
    assert (await plain(stage, "context:project:p"))["x"] == "0.30000000000000004"
    assert await contexts.increment("p", "n", -3) == -3
    assert await contexts.increment("p", "n", 0.5) == -2.5
    assert await contexts.increment("p", "big", 1e-9) == 1e-9


async def test_a_revision_is_never_given_twice_not_even_after_deletion(contexts: Contexts) -> None:
    old = await contexts.set("p", {"a": 1})
    await contexts.delete("p")
    new = await contexts.set("p", {"a": 2}, if_rev=0)

    assert new.rev > old.rev
    with pytest.raises(RevisionConflict):
        await contexts.set("p", {"a": 3}, if_rev=old.rev)


async def test_a_repeated_call_has_its_effect_once(stage: Stage, contexts: Contexts) -> None:
    row = ("p", "ann", "op1", "", 0, "", 0, "", 1, "n", "+", "5")

    first = await stage.call("context_save", *row)
    await contexts.increment("p", "n", 1)
    again = await stage.call("context_save", *row)

    assert (first.status, again.status) == ("ok", "replayed")
    assert first.facts == again.facts
    assert (await contexts.get("p")).fields == {"n": 6}


async def test_many_are_read_in_the_order_asked_for(contexts: Contexts) -> None:
    for name in "abc":
        await contexts.set(name, {"n": name})

    found = await contexts.get_many(["c", "gone", "a", "c"])

    assert [one and one.fields for one in found] == [{"n": "c"}, None, {"n": "a"}, {"n": "c"}]


async def test_more_than_one_reply_takes_is_read_in_parts(contexts: Contexts) -> None:
    names = [f"p{i}" for i in range(5)]
    for name in names:
        await contexts.set(name, {f"f{i}": "x" * 250_000 for i in range(12)})

    found = await contexts.get_many(names)

    assert [one and (one.project, len(one.fields)) for one in found] == [(n, 12) for n in names]


async def test_the_last_changed_is_listed_first(stage: Stage, contexts: Contexts) -> None:
    for name in ("a", "b", "a"):
        stage.now += 1_000_000
        await contexts.set(name, {"n": 1, "text": "xyz"}, by="ann")

    listed = await contexts.list()

    assert [(one.project, one.fields, one.bytes) for one in listed] == [("a", 2, 9), ("b", 2, 9)]
    assert [one.project for one in await contexts.list(limit=1, skip=1)] == ["b"]
    assert listed[0].updated_by == "ann"


# An end


async def test_a_context_whose_time_is_over_is_gone_at_once_and_removed_by_the_sweep(
    stage: Stage, contexts: Contexts
) -> None:
    first = await contexts.set("p", {"a": [1]}, ttl=10)
    await contexts.set("p", {"b": 1})
    await stage.advance(9.9)
    assert (await contexts.get("p")).expires_at == at_ms(START_MS + 10_000)

    await stage.advance(0.1)

    with pytest.raises(ContextNotFound):
        await contexts.get("p")
    assert await contexts.sweep() is False
    assert not {"context:project:p", "context:about:p", "contexts", "contexts:due"} & (
        await stage.key_names()
    )
    last = (await stage.news())[-1]
    assert (last.type, last.by, last.facts[0].state) == ("context:updated", "janitor", "expired")
    assert (await contexts.set("p", {"c": 1}, if_rev=0)).rev > first.rev


async def test_nothing_of_an_expired_context_is_in_the_one_that_follows(
    stage: Stage, contexts: Contexts
) -> None:
    await contexts.set("p", {"a": [1], "n": 5}, ttl=10)
    await stage.advance(11)

    await contexts.set("p", {"b": 1}, increment={"n": 1})

    found = await contexts.get("p")
    assert (found.fields, found.expires_at) == ({"b": 1, "n": 1}, None)
    await contexts.sweep()
    assert (await contexts.get("p")).rev == found.rev


@pytest.mark.parametrize("sliding", [True, False])
async def test_a_sliding_end_moves_with_each_write_and_another_does_not(
    stage: Stage, contexts: Contexts, sliding: bool
) -> None:
    await contexts.set("p", {"a": 1}, ttl=10, sliding=sliding)
    await stage.advance(6)
    await contexts.set("p", {"a": 2})
    await stage.advance(6)
    await contexts.sweep()

    found = (await contexts.get_many(["p"]))[0]

    assert (found is not None) == sliding


@pytest.mark.parametrize("replace", [True, False])
async def test_an_end_can_be_moved_and_taken_away(
    stage: Stage, contexts: Contexts, replace: bool
) -> None:
    await contexts.set("p", {"a": 1}, ttl=10, sliding=True)
    await contexts.set("p", {"a": 2}, ttl=50, replace=replace)
    await stage.advance(20)
    assert (await contexts.get("p")).expires_at == at_ms(START_MS + 50_000)

    await contexts.set("p", ttl=None)

    await stage.advance(100)
    await contexts.sweep()
    assert (await contexts.get("p")).expires_at is None


# Changes


async def test_each_change_is_an_event_and_is_published_as_documented(
    stage: Stage, contexts: Contexts
) -> None:
    channel = stage.keys.context_channel()
    subscription = await stage.connection.subscribe_plain(channel)
    cursor = await stage.events.cursor()

    await contexts.set("proj-1", {"status": "training"}, by="ann")
    await contexts.set("proj-1", {"status": "done"}, remove=["gone", "status2"])
    await contexts.set("proj-1", {f"f{i}": i for i in range(101)})
    await contexts.delete("proj-1")

    published = [json.loads((await subscription.get(5) or ("", b""))[1]) for _ in range(4)]
    assert (
        published
        == [
            {
                "type": "project_context_updated",
                "projectId": "proj-1",
                "timestamp": "2027-01-15T08:00:00.000Z",
            }
        ]
        * 4
    )
    events = await stage.news(cursor)
    assert [(event.type, event.board) for event in events] == [("context:updated", "")] * 4
    facts = [event.facts[0] for event in events]
    assert [(fact.state, fact.extra) for fact in facts] == [
        ("created", "status"), ("updated", "status"), ("updated", "*"), ("deleted", "*"),
    ]  # fmt: skip
    assert [fact.fence for fact in facts] == sorted({fact.fence for fact in facts})
    subscription.close()


async def test_channels_that_are_switched_off_carry_nothing(
    stage: Stage, contexts: Contexts
) -> None:
    await stage.call("namespace_configure", "channels", "0")
    subscription = await stage.connection.subscribe_plain(stage.keys.context_channel())

    await contexts.set("p", {"a": 1})

    assert await subscription.get(0.2) is None
    subscription.close()


async def test_a_watcher_sees_each_change_with_how_the_context_stands(contexts: Contexts) -> None:
    watching = contexts.watch("p", since=0)
    first = await contexts.set("p", {"a": 1})
    await contexts.set("other", {"a": 1})

    current = await asyncio.wait_for(anext(watching), 5)
    second = await contexts.set("p", {"a": 2}, remove=["b"], by="ann")
    change = await asyncio.wait_for(anext(watching), 5)
    await contexts.set("p", {"a": 3}, remove=["a2"])
    await contexts.delete("p")
    third, fourth = [await asyncio.wait_for(anext(watching), 5) for _ in range(2)]

    assert (current.kind, current.rev) == ("current", first.rev)
    assert current.context is not None
    assert current.context.fields == {"a": 1}
    assert (change.kind, change.changed, change.by) == ("updated", ("a",), "ann")
    assert (change.rev, change.context and change.context.fields) == (second.rev, {"a": 2})
    assert (third.kind, third.context) == ("updated", None)
    assert (fourth.kind, fourth.all_fields, fourth.context) == ("deleted", True, None)
    await watching.aclose()  # type: ignore[attr-defined]


async def test_a_watcher_that_knows_the_revision_hears_only_what_comes(contexts: Contexts) -> None:
    known = await contexts.set("p", {"a": 1})
    watching = contexts.watch("p", since=known.rev)
    waiting = asyncio.ensure_future(anext(watching))
    await asyncio.sleep(0)

    written = await contexts.set("p", {"a": 2})

    change = await asyncio.wait_for(waiting, 5)
    assert change.rev == written.rev
    await watching.aclose()  # type: ignore[attr-defined]


async def test_a_watcher_behind_what_is_kept_is_told_and_reads_anew(
    stage: Stage, contexts: Contexts
) -> None:
    await contexts.set("p", {"n": 0})
    cursor = await stage.events.cursor()
    for i in range(1, 4):
        await contexts.set("p", {"n": i})
    await stage.raw("XTRIM", "events", "MAXLEN", 1)

    watching = contexts.watch("p", cursor=cursor)
    gap, last = [await asyncio.wait_for(anext(watching), 5) for _ in range(2)]

    assert (gap.kind, gap.all_fields) == ("gap", True)
    assert gap.context is not None
    assert gap.context.fields == {"n": 3}
    assert (last.kind, last.context) == ("updated", gap.context)
    await watching.aclose()  # type: ignore[attr-defined]


async def test_a_watcher_that_falls_behind_meanwhile_reads_anew(
    stage: Stage, contexts: Contexts
) -> None:
    await contexts.set("p", {"n": 0})
    watching = contexts.watch("p", since=0)
    assert (await asyncio.wait_for(anext(watching), 5)).kind == "current"
    await contexts.set("p", {"n": 1})
    assert (await asyncio.wait_for(anext(watching), 5)).changed == ("n",)

    for i in range(2, 6):
        await contexts.set("p", {"n": i})
    await stage.raw("XTRIM", "events", "MAXLEN", 1)
    gap = await asyncio.wait_for(anext(watching), 5)

    assert (gap.kind, gap.context and gap.context["n"]) == ("gap", 5)
    await watching.aclose()  # type: ignore[attr-defined]


async def test_a_watcher_that_raises_reaches_nobody_else(contexts: Contexts) -> None:
    seen: list[int] = []

    async def throwing() -> None:
        async for change in contexts.watch("p", since=0):
            raise ValueError(change.kind)

    async def reading() -> None:
        async for change in contexts.watch("p", since=0):
            assert change.context is not None
            seen.append(change.context["n"])
            if seen[-1] == 20:
                return

    thrown, read = asyncio.ensure_future(throwing()), asyncio.ensure_future(reading())
    for n in range(1, 21):
        await contexts.set("p", {"n": n})
    await asyncio.wait_for(read, 10)

    with pytest.raises(ValueError, match="created|current"):
        await asyncio.wait_for(thrown, 5)
    assert seen == sorted(seen)


# Under a lock


async def test_who_lost_the_lock_writes_nothing(stage: Stage, contexts: Contexts) -> None:
    locks = Locks(stage.namespace)
    first = await locks.acquire("db", "other", owner="o1", wait=0)
    await contexts.set("p", {"n": 1}, lock=first)
    await locks.force_release("db", by="ann", reason="too long")
    second = await locks.acquire("db", owner="o2", wait=0)
    before = await stage.dump()

    with pytest.raises(LockLost, match="'db' is no longer held by o1"):
        await contexts.set("p", {"n": 2}, lock=first)

    assert await stage.dump() == before
    await contexts.set("p", {"n": 3}, lock=second)
    assert (await contexts.get("p")).fields == {"n": 3}
    await locks.keeper.close()


# Concurrency


async def test_fifty_writers_by_revision_lose_no_update(contexts: Contexts) -> None:
    await contexts.set("p", {"n": 0, "log": []})

    async def write(who: int) -> int:
        tries = 0
        while True:
            tries += 1
            now = await contexts.get("p")
            try:
                await contexts.set(
                    "p", {"n": now["n"] + 1, "log": [*now["log"], who]}, if_rev=now.rev
                )
            except RevisionConflict:
                continue
            return tries

    tries = await asyncio.gather(*(write(who) for who in range(50)))

    found = await contexts.get("p")
    assert found["n"] == 50
    assert sorted(found["log"]) == list(range(50))
    assert sum(tries) > 50


async def test_fifty_increments_at_once_are_fifty(contexts: Contexts) -> None:
    await asyncio.gather(*(contexts.increment("p", "n") for _ in range(50)))

    assert (await contexts.get("p")).fields == {"n": 50}


# What agents are doing


async def test_a_state_is_refused_without_agent_or_with_a_wrong_word(
    stage: Stage, contexts: Contexts
) -> None:
    before = await stage.dump()

    with pytest.raises(AgentNotFound):
        await contexts.set_state("nobody", "idle")
    for wrong in ({"status": "lazy"}, {"status": "idle", "current_task": "t1"},
                  {"status": "busy", "current_task": "a b"}):  # fmt: skip
        with pytest.raises(InvalidArgument):
            await contexts.set_state(MIRA, **wrong)

    assert await stage.dump() == before


async def test_two_agents_of_a_type_do_not_overwrite_each_other(
    stage: Stage, contexts: Contexts
) -> None:
    await contexts.set_state(MIRA, "busy", current_task="t1")
    assert await shown(stage) == ("busy", "t1")
    stage.now += 1_000_000
    await contexts.set_state(NOOR, "failed", current_task="t2")
    assert await shown(stage) == ("busy", "t1")

    await contexts.set_state(NOOR, "idle")

    assert await shown(stage) == ("idle", None)
    doing = {one.agent: (one.status, one.current_task) for one in await contexts.states("worker")}
    assert doing == {MIRA: (Doing.BUSY, "t1"), NOOR: (Doing.IDLE, None)}
    assert await contexts.available("worker") == [NOOR]
    stage.now += 1_000_000
    await contexts.set_state(MIRA, "idle")
    assert await contexts.available("worker") == [NOOR, MIRA]
    kinds = [event.type for event in await stage.news()][-4:]
    assert kinds == ["agent:active", "agent:error", "agent:idle", "agent:idle"]


async def shown(stage: Stage, agent_type: str = "worker") -> tuple[str | None, str | None]:
    fields = await plain(stage, f"agent:status:{agent_type}")
    assert "updated_at" in fields or not fields
    return fields.get("status"), fields.get("current_task")


async def test_an_agent_that_is_lost_has_failed_and_is_not_available(
    stage: Stage, contexts: Contexts
) -> None:
    await contexts.set_state(MIRA, "idle")

    await stage.advance(31)
    await stage.call("agent_sweep", 100)

    assert await shown(stage) == ("failed", None)
    assert await contexts.available("worker") == []
    (own,) = await contexts.states("worker")
    assert (own.status, own.is_live) == (Doing.FAILED, False)
    await stage.agent(MIRA)
    await contexts.set_state(MIRA, "idle")
    assert await contexts.available("worker") == [MIRA]


async def test_an_agent_that_drains_is_not_available(stage: Stage, contexts: Contexts) -> None:
    await contexts.set_state(MIRA, "idle")

    await stage.agent(MIRA, status="draining")

    assert await contexts.available("worker") == []


async def test_an_agent_that_is_deregistered_leaves_no_state(
    stage: Stage, contexts: Contexts
) -> None:
    await contexts.set_state(MIRA, "busy", current_task="t1")

    await stage.call("agent_deregister", MIRA, "ann")

    assert not [name for name in await stage.key_names() if "status" in name or "busy" in name]
    assert await contexts.states("worker") == []


async def test_a_type_that_was_left_shows_the_agent_no_more(
    stage: Stage, contexts: Contexts
) -> None:
    await contexts.set_state(MIRA, "idle")
    await stage.raw("HSET", "agent:mira", "agent_type", "coder")

    await contexts.set_state(MIRA, "busy", current_task="t")

    assert await shown(stage) == (None, None)
    assert await shown(stage, "coder") == ("busy", "t")


@pytest.mark.parametrize("key", ["agent:status:worker", "agents:idle:worker",
                                 "agents:busy:worker", "agents:failed:worker"])  # fmt: skip
async def test_a_foreign_value_stops_a_state_before_its_first_write(
    stage: Stage, contexts: Contexts, key: str
) -> None:
    await stage.raw("SET", key, "not ours")
    before = await stage.dump()

    with pytest.raises(EngineError, match="of the wrong type"):
        await contexts.set_state(MIRA, "busy")

    assert await stage.dump() == before


async def test_a_context_that_is_asked_for_several_times_is_read_once_and_counts_each_time(
    contexts: Contexts,
) -> None:
    await contexts.set("p", {"text": "x" * 1_000})

    found = await contexts.get_many(["p", "q", "p"], bytes_max=10_000)
    with pytest.raises(TooLarge) as refused:
        await contexts.get_many(["p"] * 10, bytes_max=10_000)

    assert found[0] is found[2] is not None
    assert found[1] is None
    assert refused.value.details["limit"] == 10_000
