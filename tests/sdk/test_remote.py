"""The client over HTTP: what it asks for, what it makes of answers, and what it leaves."""

from __future__ import annotations

import asyncio
import inspect
import typing
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from datetime import UTC, datetime
from typing import Any

import msgspec
import pytest

import callboard
import callboard.sync
from callboard import exceptions
from callboard.app import Callboard
from callboard.config import check_coordinators, check_url, resolve_engine
from callboard.dispatch.client import HttpFailure, Response
from callboard.domain.record import Claimed
from callboard.domain.task import TaskSpec
from callboard.engine.handed_in import Completion, Encoded
from callboard.exceptions import (
    AgentNotFound,
    CallboardError,
    ConfigError,
    EngineError,
    EngineUnavailable,
    InvalidArgument,
    LeaseLost,
    NotAuthenticated,
    NotFound,
    OutcomeUnknown,
    RateLimited,
    TaskNotFound,
    TooLarge,
)
from callboard.operations import LOCAL, OPERATIONS
from callboard.operations.tasks import ClaimedTask
from callboard.sdk.remote.app import RemoteCallboard
from callboard.sdk.remote.asking import asking
from callboard.sdk.remote.errors import error_of, failed
from callboard.sdk.remote.restoring import claimed_of
from callboard.sdk.remote.services import MADE_OF_OTHERS, NEEDS_ENGINE, STAYS, remote_class
from callboard.sdk.remote.streams import told
from callboard.teams.host import check_can_host
from tests.http.support import serving

# The same API


def _services() -> dict[str, Any]:
    hints = typing.get_type_hints(Callboard)
    return {
        name: kind
        for name, kind in hints.items()
        if inspect.isclass(kind) and kind.__module__.startswith("callboard.") and name != "facts"
    }


@pytest.mark.parametrize("service", sorted(_services()))
def test_every_method_travels_or_is_made_of_others_or_says_why_not(service: str) -> None:
    kind = _services()[service]
    remote = remote_class(kind)

    own = [
        name
        for name, method in inspect.getmembers(kind)
        if not name.startswith("_")
        and (inspect.iscoroutinefunction(method) or inspect.isasyncgenfunction(method))
        and getattr(remote, name) is method
        and f"{service}.{name}" not in MADE_OF_OTHERS
        and f"{service}.{name}" not in LOCAL
    ]

    assert own == []


@pytest.mark.parametrize("service", sorted(_services()))
def test_every_method_keeps_its_signature(service: str) -> None:
    kind = _services()[service]
    remote = remote_class(kind)

    for name, method in inspect.getmembers(kind, inspect.isfunction):
        if not name.startswith("_"):
            mine = inspect.signature(getattr(remote, name)).parameters
            assert mine == inspect.signature(method).parameters, name


def test_the_lists_of_what_is_special_name_methods_that_are_there() -> None:
    known = {f"{service}.{name}" for service, kind in _services().items() for name in dir(kind)}

    assert {*MADE_OF_OTHERS, *NEEDS_ENGINE, *STAYS} - known == set()
    assert set(LOCAL) >= NEEDS_ENGINE
    assert set(OPERATIONS) >= MADE_OF_OTHERS


# What is asked for


def _request(name: str, *args: Any, board: str = "default", **kwargs: Any) -> tuple[str, Any]:
    ask = asking(name)
    values = ask.bound(None, *args, **kwargs)
    path, body = ask.request(ask.operation.sent(values), board)
    return path, msgspec.json.decode(body) if body else None


def test_a_call_becomes_a_path_and_a_body() -> None:
    path, body = _request("tasks.complete", "t 1/2", fence=7, result={"n": 1})

    assert path == "/tasks/t%201%2F2/complete"
    assert body == {"fence": 7, "result": {"n": 1}}


def test_another_board_is_named_in_the_path() -> None:
    assert _request("tasks.get", "t", board="night shift") == (
        "/boards/night%20shift/tasks/t",
        None,
    )


