"""JSON that is nested without end, or no text, by requests and by frames."""

from __future__ import annotations

import asyncio
import json
import sys
from collections.abc import Callable
from typing import Any

import msgspec
import pytest

from callboard import connect
from callboard.exceptions import InvalidArgument
from tests.http.socket_support import socket
from tests.http.support import Served

DEEP = b"[" * 100_000 + b"]" * 100_000


@pytest.mark.parametrize(
    ("path", "body"),
    [
        ("/tasks", b'{"kind":"greet","payload":%b}'),
        ("/tasks/submit", b'{"task_data":{"a":%b}}'),
        ("/agents/discover", b'{"a":%b}'),
    ],
)
async def test_a_body_that_is_nested_too_deeply_is_refused(
    served: Served, path: str, body: bytes
) -> None:
    headers = {"content-type": "application/json"}
    response = await served.client.post(path, content=body % DEEP, headers=headers)

    assert response.status_code == 422
    assert "deep" in response.json()["detail"][0]["msg"]


def nested(levels: int) -> Any:
    value: Any = []
    for _ in range(levels - 1):
        value = [value]
    return value


WRITES = [
    ("POST", "/tasks", lambda deep: {"kind": "a", "payload": deep}, "payload"),
    ("POST", "/tasks", lambda deep: {"kind": "a", "metadata": {"a": deep}}, "metadata"),
    ("POST", "/tasks/submit", lambda deep: {"task_data": {"a": deep}}, "task_data"),
    ("POST", "/messages", lambda deep: {"to": "mira", "payload": deep}, "payload"),
    ("POST", "/contexts/p/fields", lambda deep: {"fields": {"a": deep}}, "Field a"),
    ("PUT", "/agents/mira", lambda deep: {"metadata": {"a": deep}}, "metadata"),
    ("PUT", "/recurring/r", lambda deep: {"kind": "a", "every": 60, "payload": deep}, "payload"),
]


@pytest.mark.parametrize(
    ("verb", "path", "body", "what"), WRITES, ids=[f"{one[1]}-{one[3]}" for one in WRITES]
)
async def test_a_value_of_more_than_100_levels_is_refused_and_one_of_fewer_is_not(
    served: Served, verb: str, path: str, body: Callable[[Any], Any], what: str
) -> None:
    await served.ok("POST", "/tasks", {"kind": "greet", "id": "one"})

    refused = await served.call(verb, path, body(nested(101)))
    await served.ok(verb, path, body(nested(98)))

    assert refused.status_code == 422
    fault = refused.json()["detail"][0]
    assert "is nested more than 100 levels deep" in fault["msg"]
    assert fault["msg"].startswith(what) or fault["loc"][-1] == what


async def test_what_is_accepted_is_read_by_library_http_and_command_line(
    served: Served, valkey_url: str, namespace: str
) -> None:
    deepest = nested(100)
    await served.ok("POST", "/tasks", {"kind": "greet", "id": "one", "payload": deepest})
    async with connect(valkey_url, namespace=namespace, adopt=True) as cb:
        await cb.agents.register("mira")
        (claimed,) = (await cb.tasks.claim("mira")).tasks
        assert msgspec.json.decode(claimed.payload) == deepest
        with pytest.raises(InvalidArgument, match="result is nested more than 100 levels"):
            await cb.tasks.complete("one", fence=claimed.fence, result=nested(101))
        await cb.tasks.complete("one", fence=claimed.fence, result=deepest)
        found = await cb.tasks.get("one")
    told = await served.ok("GET", "/tasks/one")
    async with connect(served.url, namespace=namespace) as remote:
        again = await remote.tasks.get("one")
    ran = await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "callboard.cli", "--url", valkey_url, "--adopt", "--json"),
        *("--namespace", namespace, "tasks", "show", "one"),
        stdout=asyncio.subprocess.PIPE,
    )
    shown = json.loads((await ran.communicate())[0])

    assert ran.returncode == 0
    for task in (found, again):
        assert (msgspec.json.decode(bytes(task.payload)), task.result) == (deepest, deepest)
    for one in (told["task"], shown):
        assert (one["payload"], one["result"]) == (deepest, deepest)


async def test_what_contains_itself_is_refused_as_too_deep(valkey_url: str, namespace: str) -> None:
    endless: list[Any] = []
    endless.append(endless)
    async with connect(valkey_url, namespace=namespace, adopt=True) as cb:
        for value in (endless, msgspec.Raw(DEEP), nested(700)):
            with pytest.raises(InvalidArgument, match="payload is nested more than 100 levels"):
                await cb.tasks.submit("greet", value)


async def test_a_frame_that_is_nested_too_deeply_is_refused_and_the_socket_stays(
    served: Served,
) -> None:
    async with socket(served.port) as ws:
        await ws.connection.send(b'{"type":"ping","a":' + DEEP + b"}")
        error = await ws.next("error")
        assert await ws.ask("ping") is True

    assert error["code"] == "invalid_argument"


@pytest.mark.parametrize(
    ("path", "body"),
    [
        ("/tasks", b'{"kind":"\xff"}'),
        ("/tasks", b'{"kind":"greet","payload":"\xff\xfe"}'),
        ("/tasks", b'{"\xff":1}'),
        ("/tasks/submit", b'{"task_data":{"a":"\xff"}}'),
        ("/agents/discover", b'{"a":"\xff"}'),
        ("/agents/register", b'{"agent_id":"\xff"}'),
    ],
    ids=["value", "kept-as-sent", "name", "documented-submit", "discover", "register"],
)
async def test_a_body_that_is_no_utf_8_is_refused(served: Served, path: str, body: bytes) -> None:
    headers = {"content-type": "application/json"}
    response = await served.client.post(path, content=body, headers=headers)

    assert response.status_code == 422, response.text
    assert "UTF-8" in response.json()["detail"][0]["msg"]


async def test_a_frame_that_is_no_utf_8_is_refused_and_the_socket_stays(served: Served) -> None:
    task = b'{"type":"call","operation":"tasks.submit","arguments":{"kind":"a","payload":"\xff"}}'
    async with socket(served.port) as ws:
        errors = []
        for frame in (b'{"type":"p\xff"}', task):
            await ws.connection.send(frame)
            errors.append(await ws.next("error"))
        assert await ws.ask("ping") is True

    assert [error["code"] for error in errors] == ["invalid_argument"] * 2
