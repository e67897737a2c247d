"""A coordinator for each test, in a namespace of its own."""

from __future__ import annotations

from collections.abc import AsyncIterator

import pytest_asyncio

from callboard import connect
from callboard.services.access import Access
from tests.functions.access_support import access_of
from tests.http.support import Served, serving


@pytest_asyncio.fixture
async def served(valkey_url: str, namespace: str) -> AsyncIterator[Served]:
    async with serving(valkey_url, namespace=namespace) as service:
        yield service


@pytest_asyncio.fixture
async def access(valkey_url: str, namespace: str) -> AsyncIterator[Access]:
    """The keys of the test's own namespace."""
    async with connect(valkey_url, namespace=namespace, adopt=True) as cb:
        yield access_of(cb.namespace)
