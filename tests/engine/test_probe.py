"""The look at an engine: what somebody else wrote is told, and never taken over."""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import Any

import pytest
import redis.asyncio

import callboard
from callboard.engine.keys import Keys
from callboard.engine.probe import probe
from callboard.exceptions import ForeignDatabase

pytestmark = pytest.mark.every_engine


@pytest.fixture
async def client(engine_url: str) -> AsyncIterator[redis.asyncio.Redis]:
    async with redis.asyncio.Redis.from_url(engine_url) as opened:
        yield opened


FOREIGN: list[tuple[str, list[Any]]] = [
    ("a string", ["SET", "1.0"]),
    ("a list", ["RPUSH", "1"]),
    ("a hash of other fields", ["HSET", "theirs", "1"]),
    ("no number", ["HSET", "major", "one", "minor", "0"]),
    ("a fraction", ["HSET", "major", "1.5", "minor", "0"]),
    ("no minor", ["HSET", "major", "1"]),
]


@pytest.mark.parametrize("command", [row[1] for row in FOREIGN], ids=[row[0] for row in FOREIGN])
@pytest.mark.parametrize("adopt", [False, True])
async def test_a_foreign_value_under_our_format_key_is_told_and_left_alone(
    engine_url: str,
    namespace: str,
    client: redis.asyncio.Redis,
    command: list[Any],
    adopt: bool,
) -> None:
    key = f"{{{namespace}}}:callboard:format"
    await client.execute_command(command[0], key, *command[1:])
    before = await client.dump(key)

    with pytest.raises(ForeignDatabase, match="was not written by Callboard. Remove or rename it"):
        async with callboard.connect(engine_url, namespace=namespace, adopt=adopt):
            pass

    assert await client.dump(key) == before


class Database:
    """A database of these keys, as far as the probe looks before it opens anything."""

    def __init__(self, *keys: bytes) -> None:
        self.keys = keys

    async def __call__(self, command: str, *_: Any) -> Any:
        match command:
            case "INFO":
                return b"redis_version:7.2.0\r\n"
            case "HMGET":
                return [None, None]
            case "SCAN":
                return b"0", list(self.keys)
            case "DBSIZE":
                return len(self.keys)
        return 0


class Opened(Exception):
    """The probe went on to open the namespace."""


async def opening(*_: Any) -> Any:
    raise Opened


@pytest.mark.parametrize(
    "key", [b"xcallboard:format", b"their:callboard:format", b"a{b}:callboard:format"]
)
async def test_a_key_that_only_ends_like_ours_is_foreign(key: bytes) -> None:
    with pytest.raises(ForeignDatabase, match="none of Callboard's keys"):
        await probe(Database(key), Keys(""), opening, adopt=False)


@pytest.mark.parametrize("key", [b"callboard:format", b"{team}:callboard:format"])
async def test_another_namespace_shows_that_the_database_is_ours(key: bytes) -> None:
    with pytest.raises(Opened):
        await probe(Database(key, b"theirs"), Keys("new"), opening, adopt=False)


@pytest.mark.parametrize("before", ["INFO", "EXISTS", "HMGET", "DBSIZE", "SCAN"])
async def test_another_process_may_open_the_namespace_meanwhile(
    engine_url: str, namespace: str, before: str
) -> None:
    waiting = {before}

    async with callboard.connect(engine_url, namespace=f"{namespace}-other", adopt=True) as other:

        async def call(command: str, *arguments: Any) -> Any:
            if command in waiting:
                waiting.clear()
                async with callboard.connect(engine_url, namespace=namespace, adopt=True):
                    pass
            return await other.namespace.connection.call(command, *arguments)

        with pytest.raises(Opened):
            await probe(call, Keys(namespace), opening, adopt=False)
