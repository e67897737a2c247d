"""One socket carries the calls of all coroutines, and each gets its own reply."""

from __future__ import annotations

import asyncio
import gc
from collections.abc import AsyncIterator, Callable, Iterator

import pytest
from redis.exceptions import NoScriptError, OutOfMemoryError, ResponseError

from callboard.engine.connection import Connection
from callboard.exceptions import ConfigError, EngineUnavailable, OutcomeUnknown
from tests.engine.connection_support import (
    DEADLINE,
    Engine,
    free_port,
    proxy_to,
    redis_binary,
    valkey_binary,
)
from tests.waiting import until


@pytest.fixture(scope="module")
def engine() -> Iterator[Engine]:
    with Engine() as engine:
        yield engine


@pytest.fixture
async def connection(engine: Engine) -> AsyncIterator[Connection]:
    engine.admin.flushall()
    async with await Connection.open(engine.url) as connection:
        yield connection


async def test_reply_is_raw(connection: Connection) -> None:
    assert await connection.call("SET", "k", b"\x00\xff") == b"OK"
    assert await connection.call(b"GET", b"k") == b"\x00\xff"
    assert await connection.call("INCRBY", "n", 41) == 41
    assert await connection.call("GET", "missing") is None
    assert await connection.call("RPUSH", "l", "a", 1.5) == 2
    assert await connection.call("LRANGE", "l", 0, -1) == [b"a", b"1.5"]


async def test_each_of_many_coroutines_gets_its_own_reply(connection: Connection) -> None:
    async def echo(number: int) -> None:
        for turn in range(20):
            text = f"{number}-{turn}"
            assert await connection.call("ECHO", text) == text.encode()

    await asyncio.gather(*(echo(number) for number in range(200)))


async def test_calls_of_one_tick_leave_in_one_write(engine: Engine) -> None:
    async with proxy_to(engine) as proxy, await Connection.open(proxy.url) as connection:
        proxy.requests.clear()
        reads_before = int(engine.admin.info("stats")["total_reads_processed"])

        await asyncio.gather(*(connection.call("ECHO", number) for number in range(100)))

        # One read for the 100 calls, one for each of the two INFO commands.
        reads = int(engine.admin.info("stats")["total_reads_processed"]) - reads_before
        assert reads <= 3


async def test_calls_run_in_the_order_of_their_issue(connection: Connection) -> None:
    calls = [connection.call("INCR", "n") for _ in range(1000)]

    assert [await call for call in calls] == list(range(1, 1001))


async def test_large_values_pass_both_ways(connection: Connection) -> None:
    values = [bytes([number]) * 3_000_000 for number in range(4)]

    await asyncio.gather(*(connection.call("SET", f"k{n}", v) for n, v in enumerate(values)))

    assert await asyncio.gather(*(connection.call("GET", f"k{n}") for n in range(4))) == values


async def test_error_reply_is_raised_and_harms_no_neighbour(connection: Connection) -> None:
    before = connection.call("ECHO", "before")
    wrong = connection.call("HGET", "only-one-argument")
    no_script = connection.call("EVALSHA", "0" * 40, 0)
    no_function = connection.call("FCALL", "nobody_loaded_this", 0)
    after = connection.call("ECHO", "after")

    assert await before == b"before"
    with pytest.raises(ResponseError, match="wrong number of arguments"):
        await wrong
    with pytest.raises(NoScriptError):
        await no_script
    with pytest.raises(ResponseError, match="Function not found"):
        await no_function
    assert await after == b"after"


async def test_full_engine_is_an_error_reply() -> None:
    with Engine("--maxmemory", "1") as full, pytest.raises(OutOfMemoryError):
        async with await Connection.open(full.url) as connection:
            await connection.call("SET", "k", "v")


async def test_unsendable_argument_fails_alone(connection: Connection) -> None:
    wrong = connection.call("ECHO", None)  # type: ignore[arg-type]
    right = connection.call("ECHO", "fine")

    with pytest.raises(TypeError):
        await wrong
    assert await right == b"fine"


async def test_cancelled_calls_leave_the_order_of_replies_intact(connection: Connection) -> None:
    async def cancelled(number: int, turns: int) -> None:
        task = asyncio.ensure_future(connection.call("ECHO", f"lost-{number}"))
        for _ in range(turns):
            await asyncio.sleep(0)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task

    # Some are cancelled before they are written, some after; none may be done already.
    await asyncio.gather(*(cancelled(number, number % 3) for number in range(600)))

    assert [await connection.call("ECHO", n) for n in range(50)] == [
        str(n).encode() for n in range(50)
    ]
    assert connection.epoch == 1


