"""Recurring tasks: a tick is handled once, and what became of it can be read."""

from __future__ import annotations

import asyncio
from collections.abc import Coroutine
from datetime import UTC, datetime, timedelta, timezone
from typing import Any

import pytest

from callboard.domain.task import Requirements, at_ms
from callboard.exceptions import (
    BoardFull,
    EngineError,
    IdConflict,
    InvalidArgument,
    RecurringNotFound,
    TooLarge,
)
from callboard.services.recurring import Recurrences
from tests.functions.support import BOARD, START_US, Stage, spec, values_of

pytestmark = pytest.mark.every_engine

# 2027-01-15 08:00:00 UTC.
START = at_ms(START_US / 1_000)


@pytest.fixture
def recurring(stage: Stage) -> Recurrences:
    return Recurrences(stage.namespace)


async def create(recurring: Recurrences, name: str = "n", **fields: Any) -> Any:
    return await recurring.create(name, "work", **{"board": BOARD, "every": 60, **fields})


async def ids(stage: Stage, board: str = BOARD) -> list[str]:
    return sorted(await stage.all_states(board))


async def sweep(recurring: Recurrences) -> None:
    while await recurring.sweep():
        pass


# Refusals


@pytest.mark.parametrize(
    "wrong",
    [
        {"cron": "61 * * * *", "every": None},
        {"every": 0},
        {"timezone": "Mars"},
        {"payload": float("nan")},
        {"depends_on": ["t"]},
        {"unique": "u"},
        {"priority": "soon"},
        {"metadata": [1]},
        {"metadata": {"tick": 1}},
        {"metadata": {"recurring": "x"}},
        {"start": datetime.max.replace(tzinfo=timezone(timedelta(hours=-5)))},
        {"replace": "x"},
        {"requirements": {"capabilities": ["x"]}},
        {"rate_key": "no key"},
        {"lease": 0},
        {"by": 7},
    ],
    ids=str,
)
async def test_what_cannot_recur_is_refused_and_leaves_nothing(
    stage: Stage, recurring: Recurrences, wrong: dict[str, Any]
) -> None:
    before = await stage.dump()

    with pytest.raises(InvalidArgument):
        await create(recurring, **wrong)

    assert await stage.dump() == before


async def test_what_is_not_there_is_not_found(stage: Stage, recurring: Recurrences) -> None:
    before = await stage.dump()

    for call in (
        recurring.get("n"),
        recurring.next("n"),
        recurring.pause("n"),
        recurring.resume("n"),
        recurring.trigger("n"),
        recurring.delete("n"),
    ):
        with pytest.raises(RecurringNotFound):
            await call

    assert await stage.dump() == before
    assert await recurring.list() == []


async def test_a_name_is_not_given_to_another_definition_unless_asked_for(
    stage: Stage, recurring: Recurrences
) -> None:
    first = await create(recurring)
    same = await create(recurring)
    with pytest.raises(IdConflict, match="replace"):
        await create(recurring, every=90)

    replaced = await create(recurring, every=90, replace=True)

    assert same == first
    assert (first.revision, replaced.revision) == (1, 2)
    assert replaced.next_at == START + timedelta(seconds=90)


@pytest.mark.parametrize(
    ("before", "after"),
    [
        ({"every": 15}, {"every": 15.0}),
        ({"payload": {"a": 1, "b": [2]}}, {"payload": {"b": [2], "a": 1}}),
        ({"metadata": {"a": 1, "b": 2}}, {"metadata": {"b": 2, "a": 1}}),
        ({"metadata": {1: 2}}, {"metadata": {"1": 2}}),
        ({"metadata": {}}, {}),
        ({"priority": 0}, {"priority": "normal"}),
        ({"timeout": 30}, {"timeout": 30.0}),
        (
            {"start": datetime(2027, 6, 1, 9, tzinfo=UTC)},
            {"start": datetime(2027, 6, 1, 11, tzinfo=timezone(timedelta(hours=2)))},
        ),
    ],
    ids=lambda fields: " ".join(fields) or "nothing",
)
async def test_what_means_the_same_is_the_same_definition(
    recurring: Recurrences, before: dict[str, Any], after: dict[str, Any]
) -> None:
    first = await create(recurring, **before)

    assert await create(recurring, **after) == first


