"""Waits that last end where their own connection is closed: to an engine, and over HTTP."""

from __future__ import annotations

import asyncio

import pytest

import callboard
from callboard.app import Callboard
from callboard.exceptions import EngineUnavailable
from callboard.sdk.remote.streams import RemoteBells
from tests.http.support import Served
from tests.waiting import until

PATIENCE = 5.0


async def _request(cb: Callboard, other: Callboard) -> asyncio.Task[object]:
    waiting = asyncio.create_task(cb.messages.request("nobody", 1, timeout=60))
    await until(lambda: other.messages.take("nobody"))
    return waiting


async def _listen(cb: Callboard, other: Callboard) -> asyncio.Task[object]:
    heard = asyncio.Event()

    async def listen() -> None:
        async for _ in cb.messages.listen("mira"):
            heard.set()

    waiting = asyncio.create_task(listen())
    await other.messages.send("mira", 1)
    await asyncio.wait_for(heard.wait(), PATIENCE)
    return waiting


async def _serve(cb: Callboard, other: Callboard) -> asyncio.Task[object]:
    heard = asyncio.Event()

    async def handler(_: object) -> None:
        heard.set()

    waiting = asyncio.create_task(cb.messages.serve("mira", handler, concurrency=2))
    await other.messages.send("mira", 1)
    await asyncio.wait_for(heard.wait(), PATIENCE)
    return waiting


async def _result(cb: Callboard, other: Callboard) -> asyncio.Task[object]:
    handle = await other.tasks.submit("greet")
    waiting = asyncio.create_task(cb.tasks.handle(handle.id).result(timeout=60))
    await until(lambda: cb._ends._waiting and cb._ends._is_following.is_set())
    return waiting


async def _lock(cb: Callboard, other: Callboard) -> asyncio.Task[object]:
    await other.locks.acquire("file:a", owner="first")
    waiting = asyncio.create_task(cb.locks.acquire("file:a", owner="second", wait=60))

    async def is_waiting() -> bool:
        return (await other.locks.get("file:a")).waiting_count == 1

    await until(is_waiting)
    return waiting


async def _follow(cb: Callboard, other: Callboard) -> asyncio.Task[object]:
    heard = asyncio.Event()
    began = await other.events.cursor()

    async def follow() -> None:
        async for _ in cb.events.follow(began):
            heard.set()

    waiting = asyncio.create_task(follow())
    await other.tasks.submit("greet")
    await asyncio.wait_for(heard.wait(), PATIENCE)
    return waiting


WAITS = {
    "request": _request,
    "listen": _listen,
    "serve": _serve,
    "result": _result,
    "lock": _lock,
    "follow": _follow,
}


@pytest.mark.parametrize("wait", WAITS)
@pytest.mark.parametrize("way", ["engine", "http"])
async def test_a_wait_ends_where_its_connection_is_closed(
    served: Served, valkey_url: str, namespace: str, way: str, wait: str
) -> None:
    url = valkey_url if way == "engine" else served.url
    async with callboard.connect(valkey_url, namespace=namespace) as other:
        cb = await callboard.connect(url, namespace=namespace).open()
        waiting = await WAITS[wait](cb, other)

        await cb.close()

        with pytest.raises(EngineUnavailable, match="closed"):
            await asyncio.wait_for(waiting, PATIENCE)


@pytest.mark.parametrize("way", ["engine", "http"])
async def test_a_wait_for_a_lock_that_is_closed_leaves_its_place_in_line(
    served: Served, valkey_url: str, namespace: str, way: str
) -> None:
    url = valkey_url if way == "engine" else served.url
    async with callboard.connect(valkey_url, namespace=namespace) as other:
        cb = await callboard.connect(url, namespace=namespace).open()
        waiting = await _lock(cb, other)

        await cb.close()

        assert (await other.locks.get("file:a")).waiting_count == 0
        assert isinstance(waiting.exception(), EngineUnavailable)


@pytest.mark.parametrize("way", ["engine", "http"])
async def test_a_wait_for_a_lock_that_hears_no_bell_yet_ends_all_the_same(
    served: Served, valkey_url: str, namespace: str, way: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    url = valkey_url if way == "engine" else served.url
    async with callboard.connect(valkey_url, namespace=namespace) as other:
        cb = await callboard.connect(url, namespace=namespace).open()
        monkeypatch.setattr(cb.namespace.bells, "listen", never)
        waiting = await _lock(cb, other)

        await cb.close()

        with pytest.raises(EngineUnavailable, match="closed"):
            await asyncio.wait_for(waiting, PATIENCE)
        assert (await other.locks.get("file:a")).waiting_count == 0


async def never(*_: object) -> None:
    await asyncio.Event().wait()


async def test_who_is_about_to_hear_bells_over_http_is_told_that_they_are_closed(
    served: Served, namespace: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    cb = await callboard.connect(served.url, namespace=namespace, call_timeout=60).open()
    monkeypatch.setattr(RemoteBells, "_keep", never)
    bells = cb.namespace.bells
    assert isinstance(bells, RemoteBells)
    listening = asyncio.create_task(bells.listen(bells.events()))
    await until(lambda: bells._keepers)

    await cb.close()

    with pytest.raises(EngineUnavailable, match="closed"):
        await asyncio.wait_for(listening, PATIENCE)
    with pytest.raises(EngineUnavailable, match="closed"):
        await asyncio.wait_for(bells.listen(bells.events()), PATIENCE)
