"""Calls over HTTP whose answer is lost: made again where that counts once, else looked into."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from pathlib import Path
from typing import Any

import pytest

import callboard
from callboard.domain.conflict import Party
from callboard.exceptions import CallboardError, IdConflict, LeaseLost, OutcomeUnknown
from callboard.operations import OPERATIONS
from callboard.sdk.remote import transport
from callboard.sdk.remote.looking import ENDINGS, LOOK
from callboard.sdk.remote.preparing import PREPARE
from callboard.sdk.remote.services import MADE_OF_OTHERS
from tests.http.lossy import Lossy, lossy
from tests.http.support import Served, serving

PATIENCE = 20.0


class Scene:
    """A coordinator, the way to it, a client on that way, and the engine itself."""

    def __init__(
        self, served: Served, way: Lossy, cb: callboard.Callboard, direct: callboard.Callboard
    ) -> None:
        self.served = served
        self.way = way
        self.cb = cb
        self.direct = direct

    async def claimed(self, *, lease: float = 60.0) -> int:
        """Task ``t``, claimed by mira; its fence."""
        for agent in ("mira", "noor"):
            await self.direct.agents.register(agent)
        await self.direct.tasks.submit("greet", id="t")
        claims = await self.direct.tasks.claim("mira", lease=lease)
        return claims.tasks[0].fence

    async def claim_again(self, agent: str = "noor") -> None:
        """Have another claim it, as soon as it is to be had."""
        async with asyncio.timeout(PATIENCE):
            while not (await self.direct.tasks.claim(agent)).tasks:
                await asyncio.sleep(0.01)


@pytest.fixture
async def scene(valkey_url: str, namespace: str) -> AsyncIterator[Scene]:
    async with (
        serving(valkey_url, namespace=namespace) as served,
        lossy(served.port) as way,
        callboard.connect(valkey_url, namespace=namespace) as direct,
        callboard.connect(way.url, namespace=namespace, call_timeout=5) as cb,
    ):
        yield Scene(served, way, cb, direct)


# What counts once however often it is asked for


async def test_a_note_is_made_once(scene: Scene) -> None:
    await scene.claimed()
    scene.way.lose_answer("/tasks/t/notes")

    await scene.cb.tasks.note("t", "seen", author="mira")
    await scene.cb.tasks.note("t", "seen", author="mira")

    assert [one.content for one in await scene.direct.tasks.notes("t")] == ["seen", "seen"]
    assert scene.way.count("/tasks/t/notes") == 3


async def test_a_task_that_was_taken_is_taken_under_the_same_fence(scene: Scene) -> None:
    await scene.direct.agents.register("mira")
    await scene.direct.tasks.submit("greet", {"n": 1}, id="t")
    scene.way.lose_answer("/tasks/t/take")

    taken = await scene.cb.tasks.take("t", "mira")

    found = await scene.direct.tasks.get("t")
    assert (taken.fence, taken.attempt, taken.payload_as()) == (found.fence, 1, {"n": 1})


async def test_a_task_that_was_taken_and_lost_meanwhile_is_lost(scene: Scene) -> None:
    await scene.direct.agents.register("mira")
    await scene.direct.tasks.submit("greet", id="t")

    async def lose() -> None:
        held = await scene.direct.tasks.get("t")
        await scene.direct.tasks.release("t", fence=held.fence)

    scene.way.lose_answer("/tasks/t/take", lose)

    with pytest.raises(LeaseLost):
        await scene.cb.tasks.take("t", "mira")


async def test_messages_are_taken_under_the_same_fences(scene: Scene) -> None:
    for n in range(3):
        await scene.direct.messages.send("mira", {"n": n}, id=f"m-{n}")
    scene.way.lose_answer("/inboxes/mira/take")

    taken = await scene.cb.messages.take("mira", 2, taker="p1")
    answers = await scene.cb.messages.acknowledge_many(taken)

    assert [(one.id, one.value, one.deliveries, one.taker) for one in taken] == [
        ("m-0", {"n": 0}, 1, "p1"),
        ("m-1", {"n": 1}, 1, "p1"),
    ]
    assert [one.status for one in answers] == ["ok", "ok"]
    assert [one.id for one in await scene.direct.messages.take("mira", 5)] == ["m-2"]


async def test_messages_that_are_held_no_more_are_not_taken_again(scene: Scene) -> None:
    for n in range(3):
        await scene.direct.messages.send("mira", {"n": n}, id=f"m-{n}")

    async def go_on() -> None:
        first = await scene.direct.messages.get("m-0")
        await scene.direct.messages.acknowledge(first)

    scene.way.lose_answer("/inboxes/mira/take", go_on)

    taken = await scene.cb.messages.take("mira", 3)

    assert [one.id for one in taken] == ["m-1", "m-2"]
    assert await scene.direct.messages.take("mira", 5) == []


async def test_a_request_id_of_another_taker_is_refused(scene: Scene) -> None:
    await scene.direct.messages.send("mira", 1)
    await scene.cb.messages.take("mira", taker="p1", request_id="r")

    with pytest.raises(IdConflict):
        await scene.cb.messages.take("mira", taker="p2", request_id="r")


async def test_a_lock_is_given_back_once_for_each_time_it_was_acquired(scene: Scene) -> None:
    await scene.cb.locks.acquire("file:a", owner="o", wait=0)
    lock = await scene.cb.locks.acquire("file:a", owner="o", wait=0)
    scene.way.lose_answer("/locks/release")
    await scene.cb.locks.release(lock)
    (holder,) = (await scene.direct.locks.get("file:a")).holders

    scene.way.lose_answer("/locks/release")
    await scene.cb.locks.release(lock)

    assert holder.count == 1
    assert (await scene.direct.locks.get("file:a")).is_free


async def test_a_context_is_written_once(scene: Scene) -> None:
    for _ in range(2):
        scene.way.lose_answer("/contexts/p/increment")
        total = await scene.cb.context.increment("p", "n", 5)
    scene.way.lose_answer("/contexts/p/fields")
    before = (await scene.direct.context.get("p")).rev
    written = await scene.cb.context.set("p", {"a": 1}, if_rev=before)

    found = await scene.direct.context.get("p")
    assert total == 10
    assert (found.rev, found.fields) == (written.rev, {"n": 10, "a": 1})


async def test_an_error_is_counted_once(scene: Scene) -> None:
    for _ in range(2):
        scene.way.lose_answer("/errors")
        recorded = await scene.cb.errors.record("ValueError", "no such page")

    assert (await scene.direct.errors.group(recorded.fingerprint)).count == 2


async def test_a_conflict_is_voted_on_referred_and_decided_once(scene: Scene) -> None:
    for name in ("one", "two", "three"):
        await scene.direct.conflicts.report("resource", "file:a", ["mira", "noor"], id=name)
    for path in ("one/ballot", "two/refer", "two/decide", "three/resolve"):
        scene.way.lose_answer(f"/conflicts/{path}")

    ballot = await scene.cb.conflicts.open_vote("one", members=["mira", "noor"])
    referred = await scene.cb.conflicts.refer("two", "lena")
    decided = await scene.cb.conflicts.decide("two", "noor", by="lena")
    priorities = {"priorities": {"mira": 2, "noor": 1}}
    resolved = await scene.cb.conflicts.resolve("three", inputs=priorities)

    assert (ballot.members, referred.arbiter) == (2, "lena")
    assert (decided.winner, resolved.winner) == ("noor", "mira")
    assert [scene.way.count(f"/conflicts/{one}") for one in ("two/decide", "three/resolve")] == [
        2,
        2,
    ]


async def test_a_request_id_that_is_used_for_something_else_hides_nothing(scene: Scene) -> None:
    await scene.claimed()
    for text in ("one", "two", "one"):
        await scene.cb.tasks.note("t", text, request_id="r")
    for project, value in (("p", 1), ("q", 1), ("p", 2)):
        await scene.cb.context.set(project, {"a": value}, request_id="r")

    assert [one.content for one in await scene.direct.tasks.notes("t")] == ["one", "two"]
    assert [(await scene.direct.context.get(one)).fields["a"] for one in ("p", "q")] == [2, 1]


# Where the repeat is refused since somebody else has it by now


async def _complete(cb: callboard.Callboard, fence: int) -> Any:
    return await cb.tasks.complete("t", fence=fence, result=1)


async def _fail(cb: callboard.Callboard, fence: int) -> Any:
    return await cb.tasks.fail("t", fence=fence, error="y", delay=0)


async def _release(cb: callboard.Callboard, fence: int) -> Any:
    return await cb.tasks.release("t", fence=fence)


async def _ask(cb: callboard.Callboard, fence: int) -> Any:
    return await cb.tasks.ask("t", fence=fence, question="which?")


End = Callable[[callboard.Callboard, int], Awaitable[Any]]
ENDS: dict[str, End] = {
    "complete": _complete,
    "fail": _fail,
    "release": _release,
    "ask": _ask,
}


@pytest.mark.parametrize("name", ENDS)
async def test_who_ended_a_claim_is_told_so_though_the_task_went_on_meanwhile(
    scene: Scene, name: str
) -> None:
    fence = await scene.claimed()

    async def go_on() -> None:
        if name == "complete":
            await scene.direct.tasks.purge(["t"])
        elif name == "ask":
            await scene.direct.tasks.answer("t", "that one")
            await scene.claim_again("mira")
        else:
            await scene.claim_again()

    scene.way.lose_answer(f"/tasks/t/{name}", go_on)

    answer = await ENDS[name](scene.cb, fence)

    assert answer.status == "replayed"
    if name != "complete":
        assert (await scene.direct.tasks.get("t")).fence > fence


@pytest.mark.parametrize("name", ENDS)
async def test_who_lost_a_claim_before_is_told_that_it_is_lost(scene: Scene, name: str) -> None:
    fence = await scene.claimed(lease=0.1)

    scene.way.lose_request(f"/tasks/t/{name}", scene.claim_again)

    with pytest.raises(LeaseLost):
        await ENDS[name](scene.cb, fence)


async def test_who_was_taken_a_task_by_a_verdict_has_not_given_it_back(scene: Scene) -> None:
    fence = await scene.claimed()

    async def take_away() -> None:
        parties = [Party(name="mira", priority=1), Party(name="noor", priority=9)]
        found = await scene.direct.conflicts.report("task", "t", parties)
        resolution = await scene.direct.conflicts.resolve(found.id, "priority")
        assert resolution.enforced == "taken_back"

    scene.way.lose_request("/tasks/t/release", take_away)

    with pytest.raises(OutcomeUnknown):
        await scene.cb.tasks.release("t", fence=fence)


async def test_where_nothing_is_told_of_a_claim_nobody_knows(
    scene: Scene, monkeypatch: pytest.MonkeyPatch
) -> None:
    fence = await scene.claimed()
    monkeypatch.setattr("callboard.sdk.remote.looking.LOOK_BACK", 0)
    scene.way.lose_answer("/tasks/t/release", scene.claim_again)

    with pytest.raises(OutcomeUnknown, match="may have run"):
        await scene.cb.tasks.release("t", fence=fence)


def test_each_way_to_look_is_for_an_operation() -> None:
    assert set(ENDINGS) <= set(LOOK) <= set(OPERATIONS)


def test_what_may_stay_unknown_is_named_where_it_is_said_what_to_do_then() -> None:
    page = Path("docs/how-to/connect-over-http.md").read_text()
    unknown = {
        name
        for name, one in OPERATIONS.items()
        if not one.is_repeatable and name not in {*PREPARE, *LOOK, *MADE_OF_OTHERS}
    }

    assert {one for one in unknown if f"`{one}`" not in page} == {
        "metrics.record_many",
        "metrics.record_training",
        "metrics.record_training_many",
    }, "and the like"


# What is removed


@pytest.mark.parametrize("is_done", [True, False], ids=["answer", "request"])
async def test_what_is_gone_was_removed_and_what_is_there_nobody_knows_of(
    scene: Scene, is_done: bool
) -> None:
    await scene.direct.context.set("p", {"a": 1})
    lose = scene.way.lose_answer if is_done else scene.way.lose_request
    lose("/contexts/p")

    if is_done:
        await scene.cb.context.delete("p")
    else:
        with pytest.raises(OutcomeUnknown, match=r"context\.delete"):
            await scene.cb.context.delete("p")

    assert bool((await scene.direct.context.get_many(["p"]))[0]) is not is_done


async def test_what_was_to_be_removed_at_one_revision_and_is_gone_nobody_knows_of(
    scene: Scene,
) -> None:
    written = await scene.direct.context.set("p", {"a": 1})

    async def change() -> None:
        await scene.direct.context.set("p", {"a": 2})
        await scene.direct.context.delete("p")

    scene.way.lose_request(f"/contexts/p?if_rev={written.rev}", change)

    with pytest.raises(OutcomeUnknown):
        await scene.cb.context.delete("p", if_rev=written.rev)


REMOVALS: dict[str, Callable[[callboard.Callboard], Awaitable[Any]]] = {
    "/contexts/zz": lambda cb: cb.context.delete("zz"),
    "/recurring/zz": lambda cb: cb.recurring.delete("zz"),
    "/runs/zz": lambda cb: cb.runs.delete("zz"),
    "/teams/zz": lambda cb: cb.teams.remove("zz"),
}


@pytest.mark.parametrize("path", REMOVALS)
async def test_what_never_was_counts_not_as_removed(scene: Scene, path: str) -> None:
    scene.way.lose_request(path)

    with pytest.raises(OutcomeUnknown):
        await REMOVALS[path](scene.cb)


# One of several that hangs


async def test_what_may_be_sent_once_only_is_not_sent_to_one_that_hangs(
    scene: Scene, namespace: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(transport, "FRESH_SECONDS", 0.0)
    async with (
        lossy(scene.served.port) as other,
        callboard.connect(
            f"{scene.way.url},{other.url}", namespace=namespace, call_timeout=4
        ) as cb,
    ):
        await cb.metrics.record("loss", 1.0)
        scene.way.is_frozen = True
        await cb.metrics.record("loss", 2.0)
        points = await scene.direct.metrics.recent("loss")

    assert sorted(one.value for one in points) == [1.0, 2.0]
    assert (scene.way.count("/series/loss/points"), other.count("/series/loss/points")) == (1, 1)


async def test_one_that_answered_just_now_is_not_looked_for(scene: Scene, namespace: str) -> None:
    async with (
        lossy(scene.served.port) as other,
        callboard.connect(f"{scene.way.url},{other.url}", namespace=namespace) as cb,
    ):
        for _ in range(3):
            await cb.metrics.record("loss", 1.0)

    assert scene.way.count("/health") == 0


async def test_a_closed_connection_says_that_it_is_closed(scene: Scene) -> None:
    await scene.cb.close()

    with pytest.raises(CallboardError, match=r"is closed\. Open a new one"):
        await scene.cb.tasks.get("t")