def test_a_task_that_is_named_as_a_documented_path_is_read_by_its_board() -> None:
    assert _request("tasks.get", "status") == ("/boards/default/tasks/status", None)
    assert _request("tasks.get", "statuses") == ("/tasks/statuses", None)


def test_what_was_left_out_or_is_the_mark_for_it_is_not_sent() -> None:
    assert _request("tasks.retry", "t") == ("/tasks/t/retry", {})
    assert _request("tasks.retry", "t", payload=...) == ("/tasks/t/retry", {})
    assert _request("tasks.retry", "t", payload=None) == ("/tasks/t/retry", {"payload": None})


def test_a_query_has_lists_moments_and_truth_values_as_text() -> None:
    moment = datetime(2026, 1, 2, 3, 4, 5, tzinfo=UTC)

    path, _ = _request("messages.history", sender="mira", since=moment, limit=5)
    pages, _ = _request("tasks.list", status=["done", callboard.Status.FAILED], cursor=None)

    assert path == "/messages?sender=mira&since=2026-01-02T03%3A04%3A05%2B00%3A00&limit=5"
    assert pages == "/tasks?status=done&status=failed"


def test_results_that_are_encoded_already_travel_as_they_are() -> None:
    _, body = _request(
        "tasks.complete_many",
        [
            Completion("a", 1, Encoded(b'{"x": [1]}')),
            Completion("b", 2, {"y": 2}),
            Completion("c", 3),
        ],
    )

    assert body == {
        "results": [
            {"id": "a", "fence": 1, "result": {"x": [1]}},
            {"id": "b", "fence": 2, "result": {"y": 2}},
            {"id": "c", "fence": 3},
        ]
    }


def test_what_json_does_not_have_is_refused_before_it_is_sent() -> None:
    with pytest.raises(InvalidArgument, match="payload holds NaN"):
        _request("tasks.retry", "t", payload=float("nan"))
    with pytest.raises(InvalidArgument, match="payload cannot be written as JSON"):
        _request("tasks.retry", "t", payload=object())
    with pytest.raises(InvalidArgument, match="payload holds NaN"):
        _request("tasks.submit_many", [TaskSpec(kind="k", payload={"n": float("inf")})])


def test_a_name_that_would_be_another_path_is_refused() -> None:
    for name in ("", ".", "..", 5):
        with pytest.raises(InvalidArgument, match="task_id"):
            _request("tasks.get", name)


def test_a_wrong_call_is_a_type_error_as_ever() -> None:
    with pytest.raises(TypeError, match="fence"):
        _request("tasks.complete", "t")


def test_what_does_not_travel_says_so_unless_it_has_no_effect() -> None:
    assert _request("runs.start", "team", "do it", folder="/here", environ=None)[1] == {
        "team": "team",
        "request": "do it",
    }
    with pytest.raises(InvalidArgument, match="environ does not travel"):
        _request("runs.start", "team", "do it", environ={"A": "b"})


# What comes back


def _answered(status: int, body: Any, **headers: str) -> Exception:
    raw = body if isinstance(body, bytes) else msgspec.json.encode(body)
    names = {name.replace("_", "-"): value for name, value in headers.items()}
    return error_of(Response(status, names, raw), "tasks.get", "http://a:9001")


def _all() -> list[type[CallboardError]]:
    left, found = [CallboardError], []
    while left:
        kind = left.pop()
        left += kind.__subclasses__()
        if kind.__module__ == exceptions.__name__:
            found.append(kind)
    return found


@pytest.mark.parametrize("kind", _all(), ids=lambda kind: kind.code)
def test_each_code_is_the_exception_of_the_library(kind: type[CallboardError]) -> None:
    error = _answered(409, {"detail": "no", "code": kind.code, "details": {"task": "t"}})

    assert type(error) is kind
    assert isinstance(error, CallboardError)
    assert (error.message, str(error), error.details) == ("no", "no", {"task": "t"})


