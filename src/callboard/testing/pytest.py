"""The pytest plugin: ``pytest_plugins = ["callboard.testing.pytest"]`` in ``conftest.py``.

It needs a plugin that runs async fixtures: pytest-asyncio, in either mode, or anyio's.
"""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import TYPE_CHECKING

import pytest

from callboard.sdk.testing import ThrowawayBoard, board

if TYPE_CHECKING:
    fixture = pytest.fixture
else:
    try:
        from pytest_asyncio import fixture
    except ImportError:
        fixture = pytest.fixture


@fixture
async def callboard_board() -> AsyncIterator[ThrowawayBoard]:
    """A throw-away board for one test, on an engine that all tests of the process share."""
    async with board() as throwaway:
        yield throwaway
