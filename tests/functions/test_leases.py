"""Leases, fences, counting, retries, deadlines: what happens when time passes."""

from __future__ import annotations

import json
import random
import statistics
from collections.abc import Awaitable, Callable

import pytest

from callboard.domain.retry import RetryPolicy
from callboard.domain.task import at_ms
from tests.functions.support import MIRA, NOOR, Stage, changed, spec

pytestmark = pytest.mark.every_engine


# Fences


async def test_a_stale_fence_can_do_nothing(stage: Stage) -> None:
    """The late writes of a holder that lost its task, after another got and finished it."""
    await stage.submit("t")
    old = await stage.held("t")
    await stage.after(31)
    new = await stage.held("t", NOOR)
    before = await stage.dump()

    answers = [
        await stage.complete("t", old, '"old"'),
        await stage.fail("t", old),
        await stage.renew("t", old),
        await stage.start("t", old),
        await stage.release("t", old),
        await stage.handoff("t", old, MIRA),
        await stage.progress("t", old),
        await stage.ask("t", old),
        await stage.park("t", old),
        await stage.cancel("t", old),
        (await stage.split("t", old, spec("child"))).status,
    ]

    assert {*answers} == {"lease_lost"}
    after = await stage.dump()
    assert changed(before, after) <= {"agents:heartbeats"}
    assert await stage.complete("t", new, '"new"') == "ok"
    assert await stage.complete("t", old, '"old"') == "lease_lost"
    assert (await stage.task("t")).result == "new"


async def test_one_completion_is_accepted_and_its_repeat_known(stage: Stage) -> None:
    await stage.submit("t")
    fence = await stage.held("t")

    answers = [await stage.complete("t", fence, result) for result in ("1", "2", "3")]

    assert answers == ["ok", "replayed", "replayed"]
    assert (await stage.task("t")).result == 1


GIVING_UP: dict[str, Callable[[Stage, int], Awaitable[str]]] = {
    "fail": lambda s, fence: s.fail("t", fence, delay_ms=0),
    "release": lambda s, fence: s.release("t", fence, delay_ms=500),
    "ask": lambda s, fence: s.ask("t", fence),
    "split": lambda s, fence: split_of(s, fence),
}


async def split_of(stage: Stage, fence: int) -> str:
    return (await stage.split("t", fence, spec("child"))).status


async def move_on(stage: Stage) -> None:
    """What was given up waits again as any other task."""
    await stage.answer("t")
    await stage.cancel("child")
    await stage.after(20)
    assert await stage.status("t") == "pending"


@pytest.mark.parametrize("how", GIVING_UP)
async def test_a_repeat_is_known_though_the_task_moved_on(stage: Stage, how: str) -> None:
    await stage.submit("t")
    fence = await stage.held("t")
    await GIVING_UP[how](stage, fence)
    await move_on(stage)

    assert await GIVING_UP[how](stage, fence) == "replayed"
    await stage.cancel("t")
    assert await GIVING_UP[how](stage, fence) == "replayed"


@pytest.mark.parametrize("how", GIVING_UP)
async def test_a_repeat_is_refused_once_somebody_else_had_the_task(stage: Stage, how: str) -> None:
    await stage.submit("t")
    fence = await stage.held("t")
    await GIVING_UP[how](stage, fence)
    await move_on(stage)
    await stage.held("t", NOOR)

    assert await GIVING_UP[how](stage, fence) == "lease_lost"


@pytest.mark.parametrize("how", GIVING_UP)
@pytest.mark.parametrize("end", ["lost", "left", "done", "unclaimed"])
async def test_what_was_taken_from_the_holder_or_done_is_not_given_up(
    stage: Stage, how: str, end: str
) -> None:
    await stage.submit("t")
    fence = 0 if end == "unclaimed" else await stage.held("t", instance="")
    if end == "lost":
        await stage.after(31)
    elif end == "left":
        await stage.call("agent_deregister", MIRA, "ann")
    elif end == "done":
        await stage.complete("t", fence)
    before = await stage.status("t")

    assert await GIVING_UP[how](stage, fence) == "lease_lost"
    assert await stage.status("t") == before


async def test_a_fence_rises_with_each_claim_of_any_task(stage: Stage) -> None:
    await stage.submit("a", "b")
    fences = []
    for _ in range(4):
        grant = await stage.claim(limit=2)
        fences += grant.fences
        for task in grant.tasks:
            await stage.release(task.id, task.fence)

    assert len(fences) == 8
    assert fences == sorted({*fences})


