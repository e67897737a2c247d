"""A namespace of its own for each test, and a dispatcher that is quick to look again."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable
from contextlib import AsyncExitStack
from typing import Any

import pytest

import callboard
from callboard import Callboard
from callboard.dispatch import Dispatcher, DispatchSettings

Start = Callable[..., Any]


@pytest.fixture
async def cb(engine_url: str, namespace: str) -> AsyncIterator[Callboard]:
    async with callboard.connect(engine_url, namespace=namespace) as opened:
        janitor = opened.janitor(interval=0.05)
        janitor.start()
        try:
            yield opened
        finally:
            await janitor.stop()


@pytest.fixture
async def start(cb: Callboard) -> AsyncIterator[Start]:
    """Start a dispatcher with these settings; it is stopped as the test ends."""
    async with AsyncExitStack() as stack:

        async def begin(**settings: Any) -> Dispatcher:
            quick = {"delay": 0.05, "delay_most": 0.1, "rest": 0.05, "rest_most": 0.2, "poll": 0.2}
            dispatcher = Dispatcher(cb, DispatchSettings(**{**quick, **settings}))
            return await stack.enter_async_context(dispatcher)

        yield begin