def test_each_shape_of_a_refusal_is_read() -> None:
    missing = {
        "status": "error",
        "message": "No task 't'.",
        "timestamp": "…",
        "code": "task_not_found",
        "details": {"task": "t"},
    }
    fault = {"type": "invalid_argument", "loc": ["body", "limit"], "msg": "limit is 0."}
    typed = {"type": "value_error", "loc": ["body", "limit"], "msg": "Expected `int`"}

    not_found = _answered(404, missing)
    assert isinstance(not_found, TaskNotFound)
    assert not_found.message == "No task 't'."
    assert str(_answered(422, {"detail": [fault], "code": "invalid_argument"})) == "limit is 0."
    assert str(_answered(422, {"detail": [typed]})) == "limit: Expected `int`."
    assert isinstance(_answered(422, {"detail": [typed]}), InvalidArgument)
    assert isinstance(_answered(401, {"detail": "no key"}), NotAuthenticated)
    assert isinstance(_answered(408, {"detail": "over", "code": "timeout"}), TimeoutError)
    limited = _answered(429, {"detail": "Rate limit exceeded"}, retry_after="7")
    assert isinstance(limited, RateLimited)
    assert limited.details["retry_after"] == 7.0


def test_a_moment_among_the_details_is_one_again() -> None:
    error = _answered(
        409, {"detail": "held", "code": "lock_held", "details": {"until": "2026-01-02T03:04:05Z"}}
    )

    assert isinstance(error, CallboardError)
    assert error.details["until"] == datetime(2026, 1, 2, 3, 4, 5, tzinfo=UTC)


def test_what_no_coordinator_says_is_told_with_the_address() -> None:
    proxy = _answered(502, b"<html>Bad Gateway</html>")
    busy = _answered(503, b"try later")
    other = _answered(404, {"detail": "Not Found"})

    assert isinstance(proxy, OutcomeUnknown)
    assert "http://a:9001" in str(proxy)
    assert isinstance(busy, EngineUnavailable)
    assert isinstance(other, NotFound)
    assert "another release" in str(other)


def test_a_lost_reply_is_unknown_and_a_refused_connection_is_not() -> None:
    lost = failed(HttpFailure("broken", "closed", is_sent=True), "tasks.note", "http://a")
    never = failed(HttpFailure("connect", "refused", is_sent=False), "tasks.note", "http://a")

    assert isinstance(lost, OutcomeUnknown)
    assert isinstance(never, EngineUnavailable)


def test_an_address_that_is_not_to_be_asked_and_an_answer_too_long_are_no_outages() -> None:
    refused = failed(HttpFailure("refused", "link-local", is_sent=False), "x", "http://a")
    long = failed(HttpFailure("too_large", "over 9 bytes", is_sent=True), "x", "http://a")

    assert isinstance(refused, ConfigError)
    assert isinstance(long, TooLarge)


def test_a_claim_is_the_same_after_the_journey() -> None:
    until = datetime(2026, 1, 2, 3, 4, 5, 678000, tzinfo=UTC)
    sent = ClaimedTask(
        id="t",
        board="b",
        kind="greet",
        fence=12,
        attempt=3,
        until=until,
        payload=msgspec.Raw(b'{"n": 1}'),
        agent="mira",
        instance="i",
        failures=1,
        crashes=2,
        timeout=1.5,
        lease=2.0,
        is_ahead=True,
        was_lost=True,
        has_extra=True,
        trace_context="00-x-y-01",
    )

    found = claimed_of(None, sent)

    assert isinstance(found, Claimed)
    for name in ClaimedTask.__struct_fields__:
        if name != "payload":
            assert getattr(found, name) == getattr(sent, name), name
    assert found.payload_as() == {"n": 1}


