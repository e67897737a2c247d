"""Agents behind HTTP: real sockets, served by hand, so that each fault is exactly what it says."""

from __future__ import annotations

import asyncio
import gzip
import json
import socket
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from datetime import UTC, datetime, timedelta
from email.utils import format_datetime
from pathlib import Path
from typing import Any

import pytest

from callboard.domain.retry import Failure
from callboard.exceptions import AgentUnusable, Fatal, Retry
from callboard.teams.agents import close_agent
from callboard.teams.agents.endpoint import EndpointAgent
from tests.teams.agents_support import AskingContext, AskingTask, asked, definition, nothing_left
from tests.waiting import until

pytestmark = pytest.mark.filterwarnings("error::ResourceWarning")

Answer = Callable[[asyncio.StreamReader, asyncio.StreamWriter], Awaitable[None]]
NOWHERE = Path("/nowhere")


class Server:
    """Reads requests and answers each as told; knows what it was sent and who is connected."""

    def __init__(self, answer: Answer) -> None:
        self.answer = answer
        self.requests: list[tuple[str, dict[str, str], bytes]] = []
        self.connections = 0
        self.open = 0
        self.url = ""

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.connections += 1
        self.open += 1
        try:
            while head := await reader.readuntil(b"\r\n\r\n"):
                first, *lines = head.decode("latin-1").strip().split("\r\n")
                headers = {k.lower(): v for k, v in (line.split(": ", 1) for line in lines)}
                body = await reader.readexactly(int(headers.get("content-length", "0")))
                self.requests.append((first, headers, body))
                await self.answer(reader, writer)
                await writer.drain()
        except (asyncio.IncompleteReadError, ConnectionError):
            pass
        finally:
            self.open -= 1
            writer.close()


