"""What all tests share: the engines they run on, and a namespace of their own each."""

from __future__ import annotations

import asyncio
import os
import re
import shutil
import subprocess
import tempfile
import time
import uuid
from collections.abc import Iterator
from pathlib import Path

import pytest
import redis

# Folders whose tests start many processes: one at a time, on whatever number of cores.
HEAVY_FOLDERS = frozenset({"chaos", "model", "race"})


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption(
        "--engine",
        choices=("default", "valkey", "redis", "both"),
        default="default",
        help="run tests on the embedded Valkey, on Redis, or on both;"
        " by default only those marked every_engine run on both",
    )


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    """Give each test that asks for an engine the ones that it shall run on."""
    if "engine_kind" not in metafunc.fixturenames:
        return
    chosen = metafunc.config.getoption("--engine")
    if chosen == "default":
        marked = metafunc.definition.get_closest_marker("every_engine") is not None
        kinds = ["valkey", "redis"] if marked else ["valkey"]
    else:
        kinds = ["valkey", "redis"] if chosen == "both" else [chosen]
    metafunc.parametrize("engine_kind", kinds, scope="session")


def pytest_itemcollected(item: pytest.Item) -> None:
    """Put the heavy tests into one of xdist's processes, beside which the light ones run."""
    if _is_heavy(item):
        item.add_marker(pytest.mark.xdist_group("heavy"))


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Begin with the heavy tests, so that their process does not end long after the other."""
    items.sort(key=lambda item: not _is_heavy(item))


def _is_heavy(item: pytest.Item) -> bool:
    return not HEAVY_FOLDERS.isdisjoint(item.path.parts)


@pytest.fixture(scope="session")
def engine_url(engine_kind: str, request: pytest.FixtureRequest) -> str:
    """URL of the engine under test: the embedded Valkey, or Redis where the test asks for both.

    The engine is shared by the session's tests; `namespace` keeps them apart.
    """
    url: str = request.getfixturevalue(f"{engine_kind}_url")
    return url


@pytest.fixture(scope="session")
def valkey_url() -> Iterator[str]:
    """URL of an embedded Valkey that lives as long as the session; another, where one is named.

    CALLBOARD_TEST_ENGINE is for runs on an engine that is set up in a way of its own.
    """
    if named := os.environ.get("CALLBOARD_TEST_ENGINE"):
        yield named
        return
    # Tests of pure code do without the engine, even where it cannot be imported.
    from callboard.engine.embedded import EmbeddedEngine

    with asyncio.Runner() as runner:
        engine = runner.run(EmbeddedEngine.temporary())
        try:
            yield engine.url
        finally:
            runner.run(engine.release())


@pytest.fixture(scope="session")
def redis_url() -> Iterator[str]:
    """URL of a Redis server of our own, on a unix socket; skips where none is installed."""
    binary = shutil.which("redis-server")
    if binary is None:
        pytest.skip("redis-server is not installed")
    # A socket's path has about 100 characters, fewer than pytest's own folders may take.
    with tempfile.TemporaryDirectory(prefix="cb-redis-") as folder:
        socket = Path(folder, "redis.sock")
        server = subprocess.Popen(
            [
                *(binary, "--port", "0", "--unixsocket", str(socket), "--dir", folder),
                *("--save", "", "--appendonly", "no", "--logfile", str(Path(folder, "log"))),
            ]
        )
        try:
            _wait_until_ready(server, socket)
            yield f"unix://{socket}"
        finally:
            server.terminate()
            server.wait(10)


def _wait_until_ready(server: subprocess.Popen[bytes], socket: Path) -> None:
    deadline = time.monotonic() + 10
    with redis.Redis(unix_socket_path=str(socket)) as client:
        while True:
            try:
                client.ping()
                return
            except (redis.ConnectionError, redis.TimeoutError):
                if server.poll() is not None or time.monotonic() > deadline:
                    log = (socket.parent / "log").read_text()
                    pytest.fail(f"redis-server did not start:\n{log}")
                time.sleep(0.01)


@pytest.fixture
def namespace(request: pytest.FixtureRequest) -> str:
    """A namespace that no other test uses, named after the test for whoever reads the keys."""
    name = re.sub(r"[^A-Za-z0-9]+", "-", request.node.name)[:40].strip("-")
    return f"{name}-{uuid.uuid4().hex[:12]}"


def pytest_make_parametrize_id(val: object, argname: str) -> str | None:
    """A name without an address: all processes have to collect the same tests."""
    return argname if getattr(val, "__name__", "") == "<lambda>" else None
