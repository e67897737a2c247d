"""The documented routes of messages, inboxes, topics and peers."""

from __future__ import annotations

from typing import Any

import pytest

from callboard.domain.message import TYPES
from tests.http.support import Served
from tests.http.test_documented_agents import MOMENT, agent

INBOX = "/api/v1/agent/messages"


def note(receiver: str = "b", **fields: Any) -> dict[str, Any]:
    return {"receiver_id": receiver, "message_type": "direct", "payload": {"n": 1}, **fields}


def direct(**fields: Any) -> dict[str, Any]:
    return {"sender": "a", "recipient": "b", "content": {"n": 1}, **fields}


async def inbox(served: Served, agent_id: str, **query: Any) -> list[dict[str, Any]]:
    params = {"agent_id": agent_id, **query}
    found: list[dict[str, Any]] = (await served.ok("GET", f"{INBOX}/inbox", params=params))[
        "messages"
    ]
    return found


async def test_a_message_is_sent_kept_and_read_as_documented(served: Served) -> None:
    answer = await served.ok("POST", "/messages/send", note(priority="high"))

    message_id, moment = answer.pop("message_id"), answer.pop("sent_at")
    assert answer == {
        "status": "success",
        "message": "Message sent successfully",
        "receiver_id": "b",
        "protocol": "hierarchical",
    }
    assert MOMENT.fullmatch(moment)
    found = (await served.ok("GET", f"/messages/{message_id}"))["message"]
    assert found.pop("timestamp") == moment
    assert found == {
        "id": message_id,
        "message_id": message_id,
        "sender_id": "agent-coordinator",
        "receiver_id": "b",
        "message_type": "direct",
        "priority": "high",
        "protocol": "hierarchical",
        "payload": {"n": 1},
        "status": "pending",
        "ttl": None,
        "correlation_id": None,
        "reply_to": None,
    }


@pytest.mark.parametrize("message_type", TYPES)
async def test_each_documented_type_can_be_sent(served: Served, message_type: str) -> None:
    await served.ok("POST", "/messages/send", note(message_type=message_type))

    assert [one["message_type"] for one in await inbox(served, "b")] == [message_type]


@pytest.mark.parametrize("protocol", ["hierarchical", "peer_to_peer", "broadcast"])
async def test_the_coordinator_reaches_everybody_by_each_protocol(
    served: Served, protocol: str
) -> None:
    answer = await served.ok("POST", "/messages/send", note(protocol=protocol))

    assert answer["protocol"] == protocol
    assert [one["protocol"] for one in await inbox(served, "b")] == [protocol]


@pytest.mark.parametrize(
    ("fields", "detail"),
    [
        ({"message_type": "task"}, "Invalid message type: task"),
        ({"priority": "urgent"}, "Invalid priority: urgent"),
        ({"protocol": "pigeon"}, "Invalid protocol: pigeon"),
    ],
    ids=["type", "priority", "protocol"],
)
async def test_an_unknown_word_is_refused_with_its_sentence(
    served: Served, fields: dict[str, Any], detail: str
) -> None:
    response = await served.call("POST", "/messages/send", note(**fields))

    assert (response.status_code, response.json()["detail"]) == (400, detail)
    assert await inbox(served, "b") == []


@pytest.mark.parametrize(
    "body",
    [{}, note(payload=[]), note(receiver=""), note(ttl=-1), note(payload="x")],
    ids=["nothing", "list", "nobody", "ttl", "text"],
)
async def test_what_is_no_message_is_refused(served: Served, body: dict[str, Any]) -> None:
    response = await served.call("POST", "/messages/send", body)

    assert response.status_code == 422


async def test_a_named_sender_writes_to_its_peers_alone(served: Served) -> None:
    body = note(sender_id="a", protocol="peer_to_peer")

    refused = await served.call("POST", "/messages/send", body)
    await served.ok("POST", "/peers/add", params={"agent_id": "a", "peer_id": "b"})
    await served.ok("POST", "/messages/send", body)

    assert refused.status_code == 409
    assert [one["sender_id"] for one in await inbox(served, "b")] == ["a"]


async def test_a_broadcast_lies_in_each_inbox_that_it_is_for(served: Served) -> None:
    for one in (agent("a", capabilities=["x"]), agent("b"), agent("c", agent_type="monitor")):
        await served.ok("POST", "/agents/register", one)
    body = {"message_type": "broadcast", "payload": {"n": 1}}

    all_ = await served.ok("POST", "/messages/broadcast", body)
    able = await served.ok("POST", "/messages/broadcast", {**body, "capabilities": ["x"]})
    none = await served.ok("POST", "/messages/broadcast", {**body, "agent_type": "gateway"})

    assert (sorted(all_["recipients"]), all_["count"]) == (["a", "b", "c"], 3)
    assert MOMENT.fullmatch(all_["broadcast_at"])
    assert (able["recipients"], able["count"]) == (["a"], 1)
    assert (none["status"], none["recipients"], none["count"]) == ("success", [], 0)
    assert len(await inbox(served, "a")) == 2
    assert len(await inbox(served, "c", unread_only=True)) == 1


