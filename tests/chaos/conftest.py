"""A stage for the programs of a test, and its own view of the board."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import pytest

import callboard
from tests.chaos.processes import Stage


@pytest.fixture
def stage() -> Iterator[Stage]:
    """Starts programs; whatever is left of them at the end is killed."""
    stage = Stage(Path(__file__).parent / "programs")
    yield stage
    stage.close()


@pytest.fixture
async def cb(engine_url: str, namespace: str) -> AsyncIterator[callboard.Callboard]:
    """The test's own connection to the namespace that its programs work in."""
    async with callboard.connect(engine_url, namespace=namespace) as cb:
        yield cb
