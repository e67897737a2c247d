"""What follows for others when a task ends: satisfied, failed, skipped, revived."""

from __future__ import annotations

from typing import Any

import pytest

from callboard.domain.task import at_ms
from tests.functions.support import NOOR, Stage, spec

pytestmark = pytest.mark.every_engine


async def end(stage: Stage, task: str, how: str) -> None:
    if how == "cancelled":
        await stage.cancel(task)
    elif how == "failed":
        await stage.fail(task, await stage.held(task), retryable=False)
    else:
        await stage.complete(task, await stage.held(task))


@pytest.mark.parametrize("how", ["failed", "cancelled"])
@pytest.mark.parametrize(
    ("policy", "status", "reason"),
    [("fail", "failed", None), ("skip", "cancelled", "skipped"), ("run", "pending", None)],
)
async def test_the_policy_decides_what_a_failed_dependency_means(
    stage: Stage, how: str, policy: Any, status: str, reason: str | None
) -> None:
    await stage.submit("root", spec("t", "root", on_dependency_failure=policy))

    await end(stage, "root", how)

    task = await stage.task("t")
    assert task.status.value == status
    assert (task.reason, task.cause) == (reason, None if policy == "run" else "root")
    if policy == "fail":
        assert task.error is not None
        assert task.error["type"] == "dependency_failed"


@pytest.mark.parametrize("purge", [False, True])
@pytest.mark.parametrize(
    ("policy", "status"), [("fail", "failed"), ("skip", "cancelled"), ("run", "pending")]
)
async def test_a_dependency_that_had_failed_before_counts_as_failed(
    stage: Stage, policy: Any, status: str, purge: bool
) -> None:
    await stage.submit("root")
    await end(stage, "root", "failed")
    if purge:
        await stage.purge("root")

    await stage.submit(spec("t", "root", on_dependency_failure=policy), spec("next", "t"))

    word = {"failed": "failed", "cancelled": "failed", "pending": "blocked"}[status]
    assert await stage.statuses("t", "next") == [status, word]


@pytest.mark.parametrize("purge", [False, True])
async def test_a_dependency_that_was_done_long_ago_is_satisfied(stage: Stage, purge: bool) -> None:
    await stage.submit("root")
    await end(stage, "root", "done")
    if purge:
        await stage.purge("root")
    await stage.submit_all(spec(f"t{i}") for i in range(3_000))

    await stage.submit(spec("t", "root"))

    assert await stage.status("t") == "pending"


async def test_a_failed_subtree_is_removed_and_what_comes_later_knows_of_it(stage: Stage) -> None:
    await stage.submit("root", "beside")
    await stage.submit_all(spec(f"t{i}", f"t{i - 1}" if i else "root") for i in range(600))
    await stage.submit(spec("joined", "t599", "beside"))
    await end(stage, "root", "failed")
    await stage.cascade()
    subtree = ["root", *(f"t{i}" for i in range(600)), "joined"]
    assert set(await stage.statuses(*subtree)) == {"failed"}

    assert set(await stage.purge(*subtree)) == {"ok"}

    await stage.submit(spec("late", "t300"), spec("anyway", "t300", on_dependency_failure="run"))
    assert await stage.statuses("late", "anyway", "beside") == ["failed", "pending", "pending"]
    counts = await stage.counts()
    assert (counts["pending"], counts["failed"], counts["blocked"]) == (2, 1, 0)


async def test_a_skipped_task_has_its_own_dependents_apply_their_policy(stage: Stage) -> None:
    await stage.submit(
        "root",
        spec("skips", "root", on_dependency_failure="skip"),
        spec("runs", "skips", on_dependency_failure="run"),
        spec("fails", "skips"),
    )

    await end(stage, "root", "failed")

    assert await stage.statuses("skips", "runs", "fails") == ["cancelled", "pending", "failed"]


async def test_a_task_waits_for_all_its_dependencies(stage: Stage) -> None:
    await stage.submit("a", "b", spec("t", "a", "b", "c"), "c")

    for name, status in (("b", "blocked"), ("c", "blocked"), ("a", "pending")):
        await end(stage, name, "done")
        assert await stage.status("t") == status


# Cascades


@pytest.mark.parametrize("how", ["done", "failed"])
async def test_a_fan_of_2000_is_worked_off_in_bounded_pieces(stage: Stage, how: str) -> None:
    await stage.submit("root")
    await stage.submit_all(spec(f"t{i}", "root") for i in range(2_000))
    fence = await stage.held("root")
    after = "pending" if how == "done" else "failed"

    if how == "done":
        reply = await stage.call("task_complete", "b", "i1", 1, "root", fence, "1")
    else:
        reply = await stage.call("task_fail", "b", "i1", 1, "root", fence, "{}", 0, 1, "", "", "")

    assert reply.facts[0] == "more"
    assert (await stage.counts())["blocked"] == 1_500
    assert await stage.cascade() == 3
    counts = await stage.counts()
    assert (counts["blocked"], counts[after]) == (0, 2_000 if how == "done" else 2_001)


