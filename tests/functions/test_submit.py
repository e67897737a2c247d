"""Submitting: idempotent, all or nothing, in any order, without cycles."""

from __future__ import annotations

import random
from itertools import pairwise

import pytest

from callboard.domain.task import Requirements, TaskSpec
from tests.functions.support import BOARD, MIRA, NOOR, Stage, spec

pytestmark = pytest.mark.every_engine


async def test_the_same_id_with_another_body_is_refused_by_name(stage: Stage) -> None:
    await stage.submit(spec("t", payload=1))

    reply = await stage.submit(spec("t", payload=2))

    assert (reply.status, reply.facts) == ("id_conflict", ["t"])
    assert bytes((await stage.task("t")).payload) == b"1"


async def test_the_same_id_with_the_same_body_is_the_same_task(stage: Stage) -> None:
    await stage.submit(spec("t", payload={"a": []}, priority=3))

    reply = await stage.submit("new", spec("t", payload={"a": []}, priority=3), "new")

    assert (reply.status, reply.facts[0]) == ("ok", "cee")
    assert (await stage.claim(limit=10)).ids == ["t", "new"]


@pytest.mark.parametrize(("first", "second"), [(40_000, 0), (0, 40_000), (40_000, 40_001)])
async def test_a_large_payload_is_part_of_the_body(stage: Stage, first: int, second: int) -> None:
    payloads = ["x" * size if size else None for size in (first, second)]
    await stage.submit(spec("t", payload=payloads[0], title="t"))

    assert (await stage.submit(spec("t", payload=payloads[1], title="t"))).status == "id_conflict"
    assert (await stage.submit(spec("t", payload=payloads[0], title="t"))).facts[0] == "e"


PLAIN = [
    *(spec(f"p-{n}", payload={"n": n}) for n in range(3)),
    spec("q", kind="other", requirements=Requirements(capabilities=("code", "text"))),
    spec("keyed", concurrency_key="k", fairness_key="f"),
    spec("urgent", priority=7),
]


@pytest.mark.parametrize("specs", [PLAIN[:3], PLAIN], ids=["pairs", "rows"])
async def test_plain_tasks_are_written_as_the_general_way_writes_them(
    stage: Stage, engine_url: str, specs: list[TaskSpec]
) -> None:
    """A row that stands there twice is dealt with in the general way, and adds nothing."""
    other = await Stage.open(engine_url, f"{stage.name}-other", MIRA, NOOR)
    try:
        reply = await stage.submit(*specs)
        general = await other.submit(*specs, specs[0])

        assert reply.facts[0] == "c" * len(specs)
        assert general.facts[0] == "c" * len(specs) + "e"
        assert await other.dump() == await stage.dump()
    finally:
        await other.close()


@pytest.mark.parametrize("board", ["strategy", "waiter", "awaited", "closed"])
async def test_what_needs_the_general_way_gets_it(stage: Stage, board: str) -> None:
    if board == "strategy":
        await stage.agent(MIRA)
        await stage.configure(strategy="round_robin")
    if board == "waiter":
        await stage.wait_as(MIRA)
    if board == "awaited":
        await stage.submit(spec("later", "t"))
    if board == "closed":
        await stage.configure(closed="1")

    reply = await stage.submit("t")

    if board == "closed":
        assert reply.status == "board_closed"
    elif board == "awaited":
        await stage.complete("t", await stage.held("t"))
        assert await stage.status("later") == "pending"
    else:
        assert await stage.status("t") == "assigned"


