"""``GET /events``: what is told, from where, and what happens where readers come and go."""

from __future__ import annotations

import asyncio
from typing import Any

from callboard.app import Callboard
from callboard.domain.task import TaskSpec
from tests.http.live_support import SECONDS, sse
from tests.http.support import Served
from tests.waiting import until


async def submit(cb: Callboard, *ids: str, board: str = "default") -> None:
    tasks = cb.board(board).tasks
    for task_id in ids:
        await tasks.submit("greet", id=task_id)


async def board_of(served: Served) -> Callboard:
    return await served.coordinator.board(served.coordinator.settings.namespace)


def ids(block: Any) -> list[str]:
    return [fact["id"] for fact in block.json["facts"]]


async def test_a_stream_begins_with_what_comes_now(served: Served) -> None:
    cb = await board_of(served)
    await submit(cb, "before")

    async with sse(served.port, "/events") as stream:
        await submit(cb, "after")
        block = await stream.until("task:created")

    assert stream.status == 200
    assert stream.headers["content-type"] == "text/event-stream; charset=utf-8"
    assert "no-cache" in stream.headers["cache-control"]
    assert ids(block) == ["after"]
    assert block.id == block.json["cursor"]
    assert block.json["type"] == "task:created"


async def test_a_reader_that_comes_back_misses_nothing_and_hears_nothing_twice(
    served: Served,
) -> None:
    cb = await board_of(served)
    async with sse(served.port, "/events?types=task:created") as stream:
        await submit(cb, "a", "b")
        first = await stream.next()
    await submit(cb, "c")

    async with sse(served.port, "/events?types=task:created", last_event_id=first.id) as again:
        await submit(cb, "d")
        rest = [ids(await again.next()) for _ in range(3)]

    assert ids(first) == ["a"]
    assert rest == [["b"], ["c"], ["d"]]


async def test_a_reader_that_left_before_its_first_event_goes_on_from_where_it_began(
    served: Served,
) -> None:
    cb = await board_of(served)
    async with sse(served.port, "/events") as stream:
        piece = await stream.piece() or b""
        begun = piece.decode().split("id: ")[1].strip()
    await submit(cb, "meanwhile")

    async with sse(served.port, "/events", last_event_id=begun) as again:
        block = await again.until("task:created")

    assert ids(block) == ["meanwhile"]


async def test_old_events_and_new_ones_join_without_a_seam_while_much_happens(
    served: Served,
) -> None:
    cb = await board_of(served)
    start = await cb.events.cursor()
    await submit(cb, *(f"old-{i}" for i in range(250)))
    writer = asyncio.create_task(submit(cb, *(f"new-{i}" for i in range(250))))

    async with sse(served.port, f"/events?types=task:created&cursor={start}") as stream:
        found = [ids(await stream.next())[0] for _ in range(500)]
    await writer

    assert found == [f"old-{i}" for i in range(250)] + [f"new-{i}" for i in range(250)]


async def test_events_since_a_moment_are_told(served: Served) -> None:
    cb = await board_of(served)
    await submit(cb, "early")
    found, _ = await cb.events.read(None)
    moment = found[-1].at  # type: ignore[union-attr]

    async with served.client.stream(
        "GET", "/events", params={"since": moment.isoformat(), "types": "task:*"}
    ) as response:
        lines = response.aiter_lines()
        async with asyncio.timeout(SECONDS):
            async for line in lines:
                if line.startswith("data:"):
                    break

    assert '"early"' in line


async def test_only_what_was_asked_for_is_told(served: Served) -> None:
    cb = await board_of(served)
    await cb.agents.register("mira")

    async with (
        sse(served.port, "/events?types=task:claimed,agent:*") as typed,
        sse(served.port, "/events?board=other") as boarded,
        sse(served.port, "/events?task=b&types=task:*") as tasked,
        sse(served.port, "/events?agent=mira") as agented,
    ):
        await cb.tasks.submit_many([TaskSpec(kind="greet", id="a"), TaskSpec(kind="greet", id="b")])
        await submit(cb, "c", board="other")
        await cb.tasks.claim("mira")
        claimed = await typed.next()
        other = await boarded.until("task:created")
        of_b = await tasked.next()
        of_mira = await agented.next()

    assert claimed.event == "task:claimed"
    assert ids(other) == ["c"]
    assert ids(of_b) == ["b"], "of an event about several tasks those are told that were asked for"
    assert of_mira.event == "task:claimed"


