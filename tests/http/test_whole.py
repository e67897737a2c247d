"""What comes or goes in one piece takes a shorter way, and nobody can tell."""

from __future__ import annotations

import asyncio
import gc
from collections.abc import AsyncIterator
from typing import Any

import pytest
import pytest_asyncio
from uvicorn.protocols.http.httptools_impl import RequestResponseCycle

from callboard.http.app import send_reply
from callboard.http.route import Reply
from callboard.http.security import AccessSettings, secure
from callboard.http.security.whole import ANSWER, WHOLE, Whole, in_block
from tests.http.security_support import Answer, read_answer
from tests.http.support import Served, serving

SUBMIT = b'{"task_data": {"task_id": "%s", "n": 1}}'

REQUESTS = {
    "submit": ("POST /tasks/submit", SUBMIT % b"t-%d"),
    "refused": ("POST /tasks/submit", b'{"task_data": {}, "priority": "soon"}'),
    "no JSON": ("POST /tasks/submit", b"nope"),
    "empty": ("POST /tasks/submit", b""),
    "missing": ("GET /tasks/nothing", None),
    "head": ("HEAD /health", None),
    "page": ("GET /docs", None),
    "not a verb of it": ("PUT /tasks/submit", b"{}"),
    "too large": ("POST /tasks/submit", b'{"task_data": {"x": "%s"}}' % (b"x" * 20_000)),
    "admin": ("POST /boards/b/pause", b"{}"),
}


@pytest_asyncio.fixture
async def guarded(valkey_url: str, namespace: str) -> AsyncIterator[Served]:
    def wrap(app: Any) -> Any:
        async def keys() -> Any:
            return (await app.coordinator.board(namespace)).access

        settings = AccessSettings(
            namespace=namespace, body_bytes_max=10_000, cors_origins=("http://page.example",)
        )
        return secure(app, settings, keys, app.app.screen)

    async with serving(valkey_url, wrap, namespace=namespace) as service:
        yield service


@pytest.mark.parametrize("name", REQUESTS)
async def test_a_body_is_answered_alike_however_it_comes(guarded: Served, name: str) -> None:
    line, body = REQUESTS[name]
    whole, split, bytewise = [
        await ask(guarded, line, None if body is None else body.replace(b"%d", b"%d" % n), pieces)
        for n, pieces in enumerate(("whole", "split", "bytes"))
    ]

    assert told(whole) == told(split) == told(bytewise)


async def test_an_answer_in_one_piece_is_that_in_two(guarded: Served, caplog: Any) -> None:
    """The same application, asked by a server that knows no shorter way."""
    for name, (line, body) in REQUESTS.items():
        verb, path = line.split()
        answer = await ask(guarded, line, body, "whole")
        plain = await asked_plainly(guarded, verb, path, body or b"")

        assert told(answer) == told(plain), name


async def test_a_page_of_a_named_origin_may_read_an_answer_in_one_piece(guarded: Served) -> None:
    answer = await ask(
        guarded, "POST /tasks/submit", SUBMIT % b"o", "whole", "Origin: http://page.example"
    )

    assert answer.status == 200
    assert answer["access-control-allow-origin"] == "http://page.example"
    assert answer["vary"] == "origin"


async def test_an_answer_in_one_piece_may_say_itself_how_long_it_is_kept(
    valkey_url: str, namespace: str
) -> None:
    async def page(scope: Any, receive: Any, send: Any) -> None:
        await send_reply(scope, send, Reply(b"{}", 200, ((b"cache-control", b"max-age=9"),)))

    def wrap(app: Any) -> Any:
        async def keys() -> Any:
            return (await app.coordinator.board(namespace)).access

        return secure(page, AccessSettings(), keys)

    async with serving(valkey_url, wrap, namespace=namespace) as service:
        answer = await ask(service, "GET /page", None, "whole")

    assert answer["cache-control"] == "max-age=9"
    assert answer["x-frame-options"] == "DENY"


@pytest.mark.parametrize("first", ["HTTP/1.0", "HTTP/1.1\r\nConnection: close"])
async def test_a_connection_that_is_to_end_ends_behind_a_whole_answer(
    guarded: Served, first: str
) -> None:
    reader, writer = await asyncio.open_connection("127.0.0.1", guarded.port)
    writer.write(f"GET /health {first}\r\nHost: 127.0.0.1\r\n\r\n".encode())
    answer = await read_answer(reader)

    assert (answer.status, answer["connection"]) == (200, "close")
    async with asyncio.timeout(20):
        assert await reader.read() == b""
    writer.close()


async def test_whole_requests_in_line_are_answered_in_line(guarded: Served) -> None:
    reader, writer = await asyncio.open_connection("127.0.0.1", guarded.port)
    ids = [b"line-%d" % n for n in range(5)]
    writer.write(b"".join(request("POST /tasks/submit", SUBMIT % one) for one in ids))
    answers = [await read_answer(reader) for _ in ids]
    writer.close()

    assert [one.json["task_id"].encode() for one in answers] == ids