async def test_a_schedule_behind_the_last_year_has_no_tick(recurring: Recurrences) -> None:
    found = await create(recurring, start=datetime.max.replace(tzinfo=UTC))

    assert found.next_at is None
    assert await recurring.next("n") == []


# Firing


async def test_a_tick_submits_its_task_and_moves_on_in_one_step(
    stage: Stage, recurring: Recurrences
) -> None:
    wants = Requirements(capabilities=("x",))
    await create(recurring, payload={"a": 1}, requirements=wants, rate_key="r", priority="high")
    await stage.advance(59)
    await sweep(recurring)
    assert await ids(stage) == []

    await stage.advance(1)
    await sweep(recurring)

    task = await stage.task("n-20270115T080100Z")
    assert (task.kind, task.payload_as(), task.requirements) == ("work", {"a": 1}, wants)
    assert (task.rate_key, task.priority, task.created_by) == ("r", 10, "recurring/n")
    assert task.metadata == {"recurring": "n", "tick": "2027-01-15T08:01:00Z"}
    found = await recurring.get("n")
    assert (found.fired, found.last_task, found.last_outcome) == (1, task.id, "fired")
    assert (found.last_at, found.next_at) == (
        START + timedelta(minutes=1),
        START + timedelta(minutes=2),
    )


async def test_many_who_sweep_at_once_fire_a_tick_once(
    stage: Stage, recurring: Recurrences
) -> None:
    for name in ("a", "b", "c"):
        await create(recurring, name, catch_up="all")
    await stage.advance(300)

    await asyncio.gather(*(recurring.sweep() for _ in range(20)))

    assert len(await ids(stage)) == 15
    fired = [event for event in await stage.news() if event.type == "recurring:fired"]
    assert sum(len(event.facts) for event in fired) == 15
    assert {one.fired for one in await recurring.list()} == {5}


async def test_who_decided_by_a_definition_that_was_replaced_is_told_so(
    stage: Stage, recurring: Recurrences
) -> None:
    before = await create(recurring)
    await create(recurring, payload="new", replace=True)
    await stage.advance(60)
    expected = round(before.next_at.timestamp() * 1_000)

    reply = await stage.call(
        "recurring_fire", "n", "x", before.revision, expected, expected, 0, 0, BOARD, 0
    )

    assert reply.status == "moved"
    await sweep(recurring)
    assert (await stage.task("n-20270115T080100Z")).payload_as() == "new"


async def test_a_task_that_is_there_already_counts_as_the_ticks_own(
    stage: Stage, recurring: Recurrences
) -> None:
    await create(recurring)
    await stage.advance(60)
    await sweep(recurring)
    await recurring.delete("n")
    stage.now -= 60_000_000  # a definition of another payload meets the same tick
    await create(recurring, payload="other", start=START)
    await stage.raw("ZADD", "recurring:due", round((START.timestamp() + 60) * 1_000), "n")
    stage.now += 60_000_000

    await sweep(recurring)

    found = await recurring.get("n")
    assert (found.last_outcome, found.fired) == ("exists", 0)
    assert found.next_at == START + timedelta(seconds=120)


@pytest.mark.parametrize(
    ("catch_up", "fired"),
    [("skip", 0), ("one", 1), ("all", 10)],
)
async def test_after_an_outage_the_policy_says_what_is_made_good(
    stage: Stage, recurring: Recurrences, catch_up: str, fired: int
) -> None:
    await create(recurring, every=600, catch_up=catch_up)
    stage.now += 6_100_000_000

    await sweep(recurring)

    assert len(await ids(stage)) == fired
    found = await recurring.get("n")
    assert found.next_at == START + timedelta(seconds=6_600)
    assert found.last_outcome == ("skipped" if catch_up == "skip" else "fired")


