"""Who gets which task, in what order: lanes, reservations, waiters, stealing, repeats."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from callboard.domain.task import Requirements
from tests.functions.support import BOARD, LEASE_MS, MIRA, NOOR, Stage, granted, spec

pytestmark = pytest.mark.every_engine


# Order


async def test_the_first_submitted_is_the_first_claimed_whatever_the_ids(stage: Stage) -> None:
    await stage.submit("z", "m", "a")
    stage.now += 1_000
    await stage.submit("b", "y", "c")

    assert (await stage.claim(limit=6)).ids == ["z", "m", "a", "b", "y", "c"]


async def test_order_holds_over_lanes(stage: Stage) -> None:
    names = [f"t{i}" for i in range(40)]
    await stage.submit(*(spec(name, kind=f"k{i * 7 % 5}") for i, name in enumerate(names)))

    claimed = [(await stage.claim(limit=3)).ids for _ in range(13)]

    assert [name for ids in claimed for name in ids] == names[:39]


async def test_a_point_of_priority_is_worth_a_minute_of_waiting(stage: Stage) -> None:
    await stage.submit("old")
    await stage.advance(59)
    await stage.submit(spec("urgent", priority=1))
    await stage.submit(spec("low", priority=-1))
    await stage.advance(2)
    await stage.submit(spec("late", priority=1))

    assert (await stage.claim(limit=4)).ids == ["urgent", "old", "late", "low"]


async def test_a_board_sets_its_own_step_once(stage: Stage) -> None:
    await stage.configure(step=10_000_000)
    await stage.submit("old")
    await stage.advance(11)
    await stage.submit(spec("urgent", priority=1))

    assert await stage.configure(step=20_000_000) == "step_fixed"
    assert (await stage.claim(limit=2)).ids == ["old", "urgent"]


@pytest.mark.parametrize("how", ["release", "lease"])
async def test_a_task_given_back_keeps_its_place(stage: Stage, how: str) -> None:
    await stage.submit("first", "second")
    fence = await stage.held("first")
    if how == "release":
        await stage.advance(31)
        assert await stage.release("first", fence) == "ok"
    else:
        await stage.after(31)

    assert (await stage.claim(limit=2)).ids == ["first", "second"]


async def test_a_retry_queues_up_at_its_due_time(stage: Stage) -> None:
    await stage.submit("first", "second")
    await stage.fail("first", await stage.held("first"), delay_ms=1_000)
    await stage.after(2)
    await stage.submit("third")

    assert (await stage.claim(limit=3)).ids == ["second", "first", "third"]


@pytest.mark.parametrize("priority", [5, -5])
async def test_reprioritising_moves_a_waiting_task(stage: Stage, priority: int) -> None:
    await stage.submit("a", "b", "c")

    await stage.reprioritise("b", priority)

    expected = ["b", "a", "c"] if priority > 0 else ["a", "c", "b"]
    assert (await stage.claim(limit=3)).ids == expected


async def test_reprioritising_moves_tasks_that_are_not_yet_ready(stage: Stage) -> None:
    await stage.submit(spec("s1", delay=1), spec("s2", delay=1), "q1", "q2")
    for name in ("q1", "q2"):
        await stage.ask(name, await stage.held(name))
    await stage.reprioritise("s2", 5)
    await stage.reprioritise("q2", 9)
    for name in ("q1", "q2"):
        await stage.answer(name)
    await stage.after(12)

    assert (await stage.claim(NOOR, limit=4)).ids == ["q2", "s2", "q1", "s1"]


async def test_a_low_priority_is_served_in_the_end(stage: Stage) -> None:
    await stage.submit(spec("low", priority=-10))
    for i in range(12):
        await stage.advance(60)
        await stage.submit(f"t{i}")

    assert (await stage.claim(limit=13)).ids.index("low") == 9


# Which agent, which lane


def needs(**fields: Any) -> Requirements:
    return Requirements(**fields)


@pytest.mark.parametrize(
    ("requirements", "missing"),
    [
        (needs(agent_type="coder"), "agent_type coder"),
        (needs(capabilities=("go", "rust")), "capability rust"),
        (needs(services=("gpu",)), "service gpu"),
        (needs(labels={"zone": "b"}), "label zone=b"),
    ],
)
async def test_an_agent_gets_only_what_it_can_serve(
    stage: Stage, requirements: Requirements, missing: str
) -> None:
    await stage.agent("fits", agent_type="coder", capabilities=["go", "rust", "c"],
                      services=["gpu"], labels=["zone=a", "zone=b"])  # fmt: skip
    await stage.agent("lacks", agent_type="tester", capabilities=["go"], labels=["zone=a"])
    await stage.submit(spec("t", requirements=requirements))

    assert (await stage.claim("lacks")).status == "empty"
    reply = await stage.take("t", "lacks")
    assert (reply.status, reply.facts) == ("does_not_fit", [missing])
    assert (await stage.claim("fits")).ids == ["t"]


async def test_an_agent_that_is_not_healthy_enough_waits(stage: Stage) -> None:
    await stage.submit(spec("t", requirements=needs(min_health_score=0.8)))
    await stage.raw("HSET", "agent:mira", "health_score", "0.5")

    assert (await stage.claim(MIRA)).status == "empty"
    assert (await stage.claim(NOOR)).ids == ["t"]


async def test_a_lane_is_gone_when_it_is_empty(stage: Stage) -> None:
    await stage.submit(spec("a", kind="one"), spec("b", kind="two"))
    assert (await stage.counts())["lanes"] == 2

    await stage.claim(limit=2)

    assert (await stage.counts())["lanes"] == 0
    assert not [name for name in await stage.key_names() if ":lane:" in name]


async def test_of_512_lanes_an_agent_finds_the_one_that_fits(stage: Stage) -> None:
    await stage.submit_all(spec(f"t{i}", kind=f"k{i}") for i in range(512))
    await stage.agent("picky", kinds=["k300"])

    assert (await stage.claim("picky", limit=5)).ids == ["t300"]


async def test_512_lanes_are_served_in_order(stage: Stage) -> None:
    await stage.submit_all(spec(f"t{i}", kind=f"k{i % 512}") for i in range(1_024))

    claimed: list[str] = []
    while grant := (await stage.claim(limit=100)).ids:
        claimed += grant

    assert claimed == [f"t{i}" for i in range(1_024)]


async def test_lanes_that_nobody_serves_hide_no_other(stage: Stage) -> None:
    await stage.submit_all(spec(f"t{i}", kind=f"k{i}") for i in range(3_000))
    await stage.agent("picky", kinds=["k2999"])

    assert (await stage.claim("picky")).ids == ["t2999"]


async def test_a_full_agent_gets_nothing_until_it_finishes_something(stage: Stage) -> None:
    await stage.agent(MIRA, limit=2)
    await stage.submit("a", "b", "c")

    grant = await stage.claim(limit=3)
    assert grant.ids == ["a", "b"]
    assert (await stage.claim()).status == "agent_full"

    await stage.complete("a", grant.fences[0])
    assert (await stage.claim()).ids == ["c"]


# Pause


async def test_a_paused_board_gives_nothing_and_held_work_goes_on(stage: Stage) -> None:
    await stage.submit("a", "b")
    fence = await stage.held("a")
    await stage.configure(paused=1)

    assert (await stage.claim()).status == "paused"
    assert (await stage.take("b")).status == "paused"
    assert await stage.renew("a", fence) == "ok"
    assert await stage.complete("a", fence) == "ok"
    await stage.configure(paused="")
    assert (await stage.claim()).ids == ["b"]


async def test_a_paused_kind_is_passed_over(stage: Stage) -> None:
    await stage.submit(spec("a", kind="slow"), spec("b", kind="quick"))
    await stage.configure(paused_kinds="slow,other")

    assert (await stage.claim(limit=2)).ids == ["b"]
    await stage.configure(paused_kinds="")
    assert (await stage.claim(limit=2)).ids == ["a"]


async def test_a_paused_namespace_gives_nothing_from_any_board(stage: Stage) -> None:
    await stage.submit("a")
    await stage.submit("c", board="c")
    await stage.call("namespace_configure", "paused", "1")

    assert [(await stage.claim(board=board)).status for board in "bc"] == ["paused", "paused"]
    await stage.call("namespace_configure", "paused", "0")
    assert [(await stage.claim(board=board)).ids for board in "bc"] == [["a"], ["c"]]


async def test_kinds_are_paused_and_resumed_one_by_one(stage: Stage) -> None:
    await stage.submit(*(spec(kind, kind=kind) for kind in "abc"))
    for name, kind in (("pause_kind", "c"), ("pause_kind", "a"), ("pause_kind", "a")):
        await stage.configure(**{name: kind})
    assert await stage.raw("HGET", "tasks:b:board", "paused_kinds") == b"a,c"
    assert (await stage.claim(limit=9)).ids == ["b"]

    await stage.configure(resume_kind="a")
    assert (await stage.claim(limit=9)).ids == ["a"]
    cursor = await stage.events.cursor()
    await stage.configure(resume_kind="c")

    assert await stage.raw("HGET", "tasks:b:board", "paused_kinds") is None
    fact = (await stage.news(cursor))[0].facts[0]
    assert (fact.state, fact.extra) == ("paused_kinds", "")


# Repeated requests


async def test_a_repeated_claim_answers_the_same_tasks_and_lists_the_lost(stage: Stage) -> None:
    await stage.submit("a", "b", "c", "d")
    first = await stage.claim(limit=3, request="r")
    await stage.complete("a", first.fences[0])
    await stage.release("b", first.fences[1])
    await stage.held("b", NOOR)

    again = await stage.claim(limit=3, request="r")

    assert (again.status, again.ids, again.fences) == ("replayed", ["c"], first.fences[2:])
    assert again.lost == first.fences[:2]
    assert await stage.status("d") == "pending"


@pytest.mark.parametrize(
    "other",
    [{"agent": NOOR}, {"instance": "i2"}, {"board": "c"}],
    ids=["agent", "instance", "board"],
)
async def test_a_request_id_is_the_callers_own(stage: Stage, other: dict[str, Any]) -> None:
    await stage.submit("a", "b")
    await stage.submit("c", board="c")
    await stage.claim(request="r")

    grant = await stage.claim(request="r", **other)

    assert (grant.status, grant.tasks) == ("request_conflict", [])
    assert await stage.statuses("a", "b") == ["claimed", "pending"]


async def test_a_step_with_anothers_request_id_hands_in_its_results(stage: Stage) -> None:
    await stage.submit("a", "b")
    await stage.claim(NOOR, request="r")
    fence = await stage.held("b")

    answers, _, grant = await stage.step(done=[("b", fence, "1")], limit=1, request="r")

    assert (answers, grant.status) == (["ok"], "request_conflict")


async def test_a_note_and_a_claim_may_have_the_same_id(stage: Stage) -> None:
    await stage.submit("a")
    await stage.note("a", "one")

    assert (await stage.claim(request="one")).ids == ["a"]
    assert await stage.note("a", "one") == "replayed"


async def test_an_empty_claim_is_not_remembered(stage: Stage) -> None:
    assert (await stage.claim(request="r")).status == "empty"
    await stage.submit("t")

    assert (await stage.claim(request="r")).ids == ["t"]


@pytest.mark.parametrize("since", ["paused", "draining"])
async def test_a_repeated_claim_is_answered_though_no_new_one_would_be(
    stage: Stage, since: str
) -> None:
    await stage.submit("a", "b")
    first = await stage.claim(request="r")
    _, _, second = await stage.step(limit=1, request="r2")
    if since == "paused":
        await stage.configure(paused=1)
    else:
        await stage.agent(MIRA, status="draining")

    again = await stage.claim(request="r")
    _, _, again2 = await stage.step(limit=1, request="r2")

    assert (again.status, again.fences) == ("replayed", first.fences)
    assert (again2.status, again2.fences) == ("replayed", second.fences)


async def test_a_request_is_forgotten_after_ten_minutes(stage: Stage) -> None:
    await stage.submit("t")
    await stage.claim(request="r")

    left_ms = await stage.raw("PTTL", "requests:r")

    assert 590_000 < left_ms <= 600_000


# Both halves of a worker's step


async def test_a_refused_result_does_not_stop_the_claim(stage: Stage) -> None:
    await stage.submit("a", "b", "c")
    fence = await stage.held("a")

    answers, begun, grant = await stage.step(
        done=[("a", fence + 5, "1"), ("a", fence, "1"), ("no", 1, "1")],
        begun=[("c", 1)],
        limit=1,
    )

    assert answers == ["lease_lost", "ok", "task_not_found"]
    assert (begun, grant.ids) == (["lease_lost"], ["b"])


async def test_a_refused_claim_does_not_stop_the_results(stage: Stage) -> None:
    await stage.submit("a", "b")
    fence = await stage.held("a")
    await stage.configure(paused=1)

    answers, _, grant = await stage.step(done=[("a", fence, "1")], limit=1)

    assert (answers, grant.status) == (["ok"], "paused")


async def test_a_refused_result_frees_no_room(stage: Stage) -> None:
    await stage.agent(MIRA, limit=1)
    await stage.submit("a", "b")
    fence = await stage.held("a")

    answers, _, grant = await stage.step(done=[("a", fence + 1, "1")], limit=1)
    assert (answers, grant.status) == (["lease_lost"], "agent_full")

    answers, _, grant = await stage.step(done=[("a", fence, "1")], limit=1)
    assert (answers, grant.ids) == (["ok"], ["b"])


async def test_a_step_claims_what_its_own_result_made_ready(stage: Stage) -> None:
    await stage.submit("a", spec("b", "a"))
    fence = await stage.held("a")

    _, _, grant = await stage.step(done=[("a", fence, "1")], limit=1)

    assert grant.ids == ["b"]


async def test_a_repeated_step_repeats_both_halves(stage: Stage) -> None:
    await stage.submit("a", "b")
    fence = await stage.held("a")
    _, _, first = await stage.step(done=[("a", fence, "1")], limit=1, request="r")

    answers, _, again = await stage.step(done=[("a", fence, "2")], limit=1, request="r")

    assert answers == ["replayed"]
    assert (again.status, again.fences) == ("replayed", first.fences)
    assert (await stage.task("a")).result == 1


# Waiting agents


async def test_work_goes_to_the_least_loaded_waiting_agent_and_rings_only_its_bell(
    stage: Stage,
) -> None:
    for name, load in (("busy", 3), ("idle", 1), ("busier", 5)):
        await stage.agent(name, limit=10)
        await stage.submit(*(f"{name}{i}" for i in range(load)))
        assert len((await stage.claim(name, limit=load)).ids) == load
    for name in ("busy", "idle", "busier"):
        await stage.wait_as(name)
    names = ["busy", "idle", "busier"]
    bells = await stage.connection.subscribe(*(stage.keys.agent_bell(n, "i1") for n in names))

    await stage.submit("t")

    record = await stage.record("t")
    assert (record.status, record.agent) == ("assigned", "idle")
    channel, payload = await bells.get(10) or ("", b"")
    assert (channel, payload) == (stage.keys.agent_bell("idle", "i1"), b"b|t")
    await stage.connection.call("SPUBLISH", stage.keys.agent_bell("busier", "i1"), "end")
    assert await bells.get(10) == (stage.keys.agent_bell("busier", "i1"), b"end")
    bells.close()


async def test_among_equals_the_longest_waiting_is_first(stage: Stage) -> None:
    await stage.claim(NOOR, wait=60)
    stage.now += 1_000_000
    await stage.claim(MIRA, wait=60)

    await stage.submit("a", "b", "c")

    assert [(await stage.record(name)).agent for name in "abc"] == [NOOR, MIRA, ""]


async def test_a_waiter_that_cannot_serve_gets_no_bell(stage: Stage) -> None:
    await stage.agent("picky", kinds=["other"])
    await stage.wait_as("picky")

    await stage.submit("t")

    assert await stage.status("t") == "pending"


async def test_a_waiter_whose_time_is_over_is_passed_over_and_forgotten(stage: Stage) -> None:
    await stage.claim(wait=5)
    await stage.after(6)

    await stage.submit("t")

    assert await stage.status("t") == "pending"
    assert "tasks:b:waiters" not in await stage.key_names()


async def test_a_reservation_for_a_waiter_is_the_first_it_gets(stage: Stage) -> None:
    await stage.wait_as(MIRA)
    await stage.submit("t")
    await stage.submit(spec("better", priority=5))

    assert (await stage.claim(MIRA, limit=2)).ids == ["t", "better"]


async def test_a_draining_agent_is_offered_nothing(stage: Stage) -> None:
    await stage.wait_as(MIRA)
    await stage.agent(MIRA, status="draining")

    await stage.submit("t")

    assert await stage.status("t") == "pending"


# Suggested workers and reservations


async def test_a_suggested_worker_has_it_first_until_the_suggestion_lapses(stage: Stage) -> None:
    await stage.submit(spec("t", suggested_worker=MIRA))
    assert (await stage.take("t", NOOR)).status == "held"
    assert (await stage.claim(NOOR)).status == "empty"

    await stage.after(9)
    assert await stage.status("t") == "assigned"
    await stage.after(2)

    assert (await stage.claim(NOOR)).ids == ["t"]


@pytest.mark.parametrize("agent", ["nobody", "picky", "resting"])
async def test_a_suggested_worker_that_is_absent_or_unfit_is_passed_over(
    stage: Stage, agent: str
) -> None:
    await stage.agent("picky", kinds=["other"])
    await stage.agent("resting", status="maintenance")

    await stage.submit(spec("t", suggested_worker=agent))

    assert (await stage.claim()).ids == ["t"]


async def test_a_suggestion_holds_when_the_task_gets_ready_later(stage: Stage) -> None:
    await stage.submit("root", spec("t", "root", suggested_worker=NOOR))

    await stage.complete("root", await stage.held("root"))

    record = await stage.record("t")
    assert (record.status, record.agent) == ("assigned", NOOR)


async def test_a_handoff_names_the_agent_and_spends_nothing(stage: Stage) -> None:
    await stage.submit("t")
    fence = await stage.started("t")

    assert await stage.handoff("t", fence, NOOR) == "ok"

    grant = await stage.claim(NOOR)
    assert grant.ids == ["t"]
    assert (grant.tasks[0].failures, grant.tasks[0].crashes) == (0, 0)
    assert await stage.complete("t", fence) == "lease_lost"


# Stealing


async def reserved(stage: Stage, agent: str, count: int, kind: str = "work") -> list[str]:
    """Reserve tasks for an agent because it waits for work."""
    names = [f"{agent}{i}" for i in range(count)]
    await stage.wait_as(agent, wants=count)
    await stage.submit(*(spec(name, kind=kind) for name in names))
    return names


@pytest.mark.parametrize(("waited", "stolen"), [(4.9, 0), (5, 2)])
@pytest.mark.parametrize("how", ["suggested", "answered"])
async def test_what_was_meant_for_an_agent_is_stolen_after_half_of_its_time(
    stage: Stage, how: str, waited: float, stolen: int
) -> None:
    names = [f"t{i}" for i in range(4)]
    suggested = MIRA if how == "suggested" else None
    await stage.submit(*(spec(name, suggested_worker=suggested) for name in names))
    if how == "answered":
        for name in names:
            await stage.ask(name, await stage.held(name))
            await stage.answer(name)
    await stage.after(waited)

    grant = await stage.claim(NOOR, limit=9)

    assert len(grant.ids) == stolen


async def test_what_was_handed_over_is_not_stolen(stage: Stage) -> None:
    names = [f"t{i}" for i in range(4)]
    await stage.submit(*names)
    for name in names:
        await stage.handoff(name, await stage.held(name), NOOR)
    await stage.after(29)

    assert (await stage.claim(MIRA, limit=9)).status == "empty"
    await stage.after(2)
    assert len((await stage.claim(MIRA, limit=9)).ids) == 4


async def test_a_task_that_was_handed_over_before_is_stolen_as_any_other(stage: Stage) -> None:
    await stage.submit("a", "b")
    for name in "ab":
        await stage.handoff(name, await stage.held(name), NOOR)
    grant = await stage.claim(NOOR, limit=2)
    await stage.wait_as(MIRA, wants=2)

    for name, fence in zip(grant.ids, grant.fences, strict=True):
        await stage.release(name, fence)

    assert len((await stage.claim(NOOR, limit=9)).ids) == 1


async def test_reservations_on_other_boards_hide_none(stage: Stage) -> None:
    for board in ("c", BOARD):
        await stage.submit(*(spec(f"t{i}", suggested_worker=MIRA) for i in range(600)), board=board)

    assert len((await stage.claim(MIRA, limit=300)).ids) == 300


@pytest.mark.parametrize(("count", "stolen"), [(1, 0), (2, 1), (5, 2), (9, 4)])
async def test_half_of_what_an_agent_has_not_started_is_stolen(
    stage: Stage, count: int, stolen: int
) -> None:
    names = await reserved(stage, MIRA, count)

    grant = await stage.claim(NOOR, limit=50)

    assert sorted(grant.ids) == names[count - stolen :]
    assert sorted((await stage.claim(MIRA, limit=50)).ids) == names[: count - stolen]


async def test_at_most_three_agents_are_stolen_from_the_most_loaded(stage: Stage) -> None:
    for agent, count in (("a", 2), ("c", 8), ("d", 4), ("e", 6)):
        await stage.agent(agent, kinds=[agent])
        await reserved(stage, agent, count, kind=agent)

    grant = await stage.claim(NOOR, limit=50)

    assert sorted({name[0] for name in grant.ids}) == ["c", "d", "e"]
    assert len(grant.ids) == 4 + 2 + 3


async def test_one_does_not_steal_from_oneself_nor_what_one_cannot_serve(stage: Stage) -> None:
    await reserved(stage, MIRA, 6, kind="other")
    await stage.agent("picky", kinds=["work"])
    assert (await stage.claim("picky", limit=9)).status == "empty"

    assert len((await stage.claim(MIRA, limit=2)).ids) == 2
    assert (await stage.claim("picky", limit=9)).status == "empty"
    assert (await stage.counts())["assigned"] == 4


async def test_a_task_that_was_begun_is_not_stolen_and_a_stolen_one_not_begun(
    stage: Stage,
) -> None:
    names = await reserved(stage, MIRA, 4)
    first = await stage.claim(MIRA)

    stolen = await stage.claim(NOOR, limit=9)
    rest = await stage.claim(MIRA, limit=9)

    assert first.ids == ["mira0"]
    assert sorted(first.ids + stolen.ids + rest.ids) == names
    assert len({*first.fences, *stolen.fences, *rest.fences}) == 4


async def test_lanes_come_before_stealing_and_own_reservations_before_lanes(stage: Stage) -> None:
    await reserved(stage, MIRA, 4)
    await stage.submit("free", spec("own", suggested_worker=NOOR))

    assert (await stage.claim(NOOR, limit=3)).ids == ["own", "free"]
    assert len((await stage.claim(NOOR, limit=3)).ids) == 2


async def test_a_theft_is_told_as_an_event(stage: Stage) -> None:
    await reserved(stage, MIRA, 4)
    cursor = await stage.events.cursor()

    await stage.claim(NOOR, limit=9)

    event = (await stage.news(cursor))[0]
    assert event.type == "workstealing:request"
    assert (event.facts[0].holder, event.facts[0].extra) == (NOOR, "mira|2")


# Many at once


async def test_two_agents_never_get_the_same_task(stage: Stage) -> None:
    await stage.submit_all(spec(f"t{i}") for i in range(600))

    grants = await asyncio.gather(
        *(stage.claim(MIRA if i % 2 else NOOR, limit=7) for i in range(100))
    )

    ids = [name for grant in grants for name in grant.ids]
    assert len(ids) == len({*ids}) == 600
    fences = [fence for grant in grants for fence in grant.fences]
    assert len({*fences}) == 600


async def test_a_burst_over_waiting_agents_is_spread_evenly(stage: Stage) -> None:
    for i in range(32):
        await stage.agent(f"a{i}", limit=10)
        await stage.wait_as(f"a{i}", wants=10)

    await stage.submit_all(spec(f"t{i}") for i in range(320))

    counts = [await stage.raw("ZCARD", f"reserved:a{i}") for i in range(32)]
    assert counts == [10] * 32


async def test_a_claim_stops_at_four_mebibytes(stage: Stage) -> None:
    await stage.submit(*(spec(f"t{i}", payload="x" * 1_000_000) for i in range(7)))

    sizes = [len((await stage.claim(limit=10)).ids) for _ in range(3)]

    assert sizes == [4, 3, 0]


async def test_the_deadline_of_a_claim_is_its_lease_from_now(stage: Stage) -> None:
    await stage.submit("own", spec("set", lease=5), spec("cut", timeout=2))

    grant = await stage.claim(limit=3)

    starts = [task.until.timestamp() - stage.now / 1e6 for task in grant.tasks]
    assert starts == pytest.approx([LEASE_MS / 1_000, 5, 2])
    assert grant.tasks[0].board == BOARD


async def accept(
    stage: Stage, agent: str, *ids: str, instance: str = "i1", wants: int = 0, repeated: int = 0
) -> Any:
    reply = await stage.call(
        "task_accept", BOARD, agent, instance, 30_000, wants, 60_000, repeated, len(ids), *ids
    )
    return granted(reply.raw)


async def test_a_reservation_is_taken_up_once_by_the_agent_it_is_for(stage: Stage) -> None:
    await stage.submit(spec("t", suggested_worker=MIRA))

    stranger = await accept(stage, NOOR, "t")
    first = await accept(stage, MIRA, "t", "gone")
    later = await accept(stage, MIRA, "t")
    again = await accept(stage, MIRA, "t", repeated=1)
    other = await accept(stage, MIRA, "t", instance="i2", repeated=1)

    assert (stranger.ids, first.ids, later.ids, other.ids) == ([], ["t"], [], [])
    assert (again.ids, again.fences) == (["t"], first.fences)
    assert (await stage.record("t")).holder == f"{MIRA}/i1"


async def test_who_takes_up_a_reservation_waits_on_for_what_it_still_wants(stage: Stage) -> None:
    await stage.wait_as(MIRA, wants=3)
    await stage.submit("a")
    await accept(stage, MIRA, "a", wants=2)

    await stage.submit("b", "c", "d")

    assert await stage.statuses("b", "c", "d") == ["assigned", "assigned", "pending"]