@pytest.mark.parametrize("is_general", [False, True], ids=["plain", "general"])
async def test_pairs_are_refused_as_rows_are(stage: Stage, is_general: bool) -> None:
    lane = "work;;;;"
    rows = ["a", b'{"kind":"work"}', "b", b'{"kind":"work"}']
    if is_general:
        rows += rows[:2]
    await stage.submit(spec("b", payload=1))

    reply = await stage.call("task_submit", BOARD, len(rows) // 2, "", f"||{lane}|0||", *rows)

    assert (reply.status, reply.facts) == ("id_conflict", ["b"])
    assert await stage.status("a") == "gone"


async def test_an_id_is_known_after_its_task_was_purged(stage: Stage) -> None:
    await stage.submit("t")
    await stage.complete("t", await stage.held("t"))
    await stage.purge("t")

    reply = await stage.submit(spec("t", payload="other"))

    assert reply.facts[0] == "e"
    assert await stage.status("t") == "gone"
    assert (await stage.claim()).status == "empty"


async def test_a_refused_batch_adds_nothing(stage: Stage) -> None:
    await stage.submit(spec("t", unique="u"))
    before = await stage.dump()

    reply = await stage.submit("a", "b", spec("c", unique="u"), "d")

    assert (reply.status, reply.facts) == ("unique_conflict", ["c", "u", "t"])
    assert await stage.dump() == before


async def test_a_unique_key_is_taken_by_one_task_of_a_batch(stage: Stage) -> None:
    reply = await stage.submit(spec("a", unique="u"), spec("b", unique="u"))

    assert (reply.status, reply.facts) == ("unique_conflict", ["b", "u", "a"])


@pytest.mark.parametrize("end", ["done", "failed", "cancelled"])
async def test_a_unique_key_is_free_once_its_task_ended(stage: Stage, end: str) -> None:
    await stage.submit(spec("t", unique="u"))
    fence = await stage.held("t")
    ends = {
        "done": stage.complete("t", fence),
        "failed": stage.fail("t", fence, retryable=False),
        "cancelled": stage.cancel("t", fence),
    }
    for word, call in ends.items():
        if word == end:
            await call
        else:
            call.close()
    assert await stage.status("t") == end

    assert (await stage.submit(spec("t2", unique="u"))).status == "ok"


async def test_a_unique_key_stays_taken_over_a_retry(stage: Stage) -> None:
    await stage.submit(spec("t", unique="u"))
    await stage.fail("t", await stage.held("t"))

    assert (await stage.submit(spec("t2", unique="u"))).status == "unique_conflict"


async def test_of_two_tasks_with_one_unique_key_only_one_is_put_back(stage: Stage) -> None:
    for task in ("a", "b"):
        await stage.submit(spec(task, unique="u"))
        await stage.cancel(task)

    assert await stage.retry("a", "b") == ["ok", "unique_conflict"]


async def test_a_board_has_a_size_limit_of_unfinished_tasks(stage: Stage) -> None:
    await stage.configure(limit=3)
    await stage.submit("a", "b", "c")

    reply = await stage.submit("d")

    assert (reply.status, reply.facts) == ("board_full", ["3", "3"])
    await stage.complete("a", await stage.held("a"))
    assert (await stage.submit("d")).status == "ok"


async def test_a_dependency_may_be_submitted_after_its_dependents(stage: Stage) -> None:
    await stage.submit(spec("c", "b"))
    await stage.submit(spec("b", "a"), "a")

    for expected in "abc":
        grant = await stage.claim(limit=5)
        assert grant.ids == [expected]
        await stage.complete(expected, grant.fences[0])


# Cycles


async def test_a_task_may_not_wait_for_itself(stage: Stage) -> None:
    reply = await stage.submit(spec("a", "a"))

    assert (reply.status, reply.facts) == ("dependency_cycle", ["a,a"])


@pytest.mark.parametrize("length", [2, 3, 7, 100])
@pytest.mark.parametrize("batches", ["one", "many"])
async def test_a_cycle_is_refused_and_named_in_order(
    stage: Stage, length: int, batches: str
) -> None:
    specs = [spec(f"t{i}", f"t{(i + 1) % length}") for i in range(length)]
    if batches == "many":
        for one in specs[:-1]:
            assert (await stage.submit(one)).status == "ok"
        specs = specs[-1:]
    before = await stage.dump()

    reply = await stage.submit(*specs)

    assert reply.status == "dependency_cycle"
    cycle = reply.facts[0].split(",")
    assert cycle[0] == cycle[-1]
    assert len(cycle) == length + 1
    numbers = [int(name[1:]) for name in cycle]
    assert all(b == (a + 1) % length for a, b in pairwise(numbers))
    assert await stage.dump() == before


async def test_a_cycle_through_older_tasks_is_found_beside_tails(stage: Stage) -> None:
    await stage.submit(spec("tail", "a"), spec("a", "x", "b"), spec("b", "y", "late"))

    reply = await stage.submit(spec("late", "a"))

    assert reply.facts == ["late,a,b,late"]


async def test_a_dependency_that_is_over_closes_no_cycle(stage: Stage) -> None:
    await stage.submit("b", spec("a", "late"))
    await stage.complete("b", await stage.held("b"))

    assert (await stage.submit(spec("late", "b"))).status == "ok"
    assert await stage.status("late") == "pending"


async def test_a_child_may_not_wait_for_its_parent(stage: Stage) -> None:
    await stage.submit("parent")
    fence = await stage.held("parent")

    reply = await stage.split("parent", fence, spec("c1"), spec("c2", "parent"))

    assert (reply.status, reply.facts) == ("dependency_cycle", ["parent,c2,parent"])
    assert await stage.status("parent") == "claimed"


async def test_a_child_may_not_wait_for_what_waits_for_its_parent(stage: Stage) -> None:
    await stage.submit("parent", spec("next", "parent"), spec("last", "next"))
    fence = await stage.held("parent")

    reply = await stage.split("parent", fence, spec("child", "last"))

    assert (reply.status, reply.facts) == ("dependency_cycle", ["parent,child,last,next,parent"])


async def test_a_parent_and_its_child_in_one_batch_keep_their_edge(stage: Stage) -> None:
    await stage.submit("parent")
    fence = await stage.held("parent")
    assert (await stage.split("parent", fence, spec("c1"), spec("c2", "c1"))).status == "ok"

    for child in ("c1", "c2"):
        assert await stage.status("parent") == "blocked"
        await stage.complete(child, await stage.held(child))

    assert await stage.status("parent") == "pending"


async def test_random_graphs_are_refused_exactly_where_they_have_a_cycle(stage: Stage) -> None:
    for seed in range(60):
        chance = random.Random(seed)
        names = [f"{seed}-{i}" for i in range(8)]
        edges = {name: chance.sample(names, chance.choice([0, 0, 1, 1, 2])) for name in names}
        accepted: dict[str, list[str]] = {}
        for name in names:
            reply = await stage.submit(spec(name, *edges[name]))
            has_cycle = name in reachable(name, {**accepted, name: edges[name]})
            assert (reply.status == "dependency_cycle") == has_cycle, (seed, name)
            if not has_cycle:
                accepted[name] = edges[name]


def reachable(start: str, edges: dict[str, list[str]]) -> set[str]:
    """What a task waits for, directly and through others."""
    seen: set[str] = set()
    stack = [start]
    while stack:
        for name in edges.get(stack.pop(), []):
            if name not in seen:
                seen.add(name)
                stack.append(name)
    return seen


# The values of a task


async def test_numbers_ids_and_empty_lists_come_back_as_they_were(stage: Stage) -> None:
    payload = {"id": 2**53 + 1, "ns": 1_753_900_123_123_456_789, "list": [], "object": {}}
    await stage.submit(spec("t", payload=payload, metadata={"empty": []}))
    fence = await stage.held("t")
    await stage.note("t")
    await stage.fail("t", fence, delay_ms=0)
    await stage.after(1)

    task = await stage.task("t")

    assert task.payload_as() == payload
    assert task.metadata == {"empty": []}
    assert (await stage.claim()).tasks[0].payload_as() == payload


async def test_a_result_is_the_one_of_the_accepted_attempt(stage: Stage) -> None:
    await stage.submit("t")
    await stage.fail("t", await stage.held("t"), delay_ms=0)
    await stage.after(1)
    assert (await stage.task("t")).error is not None
    assert (await stage.task("t")).result is None

    await stage.complete("t", await stage.held("t"), '""')

    assert (await stage.task("t")).result == ""


async def test_the_status_is_nothing_that_a_caller_writes(stage: Stage) -> None:
    """No value that is handed in can become a status, or stop the board from being read."""
    await stage.submit(spec("t", payload={"status": "complete"}, metadata={"status": "nonsense"}))
    await stage.submit("t2")
    await stage.complete("t", await stage.held("t"), '{"status": "in_progress"}')

    assert await stage.statuses("t", "t2") == ["done", "pending"]
    assert (await stage.call("task_list", "b", "", "", "0", 10)).status == "ok"
    assert (await stage.claim(MIRA)).ids == ["t2"]


async def test_notes_are_numbered_and_repeated_ones_add_nothing(stage: Stage) -> None:
    await stage.submit("t")

    answers = [await stage.note("t", operation) for operation in ("one", "two", "one", "")]

    assert answers == ["ok", "ok", "replayed", "ok"]
    assert len(await stage.raw("LRANGE", "tasks:b:notes:t", 0, -1)) == 3