async def test_a_thousand_missed_ticks_are_made_good_round_by_round(
    stage: Stage, recurring: Recurrences
) -> None:
    await create(recurring, "many", every=1, catch_up="all")
    await create(recurring, "other", every=60)
    stage.now += 3_600_000_000

    rounds = 1
    while await recurring.sweep():
        rounds += 1

    assert rounds > 1
    assert len(await ids(stage)) == 1_000 + 1
    assert "many-20270115T090000Z" in await ids(stage)
    assert "many-20270115T084319Z" not in await ids(stage)


async def test_a_sweep_fires_a_share_of_each_that_is_behind(
    stage: Stage, recurring: Recurrences
) -> None:
    for i in range(20):
        await create(recurring, f"many{i}", every=1, catch_up="all")
    await create(recurring, "other", every=60)
    stage.now += 600_000_000

    assert await recurring.sweep()

    counts = {one.name: one.fired for one in await recurring.list()}
    assert sum(counts.values()) <= 200
    assert min(counts.values()) == 1
    await sweep(recurring)
    assert {one.fired for one in await recurring.list()} == {600, 1}


async def test_what_is_behind_is_worked_off_once_by_many_who_sweep_in_turns(
    stage: Stage, recurring: Recurrences
) -> None:
    other = Recurrences(stage.namespace)
    for i in range(3):
        await create(recurring, f"n{i}", every=1, catch_up="all")
    stage.now += 300_000_000

    while await recurring.sweep() or await other.sweep():
        pass

    assert {one.fired for one in await recurring.list()} == {300}


@pytest.mark.parametrize("wrong", ["timezone", "definition"])
async def test_one_that_cannot_be_computed_here_holds_up_no_other_and_says_so_once(
    stage: Stage,
    recurring: Recurrences,
    caplog: pytest.LogCaptureFixture,
    wrong: str,
) -> None:
    await create(recurring, "aaa", cron="* * * * *", every=None)
    await create(recurring, "bbb")
    raw = (await stage.raw("HGET", "recurrence:aaa", "definition")).decode()
    bad = raw.replace('"cron"', '"timezone":"Mars/X","cron"') if wrong == "timezone" else "[]"
    await stage.raw("HSET", "recurrence:aaa", "definition", bad)

    for _ in range(3):
        await stage.advance(60)
        await sweep(recurring)

    assert (await recurring.get("bbb")).fired == 3
    assert [r.getMessage() for r in caplog.records if "cannot be fired" in r.getMessage()] == [
        f"Recurring task aaa cannot be fired: {await last_error(stage, 'aaa')}"
    ]
    if wrong == "definition":
        assert [one.name for one in await recurring.list()] == ["bbb"]
        with pytest.raises(InvalidArgument, match="cannot be read"):
            await recurring.get("aaa")


async def last_error(stage: Stage, name: str) -> str:
    return (await stage.raw("HGET", f"recurrence:{name}", "last_error")).decode()


async def test_one_that_cannot_be_fired_says_why_until_it_is(
    stage: Stage, recurring: Recurrences
) -> None:
    await stage.submit("t")
    await stage.configure(limit=1)
    await create(recurring)
    await stage.advance(60)
    await sweep(recurring)

    assert "1 unfinished tasks" in (await recurring.get("n")).last_error
    assert (await create(recurring, every=30, replace=True)).last_error == ""
    await stage.advance(30)
    await sweep(recurring)
    assert "1 unfinished tasks" in (await recurring.get("n")).last_error

    await stage.configure(limit=9)
    await sweep(recurring)
    assert (await recurring.get("n")).last_error == ""
    assert not await stage.raw("HGET", "recurrence:n", "last_error_code")