async def test_a_fence_rises_though_the_clock_goes_back(stage: Stage) -> None:
    await stage.submit("t")
    first = await stage.held("t")
    await stage.release("t", first)
    stage.now -= 3_600_000_000

    second = await stage.held("t")

    assert second > first
    assert (await stage.record("t")).since_ms >= 1_800_000_000_000


async def test_a_fence_rises_though_the_counter_was_lost(stage: Stage) -> None:
    """After a failover that lost the last writes, as long as the clock went on."""
    await stage.submit("t")
    first = await stage.held("t")
    await stage.release("t", first)
    await stage.raw("HSET", "callboard:format", "fence", 0, "now", 0)
    stage.now += 1_000_000

    assert await stage.held("t") > first


# Leases


async def test_a_dead_holders_task_is_given_to_another_when_its_lease_is_over(
    stage: Stage,
) -> None:
    await stage.submit("t")
    await stage.held("t")

    await stage.after(29.9)
    assert (await stage.claim(NOOR)).status == "empty"
    await stage.after(0.2)

    grant = await stage.claim(NOOR)
    assert (grant.ids, grant.tasks[0].attempt, grant.tasks[0].crashes) == (["t"], 2, 1)


async def test_a_claim_sweeps_up_to_ten_overdue_leases_of_its_board(stage: Stage) -> None:
    await stage.submit(*(f"t{i}" for i in range(25)))
    await stage.claim(limit=25)
    await stage.advance(31)

    assert len((await stage.claim(NOOR, limit=25)).ids) == 10


async def test_an_overdue_holder_may_still_renew_and_complete(stage: Stage) -> None:
    await stage.submit("a", "b")
    fences = [await stage.held(name) for name in "ab"]

    await stage.advance(300)

    assert await stage.renew("a", fences[0]) == "ok"
    assert await stage.complete("b", fences[1]) == "ok"
    await stage.sweep()
    assert await stage.statuses("a", "b") == ["claimed", "done"]


async def test_a_renewed_lease_is_kept_and_never_shortened(stage: Stage) -> None:
    await stage.submit("t")
    fence = await stage.held("t")
    for _ in range(10):
        await stage.advance(20)
        assert await stage.renew("t", fence) == "ok"
        assert await stage.renew("t", fence, lease_ms=100) == "ok"
        await stage.sweep()

    assert await stage.status("t") == "claimed"


async def test_a_renewal_by_somebody_else_revives_nothing(stage: Stage) -> None:
    await stage.submit("t")
    fence = await stage.held("t")
    await stage.after(31)

    assert await stage.renew("t", fence) == "lease_lost"
    assert await stage.status("t") == "pending"


async def test_a_holder_hears_at_its_renewal_that_it_shall_stop(stage: Stage) -> None:
    await stage.submit("t")
    fence = await stage.held("t")
    assert await stage.cancel("t") == "requested"

    assert await stage.renew("t", fence) == "cancel"
    assert await stage.cancel("t", fence) == "cancelled"
    assert (await stage.task("t")).reason == "requested"


async def test_a_completion_beats_a_cancellation_that_was_only_asked_for(stage: Stage) -> None:
    await stage.submit("t")
    fence = await stage.held("t")
    await stage.cancel("t")

    assert await stage.complete("t", fence) == "ok"
    assert not (await stage.task("t")).cancel_requested


# Counting


async def test_three_crashed_instances_make_a_task_poison(stage: Stage) -> None:
    await stage.submit("t")
    for i in range(3):
        assert await stage.status("t") == "pending"
        await stage.started("t", instance=f"i{i}")
        await stage.after(31)

    task = await stage.task("t")
    assert (task.status.value, task.crashes, task.failures) == ("failed", 3, 0)
    assert task.error is not None
    assert task.error["type"] == "poison"
    assert (await stage.counts())["dead_letters"] == 1


async def test_five_crashes_of_one_instance_make_a_task_poison(stage: Stage) -> None:
    await stage.submit("t")
    for _ in range(5):
        assert await stage.status("t") == "pending"
        await stage.started("t", instance="same")
        await stage.after(31)

    assert await stage.status("t") == "failed"
    assert (await stage.task("t")).crashes == 5


async def test_release_deferral_handoff_split_and_question_spend_nothing(stage: Stage) -> None:
    await stage.submit("t")
    await stage.release("t", await stage.started("t"))
    await stage.release("t", await stage.started("t"), delay_ms=1_000)
    await stage.after(2)
    await stage.handoff("t", await stage.started("t"))
    await stage.ask("t", await stage.started("t", NOOR))
    await stage.answer("t")
    await stage.split("t", await stage.started("t", NOOR), spec("child"))
    await stage.complete("child", await stage.held("child"))

    record = await stage.record("t")
    assert (record.status, record.attempt) == ("pending", 5)
    assert (record.failures, record.crashes) == (0, 0)