async def test_the_rest_of_a_cascade_survives_its_caller(stage: Stage) -> None:
    await stage.submit("root")
    await stage.submit_all(spec(f"t{i}", "root") for i in range(600))
    await end(stage, "root", "failed")
    assert await stage.raw("LLEN", "cascades") == 1

    assert await stage.purge("root") == ["illegal_state"]
    await stage.sweep()

    assert set((await stage.all_states()).values()) == {"failed"}
    assert await stage.purge("root") == ["ok"]


# Put back


async def test_a_requeued_dead_letter_revives_what_failed_for_its_sake(stage: Stage) -> None:
    await stage.submit(
        "root",
        spec("a", "root"),
        spec("b", "a", on_dependency_failure="skip"),
        spec("other"),
    )
    await end(stage, "root", "failed")
    await end(stage, "other", "failed")
    assert await stage.statuses("a", "b") == ["failed", "cancelled"]

    await stage.retry("root")

    assert await stage.statuses("root", "a", "b", "other") == [
        *("pending", "blocked", "blocked"),
        "failed",
    ]
    for name in ("root", "a", "b"):
        await end(stage, name, "done")
    assert (await stage.task("b")).reason is None


@pytest.mark.parametrize(("waited", "status"), [(0, "failed"), (31, "blocked")])
async def test_a_revived_task_keeps_its_deadline_unless_it_has_passed(
    stage: Stage, waited: float, status: str
) -> None:
    deadline = at_ms(stage.now / 1_000 + 30_000)
    await stage.submit("root", spec("t", "root", deadline=deadline))
    await end(stage, "root", "failed")
    await stage.advance(waited)

    await stage.retry("root")

    assert (await stage.task("t")).deadline == (None if waited else deadline)
    await stage.after(31)
    assert await stage.status("t") == status


async def test_a_task_retried_by_hand_has_no_deadline_and_shows_none(stage: Stage) -> None:
    await stage.submit(spec("t", deadline=at_ms(stage.now / 1_000 + 30_000)))
    await stage.cancel("t")

    await stage.retry("t")
    assert (await stage.task("t")).deadline is None
    await stage.release("t", await stage.held("t"))
    await stage.after(31)

    assert await stage.status("t") == "pending"


async def test_a_second_failed_cause_keeps_a_dependent_down(stage: Stage) -> None:
    await stage.submit("x", "y", spec("t", "x", "y"))
    await end(stage, "x", "failed")
    await end(stage, "y", "failed")

    await stage.retry("x")
    assert await stage.status("t") == "failed"
    assert (await stage.task("t")).cause == "y"

    await stage.retry("y")
    assert await stage.status("t") == "blocked"


async def test_a_retry_that_is_done_before_its_cascade_still_revives_all(stage: Stage) -> None:
    await stage.submit("root")
    await stage.submit_all(spec(f"t{i}", "root") for i in range(1_200))
    await end(stage, "root", "failed")
    await stage.cascade()

    await stage.retry("root")
    await end(stage, "root", "done")
    await stage.cascade()

    counts = await stage.counts()
    assert (counts["failed"], counts["pending"]) == (0, 1_200)


async def test_a_revived_task_has_its_unique_key_again_or_stays_down(stage: Stage) -> None:
    await stage.submit("root", spec("a", "root", unique="ua"), spec("b", "root", unique="ub"))
    await end(stage, "root", "failed")
    await stage.submit(spec("other", unique="ub"))

    await stage.retry("root")

    assert await stage.statuses("a", "b") == ["blocked", "failed"]
    assert (await stage.submit(spec("a2", unique="ua"))).status == "unique_conflict"


async def test_a_task_put_back_waits_again_for_what_was_never_submitted(stage: Stage) -> None:
    await stage.configure(unresolved_after=5_000)
    await stage.submit(spec("t", "late"))
    await stage.after(6)
    assert await stage.status("t") == "failed"

    assert await stage.retry("t") == ["blocked"]
    await stage.submit("late")
    await end(stage, "late", "done")

    assert await stage.status("t") == "pending"


