"""The documented sockets: an agent's messages as they come, and who is there."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import msgspec
import pytest
from websockets.asyncio.client import ClientConnection, connect
from websockets.exceptions import InvalidStatus

from callboard.http.security import AccessSettings, secure
from tests.http.live_support import SECONDS
from tests.http.support import Served, serving
from tests.http.test_documented_agents import MOMENT, agent

INBOX = "/api/v1/agent/messages"
PRESENCE = "/api/v1/agent/presence/stream"


class Stream:
    """An open socket, greeted."""

    def __init__(self, connection: ClientConnection) -> None:
        self.connection = connection

    async def next(self, type_: str) -> Any:
        """The payload of the next frame of this type; others are passed over."""
        while (frame := await self.read())["type"] != type_:
            pass
        return frame["payload"]

    async def read(self) -> dict[str, Any]:
        async with asyncio.timeout(SECONDS):
            frame: dict[str, Any] = msgspec.json.decode(await self.connection.recv())
        assert MOMENT.fullmatch(frame["timestamp"])
        return frame

    async def ask(self, type_: str, **payload: Any) -> dict[str, Any]:
        """Send a frame; the one that answers it."""
        body = {"type": type_, "payload": payload, "id": f"n-{type_}"}
        await self.connection.send(msgspec.json.encode(body), text=True)
        while (frame := await self.read()).get("id") != f"n-{type_}":
            pass
        return frame


@asynccontextmanager
async def stream(served: Served, path: str = f"{INBOX}/stream?agent_id=a") -> AsyncIterator[Stream]:
    async with connect(f"ws://127.0.0.1:{served.port}{path}", proxy=None) as connection:
        opened = Stream(connection)
        assert (await opened.read())["type"] == "connection_established"
        yield opened


async def send(served: Served, message_id: str, recipient: str = "a") -> None:
    body = {"sender": "b", "recipient": recipient, "content": {"n": 1}, "message_id": message_id}
    await served.ok("POST", f"{INBOX}/send", body)


async def test_what_is_unread_comes_at_first_and_what_is_new_as_it_comes(
    served: Served,
) -> None:
    await send(served, "before")

    async with stream(served) as one:
        first = await one.next("message")
        await send(served, "after")
        second = await one.next("message")

    assert (first["message_id"], first["payload"], first["sender_id"]) == ("before", {"n": 1}, "b")
    assert second["message_id"] == "after"


async def test_what_was_not_read_comes_again_on_the_next_socket_and_what_was_read_does_not(
    served: Served,
) -> None:
    await send(served, "m-1")
    await send(served, "m-2")
    async with stream(served) as one:
        await one.next("message")
        read = await one.ask("read", message_id="m-1")
        one.connection.transport.abort()
    await send(served, "m-3")

    async with stream(served) as again:
        found = [(await again.next("message"))["message_id"] for _ in range(2)]

    assert (read["type"], read["payload"]["handler"]) == ("handler_acknowledgment", "read")
    assert found == ["m-2", "m-3"]
    status = (await served.ok("GET", f"{INBOX}/id/m-1"))["message"]["status"]
    assert status == "read"


async def test_an_agent_writes_to_one_and_to_all_by_its_socket(served: Served) -> None:
    for name in ("a", "b", "c"):
        await served.ok("POST", "/agents/register", agent(name))

    async with stream(served) as one, stream(served, f"{INBOX}/stream?agent_id=b") as other:
        sent = await one.ask("message", recipient="b", content={"n": 1}, message_id="m")
        direct = await other.next("message")
        called = await one.ask("broadcast", content={"n": 2})
        to_all = await other.next("broadcast")

    assert sent["type"] == "handler_acknowledgment"
    assert (sent["payload"]["handler"], sent["payload"]["message_id"]) == ("message", "m")
    assert (direct["message_id"], direct["sender_id"]) == ("m", "a")
    assert (sorted(called["payload"]["recipients"]), called["payload"]["count"]) == (["b", "c"], 2)
    assert (to_all["payload"], to_all["message_type"]) == ({"n": 2}, "broadcast")


async def test_topics_and_heartbeats_go_by_the_socket_too(served: Served) -> None:
    await served.ok("POST", "/agents/register", agent("a"))

    async with stream(served) as one:
        joined = await one.ask("subscribe", topic="news")
        listed = await served.ok("GET", f"{INBOX}/subscriptions/a")
        left = await one.ask("unsubscribe", topic="news")
        beat = await one.ask("heartbeat")

    assert (joined["type"], joined["payload"]["topic"]) == ("subscription_confirmed", "news")
    assert listed["count"] == 1
    assert left["payload"] == {"handler": "unsubscribe", "topic": "news"}
    assert (beat["type"], beat["payload"]["agent_id"]) == ("heartbeat_ack", "a")
    assert (await served.ok("GET", f"{INBOX}/subscriptions/a"))["count"] == 0


async def test_what_cannot_be_done_is_told_and_the_socket_stays(served: Served) -> None:
    async with stream(served) as one:
        answers = [
            await one.ask("dance"),
            await one.ask("subscribe"),
            await one.ask("message", recipient="b", content=[]),
            await one.ask("message", recipient="b", content={}, message_type="task"),
            await one.ask("heartbeat"),
            await one.ask("read", message_id="nothing"),
        ]
        await one.connection.send("no json")
        broken = await one.read()
        await one.connection.send(b"\xff\x00")
        bytes_ = await one.read()
        after = await one.ask("subscribe", topic="news")

    assert {frame["type"] for frame in [*answers, broken, bytes_]} == {"error"}
    assert all(frame["payload"]["message"] and frame["payload"]["code"] for frame in answers)
    assert after["type"] == "subscription_confirmed"


@pytest.mark.parametrize("query", ["", "?agent_id=", "?agent_id=no%20name"])
async def test_a_socket_says_whose_it_is(served: Served, query: str) -> None:
    with pytest.raises(InvalidStatus) as refusal:
        async with connect(f"ws://127.0.0.1:{served.port}{INBOX}/stream{query}", proxy=None):
            pass

    assert refusal.value.response.status_code == 422


async def test_presence_lists_who_is_there_and_tells_each_change(served: Served) -> None:
    await served.ok("POST", "/agents/register", agent("a"))

    async with stream(served, PRESENCE) as one:
        listed = await one.next("agents_list")
        await served.ok("POST", "/agents/register", agent("b"))
        came = await one.next("presence_update")
        await served.ok("PUT", "/agents/a/status", {"status": "maintenance"})
        changed = await one.next("presence_update")
        status = await served.ok("GET", "/api/v1/agent/ws/status")

    assert ([agent["agent_id"] for agent in listed["agents"]], listed["count"]) == (["a"], 1)
    assert (came["agent_id"], came["status"]) == ("b", "active")
    assert (changed["agent_id"], changed["status"]) == ("a", "maintenance")
    assert status["active_connections"] == 1


async def test_where_keys_are_needed_a_socket_needs_one_for_its_agent(
    valkey_url: str, namespace: str
) -> None:
    async with serving(valkey_url, namespace=namespace) as plain:
        access = (await plain.coordinator.board(namespace)).access
        key = await access.create("of-a", role="work", namespaces=[namespace], agent="a")

        def guarded(app: Any) -> Any:
            async def keys() -> Any:
                return access

            return secure(app, AccessSettings(require_keys=True), keys)

        try:
            async with serving(valkey_url, guarded, namespace=namespace) as served:
                statuses = []
                for agent_id, headers in (
                    ("a", {}),
                    ("b", {"authorization": f"Bearer {key.secret}"}),
                ):
                    url = f"ws://127.0.0.1:{served.port}{INBOX}/stream?agent_id={agent_id}"
                    with pytest.raises(InvalidStatus) as refusal:
                        async with connect(url, additional_headers=headers, proxy=None):
                            pass
                    statuses.append(refusal.value.response.status_code)
                url = f"ws://127.0.0.1:{served.port}{INBOX}/stream?agent_id=a"
                own = {"authorization": f"Bearer {key.secret}"}
                async with connect(url, additional_headers=own, proxy=None) as connection:
                    greeting = msgspec.json.decode(await connection.recv())
        finally:
            await access.revoke(key.key.id)

    assert statuses == [401, 403]
    assert greeting["payload"]["agent_id"] == "a"
