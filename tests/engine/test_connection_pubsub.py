"""Bells reach whoever listens, and a listener that may have missed one is woken."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Iterator

import pytest
import redis

from callboard.engine.connection import Connection
from callboard.exceptions import EngineUnavailable
from tests.engine.connection_support import DEADLINE, Engine, proxy_to, redis_binary, valkey_binary
from tests.waiting import until


@pytest.fixture(params=["valkey", "redis"], scope="module")
def engine(request: pytest.FixtureRequest) -> Iterator[Engine]:
    binary = valkey_binary() if request.param == "valkey" else redis_binary()
    with Engine(binary=binary) as engine:
        yield engine


@pytest.fixture
async def connection(engine: Engine) -> AsyncIterator[Connection]:
    async with await Connection.open(engine.url) as connection:
        yield connection


def listeners(engine: Engine, channel: str) -> int:
    reply = engine.admin.execute_command("PUBSUB", "SHARDNUMSUB", channel)
    return int(dict(zip(reply[::2], reply[1::2], strict=True))[channel.encode()])


async def test_bell_reaches_everybody_who_listens(connection: Connection) -> None:
    first = await connection.subscribe("bell:a", "bell:b")
    second = await connection.subscribe("bell:b")

    await connection.call("SPUBLISH", "bell:a", "one")
    await connection.call("SPUBLISH", "bell:b", b"\xfftwo")

    assert await first.get(DEADLINE) == ("bell:a", b"one")
    assert await first.get(DEADLINE) == ("bell:b", b"\xfftwo")
    assert await second.get(DEADLINE) == ("bell:b", b"\xfftwo")
    assert await second.get(0.01) is None


async def test_subscribe_returns_once_the_engine_confirmed(
    connection: Connection, engine: Engine
) -> None:
    names = [f"bell:{n}" for n in range(200)]

    await asyncio.gather(*(connection.subscribe(name) for name in names))

    assert [listeners(engine, name) for name in names] == [1] * 200


async def test_subscription_is_iterated_until_it_is_closed(connection: Connection) -> None:
    heard: asyncio.Queue[tuple[str, bytes]] = asyncio.Queue()
    with await connection.subscribe("bell") as subscription:

        async def listen() -> None:
            async for bell in subscription:
                heard.put_nowait(bell)

        listening = asyncio.create_task(listen())
        await connection.call("SPUBLISH", "bell", "1")
        await connection.call("SPUBLISH", "bell", "2")
        assert await heard.get() == ("bell", b"1")
        assert await heard.get() == ("bell", b"2")
    async with asyncio.timeout(DEADLINE):
        await listening


async def test_channel_is_left_with_its_last_listener(
    connection: Connection, engine: Engine
) -> None:
    first = await connection.subscribe("left")
    second = await connection.subscribe("left")

    first.close()
    third = await connection.subscribe("other")
    assert listeners(engine, "left") == 1
    second.close()
    second.close()
    await until(lambda: listeners(engine, "left") == 0)

    fourth = await connection.subscribe("left")
    await connection.call("SPUBLISH", "left", "again")
    assert await fourth.get(DEADLINE) == ("left", b"again")
    assert await second.get(DEADLINE) is None
    assert await third.get(0) is None


async def test_bells_share_one_lazy_connection(engine: Engine) -> None:
    async with await Connection.open(engine.url, name="lazy") as connection:
        assert len(engine.clients("lazy-bells")) == 0
        for n in range(5):
            await connection.subscribe(f"bell:{n}")
        await connection.subscribe_plain("news")
        assert len(engine.clients("lazy-bells")) == 1
    await until(lambda: len(engine.clients("lazy-bells")) == 0)


async def test_plain_channels_and_patterns(connection: Connection) -> None:
    plain = await connection.subscribe_plain("events:errors", patterns=["events:tasks:*"])

    await connection.call("PUBLISH", "events:errors", "e")
    await connection.call("PUBLISH", "events:tasks:completed", "t")
    await connection.call("PUBLISH", "events:else", "x")
    await connection.call("PUBLISH", "events:errors", "last")

    assert await plain.get(DEADLINE) == ("events:errors", b"e")
    assert await plain.get(DEADLINE) == ("events:tasks:completed", b"t")
    assert await plain.get(DEADLINE) == ("events:errors", b"last")


async def test_slow_listener_loses_the_oldest_bells(
    connection: Connection, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("callboard.engine.pubsub._BELLS_MAX", 3)
    slow = await connection.subscribe("bell")
    quick = await connection.subscribe("bell", "end")

    for n in range(10):
        await connection.call("SPUBLISH", "bell", n)
    await until(lambda: slow.dropped == 7)

    assert [await slow.get(DEADLINE) for _ in range(3)] == [
        ("bell", b"7"),
        ("bell", b"8"),
        ("bell", b"9"),
    ]
    assert quick.dropped == 7


async def test_listeners_are_woken_after_a_reconnection(engine: Engine) -> None:
    async with proxy_to(engine) as proxy, await Connection.open(proxy.url) as connection:
        first = await connection.subscribe("bell:a", "bell:b")
        second = await connection.subscribe("bell:a")
        assert await first.get(0) is None

        proxy.cut()

        assert {await first.get(DEADLINE), await first.get(DEADLINE)} == {
            ("bell:a", b""),
            ("bell:b", b""),
        }
        assert await second.get(DEADLINE) == ("bell:a", b"")
        await connection.call("SPUBLISH", "bell:a", "after")
        assert await first.get(DEADLINE) == ("bell:a", b"after")


async def test_half_open_connection_does_not_swallow_bells(engine: Engine) -> None:
    async with proxy_to(engine) as proxy:
        connection = await Connection.open(proxy.url, ping_interval=0.1)
        subscription = await connection.subscribe("bell")

        proxy.is_dead = True
        accepted = proxy.accepted
        await until(lambda: proxy.accepted > accepted)
        proxy.is_dead = False
        # Dials made while it was dead fail only at their time limit: those are cut short.
        proxy.cut()

        assert await subscription.get(DEADLINE) == ("bell", b"")
        await connection.close()


async def test_silent_connection_that_answers_pings_is_kept(engine: Engine) -> None:
    async with proxy_to(engine) as proxy:
        connection = await Connection.open(proxy.url, ping_interval=0.02)
        subscription = await connection.subscribe("bell")

        await until(lambda: proxy.requests.count(b"PING") >= 10)

        assert proxy.accepted == 2
        assert await subscription.get(0) is None
        await connection.close()


async def test_subscribing_without_engine_fails_in_time() -> None:
    with Engine() as engine:
        connection = await Connection.open(engine.url, call_timeout=0.1)
        engine.kill()

        with pytest.raises(EngineUnavailable, match="No pub/sub connection"):
            await connection.subscribe("bell")
        await connection.close()


async def test_subscription_made_while_the_engine_is_away_starts_with_it() -> None:
    with Engine() as engine:
        connection = await Connection.open(engine.url)
        engine.kill()
        await until(lambda: not connection.is_connected)
        subscribing = asyncio.create_task(connection.subscribe("bell"))
        await asyncio.to_thread(engine.start)

        subscription = await subscribing
        await connection.call("SPUBLISH", "bell", "x")
        assert await subscription.get(DEADLINE) == ("bell", b"x")
        await connection.close()


async def test_cancelled_subscribe_leaves_nothing_behind(engine: Engine) -> None:
    async with await Connection.open(engine.url) as connection:
        keeper = await connection.subscribe("other")
        subscribing = asyncio.create_task(connection.subscribe("gone"))
        await asyncio.sleep(0)
        subscribing.cancel()
        with pytest.raises(asyncio.CancelledError):
            await subscribing

        await until(lambda: listeners(engine, "gone") == 0)
        await connection.call("SPUBLISH", "other", "x")
        assert await keeper.get(DEADLINE) == ("other", b"x")


async def test_channel_that_the_user_may_not_hear_is_an_error(engine: Engine) -> None:
    engine.admin.execute_command(
        *("ACL", "SETUSER", "deaf", "on", ">pw", "~*", "+@all", "resetchannels", "&bell:*")
    )
    url = engine.url.replace("unix://", "unix://deaf:pw@")
    async with await Connection.open(url) as connection:
        allowed = await connection.subscribe("bell:mine")

        with pytest.raises(redis.exceptions.NoPermissionError):
            await connection.subscribe("secret")

        await connection.call("SPUBLISH", "bell:mine", "x")
        assert await allowed.get(DEADLINE) == ("bell:mine", b"x")
