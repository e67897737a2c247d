"""The namespaces that one coordinator has open."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from typing import Any

import pytest

import callboard
from callboard.config import EngineChoice
from callboard.exceptions import NamespaceNotFound
from callboard.http.app import Coordinator
from callboard.http.settings import ServeSettings


async def test_beyond_the_bound_the_one_unused_the_longest_is_closed(
    valkey_url: str, namespace: str
) -> None:
    names = [f"{namespace}-{letter}" for letter in "abcd"]
    settings = ServeSettings(namespace=names[0], namespaces_max=3, dispatches=False)
    coordinator = Coordinator(EngineChoice(valkey_url, None, "tests"), settings, adopt=True)
    await coordinator.start()
    try:
        b, c = [await coordinator.board(name) for name in names[1:3]]
        await coordinator.board(names[1])
        await coordinator.board(names[3])
        open_now = {one.cb.namespace.name for one in coordinator.open_now()}
        again = await coordinator.board(names[2])
    finally:
        await coordinator.stop()

    assert open_now == {names[0], names[1], names[3]}
    assert again is not c
    assert not c.is_connected
    assert not b.is_connected


@asynccontextmanager
async def coordinating(url: str, namespace: str, **settings: Any) -> AsyncIterator[Coordinator]:
    chosen = ServeSettings(namespace=namespace, dispatches=False, **settings)
    coordinator = Coordinator(EngineChoice(url, None, "tests"), chosen, adopt=True)
    await coordinator.start()
    try:
        yield coordinator
    finally:
        await coordinator.stop()


def by_hand(url: str, namespace: str) -> AbstractAsyncContextManager[Coordinator]:
    """One that looks for work only in the test's own rounds: two at once share the names."""
    return coordinating(url, namespace, recalls=False)


def names(coordinator: Coordinator) -> set[str]:
    return {one.cb.namespace.name for one in coordinator.open_now()}


async def is_there(url: str, namespace: str, name: str) -> bool:
    async with callboard.connect(url, namespace=namespace) as cb:
        return bool(await cb.namespace.connection.call("EXISTS", f"{{{name}}}:callboard:format"))


async def test_of_namespaces_beyond_the_bound_one_that_has_nothing_to_do_goes_first(
    valkey_url: str, namespace: str
) -> None:
    home, busy, idle, new = (f"{namespace}-{name}" for name in ("home", "busy", "idle", "new"))
    async with coordinating(valkey_url, home, namespaces_max=3, recalls=False) as coordinator:
        await (await coordinator.board(busy)).tasks.submit("greet", delay=3_600)
        await coordinator.board(idle)
        await coordinator.board(new)

        assert names(coordinator) == {home, busy, new}


async def test_one_that_is_asked_for_beyond_the_bound_is_served_though_all_others_have_work(
    valkey_url: str, namespace: str
) -> None:
    home, first, second, new = (f"{namespace}-{name}" for name in ("home", "a", "b", "new"))
    async with coordinating(valkey_url, home, namespaces_max=3, recalls=False) as coordinator:
        for busy in (first, second):
            await (await coordinator.board(busy)).tasks.submit("greet", delay=3_600)
        cb = await coordinator.board(new)
        await cb.tasks.submit("greet")

        assert names(coordinator) == {home, second, new}


async def test_a_namespace_with_work_is_served_after_a_restart_without_being_asked_for(
    valkey_url: str, namespace: str
) -> None:
    busy, again, idle = (f"{namespace}-{name}" for name in ("busy", "again", "idle"))
    async with by_hand(valkey_url, namespace) as coordinator:
        await (await coordinator.board(busy)).tasks.submit("greet", delay=3_600)
        recurring = (await coordinator.board(again)).recurring
        await recurring.create("tick", "greet", every=3_600)
        await coordinator.board(idle)
        await coordinator._recalling.round()

    async with by_hand(valkey_url, namespace) as coordinator:
        await coordinator._recalling.round()
        open_now = names(coordinator)

    async with callboard.connect(valkey_url, namespace=namespace) as cb:
        await cb.access._serve([], [busy, again, idle])
    assert {busy, again} <= open_now
    assert idle not in open_now


async def test_a_namespace_that_was_removed_is_not_made_again(
    valkey_url: str, namespace: str
) -> None:
    gone = f"{namespace}-gone"
    async with by_hand(valkey_url, namespace) as coordinator:
        home = await coordinator.board(namespace)
        await home.access._serve([gone])
        await coordinator._recalling.round()

        assert gone not in await home.access._serve([])
        assert not await is_there(valkey_url, namespace, gone)


async def test_who_only_looks_makes_no_namespace_and_who_writes_does(
    valkey_url: str, namespace: str
) -> None:
    name = f"{namespace}-new"
    async with coordinating(valkey_url, namespace, recalls=False) as coordinator:
        with pytest.raises(NamespaceNotFound):
            await coordinator.board(name, creates=False)
        assert not await is_there(valkey_url, namespace, name)
        looked, written, later = await asyncio.gather(
            coordinator.board(name, creates=False),
            coordinator.board(name),
            coordinator.board(name, creates=False),
            return_exceptions=True,
        )
        found = await coordinator.board(name, creates=False)

    assert isinstance(looked, NamespaceNotFound)
    assert isinstance(later, NamespaceNotFound)
    assert found is written
