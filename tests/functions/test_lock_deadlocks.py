"""Deadlocks: found in the call that closes the cycle, one victim, and the others go on."""

from __future__ import annotations

import asyncio
import uuid
from typing import Any

import pytest

from callboard.engine.library import LUA, _included
from tests.functions.lock_support import Table, claim
from tests.functions.support import BOARD, NOOR, Stage, spec

pytestmark = pytest.mark.every_engine


@pytest.fixture
def locks(stage: Stage) -> Table:
    return Table(stage)


async def closed(locks: Table, count: int, **options: Any) -> str:
    """A ring of owners, each holding a resource and waiting for the next one's."""
    for i in range(count):
        await locks.take(f"o{i}", f"r{i}")
    for i in range(count - 1):
        assert await locks.queue(f"o{i}", f"r{i + 1}") == "waiting"
    return await locks.queue(f"o{count - 1}", "r0", **options)


# Cycles


@pytest.mark.parametrize("count", [2, 3, 10, 499])
async def test_a_ring_is_found_in_the_call_that_closes_it(locks: Table, count: int) -> None:
    answer = await closed(locks, count)

    # Equals but for how long they wait: the youngest, who closed it.
    assert answer == "deadlock_victim"
    (incident,) = await locks.service.incidents()
    assert incident.victim == f"o{count - 1}"
    assert sorted(incident.cycle) == sorted(f"o{i}" for i in range(count))
    assert sorted(incident.resources) == sorted(f"r{i}" for i in range(count))
    assert await locks.line("r0") == []


async def test_the_others_really_go_on_when_the_victim_gives_back(locks: Table) -> None:
    await closed(locks, 3)

    await locks.leave("o2")

    assert await locks.heard("o1") == "ok"
    await locks.leave("o1")
    assert await locks.heard("o0") == "ok"
    assert await locks.holders("r1") == ["o0"]


async def test_a_victim_that_keeps_what_the_cycle_needs_loses_only_that_after_five_seconds(
    stage: Stage, locks: Table
) -> None:
    await locks.take("o1", "mine")
    assert await closed(locks, 2, priority=-1) == "deadlock_victim"
    fence = (await locks.service.get("r1")).holders[0].fence
    for _ in range(4):
        await locks.after(1)
        assert await locks.heard("o0") == "waiting"

    await locks.after(1.1)

    assert await locks.heard("o0") == "ok"
    assert (await locks.service.get("r1")).holders[0].fence > fence
    assert await locks.renew("o1", "r1", fence=fence) == ["lock_lost"]
    assert await locks.holders("mine") == ["o1"]
    assert "resource:forced" in {event.type for event in await stage.news()}


async def test_the_event_names_agents_and_resources(stage: Stage, locks: Table) -> None:
    await locks.take("o0", "r0", agent="mira")
    await locks.take("o1", "r1", agent="noor")
    await locks.queue("o0", "r1", agent="mira")
    await locks.queue("o1", "r0", agent="noor")

    event = next(e for e in await stage.news() if e.type == "deadlock:detected")

    (incident,) = await locks.service.incidents()
    (fact,) = event.facts
    assert (fact.id, fact.holder) == (incident.id, "o1")
    agents, resources = fact.extra.split("|")
    assert sorted(agents.split(",")) == ["mira", "noor"]
    assert sorted(resources.split(",")) == ["r0", "r1"]


async def test_waiters_ahead_that_are_in_no_cycle_do_not_hide_it(locks: Table) -> None:
    await locks.take("a", "ra")
    await locks.take("b", "rb")
    for i in range(20):
        await locks.queue(f"x{i:02}", "ra", priority=9)
        await locks.queue(f"y{i:02}", "rb", priority=9)
    await locks.queue("a", "rb")

    assert await locks.queue("b", "ra") == "deadlock_victim"
    assert (await locks.service.incidents())[0].cycle in (("a", "b"), ("b", "a"))
    await locks.leave("b")
    assert await locks.heard("y00") == "ok"