async def test_overlap_skip_leaves_ticks_out_while_the_task_before_has_not_ended(
    stage: Stage, recurring: Recurrences
) -> None:
    await create(recurring, overlap="skip")
    outcomes = []
    for i in range(4):
        await stage.advance(60)
        await sweep(recurring)
        outcomes.append((await recurring.get("n")).last_outcome)
        if i == 2:
            fence = await stage.held("n-20270115T080100Z")
            await stage.complete("n-20270115T080100Z", fence)

    assert outcomes == ["fired", "overlapped", "overlapped", "fired"]
    assert await ids(stage) == ["n-20270115T080100Z", "n-20270115T080400Z"]


async def test_a_schedule_ends(stage: Stage, recurring: Recurrences) -> None:
    await create(recurring, end=START + timedelta(seconds=130))
    for _ in range(4):
        await stage.advance(60)
        await sweep(recurring)

    found = await recurring.get("n")

    assert (found.fired, found.next_at, found.is_paused) == (2, None, False)


async def test_paused_nothing_fires_and_the_time_is_not_made_good(
    stage: Stage, recurring: Recurrences
) -> None:
    await create(recurring, catch_up="all")
    assert (await recurring.pause("n")).next_at is None
    await stage.advance(330)
    await sweep(recurring)
    assert await ids(stage) == []

    found = await recurring.resume("n")
    await sweep(recurring)

    assert found.next_at == START + timedelta(seconds=360)
    assert await ids(stage) == []
    await stage.advance(30)
    await sweep(recurring)
    assert await ids(stage) == ["n-20270115T080600Z"]


async def test_a_tick_of_a_definition_that_was_replaced_is_not_resumed(
    stage: Stage, recurring: Recurrences
) -> None:
    before = await create(recurring)
    await recurring.pause("n")
    await create(recurring, cron="0 3 1 1 *", every=None, replace=True)

    reply = await stage.call(
        "recurring_set", "n", "ann", 0, stage.now // 1_000 + 60_000, str(before.revision)
    )

    assert reply.status == "moved"
    assert (await recurring.resume("n")).next_at == datetime(2028, 1, 1, 3, tzinfo=UTC)


async def test_what_is_replaced_while_paused_stays_paused(
    stage: Stage, recurring: Recurrences
) -> None:
    await create(recurring)
    await recurring.pause("n")

    found = await create(recurring, every=90, replace=True)

    assert (found.is_paused, found.next_at) == (True, None)


async def test_a_full_board_keeps_the_tick_and_holds_up_no_other(
    stage: Stage, recurring: Recurrences
) -> None:
    await stage.submit("t")
    await stage.configure(limit=1)
    await create(recurring, "full")
    await create(recurring, "other", board="roomy")
    await stage.advance(60)

    await sweep(recurring)

    assert await ids(stage, "roomy") == ["other-20270115T080100Z"]
    assert (await recurring.get("full")).next_at == START + timedelta(seconds=60)
    with pytest.raises(BoardFull):
        await recurring.trigger("full")
    await stage.configure(limit=9)
    await sweep(recurring)
    assert "full-20270115T080100Z" in await ids(stage)


