"""Long polls: a request that is held until there is something to answer.

A bell is only a hint, so that the question is also asked again every few seconds.
"""

from __future__ import annotations

import asyncio
import random
from collections.abc import Awaitable, Callable, Mapping
from contextlib import suppress
from typing import Any, Final

from callboard.exceptions import CallboardError
from callboard.operations import Operation

AGAIN_SECONDS: Final = 4.0
"""How long a bell is waited for before the question is asked again."""

WAITING_SECONDS: Final = 6.0
"""How long a claim has the agent counted as waiting, so that work is kept for it."""

Ask = Callable[[dict[str, Any]], Awaitable[Any]]
"""Asks once, with these arguments besides."""


async def held(
    operation: Operation, cb: Any, service: Any, given: Mapping[str, Any], poll: float, ask: Ask
) -> Any:
    """Ask until there is something to answer, or *poll* seconds are over.

    Whoever goes away meanwhile leaves nothing behind: what was just granted goes back.
    """
    hold = _claims if operation.name == "tasks.claim" else _messages
    return await hold(cb, service, given, poll, ask)


async def _claims(cb: Any, tasks: Any, given: Mapping[str, Any], poll: float, ask: Ask) -> Any:
    channel = cb.namespace.keys.agent_bell(given["agent"], given.get("instance", ""))

    async def give_back(claims: Any) -> None:
        await tasks.release_many([(one.id, one.fence) for one in claims.tasks])

    def is_enough(claims: Any) -> bool:
        return bool(claims.tasks)

    def wait(left: float) -> dict[str, Any]:
        return {"wait": max(given.get("wait", 0.0), min(left, WAITING_SECONDS))}

    try:
        return await _ask_again(cb, channel, poll, ask, is_enough, give_back, wait)
    except asyncio.CancelledError:
        # Nothing is kept for one who went away.
        _run(tasks.accept((), given["agent"], given.get("instance", ""), wants=0))
        raise


async def _messages(cb: Any, messages: Any, given: Mapping[str, Any], poll: float, ask: Ask) -> Any:
    agent = given["agent"]

    async def give_back(taken: Any) -> None:
        await messages.release_ids(agent, [(one.id, one.fence) for one in taken], unharmed=True)

    return await _ask_again(
        cb, cb.namespace.keys.inbox_bell(agent), poll, ask, bool, give_back, lambda _: {}
    )


async def _ask_again(
    cb: Any,
    channel: str,
    poll: float,
    ask: Ask,
    is_enough: Callable[[Any], bool],
    give_back: Callable[[Any], Awaitable[None]],
    besides: Callable[[float], dict[str, Any]],
) -> Any:
    loop = asyncio.get_running_loop()
    until = loop.time() + poll
    bells = await cb.namespace.connection.subscribe(channel)
    try:
        while True:
            left = until - loop.time()
            found = await _asked(ask(besides(max(left, 0.0))), give_back)
            left = until - loop.time()
            if left <= 0 or is_enough(found):
                return found
            await bells.get(min(left, AGAIN_SECONDS * (0.75 + random.random() / 4)))
    finally:
        bells.close()


async def _asked(work: Awaitable[Any], give_back: Callable[[Any], Awaitable[None]]) -> Any:
    """The answer; given back where nobody waits for it any more."""
    asking = asyncio.ensure_future(work)
    try:
        return await asyncio.shield(asking)
    except asyncio.CancelledError:
        if not asking.cancelled():
            asking.add_done_callback(lambda done: _return(done, give_back))
        raise


def _return(done: asyncio.Future[Any], give_back: Callable[[Any], Awaitable[None]]) -> None:
    if done.cancelled() or done.exception() is not None:
        return

    _run(give_back(done.result()))


def _run(work: Awaitable[Any]) -> None:
    """Do it to its end, whoever goes away; where it fails a lease ends it."""

    async def run() -> None:
        with suppress(CallboardError):
            await work

    errand = asyncio.ensure_future(run())
    _errands.add(errand)
    errand.add_done_callback(_errands.discard)


_errands: Final[set[asyncio.Future[None]]] = set()