async def test_the_history_is_paged_and_a_sender_wins(served: Served) -> None:
    for n in range(3):
        await served.ok("POST", "/messages/send", note(payload={"n": n}))
    await served.ok("POST", "/messages/send", note("c", sender_id="b"))

    page = await served.ok("GET", "/messages/history", params={"limit": 2, "offset": 1})
    of_b = await served.ok(
        "GET", "/messages/history", params={"sender_id": "b", "receiver_id": "b"}
    )
    to_b = await served.ok("GET", "/messages/history", params={"receiver_id": "b"})

    assert list(page) == [*("status", "messages", "count", "total", "limit", "offset", "timestamp")]
    assert (page["count"], page["total"], page["limit"], page["offset"]) == (2, 4, 2, 1)
    assert [one["receiver_id"] for one in of_b["messages"]] == ["c"]
    assert [one["payload"]["n"] for one in to_b["messages"]] == [2, 1, 0]


async def test_an_unknown_message_is_answered_with_three_keys(served: Served) -> None:
    for path in ("/messages/nothing", f"{INBOX}/id/nothing"):
        response = await served.call("GET", path)

        assert response.status_code == 404
        assert set(response.json()) == {"status", "message", "timestamp"}


async def test_peers_are_added_listed_and_removed(served: Served) -> None:
    pair = {"agent_id": "a", "peer_id": "b"}

    added = await served.ok("POST", "/peers/add", params=pair)
    again = await served.ok("POST", "/peers/add", params=pair)
    one = await served.ok("GET", "/peers/a")
    every = await served.ok("GET", "/peers")
    removed = await served.ok("POST", "/peers/remove", params=pair)
    none = await served.ok("GET", "/peers/a")

    assert list(added) == ["status", "message", "agent_id", "peer_id", "connected_at"]
    assert again["status"] == "success"
    assert (one["agent_id"], one["peers"], one["count"]) == ("a", ["b"], 1)
    assert (every["connections"], every["total_agents"], every["total_peers"]) == (
        {"a": ["b"]},
        1,
        1,
    )
    assert list(removed) == ["status", "message", "agent_id", "peer_id", "removed_at"]
    assert none["peers"] == []


async def test_a_pair_without_a_peer_is_refused(served: Served) -> None:
    response = await served.call("POST", "/peers/add", params={"agent_id": "a"})

    assert response.status_code == 422
    assert response.json()["detail"][0]["loc"] == ["query", "peer_id"]


async def test_a_direct_message_is_answered_as_documented(served: Served) -> None:
    answer = await served.ok("POST", f"{INBOX}/send", direct(message_id="m-1"))

    assert MOMENT.fullmatch(answer.pop("sent_at"))
    assert answer == {
        "status": "success",
        "message_id": "m-1",
        "sender": "a",
        "recipient": "b",
        "encrypted": False,
        "ws_delivered": False,
        "message_status": "pending",
    }
    found = (await served.ok("GET", f"{INBOX}/id/m-1"))["message"]
    assert (found["payload"], found["ttl"], found["sender_id"]) == ({"n": 1}, 300.0, "a")


async def test_the_same_direct_message_again_is_kept_once(served: Served) -> None:
    await served.ok("POST", f"{INBOX}/send", direct(message_id="m-1"))
    await served.ok("POST", f"{INBOX}/id/m-1/read")

    again = await served.ok("POST", f"{INBOX}/send", direct(message_id="m-1"))
    other = await served.call("POST", f"{INBOX}/send", direct(message_id="m-1", content={"n": 2}))

    assert again["message_status"] == "read"
    assert other.status_code == 409
    assert len(await inbox(served, "b")) == 1


async def test_a_read_message_leaves_the_unread_ones(served: Served) -> None:
    await served.ok("POST", f"{INBOX}/send", direct(message_id="m-1"))
    await served.ok("POST", f"{INBOX}/send", direct(message_id="m-2"))

    answer = await served.ok("POST", f"{INBOX}/id/m-1/read")
    again = await served.ok("POST", f"{INBOX}/id/m-1/read")

    assert list(answer) == ["status", "message_id", "message_status", "timestamp"]
    assert (again["message_id"], again["message_status"]) == ("m-1", "read")
    assert [one["id"] for one in await inbox(served, "b", unread_only=True)] == ["m-2"]
    assert {one["id"]: one["status"] for one in await inbox(served, "b")} == {
        "m-1": "read",
        "m-2": "pending",
    }
    alias = await served.ok("GET", f"{INBOX}/b", params={"limit": 1})
    assert (alias["agent_id"], alias["count"]) == ("b", 1)


async def test_topics_are_subscribed_listed_and_left(served: Served) -> None:
    body = {"agent_id": "a", "topic": "news", "filter": {"message_types": ["status_update"]}}

    answer = await served.ok("POST", f"{INBOX}/subscribe", body)
    listed = await served.ok("GET", f"{INBOX}/subscriptions/a")
    await served.ok("POST", f"{INBOX}/unsubscribe", body)
    none = await served.ok("GET", f"{INBOX}/subscriptions/a")

    assert list(answer) == ["status", "message", "agent_id", "topic", "timestamp"]
    one = listed["subscriptions"][0]
    assert MOMENT.fullmatch(one.pop("created_at"))
    assert one == {"agent_id": "a", "topic": "news", "filter": body["filter"]}
    assert (none["subscriptions"], none["count"]) == ([], 0)


async def test_those_who_can_be_written_to_are_listed(served: Served) -> None:
    await served.ok("POST", "/agents/register", agent("a"))
    await served.ok("POST", "/agents/register", agent("b"))
    await served.ok("PUT", "/agents/b/status", {"status": "maintenance"})

    answer = await served.ok("GET", f"{INBOX}/discover")

    assert ([one["agent_id"] for one in answer["agents"]], answer["count"]) == (["a"], 1)