async def test_call_cancelled_before_it_is_written_is_not_sent(connection: Connection) -> None:
    call = connection.call("INCR", "n")
    call.cancel()

    assert await connection.call("GET", "n") is None


async def test_written_call_without_reply_in_time_is_unknown(engine: Engine) -> None:
    async with proxy_to(engine) as proxy, await Connection.open(proxy.url) as connection:
        proxy.holds_requests = True
        slow = connection.call("ECHO", "slow", timeout=0.05)
        patient = connection.call("ECHO", "patient")

        with pytest.raises(OutcomeUnknown, match="no reply came in time"):
            await slow
        proxy.release()

        assert await patient == b"patient"
        assert await connection.call("ECHO", "next") == b"next"
        assert connection.epoch == 1


async def test_each_call_has_its_own_time_limit(engine: Engine) -> None:
    async with proxy_to(engine) as proxy, await Connection.open(proxy.url) as connection:
        proxy.holds_requests = True
        limits = [0.3, 0.1, 0.2]
        ended: list[float] = []

        async def wait(limit: float) -> None:
            with pytest.raises(OutcomeUnknown):
                await connection.call("ECHO", "x", timeout=limit)
            ended.append(limit)

        await asyncio.gather(*(wait(limit) for limit in limits))

        assert ended == [0.1, 0.2, 0.3]


async def test_loop_that_was_blocked_does_not_make_calls_late(connection: Connection) -> None:
    call = connection.call("ECHO", "there", timeout=0.3)
    await asyncio.sleep(0)
    await asyncio.sleep(0)
    blocked_until = asyncio.get_running_loop().time() + 0.6
    while asyncio.get_running_loop().time() < blocked_until:
        pass  # The reply lies in the socket, and nobody can read it.

    assert await call == b"there"


async def test_bytes_in_flight_are_bounded_and_callers_wait_in_line(engine: Engine) -> None:
    engine.admin.flushall()
    async with proxy_to(engine) as proxy:
        connection = await Connection.open(proxy.url, max_in_flight_bytes=1000)
        proxy.requests.clear()
        proxy.holds_requests = True

        calls = [connection.call("RPUSH", "order", f"{n:070}") for n in range(100)]
        await until(lambda: len(proxy.requests) > 800)
        # Time for more to come, if more would.
        await asyncio.gather(*(asyncio.to_thread(engine.admin.ping) for _ in range(10)))

        assert len(proxy.requests) <= 1000
        proxy.release()
        assert [await call for call in calls] == list(range(1, 101))
        assert engine.admin.lrange("order", 0, -1) == [b"%070d" % n for n in range(100)]
        await connection.close()


async def test_command_larger_than_the_bound_passes_alone(engine: Engine) -> None:
    async with await Connection.open(engine.url, max_in_flight_bytes=1000) as connection:
        small = [connection.call("ECHO", n) for n in range(50)]
        large = connection.call("ECHO", "x" * 100_000)
        more = [connection.call("ECHO", n) for n in range(50)]

        assert await large == b"x" * 100_000
        assert await asyncio.gather(*small, *more) == 2 * [str(n).encode() for n in range(50)]


async def test_call_that_found_no_room_in_time_was_not_run(engine: Engine) -> None:
    engine.admin.flushall()
    async with proxy_to(engine) as proxy:
        connection = await Connection.open(proxy.url, max_in_flight_bytes=1000)
        proxy.holds_requests = True
        first = connection.call("SET", "k", "x" * 990)
        second = connection.call("INCR", "n", timeout=0.05)

        with pytest.raises(EngineUnavailable, match="INCR was not run"):
            await second
        proxy.release()
        await first

        assert await connection.call("GET", "n") is None
        await connection.close()


# Opening


async def test_nobody_there_is_told_after_the_connect_timeout() -> None:
    loop = asyncio.get_running_loop()
    begun_at = loop.time()

    with pytest.raises(EngineUnavailable, match="Check that it runs"):
        await Connection.open(f"redis://127.0.0.1:{free_port()}", connect_timeout=0.3)

    assert 0.1 < loop.time() - begun_at < 2


async def test_server_that_never_shakes_hands_is_given_up(engine: Engine) -> None:
    async with proxy_to(engine) as proxy:
        proxy.is_dead = True

        with pytest.raises(EngineUnavailable, match="in time"):
            await Connection.open(proxy.url, connect_timeout=0.2)


async def test_engine_that_starts_late_is_waited_for(engine: Engine) -> None:
    late = Engine()
    opening = asyncio.create_task(Connection.open(late.url, connect_timeout=DEADLINE))
    await asyncio.sleep(0)
    with late:
        connection = await opening

        assert await connection.call("ECHO", "here") == b"here"
        await connection.close()


