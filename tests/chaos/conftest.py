"""A stage for the programs of a test, and its own view of the board."""

from __future__ import annotations

import os
import signal
from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import pytest

import callboard
from callboard.engine.embedded import engine_status
from tests.chaos.processes import Stage
from tests.engine.connection_support import Engine


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


@pytest.fixture
def engine() -> Iterator[Engine]:
    """An engine of the test's own, with a log that goes to disk each second, to be ill-treated."""
    with Engine("--appendonly", "yes", "--appendfsync", "everysec") as engine:
        yield engine


@pytest.fixture
async def board(engine: Engine) -> AsyncIterator[callboard.Callboard]:
    """The test's own connection to that engine, past the coordinators."""
    async with callboard.connect(engine.url) as board:
        yield board


@pytest.fixture
async def data(tmp_path: Path) -> AsyncIterator[Path]:
    """A data directory, whose engine is stopped at the end whatever became of its users."""
    folder = tmp_path / "data"
    yield folder
    status = engine_status(folder)
    if status.pid is not None:
        os.kill(status.pid, signal.SIGKILL)
