"""What calls are told when the engine or the way to it fails: run, not run, or nobody knows."""

from __future__ import annotations

import asyncio
import os
import threading
from collections.abc import Iterator
from typing import Any

import pytest
import redis

from callboard.engine.connection import Connection, LinkCall
from callboard.exceptions import CallboardError, EngineUnavailable, OutcomeUnknown
from tests.engine.connection_support import DEADLINE, Engine, free_port, proxy_to
from tests.waiting import until


@pytest.fixture
def engine() -> Iterator[Engine]:
    with Engine() as engine:
        yield engine


async def test_call_whose_reply_was_lost_ran_once_and_is_unknown(engine: Engine) -> None:
    async with proxy_to(engine) as proxy, await Connection.open(proxy.url) as connection:
        proxy.loses_replies = True

        with pytest.raises(OutcomeUnknown, match="INCR was sent"):
            await connection.call("INCR", "n")

        assert await connection.call("GET", "n") == b"1"
        assert connection.epoch == 2


async def test_every_call_of_a_lost_batch_is_unknown_and_none_runs_twice(engine: Engine) -> None:
    async with proxy_to(engine) as proxy, await Connection.open(proxy.url) as connection:
        proxy.loses_replies = True

        outcomes = await asyncio.gather(
            *(connection.call("INCR", f"n{n}") for n in range(100)), return_exceptions=True
        )

        assert {type(outcome) for outcome in outcomes} == {OutcomeUnknown}
        assert await connection.call("MGET", *(f"n{n}" for n in range(100))) == [b"1"] * 100


async def test_calls_never_written_are_sent_over_the_next_connection(engine: Engine) -> None:
    async with proxy_to(engine) as proxy:
        connection = await Connection.open(proxy.url, max_in_flight_bytes=300)
        proxy.holds_requests = True
        calls = [connection.call("RPUSH", "order", f"{n:070}") for n in range(20)]
        await until(lambda: b"0001" in proxy.requests)

        proxy.holds_requests = False
        proxy.cut()
        outcomes = await asyncio.gather(*calls, return_exceptions=True)

        lost = [outcome for outcome in outcomes if isinstance(outcome, OutcomeUnknown)]
        assert 1 <= len(lost) <= 3
        # The rest was run once each, in order.
        assert outcomes[len(lost) :] == list(range(1, 21 - len(lost)))
        assert engine.admin.lrange("order", 0, -1) == [b"%070d" % n for n in range(len(lost), 20)]
        await connection.close()


async def test_killed_engine_comes_back_without_help(engine: Engine) -> None:
    async with await Connection.open(engine.url) as connection:
        await connection.call("PING")
        engine.kill()
        await until(lambda: not connection.is_connected)
        waiting = [connection.call("INCR", "n") for _ in range(10)]

        await asyncio.to_thread(engine.start)

        assert [await call for call in waiting] == list(range(1, 11))
        assert connection.is_connected
        assert connection.epoch == 2


async def test_call_without_connection_in_time_was_not_run(engine: Engine) -> None:
    async with await Connection.open(engine.url) as connection:
        engine.kill()
        await until(lambda: not connection.is_connected)

        with pytest.raises(EngineUnavailable, match="INCR was not run") as caught:
            await connection.call("INCR", "n", timeout=0.1)
        assert caught.value.code == "engine_unavailable"

        await asyncio.to_thread(engine.start)
        assert await connection.call("INCR", "n") == 1


async def test_calls_that_nobody_waits_for_are_not_kept_without_connection(
    engine: Engine,
) -> None:
    async with await Connection.open(engine.url) as connection:
        engine.kill()
        await until(lambda: not connection.is_connected)
        outcomes = await asyncio.gather(
            *(connection.call("INCR", "n", timeout=0.01) for _ in range(100)),
            return_exceptions=True,
        )

        assert {type(outcome) for outcome in outcomes} == {EngineUnavailable}
        await until(lambda: len(connection._queue) == 0)


