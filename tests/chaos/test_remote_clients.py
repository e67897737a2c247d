"""Clients of coordinators that come and go, in processes of their own."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import suppress
from pathlib import Path

import pytest

import callboard
from callboard import Event, Worker
from callboard.exceptions import (
    ConfigError,
    EngineUnavailable,
    NotAuthenticated,
    NotPermitted,
)
from tests.engine.connection_support import Engine
from tests.http.nodes import Node, engine_of
from tests.http.test_serve import make_certificate
from tests.scenarios.desks import closing
from tests.waiting import until

SECONDS = 60.0
AWAY_SECONDS = 3.0


@pytest.fixture(autouse=True)
async def _in_time() -> AsyncIterator[None]:
    async with asyncio.timeout(SECONDS):
        yield


async def _node(*arguments: str, port: int = 0, **env: str) -> Node:
    return await asyncio.to_thread(lambda: Node(*arguments, port=port, env=env))


def _port_of(node: Node) -> int:
    return int(node.url.rpartition(":")[2])


async def test_a_killed_coordinator_is_replaced_by_the_next_and_nothing_is_lost(
    valkey_url: str, namespace: str
) -> None:
    where = engine_of(valkey_url, namespace)
    first, second = await asyncio.gather(_node(*where), _node(*where))
    with first, second:
        async with callboard.connect(f"{first.url},{second.url}") as cb:
            added: list[str] = []

            async def submit(n: int) -> None:
                added.append((await cb.tasks.submit("greet", n, id=f"t-{n:04}")).id)
                if n == 100:
                    first.process.kill()

            for start in range(0, 400, 20):
                await asyncio.gather(*(submit(n) for n in range(start, start + 20)))

            found = await cb.tasks.get_many(added)
            assert len(added) == 400
            assert all(task is not None for task in found)
            assert first.process.wait(10) == -9


async def test_a_worker_goes_on_through_the_next_coordinator(
    valkey_url: str, namespace: str
) -> None:
    where = engine_of(valkey_url, namespace)
    first, second = await asyncio.gather(_node(*where), _node(*where))
    runs: dict[str, int] = {}
    with first, second:
        worker = Worker(agent="mira", concurrency=4)

        @worker.handles("count")
        async def count(payload: str) -> str:
            runs[payload] = runs.get(payload, 0) + 1
            await asyncio.sleep(0.01)
            return payload

        async with callboard.connect(f"{first.url},{second.url}") as cb:
            running = asyncio.create_task(worker.run(cb, handle_signals=False))
            handles = [await cb.tasks.submit("count", f"{n}", id=f"t{n}") for n in range(60)]
            await handles[10].result(timeout=20)
            first.process.kill()
            results = [await handle.result(timeout=30) for handle in handles]
            worker.stop()
            await running

    assert results == [f"{n}" for n in range(60)]
    assert set(runs) == {f"{n}" for n in range(60)}


async def test_who_waits_for_a_lock_keeps_its_place_when_its_coordinator_dies(
    valkey_url: str, namespace: str
) -> None:
    where = engine_of(valkey_url, namespace)
    first, second = await asyncio.gather(_node(*where), _node(*where))
    with first, second:
        async with (
            callboard.connect(valkey_url, namespace=namespace) as direct,
            callboard.connect(f"{first.url},{second.url}") as cb,
        ):
            held = await direct.locks.acquire("r", owner="zero")
            waiting = asyncio.create_task(cb.locks.acquire("r", owner="one", wait=30))
            await _until_in_line(direct, 1)
            behind = asyncio.create_task(direct.locks.acquire("r", owner="two", wait=30))
            await _until_in_line(direct, 2)

            first.process.kill()
            await direct.locks.release(held)
            lock = await waiting

            assert lock.owner == "one"
            assert not behind.done()
            await cb.locks.release(lock)
            assert (await behind).fence > lock.fence


async def _until_in_line(direct: callboard.Callboard, count: int) -> None:
    async def is_in_line() -> bool:
        return len(await direct.locks.waits()) >= count

    await until(is_in_line)


async def test_events_go_on_where_they_were_after_a_coordinator_was_restarted(
    valkey_url: str, namespace: str
) -> None:
    where = engine_of(valkey_url, namespace)
    node = await _node(*where)
    port = _port_of(node)
    seen: list[str] = []
    enough = asyncio.Event()

    async with (
        callboard.connect(valkey_url, namespace=namespace) as direct,
        callboard.connect(node.url, call_timeout=20) as cb,
    ):

        async def follow() -> None:
            async with closing(cb.events.follow(types=["task:*"])) as events:
                async for event in events:
                    assert isinstance(event, Event)
                    seen.extend(fact.id for fact in event.facts)
                    enough.set()
                    if len(seen) == 3:
                        return

        following = asyncio.create_task(follow())
        await _until_heard(direct, enough)
        del seen[:]
        with node:
            await asyncio.to_thread(node.stop)
        await direct.tasks.submit("greet", id="while-away")
        again = await _node(*where, port=port)
        with again:
            await direct.tasks.submit("greet", id="afterwards")
            await direct.tasks.submit("greet", id="last")
            await following

    assert seen == ["while-away", "afterwards", "last"]


async def _until_heard(direct: callboard.Callboard, heard: asyncio.Event) -> None:
    """Make events until the follower follows."""
    n = 0
    while not heard.is_set():
        await direct.tasks.submit("greet", id=f"before-{n}")
        n += 1
        with suppress(TimeoutError):
            await asyncio.wait_for(heard.wait(), 0.2)
    # What is still on its way would be taken for what comes.
    last = f"before-{n}"
    heard.clear()
    await direct.tasks.submit("greet", id=last)
    await heard.wait()


async def test_calls_wait_for_an_engine_that_is_away_and_go_on() -> None:
    with Engine("--appendonly", "yes", "--appendfsync", "always") as engine:
        node = await _node("--url", engine.url)
        with node:
            async with callboard.connect(node.url, call_timeout=20) as cb:
                await cb.tasks.submit("greet", 0, id="before")
                engine.kill()
                loop = asyncio.get_running_loop()
                began = loop.time()
                loop.call_later(AWAY_SECONDS, lambda: engine.start(ready=False))
                calls = [cb.tasks.submit("greet", n, id=f"t{n}") for n in range(20)]
                added = await asyncio.gather(*calls)
                waited = loop.time() - began
                found = await cb.tasks.get_many(["before", *(one.id for one in added)])

    assert waited >= AWAY_SECONDS - 0.5
    assert all(task is not None for task in found)


async def test_a_coordinator_that_is_not_there_is_named_with_the_cure() -> None:
    with pytest.raises(EngineUnavailable, match=r"127\.0\.0\.1:1.*callboard serve"):
        async with callboard.connect("http://127.0.0.1:1", call_timeout=0.5):
            pass


async def test_a_key_opens_what_it_was_made_for(valkey_url: str, namespace: str) -> None:
    where = engine_of(valkey_url, namespace)
    async with callboard.connect(valkey_url, namespace=namespace) as direct:
        work = await direct.access.create(f"g-{namespace}", role="work", namespaces=[namespace])
        try:
            node = await _node(*where, "--require-keys")
            with node:
                async with callboard.connect(node.url) as cb:
                    with pytest.raises(NotAuthenticated):
                        await cb.tasks.submit("greet")
                async with callboard.connect(
                    node.url, namespace=namespace, api_key=work.secret
                ) as cb:
                    handle = await cb.tasks.submit("greet", 1)
                    assert (await handle.task()).status == "pending"
                    with pytest.raises(NotPermitted):
                        await cb.boards.pause("default")
                with pytest.raises(NotPermitted, match="elsewhere"):
                    async with callboard.connect(
                        node.url, namespace="elsewhere", api_key=work.secret
                    ):
                        pytest.fail("it was let in")
        finally:
            await direct.access.revoke(work.key.id)


async def test_over_tls_only_a_certificate_that_is_trusted_is_talked_to(
    valkey_url: str, namespace: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    cert, key = make_certificate(tmp_path, "node")
    where = engine_of(valkey_url, namespace)
    with await _node(*where, "--tls-cert", str(cert), "--tls-key", str(key)) as node:
        url = node.url

        with pytest.raises(EngineUnavailable, match=r"[Cc]ertificate"):
            async with callboard.connect(url, call_timeout=0.5):
                pytest.fail("it was trusted")
        monkeypatch.setenv("SSL_CERT_FILE", str(cert))
        async with callboard.connect(url) as cb:
            handle = await cb.tasks.submit("greet", 1)
            found = await handle.task()

    assert found.status == "pending"


async def test_a_key_or_an_engines_setting_in_the_wrong_place_is_refused(valkey_url: str) -> None:
    with pytest.raises(ConfigError, match="API key"):
        callboard.connect(valkey_url, api_key="cb_x")
    with pytest.raises(ConfigError, match="durable"):
        callboard.connect("http://localhost:9001", durable=True)
    with pytest.raises(ConfigError, match="CALLBOARD_API_KEY"):
        callboard.connect("http://me:secret@localhost:9001")
