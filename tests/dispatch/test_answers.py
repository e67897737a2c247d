"""The room that large answers share: who has it, who waits, and that it is given back."""

from __future__ import annotations

import asyncio

import pytest

from callboard import Callboard, TaskSpec
from callboard.dispatch.answers import Place, Room
from callboard.dispatch.client import Client
from callboard.domain.task import Status
from tests.dispatch.agents import Agent, Answer, running
from tests.dispatch.conftest import Start
from tests.dispatch.test_client import OK, asked, says, serving
from tests.dispatch.test_dispatcher import ended, register

LARGE = 100_000


class Told:
    """Counts how often there was room."""

    def __init__(self) -> None:
        self.times = 0

    def __call__(self) -> None:
        self.times += 1


def placed(room: Room, agent: str, size: int = LARGE) -> tuple[Place, Told, bool]:
    place, told = room.place(agent), Told()
    return place, told, place.ask(size, told)


def test_whoever_finds_no_room_waits_until_another_leaves() -> None:
    room = Room(4 * LARGE)
    first = [placed(room, f"a{i}")[0] for i in range(4)]
    late, told, has_room = placed(room, "late")
    assert (has_room, told.times, room.taken) == (False, 0, 4 * LARGE)

    first[0].leave()

    assert (told.times, late.size, room.taken) == (1, LARGE, 4 * LARGE)


def test_one_agent_has_no_more_than_its_share_and_others_pass_it() -> None:
    room = Room(8 * LARGE)
    own = [placed(room, "greedy") for _ in range(4)]

    assert [one[2] for one in own] == [True, True, False, False]
    assert placed(room, "other")[2]
    own[0][0].leave()
    assert [one[0].size for one in own] == [0, LARGE, LARGE, 0]


def test_a_short_answer_does_not_overtake_a_longer_one_without_end() -> None:
    room = Room(4 * LARGE)
    first = [placed(room, f"a{i}")[0] for i in range(4)]
    long, _, _ = placed(room, "long", 2 * LARGE)
    short, _, _ = placed(room, "short")

    first[0].leave()
    assert (long.size, short.size) == (0, 0)
    first[1].leave()
    assert (long.size, short.size) == (2 * LARGE, 0)


def test_an_answer_longer_than_the_room_has_it_alone() -> None:
    room = Room(LARGE)

    assert placed(room, "a", 2 * LARGE)[2]
    assert not placed(room, "b", 1)[2]


def test_what_turned_out_shorter_keeps_no_more_than_it_has() -> None:
    room = Room(4 * LARGE)
    place, _, _ = placed(room, "a")

    place.keep(LARGE - 10)
    assert room.taken == LARGE - 10
    place.keep(1_000)  # so short that it takes none
    assert (room.taken, room._of) == (0, {})


def test_who_leaves_while_it_waits_is_given_nothing() -> None:
    room = Room(LARGE)
    first, _, _ = placed(room, "a")
    gone, told, _ = placed(room, "gone")

    gone.leave()
    first.leave()

    assert (told.times, room.taken) == (0, 0)


@pytest.mark.parametrize("is_chunked", [False, True], ids=["length", "chunked"])
async def test_an_answer_is_not_read_before_there_is_room_for_it(is_chunked: bool) -> None:
    room, client = Room(LARGE), Client()
    taken, _, _ = placed(room, "first")
    wrote = asyncio.Event()

    async def script(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await asked(reader)
        size = 4_000_000
        if is_chunked:
            head, tail = b"transfer-encoding: chunked\r\n\r\n%x\r\n" % size, b"\r\n0\r\n\r\n"
        else:
            head, tail = b"content-length: %d\r\n\r\n" % size, b""
        writer.write(b"HTTP/1.1 200 OK\r\n" + head + b"x" * size + tail)
        await writer.drain()
        wrote.set()
        await asyncio.Event().wait()

    async with serving(script) as server:
        place = room.place("second")
        asking = asyncio.create_task(
            client.request("GET", server.url, place=place, body_bytes=5_000_000, timeout=20)
        )
        async with asyncio.timeout(10):
            while place not in room._waiting:
                await asyncio.sleep(0)
        (connection,) = client._connections
        async with serving(says(OK)) as other:  # in whose time all of it would have been read
            for _ in range(100):
                await client.request("GET", other.url)
        assert connection._exchange is not None
        assert connection._exchange.size < 1_000_000  # what one read brought
        assert not wrote.is_set()
        assert not asking.done()

        taken.leave()

        assert len((await asking).body) == 4_000_000
    await client.aclose()


async def test_results_of_many_agents_are_read_within_the_room(cb: Callboard, start: Start) -> None:
    most = 0
    result = b'{"status":"completed","result":"' + b"x" * 400_000 + b'"}'

    async def behave(_: Agent, __: dict[str, object]) -> Answer:
        return 200, result

    async with running(behave) as agent:
        for i in range(8):
            await register(cb, f"a{i}", agent)
        dispatcher = await start(push_timeout=20)
        room = dispatcher._answers = Room(1_000_000)
        take = room._take

        def noted(agent: str, size: int) -> None:
            nonlocal most
            take(agent, size)
            most = max(most, room.taken)

        room._take = noted  # type: ignore[method-assign]
        specs = [TaskSpec(kind="work")] * 40
        tasks = await ended(cb, *(task.id for task in await cb.tasks.submit_many(specs)))

    assert {task.status for task in tasks} == {Status.DONE}
    assert 400_000 <= most <= 1_000_000
    assert (room.taken, room._of, room._waiting) == (0, {}, {})
