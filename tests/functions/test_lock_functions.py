"""Locks: who gets what, in which order, for how long, and who is refused."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Any

import pytest

from callboard.domain.lock import overlap
from callboard.exceptions import EngineError, InvalidArgument
from tests.functions.lock_support import Table, claim
from tests.functions.support import BOARD, MIRA, Stage, changed, types_of

pytestmark = pytest.mark.every_engine


@pytest.fixture
def locks(stage: Stage) -> Table:
    return Table(stage)


# Refusals


async def test_a_held_resource_is_refused_with_holder_agent_and_time(
    stage: Stage, locks: Table
) -> None:
    await locks.take("one", "r", agent="mira", lease=10)
    before = await stage.dump()

    reply = await locks.acquire("two", "r")

    until = (stage.now - 1) // 1_000 + 10_000
    assert (reply.status, reply.facts) == ("lock_held", ["r", "one", "mira", str(until)])
    assert await stage.dump() == before


async def test_two_tasks_of_one_agent_never_share_an_exclusive_lock(
    stage: Stage, locks: Table
) -> None:
    await stage.submit("t1", "t2")
    first = claim("t1", await stage.held("t1"))
    second = claim("t2", await stage.held("t2"))

    assert (await locks.acquire(first, "r")).status == "ok"
    assert (await locks.acquire(second, "r")).status == "lock_held"


async def test_a_claim_that_is_over_can_own_nothing(stage: Stage, locks: Table) -> None:
    await stage.submit("t")
    fence = await stage.held("t")
    await stage.complete("t", fence)

    assert (await locks.acquire(claim("t", fence), "r")).status == "lease_lost"
    assert (await locks.acquire(claim("nothing", 7), "r")).status == "lease_lost"
    assert await locks.left() == set()


async def test_a_set_is_granted_whole_or_not_at_all(locks: Table) -> None:
    await locks.take("one", "b")

    assert (await locks.acquire("two", "a", "b", "c")).status == "lock_held"
    assert await locks.holders("a") == []
    assert await locks.queue("two", "a", "b", "c") == "waiting"
    assert (await locks.acquire("three", "a", "c")).status == "ok"


async def test_a_semaphore_of_another_size_is_refused(locks: Table) -> None:
    await locks.take("one", "s", mode="p", limit=2)

    reply = await locks.acquire("two", "s", mode="p", limit=3)

    assert (reply.status, reply.facts) == ("lock_mismatch", ["s", "limit", "2"])


async def test_an_owner_waits_for_one_set_at_a_time(locks: Table) -> None:
    await locks.take("one", "a", "b")
    await locks.queue("two", "a")

    reply = await locks.acquire("two", "b", wait=5)

    assert (reply.status, reply.facts) == ("already_waiting", ["a"])


async def test_an_owner_holds_at_most_a_thousand_resources(locks: Table) -> None:
    for start in range(0, 1_000, 100):
        await locks.take("one", *(f"r{start + i}" for i in range(100)))

    reply = await locks.acquire("one", "more")

    assert (reply.status, reply.facts) == ("too_many_locks", ["1000", ""])


async def test_a_pattern_over_more_than_a_thousand_names_is_refused(locks: Table) -> None:
    for owner in range(11):
        await locks.take(f"o{owner}", *(f"file:a/{owner}-{i}" for i in range(100)))

    reply = await locks.acquire("two", "file:a/*")

    assert (reply.status, reply.facts) == ("too_many_locks", ["1000", "file:a/*"])


# Modes


async def test_shared_holders_go_together_and_exclude_others(locks: Table) -> None:
    await locks.take("one", "r", mode="s")
    await locks.take("two", "r", mode="s")

    assert (await locks.acquire("three", "r")).status == "lock_held"
    assert (await locks.acquire("three", "r", mode="p", limit=9)).status == "lock_held"
    assert await locks.holders("r") == ["one", "two"]


async def test_a_semaphore_of_three_admits_three(locks: Table) -> None:
    for name in ("one", "two", "three"):
        await locks.take(name, "s", mode="p", limit=3)

    assert (await locks.acquire("four", "s", mode="p", limit=3)).status == "lock_held"
    await locks.queue("four", "s", mode="p", limit=3)
    await locks.release("two", "s")
    assert await locks.heard("four") == "ok"
    assert await locks.holders("s") == ["one", "three", "four"]


async def test_an_owner_may_acquire_again_and_releases_as_often(locks: Table) -> None:
    first = await locks.take("one", "r")
    second = await locks.take("one", "r")

    assert first == second
    assert await locks.release("one", "r") == ["kept"]
    assert (await locks.acquire("two", "r")).status == "lock_held"
    assert await locks.release("one", "r") == ["ok"]
    assert (await locks.acquire("two", "r")).status == "ok"


async def test_a_release_whose_reply_was_lost_is_answered_as_before(
    stage: Stage, locks: Table
) -> None:
    await locks.take("one", "kept", "r")
    fence = await locks.take("one", "kept")
    rows = ("kept", 0, "r", fence, "never", 0)
    first = await stage.call("lock_release", "one", "op-x", 3, *rows)
    assert first.words == ["kept", "ok", "lock_lost"]
    await locks.take("two", "r")
    before = await stage.dump()

    again = await stage.call("lock_release", "one", "op-x", 3, *rows)

    assert again.words == ["kept", "ok", "lock_lost"]
    assert await stage.dump() == before
    assert 0 < await stage.raw("PTTL", "lockreleased:op-x") <= 60_000
    assert await locks.release("one", "r", fence=fence) == ["lock_lost"]


async def test_a_repeated_release_takes_nothing_that_was_acquired_since(
    stage: Stage, locks: Table
) -> None:
    fence = await locks.take("one", "r")
    await stage.call("lock_release", "one", "op-x", 1, "r", fence)
    await locks.take("one", "r")

    again = await stage.call("lock_release", "one", "op-x", 1, "r", fence)

    assert again.words == ["ok"]
    assert await locks.holders("r") == ["one"]


async def test_what_gives_nothing_back_leaves_no_key(stage: Stage, locks: Table) -> None:
    await locks.take("one", "r")
    await locks.take("one", "r")

    assert await locks.release("one", "r", "never") == ["kept", "lock_lost"]

    assert not [n for n in await stage.key_names() if n.startswith("lockreleased:")]


async def test_a_fence_is_nobodys_once_its_deadline_is_past_though_nothing_swept(
    stage: Stage, locks: Table
) -> None:
    fence = await locks.take("one", "r", lease=2)
    await stage.advance(1.9)
    assert await locks.service.check("r", fence)

    await stage.advance(0.2)

    assert await locks.holders("r") == ["one"]
    assert not await locks.service.check("r", fence)
    assert await locks.renew("one", "r", fence=fence) == ["ok"]
    assert await locks.service.check("r", fence)


async def test_a_holder_is_not_stopped_by_those_who_wait_for_it(locks: Table) -> None:
    await locks.take("one", "file:src/**")
    await locks.queue("two", "file:src/a")
    await locks.age("two")

    assert (await locks.acquire("one", "file:src/**")).status == "ok"
    assert (await locks.acquire("one", "file:src/a")).status == "ok"


async def test_the_only_shared_holder_upgrades_under_a_new_fence(locks: Table) -> None:
    first = await locks.take("one", "r", mode="s")

    second = await locks.take("one", "r", mode="x")

    assert second > first
    assert (await locks.acquire("two", "r", mode="s")).status == "lock_held"
    assert await locks.service.check("r", first)
    assert await locks.service.check("r", second)


async def test_an_upgrade_waits_for_the_other_readers_and_before_all_in_line(
    locks: Table,
) -> None:
    await locks.take("one", "r", mode="s")
    await locks.take("two", "r", mode="s")
    await locks.queue("three", "r")
    await locks.age("three")

    await locks.queue("one", "r")
    await locks.release("two", "r")

    assert await locks.hear("one", "three") == ["ok", "waiting"]
    assert (await locks.service.get("r")).holders[0].mode == "exclusive"
    assert (await locks.service.get("r")).holders[0].count == 2


async def test_an_upgrade_not_taken_up_leaves_the_shared_lock(locks: Table) -> None:
    await locks.take("one", "r", mode="s", lease=600)
    await locks.take("two", "r", mode="s")
    await locks.queue("one", "r")
    await locks.release("two", "r")

    await locks.after(2.1)

    holder = (await locks.service.get("r")).holders[0]
    assert (holder.owner, holder.mode, holder.count) == ("one", "shared", 1)


# Patterns


OVERLAPS = [
    ("file:src/**", "file:src/a", True),
    ("file:src/**", "file:src/a/b.py", True),
    ("file:src/**", "file:src/a/**", True),
    ("file:src/**", "file:src", False),
    ("file:src/**", "file:srcs/a", False),
    ("file:src/*", "file:src/a/b", False),
    ("file:src/*.py", "file:src/a.py", True),
    ("file:src/*.py", "file:src/a.js", False),
    ("file:**/x.py", "file:a/b/x.py", True),
    ("file:**/x.py", "file:a/**", True),
    ("file:*/b/c", "file:a/*/c", True),
    ("file:a?c", "file:abc", True),
    ("file:a?c", "file:abbc", False),
    ("**", "anything:at/all", True),
    ("db:*", "db:users", True),
    ("db:*", "db:users:1", False),
    ("a*b*c", "a1b2c", True),
    ("a*b", "*c", False),
]


@pytest.mark.parametrize(("first", "second", "meets"), OVERLAPS, ids=str)
async def test_overlapping_names_exclude_each_other(
    locks: Table, first: str, second: str, meets: bool
) -> None:
    assert (overlap(first, second), overlap(second, first)) == (meets, meets)
    for one, other in ((first, second), (second, first)):
        await locks.take("one", one)

        reply = await locks.acquire("two", other)

        assert reply.status == ("lock_held" if meets else "ok")
        await locks.leave("one")
        await locks.leave("two")


async def test_releasing_a_pattern_serves_those_who_wait_beneath_and_above(locks: Table) -> None:
    await locks.take("one", "file:src/**")
    await locks.queue("two", "file:src/a")
    await locks.queue("three", "file:**")
    await locks.queue("four", "file:src/b")
    await locks.age("two", "three", "four")

    await locks.release("one", "file:src/**")

    assert await locks.hear("two", "three", "four") == ["ok", "waiting", "waiting"]
    await locks.release("two", "file:src/a")
    assert await locks.hear("three", "four") == ["ok", "waiting"]
    await locks.release("three", "file:**")
    assert await locks.heard("four") == "ok"


# The line


async def test_waiters_are_served_by_priority_then_arrival(locks: Table) -> None:
    await locks.take("one", "r")
    await locks.queue("low", "r", priority=-5)
    await locks.queue("first", "r")
    await locks.queue("second", "r")
    await locks.queue("high", "r", priority=5)

    order, holder = [], "one"
    for _ in range(4):
        await locks.release(holder, "r")
        (holder,) = await locks.holders("r")
        assert await locks.heard(holder) == "ok"
        order.append(holder)

    assert order == ["high", "first", "second", "low"]


async def test_a_waiter_of_low_priority_is_not_passed_by_for_ever(locks: Table) -> None:
    await locks.take("h0", "r")
    await locks.queue("low", "r")
    waiting, holder = ["low"], "h0"
    for i in range(1, 40):
        await locks.queue(f"h{i}", "r", priority=10)
        waiting.append(f"h{i}")
        await locks.stage.advance(1)
        await locks.hear(*waiting)
        await locks.release(holder, "r")
        (holder,) = await locks.holders("r")
        assert await locks.heard(holder) == "ok"
        waiting.remove(holder)
        if holder == "low":
            break
    else:
        raise AssertionError("it starved")

    assert 10 <= i <= 12  # a point of priority is worth a second of waiting


async def test_a_later_one_that_fits_may_go_first_until_the_waiter_has_waited_two_seconds(
    locks: Table,
) -> None:
    await locks.take("one", "b")
    await locks.queue("two", "a", "b")

    assert (await locks.acquire("early", "a")).status == "ok"
    await locks.release("early", "a")
    await locks.age("two")
    late = await locks.acquire("late", "a")

    assert (late.status, late.facts[:2]) == ("lock_held", ["a", "two"])
    await locks.queue("late", "a")
    await locks.release("one", "b")
    assert await locks.hear("two", "late") == ["ok", "waiting"]


async def test_one_who_gives_up_lets_those_behind_it_pass(locks: Table) -> None:
    await locks.take("one", "b")
    await locks.queue("two", "a", "b")
    await locks.age("two")
    await locks.queue("three", "a")

    assert await locks.withdraw("two", "a", "b") == "ok"

    assert await locks.heard("three") == "ok"


async def test_a_release_hands_over_in_the_same_call(stage: Stage, locks: Table) -> None:
    first = await locks.take("one", "r")
    await locks.queue("two", "r")

    await locks.release("one", "r")

    assert await locks.holders("r") == ["two"]
    assert (await locks.acquire("three", "r")).status == "lock_held"
    assert await locks.heard("two") == "ok"
    assert (await locks.service.get("r")).holders[0].fence > first
    assert (await stage.news())[-1].type == "resource:acquired"


async def test_a_hand_over_not_taken_up_within_two_seconds_passes_on(locks: Table) -> None:
    await locks.take("one", "r")
    await locks.queue("two", "r")
    await locks.queue("three", "r")
    await locks.release("one", "r")

    await locks.after(1.9)
    assert await locks.holders("r") == ["two"]
    assert await locks.heard("three") == "waiting"
    await locks.after(0.2)

    assert await locks.holders("r") == ["three"]
    assert await locks.hear("two", "three") == ["gone", "ok"]


async def test_a_dead_waiter_is_passed_over(locks: Table) -> None:
    await locks.take("one", "r")
    await locks.queue("dead", "r")
    await locks.queue("alive", "r")
    for _ in range(6):
        await locks.stage.advance(1)
        await locks.heard("alive")

    await locks.release("one", "r")

    assert await locks.hear("dead", "alive") == ["gone", "ok"]


async def test_a_waiter_not_heard_of_for_five_seconds_is_swept(locks: Table) -> None:
    await locks.take("one", "r")
    await locks.queue("dead", "r")

    await locks.after(5.1)

    assert await locks.line("r") == []


async def test_a_timeout_that_races_with_the_grant_takes_the_lock(locks: Table) -> None:
    await locks.take("one", "r")
    await locks.queue("two", "r")
    await locks.release("one", "r")

    assert await locks.withdraw("two", "r", keep=1) == "taken"
    assert await locks.withdraw("two", "r", keep=1) == "taken"
    assert await locks.holders("r") == ["two"]


async def test_one_who_was_cancelled_gives_on_what_it_was_handed(locks: Table) -> None:
    await locks.take("one", "r")
    await locks.queue("two", "r")
    await locks.queue("three", "r")
    await locks.release("one", "r")

    assert await locks.withdraw("two", "r", keep=0) == "ok"

    assert await locks.hear("three") == ["ok"]


async def test_cancelling_undoes_an_acquisition_whose_reply_was_lost(locks: Table) -> None:
    await locks.take("one", "r")
    await locks.take("one", "r")

    assert await locks.withdraw("one", "r", keep=0) == "ok"

    assert (await locks.service.get("r")).holders[0].count == 1


async def test_a_repeated_call_is_known_by_its_operation(locks: Table) -> None:
    first = await locks.acquire("one", "r", operation="x1")
    again = await locks.acquire("one", "r", operation="x1")
    await locks.acquire("two", "r", wait=5, operation="x2")
    waiting = await locks.acquire("two", "r", wait=5, operation="x2")

    assert first.facts[2] == again.facts[2]
    assert (await locks.service.get("r")).holders[0].count == 1
    assert waiting.status == "waiting"


async def test_shared_waiters_are_served_together(locks: Table) -> None:
    await locks.take("one", "r")
    names = [f"s{i:03}" for i in range(100)]
    for name in names:
        await locks.queue(name, "r", mode="s")

    await locks.release("one", "r")

    assert set(await locks.hear(*names)) == {"ok"}


async def test_a_hand_over_beyond_one_calls_bound_is_continued(locks: Table) -> None:
    await locks.take("one", "r")
    names = [f"s{i:03}" for i in range(600)]
    for name in names:
        await locks.queue(name, "r", mode="s")

    await locks.release("one", "r")
    await locks.sweep()

    assert set(await locks.hear(*names[:300])) | set(await locks.hear(*names[300:])) == {"ok"}


# Leases


async def test_the_next_acquisition_takes_what_is_overdue(locks: Table) -> None:
    fence = await locks.take("one", "r", lease=10)
    await locks.stage.advance(10.1)

    assert await locks.take("two", "r") > fence
    assert await locks.renew("one", "r") == ["lock_lost"]
    assert await locks.release("one", "r", fence=fence) == ["lock_lost"]
    assert await locks.holders("r") == ["two"]
    assert not await locks.service.check("r", fence)


async def test_an_overdue_lock_goes_to_those_in_line_before_newcomers(locks: Table) -> None:
    await locks.take("one", "r", lease=1)
    await locks.queue("two", "r")
    await locks.age("two", seconds=1.1)

    reply = await locks.acquire("three", "r")

    assert (reply.status, reply.facts[:2]) == ("lock_held", ["r", "two"])
    assert await locks.heard("two") == "ok"


async def test_the_sweep_expires_and_hands_over(stage: Stage, locks: Table) -> None:
    await locks.take("one", "r", lease=3)
    await locks.queue("two", "r")
    await locks.age("two", seconds=3.1)

    await locks.sweep()

    released = next(e for e in await stage.news() if e.type == "resource:released")
    assert released.facts[0].state == "expired"
    assert await locks.heard("two") == "ok"


async def test_a_renewal_never_moves_a_deadline_back(stage: Stage, locks: Table) -> None:
    await locks.take("one", "r", lease=100)
    before = (await locks.service.get("r")).holders[0].deadline

    assert await locks.renew("one", "r") == ["ok"]

    assert (await locks.service.get("r")).holders[0].deadline == before


async def test_an_overdue_holder_may_renew_while_nobody_else_was_given_it(locks: Table) -> None:
    fence = await locks.take("one", "r", lease=3)
    await locks.stage.advance(20)

    assert await locks.renew("one", "r", fence=fence) == ["ok"]
    await locks.after(29)
    assert await locks.holders("r") == ["one"]


async def test_a_gap_in_the_engines_time_gives_every_lock_one_grace(locks: Table) -> None:
    await locks.take("one", "r", lease=3)
    locks.stage.now += 60_000_000

    await locks.sweep()
    assert await locks.holders("r") == ["one"]
    await locks.after(1)
    for _ in range(12):
        await locks.after(1)

    assert await locks.holders("r") == []


# Force, ends of claims


async def test_force_release_is_told_and_its_fence_is_above_the_holders(
    stage: Stage, locks: Table
) -> None:
    fence = await locks.take("one", "r", agent="mira")
    await locks.queue("two", "r")

    forced = await locks.service.force_release("r", by="ann", reason="stuck | since noon")

    events = await stage.news()
    told = next(e for e in events if e.type == "resource:forced")
    assert told.by == "ann"
    assert told.facts[0].extra == "mira|stuck | since noon"
    assert forced > fence
    assert await locks.heard("two") == "ok"
    assert (await locks.service.get("r")).holders[0].fence > forced
    assert await locks.renew("one", "r", fence=fence) == ["lock_lost"]


ENDINGS: dict[str, Callable[[Stage, int], Awaitable[Any]]] = {
    "complete": lambda s, f: s.complete("t", f),
    "fail": lambda s, f: s.fail("t", f),
    "fail_for_good": lambda s, f: s.fail("t", f, retryable=False),
    "release": lambda s, f: s.release("t", f),
    "handoff": lambda s, f: s.handoff("t", f),
    "ask": lambda s, f: s.ask("t", f),
    "cancel": lambda s, f: s.cancel("t", f),
    "step": lambda s, f: s.step(done=[("t", f, "1")]),
    "lease_over": lambda s, f: s.after(31),
}


@pytest.mark.parametrize("ending", ENDINGS)
async def test_the_locks_of_a_claim_go_back_in_the_call_that_ends_it(
    stage: Stage, locks: Table, ending: str
) -> None:
    await stage.submit("t", "u")
    fence = await stage.held("t")
    other = claim("u", await stage.held("u", agent="noor"))
    await locks.take(claim("t", fence), "a", "b", lease=3_000)
    await locks.queue(claim("t", fence), "c") if await locks.take("x", "c") else None
    await locks.queue("next", "a", wait=6_000)
    for _ in range(3):
        await locks.heard("next")

    await ENDINGS[ending](stage, fence)

    assert await locks.holders("b") == []
    if ending != "lease_over":
        assert await locks.holders("a") == ["next"]
    assert await locks.line("c") == []
    assert "K" not in (await stage.raw("HGET", f"tasks:{BOARD}:state", "t")).decode().split("|")[13]
    assert other.startswith("claim:b:u:")


async def test_the_locks_of_a_lost_agents_claims_go_back_in_the_sweep_that_finds_it_lost(
    stage: Stage, locks: Table
) -> None:
    await stage.submit("t")
    (fence,) = (await stage.claim(MIRA, instance="")).fences
    await locks.take(claim("t", fence), "a", lease=3_000)
    await locks.queue("next", "a")

    for _ in range(31):
        await stage.advance(1)
        await locks.heard("next")
        await stage.call("task_renew", BOARD, "noor", "", 30_000, 1, "t", fence)
    await stage.call("agent_sweep", 100)

    assert await locks.holders("a") == ["next"]


async def test_a_task_without_locks_costs_locks_nothing(stage: Stage, locks: Table) -> None:
    await stage.submit("t")
    fence = await stage.held("t")
    before = await stage.dump()

    await stage.complete("t", fence)

    assert not any(name.startswith("lock") for name in changed(before, await stage.dump()))


# What is left, wrong types, validation


async def test_nothing_is_left_when_all_was_released(stage: Stage, locks: Table) -> None:
    await locks.take("one", "a", "b", "file:src/**")
    await locks.take("two", "s", mode="p", limit=1)
    await locks.queue("three", "a", "s", mode="x")
    await locks.queue("four", "file:src/a")
    await locks.queue("dead", "b")
    await locks.release("one", "a", "b", "file:src/**")
    await locks.release("two", "s")
    assert await locks.hear("three", "four") == ["ok", "ok"]
    await locks.leave("three")
    await locks.leave("four")

    await locks.after(6)

    assert await locks.left() == set()


KEYS = ["locks", "locks:due", "locks:waits", "locks:waits:due", "lock:r", "lockowner:one", "events"]
OPERATIONS: dict[str, Callable[[Table], Awaitable[Any]]] = {
    "acquire": lambda t: t.acquire("one", "r"),
    "await": lambda t: t.hear("two"),
    "withdraw": lambda t: t.withdraw("two", "q"),
    "release": lambda t: t.release("one", "r"),
    "renew": lambda t: t.renew("one", "r"),
    "leave": lambda t: t.leave("one"),
    "force": lambda t: t.service.force_release("r", by="ann"),
    "sweep": lambda t: t.sweep(),
}


@pytest.mark.parametrize("key", KEYS)
@pytest.mark.parametrize("operation", OPERATIONS)
async def test_a_key_of_the_wrong_type_refuses_and_nothing_is_half_written(
    stage: Stage, locks: Table, operation: str, key: str
) -> None:
    await locks.take("one", "r")
    await locks.take("x", "q")
    await locks.queue("two", "q")
    await stage.raw("DEL", key)
    await stage.raw("SET", key, "mine")
    before = await stage.dump()

    try:
        await OPERATIONS[operation](locks)
    except EngineError:
        assert await stage.dump() == before
    else:
        assert (await stage.dump())[key] == b"mine"


@pytest.mark.parametrize(
    "name",
    [
        "",
        "a|b",
        "a,b",
        "~a",
        "a\nb",
        "x" * 513,
        "/".join("a" * 65),
        "a*b*c*d*e*f*g*h*i*j",
        "\ud800",
    ],
    ids=ascii,
)
async def test_what_is_no_resource_is_refused_at_the_edge(locks: Table, name: str) -> None:
    with pytest.raises(InvalidArgument):
        await locks.service.get(name)


async def test_events_name_owner_agent_fence_and_mode(stage: Stage, locks: Table) -> None:
    fence = await locks.take("one", "r", mode="s", agent="mira")
    await locks.release("one", "r")

    events = [e for e in await stage.news() if e.type.startswith("resource:")]

    assert types_of(events) == ["resource:acquired", "resource:released"]
    facts = [event.facts[0] for event in events]
    assert [(f.id, f.state, f.holder, f.fence, f.extra) for f in facts] == [
        ("r", "shared", "one", fence, "mira"),
        ("r", "released", "one", fence, "mira"),
    ]