@pytest.mark.parametrize("how", ["failed", "cancelled"])
@pytest.mark.parametrize("purge", [True, False])
@pytest.mark.parametrize("policy", ["fail", "skip"])
async def test_a_task_is_not_put_back_to_end_again_for_the_same_cause(
    stage: Stage, how: str, purge: bool, policy: Any
) -> None:
    await stage.submit("root", spec("t", "root", on_dependency_failure=policy))
    await end(stage, "root", how)
    before = await stage.status("t")
    if purge:
        await stage.purge("root")

    assert await stage.retry("t") == ["dependency_failed"]
    assert await stage.status("t") == before


async def test_a_task_is_put_back_with_its_dependency(stage: Stage) -> None:
    await stage.submit("root", spec("t", "root"))
    await end(stage, "root", "failed")

    assert await stage.retry("t", "root", "t") == ["dependency_failed", "ok", "blocked"]
    await end(stage, "root", "done")
    assert await stage.status("t") == "pending"


@pytest.mark.parametrize("policy", ["fail", "run"])
async def test_a_purged_dependency_that_was_done_holds_no_task_that_is_put_back(
    stage: Stage, policy: Any
) -> None:
    await stage.submit("root", "other", spec("t", "root", "other", on_dependency_failure=policy))
    await stage.cancel("t")
    for name in ("root", "other"):
        await end(stage, name, "done")
        await stage.purge(name)

    assert await stage.retry("t") == ["ok"]
    assert await stage.status("t") == "pending"


async def test_a_failed_dependency_holds_no_task_that_runs_all_the_same(stage: Stage) -> None:
    await stage.submit("root", spec("t", "root", on_dependency_failure="run"))
    await stage.cancel("t")
    await end(stage, "root", "failed")

    assert await stage.retry("t") == ["ok"]


# References never seen


async def test_a_reference_never_seen_fails_its_dependents_after_a_time(stage: Stage) -> None:
    await stage.configure(unresolved_after=5_000)
    await stage.submit_all(spec(f"t{i}", "nowhere") for i in range(450))
    await stage.submit(
        spec("skips", "nowhere", on_dependency_failure="skip"),
        spec("runs", "nowhere", on_dependency_failure="run"),
    )

    await stage.after(4)
    assert (await stage.counts())["blocked"] == 452

    await stage.after(2)
    counts = await stage.counts()
    assert (counts["blocked"], counts["failed"], counts["cancelled"]) == (0, 450, 1)
    assert counts["unresolved"] == 0
    assert await stage.status("runs") == "pending"
    assert (await stage.task("t7")).cause == "nowhere"


async def test_why_names_an_unknown_dependency(stage: Stage) -> None:
    await stage.submit("known", spec("t", "known", "nowhere"))

    facts = (await stage.call("task_why", "b", "t")).raw

    assert facts[4] == 2
    assert sorted(need.decode() for need in facts[5]) == ["known|pending", "nowhere|unknown"]


# Splitting


async def test_a_split_frees_the_agent_and_resumes_the_parent(stage: Stage) -> None:
    await stage.agent("mira", limit=1)
    await stage.submit("parent")
    fence = await stage.held("parent")
    await stage.split("parent", fence, *(spec(f"c{i}") for i in range(5)))

    for _ in range(5):
        grant = await stage.claim()
        await stage.complete(grant.ids[0], grant.fences[0])
    again = await stage.claim()

    assert again.ids == ["parent"]
    assert again.fences[0] > fence
    assert (again.tasks[0].failures, again.tasks[0].crashes, again.tasks[0].attempt) == (0, 0, 2)


@pytest.mark.parametrize(
    ("policy", "status"), [("G", "pending"), ("", "failed"), ("S", "cancelled")]
)
async def test_a_failed_child_does_to_its_parent_what_the_split_said(
    stage: Stage, policy: str, status: str
) -> None:
    await stage.submit("parent")
    await stage.split("parent", await stage.held("parent"), spec("c"), policy=policy)

    await end(stage, "c", "failed")

    assert await stage.status("parent") == status


async def test_a_parked_holder_leaves_its_slot_and_keeps_its_lease(stage: Stage) -> None:
    await stage.agent("mira", limit=1)
    await stage.submit("a", "b")
    fence = await stage.held("a")
    assert (await stage.claim()).status == "agent_full"

    await stage.park("a", fence)
    grant = await stage.claim()
    await stage.park("a", fence, 0)

    assert grant.ids == ["b"]
    assert (await stage.claim()).status == "agent_full"
    assert await stage.complete("a", fence) == "ok"


async def test_a_lost_parked_task_leaves_nothing_behind(stage: Stage) -> None:
    await stage.submit("a")
    await stage.park("a", await stage.held("a"))

    await stage.after(31)

    assert await stage.status("a") == "pending"
    assert not {"parked:mira", "held:mira"} & await stage.key_names()
    assert await stage.held("a", NOOR)