async def test_a_tail_is_never_the_victim_and_the_cycle_behind_it_is_found(locks: Table) -> None:
    await locks.take("tail", "rt")
    await locks.take("a", "ra")
    await locks.take("b", "rb")
    await locks.queue("tail", "ra", priority=-1_000)
    await locks.queue("a", "rb")

    assert await locks.queue("b", "ra") == "deadlock_victim"
    assert set((await locks.service.incidents())[0].cycle) == {"a", "b"}
    assert await locks.heard("tail") == "waiting"


async def test_two_cycles_closed_at_once_are_both_ended(locks: Table) -> None:
    await locks.take("hub", "h", "hh")
    await locks.take("a", "ra")
    await locks.take("b", "rb")
    await locks.queue("a", "h", priority=-2)
    await locks.queue("b", "hh", priority=-1)

    assert await locks.queue("hub", "ra", "rb") == "waiting"

    assert {i.victim for i in await locks.service.incidents()} == {"a", "b"}
    assert await locks.hear("a", "b") == ["deadlock_victim"] * 2
    await locks.leave("a")
    await locks.leave("b")
    assert await locks.heard("hub") == "ok"


async def test_a_cycle_that_forms_again_has_another_victim(locks: Table) -> None:
    await closed(locks, 2)

    await locks.leave("o1")
    assert await locks.heard("o0") == "ok"
    await locks.leave("o0")
    await closed(locks, 2)

    victims = [incident.victim for incident in await locks.service.incidents()]
    assert victims == ["o0", "o1"]


async def test_a_victim_that_comes_back_while_it_still_holds_is_a_victim_again(
    locks: Table,
) -> None:
    await closed(locks, 2, priority=-9)

    assert await locks.queue("o1", "r0", priority=-9) == "deadlock_victim"


async def test_a_verdict_that_was_not_heard_is_not_for_the_next_wait(locks: Table) -> None:
    await locks.take("a", "ra")
    await locks.take("b", "rb")
    await locks.queue("a", "rb", priority=-9)
    await locks.queue("b", "ra")
    assert await locks.withdraw("a", "rb") == "gone"

    await locks.release("a", "ra")
    await locks.queue("a", "rb")

    assert await locks.heard("a") == "waiting"


# The victim


@pytest.mark.parametrize(
    ("first", "second", "victim"),
    [
        ({"priority": -1}, {"priority": 0}, "a"),
        ({"priority": 0}, {"priority": -1}, "b"),
        ({"priority": 0}, {"priority": 0}, "b"),
    ],
    ids=["lowest-priority", "lowest-priority-2", "youngest"],
)
async def test_the_victim_is_chosen_by_priority_then_age(
    locks: Table, first: dict[str, int], second: dict[str, int], victim: str
) -> None:
    await locks.take("a", "ra")
    await locks.take("b", "rb")
    await locks.queue("a", "rb", **first)
    await locks.stage.advance(1)
    await locks.queue("b", "ra", **second)

    assert (await locks.service.incidents())[0].victim == victim


async def test_among_equals_the_one_that_holds_least_is_the_victim(locks: Table) -> None:
    await locks.take("a", "ra")
    await locks.take("b", "rb", "more")
    await locks.queue("a", "rb")
    await locks.queue("b", "ra")

    assert (await locks.service.incidents())[0].victim == "a"
    assert await locks.heard("a") == "deadlock_victim"
    assert await locks.heard("a") == "gone"
    await locks.leave("a")
    assert await locks.heard("b") == "ok"


async def test_a_second_upgrade_is_the_victim_at_once(locks: Table) -> None:
    await locks.take("a", "r", mode="s")
    await locks.take("b", "r", mode="s")
    assert await locks.queue("a", "r", priority=-100) == "waiting"

    assert await locks.queue("b", "r", priority=100) == "deadlock_victim"

    assert (await locks.service.incidents())[0].reason == "upgrade"
    await locks.leave("b")
    assert await locks.heard("a") == "ok"


# Any of several


