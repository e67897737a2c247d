"""The hub: one follower for all, what it keeps, what becomes of readers that are too slow."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import AsyncIterator

import msgspec
import pytest

import callboard
from callboard.app import Callboard
from callboard.http.live.hub import Hub
from callboard.http.live.listeners import as_entries, as_frame
from callboard.http.live.settings import LiveSettings
from callboard.http.live.wanted import ALL, Wanted
from tests.http.live_support import SECONDS, sse
from tests.http.support import Served, serving
from tests.waiting import until

CREATED = Wanted.of(types=["task:created"])


@pytest.fixture
async def cb(valkey_url: str, namespace: str) -> AsyncIterator[Callboard]:
    async with callboard.connect(valkey_url, namespace=namespace, adopt=True) as opened:
        await opened.tasks.submit("greet", id="first")
        yield opened


async def submit(cb: Callboard, prefix: str, count: int, title: str = "") -> None:
    for i in range(count):
        await cb.tasks.submit("greet", id=f"{prefix}{i}", title=title)


async def taken(listener, count: int) -> list[str]:
    """The ids of the next events, of a listener of entries."""
    found: list[str] = []
    async with asyncio.timeout(SECONDS):
        while len(found) < count:
            for entry in await listener.take():
                found += [fact.id for fact in entry.event.facts]
    return found


async def test_those_who_want_the_same_are_given_the_very_same_bytes(cb: Callboard) -> None:
    hub = Hub(cb.events, LiveSettings())
    async with hub.listen(CREATED) as one, hub.listen(CREATED) as other, hub.listen(ALL) as third:
        await submit(cb, "t", 1)
        async with asyncio.timeout(SECONDS):
            first, second, all_of_it = await asyncio.gather(one.take(), other.take(), third.take())
    await hub.close()

    assert first is second
    assert b"task:created" in first and b"task:created" in all_of_it


async def test_the_follower_starts_with_the_first_listener_and_stops_after_the_last(
    cb: Callboard, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("callboard.http.live.hub.LINGER_SECONDS", 0.01)
    hub = Hub(cb.events, LiveSettings())
    assert not hub.is_following

    async with hub.listen(ALL):
        assert hub.is_following

    await until(lambda: not hub.is_following)
    async with hub.listen(CREATED, as_entries) as again:
        await submit(cb, "t", 1)
        assert await taken(again, 1) == ["t0"]
    await hub.close()


async def test_the_ring_is_bounded_by_count_and_by_bytes(cb: Callboard) -> None:
    few = Hub(cb.events, LiveSettings(ring_events=10))
    small = Hub(cb.events, LiveSettings(ring_bytes=4_000))
    async with few.listen(CREATED, as_entries) as one, small.listen(CREATED, as_entries) as other:
        await submit(cb, "t", 50)
        assert len(await taken(one, 50)) == 50
        assert len(await taken(other, 50)) == 50
        assert few.kept[0] == 10
        assert 0 < small.kept[1] <= 4_000
    await few.close()
    await small.close()


async def test_one_that_reads_too_slowly_is_told_of_a_gap_and_goes_on_with_what_comes(
    cb: Callboard,
) -> None:
    hub = Hub(cb.events, LiveSettings(ring_events=10))
    async with hub.listen(CREATED, as_entries) as listener:
        await submit(cb, "t", 1)
        assert await taken(listener, 1) == ["t0"]
        await submit(cb, "u", 30)
        newest = await cb.events.cursor()
        await until(lambda: hub.cursor == newest)
        (notice,) = await listener.take()
        await submit(cb, "v", 1)
        assert await taken(listener, 1) == ["v0"]
    await hub.close()

    gap = notice.event
    assert (gap.type, gap.reason) == ("gap", "slow")
    assert gap.last - gap.first + 1 == 30
    assert listener.dropped == 1
    missed, _ = await cb.events.read(f"{gap.cursor.split(':')[0]}:{gap.first - 1}", limit=30)
    facts = [getattr(event, "facts", ()) for event in missed]
    assert [fact.id for one in facts for fact in one] == [f"u{i}" for i in range(30)]


async def test_a_cursor_that_the_ring_has_not_is_read_from_the_engine_then_the_ring_takes_over(
    cb: Callboard,
) -> None:
    start = await cb.events.cursor()
    hub = Hub(cb.events, LiveSettings(ring_events=5))
    async with hub.listen(ALL, as_entries) as keeps:
        await submit(cb, "old", 230)
        await taken(keeps, 230)
        assert hub.locate(start) is None
        async with hub.listen(CREATED, as_entries, start) as listener:
            found = await taken(listener, 230)
            await submit(cb, "new", 3)
            found += await taken(listener, 3)
            await until(lambda: hub.locate(listener.cursor) is not None)
    await hub.close()

    assert found == [f"old{i}" for i in range(230)] + [f"new{i}" for i in range(3)]


async def test_a_silent_listener_moves_on_so_that_it_comes_back_where_it_was(
    cb: Callboard,
) -> None:
    hub = Hub(cb.events, LiveSettings())
    wanted = Wanted.of(types=["run:*"])
    async with hub.listen(wanted) as listener, hub.listen(CREATED, as_entries) as other:
        waiting = asyncio.create_task(listener.take())
        await submit(cb, "t", 5)
        await taken(other, 5)
        assert listener.cursor == await cb.events.cursor()
        waiting.cancel()
    await hub.close()


async def test_news_comes_at_once_after_a_silence_and_together_within_a_tick(
    cb: Callboard,
) -> None:
    hub = Hub(cb.events, LiveSettings(tick=0.2))
    async with hub.listen(CREATED, as_entries) as listener:
        await submit(cb, "warm", 1)
        await taken(listener, 1)
        await asyncio.wait_for(hub.news(), SECONDS)  # a silence of more than a tick
        await submit(cb, "t", 1)
        first = await listener.take()
        await submit(cb, "u", 20)
        second = await listener.take()
    await hub.close()

    assert len(first) == 1
    assert len(second) == 20


async def test_an_engine_that_does_not_answer_for_a_moment_costs_no_event(
    cb: Callboard, monkeypatch: pytest.MonkeyPatch
) -> None:
    read, failures = cb.events.read, 0

    async def shaky(*args, **fields):
        nonlocal failures
        if failures < 2:
            failures += 1
            raise callboard.exceptions.EngineUnavailable("The engine is away.")
        return await read(*args, **fields)

    hub = Hub(cb.events, LiveSettings())
    async with hub.listen(ALL, as_entries) as listener:
        await submit(cb, "t", 1)
        assert await taken(listener, 1)
        monkeypatch.setattr(cb.events, "read", shaky)
        await submit(cb, "u", 1)
        (entry,) = await asyncio.wait_for(listener.take(), SECONDS)
    await hub.close()

    assert failures == 2
    assert [fact.id for fact in entry.event.facts] == ["u0"]


async def test_a_frame_of_events_is_valid_json_with_the_last_cursor(cb: Callboard) -> None:
    hub = Hub(cb.events, LiveSettings())
    async with hub.listen(CREATED, as_frame) as listener:
        await submit(cb, "t", 1)
        frame = msgspec.json.decode(await listener.take())
    await hub.close()

    assert frame["type"] == "events"
    assert frame["events"][-1]["cursor"] == frame["cursor"]


async def test_who_watches_a_task_is_told_of_it_alone_and_of_gaps(cb: Callboard) -> None:
    hub = Hub(cb.events, LiveSettings())
    told: list[str | None] = []
    async with hub.watch() as watch:
        end = watch("default", "t1", lambda event: told.append(event.type if event else None))
        await submit(cb, "t", 3)
        await until(lambda: told)
        hub._publish([], hub.cursor)
        end()
        await submit(cb, "u", 1)
        await hub.news()
    await hub.close()

    assert told == ["task:created"]
    assert hub._watches == {}


async def test_a_client_that_never_reads_is_cut_off_and_others_are_served(
    valkey_url: str, namespace: str
) -> None:
    live = LiveSettings(write_timeout=0.5, ring_bytes=200_000, chunk_bytes=20_000, keep_alive=1.5)
    async with serving(valkey_url, namespace=namespace, live=live) as served:
        cb, hub = await parts(served)
        silent = socket.socket()
        silent.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4_096)
        silent.setblocking(False)
        loop = asyncio.get_running_loop()
        await loop.sock_connect(silent, ("127.0.0.1", served.port))
        await loop.sock_sendall(silent, b"GET /events HTTP/1.1\r\nhost: 127.0.0.1\r\n\r\n")
        async with sse(served.port, "/events?types=task:created") as reader:
            await until(lambda: len(hub.outlets) == 2)
            heard = 0
            async with asyncio.timeout(60):
                while not hub.outlets.cut_off:
                    await cb.tasks.submit_many(
                        [callboard.TaskSpec(kind="greet", id=f"{heard}-{i}") for i in range(500)]
                    )
                    block = await reader.until("task:created")
                    heard += len(block.json["facts"])
            await until(lambda: len(hub.outlets) == 1)

            assert heard > 0
            assert hub.kept[1] <= 200_000
        silent.close()


async def test_a_silent_stream_is_kept_alive_and_its_place_moves(
    valkey_url: str, namespace: str
) -> None:
    live = LiveSettings(keep_alive=0.2)
    async with serving(valkey_url, namespace=namespace, live=live) as served:
        cb, _ = await parts(served)
        async with sse(served.port, "/events?types=run:*") as stream:
            await submit(cb, "t", 3)
            wanted = number(await cb.events.cursor())
            reading = asyncio.create_task(stream.next())
            await until(lambda: number(stream.last_id) >= wanted)
            reading.cancel()

            assert stream.comments > 0


async def test_no_more_streams_are_opened_than_there_is_room_for(
    valkey_url: str, namespace: str
) -> None:
    live = LiveSettings(streams_max=1)
    async with serving(valkey_url, namespace=namespace, live=live) as served:
        _, hub = await parts(served)
        async with sse(served.port, "/events"):
            await until(lambda: len(hub.outlets) == 1)
            refused = await served.client.get("/events")

    assert refused.status_code == 503
    assert refused.json()["code"] == "too_many_streams"


def number(cursor: str) -> int:
    return int(cursor.partition(":")[2] or 0)


async def parts(served: Served) -> tuple[Callboard, Hub]:
    found = await served.coordinator.served(served.coordinator.settings.namespace)
    return found.cb, found.hub