async def test_stalled_engine_is_dropped_and_its_calls_are_unknown(engine: Engine) -> None:
    async with await Connection.open(engine.url, stall_timeout=0.3) as connection:
        engine.freeze()

        with pytest.raises(OutcomeUnknown, match="sent nothing"):
            await connection.call("INCR", "n")
        after = connection.call("ECHO", "after")
        engine.thaw()

        assert await after == b"after"
        assert connection.epoch == 2
        assert await connection.call("GET", "n") in (b"1", None)


async def test_idle_connection_is_not_taken_for_stalled(engine: Engine) -> None:
    async with (
        await Connection.open(engine.url, stall_timeout=0.05) as idle,
        await Connection.open(engine.url, stall_timeout=0.05) as busy,
    ):
        # As long as ten stall timeouts, spent with calls that take time but are answered.
        begun_at = asyncio.get_running_loop().time()
        while asyncio.get_running_loop().time() < begun_at + 0.5:
            await asyncio.gather(*(busy.call("ECHO", "x") for _ in range(10)))

        assert await idle.call("PING") == b"PONG"
        assert (idle.epoch, busy.epoch) == (1, 1)


async def test_slow_big_reply_is_not_taken_for_a_stall(engine: Engine) -> None:
    engine.admin.set("big", b"x" * 20_000)
    async with proxy_to(engine) as proxy:
        connection = await Connection.open(proxy.url, stall_timeout=0.1)
        proxy.chops = True

        assert await connection.call("GET", "big") == b"x" * 20_000
        assert connection.epoch == 1
        await connection.close()


async def test_replies_in_pieces_are_put_together(engine: Engine) -> None:
    async with proxy_to(engine) as proxy:
        proxy.chops = True
        async with await Connection.open(proxy.url) as connection:
            calls = [connection.call("ECHO", f"text {n}\r\n") for n in range(100)]

            assert [await call for call in calls] == [b"text %d\r\n" % n for n in range(100)]


# Answers that mean "not run"


async def test_calls_wait_until_the_engine_has_loaded(engine: Engine) -> None:
    with engine.admin.pipeline() as pipeline:
        for number in range(500):
            pipeline.set(f"k{number}", os.urandom(1024))
        pipeline.execute()
    engine.admin.save()
    engine.kill()
    # 20 ms a key, and after each a look at what clients say.
    slowly = ("--key-load-delay", "20000", "--loading-process-events-interval-bytes", "1024")
    engine.start(*slowly, ready=False)

    async with await Connection.open(engine.url) as connection:
        with pytest.raises(EngineUnavailable, match="LOADING|loading"):
            await connection.call("STRLEN", "k0", timeout=0.3)

        waiting = [connection.call("STRLEN", f"k{n}") for n in range(500)]
        engine.admin.config_set("key-load-delay", 0)

        assert await asyncio.gather(*waiting) == [1024] * 500
        assert connection.epoch == 1


async def test_calls_wait_while_a_script_blocks_the_engine(engine: Engine) -> None:
    engine.admin.config_set("busy-reply-threshold", 1)
    with redis.Redis(unix_socket_path=str(engine.socket), socket_timeout=DEADLINE) as hog:

        def run_for_ever() -> None:
            with pytest.raises(redis.ResponseError):
                hog.eval("while true do end", 0)

        thread = threading.Thread(target=run_for_ever)
        thread.start()
        await until(lambda: _is_busy(engine))
        async with await Connection.open(engine.url) as connection:
            with pytest.raises(EngineUnavailable, match="BUSY"):
                await connection.call("INCR", "n", timeout=0.5)
            waiting = [connection.call("INCR", "n") for _ in range(10)]
            engine.admin.script_kill()

            assert [await call for call in waiting] == list(range(1, 11))
        thread.join()


def _is_busy(engine: Engine) -> bool:
    try:
        engine.admin.ping()
    except redis.ResponseError:
        return True
    return False


async def test_replica_is_told_apart_from_a_primary(engine: Engine) -> None:
    async with await Connection.open(engine.url) as connection:
        engine.admin.replicaof("127.0.0.1", str(free_port()))

        with pytest.raises(EngineUnavailable, match="use the URL of the primary"):
            await connection.call("SET", "k", "v")

        # The address was looked up once more before giving up.
        assert connection.epoch == 2
        engine.admin.replicaof("NO", "ONE")
        assert await connection.call("SET", "k", "v") == b"OK"