async def test_wrong_password_is_told_at_once_and_never_shown() -> None:
    with Engine("--requirepass", "s3cret", port=free_port()) as locked:
        for url in (
            f"redis://:wr0ng@127.0.0.1:{locked.port}",
            f"redis://127.0.0.1:{locked.port}",
            f"unix://:wr0ng@{locked.socket}",
        ):
            with pytest.raises(ConfigError, match="refused the login") as caught:
                await Connection.open(url, connect_timeout=DEADLINE * 10)
            assert "wr0ng" not in str(caught.value)

        url = f"redis://default:s3cret@127.0.0.1:{locked.port}/3"
        async with await Connection.open(url) as connection:
            await connection.call("SET", "k", "v")
            assert "s3cret" not in repr(connection)
            assert "s3cret" not in str(connection)
            assert connection.url == url
            assert await connection.call("GET", "k") == b"v"


async def test_database_that_does_not_exist_is_a_config_error(engine: Engine) -> None:
    with pytest.raises(ConfigError, match="out of range"):
        await Connection.open(f"{engine.url}?db=99")


async def test_before_connect_runs_before_the_first_attempt() -> None:
    engine = Engine()
    starts = 0

    async def start() -> None:
        nonlocal starts
        starts += 1
        engine.start()

    try:
        connection = await Connection.open(engine.url, before_connect=start)
        assert await connection.call("PING") == b"PONG"
        await connection.close()
    finally:
        engine.__exit__()
    assert starts == 1


async def test_connection_shows_its_name_and_state(engine: Engine) -> None:
    connection = await Connection.open(engine.url, name="mira")

    assert len(engine.clients("mira")) == 1
    assert connection.is_connected
    assert not connection.is_cluster
    assert repr(connection) == f"<Connection {engine.url} connected epoch=1>"
    await connection.close()
    assert repr(connection) == f"<Connection {engine.url} closed epoch=1>"
    assert not connection.is_connected


@pytest.mark.parametrize("binary", [valkey_binary, redis_binary])
async def test_connecting_causes_no_errors_on_the_engine(binary: Callable[[], str]) -> None:
    with Engine(binary=binary()) as engine:
        engine.admin.config_resetstat()
        connection = await Connection.open(f"{engine.url}?db=1")

        await connection.call("PING")

        assert engine.admin.info("errorstats") == {}
        await connection.close()


# Closing


async def test_close_waits_for_replies_in_flight(engine: Engine) -> None:
    connection = await Connection.open(engine.url)
    calls = [connection.call("ECHO", n) for n in range(100)]

    await connection.close()

    assert [await call for call in calls] == [str(n).encode() for n in range(100)]
    await until(lambda: engine.clients("callboard") == [])


async def test_calls_after_close_are_refused(engine: Engine) -> None:
    connection = await Connection.open(engine.url)
    await connection.close()
    await connection.close()

    with pytest.raises(EngineUnavailable, match="is closed"):
        await connection.call("PING")
    with pytest.raises(EngineUnavailable, match="is closed"):
        await connection.subscribe("bell")


async def test_close_does_not_wait_for_ever(
    engine: Engine, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("callboard.engine.connection._CLOSE_SECONDS", 0.05)
    async with proxy_to(engine) as proxy:
        connection = await Connection.open(proxy.url, max_in_flight_bytes=100)
        proxy.holds_requests = True
        written = connection.call("ECHO", "x" * 90)
        waiting = connection.call("ECHO", "y")

        await connection.close()

        with pytest.raises(OutcomeUnknown):
            await written
        with pytest.raises(EngineUnavailable):
            await waiting


async def test_close_while_connecting_again_leaves_no_task(engine: Engine) -> None:
    doomed = Engine()
    with doomed:
        connection = await Connection.open(doomed.url)
        subscription = await connection.subscribe("bell")
    await until(lambda: not connection.is_connected)
    waiting = connection.call("PING")

    await connection.close()

    with pytest.raises(EngineUnavailable):
        await waiting
    assert await subscription.get() is None
    assert asyncio.all_tasks() == {asyncio.current_task()}


def test_loop_may_end_without_close(engine: Engine, caplog: pytest.LogCaptureFixture) -> None:
    async def forgetful() -> None:
        connection = await Connection.open(engine.url)
        await connection.subscribe("bell")
        await connection.call("PING")

    asyncio.run(forgetful(), debug=False)
    gc.collect()

    assert [record for record in caplog.records if record.name == "asyncio"] == []
