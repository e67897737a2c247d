"""Processes that share a port tell each other what they counted: no request twice, none lost."""

from __future__ import annotations

import asyncio
import tempfile
import time
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack
from pathlib import Path

import pytest

from callboard.http.observing import Requests
from callboard.http.siblings import ANSWER_SECONDS, Siblings, bury


class Process:
    """What one process of several has of this."""

    def __init__(self, folder: Path, name: str) -> None:
        self.folder, self.name = folder, name
        self.requests = Requests()
        self.siblings = Siblings(folder, name, self.requests, lambda: f'"{name}"'.encode())

    def serve(self, number: int) -> None:
        for _ in range(number):
            self.requests.record("GET", "/tasks", 200, 0.002, 10)

    async def totals(self) -> int:
        """The requests of all processes, as this one would tell them."""
        found = (await self.siblings.together()).requests
        (series,) = found.series.values()
        assert found.total == sum(series.buckets) == series.statuses["2xx"] == series.sent / 10
        return found.total

    async def states(self) -> list[bytes]:
        return [bytes(state) for state in (await self.siblings.together()).states]

    async def die(self) -> None:
        """As a process that is killed: nothing is told or removed any more."""
        server, self.siblings._server = self.siblings._server, None
        assert server is not None
        server.close()


@pytest.fixture
async def processes() -> AsyncIterator[list[Process]]:
    # A socket's path has about 100 characters, fewer than pytest's own folders may take.
    async with AsyncExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="cb-meet-")))
        found = [Process(folder, name) for name in "abc"]
        for number, process in enumerate(found):
            process.serve(10**number)
            await process.siblings.start()
            stack.callback(process.siblings.stop)
        yield found


async def test_each_answers_for_all_and_itself_first(processes: list[Process]) -> None:
    a, b, c = processes

    assert [await one.totals() for one in processes] == [111] * 3
    b.serve(5)
    assert await c.totals() == 116
    assert (await a.states())[0] == b'"a"'
    assert set(await a.states()) == {b'"a"', b'"b"', b'"c"'}


async def test_what_was_told_of_one_that_was_killed_is_counted_before_and_after_it_is_buried(
    processes: list[Process],
) -> None:
    a, b, c = processes
    await a.totals()
    c.serve(7)  # and never asked: these go with it
    await c.die()
    dead = await a.totals()
    bury(a.folder, "c")
    buried = [await one.totals() for one in (a, b)]
    again = Process(a.folder, "d")
    again.serve(1_000)
    await again.siblings.start()
    later = await b.totals()
    await again.die()
    bury(a.folder, "d")

    assert dead == 111
    assert buried == [111, 111]
    assert later == 1_111
    assert await a.totals() == 1_111
    assert set(await a.states()) == {b'"a"', b'"b"'}


async def test_one_that_is_buried_while_another_reads_is_counted_once(
    processes: list[Process],
) -> None:
    a, _, c = processes
    await a.totals()
    await c.die()
    left = (a.folder / "c.counts").read_bytes()
    bury(a.folder, "c")
    (a.folder / "c.counts").write_bytes(left)  # as a reader had it a moment before

    assert await a.totals() == 111


async def test_one_that_ends_in_order_leaves_all_that_it_counted(processes: list[Process]) -> None:
    a, b, _ = processes
    b.serve(5)
    b.siblings.stop()

    assert await a.totals() == 116
    bury(a.folder, "b")
    assert await a.totals() == 116


async def test_one_that_hangs_holds_nobody_up_and_what_it_told_still_counts(
    processes: list[Process],
) -> None:
    a, b, _ = processes
    await a.totals()
    await b.die()
    (a.folder / "b.sock").unlink(missing_ok=True)
    released = asyncio.Event()

    async def hang(_: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await released.wait()
        writer.close()

    server = await asyncio.start_unix_server(hang, str(a.folder / "b.sock"))
    async with server:
        began = time.monotonic()
        found = await a.totals()
        took = time.monotonic() - began
        released.set()

    assert found == 111
    assert ANSWER_SECONDS * 0.9 <= took < ANSWER_SECONDS * 10


async def test_a_file_that_is_none_of_ours_is_passed_over(processes: list[Process]) -> None:
    a, _, _ = processes
    for name in ("gone.counts", "x.counts", "y.counts"):
        (a.folder / name).write_bytes(b"[1" if name != "y.counts" else b"\xff")
    (a.folder / "z.sock").write_bytes(b"")

    assert await a.totals() == 111
