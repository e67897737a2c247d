"""A stage for each test that asks for one: a namespace of its own, with two agents."""

from __future__ import annotations

from collections.abc import AsyncIterator

import pytest

from tests.functions.support import MIRA, NOOR, Stage


@pytest.fixture
async def stage(engine_url: str, namespace: str) -> AsyncIterator[Stage]:
    """A namespace with the agents mira and noor, who can do anything."""
    opened = await Stage.open(engine_url, namespace, MIRA, NOOR)
    try:
        yield opened
    finally:
        await opened.close()