async def test_however_many_are_stuck_the_others_are_fired(
    stage: Stage, recurring: Recurrences, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("callboard.services.recurring.DUE_MOST", 2)
    await stage.submit("t")
    await stage.configure(limit=1)
    for i in range(5):
        await create(recurring, f"full{i}")
    for i in range(5):
        await create(recurring, f"z{i}", board="roomy")
    await stage.advance(60)

    await sweep(recurring)

    assert len(await ids(stage, "roomy")) == 5
    assert (await recurring.get("full4")).next_at == START + timedelta(seconds=60)


async def test_a_payload_of_more_than_64_kib_belongs_elsewhere(recurring: Recurrences) -> None:
    with pytest.raises(TooLarge):
        await create(recurring, payload="x" * 65_536)


async def test_a_trigger_submits_out_of_turn_and_leaves_the_ticks(
    stage: Stage, recurring: Recurrences
) -> None:
    before = await create(recurring, overlap="skip")
    await stage.advance(0.5)

    first = await recurring.trigger("n", by="ann")
    await stage.advance(0.5)
    await recurring.trigger("n")

    found = await recurring.get("n")
    assert first == "n-20270115T080000.500Z"
    assert (found.next_at, found.fired) == (before.next_at, 2)
    assert len(await ids(stage)) == 2


async def test_each_of_many_triggers_at_one_moment_submits_its_own_task(
    stage: Stage, recurring: Recurrences
) -> None:
    await create(recurring)

    found = await asyncio.gather(*(recurring.trigger("n") for _ in range(10)))

    assert sorted(found) == await ids(stage)
    assert (await recurring.get("n")).fired == 10


async def test_a_trigger_that_is_repeated_is_known_again(
    stage: Stage, recurring: Recurrences
) -> None:
    await create(recurring)
    tick = ("word", 0, stage.now // 1_000, 0, 0, BOARD, 1, *values_of([spec("n-1")]))

    replies = [await stage.call("recurring_fire", "n", "x", *tick) for _ in range(2)]

    assert [(r.status, r.raw[1]) for r in replies] == [("ok", b"fired")] * 2
    assert (await recurring.get("n")).fired == 1


async def test_who_waits_for_work_is_given_the_task_of_a_tick(
    stage: Stage, recurring: Recurrences
) -> None:
    await create(recurring)
    await stage.submit("t")
    await stage.complete("t", await stage.held("t"))
    await stage.wait_as("mira")
    await stage.advance(60)

    await sweep(recurring)

    assert await stage.status("n-20270115T080100Z") == "assigned"


async def test_each_change_and_tick_is_an_event(stage: Stage, recurring: Recurrences) -> None:
    await create(recurring, by="ann")
    await create(recurring, every=30, replace=True)
    await recurring.pause("n")
    await recurring.pause("n")
    await recurring.resume("n")
    await stage.advance(30)
    await sweep(recurring)
    await recurring.delete("n")

    told = [
        (event.type, fact.state, fact.extra)
        for event in await stage.news()
        for fact in event.facts
        if event.type.startswith("recurring:")
    ]

    assert told == [
        ("recurring:changed", "created", ""),
        ("recurring:changed", "replaced", ""),
        ("recurring:changed", "paused", ""),
        ("recurring:changed", "resumed", ""),
        ("recurring:fired", "fired", "n-20270115T080030Z|1800000030000"),
        ("recurring:changed", "deleted", ""),
    ]


async def test_what_is_deleted_leaves_its_tasks_and_nothing_else(
    stage: Stage, recurring: Recurrences
) -> None:
    await create(recurring)
    await stage.advance(60)
    await sweep(recurring)

    await recurring.delete("n")

    assert await ids(stage) == ["n-20270115T080100Z"]
    assert not {name for name in await stage.key_names() if "recurr" in name}


@pytest.mark.parametrize(
    "key", ["recurring", "recurring:due", "recurrence:n", "events", "tasks:b:state"]
)
async def test_a_foreign_value_stops_a_call_before_its_first_write(
    stage: Stage, recurring: Recurrences, key: str
) -> None:
    await create(recurring)
    await stage.advance(60)
    await stage.raw("DEL", key)
    await stage.raw("SET", key, "not ours")
    before = await stage.dump()

    calls: list[Coroutine[Any, Any, Any]] = []
    if "tasks" not in key:
        calls.append(create(recurring, every=5, replace=True))
    if key != "recurring":
        calls.append(recurring.sweep())
    for call in calls:
        with pytest.raises(EngineError, match="wrong type"):
            await call

    assert await stage.dump() == before