async def test_a_semaphore_of_which_one_holder_can_run_has_no_victim(locks: Table) -> None:
    await locks.take("a", "s", mode="p", limit=2)
    await locks.take("free", "s", mode="p", limit=2)
    await locks.take("b", "rb")
    await locks.queue("a", "rb")

    assert await locks.queue("b", "s", mode="p", limit=2) == "waiting"

    assert await locks.service.incidents() == []
    await locks.release("free", "s")
    assert await locks.heard("b") == "ok"


async def test_a_semaphore_of_which_every_holder_is_stuck_has_a_victim(locks: Table) -> None:
    await locks.take("a", "s", mode="p", limit=2)
    await locks.take("c", "s", mode="p", limit=2)
    await locks.take("b", "rb")
    await locks.queue("a", "rb")
    await locks.queue("c", "rb")

    assert await locks.queue("b", "s", mode="p", limit=2) == "deadlock_victim"

    await locks.leave("b")
    assert await locks.heard("a") == "ok"


async def test_the_last_free_holder_of_a_semaphore_that_waits_closes_the_knot(
    locks: Table,
) -> None:
    await locks.take("a", "s", mode="p", limit=2)
    await locks.take("c", "s", mode="p", limit=2)
    await locks.take("b", "rb")
    await locks.queue("a", "rb")
    await locks.queue("b", "s", mode="p", limit=2)

    assert await locks.queue("c", "rb") == "deadlock_victim"


async def test_readers_that_do_not_wait_for_each_other_have_no_victim(locks: Table) -> None:
    await locks.take("a", "r", mode="s")
    await locks.take("b", "r", mode="s")
    await locks.take("b", "rb")
    await locks.queue("a", "rb")

    await locks.take("b", "r", mode="s")
    assert await locks.queue("w", "r") == "waiting"

    assert await locks.service.incidents() == []
    await locks.leave("b")
    assert await locks.heard("a") == "ok"


async def test_one_stuck_reader_is_enough_to_stop_a_writer(locks: Table) -> None:
    await locks.take("a", "r", mode="s")
    await locks.take("running", "r", mode="s")
    await locks.take("writer", "rw")
    await locks.queue("a", "rw")

    assert await locks.queue("writer", "r") == "deadlock_victim"


# Reservations


async def test_a_wait_gives_its_reservation_up_where_a_cycle_runs_through_it(
    locks: Table,
) -> None:
    await locks.take("x", "rx")
    await locks.take("h", "rh")
    await locks.queue("big", "rh", "s")
    # h holds what big waits for, and will queue behind big once big has reserved its set.
    await locks.age("big")

    reply = await locks.acquire("h", "s", wait=60)

    assert reply.status == "ok"
    assert await locks.heard("big") == "waiting"
    assert await locks.service.incidents() == []
    await locks.leave("h")
    assert await locks.heard("big") == "ok"


async def test_who_lock_in_sorted_order_are_never_victims_of_a_reservation(locks: Table) -> None:
    await locks.take("y", "a")
    await locks.take("w", "0")
    await locks.queue("w", "a", "c")
    await locks.take("x", "b")
    await locks.age("w")
    assert await locks.queue("y", "b") == "waiting"

    # c is free, but w has reserved it and waits for y, who waits for x.
    reply = await locks.acquire("x", "c", wait=60)

    assert reply.status == "ok"
    await locks.age("w", "y")
    assert await locks.service.incidents() == []
    await locks.leave("x")
    assert await locks.heard("y") == "ok"
    await locks.leave("y")
    assert await locks.heard("w") == "ok"


async def test_a_reservation_that_was_given_up_is_made_again_when_it_closes_nothing(
    locks: Table,
) -> None:
    await locks.take("h", "rh")
    await locks.queue("big", "rh", "s")
    await locks.age("big")
    assert (await locks.acquire("h", "s", wait=60)).status == "ok"
    assert not (await locks.service.get("rh")).waiting[0].has_reserved

    await locks.release("h", "s")
    await locks.age("big", seconds=1)

    assert (await locks.service.get("rh")).waiting[0].has_reserved
    assert (await locks.acquire("late", "s")).status == "lock_held"


