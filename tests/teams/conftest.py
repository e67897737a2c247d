"""A connection for each test of runs, in a namespace of its own."""

from __future__ import annotations

from collections.abc import AsyncIterator

import pytest

import callboard


@pytest.fixture
async def cb(engine_url: str, namespace: str) -> AsyncIterator[callboard.Callboard]:
    """A connection to the test's own namespace."""
    async with callboard.connect(engine_url, namespace=namespace) as opened:
        yield opened
