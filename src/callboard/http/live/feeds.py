"""The streams that tell of what happens: all events, a run, a task, an instance's bell."""

from __future__ import annotations

import asyncio
from contextlib import aclosing
from datetime import datetime
from typing import Any, Final

import msgspec

from callboard.domain.event import Cursor, Gap
from callboard.domain.names import check_name
from callboard.domain.task import Task
from callboard.exceptions import EngineError, InvalidArgument
from callboard.http.binding import converted
from callboard.http.live.frames import block, encode
from callboard.http.live.hub import Hub
from callboard.http.live.listeners import as_blocks, as_entries
from callboard.http.live.stream import Stream
from callboard.http.live.wanted import Wanted
from callboard.http.route import Call, Reply
from callboard.services.events import POLL_SECONDS

PAUSE_SECONDS: Final = 0.5
PAGES_MAX: Final = 10
"""Of a thousand events each, in which it is looked whether a reader was told of an end."""

_ENDINGS: Final = frozenset({"task:completed", "task:failed", "task:cancelled"})


class EventsQuery(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Which events, and from where.

    Attributes:
        cursor: Behind this event; ``Last-Event-ID`` goes before. From now on where neither is
            given.
        since: From the first kept event at or after this moment on.
        types: Patterns as ``task:*``, several with commas.
        board, task, agent: About these alone, several with commas.
    """

    cursor: str = ""
    since: datetime | None = None
    types: list[str] = []
    board: list[str] = []
    task: list[str] = []
    agent: list[str] = []


class ResumeQuery(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """From where. ``Last-Event-ID`` goes before *cursor*."""

    cursor: str = ""


class BellQuery(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Whose bell: the agent's process of this name, none for an agent that runs none."""

    instance: str = ""


async def hub_of(call: Call) -> Hub:
    """The hub of the caller's namespace."""
    hub = (await call.coordinator.served(call.namespace, creates=call.creates)).hub
    hub.outlets.heed(call.coordinator.is_stopping)
    return hub


def query_of(call: Call, struct: Any) -> Any:
    """What the query says."""
    return converted(struct, call.query())


def resumed(call: Call, given: str) -> str:
    """Where the caller goes on: ``Last-Event-ID``, else what it gave in the query."""
    return call.header(b"last-event-id") or given


def _check_cursor(call: Call, cursor: str) -> None:
    try:
        Cursor.parse(cursor)
    except InvalidArgument as error:
        is_sent = call.header(b"last-event-id")
        place, field = ("header", "Last-Event-ID") if is_sent else ("query", "cursor")
        raise InvalidArgument(error.message, field=field, place=place) from error


async def events(call: Call) -> Reply | None:
    """Stream the namespace's events."""
    query = query_of(call, EventsQuery)
    wanted = Wanted.of(*map(_parts, (query.types, query.board, query.task, query.agent)))
    cb, hub = await call.board(), await hub_of(call)
    cursor = resumed(call, query.cursor)
    if cursor:
        _check_cursor(call, cursor)
    elif query.since is not None:
        cursor = await cb.events.cursor_at(query.since)
    else:
        cursor = await cb.events.cursor()
    async with hub.listen(wanted, as_blocks, cursor) as listener:

        async def feed(stream: Stream) -> None:
            while True:
                await stream.write(await listener.take())

        stream = Stream(hub.outlets, call.scope, call.receive, call.send)
        stream.cursor = lambda: listener.cursor
        return await stream.run(feed, retry=hub.settings.retry, cursor=cursor)


async def run(call: Call) -> Reply | None:
    """Stream what happens in a run, from its start or behind a cursor, until it has ended."""
    name = call.path["run"]
    after = resumed(call, query_of(call, ResumeQuery).cursor) or None
    cb, hub = await call.board(), await hub_of(call)
    found = await cb.runs.get(name)
    if after and found.phase.is_ended and not await _is_more(cb, name, after):
        return Reply(b"", 204)

    async def feed(stream: Stream) -> None:
        place = after
        stream.cursor = lambda: place or ""
        while True:
            try:
                async with aclosing(cb.runs.events(name, place, follow=True)) as told:  # type: ignore[type-var]
                    async for one in told:
                        await stream.write(_told(one))
                        place = place if isinstance(one, Gap) else one.cursor
                break
            except EngineError:
                await asyncio.sleep(PAUSE_SECONDS)
        ended = await cb.runs.get(name)
        await stream.tell("end", {"run": name, "phase": ended.phase})

    stream = Stream(hub.outlets, call.scope, call.receive, call.send)
    return await stream.run(feed, retry=hub.settings.retry, cursor=after or "")


async def task(call: Call) -> Reply | None:
    """Stream a task: how it stands, then what happens to it, until it has ended."""
    board, task_id = call.path.get("board", "default"), call.path["task_id"]
    after = resumed(call, query_of(call, ResumeQuery).cursor)
    if after:
        _check_cursor(call, after)
    cb, hub = await call.board(), await hub_of(call)
    tasks = cb.board(board).tasks
    now = await cb.events.cursor()
    found = await tasks.get(task_id)
    wanted = Wanted.of(boards=[board], tasks=[task_id])
    if found.status.is_finished and after and not await _is_news(cb, wanted, after):
        return Reply(b"", 204)
    # Of one that has ended nothing but that is told, so that it goes on from here.
    cursor = now if found.status.is_finished else after or now

    async def feed(stream: Stream) -> None:
        nonlocal found
        if found.status.is_finished:
            await stream.write(_standing(found, cursor) + _ended(found))
            return
        await stream.write(_standing(found, cursor))
        while True:
            entries = await listener.take()
            told = as_blocks(entries)
            if any(isinstance(e.event, Gap) or e.event.type in _ENDINGS for e in entries):
                found = await _read(tasks, task_id)
                told += _standing(found, listener.cursor)
            if found.status.is_finished:
                # In one: who has the id of its end and not the word would be told no more.
                await stream.write(told + _ended(found))
                return
            await stream.write(told)

    async with hub.listen(wanted, as_entries, cursor) as listener:
        stream = Stream(hub.outlets, call.scope, call.receive, call.send)
        stream.cursor = lambda: listener.cursor
        return await stream.run(feed, retry=hub.settings.retry, cursor=cursor)


async def bell(call: Call) -> Reply | None:
    """Stream the bell of an agent's process: hints that there is work, or a cancellation."""
    agent = check_agent(call, call.path["agent"])
    instance = query_of(call, BellQuery).instance
    if instance:
        check_name("instance", instance)
    cb, hub = await call.board(), await hub_of(call)
    bells = cb.namespace.bells
    with await bells.listen(bells.agent(agent, instance)) as rung:

        async def feed(stream: Stream) -> None:
            while True:
                heard = await rung.get(POLL_SECONDS)
                if heard is not None:
                    await stream.write(block("bell", heard[1]))

        stream = Stream(hub.outlets, call.scope, call.receive, call.send)
        return await stream.run(feed, retry=hub.settings.retry)


def check_agent(call: Call, agent: str) -> str:
    """The agent's name, where the caller may act for it."""
    check_name("agent", agent)
    if call.caller is not None:
        call.caller.check_agent(agent)
    return agent


async def _is_more(cb: Any, run: str, after: str) -> bool:
    async with aclosing(cb.runs.events(run, after)) as told:
        async for _ in told:
            return True
    return False


async def _is_news(cb: Any, wanted: Wanted, after: str) -> bool:
    """Whether there is an event behind *after* that is wanted, or more than is looked at."""
    for _ in range(PAGES_MAX):
        found, cursor = await cb.events.read(after)
        if any(isinstance(one, Gap) or wanted.facts(one) for one in found):
            return True
        if cursor == after:
            return False
        after = cursor
    return True


async def _read(tasks: Any, task_id: str) -> Task:
    while True:
        try:
            found: Task = await tasks.get(task_id)
            return found
        except EngineError:
            await asyncio.sleep(PAUSE_SECONDS)


def _standing(found: Task, cursor: str) -> bytes:
    return block("task", encode(found), cursor)


def _ended(found: Task) -> bytes:
    return block("end", encode({"task": found.id, "status": found.status}))


def _told(one: Any) -> bytes:
    if isinstance(one, Gap):
        return block("gap", encode(one))
    return block(one.type, encode(one), one.cursor)


def _parts(given: list[str]) -> list[str]:
    return [part for text in given for part in text.split(",")]
