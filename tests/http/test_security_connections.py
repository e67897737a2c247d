"""Connections that are silent, slow, endless or no HTTP: bounded, and others are served."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from functools import partial
from typing import Any

import pytest

from callboard.exceptions import ConfigError
from callboard.http import errors
from callboard.http.route import Reply
from callboard.http.security import AccessSettings, bodies, connections
from callboard.http.security.headers import request_id
from callboard.services.access import Access
from tests.http.security_support import DEADLINE, Answer, Guarded, guarding, read_answer
from tests.waiting import until

MIB = 1 << 20
HEADERS = {
    "x-content-type-options": "nosniff",
    "x-frame-options": "DENY",
    "x-xss-protection": "0",
    "strict-transport-security": "max-age=31536000",
    "referrer-policy": "no-referrer",
}


@pytest.fixture
async def guarded(access: Access) -> AsyncIterator[Guarded]:
    async with guarding(access) as server:
        yield server


async def key_header(access: Access) -> str:
    """A key of its own."""
    return f"Authorization: Bearer {(await access.create('ci')).secret}"


async def is_closed(reader: asyncio.StreamReader) -> bool:
    """Whether the other side hangs up, whatever it says before."""
    async with asyncio.timeout(DEADLINE):
        try:
            while await reader.read(65_536):
                pass
        except ConnectionError:
            return True
        return True


def check_dressed(answer: Answer) -> None:
    for name, value in HEADERS.items():
        assert answer[name] == value
    assert "default-src 'none'" in answer["content-security-policy"]
    assert "camera=()" in answer["permissions-policy"]
    assert not answer.has("server")


# What every answer says


async def test_every_answer_has_the_security_headers(access: Access) -> None:
    async with guarding(access, require_keys=True, body_bytes_max=1_024) as server:
        answers = [
            await server.get("/health"),
            await server.get("/who"),
            await server.send(b"nonsense\r\n\r\n"),
            await server.send(b"GET / HTTP/1.1\r\nX: " + b"x" * 70_000 + b"\r\n\r\n"),
        ]
    async with guarding(access, body_bytes_max=1_024) as server:
        answers += [
            await server.ask("POST", "/fail"),
            await server.ask("POST", "/who", body=b"x" * 2_000),
            await server.get("/who", host="evil.example"),
            await server.ask("HEAD", "/who"),
        ]

    assert [answer.status for answer in answers] == [200, 401, 400, 431, 500, 413, 403, 200]
    for answer in answers:
        check_dressed(answer)


async def test_every_refusal_has_the_one_shape(access: Access) -> None:
    async with guarding(access, body_bytes_max=1_024) as server:
        for refused in (
            await server.send(b"nonsense\r\n\r\n"),
            await server.ask("POST", "/fail"),
            await server.ask("POST", "/who", body=b"x" * 2_000),
        ):
            assert set(refused.json) == {"detail", "code", "details"}
            assert refused["content-type"] == "application/json"


async def test_a_page_may_say_itself_what_it_loads_and_how_long_it_is_kept(
    access: Access,
) -> None:
    from callboard.http.security.headers import guarded

    found = dict(guarded([(b"content-security-policy", b"own"), (b"content-type", b"text/html")]))

    assert found[b"content-security-policy"] == b"own"
    assert found[b"cache-control"] == b"no-store"
    assert found[b"x-frame-options"] == b"DENY"


async def test_each_request_has_an_id_of_its_own_or_that_which_it_came_with(
    guarded: Guarded,
) -> None:
    first, second = await guarded.get(), await guarded.get()
    given = await guarded.get("/who", "X-Request-ID: trace-7")
    forged = await guarded.get("/who", "X-Request-ID: a b<script>")

    assert first["x-request-id"] != second["x-request-id"]
    assert given["x-request-id"] == "trace-7"
    assert "script" not in forged["x-request-id"]
    assert [seen["request"] for seen in guarded.seen][2] == "trace-7"
    assert request_id(b"x" * 65) != b"x" * 65


async def test_a_failure_tells_nothing_of_itself(guarded: Guarded) -> None:
    failed = await guarded.get("/fail")

    assert failed.status == 500
    assert "bug" not in failed.body.decode()


# Origins


async def test_pages_of_other_origins_are_told_nothing_unless_named(
    access: Access, guarded: Guarded
) -> None:
    issued = await access.create("ci")
    headers = ("Origin: https://ops.example.com", f"Authorization: Bearer {issued.secret}")

    assert not (await guarded.get("/who", *headers)).has("access-control-allow-origin")
    async with guarding(access, cors_origins=("https://ops.example.com",)) as server:
        answer = await server.get("/who", *headers)
        other = await server.get("/who", "Origin: https://evil.example", headers[1])

    assert answer["access-control-allow-origin"] == "https://ops.example.com"
    assert answer["vary"] == "origin"
    assert not answer.has("access-control-allow-credentials")
    assert not other.has("access-control-allow-origin")


async def test_a_browser_is_told_without_a_key_that_it_may_ask(access: Access) -> None:
    ask = ("Access-Control-Request-Method: POST", "Access-Control-Request-Headers: authorization")
    origins = ("https://ops.example.com",)
    async with guarding(access, cors_origins=origins, require_keys=True) as server:
        told = await server.ask("OPTIONS", "/who", "Origin: https://ops.example.com", *ask)
        other = await server.ask("OPTIONS", "/who", "Origin: https://evil.example", *ask)

    assert told.status == 204
    assert told["access-control-allow-origin"] == "https://ops.example.com"
    assert "authorization" in told["access-control-allow-headers"]
    assert other.status == 401
    assert not other.has("access-control-allow-origin")


@pytest.mark.parametrize(
    "origin", ["*", "ops.example.com", "https://*.example.com", "https://a/", "file://x", "null"]
)
def test_origins_are_named_exactly(origin: str) -> None:
    with pytest.raises(ConfigError, match="origin"):
        AccessSettings(cors_origins=(origin,))


# Bodies


@pytest.mark.parametrize("chunked", [False, True], ids=["length", "chunked"])
async def test_a_body_too_large_is_refused_and_the_rest_is_not_kept(
    access: Access, chunked: bool
) -> None:
    body = b"x" * (3 * MIB)
    async with guarding(access, body_bytes_max=MIB, bodies_bytes_max=MIB) as server:
        if chunked:
            raw = b"".join(
                b"10000\r\n" + body[i : i + 65_536] + b"\r\n" for i in range(0, 3 * MIB, 65_536)
            )
            head = b"POST /who HTTP/1.1\r\nHost: localhost\r\nTransfer-Encoding: chunked\r\n\r\n"
            refused = await server.send(head + raw + b"0\r\n\r\n")
        else:
            refused = await server.ask("POST", "/who", body=body)

        assert (refused.status, refused.json["code"]) == (413, "too_large")
        assert refused.json["details"] == {"limit": MIB}
        assert server.seen == []
        assert server.guard._budget.used == 0
        assert (await server.ask("POST", "/who", body=b"x" * MIB)).json["bytes"] == MIB


async def test_a_body_that_is_all_there_and_too_large_is_refused_at_once(
    access: Access, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(bodies, "DISCARD_SECONDS", 3_600.0)
    chunk = b"%x\r\n%b\r\n" % (1_025, b"x" * 1_025)
    async with guarding(access, body_bytes_max=1_024) as server:
        reader, writer = await server.open()
        writer.write(CHUNKED + chunk + b"0\r\n\r\n")
        refused = await read_answer(reader)
        writer.write(b"GET /who HTTP/1.1\r\nHost: localhost\r\n\r\n")
        next_one = await read_answer(reader)
        writer.close()

    assert (refused.status, next_one.status) == (413, 200)


async def test_who_asks_before_sending_is_told_without_a_body(access: Access) -> None:
    async with guarding(access, body_bytes_max=1_024) as server:
        refused = await server.send(
            b"POST /who HTTP/1.1\r\nHost: localhost\r\nContent-Length: 999999999\r\n"
            b"Expect: 100-continue\r\n\r\n"
        )

    assert refused.status == 413
    assert refused["connection"] == "close"


async def test_a_body_that_does_not_come_is_given_up(access: Access) -> None:
    async with guarding(access, body_seconds=0.2) as server:
        head = b"POST /who HTTP/1.1\r\nHost: localhost\r\nContent-Length: 100\r\n\r\nab"
        reader, writer = await server.open()
        writer.write(head)
        refused = await read_answer(reader)

        assert (refused.status, refused.json["code"]) == (408, "body_too_slow")
        assert await is_closed(reader)
        assert server.guard._budget.used == 0
        writer.close()


async def test_who_hangs_up_within_a_body_leaves_nothing(access: Access) -> None:
    async with guarding(access) as server:
        _, writer = await server.open()
        writer.write(
            b"POST /who HTTP/1.1\r\nHost: localhost\r\nContent-Length: 300000\r\n\r\n"
            + b"x" * 200_000
        )
        await until(lambda: server.guard._budget.used > 0, "some of the body came")
        writer.transport.abort()

        await until(lambda: server.guard._budget.used == 0, "it was given back")
        assert server.seen == []


async def test_all_bodies_together_have_a_bound(access: Access) -> None:
    first, second, third = [await key_header(access) for _ in range(3)]
    async with guarding(access, body_bytes_max=MIB, bodies_bytes_max=2 * MIB) as server:
        held = [
            asyncio.create_task(server.ask("POST", "/hold", key, body=b"x" * MIB))
            for key in (first, second)
        ]
        await until(lambda: len(server.seen) == 2, "both are there")

        refused = await server.ask("POST", "/who", third, body=b"x" * 1_000)
        small = await server.get("/who")
        server.release.set()
        done = await asyncio.gather(*held)

        assert (refused.status, refused.json["code"]) == (503, "busy")
        assert refused.has("retry-after")
        assert small.status == 200
        assert [answer.status for answer in done] == [200, 200]
        assert (await server.ask("POST", "/who", third, body=b"x" * MIB)).status == 200
        assert server.guard._budget._of == {}


async def test_one_callers_bodies_leave_room_for_those_of_others(access: Access) -> None:
    greedy, other = await key_header(access), await key_header(access)
    async with guarding(access, body_bytes_max=MIB, bodies_bytes_max=8 * MIB) as server:
        held = [
            asyncio.create_task(server.ask("POST", "/hold", greedy, body=b"x" * MIB))
            for _ in range(2)
        ]
        await until(lambda: len(server.seen) == 2, "both are there")

        refused = await server.ask("POST", "/who", greedy, body=b"x" * 1_000)
        answers = [
            await server.ask("POST", "/who", other, body=b"x" * MIB),
            await server.ask("POST", "/who", body=b"x" * MIB),
        ]
        server.release.set()
        await asyncio.gather(*held)

        assert (refused.status, refused.json["code"]) == (503, "busy")
        assert [answer.status for answer in answers] == [200, 200]
        assert server.guard._budget._of == {}


async def test_a_body_for_what_is_refused_anyway_is_not_awaited(access: Access) -> None:
    def screen(scope: dict[str, Any]) -> Reply | None:
        return errors.missing() if scope["path"] == "/nowhere" else None

    async with guarding(access, screen=screen) as server:
        missing = await server.ask("POST", "/nowhere", body=b"x" * MIB)
        waiting = await server.send(
            b"POST /nowhere HTTP/1.1\r\nHost: localhost\r\nContent-Length: 5000000\r\n"
            b"Expect: 100-continue\r\n\r\n"
        )
        found = await server.ask("POST", "/who", body=b"x" * MIB)

    assert [answer.status for answer in (missing, waiting, found)] == [404, 404, 200]
    assert [seen["path"] for seen in server.seen] == ["/who"]


async def test_a_body_that_stalls_does_not_hold_the_stop(
    access: Access, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(bodies, "STOPPING_SECONDS", 0.1)
    async with guarding(access) as server:
        head = b"POST /who HTTP/1.1\r\nHost: localhost\r\nContent-Length: 100\r\n\r\nab"
        reader, writer = await server.open()
        writer.write(head)
        await until(lambda: len(server.guard._budget.awaited) == 1, "it is awaited")

        server.guard.leave()
        refused = await read_answer(reader)
        late = await server.send(head)
        whole = await server.ask("POST", "/who", body=b"abc")
        writer.close()

    assert [(one.status, one.json["code"]) for one in (refused, late)] == [(503, "stopping")] * 2
    assert refused["connection"] == "close"
    assert whole.json["bytes"] == 3
    assert server.guard._budget.awaited == set()


async def test_who_shows_no_key_sends_no_body_to_speak_of(access: Access) -> None:
    async with guarding(access, require_keys=True, body_seconds=1) as server:
        small = await server.ask("POST", "/health", body=b"x" * 1_024)
        large = await server.ask("POST", "/health", body=b"x" * 1_025)
        await server.ask("POST", "/who", body=b"x" * MIB)

        assert (small.status, large.status) == (200, 413)
        assert [seen["path"] for seen in server.seen] == ["/health"]


async def test_a_refused_request_leaves_its_connection_usable(access: Access) -> None:
    async with guarding(access, require_keys=True) as server:
        issued = await access.create("ci")
        reader, writer = await server.open()
        body = b"x" * 100_000
        head = f"POST /who HTTP/1.1\r\nHost: localhost\r\nContent-Length: {len(body)}\r\n"
        writer.write(head.encode() + b"\r\n" + body)
        refused = await read_answer(reader)
        writer.write(f"{head}X-API-Key: {issued.secret}\r\n\r\n".encode() + body)
        answer = await read_answer(reader)
        writer.close()

    assert (refused.status, answer.status) == (401, 200)
    assert answer.json["bytes"] == 100_000


async def test_requests_in_line_are_answered_in_line(guarded: Guarded) -> None:
    reader, writer = await guarded.open()
    one = b"POST /who HTTP/1.1\r\nHost: localhost\r\nContent-Length: 3\r\n\r\nabc"
    writer.write(one * 50)

    answers = [await read_answer(reader) for _ in range(50)]

    assert {answer.status for answer in answers} == {200}
    assert [answer.json["bytes"] for answer in answers] == [3] * 50
    writer.close()


@pytest.mark.parametrize(
    "behind",
    [b"", b"GET /who HTTP/1.1\r\nHost: localhost\r\n\r\n"],
    ids=["nothing", "a_request"],
)
async def test_who_leaves_ends_what_is_answered_whatever_stands_behind_it(
    guarded: Guarded, behind: bytes
) -> None:
    reader, writer = await guarded.open()
    writer.write(b"GET /listen HTTP/1.1\r\nHost: localhost\r\n\r\n")
    await reader.readexactly(100)
    writer.write(behind)
    state: Any = guarded.server.server_state
    if behind:
        await until(lambda: any(one.pipeline for one in state.connections), "it is in line")
    running = set(state.tasks)
    writer.transport.abort()

    assert len(running) == 1
    async with asyncio.timeout(DEADLINE):
        await asyncio.wait(running)


async def test_garbage_behind_a_request_takes_away_no_answer(guarded: Guarded) -> None:
    one = b"POST /who HTTP/1.1\r\nHost: localhost\r\nContent-Length: 3\r\n\r\nabc"
    reader, writer = await guarded.open()
    writer.write(one + b"\x00\x01 garbage\r\n\r\n")
    answer = await read_answer(reader)

    assert (answer.status, answer.json["bytes"], answer["connection"]) == (200, 3, "close")
    assert await is_closed(reader)
    writer.close()


async def test_a_socket_is_not_opened_behind_a_request_that_is_not_answered(
    guarded: Guarded,
) -> None:
    reader, writer = await guarded.open()
    writer.write(b"GET /hold HTTP/1.1\r\nHost: localhost\r\n\r\n")
    await until(lambda: guarded.seen, "the first is begun")
    writer.write(
        b"GET /ws HTTP/1.1\r\nHost: localhost\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n"
        b"Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n"
    )
    state: Any = guarded.server.server_state
    await until(lambda: all(one._is_full for one in state.connections), "the second came")
    guarded.release.set()
    answer = await read_answer(reader)

    assert (answer.status, answer["connection"]) == (200, "close")
    assert await is_closed(reader)
    assert [seen["path"] for seen in guarded.seen] == ["/hold"]
    writer.close()


@pytest.mark.parametrize("body", [b"", b"x" * 10], ids=["without_body", "with_body"])
async def test_of_more_requests_than_can_wait_in_line_the_first_are_answered(
    guarded: Guarded, caplog: pytest.LogCaptureFixture, body: bytes
) -> None:
    reader, writer = await guarded.open()
    head = b"POST /who HTTP/1.1\r\nHost: localhost\r\nContent-Length: %d\r\n\r\n" % len(body)
    writer.write((head + body) * 5_000)

    answers = [await read_answer(reader) for _ in range(65)]
    assert [answer.status for answer in answers] == [200] * 65
    assert answers[-1]["connection"] == "close"
    assert await is_closed(reader)
    assert len(guarded.seen) == 65
    assert (await guarded.get()).status == 200
    assert "Traceback" not in caplog.text
    writer.close()


CHUNKED = b"POST /who HTTP/1.1\r\nHost: localhost\r\nTransfer-Encoding: chunked\r\n\r\n"


@pytest.mark.parametrize("line", [b"T: t\r\n", b"x"], ids=["many", "long"])
async def test_what_stands_behind_a_body_has_a_bound_too(guarded: Guarded, line: bytes) -> None:
    reader, writer = await guarded.open()
    writer.write(CHUNKED + b"3\r\nabc\r\n0\r\nT: ")

    async def drip() -> None:
        while True:
            writer.write(line * (4_000 // len(line)))
            await writer.drain()
            await asyncio.sleep(0)

    dripping = asyncio.create_task(drip())
    assert await is_closed(reader)
    dripping.cancel()
    assert guarded.seen == []


async def test_a_body_in_parts_is_read_however_they_come(guarded: Guarded) -> None:
    reader, writer = await guarded.open()
    parts = [b"20000\r\n", b"x" * 131_072, b"\r\n"] * 5
    for _ in range(2):
        for part in (CHUNKED, *parts, b"0\r\n", b"T: t\r\n", b"\r\n"):
            writer.write(part)
            await writer.drain()
            await asyncio.sleep(0)
        assert (await read_answer(reader)).json["bytes"] == 655_360
    writer.close()


async def test_parts_that_come_with_the_beginning_of_the_next_are_no_trailers(
    access: Access,
) -> None:
    async with guarding(access, head_bytes_max=1_024) as server:
        reader, writer = await server.open()
        writer.write(CHUNKED + b"7d0\r\n")

        def has_come(length: int) -> bool:
            return bool(server.guard._budget.used == length)

        for count in range(1, 6):
            writer.write(b"x" * 2_000 + (b"\r\n7d0\r\n" if count < 5 else b"\r\n0\r\n\r\n"))
            if count < 5:
                await until(partial(has_come, count * 2_000), "it came")
        assert (await read_answer(reader)).json["bytes"] == 10_000
        writer.close()


# Heads


async def test_garbage_is_answered_and_cut_off(guarded: Guarded) -> None:
    reader, writer = await guarded.open()
    writer.write(bytes(range(256)) * 4_000)

    answer = await read_answer(reader)

    assert (answer.status, answer.json["code"]) == (400, "bad_request")
    assert await is_closed(reader)
    assert (await guarded.get()).status == 200
    writer.close()


@pytest.mark.parametrize(
    "raw",
    [
        b"GET / HTTP/1.1\r\nX: " + b"x" * 200_000 + b"\r\n\r\n",
        b"GET /" + b"x" * 200_000 + b" HTTP/1.1\r\n\r\n",
        b"GET / HTTP/1.1\r\n" + b"A: b\r\n" * 40_000 + b"\r\n",
        b"GET / HTTP/1.1\r\nX: " + b"x" * 100_000,
    ],
    ids=["header", "path", "headers", "unfinished"],
)
async def test_a_head_too_large_is_refused(guarded: Guarded, raw: bytes) -> None:
    answer = await guarded.send(raw)

    assert (answer.status, answer.json["code"]) == (431, "head_too_large")
    assert guarded.seen == []


async def test_a_head_too_large_that_comes_in_one_piece_is_refused(access: Access) -> None:
    async with guarding(access, head_bytes_max=1_024) as server:
        large = await server.get("/who", "X-Header: " + "x" * 2_000)
        behind = await server.ask("POST", "/who", body=b"x" * 2_000)

    assert (large.status, large.json["code"]) == (431, "head_too_large")
    assert [seen["path"] for seen in server.seen] == ["/who"]
    assert behind.json["bytes"] == 2_000


async def test_a_large_body_behind_a_small_head_is_no_large_head(guarded: Guarded) -> None:
    assert (await guarded.ask("POST", "/who", body=b"x" * 5 * MIB)).json["bytes"] == 5 * MIB


@pytest.mark.parametrize(
    "before", [b"", b"GET /hold HTTP/1.1\r\nHost: localhost\r\n\r\n"], ids=["alone", "in_line"]
)
async def test_an_endless_head_is_cut_off_while_it_comes(guarded: Guarded, before: bytes) -> None:
    reader, writer = await guarded.open()
    writer.write(before + b"GET / HTTP/1.1\r\n")

    async def drip() -> None:
        while True:
            writer.write(b"X-Header: " + b"x" * 1_000 + b"\r\n")
            await writer.drain()
            await asyncio.sleep(0)

    dripping = asyncio.create_task(drip())
    assert await is_closed(reader)
    dripping.cancel()
    assert [seen["path"] for seen in guarded.seen] == ["/hold"] * bool(before)


async def test_a_head_that_comes_too_slowly_is_given_up(access: Access) -> None:
    async with guarding(access, head_seconds=0.3) as server:
        reader, writer = await server.open()
        answered, again = await server.open()
        again.write(b"GET /who HTTP/1.1\r\nHost: localhost\r\n\r\n")
        assert (await read_answer(answered)).status == 200
        writer.write(b"GET /who HT")
        again.write(b"GET /who HT")

        slow, slow_again = await read_answer(reader), await read_answer(answered)

        assert (slow.status, slow.json["code"]) == (408, "head_too_slow")
        assert slow_again.status == 408
        writer.close()
        again.close()


async def test_a_connection_that_says_nothing_is_closed(access: Access) -> None:
    async with guarding(access, head_seconds=0.3) as server:
        reader, writer = await server.open()

        assert await is_closed(reader)
        writer.close()


async def test_a_connection_is_kept_for_a_while_between_requests(guarded: Guarded) -> None:
    reader, writer = await guarded.open()
    watch = guarded.protocol.watch
    for silence in (0, 74):
        for one in watch.quiet:
            watch.quiet[one] -= silence
        watch._sweep()
        writer.write(b"GET /who HTTP/1.1\r\nHost: localhost\r\n\r\n")
        assert (await read_answer(reader)).status == 200

    (mine,) = watch.quiet
    watch.quiet[mine] -= 75
    watch._sweep()

    assert await is_closed(reader)
    writer.close()


async def test_a_long_request_is_not_silent(guarded: Guarded) -> None:
    held = asyncio.create_task(guarded.ask("POST", "/hold", body=b"x"))
    await until(lambda: len(guarded.seen) == 1, "it is there")
    watch = guarded.protocol.watch

    assert (watch.heads, watch.quiet, watch.stuck) == ({}, {}, {})
    guarded.release.set()
    assert (await held).status == 200


# Too many


async def test_the_most_silent_connection_makes_room_for_others(access: Access) -> None:
    async with guarding(access, connections_max=20) as server:
        silent = [await server.open() for _ in range(30)]

        for _ in range(5):
            assert (await server.get()).status == 200
        for reader, _ in silent[:10]:
            assert await is_closed(reader)
        assert len(server.server.server_state.connections) <= 20
        for _, writer in silent:
            writer.close()


async def test_who_announces_a_body_and_sends_none_makes_room(access: Access) -> None:
    async with guarding(access, connections_max=10, require_keys=True) as server:
        silent = [await server.open() for _ in range(10)]
        for _, writer in silent:
            writer.write(b"POST /health HTTP/1.1\r\nHost: localhost\r\nContent-Length: 9\r\n\r\n")
        await until(lambda: len(server.protocol.watch.bodies) == 10, "all wait")

        for _ in range(5):
            assert (await server.get("/health")).status == 200
        for _, writer in silent:
            writer.close()


async def test_where_all_are_busy_the_newest_is_told_so(access: Access) -> None:
    async with guarding(access, connections_max=3) as server:
        held = [asyncio.create_task(server.get("/hold")) for _ in range(3)]
        await until(lambda: len(server.seen) == 3, "all are busy")

        refused = await server.get()
        server.release.set()

        assert (refused.status, refused.json["code"]) == (503, "busy")
        assert refused["retry-after"] == "1"
        assert [answer.status for answer in await asyncio.gather(*held)] == [200] * 3
        await until(lambda: len(server.server.server_state.connections) < 3, "they are gone")
        assert (await server.get()).status == 200


# Those who do not read


async def test_who_does_not_read_is_dropped_and_holds_little(access: Access) -> None:
    async with guarding(access, write_seconds=0.5) as server:
        reader, writer = await server.open(limit=1_024)
        writer.write(b"GET /flood HTTP/1.1\r\nHost: localhost\r\n\r\n")
        await until(lambda: bool(server.protocol.watch.stuck), "it is stuck")
        (stuck,) = server.protocol.watch.stuck
        held = stuck.transport.get_write_buffer_size()

        assert (await server.get()).status == 200
        await until(lambda: not server.protocol.watch.stuck, "it is dropped")

        assert held < MIB
        assert stuck.transport.is_closing()
        writer.transport.abort()
        del reader


async def test_who_does_not_read_the_last_of_an_answer_is_dropped(
    access: Access, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its connection closes, and would for ever."""
    monkeypatch.setattr(connections, "SWEEP_SECONDS", 0.02)
    async with guarding(access, write_seconds=0.3) as server:
        _, writer = await server.open(limit=1_024)
        watch = server.protocol.watch
        (mine,) = list(watch.heads)
        mine.transport.write(b"x" * 10 * MIB)
        watch.forget(mine)
        mine.transport.close()
        assert mine in server.server.server_state.connections

        await until(lambda: mine not in server.server.server_state.connections, "it is gone")
        writer.transport.abort()


async def test_a_socket_is_not_taken_for_a_silent_connection(access: Access) -> None:
    async with guarding(access, head_seconds=0.1) as server:
        handshake = (
            b"GET /ws HTTP/1.1\r\nHost: localhost\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
            b"Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n"
        )
        reader, writer = await server.open()
        writer.write(handshake)
        assert (await read_answer(reader)).status == 101

        assert (server.protocol.watch.heads, server.protocol.watch.quiet) == ({}, {})
        writer.close()


async def test_who_answers_may_drop_the_connection(guarded: Guarded) -> None:
    handshake = (
        b"GET /hold HTTP/1.1\r\nHost: localhost\r\nUpgrade: websocket\r\n"
        b"Connection: Upgrade\r\nSec-WebSocket-Version: 13\r\n"
        b"Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n"
    )
    for raw in (b"GET /hold HTTP/1.1\r\nHost: localhost\r\n\r\n", handshake):
        reader, writer = await guarded.open()
        writer.write(raw)
        await until(lambda: bool(guarded.seen), "it is there")

        guarded.seen.pop()["scope"]["extensions"]["callboard.abort"]()

        assert await is_closed(reader)
        writer.close()