async def test_a_lost_lease_spends_no_retry_and_a_failure_no_crash(stage: Stage) -> None:
    await stage.submit("t")
    await stage.started("t")
    await stage.after(31)
    await stage.fail("t", await stage.started("t"))

    record = await stage.record("t")
    assert (record.attempt, record.failures, record.crashes) == (2, 1, 1)


async def test_a_task_claimed_ahead_and_lost_unstarted_counts_no_crash(stage: Stage) -> None:
    await stage.submit("a", "b", "c")
    grant = await stage.claim(limit=3, started=1)
    assert [task.is_ahead for task in grant.tasks] == [False, True, True]
    await stage.start("b", grant.fences[1])

    await stage.after(31)

    records = [await stage.record(name) for name in "abc"]
    assert [record.crashes for record in records] == [1, 1, 0]
    again = await stage.claim(NOOR, limit=3, started=0)
    assert [task.was_lost for task in again.tasks] == [False, False, True]


async def test_a_task_lost_again_after_it_was_begun_counts_a_crash(stage: Stage) -> None:
    await stage.submit("t")
    await stage.claim(started=0)
    await stage.after(31)
    grant = await stage.claim(started=0)
    await stage.start("t", grant.fences[0])

    await stage.after(31)

    assert (await stage.record("t")).crashes == 1


async def test_every_attempt_that_did_not_succeed_is_kept(stage: Stage) -> None:
    await stage.submit("t")
    await stage.started("t", instance="one")
    await stage.after(31)
    await stage.fail("t", await stage.started("t", NOOR, instance="two"), delay_ms=0)
    await stage.after(1)
    await stage.fail("t", await stage.started("t"), retryable=False)

    kept = [json.loads(raw) for raw in await stage.raw("LRANGE", "tasks:b:attempts:t", 0, -1)]

    assert [(one["attempt"], one["agent"], one["instance"]) for one in kept] == [
        (1, MIRA, "one"),
        (2, NOOR, "two"),
        (3, MIRA, "i1"),
    ]
    assert [one["error"]["type"] for one in kept] == ["lease_lost", "E", "E"]


# Failures and retries


async def test_three_retries_are_four_failures_and_then_a_dead_letter(stage: Stage) -> None:
    await stage.submit("t")
    answers = []
    for _ in range(4):
        answers.append(await stage.fail("t", await stage.held("t"), delay_ms=0))
        await stage.after(1)

    assert answers == ["retry_scheduled"] * 3 + ["failed"]
    assert (await stage.counts())["dead_letters"] == 1
    assert (await stage.record("t")).failures == 4


async def test_a_failure_that_is_not_retryable_is_a_dead_letter_at_once(stage: Stage) -> None:
    await stage.submit(spec("t", payload={"kept": True}))

    assert await stage.fail("t", await stage.held("t"), retryable=False) == "failed"

    assert (await stage.counts())["dead_letters"] == 1
    assert (await stage.task("t")).payload_as() == {"kept": True}


@pytest.mark.parametrize(
    ("policy", "bounds_ms"),
    [
        (None, [1_000, 2_000, 4_000]),
        (
            RetryPolicy(max_retries=5, base=2, factor=3, cap=20),
            [2_000, 6_000, 18_000, 20_000, 20_000],
        ),
    ],
)
async def test_the_delay_is_the_jitter_times_a_bound_that_grows_to_a_cap(
    stage: Stage, policy: RetryPolicy | None, bounds_ms: list[int]
) -> None:
    await stage.submit(spec("full", retry=policy), spec("half", retry=policy))
    for bound in bounds_ms:
        for name, unit in (("full", 1), ("half", 0.5)):
            await stage.fail(name, await stage.held(name), unit=unit)
            due = await stage.raw("ZSCORE", "retry:queue:b", name)
            assert float(due) - stage.now // 1_000 == bound * unit
        await stage.after(bound / 1_000)
        assert await stage.statuses("full", "half") == ["pending", "pending"]


async def test_the_delay_never_passes_five_minutes_by_default(stage: Stage) -> None:
    await stage.submit(spec("t", retry=RetryPolicy(max_retries=12)))
    for _ in range(12):
        await stage.fail("t", await stage.held("t"))
        due = await stage.raw("ZSCORE", "retry:queue:b", "t")
        assert float(due) - stage.now // 1_000 <= 300_000
        await stage.after(301)