@asynccontextmanager
async def serving(answer: Answer | bytes) -> AsyncIterator[Server]:
    async def write(_: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(answer)  # type: ignore[arg-type]

    server = Server(write if isinstance(answer, bytes) else answer)
    async with nothing_left():
        listening = await asyncio.start_server(server.serve, "127.0.0.1", 0)
        server.url = f"http://127.0.0.1:{listening.sockets[0].getsockname()[1]}/judge"
        try:
            yield server
        finally:
            listening.close()
            await until(lambda: server.open == 0, seconds=5)


def http(
    body: bytes, status: str = "200 OK", kind: str = "application/json", more: str = ""
) -> bytes:
    content_type = f"Content-Type: {kind}\r\n" if kind else ""
    head = f"HTTP/1.1 {status}\r\n{content_type}{more}Content-Length: {len(body)}\r\n\r\n"
    return head.encode("latin-1") + body


def agent_of(url: str, **options: Any) -> EndpointAgent:
    return EndpointAgent(definition("endpoint", url, **options), NOWHERE)


async def answer_of(answer: Answer | bytes, **options: Any) -> Any:
    async with serving(answer) as server:
        agent = agent_of(server.url, **options)
        try:
            return await agent.run(asked())
        finally:
            await agent.aclose()


async def failure_of(answer: Answer | bytes, **options: Any) -> Failure:
    """What a call fails with; the port in it is written as PORT."""
    async with serving(answer) as server:
        agent = agent_of(server.url, **options)
        with pytest.raises((Retry, Fatal)) as raised:
            await agent.run(asked())
        await agent.aclose()
        assert server.url in raised.value.message
        port = server.url.split(":")[2].partition("/")[0]
        failure = Failure.from_exception(raised.value)
        return Failure(
            failure.type,
            failure.message.replace(port, "PORT"),
            failure.retryable,
            failure.delay,
            failure.details,
        )


async def test_the_request_is_posted_as_json_with_the_key_that_all_its_attempts_share():
    async with serving(http(b'{"score": 7}')) as server:
        agent = agent_of(server.url + "?k=v", headers={"Authorization": "Bearer x", "X-A": 1})
        context = AskingContext(
            task=AskingTask(b'{"kind":"work","trace_context":"00-aa-bb-01","payload":{"q":1}}')
        )
        answer = await agent.run(asked({"rows": [1]}, context))
        await close_agent(agent)

    line, headers, body = server.requests[0]
    assert answer == {"score": 7}
    assert line == "POST /judge?k=v HTTP/1.1"
    assert json.loads(body)["task"]["payload"] == {"rows": [1]}
    assert headers["host"] == server.url.split("/")[2]
    assert headers["content-type"] == "application/json"
    assert headers["idempotency-key"] == "run-1/t-1"
    assert headers["callboard-fence"] == "41"
    assert headers["traceparent"] == "00-aa-bb-01"
    assert (headers["authorization"], headers["x-a"]) == ("Bearer x", "1")


async def test_a_task_without_a_trace_sends_none():
    async with serving(http(b"1")) as server:
        agent = agent_of(server.url)
        await agent.run(asked())
        await agent.aclose()

    assert "traceparent" not in server.requests[0][1]


async def test_calls_share_their_connections_and_cookies_are_not_kept():
    async with serving(http(b"1", more="Set-Cookie: id=1\r\n")) as server:
        agent = agent_of(server.url)
        for _ in range(3):
            await agent.run(asked())
        await agent.aclose()

    assert server.connections == 1
    assert not any("cookie" in headers for _, headers, _ in server.requests)


async def test_an_agent_works_again_after_it_was_closed():
    async with serving(http(b"1")) as server:
        agent = agent_of(server.url)
        await agent.run(asked())
        await agent.aclose()
        await agent.aclose()

        assert await agent.run(asked()) == 1
        await agent.aclose()


@pytest.mark.parametrize(
    ("answer", "found"),
    [
        (http(b"[1]", kind="application/problem+json; charset=utf-8"), [1]),
        (http(b"\xef\xbb\xbf[1]"), [1]),
        (http(b"{}", kind=""), {}),
        (http("Grüße".encode(), kind="text/markdown"), "Grüße"),
        (http("Grüße".encode("latin-1"), kind="text/plain; charset=ISO-8859-1"), "Grüße"),
        (http(b"", status="204 No Content", kind=""), None),
        (http(b" \n"), None),
        (http(b"[1]", status="201 Created"), [1]),
        (b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nTransfer-Encoding: chunked\r\n"
         b"\r\n2\r\n[1\r\n1\r\n]\r\n0\r\n\r\n", [1]),
        (http(gzip.compress(b"[1]", mtime=0), more="Content-Encoding: gzip\r\n"), [1]),
    ],
)  # fmt: skip
async def test_json_is_decoded_and_text_taken_as_it_is(answer, found):
    assert await answer_of(answer) == found


async def test_a_redirect_is_a_failure_and_is_not_followed():
    failure = await failure_of(
        http(b"", "302 Found", more="Location: http://user:pw@elsewhere.test/x?token=1\r\n")
    )

    assert failure.message == (
        "The endpoint http://127.0.0.1:PORT/judge answered 302 to http://elsewhere.test/x?…: "
        "redirects are not followed. Give the address that answers itself."
    )
    assert not failure.retryable


async def test_rubbish_that_calls_itself_json_is_shown_by_its_beginning():
    failure = await failure_of(http(b"<html>\nBad   gateway" + b"!" * 5_000))

    assert failure.message.startswith(
        "The endpoint http://127.0.0.1:PORT/judge answered with application/json that is not "
        "JSON: '<html> Bad gateway!!!"
    )
    assert len(failure.message) < 400
    assert failure.retryable


async def test_binary_that_calls_itself_json_or_text_is_a_failure():
    as_json = await failure_of(http(b"\x89PNG\r\n\x1a\n\xff\xfe"))
    as_text = await failure_of(http(b"\x89PNG\r\n\x1a\n\xff\xfe", kind="text/plain"))

    assert "answered with application/json that is not JSON: '�PNG" in as_json.message
    assert as_text.message.endswith("answered with text that is not utf-8.")


async def test_json_nested_too_deeply_is_a_failure_and_no_crash():
    failure = await failure_of(http(b"[" * 100_000))

    assert "is not JSON: '[[[" in failure.message


async def test_another_type_is_a_failure_that_names_it():
    failure = await failure_of(http(b"\x89PNG", kind="image/png"))

    assert failure.message.endswith("answered with image/png; let it answer with JSON or text.")


@pytest.mark.parametrize("status", [408, 425, 429, 500, 502, 503, 504, 599])
async def test_a_status_of_the_moment_is_retried(status):
    failure = await failure_of(http(b"", f"{status} Sorry", kind=""))

    assert failure.message == f"The endpoint http://127.0.0.1:PORT/judge answered {status}."
    assert failure.retryable and failure.delay is None


@pytest.mark.parametrize("status", [400, 401, 403, 404, 405, 409, 413, 422, 451])
async def test_another_4xx_is_not_retried(status):
    failure = await failure_of(http(b"", f"{status} No", kind=""))

    assert failure.message == f"The endpoint http://127.0.0.1:PORT/judge answered {status}."
    assert not failure.retryable


@pytest.mark.parametrize(
    ("value", "delay"),
    [("7", 7.0), ("0.5", 0.5), ("99999999", 3_600.0), ("soon", None), ("-1", None), ("", None)],
)
async def test_retry_after_in_seconds_is_heeded_up_to_an_hour(value, delay):
    failure = await failure_of(http(b"", "429 Slow", kind="", more=f"Retry-After: {value}\r\n"))

    assert failure.delay == delay


async def test_retry_after_as_a_date_is_heeded_and_a_past_one_means_now():
    soon = format_datetime(datetime.now(UTC) + timedelta(seconds=90), usegmt=True)
    past = "Wed, 21 Oct 2015 07:28:00 GMT"

    in_future = await failure_of(http(b"", "503 No", kind="", more=f"Retry-After: {soon}\r\n"))
    in_past = await failure_of(http(b"", "503 No", kind="", more=f"Retry-After: {past}\r\n"))

    assert in_future.delay is not None and 60 < in_future.delay <= 90
    assert in_past.delay == 0.0


@pytest.mark.parametrize(
    ("body", "kind", "reason"),
    [
        (b'{"detail": "No row 7.", "input": "s3cret"}', "application/json", ": No row 7."),
        (b'{"error": {"message": "Too\\nlong"}}', "application/json", ": Too long"),
        (b"No row 7.\n", "text/plain", ": No row 7."),
        (b'{"detail": [{"input": "s3cret"}]}', "application/json", "."),
        (b"<html>s3cret</html>", "text/html", "."),
        (b"\xff{", "application/json", "."),
    ],
)
async def test_a_refusal_is_quoted_where_it_says_why_but_not_what_it_echoes(body, kind, reason):
    failure = await failure_of(http(body, "422 No", kind=kind))

    assert failure.message == f"The endpoint http://127.0.0.1:PORT/judge answered 422{reason}"


@pytest.mark.parametrize("length", [True, False])
async def test_a_body_over_the_bound_is_not_read_to_its_end(length):
    written = 0

    async def huge(_: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        nonlocal written
        head = "Content-Length: 100000000" if length else "Connection: close"
        writer.write(f"HTTP/1.1 200 OK\r\nContent-Type: text/plain\r\n{head}\r\n\r\n".encode())
        while True:
            writer.write(b"x" * 65_536)
            await writer.drain()
            written += 65_536

    failure = await failure_of(huge, output_bytes=1_000)

    assert failure.message == (
        "The endpoint http://127.0.0.1:PORT/judge answered with more than 1,000 bytes. "
        "Let it answer with less, or raise output_bytes."
    )
    assert written < 20_000_000


async def test_a_connection_whose_answer_is_not_wanted_is_closed_at_once():
    async def redirect(_: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(b"HTTP/1.1 302 Found\r\nContent-Length: 100000\r\n\r\n")
        while not writer.transport.is_closing():
            writer.write(b".")
            await writer.drain()
            await asyncio.sleep(0.01)

    async with serving(redirect) as server:
        agent = agent_of(server.url)
        with pytest.raises(Fatal):
            await agent.run(asked())

        await until(lambda: server.open == 0, seconds=5)
        await agent.aclose()


async def test_an_answer_of_exactly_the_bound_is_taken():
    assert await answer_of(http(b"x" * 1_000, kind="text/plain"), output_bytes=1_000) == "x" * 1_000
    assert (
        "more than 999 bytes"
        in (await failure_of(http(b"x" * 1_000, kind="text/plain"), output_bytes=999)).message
    )


async def test_a_small_body_that_inflates_to_a_huge_one_is_bounded():
    bomb = gzip.compress(b"0" * 200_000_000, 9)

    failure = await failure_of(http(bomb, more="Content-Encoding: gzip\r\n"))

    assert "answered with more than 1,048,576 bytes" in failure.message


async def test_a_body_that_does_not_decompress_is_a_failure():
    failure = await failure_of(http(b"not gzip", more="Content-Encoding: gzip\r\n"))

    assert failure.message.endswith("answered with a body that does not decompress.")


async def hang(reader: asyncio.StreamReader, _: asyncio.StreamWriter) -> None:
    assert await reader.read() == b""  # Until the other side leaves.


async def drip(_: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    writer.write(b"HTTP/1.1 200 OK\r\nContent-Type: text/plain\r\nConnection: close\r\n\r\n")
    while not writer.transport.is_closing():
        writer.write(b".")
        await writer.drain()
        await asyncio.sleep(0.01)


@pytest.mark.parametrize("answer", [hang, drip])
async def test_an_endpoint_that_hangs_or_drips_is_left_at_the_time_limit(answer):
    async with serving(answer) as server:
        agent = agent_of(server.url, timeout=0.3)
        with pytest.raises(Retry) as raised:
            await agent.run(asked())
        await until(lambda: server.open == 0)
        await agent.aclose()

    assert raised.value.message == f"The endpoint {server.url} did not answer within 0.3 s."


@pytest.mark.parametrize("answer", [hang, drip])
async def test_a_cancelled_call_closes_its_connection_and_is_not_swallowed(answer):
    async with serving(answer) as server:
        agent = agent_of(server.url)
        running = asyncio.ensure_future(agent.run(asked()))
        await until(lambda: server.requests)

        running.cancel()
        await asyncio.wait([running])

        assert running.cancelled()
        await until(lambda: server.open == 0)
        await agent.aclose()


@pytest.mark.parametrize(
    "answer", [b"\x00\x01 not HTTP\r\n\r\n", b"HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\n[1]"]
)
async def test_what_is_not_http_or_breaks_off_is_retried(answer):
    async def write(_: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(answer)
        writer.close()

    failure = await failure_of(write)

    assert "judge broke off or does not speak HTTP: " in failure.message
    assert failure.retryable


async def test_an_endpoint_that_nobody_serves_is_retried():
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        agent = agent_of(f"http://127.0.0.1:{taken.getsockname()[1]}/")
        with pytest.raises(
            Retry, match=r"^The endpoint http://127\.0\.0\.1:\d+/ cannot be reached: "
        ):
            await agent.run(asked())
        await agent.aclose()


async def test_a_name_that_is_not_known_is_retried():
    agent = agent_of("http://nobody.invalid/")

    with pytest.raises(Retry, match="has a name that cannot be looked up: "):
        await agent.run(asked())


async def test_all_addresses_of_a_name_are_tried_until_one_takes_the_connection(monkeypatch):
    async with serving(http(b"1")) as server:
        port = int(server.url.split(":")[2].partition("/")[0])
        give_addresses(monkeypatch, "::1", "127.0.0.2", "127.0.0.1")
        agent = agent_of(f"http://judge.test:{port}/")

        answer = await agent.run(asked())
        await agent.aclose()

    assert answer == 1
    assert server.requests[0][1]["host"] == f"judge.test:{port}"


def give_addresses(monkeypatch: pytest.MonkeyPatch, *addresses: str) -> None:
    """What the system answers for every name."""

    def look_up(host: str, port: int, *_: Any, **__: Any) -> list[Any]:
        return [(0, socket.SOCK_STREAM, 6, "", (address, port)) for address in addresses]

    monkeypatch.setattr(socket, "getaddrinfo", look_up)


@pytest.mark.parametrize(
    "host",
    [
        "169.254.169.254", "169.254.10.1", "[fe80::1]", "[fd00:ec2::254]", "100.100.100.200",
        "168.63.129.16", "[::ffff:169.254.169.254]", "[64:ff9b::a9fe:a9fe]",
    ],
)  # fmt: skip
def test_addresses_of_cloud_metadata_are_refused_when_the_agent_is_made(host):
    with pytest.raises(AgentUnusable, match="of cloud metadata are refused. If it is meant, name"):
        agent_of(f"http://{host}/latest")


@pytest.mark.parametrize(
    ("address", "host"),
    [
        ("169.254.169.254", "judge.test"),
        ("fe80::1%2", "judge.test"),
        ("169.254.169.254", "2852039166"),
    ],
)
async def test_a_name_that_leads_to_cloud_metadata_is_refused_before_anything_is_sent(
    monkeypatch, address, host
):
    give_addresses(monkeypatch, address)
    agent = agent_of(f"http://{host}/")

    with pytest.raises(
        Fatal, match=f"The endpoint {host}, which is {address}: addresses of the own"
    ):
        await agent.run(asked())


@pytest.mark.parametrize("allow", ["169.254.169.254", "169.254.0.0/16", ["x", "JUDGE.test"]])
async def test_what_is_allowed_is_connected_to(monkeypatch, allow):
    agent = agent_of("http://judge.test/", allow=allow)
    give_addresses(monkeypatch, "169.254.169.254")

    assert await agent._addresses.look_up(80) == ["169.254.169.254"]


async def test_neither_the_payload_nor_a_header_nor_the_query_is_in_a_message_or_log(caplog):
    caplog.set_level("DEBUG")
    invocation = asked("s3cret-3")
    async with serving(http(b"", "500 No")) as server:
        agent = agent_of(server.url + "?key=s3cret-1", headers={"Authorization": "s3cret-2"})
        with pytest.raises(Retry) as raised:
            await agent.run(invocation)
        await agent.aclose()

    failure = Failure.from_exception(raised.value)
    assert f"{server.url}?… answered 500." in failure.message
    assert "s3cret" not in failure.encode().decode() + caplog.text


@pytest.mark.parametrize(
    ("settings", "options", "says"),
    [
        ("ftp://a.test/", {}, "endpoint ftp://a.test/ is no address of the web"),
        ("judge", {}, "endpoint judge is no address of the web; write one, for example"),
        ("http://", {}, "is no address of the web"),
        ("http://a.test:99999/", {}, "is no address of the web"),
        (5, {}, "endpoint is no URL"),
        ("http://a:pw@b.test/", {}, "endpoint http://b.test/ has a name or password in it"),
        ("http://a.test", {"headers": {"Host": "b"}}, "the header host is set by the call"),
        ("http://a.test", {"headers": {"A B": "b"}}, "'a b' is no name of a header"),
        ("http://a.test", {"headers": {"A": "s3\r\nB: c"}}, "the value of the header a has a line"),
        ("http://a.test", {"connect_timeout": 0}, "connect_timeout is 0; use a number from 0.01"),
        ("http://a.test", {"allow": 1}, "allow is 1; use a list of texts."),
    ],
)
def test_an_endpoint_that_could_never_answer_is_refused_with_the_cure(settings, options, says):
    with pytest.raises(AgentUnusable) as raised:
        agent_of(settings, **options)

    assert raised.value.message.startswith("Agent 'reader': ")
    assert says in raised.value.message
    assert "s3" not in raised.value.message and "pw" not in raised.value.message