async def test_events_are_read_whatever_way_the_bytes_are_cut() -> None:
    text = (
        "retry: 2000\nid: a:1\n\n: keep-alive\n\n"
        'id: a:2\nevent: task:completed\ndata: {"x":\ndata: 1}\n\nevent: bell\r\ndata: ü\r\n\r\n'
    ).encode()

    for size in (1, 7, len(text)):

        async def chunks(size: int = size) -> AsyncIterator[bytes]:
            for start in range(0, len(text), size):
                yield text[start : start + size]

        stream: Any = chunks()
        found = [(one.name, one.data, one.id) async for one in told(stream)]
        assert found == [
            ("", "", "a:1"),
            ("task:completed", '{"x":\n1}', "a:2"),
            ("bell", "ü", ""),
        ]


# Where to ask


def test_a_coordinators_url_is_for_clients_alone() -> None:
    assert resolve_engine("http://a:9001", coordinators=True).is_coordinator
    assert not resolve_engine("redis://a", coordinators=True).is_coordinator
    for url in ("http://a:9001", "https://a"):
        with pytest.raises(ConfigError, match="coordinator"):
            resolve_engine(url)
        with pytest.raises(ConfigError, match="coordinator"):
            check_url(url)


def test_several_coordinators_stand_for_one_another() -> None:
    assert check_coordinators("http://a:9001,b:9002/, http://[::1]:9003/base") == (
        "http://a:9001",
        "http://b:9002",
        "http://[::1]:9003/base",
    )
    choice = resolve_engine(environ={"CALLBOARD_URL": "http://a,b"}, coordinators=True)
    assert choice.url == "http://a,http://b"


@pytest.mark.parametrize(
    ("url", "said"),
    [
        ("http://", "names no host"),
        ("http://a:99999", "port 99999"),
        ("http://u:p@a", "CALLBOARD_API_KEY"),
        ("http://a?x=1", "query"),
        ("http://a,redis://b", "redis"),
        ("http://a b", "spaces"),
    ],
)
def test_a_url_that_cannot_be_asked_is_refused_with_an_example(url: str, said: str) -> None:
    with pytest.raises(ConfigError, match=said) as refused:
        check_coordinators(url)

    assert "http://localhost:9001" in str(refused.value)
    assert "p@" not in str(refused.value).replace("http", "")


# Trying again


@asynccontextmanager
async def _answering(
    *replies: bytes | None, seen: list[bytes]
) -> AsyncIterator[Callable[[], callboard.Callboard]]:
    """A server that answers ``/ready``, then each of these; None closes without an answer."""
    left = list(replies)

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            while True:
                head = await reader.readuntil(b"\r\n\r\n")
                length = 0
                for line in head.lower().split(b"\r\n"):
                    if line.startswith(b"content-length:"):
                        length = int(line.partition(b":")[2])
                sent = await reader.readexactly(length)
                asked = head.partition(b"\r\n")[0] + b"\n" + sent
                if b"/ready" in asked:
                    reply: bytes | None = _reply(200, b'{"status":"ready","engine":"valkey 9"}')
                else:
                    seen.append(asked)
                    reply = left.pop(0) if left else None
                if reply is None:
                    return
                writer.write(reply)
        except asyncio.IncompleteReadError:
            pass
        finally:
            writer.close()

    server = await asyncio.start_server(serve, "127.0.0.1", 0)
    port = server.sockets[0].getsockname()[1]
    async with server:
        yield lambda: callboard.connect(f"http://127.0.0.1:{port}", call_timeout=3)


def _reply(status: int, body: bytes, *headers: bytes) -> bytes:
    head = b"HTTP/1.1 %d X\r\ncontent-length: %d\r\n" % (status, len(body))
    return head + b"".join(line + b"\r\n" for line in headers) + b"\r\n" + body


OK = _reply(200, b'{"status":"success","timestamp":""}')
COUNT = _reply(200, b'{"status":"success","count":3,"timestamp":""}')
AWAY = _reply(503, b'{"detail":"away","code":"engine_unavailable","details":{}}', b"retry-after: 1")


async def test_a_reading_whose_reply_is_lost_is_asked_for_again() -> None:
    seen: list[bytes] = []
    async with _answering(None, COUNT, seen=seen) as connect, connect() as cb:
        assert await cb.dead_letters.count() == 3

    assert len(seen) == 2