async def test_a_wait_behind_a_reserved_set_does_not_wait_for_it_in_a_circle(
    locks: Table,
) -> None:
    await locks.take("running", "s", lease=600)
    await locks.take("a", "ra", lease=600)
    await locks.queue("big", "ra", "s")
    await locks.age("big")

    assert await locks.queue("a", "s") == "waiting"

    await locks.age("big", "a", seconds=5)
    assert await locks.service.incidents() == []
    await locks.release("running", "s")
    assert await locks.hear("a", "big") == ["ok", "waiting"]


async def test_a_cycle_closed_by_the_ageing_itself_is_opened(locks: Table) -> None:
    await locks.take("h", "rh")
    await locks.take("reader", "s", mode="s")
    await locks.queue("big", "rh", "s")
    await locks.queue("h", "s", priority=-1_000)
    await locks.age("big", "h", seconds=3)

    await locks.release("reader", "s")

    assert await locks.hear("h", "big") == ["ok", "waiting"]
    assert await locks.service.incidents() == []


async def test_a_reservation_under_a_pattern_that_closes_a_cycle_is_given_up(
    locks: Table,
) -> None:
    await locks.take("x", "file:src/a")
    await locks.take("all", "rh")
    await locks.queue("all", "file:**")
    # Ahead of it by priority, in another queue, and in want of what it holds.
    await locks.queue("one", "file:src/b", "rh", mode="s", priority=9)
    await locks.age("one", "all", seconds=3)

    await locks.release("x", "file:src/a")

    assert await locks.hear("all", "one") == ["ok", "waiting"]
    assert await locks.service.incidents() == []


async def test_a_cycle_of_holders_has_a_victim_though_reservations_are_part_of_it(
    locks: Table,
) -> None:
    await locks.take("a", "ra")
    await locks.take("b", "rb")
    await locks.queue("a", "rb", "s")
    await locks.age("a")

    assert await locks.queue("b", "ra", "s") == "deadlock_victim"


async def test_what_one_takes_while_it_waits_elsewhere_can_close_a_cycle(locks: Table) -> None:
    await locks.take("a", "ra")
    await locks.queue("b", "free", "ra")
    await locks.take("c", "rc", "free2")
    await locks.queue("a", "rc")
    await locks.queue("c", "q1", "q2") if await locks.take("x", "q1") else None
    await locks.take("a", "q2")

    # a waits for c's lock, c for q2, which a took by a try: it holds it while it waits.
    assert len(await locks.service.incidents()) == 1


# Tasks and requests


async def test_a_cycle_through_a_parked_parent_and_its_child_is_found(
    stage: Stage, locks: Table
) -> None:
    await stage.submit("parent", "child")
    parent, child = await stage.held("parent"), await stage.held("child", NOOR)
    await locks.take(claim("parent", parent), "r")
    parked = await stage.call(
        "task_park", BOARD, "i1", "parent", parent, 1, BOARD, "child", "bell-p"
    )
    assert parked.status == "ok"

    answer = await locks.queue(claim("child", child), "r")

    assert answer == "deadlock_victim"
    incident = (await locks.service.incidents())[0]
    assert set(incident.cycle) == {claim("parent", parent), claim("child", child)}
    assert set(incident.agents) == {"mira", "noor"}


async def test_parking_for_a_task_whose_holder_waits_for_the_parent_is_refused(
    stage: Stage, locks: Table
) -> None:
    await stage.submit(spec("parent", priority=-5), "child")
    parent, child = await stage.held("parent"), await stage.held("child", NOOR)
    await locks.take(claim("parent", parent), "r")
    await locks.queue(claim("child", child), "r")

    reply = await stage.call(
        "task_park", BOARD, "i1", "parent", parent, 1, BOARD, "child", "bell-p"
    )

    assert reply.status == "deadlock_victim"
    assert "W" not in (await stage.raw("HGET", "tasks:b:state", "parent")).decode().split("|")[13]
    await stage.complete("parent", parent)
    assert await locks.heard(claim("child", child)) == "ok"