async def test_a_thousand_that_fail_together_come_back_apart(stage: Stage) -> None:
    chance = random.Random(7)
    await stage.submit_all(spec(f"t{i}") for i in range(1_000))
    grant = await stage.claim(limit=1_000)
    rows = [(t.id, t.fence, "{}", 1, f"{chance.random():.6f}", "", "", "") for t in grant.tasks]

    assert {*await stage.each("task_fail", *rows)} == {"retry_scheduled"}

    raw = await stage.raw("ZRANGE", "retry:queue:b", 0, -1, "WITHSCORES")
    delays = [float(score) - stage.now // 1_000 for _, score in raw]
    assert min(delays) >= 0
    assert max(delays) <= 1_000
    assert 400 < statistics.mean(delays) < 600
    assert statistics.pstdev(delays) > 200


async def test_a_delay_of_the_callers_own_goes_before_the_policy(stage: Stage) -> None:
    await stage.submit("t")

    await stage.fail("t", await stage.held("t"), delay_ms=77_000)

    due = await stage.raw("ZSCORE", "retry:queue:b", "t")
    assert float(due) - stage.now // 1_000 == 77_000


async def test_a_retried_dead_letter_has_fresh_budgets_and_may_be_edited(stage: Stage) -> None:
    await stage.submit(spec("t", payload=1))
    for i in range(3):
        await stage.started("t", instance=f"i{i}")
        await stage.after(31)
    body = (await stage.raw("HGET", "tasks:b", "t")).replace(b'"payload":1', b'"payload":2')

    assert await stage.each("task_retry", ("t", body, "")) == ["ok"]

    task = await stage.task("t")
    assert (task.status.value, task.failures, task.crashes) == ("pending", 0, 0)
    assert (task.payload_as(), task.error) == (2, None)
    assert (await stage.counts())["dead_letters"] == 0


# Time limits and deadlines


async def test_an_attempt_over_its_timeout_is_a_failure_at_the_sweep(stage: Stage) -> None:
    await stage.submit(spec("t", timeout=5))
    fence = await stage.started("t")
    for _ in range(2):
        await stage.advance(2)
        assert await stage.renew("t", fence) == "ok"
        await stage.sweep()
    assert await stage.status("t") == "in_progress"

    await stage.after(2)

    record = await stage.record("t")
    assert (record.status, record.failures, record.crashes) == ("scheduled", 1, 0)
    assert (await stage.task("t")).error == {
        "type": "timeout",
        "message": "Ran longer than its 5000 ms.",
        "retryable": True,
    }


async def test_a_task_claimed_ahead_does_not_use_up_its_timeout(stage: Stage) -> None:
    await stage.submit(spec("t", timeout=5))
    grant = await stage.claim(started=0)
    for _ in range(3):
        await stage.advance(4)
        assert await stage.renew("t", grant.fences[0]) == "ok"

    await stage.start("t", grant.fences[0])
    await stage.after(4)

    assert await stage.status("t") == "in_progress"


async def test_a_task_claimed_ahead_and_renewed_is_out_of_time_when_its_timeout_is_over(
    stage: Stage,
) -> None:
    await stage.submit(spec("t", timeout=5))
    grant = await stage.claim(started=0)
    await stage.advance(1)
    await stage.renew("t", grant.fences[0], lease_ms=60_000)
    await stage.start("t", grant.fences[0])

    await stage.after(6)

    assert (await stage.record("t")).failures == 1


@pytest.mark.parametrize("place", ["pending", "blocked", "scheduled", "reserved", "asking"])
async def test_a_deadline_that_passes_while_a_task_waits_fails_it_for_good(
    stage: Stage, place: str
) -> None:
    deadline = at_ms(stage.now / 1_000 + 5_000)
    needs = ["nowhere"] if place == "blocked" else []
    await stage.submit(
        spec(
            "t",
            *needs,
            deadline=deadline,
            delay=60 if place == "scheduled" else None,
            suggested_worker=MIRA if place == "reserved" else None,
        )
    )
    if place == "asking":
        await stage.ask("t", await stage.held("t"))

    await stage.after(4)
    assert await stage.status("t") != "failed"
    await stage.after(2)

    task = await stage.task("t")
    assert task.status.value == "failed"
    assert task.error is not None
    assert (task.error["type"], task.error["retryable"]) == ("deadline_exceeded", False)


@pytest.mark.parametrize("how", ["release", "retry", "lease"])
async def test_a_deadline_that_passed_in_the_holders_hands_fails_what_comes_back(
    stage: Stage, how: str
) -> None:
    await stage.submit(spec("t", deadline=at_ms(stage.now / 1_000 + 5_000)))
    fence = await stage.held("t")
    await stage.after(6)
    assert await stage.status("t") == "claimed"

    if how == "release":
        await stage.release("t", fence)
    elif how == "retry":
        await stage.fail("t", fence)
    else:
        await stage.after(30)
    await stage.sweep()

    task = await stage.task("t")
    assert task.error is not None
    assert (task.status.value, task.error["type"]) == ("failed", "deadline_exceeded")


async def test_a_deadline_does_not_matter_once_the_task_is_done(stage: Stage) -> None:
    await stage.submit(spec("t", deadline=at_ms(stage.now / 1_000 + 5_000)))
    await stage.complete("t", await stage.held("t"))

    await stage.after(6)

    assert await stage.status("t") == "done"


async def test_a_task_is_not_claimed_before_its_time(stage: Stage) -> None:
    await stage.submit(spec("at", not_before=at_ms(stage.now / 1_000 + 5_000)), spec("in", delay=5))
    await stage.after(4.9)
    assert (await stage.claim()).status == "empty"

    await stage.advance(0.2)

    assert (await stage.claim(limit=2)).ids == ["at", "in"]


# A gap in time


async def gap(stage: Stage, seconds: float) -> None:
    """The machine was suspended, or nobody was there: no call in all that time."""
    stage.now += round(seconds * 1e6)
    await stage.call("namespace_tick", 1_000, 0)


async def test_after_a_gap_every_lease_has_a_grace_and_no_crash_is_counted(stage: Stage) -> None:
    await stage.submit("t", spec("r", suggested_worker=MIRA))
    fence = await stage.started("t")
    await stage.advance(1)

    await gap(stage, 60)
    await stage.sweep()
    assert await stage.statuses("t", "r") == ["in_progress", "assigned"]
    assert await stage.renew("t", fence) == "ok"

    await stage.advance(11)
    await stage.sweep()
    assert await stage.statuses("t", "r") == ["in_progress", "pending"]
    assert (await stage.record("t")).crashes == 0


async def test_the_grace_is_given_once(stage: Stage) -> None:
    await stage.submit("t")
    await stage.started("t")
    await gap(stage, 60)
    await stage.sweep()
    assert await stage.status("t") == "in_progress"

    await stage.after(11)

    assert await stage.status("t") == "pending"
    assert (await stage.record("t")).crashes == 1


async def test_gap_after_gap_gives_a_dead_holder_no_second_grace(stage: Stage) -> None:
    await stage.submit("t")
    await stage.started("t")

    for _ in range(2):
        await gap(stage, 60)
        await stage.sweep()

    assert await stage.status("t") == "pending"


async def test_a_lease_that_was_over_before_the_gap_has_no_grace(stage: Stage) -> None:
    await stage.submit("t")
    await stage.started("t")
    await stage.advance(31)

    await gap(stage, 60)
    await stage.sweep()

    assert await stage.status("t") == "pending"


async def test_of_many_sweepers_one_is_due_an_interval(stage: Stage) -> None:
    stage.now += 5_000_000
    answers = [(await stage.call("namespace_tick", 1_000, 0)).status for _ in range(5)]
    stage.now += 1_000_000
    answers.append((await stage.call("namespace_tick", 1_000, 0)).status)

    assert answers == ["due"] + ["not_due"] * 4 + ["due"]


# Input


async def test_an_answer_brings_the_task_back_to_its_last_holder(stage: Stage) -> None:
    await stage.submit("t")
    fence = await stage.started("t")
    await stage.ask("t", fence)
    assert (await stage.claim()).status == "empty"
    assert await stage.complete("t", fence) == "lease_lost"

    await stage.answer("t")

    assert (await stage.claim(NOOR)).status == "empty"
    grant = await stage.claim(MIRA)
    assert grant.ids == ["t"]
    assert grant.fences[0] > fence
    assert (await stage.task("t")).answer == "!"


async def test_progress_and_partial_results_stay_over_attempts(stage: Stage) -> None:
    await stage.submit("t")
    fence = await stage.started("t")
    await stage.progress("t", fence)
    await stage.progress("t", fence, "partial")
    await stage.after(31)

    task = await stage.task("t")

    assert (task.progress, task.partial) == (50, 50)
    assert (await stage.claim()).tasks[0].has_extra
