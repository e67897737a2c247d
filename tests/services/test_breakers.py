"""Guarded calls: admitted, timed, judged by how they end, and recorded whatever happens."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator
from typing import Any

import msgspec
import pytest

import callboard
import callboard.sync
from callboard import BreakerPolicy, Callboard, Fatal, Retry, testing
from callboard.domain.breaker import Counts, outcome_of
from callboard.exceptions import CircuitOpen, EngineUnavailable, InvalidArgument

API = "external-api"
POLICY = BreakerPolicy(failure_threshold=2, success_threshold=1, half_open_limit=1)


@pytest.fixture
async def cb(engine_url: str, namespace: str) -> AsyncIterator[Callboard]:
    async with callboard.connect(engine_url, namespace=namespace) as opened:
        yield opened


async def failures(cb: Callboard) -> int:
    return (await cb.breakers.get(API)).failures


class Down(Exception):
    """The component is at fault."""


class NotAgain(Exception):
    """The component is not at fault."""

    retryable = False


# Judging


@pytest.mark.parametrize(
    ("error", "counts", "outcome"),
    [
        (None, None, "success"),
        (Down(), None, "failure"),
        (TimeoutError(), None, "failure"),
        (Retry("later"), None, "failure"),
        (Fatal("never"), None, "ignored"),
        (NotAgain(), None, "ignored"),
        (InvalidArgument("wrong"), None, "ignored"),
        (CircuitOpen("another"), None, "ignored"),
        (EngineUnavailable("down"), None, "failure"),
        (msgspec.DecodeError("garbage"), None, "ignored"),
        (asyncio.CancelledError(), None, "ignored"),
        (KeyboardInterrupt(), None, "ignored"),
        (SystemExit(), Exception, "ignored"),
        (Down(), Down, "failure"),
        (Down(), (ValueError, KeyError), "ignored"),
        (KeyError(), (ValueError, KeyError), "failure"),
        (Fatal("never"), Fatal, "failure"),
        (Down(), lambda error: isinstance(error, ValueError), "ignored"),
        (None, lambda error: True, "success"),
    ],
    ids=lambda one: getattr(one, "__name__", None) or type(one).__name__,
)
def test_only_the_components_own_faults_count(
    error: BaseException | None, counts: Counts | None, outcome: str
) -> None:
    assert outcome_of(error, counts) == outcome


# Guards


async def test_a_guard_of_an_open_breaker_runs_nothing(cb: Callboard) -> None:
    await cb.breakers.configure(API)
    await cb.breakers.force(API, "open")
    seen: list[tuple[str, Any]] = []
    cb.observers.add(lambda name, facts: seen.append((name, dict(facts))))

    with pytest.raises(CircuitOpen) as caught:
        async with cb.breakers.guard(API):
            raise AssertionError("it ran")

    assert caught.value.code == "breaker_open"
    assert 59 < caught.value.details["retry_after"] <= 60
    assert [name for name, _ in seen] == ["breaker.rejected"]


async def test_exceptions_go_through_and_are_recorded(cb: Callboard) -> None:
    await cb.breakers.configure(API)

    for error in (Down(), Fatal("x"), Down()):
        with pytest.raises(type(error)):
            async with cb.breakers.guard(API):
                raise error

    assert await failures(cb) == 2
    async with cb.breakers.guard(API) as permit:
        assert not permit.is_probe
    assert await failures(cb) == 0


async def test_a_call_that_takes_too_long_is_cancelled_and_counts(cb: Callboard) -> None:
    await cb.breakers.configure(API)
    cancelled = asyncio.Event()

    async def call() -> None:
        async with cb.breakers.guard(API, timeout=0.01, counts=ValueError):
            try:
                await asyncio.Event().wait()
            finally:
                cancelled.set()

    with pytest.raises(TimeoutError):
        await call()

    assert cancelled.is_set()
    assert await failures(cb) == 1


async def test_a_cancelled_call_frees_its_probe_and_counts_for_nothing(cb: Callboard) -> None:
    await cb.breakers.configure(API, POLICY)
    await cb.breakers.force(API, "half-open")
    entered = asyncio.Event()

    async def call() -> None:
        async with cb.breakers.guard(API):
            entered.set()
            await asyncio.Event().wait()

    task = asyncio.create_task(call())
    await entered.wait()
    assert (await cb.breakers.metrics(API)).half_open_requests == 1
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task

    found = await cb.breakers.get(API)
    assert (found.state, found.probes, found.failures) == ("half-open", 0, 0)


async def test_a_probe_is_renewed_while_its_call_lasts(cb: Callboard) -> None:
    policy = BreakerPolicy(half_open_limit=1, success_threshold=1, permit_lease=0.3)
    await cb.breakers.configure(API, policy)
    await cb.breakers.force(API, "half-open")
    renewed = asyncio.Event()
    renew, times = cb.breakers.renew, 0

    async def counted(*args: Any, **options: Any) -> None:
        nonlocal times
        await renew(*args, **options)
        times += 1
        if times == 6:
            renewed.set()

    cb.breakers.renew = counted  # type: ignore[method-assign]
    async with cb.breakers.guard(API):
        await asyncio.wait_for(renewed.wait(), 30)
        with pytest.raises(CircuitOpen):
            await cb.breakers.admit(API)

    assert (await cb.breakers.get(API)).state == "closed"


async def test_a_guard_is_for_one_call(cb: Callboard) -> None:
    guard = cb.breakers.guard(API)
    async with guard:
        pass

    with pytest.raises(InvalidArgument, match="one call"):
        async with guard:
            pass


@pytest.mark.parametrize("timeout", [0, -1, float("nan"), "1"], ids=repr)
async def test_a_guards_timeout_has_bounds(cb: Callboard, timeout: Any) -> None:
    with pytest.raises(InvalidArgument):
        cb.breakers.guard(API, timeout=timeout)


async def test_a_throwing_predicate_or_observer_breaks_nothing(cb: Callboard) -> None:
    await cb.breakers.configure(API)

    def throws(*_: Any) -> bool:
        raise RuntimeError("not mine")

    def throws_too(name: str, facts: Any) -> None:
        throws()

    cb.observers.add(throws_too)
    with pytest.raises(Down):
        async with cb.breakers.guard(API, counts=throws):
            raise Down

    assert await failures(cb) == 1
    async with cb.breakers.guard(API, counts=throws):
        pass
    assert await failures(cb) == 0


async def test_an_outcome_that_cannot_be_recorded_changes_nothing_for_the_caller(
    cb: Callboard,
) -> None:
    await cb.breakers.configure(API)

    async def lost(*_: Any, **__: Any) -> bool:
        raise EngineUnavailable("gone")

    cb.breakers.record = lost  # type: ignore[method-assign]
    async with cb.breakers.guard(API):
        result = "got"

    assert result == "got"


# The decorator


async def test_a_fallback_answers_for_a_component_that_may_not_be_called(cb: Callboard) -> None:
    async def later(x: int, *, y: int = 0) -> int:
        return -x - y

    @cb.breakers.guarded(API, fallback=later)
    async def ask(x: int, *, y: int = 0) -> int:
        """Ask."""
        return x + y

    @cb.breakers.guarded(API, fallback=lambda x: f"no {x}")
    async def tell(x: int) -> str:
        return f"yes {x}"

    await cb.breakers.configure(API)
    assert (await ask(1, y=2), await tell(1)) == (3, "yes 1")
    await cb.breakers.isolate(API)

    assert (await ask(1, y=2), await tell(1)) == (-3, "no 1")
    assert (ask.__name__, ask.__doc__) == ("ask", "Ask.")


async def test_a_throwing_fallback_goes_to_the_caller_and_counts_for_nothing(
    cb: Callboard,
) -> None:
    await cb.breakers.configure(API, POLICY)
    await cb.breakers.force(API, "half-open")
    entered, leave = asyncio.Event(), asyncio.Event()

    def throws() -> None:
        raise ValueError("from the fallback")

    @cb.breakers.guarded(API, fallback=throws)
    async def ask() -> None:
        entered.set()
        await leave.wait()

    probe = asyncio.create_task(ask())
    await entered.wait()
    for _ in range(5):
        with pytest.raises(ValueError, match="from the fallback"):
            await ask()
    leave.set()
    await probe

    found = await cb.breakers.get(API)
    assert (found.state, found.failures, found.rejected_requests) == ("closed", 0, 5)


async def test_what_the_function_itself_finds_open_is_no_case_for_its_fallback(
    cb: Callboard,
) -> None:
    await cb.breakers.isolate("inner")

    @cb.breakers.guarded("outer", fallback=lambda: "fallback", policy="documented")
    async def ask() -> str:
        async with cb.breakers.guard("inner"):
            return "asked"

    with pytest.raises(CircuitOpen, match="inner"):
        await ask()
    assert (await cb.breakers.get("outer")).failures == 0


async def test_without_a_fallback_the_caller_hears_of_it(cb: Callboard) -> None:
    @cb.breakers.guarded(API)
    async def ask() -> None:
        raise AssertionError("it ran")

    await cb.breakers.isolate(API)

    with pytest.raises(CircuitOpen):
        await ask()


# Without async


async def test_the_same_without_async(engine_url: str, namespace: str) -> None:
    def story() -> list[Any]:
        with callboard.sync.connect(engine_url, namespace=namespace) as cb:
            cb.breakers.configure(API, POLICY)
            told: list[Any] = []

            @cb.breakers.guarded(API, fallback=lambda: "fallback")
            def ask() -> str:
                raise Down

            for _ in range(2):
                with pytest.raises(Down):
                    ask()
            told.append(ask())
            cb.breakers.force(API, "half-open")
            with cb.breakers.guard(API, timeout=60) as permit:
                told.append(permit.is_probe)
            told.append(cb.breakers.get(API).state)
            cb.breakers.force(API, "half-open")
            with cb.breakers.guard(API, timeout=0.001):
                late = time.monotonic() + 0.01
                while time.monotonic() < late:
                    cb.breakers.metrics(API)
            told.append(cb.breakers.get(API).state)
            return told

    assert await asyncio.to_thread(story) == ["fallback", True, "closed", "open"]


# A worker's handlers


async def test_a_handler_that_meets_an_open_breaker_is_deferred_and_spends_no_retry() -> None:
    async with testing.board() as board:
        calls = 0

        async def ask(payload: Any) -> str:
            nonlocal calls
            calls += 1
            async with board.cb.breakers.guard(API):
                return "asked"

        await board.cb.breakers.configure(API)
        await board.cb.breakers.force(API, "open")
        handle = await board.tasks.submit("ask")
        await board.drain({"ask": ask}, with_retries=False)
        task = await handle.task()
        assert (task.status.value, task.failures, calls) == ("scheduled", 0, 1)

        await board.pass_time(61)
        await board.drain({"ask": ask})

        await board.assert_done(handle, result="asked")


async def test_a_worker_defers_it_too(cb: Callboard) -> None:
    worker = callboard.Worker(agent="mira")
    met = asyncio.Event()

    @worker.handles("ask")
    async def ask(payload: Any) -> str:
        if not met.is_set():
            met.set()
            raise CircuitOpen("open", retry_after=0.2)
        return "asked"

    running = asyncio.create_task(worker.run(cb, handle_signals=False))
    handle = await cb.tasks.submit("ask")

    assert await asyncio.wait_for(handle.result(), 30) == "asked"
    task = await handle.task()
    assert (task.failures, task.attempt) == (0, 2)
    worker.stop()
    await running
