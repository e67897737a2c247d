"""The HTTP client, against servers that say exactly what a test has them say."""

from __future__ import annotations

import asyncio
import gc
import ipaddress
import socket
import ssl
import subprocess
import threading
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest

from callboard.dispatch.client import Client, HttpFailure
from callboard.dispatch.names import LANES
from callboard.outgoing import AddressRules
from tests.waiting import until

Script = Callable[[asyncio.StreamReader, asyncio.StreamWriter], Awaitable[None]]
OK = b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nok"


class Server:
    """A server that plays a script on each connection."""

    def __init__(self, script: Script) -> None:
        self.script = script
        self.url = ""
        self.connections = 0
        self.closed = 0
        self.tasks: set[asyncio.Task[None]] = set()

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.connections += 1
        task = asyncio.current_task()
        assert task is not None
        self.tasks.add(task)
        try:
            await self.script(reader, writer)
        except (asyncio.IncompleteReadError, asyncio.CancelledError, ConnectionError):
            pass
        finally:
            self.closed += 1
            self.tasks.discard(task)
            writer.close()


@asynccontextmanager
async def serving(script: Script, tls: ssl.SSLContext | None = None) -> AsyncIterator[Server]:
    server = Server(script)
    listener = await asyncio.start_server(server.serve, "127.0.0.1", 0, ssl=tls)
    port = listener.sockets[0].getsockname()[1]
    server.url = f"http{'s' if tls else ''}://{'localhost' if tls else '127.0.0.1'}:{port}"
    try:
        yield server
    finally:
        listener.close()
        for task in list(server.tasks):
            task.cancel()
        await asyncio.gather(*server.tasks, return_exceptions=True)


async def asked(reader: asyncio.StreamReader) -> tuple[bytes, bytes]:
    """The next request: its head, and its body."""
    head = await reader.readuntil(b"\r\n\r\n")
    length = 0
    for line in head.lower().split(b"\r\n"):
        if line.startswith(b"content-length:"):
            length = int(line.partition(b":")[2])
    return head, await reader.readexactly(length)


