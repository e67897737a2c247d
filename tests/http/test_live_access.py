"""Streams and sockets behind the guard: roles, agents, rates, and keys that are taken back."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Any

import msgspec
import pytest
from websockets.asyncio.client import connect
from websockets.exceptions import ConnectionClosed, InvalidStatus

import callboard
from callboard.http.security import AccessSettings, secure
from callboard.services.access import Access
from tests.http.live_support import SECONDS, sse
from tests.http.socket_support import Socket, socket
from tests.http.support import Served, serving


@asynccontextmanager
async def guarded(url: str, namespace: str) -> AsyncIterator[tuple[Served, Access]]:
    """A coordinator that wants keys, and the service that makes them."""
    async with callboard.connect(url, namespace=namespace, adopt=True) as cb:

        def wrap(app: Any) -> Any:
            async def keys() -> Access:
                return cb.access

            return secure(app, AccessSettings(require_keys=True, key_seconds=0.1), keys)

        async with serving(url, wrap, namespace=namespace) as served:
            yield served, cb.access


@asynccontextmanager
async def keyed_socket(served: Served, secret: str) -> AsyncIterator[Socket]:
    headers = {"authorization": f"Bearer {secret}"}
    async with socket(served.port, additional_headers=headers) as opened:
        yield opened


async def test_a_stream_and_a_socket_end_soon_after_their_key_was_revoked(
    valkey_url: str, namespace: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("callboard.http.live.outlets.CHECK_SECONDS", 0.1)
    async with guarded(valkey_url, namespace) as (served, access):
        key = await access.create("reader", role="read", namespaces=[namespace])
        other = await access.create("other", role="read", namespaces=[namespace])
        bearer = f"Bearer {key.secret}"
        async with (
            sse(served.port, "/events", authorization=bearer) as stream,
            sse(served.port, "/events", authorization=f"Bearer {other.secret}") as stays,
            keyed_socket(served, key.secret) as ws,
        ):
            assert stream.status == stays.status == 200
            await access.revoke(key.key.id)
            problem = await stream.until("problem")
            assert await stream.next_or_end() is None
            with pytest.raises(ConnectionClosed) as closed:
                await ws.read()
            async with callboard.connect(valkey_url, namespace=namespace) as cb:
                await cb.tasks.submit("greet")
            await stays.until("task:created")
        await access.revoke(other.key.id)

    assert problem.json["code"] == "not_authenticated"
    assert closed.value.rcvd is not None
    assert closed.value.rcvd.code == 4401


@pytest.mark.parametrize(
    ("verb", "path", "body"),
    [
        ("GET", "/tasks/t-1/wait?timeout=600", None),
        ("POST", "/tasks/claim", {"agent": "mira", "poll": 60}),
    ],
    ids=["wait", "poll"],
)
async def test_a_request_that_is_held_ends_soon_after_its_key_was_revoked(
    valkey_url: str,
    namespace: str,
    monkeypatch: pytest.MonkeyPatch,
    verb: str,
    path: str,
    body: Any,
) -> None:
    monkeypatch.setattr("callboard.http.binding.CHECK_SECONDS", 0.1)
    async with guarded(valkey_url, namespace) as (served, access):
        key = await access.create("worker", role="work", namespaces=[namespace])
        headers = {"authorization": f"Bearer {key.secret}", "content-type": "application/json"}
        await served.ok("PUT", "/agents/mira", {}, headers=headers)
        task = {"kind": "greet", "id": "t-1", "requirements": {"capabilities": ["singing"]}}
        await served.ok("POST", "/tasks", task, headers=headers)
        is_let_in = asyncio.Event()
        board = served.coordinator.board

        async def noted(name: str, **rest: Any) -> Any:
            is_let_in.set()
            return await board(name, **rest)

        monkeypatch.setattr(served.coordinator, "board", noted)
        held = asyncio.create_task(served.call(verb, path, body, headers=headers))
        async with asyncio.timeout(SECONDS):
            await is_let_in.wait()
            await access.revoke(key.key.id)
            answer = await held

    assert (answer.status_code, answer.json()["code"]) == (401, "not_authenticated")


async def test_each_call_on_a_socket_takes_the_role_of_its_operation(
    valkey_url: str, namespace: str
) -> None:
    async with guarded(valkey_url, namespace) as (served, access):
        key = await access.create("reader", role="read", namespaces=[namespace])
        async with keyed_socket(served, key.secret) as ws:
            assert await ws.ask("call", operation="agents.list") == []
            arguments = {"kind": "greet"}
            refused = await ws.refused("call", operation="tasks.submit", arguments=arguments)
            registering = await ws.refused("register", agent="mira")
            work = await sse_status(served, "/agents/mira/tasks/stream", key.secret)
        await access.revoke(key.key.id)

    assert (refused, registering) == ("not_permitted", "not_permitted")
    assert work == 403


async def test_a_key_for_one_agent_opens_no_stream_and_no_socket_of_another(
    valkey_url: str, namespace: str
) -> None:
    async with guarded(valkey_url, namespace) as (served, access):
        key = await access.create("mira", role="work", namespaces=[namespace], agent="mira")
        async with keyed_socket(served, key.secret) as ws:
            other = await ws.refused("register", agent="noor")
            resumed = await ws.refused("resume", agent="noor", session="p1")
            claimed = await ws.refused("claim", agent="noor")
            await ws.ask("register", agent="mira")
            own = await sse_status(served, "/agents/mira/tasks/stream", key.secret)
            work = await sse_status(served, "/agents/noor/tasks/stream", key.secret)
            bell = await sse_status(served, "/agents/noor/bell", key.secret)
        await access.revoke(key.key.id)

    assert {other, resumed, claimed} == {"not_permitted"}
    assert (own, work, bell) == (200, 403, 403)


async def test_a_key_for_one_agent_does_nothing_by_socket_with_the_claim_of_another(
    valkey_url: str, namespace: str
) -> None:
    async with guarded(valkey_url, namespace) as (served, access):
        key = await access.create("mira", role="work", namespaces=[namespace], agent="mira")
        async with (
            callboard.connect(valkey_url, namespace=namespace) as cb,
            keyed_socket(served, key.secret) as ws,
        ):
            await cb.agents.register("noor")
            await cb.tasks.submit("greet")
            (task,) = (await cb.tasks.claim("noor")).tasks
            await ws.ask("register", agent="mira")
            refused = await ws.refused("complete", task_id=task.id, fence=task.fence)
            found = await cb.tasks.get(task.id)
        await access.revoke(key.key.id)

    assert (refused, found.status.is_held) == ("not_permitted", True)


async def test_a_key_for_one_agent_takes_nothing_by_socket_through_a_conflict(
    valkey_url: str, namespace: str
) -> None:
    async with guarded(valkey_url, namespace) as (served, access):
        key = await access.create("mira", role="work", namespaces=[namespace], agent="mira")
        async with (
            callboard.connect(valkey_url, namespace=namespace) as cb,
            keyed_socket(served, key.secret) as ws,
        ):
            await cb.tasks.submit("greet", id="t")
            said = {"kind": "task", "subject": "t", "id": "c", "parties": ["mira", "noor"]}
            forged = {**said, "parties": [{"name": "noor", "value": 1}]}
            refused = [
                await ws.refused("call", operation="conflicts.report", arguments=forged),
            ]
            await ws.ask("call", operation="conflicts.report", arguments=said)
            settled = {"conflict_id": "c", "inputs": {"priorities": {"mira": 2, "noor": 1}}}
            refused.append(
                await ws.refused("call", operation="conflicts.resolve", arguments=settled)
            )
        await access.revoke(key.key.id)

    assert refused == ["not_permitted", "not_permitted"]


async def sse_status(served: Served, path: str, secret: str) -> int:
    async with sse(served.port, path, authorization=f"Bearer {secret}") as stream:
        return stream.status


async def test_calls_on_a_socket_count_against_the_rate_of_its_key(
    valkey_url: str, namespace: str
) -> None:
    async with guarded(valkey_url, namespace) as (served, access):
        key = await access.create("slow", role="read", namespaces=[namespace], rate=0.01, burst=3)
        async with keyed_socket(served, key.secret) as ws:
            numbers = [await ws.send("call", operation="agents.counts") for _ in range(4)]
            answers = [await ws.answer(number) for number in numbers]
        await access.revoke(key.key.id)

    codes = [one.get("code", "ok") for one in answers]
    assert codes == ["ok", "ok", "rate_limited", "rate_limited"], "opening it took one"


async def test_what_operators_do_on_a_socket_is_written_down(
    valkey_url: str, namespace: str
) -> None:
    async with guarded(valkey_url, namespace) as (served, access):
        key = await access.create("operator", role="operate", namespaces=[namespace])
        async with keyed_socket(served, key.secret) as ws:
            task = {"kind": "greet", "board": "orders"}
            await ws.ask("call", operation="tasks.submit", arguments=task)
            await ws.ask("call", operation="boards.pause", arguments={"name": "orders"})
        async with asyncio.timeout(SECONDS):
            entries = [one for one in (await access.audit()).entries if one.key == key.key.id]
        await access.revoke(key.key.id)

    noted = [(one.operation, one.target, one.outcome) for one in entries]
    assert ("boards.pause", "orders", "ok") in noted


async def test_the_audit_log_names_the_same_target_by_request_and_by_socket(
    valkey_url: str, namespace: str
) -> None:
    async with guarded(valkey_url, namespace) as (served, access):
        key = await access.create("operator", role="operate", namespaces=[namespace])
        bearer = {"authorization": f"Bearer {key.secret}"}
        async with keyed_socket(served, key.secret) as ws:
            for task in ("a", "b"):
                spec = {"kind": "greet", "id": task, "board": "pay"}
                await ws.ask("call", operation="tasks.submit", arguments=spec)
            one = {"task_id": "a", "board": "pay"}
            await ws.ask("call", operation="tasks.cancel", arguments=one)
            many = {"task_ids": ["a"], "board": "pay"}
            await ws.ask("call", operation="tasks.purge", arguments=many)
        for path, body in (("b/cancel", {}), ("purge", {"task_ids": ["b"]})):
            await served.ok("POST", f"/boards/pay/tasks/{path}", body, headers=bearer)
        entries = [one for one in (await access.audit()).entries if one.key == key.key.id]
        await access.revoke(key.key.id)

    assert sorted((one.operation, one.target) for one in entries) == [
        ("tasks.cancel", "pay/a"),
        ("tasks.cancel", "pay/b"),
        ("tasks.purge", "pay"),
        ("tasks.purge", "pay"),
    ]


async def test_what_a_role_refuses_on_a_socket_is_in_the_log_and_not_in_the_audit(
    valkey_url: str, namespace: str, caplog: pytest.LogCaptureFixture
) -> None:
    async with guarded(valkey_url, namespace) as (served, access):
        key = await access.create("reader", role="read", namespaces=[namespace])
        async with keyed_socket(served, key.secret) as ws:
            board = {"name": "orders"}
            refused = await ws.refused("call", operation="boards.pause", arguments=board)
        entries = [one for one in (await access.audit()).entries if one.key == key.key.id]
        await access.revoke(key.key.id)

    assert (refused, entries) == ("not_permitted", [])
    assert "reader may not boards.pause, which takes operate" in caplog.text


async def test_a_socket_that_cannot_be_had_is_refused_with_an_answer_that_says_why(
    valkey_url: str, namespace: str
) -> None:
    async with guarded(valkey_url, namespace) as (served, access):
        key = await access.create("reader", role="read", namespaces=[namespace])
        nowhere = await handshake(served, "/no/such/path", key.secret)
        stream = "/api/v1/agent/messages/stream?agent_id=mira"
        forbidden = await handshake(served, stream, key.secret)
        unknown = await handshake(served, "/ws", "cb_none")
        plain = await served.call("GET", "/ws", headers={"authorization": f"Bearer {key.secret}"})
        posted = await served.call("POST", "/ws", headers={"authorization": f"Bearer {key.secret}"})
        await access.revoke(key.key.id)

    assert (nowhere.status_code, nowhere.json["message"]) == (404, "Resource not found")
    assert (forbidden.status_code, forbidden.json["code"]) == (403, "not_permitted")
    assert (unknown.status_code, unknown.json["code"]) == (401, "not_authenticated")
    assert (plain.status_code, plain.json()["code"]) == (426, "upgrade_required")
    assert plain.headers["upgrade"] == "websocket"
    assert (posted.status_code, posted.headers["allow"]) == (405, "GET")
    assert all(one.number for one in (nowhere, forbidden, unknown))


@dataclass
class Denied:
    """How a handshake was refused."""

    status_code: int
    json: Any
    number: str


async def handshake(served: Served, path: str, secret: str) -> Denied:
    url = f"ws://127.0.0.1:{served.port}{path}"
    headers = {"authorization": f"Bearer {secret}"}
    with pytest.raises(InvalidStatus) as refused:
        await connect(url, proxy=None, additional_headers=headers)
    response = refused.value.response
    return Denied(
        response.status_code,
        msgspec.json.decode(response.body or b"null"),
        response.headers["X-Request-ID"],
    )