async def test_a_cycle_through_a_dependency_is_found(stage: Stage, locks: Table) -> None:
    await stage.submit(spec("first"), spec("second", "first"), spec("waits"))
    first, waits = await stage.held("first"), await stage.held("waits", NOOR)
    await locks.take(claim("waits", waits), "r")
    await stage.call("task_park", BOARD, "i1", "waits", waits, 1, BOARD, "second", "bell-w")

    assert await locks.queue(claim("first", first), "r") == "deadlock_victim"


async def test_a_parked_claim_chosen_as_victim_is_told(stage: Stage, locks: Table) -> None:
    await stage.submit(spec("parent", priority=-5), "child")
    parent, child = await stage.held("parent"), await stage.held("child", NOOR)
    await locks.take(claim("parent", parent), "r")
    await stage.call("task_park", BOARD, "i1", "parent", parent, 1, BOARD, "child", "bell-p")

    assert await locks.queue(claim("child", child), "r") == "waiting"

    locks.operations[claim("parent", parent)] = ""
    assert await locks.heard(claim("parent", parent)) == "deadlock_victim"


async def test_parking_for_a_task_that_nobody_is_stuck_on_closes_nothing(
    stage: Stage, locks: Table
) -> None:
    await stage.submit("parent", "child")
    parent = await stage.held("parent")
    await locks.take(claim("parent", parent), "r")

    reply = await stage.call(
        "task_park", BOARD, "i1", "parent", parent, 1, BOARD, "child", "bell-p"
    )
    await stage.call("task_park", BOARD, "i1", "parent", parent, 0)

    assert reply.status == "ok"
    assert await locks.service.incidents() == []
    await stage.complete("parent", parent)
    assert await locks.left() == set()


ASK = """
redis.register_function('{name}', function(keys, argv)
  if not call then alias() end
  local t = open(keys[1], argv[1])
  waits.touch(t, argv[3])
  local answer
  if argv[2] == 'request' then
    answer = waits.request(t, argv[3], argv[4], argv[5], t.ms + 60000, 'bell')
  elseif argv[2] == 'taken' then
    waits.taken(t, argv[4], argv[3])
  else
    waits.answered(t, argv[4])
  end
  locks.close(t)
  return {{ answer and 'deadlock_victim' or 'ok' }}
end)
"""


@pytest.fixture
async def ask(stage: Stage) -> Any:
    """Calls of what messages use: request, taken, answered."""
    name = f"ask_{uuid.uuid4().hex[:10]}"
    text = with_waits(name)
    await stage.connection.call("FUNCTION", "LOAD", text)

    async def call(what: str, owner: str, message: str, receiver: str = "") -> str:
        stage.now += 1
        reply = await stage.connection.call(
            "FCALL", name, 1, stage.keys.format, stage.now, what, owner, message, receiver
        )
        return reply[0].decode()

    yield call
    await stage.connection.call("FUNCTION", "DELETE", name)


def with_waits(name: str) -> str:
    """A library of the files that `waits` stands on, and the function above."""
    folder = LUA / "include"
    texts = {path.name[:-4]: path.read_text() for path in folder.iterdir()}
    order: list[str] = []
    _included("waits", texts, order)
    return f"#!lua name={name}\n" + "\n".join(texts[one] for one in order) + ASK.format(name=name)


async def test_a_cycle_through_a_request_that_was_taken_is_found(locks: Table, ask: Any) -> None:
    await locks.take("asker", "r")
    assert await ask("request", "asker", "m1", "worker") == "ok"
    await ask("taken", "worker-turn", "m1")

    assert await locks.queue("worker-turn", "r") == "deadlock_victim"
    assert set((await locks.service.incidents())[0].cycle) == {"asker", "worker-turn"}


