"""What the programs of a race are started with, and the test's own view of the board."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterator

import pytest

import callboard
from tests.chaos.processes import Stage
from tests.race.support import PROGRAMS


@pytest.fixture
def stage() -> Iterator[Stage]:
    """Starts programs; whatever is left of them at the end is killed."""
    stage = Stage(PROGRAMS)
    yield stage
    stage.close()


@pytest.fixture
async def cb(valkey_url: str, namespace: str) -> AsyncIterator[callboard.Callboard]:
    """The test's own connection to the namespace that its programs work in."""
    async with callboard.connect(valkey_url, namespace=namespace) as opened:
        yield opened