def says(*answers: bytes, then: str = "next") -> Script:
    """Answers each request on a connection in turn; *then* it goes on, closes, or hangs."""

    async def script(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        while True:
            for answer in answers:
                await asked(reader)
                writer.write(answer)
                await writer.drain()
            if then == "close":
                return
            if then == "hang":
                await asyncio.Event().wait()

    return script


@pytest.fixture
async def client() -> AsyncIterator[Client]:
    opened = Client()
    try:
        yield opened
    finally:
        await opened.aclose()


async def failure(client: Client, url: str, **options: object) -> HttpFailure:
    with pytest.raises(HttpFailure) as caught:
        await client.request("POST", url, body=b"{}", **options)  # type: ignore[arg-type]
    return caught.value


# What cannot be called


@pytest.mark.parametrize(
    "url",
    [
        "ftp://host/",
        "//host/",
        "host:9002",
        "http://",
        "http://user:secret@host/",
        "http://user:secret/@host/",
        "http://host:0/",
        f"http://{'a' * 64}.host/",
        "http://host:99999999/",
        "http://host/a b",
        "http://host/\r\nx: y",
        "http://[::1/",
    ],
)
async def test_a_url_that_cannot_be_called_is_refused(client: Client, url: str) -> None:
    failed = await failure(client, url)

    assert (failed.word, failed.is_sent) == ("unusable", False)
    assert "secret" not in str(failed)


@pytest.mark.parametrize("header", [("a\r\nb", "c"), ("a", "b\r\nc: d"), ("a b", "c"), ("a", "\0")])
async def test_a_header_that_would_begin_another_is_refused(
    client: Client, header: tuple[str, str]
) -> None:
    failed = await failure(client, "http://127.0.0.1:1/", headers=dict([header]))

    assert failed.word == "unusable"


@pytest.mark.parametrize(
    "host",
    ["169.254.169.254", "[fe80::1]", "[::ffff:169.254.169.254]", "100.100.100.200"],
)
async def test_addresses_of_cloud_metadata_are_refused(client: Client, host: str) -> None:
    failed = await failure(client, f"http://{host}/")

    assert (failed.word, failed.is_sent) == ("refused", False)


async def test_what_a_name_leads_to_is_refused_too(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("callboard.dispatch.names.addresses_of", lambda *_: ["169.254.169.254"])
    client = Client()

    failed = await failure(client, "http://harmless.example/")

    assert failed.word == "refused"
    await client.aclose()


async def test_only_an_address_that_may_be_is_connected_to(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    async with serving(says(OK)) as server:
        both = ["169.254.169.254", "127.0.0.1"]
        monkeypatch.setattr("callboard.dispatch.names.addresses_of", lambda *_: both)
        client = Client()

        response = await client.request("GET", server.url.replace("127.0.0.1", "agent.example"))

        assert response.body == b"ok"
        await client.aclose()


@pytest.mark.parametrize("allow", ["169.254.0.0/16", "169.254.1.1", "Agent.Example"])
def test_what_is_allowed_is_not_refused(allow: str) -> None:
    address = ipaddress.ip_address("169.254.1.1")

    assert AddressRules().is_refused("agent.example", address)
    assert not AddressRules([allow]).is_refused("agent.example", address)


async def test_nobody_listens(client: Client) -> None:
    async with serving(says(OK)) as server:
        url = server.url

    failed = await failure(client, url)

    assert (failed.word, failed.is_sent) == ("connect", False)


async def test_a_name_that_is_not_known(client: Client) -> None:
    failed = await failure(client, "http://no-such-host.invalid/")

    assert (failed.word, failed.is_sent) == ("connect", False)


@pytest.mark.parametrize("host", ["a" * 64 + ".example", "a..example"], ids=["long", "empty"])
async def test_a_host_that_can_be_no_name_is_refused(client: Client, host: str) -> None:
    failed = await failure(client, f"http://{host}/")

    assert (failed.word, failed.is_sent) == ("unusable", False)


# Names


class Slow:
    """Look-ups that end when the test says so; those of others at once."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.go_on = threading.Event()
        self.asked: list[str] = []
        self.answer: list[str] | OSError = ["127.0.0.1"]
        monkeypatch.setattr("callboard.dispatch.names.addresses_of", self)
        monkeypatch.setattr("callboard.dispatch.names.SLOW_SECONDS", 0.05)

    def __call__(self, host: str) -> list[str]:
        self.asked.append(host)
        if host.endswith(".slow"):
            self.go_on.wait(20)
        if isinstance(self.answer, OSError):
            raise self.answer
        return self.answer


@pytest.fixture
def slow(monkeypatch: pytest.MonkeyPatch) -> Iterator[Slow]:
    names = Slow(monkeypatch)
    yield names
    names.go_on.set()


def at(server: Server, host: str) -> str:
    return server.url.replace("127.0.0.1", host)


async def test_names_that_take_long_keep_no_known_one_waiting(client: Client, slow: Slow) -> None:
    async with serving(says(OK, then="close")) as server:
        await client.request("GET", at(server, "known.example"))
        for name in client._names._names.values():
            name.at -= 100  # it is to be asked for again
        late = [failure(client, f"http://n{i}.slow/", timeout=0.1) for i in range(100)]

        failures = asyncio.gather(*late)
        response = await client.request("GET", at(server, "known.example"), timeout=5)

        assert response.body == b"ok"
        assert {failed.word for failed in await failures} == {"timeout"}
        assert (await client.request("GET", at(server, "localhost"), timeout=5)).body == b"ok"


async def test_a_name_is_asked_for_once_however_many_wait_for_it(
    client: Client, slow: Slow
) -> None:
    waiting = [asyncio.create_task(client._names.look_up("one.slow")) for _ in range(10)]
    await until(lambda: slow.asked)
    waiting.append(asyncio.create_task(client._names.look_up("one.slow")))
    await until(lambda: client._names._names["one.slow"].waiting == 11)
    slow.go_on.set()

    assert await asyncio.gather(*waiting) == [("127.0.0.1",)] * 11
    assert slow.asked == ["one.slow"]


async def test_a_look_up_that_nobody_waits_for_and_that_did_not_begin_is_given_up(
    client: Client, slow: Slow
) -> None:
    late = [failure(client, f"http://n{i}.slow/", timeout=0.1) for i in range(100)]
    await asyncio.gather(*late)

    names = client._names._names.values()
    assert sum(name.asking is not None for name in names) == LANES["new"]
    assert not client._hosts
    slow.go_on.set()
    async with asyncio.timeout(10):
        while any(name.asking for name in names):
            await asyncio.sleep(0)
    assert len(slow.asked) == LANES["new"]


async def test_an_answer_serves_for_a_while_and_stands_in_for_one_that_fails(
    client: Client, slow: Slow
) -> None:
    async with serving(says(OK, then="close")) as server:
        url = at(server, "agent.slow")
        slow.go_on.set()
        for _ in range(3):
            await client.request("GET", url)
        assert slow.asked == ["agent.slow"]

        (name,) = client._names._names.values()
        for temporary in (socket.gaierror(socket.EAI_AGAIN, "busy"), OSError("no")):
            name.at -= 100
            slow.answer = temporary
            assert (await client.request("GET", url)).body == b"ok"
        slow.go_on.clear()
        name.at -= 100
        assert (await client.request("GET", url, timeout=5)).body == b"ok"
        slow.answer = socket.gaierror(socket.EAI_NONAME, "gone")
        slow.go_on.set()
        async with asyncio.timeout(5):
            while name.asking is not None:
                await asyncio.sleep(0)

        assert "cannot be looked up: gone" in str(await failure(client, url))


async def test_what_is_known_of_names_has_a_bound(
    client: Client, slow: Slow, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("callboard.dispatch.names.NAMES_MAX", 10)
    slow.answer = OSError("no")

    for i in range(30):
        await failure(client, f"http://n{i}.example/")

    assert len(client._names._names) == 10


async def test_whoever_waits_for_a_name_is_told_that_the_client_was_closed(
    client: Client, slow: Slow
) -> None:
    task = asyncio.create_task(failure(client, "http://n.slow/", timeout=10))
    async with asyncio.timeout(5):
        while not slow.asked:
            await asyncio.sleep(0)

    await client.aclose()

    assert (await task).word == "connect"


# Responses


@pytest.mark.parametrize(
    ("answer", "status", "body"),
    [
        (OK, 200, b"ok"),
        (b"HTTP/1.1 204 No\r\n\r\n", 204, b""),
        (b"HTTP/1.1 200 OK\r\ncontent-length: 0\r\n\r\n", 200, b""),
        (
            b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n"
            b"2\r\nab\r\n3\r\ncde\r\n0\r\n\r\n",
            200,
            b"abcde",
        ),
        (b"HTTP/1.1 100 Continue\r\n\r\n" + OK, 200, b"ok"),
        (b"HTTP/1.1 307 Go\r\nlocation: /x\r\ncontent-length: 0\r\n\r\n", 307, b""),
        (b"HTTP/1.1 500 Oh\r\ncontent-length: 3\r\n\r\nbad", 500, b"bad"),
    ],
    ids=["length", "none", "empty", "chunked", "continue", "redirect", "error"],
)
async def test_a_response_is_read_and_the_connection_kept(
    client: Client, answer: bytes, status: int, body: bytes
) -> None:
    async with serving(says(answer)) as server:
        for _ in range(3):
            response = await client.request("POST", server.url, body=b"{}")
            assert (response.status, response.body) == (status, body)

        assert server.connections == 1


async def test_a_body_without_a_length_ends_with_the_connection(client: Client) -> None:
    async with serving(says(b"HTTP/1.1 200 OK\r\n\r\nall of it", then="close")) as server:
        response = await client.request("GET", server.url)

        assert response.body == b"all of it"
        assert (await client.request("GET", server.url)).body == b"all of it"
        assert server.connections == 2


async def test_a_server_that_wants_to_close_is_let(client: Client) -> None:
    answer = b"HTTP/1.1 200 OK\r\nconnection: close\r\ncontent-length: 2\r\n\r\nok"
    async with serving(says(answer, then="hang")) as server:
        await client.request("GET", server.url)
        await client.request("GET", server.url)

        assert server.connections == 2


async def test_headers_come_by_name_and_repeated_ones_joined(client: Client) -> None:
    answer = b"HTTP/1.1 200 OK\r\nX-One: a\r\nx-one: b\r\ncontent-length: 0\r\n\r\n"
    async with serving(says(answer)) as server:
        response = await client.request("GET", server.url)

        assert response.headers["x-one"] == "a, b"


async def test_the_answer_to_a_head_has_no_body(client: Client) -> None:
    async with serving(says(b"HTTP/1.1 200 OK\r\ncontent-length: 50\r\n\r\n")) as server:
        response = await client.request("HEAD", server.url, timeout=5)

        assert (response.status, response.body) == (200, b"")


async def test_the_request_is_written_as_asked(client: Client) -> None:
    seen: list[tuple[bytes, bytes]] = []

    async def script(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        seen.append(await asked(reader))
        writer.write(OK)

    async with serving(script) as server:
        await client.request("POST", f"{server.url}/ä/b?c=d%20e", {"x-y": "z"}, b"hi")

    head, body = seen[0]
    lines = head.decode().split("\r\n")
    assert lines[0] == "POST /%C3%A4/b?c=d%20e HTTP/1.1"
    assert f"host: {server.url[7:]}" in lines
    assert "x-y: z" in lines
    assert body == b"hi"


# What goes wrong


@pytest.mark.parametrize(
    ("answer", "word"),
    [
        (b"SSH-2.0-OpenSSH\r\n\r\n", "broken"),
        (b"HTTP/1.1 200 OK\r\ncontent-length: x\r\n\r\n", "broken"),
        (b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\ncontent-length: 3\r\n\r\nok", "broken"),
        (b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\nzz\r\n", "broken"),
        (b"HTTP/1.1 200 OK\r\ncontent-length: 10\r\n\r\nhalf", "broken"),
        (b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n5\r\nab", "broken"),
        (b"HTTP/1.1 200", "broken"),
        (b"", "broken"),
        (b"HTTP/1.1 200 OK\r\ncontent-length: 2000\r\n\r\n", "too_large"),
        (b"HTTP/1.1 200 OK\r\n\r\n" + b"x" * 2000, "too_large"),
        (b"HTTP/1.1 200 OK\r\n" + b"a: b\r\n" * 20_000 + b"\r\n", "too_large"),
        (b"HTTP/1.1 200 OK\r\na: " + b"b" * 1_000_000, "too_large"),
    ],
    ids=[
        *("not_http", "length", "lengths", "chunk", "cut", "cut_chunk", "cut_head", "nothing"),
        *("long", "endless", "headers", "header"),
    ],
)
async def test_a_response_that_is_none(client: Client, answer: bytes, word: str) -> None:
    async with serving(says(answer, then="close")) as server:
        failed = await failure(client, server.url, body_bytes=1_000, timeout=10)

        assert (failed.word, failed.is_sent) == (word, True)


async def test_who_does_not_answer_in_time_is_left(client: Client) -> None:
    async with serving(says(then="hang")) as server:
        failed = await failure(client, server.url, timeout=0.05)

        assert (failed.word, failed.is_sent) == ("timeout", True)
        async with asyncio.timeout(5):
            while client._connections:
                await asyncio.sleep(0)


async def test_a_response_that_trickles_does_not_gain_time(client: Client) -> None:
    async def script(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await asked(reader)
        writer.write(b"HTTP/1.1 200 OK\r\n")
        while True:
            writer.write(b"a: b\r\n")
            await writer.drain()
            await asyncio.sleep(0.01)

    async with serving(script) as server:
        failed = await failure(client, server.url, timeout=0.2)

        assert failed.word == "timeout"


async def test_a_kept_connection_that_was_closed_is_replaced_where_it_may_be(
    client: Client,
) -> None:
    closing = asyncio.Event()

    async def script(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await asked(reader)
        writer.write(OK)
        if not closing.is_set():
            await asked(reader)  # and closes without an answer

    async with serving(script) as server:
        await client.request("POST", server.url, repeat=True)
        closing.set()

        response = await client.request("POST", server.url, repeat=True)

        assert response.body == b"ok"
        assert server.connections == 2


async def test_the_places_of_kept_connections_that_were_closed_are_free_again() -> None:
    small = Client(per_host=2)

    async def script(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await asked(reader)
        writer.write(OK)
        await asked(reader)  # and closes without an answer

    async with serving(script) as server:
        for _ in range(5):
            both = (small.request("GET", server.url, timeout=5) for _ in range(2))
            await asyncio.gather(*both)
            assert (await small.request("GET", server.url, timeout=5)).body == b"ok"
    await small.aclose()


async def test_whoever_waits_for_a_connection_is_told_that_the_client_was_closed() -> None:
    small = Client(per_host=1)
    async with serving(says(b"", then="hang")) as server:
        first = asyncio.create_task(failure(small, server.url, timeout=20))
        second = asyncio.create_task(failure(small, server.url, timeout=20))
        async with asyncio.timeout(10):
            while not any(host.waiters for host in small._hosts.values()):
                await asyncio.sleep(0)

        await small.aclose()

        assert (await second).word == "connect"
        assert (await first).word in ("broken", "connect")
        assert not small._connections


async def test_it_is_not_sent_again_where_that_is_not_known_to_be_safe(client: Client) -> None:
    async def script(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await asked(reader)
        writer.write(OK)
        await asked(reader)

    async with serving(script) as server:
        await client.request("POST", server.url)

        failed = await failure(client, server.url)

        assert (failed.word, failed.is_sent) == ("stale", True)
        assert server.connections == 1


async def test_it_is_not_sent_again_once_something_came(client: Client) -> None:
    async def script(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await asked(reader)
        writer.write(OK)
        await asked(reader)
        writer.write(b"HTTP/1.1 2")

    async with serving(script) as server:
        await client.request("POST", server.url, repeat=True)

        failed = await failure(client, server.url, repeat=True)

        assert failed.word == "broken"
        assert server.connections == 1


async def test_what_nobody_asked_for_closes_the_connection(client: Client) -> None:
    async def script(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await asked(reader)
        writer.write(OK + OK)
        await reader.read()

    async with serving(script) as server:
        first = await client.request("GET", server.url)
        async with asyncio.timeout(5):
            while not server.closed:
                await asyncio.sleep(0)
        second = await client.request("GET", server.url)

        assert (first.body, second.body) == (b"ok", b"ok")
        assert server.connections == 2


# The pool


async def test_no_more_connections_than_allowed_and_the_others_wait(client: Client) -> None:
    small = Client(per_host=3)
    async with serving(says(OK)) as server:
        responses = await asyncio.gather(*(small.request("GET", server.url) for _ in range(50)))

        assert [r.body for r in responses] == [b"ok"] * 50
        assert server.connections <= 3
    await small.aclose()


async def test_who_waits_for_a_connection_waits_no_longer_than_it_wants() -> None:
    small = Client(per_host=1)
    async with serving(says(then="hang")) as server:
        slow = asyncio.create_task(failure(small, server.url, timeout=1))
        await asyncio.sleep(0)

        failed = await failure(small, server.url, timeout=0.05)

        assert (failed.word, failed.is_sent) == ("timeout", False)
        assert (await slow).word == "timeout"
    await small.aclose()


async def test_a_connection_is_waited_for_no_longer_than_that_though_an_answer_may_take_longer(
    client: Client,
) -> None:
    small = Client(per_host=1)
    async with serving(says(then="hang")) as server:
        slow = asyncio.create_task(failure(small, server.url, timeout=1))
        await asyncio.sleep(0)

        failed = await failure(small, server.url, timeout=30, until_sent=0.05)

        assert (failed.word, failed.is_sent) == ("timeout", False)
        assert (await slow).word == "timeout"
        late = await failure(client, server.url, timeout=0.5, until_sent=0.2)
        assert late.is_sent
    await small.aclose()


async def test_places_of_requests_that_failed_or_were_cancelled_are_free_again() -> None:
    small = Client(per_host=2)

    async def script(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        head, _ = await asked(reader)
        if b"/hang" in head:
            await asyncio.Event().wait()
        writer.write(OK if b"/ok" in head else b"no")

    async with serving(script) as server:
        for _ in range(5):
            await failure(small, f"{server.url}/bad", timeout=5)
            await failure(small, f"{server.url}/hang", timeout=0.02)
            tasks = [
                asyncio.create_task(small.request("GET", f"{server.url}/hang")) for _ in range(5)
            ]
            await until(lambda: [len(host.waiters) for host in small._hosts.values()] == [3])
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)

        done = await asyncio.gather(*(small.request("GET", f"{server.url}/ok") for _ in range(6)))

        assert len(done) == 6
        assert all(host.open <= 2 for host in small._hosts.values())
    await small.aclose()


async def test_idle_connections_are_closed_and_their_host_forgotten() -> None:
    brief = Client(idle=0.02)
    async with serving(says(OK)) as server:
        await brief.request("GET", server.url)

        await until(lambda: not brief._hosts)

        assert not brief._connections
    await brief.aclose()


async def test_requests_under_way_end_as_the_client_is_closed(client: Client) -> None:
    is_sent = asyncio.Event()

    async def script(reader: asyncio.StreamReader, _: asyncio.StreamWriter) -> None:
        await asked(reader)
        is_sent.set()
        await asyncio.Event().wait()

    async with serving(script) as server:
        task = asyncio.create_task(failure(client, server.url))
        await is_sent.wait()

        await client.aclose()

        assert (await task).word == "broken"
        assert (await failure(client, server.url)).word == "connect"


async def test_failures_are_not_kept_as_garbage_that_warns(client: Client) -> None:
    problems: list[object] = []
    asyncio.get_running_loop().set_exception_handler(lambda _, context: problems.append(context))
    async with serving(says(then="hang")) as server:
        for _ in range(5):
            await failure(client, server.url, timeout=0.01)
            await failure(client, "http://no-such-host.invalid/")
    gc.collect()
    await asyncio.sleep(0)

    assert problems == []


# Streams


async def test_a_stream_is_read_as_it_comes(client: Client) -> None:
    go_on = asyncio.Event()

    async def script(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await asked(reader)
        writer.write(b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n3\r\none\r\n")
        await go_on.wait()
        writer.write(b"3\r\ntwo\r\n0\r\n\r\n")

    async with serving(script) as server, client.stream("GET", server.url) as stream:
        assert stream.status == 200
        assert await anext(stream) == b"one"
        go_on.set()
        assert [chunk async for chunk in stream] == [b"two"]


async def test_a_stream_that_breaks_says_so(client: Client) -> None:
    answer = b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n3\r\none\r\n"
    async with serving(says(answer, then="close")) as server:
        async with client.stream("GET", server.url) as stream:
            assert await anext(stream) == b"one"
            with pytest.raises(HttpFailure) as caught:
                await anext(stream)

        assert caught.value.word == "broken"


async def test_a_silent_stream_is_left_after_its_time(client: Client) -> None:
    answer = b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n"
    async with serving(says(answer, then="hang")) as server:
        async with client.stream("GET", server.url, silence=0.02) as stream:
            with pytest.raises(HttpFailure) as caught:
                await anext(stream)

        assert caught.value.word == "timeout"


async def test_a_stream_that_nobody_reads_holds_up_its_sender(client: Client) -> None:
    sent = 0
    waits: list[asyncio.StreamWriter] = []

    async def script(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        nonlocal sent
        await asked(reader)
        writer.write(b"HTTP/1.1 200 OK\r\n\r\n")
        waits.append(writer)
        while sent < 64_000_000:
            writer.write(b"x" * 65_536)
            await writer.drain()
            sent += 65_536

    async with serving(script) as server, client.stream("GET", server.url) as stream:
        async with asyncio.timeout(20):
            while not (stream._is_paused and waits[0].transport.get_write_buffer_size() > 65_536):
                await asyncio.sleep(0)

        assert sent < 32_000_000
        assert len(await anext(stream)) < 2_000_000


async def test_a_stream_takes_no_place_from_requests() -> None:
    small = Client(per_host=1)

    async def script(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        head, _ = await asked(reader)
        if b"/stream" in head:
            writer.write(b"HTTP/1.1 200 OK\r\n\r\n")
            await asyncio.Event().wait()
        writer.write(OK)

    async with serving(script) as server, small.stream("GET", f"{server.url}/stream"):
        assert (await small.request("GET", server.url, timeout=5)).body == b"ok"
    await small.aclose()


# TLS


@pytest.fixture(scope="module")
def certificate(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    folder = tmp_path_factory.mktemp("tls")
    key, cert = folder / "key.pem", folder / "cert.pem"
    subprocess.run(
        [
            *("openssl", "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-days", "2"),
            *("-keyout", str(key), "-out", str(cert), "-subj", "/CN=localhost"),
            *("-addext", "subjectAltName=DNS:localhost"),
        ],
        check=True,
        capture_output=True,
    )
    return key, cert


async def test_over_tls_the_certificate_is_checked(certificate: tuple[Path, Path]) -> None:
    key, cert = certificate
    serves = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    serves.load_cert_chain(cert, key)
    trusting, usual = Client(tls=ssl.create_default_context(cafile=str(cert))), Client()

    async with serving(says(OK), serves) as server:
        response = await trusting.request("GET", server.url)
        failed = await failure(usual, server.url)
        other = await failure(trusting, server.url.replace("localhost", "127.0.0.1"))

    assert response.body == b"ok"
    assert (failed.word, other.word) == ("connect", "connect")
    assert "certificate" in str(failed).lower()
    await trusting.aclose()
    await usual.aclose()