async def test_a_request_to_an_agent_all_of_whose_tasks_are_stuck_is_a_cycle(
    stage: Stage, locks: Table, ask: Any
) -> None:
    await stage.agent("small", limit=1)
    await stage.submit("t")
    fence = await stage.held("t", "small")
    await locks.take("asker", "r")
    await locks.queue(claim("t", fence), "r")

    assert await ask("request", "asker", "m1", "small") == "ok"

    # The task holds nothing, so its wait is the one to end; then it can take the request.
    assert await locks.heard(claim("t", fence)) == "deadlock_victim"
    assert set((await locks.service.incidents())[0].cycle) == {"asker", claim("t", fence)}


async def test_a_request_to_an_agent_with_room_closes_nothing(
    stage: Stage, locks: Table, ask: Any
) -> None:
    await stage.submit("t")
    fence = await stage.held("t")
    await locks.take("asker", "r")
    await locks.queue(claim("t", fence), "r")

    assert await ask("request", "asker", "m1", "mira") == "ok"


async def test_an_answered_request_is_no_edge_any_more(locks: Table, ask: Any) -> None:
    await locks.take("asker", "r")
    await ask("request", "asker", "m1", "worker")
    await ask("taken", "turn", "m1")
    await ask("answered", "", "m1")

    assert await locks.queue("turn", "r") == "waiting"


# Bounds, the graph, retention


async def test_a_check_beyond_its_bound_says_so_and_a_sweep_finishes_it(locks: Table) -> None:
    count = 1_600
    for i in range(count):
        await locks.take(f"o{i}", f"r{i}")
    for i in range(count - 1):
        await locks.queue(f"o{i}", f"r{i + 1}")

    reply = await locks.acquire(f"o{count - 1}", "r0", wait=60)

    assert (reply.status, reply.facts) == ("waiting", ["unfinished"])
    await locks.stage.call("lock_sweep", 200)
    assert len(await locks.service.incidents()) == 1


async def test_among_ten_thousand_waiters_on_five_hundred_resources_a_cycle_is_found(
    locks: Table,
) -> None:
    for i in range(500):
        await locks.take(f"h{i}", f"r{i}", lease=3_000)
    for i in range(499):
        await locks.queue(f"h{i}", f"r{i + 1}")
    for start in range(0, 9_500, 500):
        names = [f"w{start + i}" for i in range(500)]
        await asyncio.gather(*(locks.queue(name, f"r{i}") for i, name in enumerate(names)))

    assert (await locks.service.get("r7")).waiting_count == 20
    assert await locks.queue("h499", "r0") == "deadlock_victim"
    assert len((await locks.service.incidents())[0].cycle) == 500


async def test_the_graph_shows_who_waits_for_whom_and_over_what(locks: Table) -> None:
    await locks.take("a", "ra")
    await locks.take("b", "rb")
    await locks.queue("b", "ra")
    await locks.queue("c", "rb")

    graph = await locks.service.graph()
    of_c = await locks.service.graph("c")

    assert [(e.waiter, e.resource, e.owner) for e in graph.edges] == [
        ("b", "ra", "a"),
        ("c", "rb", "b"),
    ]
    assert graph.is_whole
    assert of_c == graph
    assert '"c" -> "b" [label="rb"];' in graph.dot()
    assert graph.nodes == ("a", "b", "c")


async def test_what_is_left_of_a_deadlock_is_its_incident_for_a_week(
    stage: Stage, locks: Table
) -> None:
    await closed(locks, 2)
    await locks.leave("o1")
    await locks.heard("o0")
    await locks.leave("o0")

    await locks.after(61)

    assert await locks.left() == {"locks:incidents", "lockvictim:o1"}
    assert await stage.raw("PTTL", "locks:incidents") > 600_000_000
    assert 0 < await stage.raw("PTTL", "lockvictim:o1") <= 600_000


async def test_at_most_a_thousand_incidents_are_kept(stage: Stage, locks: Table) -> None:
    for i in range(1_150):
        await locks.take("a", f"x{i}", mode="s")
        await locks.take("b", f"x{i}", mode="s")
        await locks.queue("a", f"x{i}")
        assert await locks.queue("b", f"x{i}") == "deadlock_victim"
        await locks.leave("a")
        await locks.leave("b")

    assert 1_000 <= await stage.raw("XLEN", "locks:incidents") <= 1_100