async def test_a_change_whose_reply_is_lost_is_not_made_twice_where_it_would_count_twice() -> None:
    seen: list[bytes] = []
    async with _answering(None, OK, seen=seen) as connect, connect() as cb:
        with pytest.raises(OutcomeUnknown, match=r"metrics\.record"):
            await cb.metrics.record("loss", 1.0)

    assert len(seen) == 1


async def test_a_claim_whose_reply_is_lost_is_asked_for_again_under_the_same_id() -> None:
    claims = _reply(
        200, b'{"status":"success","claims":{"tasks":[],"status":"empty"},"timestamp":""}'
    )
    seen: list[bytes] = []
    async with _answering(None, claims, seen=seen) as connect, connect() as cb:
        assert (await cb.tasks.claim("mira", limit=2)).status == "empty"

    first, second = (msgspec.json.decode(one.partition(b"\n")[2]) for one in seen)
    assert first == second
    assert (first["agent"], first["limit"]) == ("mira", 2)
    assert first["request_id"]


async def test_tasks_whose_reply_is_lost_are_submitted_again_under_the_same_ids() -> None:
    one = _reply(200, b'{"status":"success","task":{"id":"x","existed":true},"timestamp":""}')
    seen: list[bytes] = []
    async with _answering(None, one, seen=seen) as connect, connect() as cb:
        await cb.tasks.submit("greet", 1)

    first, second = (msgspec.json.decode(one.partition(b"\n")[2]) for one in seen)
    assert first == second
    assert first["id"]


async def test_an_engine_that_is_away_is_waited_for_by_any_call() -> None:
    seen: list[bytes] = []
    async with _answering(AWAY, AWAY, OK, seen=seen) as connect, connect() as cb:
        await cb.tasks.note("t", "once")

    assert len(seen) == 3


async def test_a_rate_limit_is_waited_out_within_the_time_of_a_call() -> None:
    limited = _reply(429, b'{"detail":"Rate limit exceeded"}', b"retry-after: 1")
    late = _reply(429, b'{"detail":"Rate limit exceeded"}', b"retry-after: 60")
    seen: list[bytes] = []
    async with _answering(limited, OK, late, seen=seen) as connect, connect() as cb:
        await cb.tasks.note("t", "once")
        with pytest.raises(RateLimited) as refused:
            await cb.tasks.note("t", "twice")

    assert refused.value.details["retry_after"] == 60.0


async def test_a_redirect_is_not_followed_since_the_key_would_go_with_it() -> None:
    moved = _reply(307, b"", b"location: http://127.0.0.1:1/elsewhere")
    seen: list[bytes] = []
    async with _answering(moved, seen=seen) as connect, connect() as cb:
        with pytest.raises(CallboardError, match="307"):
            await cb.tasks.note("t", "once")

    assert len(seen) == 1


async def test_a_reading_that_is_never_answered_changed_nothing() -> None:
    seen: list[bytes] = []
    async with _answering(seen=seen) as connect, connect() as cb:
        with pytest.raises(EngineUnavailable, match="Nothing was changed"):
            await cb.dead_letters.count()

    assert len(seen) > 1


async def test_a_repetition_that_is_refused_as_done_before_is_unknown() -> None:
    gone = _reply(404, b'{"code":"agent_not_found","message":"There is no agent a."}')
    seen: list[bytes] = []
    async with _answering(None, gone, gone, seen=seen) as connect, connect() as cb:
        with pytest.raises(OutcomeUnknown, match=r"no agent a.*may have run"):
            await cb.agents.deregister("a")
        with pytest.raises(AgentNotFound):
            await cb.agents.deregister("a")

    assert len(seen) == 3


async def test_what_was_lost_once_stays_unknown_where_nobody_can_be_asked_again() -> None:
    seen: list[bytes] = []
    async with _answering(None, *[AWAY] * 100, seen=seen) as connect, connect() as cb:
        with pytest.raises(OutcomeUnknown, match="may have run"):
            await cb.agents.deregister("a")

    assert len(seen) > 2