async def test_an_answered_request_leaves_no_ring_for_the_collector(guarded: Served) -> None:
    reader, writer = await asyncio.open_connection("127.0.0.1", guarded.port)
    gc.collect()
    gc.disable()
    try:
        for n in range(30):
            writer.write(request("POST /tasks/submit", SUBMIT % b"ring-%d" % n))
            assert (await read_answer(reader)).status == 200
        left = sum(isinstance(one, RequestResponseCycle) for one in gc.get_objects())
    finally:
        gc.enable()
        writer.close()

    assert left <= 3


class Parts:
    """What a server's request is made of, as far as it is looked at."""

    def __init__(self) -> None:
        self.sent: list[bytes] = []
        self.flow = self.transport = self.message_event = self
        self.write_paused = self.disconnected = self.response_started = False
        self.waiting_for_100_continue = self.more_body = self.response_complete = False
        self.keep_alive = True
        self.default_headers = [(b"date", b"today")]
        self.body = bytearray(b"body")
        self.write = self.sent.append

    async def send(self, message: dict[str, Any]) -> None:
        self.sent.append(message["type"].encode())

    def set(self) -> None: ...

    clear = resume_reading = on_response = set


@pytest.mark.parametrize("flag", ["more_body", "disconnected", "waiting_for_100_continue"])
def test_a_body_that_is_not_all_there_is_left_where_it_is(flag: str) -> None:
    parts = Parts()
    setattr(parts, flag, True)

    assert Whole(parts).take_body(100) is None
    assert parts.body == b"body"


def test_a_body_is_taken_once_and_not_beyond_its_bound() -> None:
    parts = Parts()
    whole = Whole(parts)

    assert whole.take_body(3) is None
    assert whole.take_body(4) == b"body"
    assert parts.body == b""


@pytest.mark.parametrize("value", [b"a\r\nset-cookie: x", b"a\nb", b"a\0b"])
async def test_a_header_cannot_bring_another_one(value: bytes) -> None:
    parts = Parts()
    whole = Whole(parts)
    message = {"status": 200, "headers": [(b"x", value)], "body": b"", "block": b""}

    with pytest.raises(RuntimeError):
        await whole.send({"type": ANSWER, **message})
    assert parts.sent == []
    with pytest.raises(RuntimeError):
        in_block(((b"x", value),))


async def test_an_answer_is_sent_once() -> None:
    parts = Parts()
    whole = Whole(parts)
    message = {"type": ANSWER, "status": 204, "headers": [], "body": b"", "block": b"a: b\r\n"}
    await whole.send(message)

    assert parts.sent == [b"HTTP/1.1 204 No Content\r\ndate: today\r\na: b\r\n\r\n"]
    with pytest.raises(RuntimeError):
        await whole.send(message)


# Asking


def request(line: str, body: bytes | None, *headers: str) -> bytes:
    lines = [f"{line} HTTP/1.1", "Host: 127.0.0.1", *headers]
    if body is not None:
        lines += [f"Content-Length: {len(body)}", "Content-Type: application/json"]
    return "\r\n".join([*lines, "", ""]).encode() + (body or b"")


async def ask(served: Served, line: str, body: bytes | None, pieces: str, *headers: str) -> Answer:
    reader, writer = await asyncio.open_connection("127.0.0.1", served.port)
    raw = request(line, body, *headers)
    at = len(raw) - len(body or b"")
    try:
        if pieces == "whole":
            writer.write(raw)
        elif pieces == "split":
            writer.write(raw[:at])
            await writer.drain()
            await asyncio.sleep(0)
            writer.write(raw[at:])
        else:
            step = max(1, len(raw) // 300)
            for start in range(0, len(raw), step):
                writer.write(raw[start : start + step])
                await writer.drain()
                await asyncio.sleep(0)
        return await read_answer(reader, has_body=not line.startswith("HEAD"))
    finally:
        writer.close()


async def asked_plainly(served: Served, verb: str, path: str, body: bytes) -> Answer:
    messages: list[dict[str, Any]] = []
    headers = [(b"host", b"127.0.0.1"), (b"content-length", b"%d" % len(body))]
    scope = {
        "type": "http",
        "method": verb,
        "path": path,
        "raw_path": path.encode(),
        "query_string": b"",
        "headers": headers,
        "client": ("127.0.0.1", 1),
        "scheme": "http",
        "state": {},
    }
    assert WHOLE not in scope

    async def receive() -> dict[str, Any]:
        return {"type": "http.request", "body": body, "more_body": False}

    async def send(message: dict[str, Any]) -> None:
        messages.append(message)

    await served.application(scope, receive, send)
    first, second = messages
    return Answer(
        first["status"],
        [(name.decode(), value.decode()) for name, value in first["headers"]],
        second["body"],
    )


_OWN = {"date", "x-request-id"}


def told(answer: Answer) -> tuple[int, list[tuple[str, str]], Any]:
    """What an answer says but for what each answer says anew."""
    headers = sorted(
        (name, value)
        for name, value in answer.headers
        if name not in _OWN and name != "content-length"
    )
    body: Any = answer.body
    if answer.has("content-type") and answer["content-type"] == "application/json" and body:
        body = answer.json
        for name in ("timestamp", "submitted_at", "task_id"):
            body.pop(name, None)
    return answer.status, headers, body
