"""A board's limits: tasks held at once, and claims in all, whichever way a claim is made."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from callboard.domain.why import explain
from callboard.exceptions import AtLimit
from callboard.services.claims import Holding
from tests.functions.scenario import Life
from tests.functions.support import BOARD, LEASE_MS, MIRA, NOOR, Stage, granted, spec

pytestmark = pytest.mark.every_engine


async def held(stage: Stage) -> int:
    """Tasks that stand as held and whose holder has not parked them, by their records."""
    raw = await stage.raw("HKEYS", "tasks:b:state")
    names = [name.decode() for name in raw]
    records = await stage.records(*names) if names else []
    return sum(
        record is not None
        and record.status.value in ("claimed", "in_progress")
        and "W" not in record.flags
        for record in records
    )


async def accept(stage: Stage, *ids: str, agent: str = MIRA) -> list[str]:
    arguments = (BOARD, agent, "i1", LEASE_MS, 0, 0, 0, len(ids), *ids)
    return granted((await stage.call("task_accept", *arguments)).raw).ids


async def why(stage: Stage, task: str) -> tuple[str, str]:
    found = explain(BOARD, task, (await stage.call("task_why", BOARD, task)).raw)
    return found.code, found.text


async def ring(bells: Any) -> tuple[str, bytes]:
    channel, payload = await bells.get(10) or ("", b"")
    return channel, payload


# Tasks held at once


async def test_a_claim_gets_no_more_than_the_room(stage: Stage) -> None:
    await stage.configure(concurrency=3)
    await stage.submit(*(f"t{i}" for i in range(6)))

    first = await stage.claim(limit=2)
    second = await stage.claim(NOOR, limit=5)
    third = await stage.claim(limit=1)

    assert (first.ids, second.ids) == (["t0", "t1"], ["t2"])
    assert (third.status, third.ids) == ("empty", [])


async def test_tasks_claimed_ahead_count(stage: Stage) -> None:
    await stage.configure(concurrency=3)
    await stage.submit(*(f"t{i}" for i in range(6)))

    assert (await stage.claim(limit=10, started=1)).ids == ["t0", "t1", "t2"]


async def test_a_step_frees_room_before_it_claims(stage: Stage) -> None:
    await stage.configure(concurrency=3)
    await stage.submit(*(f"t{i}" for i in range(6)))
    grant = await stage.claim(limit=3)

    done = [(task.id, task.fence, "1") for task in grant.tasks[:2]]
    _, _, claims = await stage.step(done=done, limit=5)

    assert claims.ids == ["t3", "t4"]
    assert await held(stage) == 3


async def test_a_named_task_is_refused_at_the_limit(stage: Stage) -> None:
    await stage.configure(concurrency=1)
    await stage.submit("a", "b")
    await stage.held("a")

    with pytest.raises(AtLimit, match="as many tasks held at once") as caught:
        await Holding(stage.namespace, BOARD).take("b", NOOR)

    assert caught.value.details["limit"] == "concurrency"


async def test_reservations_are_taken_up_only_as_far_as_there_is_room(stage: Stage) -> None:
    await stage.submit(*(spec(f"t{i}", suggested_worker=MIRA) for i in range(4)))
    await stage.configure(concurrency=3)

    first = await accept(stage, "t0", "t1")
    second = await accept(stage, "t2", "t3")

    assert (first, second) == (["t0", "t1"], ["t2"])
    assert await stage.status("t3") == "assigned"


async def test_no_more_is_stolen_than_there_is_room(stage: Stage) -> None:
    await stage.submit(*(spec(f"t{i}", suggested_worker=NOOR) for i in range(12)))
    await stage.configure(concurrency=3)
    stage.now += 29_000_000

    assert len((await stage.claim(MIRA, limit=10)).ids) == 3


async def test_what_is_reserved_keeps_its_room(stage: Stage) -> None:
    await stage.configure(concurrency=2)
    await stage.wait_as(NOOR, wants=1)
    await stage.submit("hers", "t1", "t2")
    assert await stage.status("hers") == "assigned"

    assert (await stage.claim(MIRA, limit=3)).ids == ["t1"]
    assert (await stage.take("t2", MIRA)).status == "at_limit"
    assert (await stage.claim(NOOR, limit=3)).ids == ["hers"]


async def test_nothing_is_offered_without_room(stage: Stage) -> None:
    await stage.configure(concurrency=1)
    await stage.submit("t0")
    await stage.held("t0", NOOR)
    await stage.wait_as(MIRA, wants=5)

    await stage.submit("t1", spec("t2", suggested_worker=MIRA))

    assert await stage.statuses("t1", "t2") == ["pending", "pending"]


async def test_no_more_is_offered_than_there_is_room(stage: Stage) -> None:
    await stage.configure(concurrency=2)
    await stage.wait_as(MIRA, wants=5)

    await stage.submit("t0", "t1", "t2")

    assert await stage.statuses("t0", "t1", "t2") == ["assigned", "assigned", "pending"]


@pytest.mark.parametrize("how", ["complete", "fail", "release", "ask", "park", "cancel", "lost"])
async def test_whoever_waits_is_rung_when_a_task_leaves(stage: Stage, how: str) -> None:
    await stage.configure(concurrency=1)
    await stage.submit("t0")
    fence = await stage.held("t0", NOOR)
    await stage.wait_as(MIRA)
    await stage.submit("t1", "t2")
    bells = await stage.connection.subscribe(stage.keys.agent_bell(MIRA, "i1"))

    match how:
        case "complete":
            await stage.complete("t0", fence)
        case "fail":
            await stage.fail("t0", fence, retryable=False)
        case "release":
            await stage.release("t0", fence, delay_ms=60_000)
        case "ask":
            await stage.ask("t0", fence)
        case "park":
            await stage.park("t0", fence)
        case "cancel":
            await stage.cancel("t0", fence)
        case "lost":
            await stage.cancel("t0")
            await stage.after(31)

    assert await ring(bells) == (stage.keys.agent_bell(MIRA, "i1"), b"b")
    assert (await stage.claim(MIRA)).ids == ["t1"]
    assert (await stage.claim(MIRA)).ids == []
    bells.close()


async def test_only_as_many_are_rung_as_there_is_room(stage: Stage) -> None:
    await stage.configure(concurrency=2)
    await stage.submit("t0", "t1")
    fence = await stage.held("t0", NOOR)
    await stage.held("t1", NOOR)
    for instance in ("i1", "i2"):
        await stage.wait_as(MIRA, instance=instance)
    await stage.submit("t2", "t3")
    names = [stage.keys.agent_bell(MIRA, instance) for instance in ("i1", "i2")]
    bells = await stage.connection.subscribe(*names)

    await stage.complete("t0", fence)

    assert (await ring(bells))[1] == b"b"
    await stage.connection.call("SPUBLISH", names[1], "end")
    assert await ring(bells) == (names[1], b"end")
    bells.close()


async def test_whoever_waits_is_rung_when_a_reservation_is_given_up(stage: Stage) -> None:
    await stage.configure(concurrency=1)
    await stage.wait_as(NOOR)
    await stage.submit("hers")
    await stage.wait_as(MIRA)
    await stage.submit("next")
    assert await stage.statuses("hers", "next") == ["assigned", "pending"]
    bells = await stage.connection.subscribe(stage.keys.agent_bell(MIRA, "i1"))

    await stage.cancel("hers")

    assert await ring(bells) == (stage.keys.agent_bell(MIRA, "i1"), b"b")
    bells.close()


async def test_nobody_is_rung_for_room_that_a_step_takes_itself(stage: Stage) -> None:
    await stage.configure(concurrency=1)
    await stage.submit("t0", "t1", "t2")
    fence = await stage.held("t0", NOOR)
    await stage.wait_as(MIRA)
    bell = stage.keys.agent_bell(MIRA, "i1")
    bells = await stage.connection.subscribe(bell)

    _, _, claims = await stage.step(NOOR, done=[("t0", fence, "1")], limit=1)

    assert claims.ids == ["t1"]
    await stage.connection.call("SPUBLISH", bell, "end")
    assert await ring(bells) == (bell, b"end")
    bells.close()


async def test_an_agent_that_does_not_fit_is_not_rung(stage: Stage) -> None:
    await stage.agent("picky", kinds=["other"])
    await stage.configure(concurrency=1)
    await stage.submit("t0")
    fence = await stage.held("t0", NOOR)
    await stage.wait_as("picky")
    await stage.submit("t1")
    bell = stage.keys.agent_bell("picky", "i1")
    bells = await stage.connection.subscribe(bell)

    await stage.complete("t0", fence)

    await stage.connection.call("SPUBLISH", bell, "end")
    assert await ring(bells) == (bell, b"end")
    bells.close()


async def test_parked_tasks_leave_their_room_and_take_it_again(stage: Stage) -> None:
    await stage.configure(concurrency=1)
    await stage.submit("parent", "child")
    parent = await stage.held("parent")
    await stage.park("parent", parent)
    assert (await stage.park("parent", parent)) == "ok"

    child = await stage.claim(NOOR, limit=5)
    assert child.ids == ["child"]
    assert await stage.park("parent", parent, 0) == "ok"
    await stage.complete("child", child.fences[0])
    await stage.submit("next")

    assert (await stage.claim(NOOR)).ids == []
    await stage.complete("parent", parent)
    assert (await stage.claim(NOOR)).ids == ["next"]
    assert "tasks:b:parked" not in await stage.key_names()


async def test_a_higher_limit_makes_room_at_once(stage: Stage) -> None:
    await stage.configure(concurrency=1)
    await stage.submit("t0", "t1", "t2")
    await stage.claim(limit=3)

    await stage.configure(concurrency=2)
    assert (await stage.claim(limit=3)).ids == ["t1"]
    await stage.configure(concurrency="")
    assert (await stage.claim(limit=3)).ids == ["t2"]


@pytest.mark.parametrize("seed", range(6))
async def test_no_mixed_life_goes_over_the_limit(
    stage: Stage, seed: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    park = stage.park

    async def only_park(task_id: str, fence: int, parked: int = 1) -> str:
        return await park(task_id, fence, 1)

    monkeypatch.setattr(stage, "park", only_park)
    await stage.configure(concurrency=3)
    life, most = Life(stage, 300 + seed), 0
    for _ in range(200):
        await life.step()
        now = await held(stage)
        most = max(most, now)
        assert now <= 3
    assert most == 3


# Claims in all


async def test_claims_end_with_the_last_that_is_allowed(stage: Stage) -> None:
    await stage.configure(claims_most=5)
    await stage.submit(*(f"t{i}" for i in range(9)), spec("hers", suggested_worker=MIRA))

    grant = await stage.claim(NOOR, limit=2)
    await stage.held("t5")
    taken_up = await accept(stage, "hers")
    _, _, last = await stage.step(
        NOOR, done=[(task.id, task.fence, "1") for task in grant.tasks], limit=9
    )

    assert (grant.ids, taken_up, last.ids) == (["t0", "t1"], ["hers"], ["t2"])
    assert (await stage.claim(NOOR, limit=9)).status == "empty"
    assert (await stage.take("t3")).facts == ["claims_most"]
    assert await stage.raw("HGET", "tasks:b:board", "claims") == b"5"


async def test_every_attempt_is_a_claim(stage: Stage) -> None:
    await stage.configure(claims_most=3)
    await stage.submit("t")
    for _ in range(3):
        await stage.release("t", await stage.held("t"))

    assert (await stage.claim()).ids == []
    await stage.configure(claims_most=4)
    assert (await stage.claim()).ids == ["t"]


async def test_nobody_is_offered_what_nobody_may_claim(stage: Stage) -> None:
    await stage.configure(claims_most=1)
    await stage.wait_as(MIRA, wants=5)

    await stage.submit("t0", "t1")

    assert await stage.statuses("t0", "t1") == ["assigned", "pending"]


async def test_boards_without_the_limit_count_no_claims(stage: Stage) -> None:
    await stage.configure(concurrency=3)
    await stage.submit("t")
    await stage.held("t")

    assert await stage.raw("HGET", "tasks:b:board", "claims") is None


# Why a task waits


async def test_why_names_the_limit_that_holds_a_task(stage: Stage) -> None:
    await stage.configure(concurrency=1, claims_most=2)
    await stage.submit("t0", "t1", "t2")
    assert (await why(stage, "t1"))[0] == "claimable"

    fence = await stage.held("t0")
    code, text = await why(stage, "t1")
    assert (code, "at once (1)" in text) == ("at_limit", True)

    await stage.complete("t0", fence)
    await stage.complete("t1", await stage.held("t1"))
    code, text = await why(stage, "t2")
    assert (code, "as many claims as it may (2)" in text) == ("at_limit", True)


async def test_why_finds_the_agent_that_fits_behind_many_that_do_not(stage: Stage) -> None:
    for name in (MIRA, NOOR):
        await stage.agent(name, kinds=["nothing"])
    await asyncio.gather(*(stage.agent(f"a{i}", kinds=["nothing"]) for i in range(600)))
    await stage.submit("t")
    code, text = await why(stage, "t")
    assert (code, text[:40]) == ("no_agent_fits", "None of 602 registered agents fits. Miss")

    await stage.agent("late")

    assert await why(stage, "t") == ("claimable", "It may be claimed now, by late.")


async def test_why_says_that_it_looked_at_a_part_of_the_agents(stage: Stage) -> None:
    for name in (MIRA, NOOR):
        await stage.agent(name, kinds=["nothing"])
    await stage.submit("t")
    others = [value for i in range(6_000) for value in (9_000_000_000_000 + i, f"a{i}")]
    for at in range(0, len(others), 2_000):
        await stage.raw("ZADD", "agents:known", *others[at : at + 2_000])

    code, text = await why(stage, "t")

    assert code == "no_agent_fits"
    assert text.startswith("None of the 5,000 oldest of 6,002 registered agents fits.")


async def test_why_names_a_closed_board(stage: Stage) -> None:
    await stage.submit("t")
    await stage.configure(closed=1)

    assert (await why(stage, "t"))[0] == "board_closed"
