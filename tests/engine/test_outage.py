"""What is said of an engine that does not answer: by one voice, and seldom."""

from __future__ import annotations

import asyncio
import logging

import pytest

from callboard.engine.connection import Connection
from callboard.engine.outage import REPEAT_SECONDS, Voice, Witness, voice_of
from callboard.engine.outcomes import Unread
from callboard.exceptions import EngineFull, EngineUnavailable, OutcomeUnknown
from tests.engine.connection_support import Engine, proxy_to
from tests.waiting import until


def said(caplog: pytest.LogCaptureFixture) -> list[str]:
    return [record.getMessage() for record in caplog.records if record.levelno >= logging.INFO]


def test_an_outage_is_said_once_then_each_half_minute_then_its_end(
    caplog: pytest.LogCaptureFixture,
) -> None:
    caplog.set_level(logging.INFO)
    voice, connection = Voice("here"), Witness("The connection")

    voice.lost(connection, "it went", 100.0)
    for second in range(1, 71):
        voice.failed("no route", 100.0 + second)
    voice.answered(connection, 171.5)

    assert said(caplog) == [
        "The engine at here does not answer: it went",
        f"The engine at here has not answered for {REPEAT_SECONDS:.0f} s and 31 tries: no route",
        "The engine at here has not answered for 60 s and 61 tries: no route",
        "The engine at here answers again, after 71.5 s and 71 tries.",
    ]


def test_an_engine_answers_again_when_all_connections_that_were_lost_are_back(
    caplog: pytest.LogCaptureFixture,
) -> None:
    caplog.set_level(logging.INFO)
    voice, one, other, loop = Voice("here"), Witness("a"), Witness("b"), Witness("c")
    voice.lost(one, "it went", 0.0)
    voice.lost(other, "it went", 0.0)

    voice.answered(one, 1.0)
    voice.answered(loop, 1.5)
    assert len(said(caplog)) == 1

    voice.answered(other, 2.0)
    assert said(caplog)[1:] == ["The engine at here answers again, after 2.0 s and 2 tries."]


def test_a_connection_that_is_closed_meanwhile_is_waited_for_no_more(
    caplog: pytest.LogCaptureFixture,
) -> None:
    caplog.set_level(logging.INFO)
    voice, one = Voice("here"), Witness("a")
    voice.lost(one, "it went", 0.0)

    voice.leave(one)
    voice.answered(one, 1.0)

    assert said(caplog) == ["The engine at here does not answer: it went"]


def test_an_outage_that_only_a_loop_saw_ends_with_the_loop(
    caplog: pytest.LogCaptureFixture,
) -> None:
    caplog.set_level(logging.INFO)
    voice, one, other = Voice("here"), Witness("a"), Witness("b")
    voice.failed("no route", 0.0, one)

    voice.leave(one)
    voice.failed("no route", 5.0, other)
    voice.answered(other, 6.0)

    assert said(caplog) == [
        "The engine at here does not answer: no route",
        "The engine at here does not answer: no route",
        "The engine at here answers again, after 1.0 s and 1 tries.",
    ]


def test_an_outage_goes_on_for_those_who_wait_still(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO)
    voice, connection, loop = Voice("here"), Witness("a"), Witness("b")
    voice.lost(connection, "it went", 0.0)
    voice.failed("no route", 1.0, loop)

    voice.leave(connection)
    voice.answered(loop, 5.0)

    assert said(caplog)[1:] == ["The engine at here answers again, after 5.0 s and 2 tries."]


def test_an_outage_that_nobody_saw_the_end_of_lends_the_next_no_length(
    caplog: pytest.LogCaptureFixture,
) -> None:
    caplog.set_level(logging.INFO)
    voice, loop = Voice("here"), Witness("a")
    voice.failed("no route", 0.0, Witness("of a wait that was given up"))

    voice.failed("no route", 7_200.0, loop)
    voice.answered(loop, 7_202.0)

    assert said(caplog)[1:] == [
        "The engine at here does not answer: no route",
        "The engine at here answers again, after 2.0 s and 1 tries.",
    ]


async def test_doorbells_that_nobody_listens_to_wait_for_no_engine() -> None:
    with Engine() as engine:
        async with proxy_to(engine) as proxy, await Connection.open(proxy.url) as connection:
            voice, bells = voice_of(str(connection)), connection._doorbells._outage
            bell = await connection.subscribe("bell")
            await proxy.close()
            await until(lambda: bells in voice._lost)
            bell.close()
            await until(lambda: bells not in voice._lost)


def test_an_engine_that_answers_that_it_cannot_is_no_outage_and_said_once(
    caplog: pytest.LogCaptureFixture,
) -> None:
    caplog.set_level(logging.INFO)
    sweep = Witness("A sweep")

    for _ in range(5):
        sweep.failed(EngineFull("The engine is full."))
    sweep.answered()

    assert said(caplog) == [
        "A sweep waits for the engine (try 1): The engine is full.",
        "A sweep goes on, after 5 tries.",
    ]


async def test_a_killed_engine_is_two_lines_however_many_ask(
    caplog: pytest.LogCaptureFixture,
) -> None:
    caplog.set_level(logging.INFO)
    with Engine() as engine:
        one, other = [await Connection.open(engine.url) for _ in range(2)]
        loops = [Witness(f"Loop {n}") for n in range(20)]
        bell = await one.subscribe("bell")
        engine.kill()
        for loop in loops:
            with pytest.raises((EngineUnavailable, OutcomeUnknown)) as failure:
                await other.call("INCR", "n", timeout=0.02)
            loop.failed(failure.value)
        await asyncio.to_thread(engine.start)
        await until(lambda: one.is_connected and other.is_connected)
        await other.call("INCR", "n")
        for loop in loops:
            loop.answered()
        async with asyncio.timeout(20):
            await bell.get(20)
        await one.close()
        await other.close()

    first, last = said(caplog)
    assert "does not answer: the connection was lost" in first
    assert "answers again, after" in last


async def test_what_only_reads_is_never_said_to_have_changed_something() -> None:
    with Engine() as engine:
        async with proxy_to(engine) as proxy, await Connection.open(proxy.url) as connection:
            proxy.holds_requests = True
            with pytest.raises(Unread, match="GET got no reply .* changes nothing"):
                await connection.call("GET", "n", timeout=0.02)
            with pytest.raises(OutcomeUnknown, match="INCR was sent .* may have run"):
                await connection.call("INCR", "n", timeout=0.02)