async def test_a_cursor_of_another_incarnation_brings_a_gap_first(served: Served) -> None:
    cb = await board_of(served)
    await submit(cb, "a")

    async with sse(served.port, "/events", last_event_id="elsewhere:1") as stream:
        gap = await stream.next()
        block = await stream.next()

    assert gap.event == "gap"
    assert gap.json["reason"] == "incarnation"
    assert gap.id == gap.json["cursor"]
    assert block.event != "gap"


async def test_a_cursor_ahead_of_the_stream_brings_a_gap_rather_than_silence(
    served: Served,
) -> None:
    cb = await board_of(served)
    incarnation = (await cb.events.cursor()).split(":")[0]

    async with sse(served.port, "/events", last_event_id=f"{incarnation}:999999") as stream:
        gap = await stream.next()
        await submit(cb, "a")
        block = await stream.until("task:created")

    assert gap.event == "gap"
    assert ids(block) == ["a"]


async def test_what_cannot_be_asked_for_is_refused_before_the_stream_begins(
    served: Served,
) -> None:
    for query in ("cursor=nonsense", "since=yesterday", "type=task:*", "types=" + "x" * 300):
        response = await served.client.get(f"/events?{query}")
        assert response.status_code == 422, query


async def test_what_is_wrong_is_named_with_where_it_stood(served: Served) -> None:
    said = {}
    for query in ("cursor=banana", "types=nope:x", "types=task:*,task:complete"):
        said[query] = (await served.client.get(f"/events?{query}")).json()["detail"][0]
    header = await served.client.get("/events", headers={"last-event-id": "banana"})

    assert [one["loc"] for one in said.values()] == [
        ["query", "cursor"],
        ["query", "types"],
        ["query", "types"],
    ]
    assert "No event has a type like 'nope:x'" in said["types=nope:x"]["msg"]
    assert "Did you mean task:completed?" in said["types=task:*,task:complete"]["msg"]
    assert header.json()["detail"][0]["loc"] == ["header", "Last-Event-ID"]


async def test_a_head_request_is_answered_without_a_stream(served: Served) -> None:
    response = await served.client.head("/events")

    assert response.status_code == 200
    assert response.headers["content-type"].startswith("text/event-stream")


async def test_streams_end_in_good_order_when_the_coordinator_stops(served: Served) -> None:
    async with sse(served.port, "/events") as stream:
        served.coordinator.is_stopping.set()

        assert await stream.next_or_end() is None
        refused = await served.client.get("/events")

    assert refused.status_code == 503


async def test_a_reader_that_leaves_leaves_nothing_behind(served: Served) -> None:
    hub = (await served.coordinator.served(served.coordinator.settings.namespace)).hub
    async with sse(served.port, "/events"):
        await until(lambda: hub.listeners == 1)

    await until(lambda: hub.listeners == 0)
    assert len(hub.outlets) == 0


async def test_two_hundred_readers_hear_everything_in_order(served: Served) -> None:
    cb = await board_of(served)
    wanted = [f"t{i}" for i in range(300)]

    async def read() -> list[str]:
        async with sse(served.port, "/events?types=task:created") as stream:
            begun.release()
            return [ids(await stream.next())[0] for _ in wanted]

    begun = asyncio.Semaphore(0)
    readers = [asyncio.create_task(read()) for _ in range(200)]
    for _ in readers:
        await begun.acquire()
    await submit(cb, *wanted)
    async with asyncio.timeout(60):
        found = await asyncio.gather(*readers)

    assert all(one == wanted for one in found)