async def test_a_coordinator_that_hangs_leaves_time_for_the_next() -> None:
    hung: list[asyncio.StreamWriter] = []

    async def hang(_: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        hung.append(writer)

    server = await asyncio.start_server(hang, "127.0.0.1", 0)
    port = server.sockets[0].getsockname()[1]
    seen: list[bytes] = []
    async with server, _answering(COUNT, seen=seen) as connect:
        places = f"http://127.0.0.1:{port},{connect().choice.url}"
        async with callboard.connect(places, call_timeout=2) as cb:
            assert await cb.dead_letters.count() == 3
        for writer in hung:
            writer.close()


async def test_a_call_ends_with_what_was_clearly_said_and_not_with_its_own_end() -> None:
    seen: list[bytes] = []
    async with _answering(*[AWAY] * 100, seen=seen) as connect, connect() as cb:
        with pytest.raises(EngineUnavailable, match="away"):
            await cb.tasks.note("t", "once")


@pytest.mark.parametrize("way", ["variable", "argument"])
async def test_a_key_may_end_with_a_line(monkeypatch: pytest.MonkeyPatch, way: str) -> None:
    if way == "variable":
        monkeypatch.setenv("CALLBOARD_API_KEY", "cb_secret\n")
    cb = callboard.connect("http://h:1", api_key="cb_secret\n" if way == "argument" else None)

    assert isinstance(cb, RemoteCallboard)
    assert cb._api_key == "cb_secret"


@pytest.mark.parametrize("key", ["cb_sécret", "cb_sec\nret", "cb sec"], ids=["é", "line", "space"])
def test_what_can_be_no_key_names_its_variable_and_is_not_shown(
    monkeypatch: pytest.MonkeyPatch, key: str
) -> None:
    monkeypatch.setenv("CALLBOARD_API_KEY", key)

    with pytest.raises(ConfigError, match="CALLBOARD_API_KEY") as refused:
        callboard.connect("http://h:1")

    assert key not in str(refused.value)


async def test_an_answer_of_another_release_is_told_as_such() -> None:
    strange = _reply(200, b'{"status":"success","tally":3}')
    seen: list[bytes] = []
    async with _answering(strange, seen=seen) as connect, connect() as cb:
        with pytest.raises(OutcomeUnknown, match="different releases"):
            await cb.dead_letters.count()


async def test_what_a_stream_left_out_for_a_slow_reader_is_read_in_its_place() -> None:
    def entry(n: int) -> dict[str, Any]:
        return {"type": "task:done", "cursor": f"ab:{n}", "n": n, "at": "2026-01-02T03:04:05Z"}

    def told_as(value: dict[str, Any]) -> bytes:
        data = msgspec.json.encode(value).decode()
        return f"id: {value['cursor']}\nevent: {value['type']}\ndata: {data}\n\n".encode()

    gap = {"type": "gap", "cursor": "ab:4", "first": 2, "last": 4, "reason": "slow"}
    stream = b"HTTP/1.1 200 X\r\ncontent-type: text/event-stream\r\n\r\n" + b"".join(
        told_as(one) for one in (entry(1), gap, entry(5))
    )
    page = {"events": [entry(n) for n in (2, 3, 4)], "cursor": "ab:4"}
    read = msgspec.json.encode({"status": "success", "page": page, "timestamp": ""})
    seen: list[bytes] = []
    found: list[int] = []
    async with _answering(stream, _reply(200, read), seen=seen) as connect, connect() as cb:
        events: Any = cb.events.follow("ab:0")
        async for event in events:
            found.append(event.n)
            if event.n == 5:
                break
        await events.aclose()

    assert found == [1, 2, 3, 4, 5]
    assert b"limit=3" in seen[1]


# On a real coordinator


async def test_what_stays_at_home_says_where_to_do_it(valkey_url: str, namespace: str) -> None:
    async with (
        serving(valkey_url, namespace=namespace) as served,
        callboard.connect(served.url, namespace=namespace) as cb,
    ):
        with pytest.raises(InvalidArgument, match="does not travel"):
            cb.errors.add_rules()
        with pytest.raises(EngineError, match="coordinator"):
            await cb.access.use("k")
        with pytest.raises(EngineError, match="engine itself"):
            await cb.namespace.connection.call("PING")
        with pytest.raises(ConfigError, match="not hosted over HTTP"):
            check_can_host(cb)
        with pytest.raises(EngineError, match="Connect with the engine's own URL"):
            await cb.namespace.functions.load()
        assert await cb.agents.sweep() is False
        assert await cb.janitor().sweep() is False
        assert cb.facts.software == "valkey"
        assert cb.is_connected


async def test_a_stale_fence_raises_what_the_library_raises(
    valkey_url: str, namespace: str
) -> None:
    async with (
        serving(valkey_url, namespace=namespace) as served,
        callboard.connect(valkey_url, namespace=namespace) as direct,
        callboard.connect(served.url, namespace=namespace) as cb,
    ):
        await direct.agents.register("mira")
        await direct.tasks.submit("greet", id="t")
        (claimed,) = (await cb.tasks.claim("mira")).tasks
        await direct.tasks.release("t", fence=claimed.fence)

        errors = []
        for one in (direct, cb):
            with pytest.raises(LeaseLost) as lost:
                await one.tasks.complete("t", fence=claimed.fence)
            errors.append((lost.value.message, dict(lost.value.details)))

    assert errors[0] == errors[1]


async def test_values_are_those_of_the_library(valkey_url: str, namespace: str) -> None:
    async with (
        serving(valkey_url, namespace=namespace) as served,
        callboard.connect(valkey_url, namespace=namespace) as direct,
        callboard.connect(served.url, namespace=namespace) as cb,
    ):
        await cb.agents.register("mira", capabilities=["code"], labels={"zone": "a"})
        handles = await cb.tasks.submit_many(
            [
                TaskSpec(kind="b", depends_on=("first",), id="second", priority=3),
                TaskSpec(kind="a", id="first", payload={"n": [1, None]}, metadata={"x": 1}),
            ]
        )
        await cb.tasks.note("first", "seen")
        for read in (
            lambda one: one.tasks.get("first"),
            lambda one: one.tasks.get_many(["second", "no"]),
            lambda one: one.tasks.list(),
            lambda one: one.tasks.lanes(),
            lambda one: one.tasks.why("second"),
            lambda one: one.tasks.notes("first"),
            lambda one: one.dead_letters.list(),
            lambda one: one.agents.tasks("mira"),
            lambda one: one.events.read(limit=50),
            lambda one: one.locks.get("file:src/a.py"),
        ):
            here, there = await read(cb), await read(direct)
            assert type(here) is type(there)
            assert msgspec.json.encode(here) == msgspec.json.encode(there)

    assert [handle.id for handle in handles] == ["second", "first"]


def test_the_api_without_async_goes_over_http_too(valkey_url: str, namespace: str) -> None:
    async def serve(is_up: asyncio.Event, is_over: asyncio.Event, urls: list[str]) -> None:
        async with serving(valkey_url, namespace=namespace) as served:
            urls.append(served.url)
            is_up.set()
            await is_over.wait()

    async def scene() -> object:
        urls: list[str] = []
        is_up, is_over = asyncio.Event(), asyncio.Event()
        server = asyncio.create_task(serve(is_up, is_over, urls))
        await is_up.wait()
        try:
            return await asyncio.to_thread(use, urls[0])
        finally:
            is_over.set()
            await server

    def use(url: str) -> object:
        with callboard.sync.connect(url, namespace=namespace) as cb:
            handle = cb.tasks.submit("greet", {"name": "Ada"})
            with cb.locks.hold("r", wait=1) as lock:
                assert lock.fence > 0
            return handle.task().kind, cb.facts.software

    assert asyncio.run(scene()) == ("greet", "valkey")
