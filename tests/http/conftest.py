"""A coordinator for each test, in a namespace of its own."""

from __future__ import annotations

from collections.abc import AsyncIterator

import pytest_asyncio

from tests.http.support import Served, serving


@pytest_asyncio.fixture
async def served(valkey_url: str, namespace: str) -> AsyncIterator[Served]:
    async with serving(valkey_url, namespace=namespace) as service:
        yield service