async def test_refused_calls_are_not_run_though_others_wait_for_replies(engine: Engine) -> None:
    async with proxy_to(engine) as proxy, await Connection.open(proxy.url) as connection:
        engine.admin.replicaof("127.0.0.1", str(free_port()))
        proxy.chops = True

        outcomes = await asyncio.gather(
            *(connection.call("SET", f"k{n}", "v") for n in range(50)), return_exceptions=True
        )

        assert {type(outcome) for outcome in outcomes} == {EngineUnavailable}


# Coming back


async def test_callbacks_run_on_the_new_link_before_waiting_calls(engine: Engine) -> None:
    async with await Connection.open(engine.url) as connection:
        epochs: list[int] = []

        async def reload(call: LinkCall) -> None:
            epochs.append(connection.epoch)
            await call("RPUSH", "order", "callback")

        connection.on_reconnect.append(reload)
        engine.kill()
        await until(lambda: not connection.is_connected)
        waiting = connection.call("RPUSH", "order", "call")
        await asyncio.to_thread(engine.start)
        await waiting

        assert epochs == [1]
        assert await connection.call("LRANGE", "order", 0, -1) == [b"callback", b"call"]


async def test_call_that_a_callback_does_not_wait_for_is_run(engine: Engine) -> None:
    async with proxy_to(engine) as proxy, await Connection.open(proxy.url) as connection:
        begun: list[Any] = []

        async def begin(call: LinkCall) -> None:
            begun.append(call("INCR", "n"))

        connection.on_reconnect.append(begin)
        proxy.cut()
        await until(lambda: begun)

        assert await begun[0] == 1
        assert await connection.call("GET", "n") == b"1"


async def test_failing_callback_keeps_calls_waiting_and_is_run_again(engine: Engine) -> None:
    async with await Connection.open(engine.url) as connection:
        runs = 0

        async def check(call: LinkCall) -> None:
            nonlocal runs
            runs += 1
            if runs < 3:
                raise CallboardError("Not yet.")

        connection.on_reconnect.append(check)
        engine.kill()
        await until(lambda: not connection.is_connected)
        await asyncio.to_thread(engine.start)

        assert await connection.call("PING") == b"PONG"
        assert runs == 3
        assert connection.epoch == 2
        await until(lambda: len(engine.clients("callboard")) == 1)


async def test_link_lost_during_a_callback_is_replaced(engine: Engine) -> None:
    async with proxy_to(engine) as proxy, await Connection.open(proxy.url) as connection:
        outcomes: list[Any] = []

        async def reload(call: LinkCall) -> None:
            proxy.loses_replies = not outcomes
            try:
                outcomes.append(await call("INCR", "n"))
            except OutcomeUnknown as error:
                outcomes.append(type(error))
                raise

        connection.on_reconnect.append(reload)
        proxy.cut()
        await until(lambda: outcomes)

        assert await connection.call("GET", "n") == b"2"
        assert outcomes == [OutcomeUnknown, 2]


async def test_before_connect_runs_before_each_attempt(engine: Engine) -> None:
    starts = 0

    async def restart() -> None:
        nonlocal starts
        starts += 1
        if engine.process is None or engine.process.poll() is not None:
            await asyncio.to_thread(engine.start)

    async with await Connection.open(engine.url, before_connect=restart) as connection:
        engine.kill()

        await until(lambda: connection.epoch == 2)
        assert await connection.call("PING") == b"PONG"
    assert starts == 2


async def test_link_that_fails_again_and_again_is_not_dialled_in_a_tight_loop(
    engine: Engine,
) -> None:
    async with proxy_to(engine) as proxy, await Connection.open(proxy.url) as connection:
        dials: list[float] = []

        async def cut(call: LinkCall) -> None:
            dials.append(asyncio.get_running_loop().time())
            proxy.cut()
            await call("PING")

        connection.on_reconnect.append(cut)
        proxy.cut()
        await until(lambda: dials)
        with pytest.raises(EngineUnavailable):
            await connection.call("PING", timeout=0.5)

        # A tight loop would make hundreds of attempts.
        assert 2 <= len(dials) <= 40
        connection.on_reconnect.clear()
        assert await connection.call("PING") == b"PONG"
