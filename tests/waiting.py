"""Waiting for what rings no bell in a test: look again and again, until a deadline."""

from __future__ import annotations

import asyncio
import inspect
import time
from collections.abc import Callable
from typing import Any, Final, TypeVar

T = TypeVar("T")

PATIENCE: Final = 60.0
"""Seconds until a condition counts as never coming true, on a busy machine."""

LOOK_SECONDS: Final = 0.01


async def until(look: Callable[[], Any], what: str = "", seconds: float = PATIENCE) -> Any:
    """What *look* finds, as soon as that is true; AssertionError after *seconds*.

    Args:
        look: A plain or a coroutine function. What it raises goes through.
    """
    try:
        async with asyncio.timeout(seconds) as deadline:
            while True:
                found = look()
                if inspect.isawaitable(found):
                    found = await found
                if found:
                    return found
                await asyncio.sleep(LOOK_SECONDS)
    except TimeoutError:
        if not deadline.expired():
            raise
    raise AssertionError(_never(look, what, seconds))


def block_until(look: Callable[[], T], what: str = "", seconds: float = PATIENCE) -> T:
    """As ``until``, where there is no event loop, or none that has to go on."""
    deadline = time.monotonic() + seconds
    while not (found := look()):
        assert time.monotonic() < deadline, _never(look, what, seconds)
        time.sleep(LOOK_SECONDS)
    return found


def _never(look: object, what: str, seconds: float) -> str:
    return f"Not within {seconds:g} s: {what or getattr(look, '__qualname__', look)}"
