"""One way after another to the same namespace."""

from __future__ import annotations

import os
from collections.abc import AsyncIterator

import pytest
import pytest_asyncio

import callboard
from callboard import Callboard
from tests.http.support import serving
from tests.scenarios.desks import CommandDesk, Desk, LibraryDesk


@pytest.fixture(autouse=True)
def _no_settings(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("CALLBOARD_URL", "CALLBOARD_DATA", "CALLBOARD_API_KEY"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setitem(os.environ, "NO_COLOR", "1")


@pytest_asyncio.fixture(params=["library", "http", "cli"])
async def desk(
    request: pytest.FixtureRequest, valkey_url: str, namespace: str
) -> AsyncIterator[Desk]:
    """The three ways: on the engine, over HTTP, and by commands over HTTP."""
    if request.param == "library":
        async with callboard.connect(valkey_url, namespace=namespace) as cb:
            yield LibraryDesk(cb)
        return
    async with serving(valkey_url, namespace=namespace) as served:
        if request.param == "cli":
            yield CommandDesk(served.url, namespace)
        else:
            async with callboard.connect(served.url, namespace=namespace) as cb:
                yield LibraryDesk(cb)


@pytest_asyncio.fixture(params=["library", "http"])
async def cb(
    request: pytest.FixtureRequest, valkey_url: str, namespace: str
) -> AsyncIterator[Callboard]:
    """A connection to the engine, and one to a coordinator on it."""
    if request.param == "library":
        async with callboard.connect(valkey_url, namespace=namespace) as opened:
            yield opened
        return
    async with (
        serving(valkey_url, namespace=namespace) as served,
        callboard.connect(served.url, namespace=namespace) as opened,
    ):
        yield opened
