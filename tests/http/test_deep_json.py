"""JSON that is nested without end, or no text, by requests and by frames."""

from __future__ import annotations

import pytest

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
