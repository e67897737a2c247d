"""The documented routes of agents, in their shapes, statuses and errors."""

from __future__ import annotations

import json
import re
from typing import Any

import pytest

from callboard.dispatch import DispatchSettings
from callboard.http.documented.agents import TYPES
from callboard.http.security import AccessSettings, secure
from tests.http.support import Served, serving

MOMENT = re.compile(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{6}\+00:00")

HERMES = {
    "agent_id": "hermes-agent",
    "agent_type": "worker",
    "capabilities": ["data-processing", "analysis", "general"],
    "services": ["task-execution", "analysis"],
    "endpoints": {"http": "http://localhost:9002"},
    "metadata": {"version": "1.0.0"},
}


def agent(name: str, **fields: Any) -> dict[str, Any]:
    return {"agent_id": name, "agent_type": "worker", **fields}


async def discovered(served: Served, **query: Any) -> list[str]:
    found = await served.ok("POST", "/agents/discover", query)
    return [one["agent_id"] for one in found["agents"]]


async def test_a_registration_is_answered_as_documented(served: Served) -> None:
    answer = await served.ok("POST", "/agents/register", HERMES)

    moment = answer.pop("registered_at")
    assert answer == {
        "status": "success",
        "message": "Agent hermes-agent registered successfully",
        "agent_id": "hermes-agent",
    }
    assert MOMENT.fullmatch(moment)


async def test_an_agent_is_read_with_exactly_the_documented_names(served: Served) -> None:
    await served.ok("POST", "/agents/register", HERMES)

    answer = await served.ok("GET", "/agents/hermes-agent")

    assert list(answer) == ["status", "agent", "timestamp"]
    found = answer["agent"]
    moments = [found.pop(name) for name in ("last_heartbeat", "registration_time")]
    assert all(MOMENT.fullmatch(moment) for moment in moments)
    assert found == {
        **HERMES,
        "status": "active",
        "load_metrics": {},
        "health_score": 1.0,
        "version": "1.0.0",
        "tags": [],
    }


async def test_the_documented_hash_and_set_hold_the_agent(served: Served, namespace: str) -> None:
    await served.ok("POST", "/agents/register", HERMES)
    cb = await served.coordinator.board(namespace)

    call, prefix = cb.namespace.connection.call, "{" + namespace + "}:"
    flat = await call("HGETALL", f"{prefix}agent:hermes-agent")
    is_active = await call("SISMEMBER", f"{prefix}agents:active", "hermes-agent")

    pairs = flat.items() if isinstance(flat, dict) else zip(flat[::2], flat[1::2], strict=True)
    found = {name.decode(): value.decode() for name, value in pairs}
    assert is_active == 1
    assert found["agent_id"] == "hermes-agent"
    assert found["agent_type"] == "worker"
    assert found["status"] == "active"
    assert float(found["health_score"]) == 1.0
    assert found["version"] == "1.0.0"
    for name in ("capabilities", "services", "endpoints", "metadata"):
        assert json.loads(found[name]) == HERMES[name]
    assert (json.loads(found["load_metrics"]), json.loads(found["tags"])) == ({}, [])
    assert {"last_heartbeat", "registration_time"} <= set(found)


@pytest.mark.parametrize("agent_type", TYPES)
async def test_each_documented_type_may_register(served: Served, agent_type: str) -> None:
    await served.ok("POST", "/agents/register", agent("a", agent_type=agent_type))

    assert await discovered(served, agent_type=agent_type) == ["a"]


async def test_another_type_is_refused_with_the_documented_sentence(served: Served) -> None:
    response = await served.call("POST", "/agents/register", agent("a", agent_type="bogus"))

    assert response.status_code == 422
    assert response.json()["detail"] == "'bogus' is not a valid AgentType"
    assert await discovered(served) == []


@pytest.mark.parametrize(
    ("body", "field"),
    [
        ({"agent_type": "worker"}, "agent_id"),
        ({"agent_id": "a"}, "agent_type"),
        (agent("a", capabilities="x"), "capabilities"),
        (agent("a", endpoints={"http": 1}), "endpoints"),
        (agent("a", endpoints={"http": "ftp://x"}), "endpoints"),
        (agent("a", endpoints={"http": "http://169.254.169.254/"}), "endpoints"),
        (agent("a", endpoints={"http": "http://[::ffff:169.254.169.254]:80"}), "endpoints"),
        (agent("a", max_concurrent=0), "max_concurrent"),
        (agent("a", max_concurrent="x"), "max_concurrent"),
        (agent("a", weight=0), "weight"),
    ],
    ids=[
        *("no id", "no type", "no list", "no address", "no http", "metadata", "mapped"),
        *("no room", "text", "no weight"),
    ],
)
async def test_what_a_registration_lacks_is_named(
    served: Served, body: dict[str, Any], field: str
) -> None:
    response = await served.call("POST", "/agents/register", body)

    assert response.status_code == 422
    assert field in response.json()["detail"][0]["loc"]


async def test_unknown_fields_of_a_registration_are_ignored(served: Served) -> None:
    await served.ok("POST", "/agents/register", agent("a", colour="red", hue={"n": [1]}))

    assert await discovered(served) == ["a"]


async def test_a_registration_takes_what_the_roster_keeps_beyond_the_documented_names(
    served: Served, namespace: str
) -> None:
    more: dict[str, Any] = {"max_concurrent": 2, "weight": 2.5, "priority": 7, "version": "2.1"}
    await served.ok("POST", "/agents/register", agent("a", kinds=["k"], **more))
    await served.ok("POST", "/agents/register", agent("b", heartbeat_interval=5))

    agents = (await served.coordinator.board(namespace)).agents
    found, other = await agents.get("a"), await agents.get("b")
    assert (found.max_concurrent, found.weight, found.priority) == (2, 2.5, 7)
    assert (found.version, found.kinds) == ("2.1", ("k",))
    assert (found.heartbeat_interval, other.heartbeat_interval) == (40.0, 5.0)


async def test_what_may_be_pushed_to_may_be_registered(valkey_url: str, namespace: str) -> None:
    settings = DispatchSettings(allow=("169.254.0.0/16",))
    async with serving(valkey_url, namespace=namespace, dispatch=settings) as served:
        address = {"http": "http://169.254.7.7:9002"}
        await served.ok("POST", "/agents/register", agent("a", endpoints=address))

        assert (await served.ok("GET", "/agents/a"))["agent"]["endpoints"] == address


async def test_agents_are_found_by_all_that_is_asked_for(served: Served) -> None:
    await served.ok("POST", "/agents/register", agent("a", capabilities=["x", "y"], tags=["eu"]))
    await served.ok("POST", "/agents/register", agent("b", capabilities=["x"], services=["s"]))
    await served.ok("POST", "/agents/register", agent("c", agent_type="monitor"))

    assert await discovered(served) == ["a", "b", "c"]
    assert await discovered(served, agent_type="worker", status="active") == ["a", "b"]
    assert await discovered(served, capabilities=["x", "y"]) == ["a"]
    assert await discovered(served, services=["s"]) == ["b"]
    assert await discovered(served, tags=["eu"]) == ["a"]
    assert await discovered(served, limit=2) == ["a", "b"]
    assert await discovered(served, limit=0) == []
    assert await discovered(served, min_health_score=1.0) == ["a", "b", "c"]
    assert await discovered(served, agent_type=None, limit=None, capabilities=None) == [
        *("a", "b", "c")
    ]


async def test_what_is_asked_for_comes_back_as_it_was(served: Served) -> None:
    query = {"agent_type": "worker", "agent_id": "ignored", "limit": 3}

    answer = await served.ok("POST", "/agents/discover", query)

    assert list(answer) == ["status", "query", "agents", "count", "timestamp"]
    assert (answer["status"], answer["query"], answer["count"]) == ("success", query, 0)


@pytest.mark.parametrize(
    "query",
    [
        {"agent_type": "bogus"},
        {"agent_type": "no name!"},
        {"agent_type": 7},
        {"status": "sleepy"},
        {"status": ["active"]},
        {"capabilities": ["no name!"]},
        {"tags": ["ü"]},
        {"min_health_score": 1.5},
    ],
    ids=str,
)
async def test_nobody_is_what_nobody_can_be(served: Served, query: dict[str, Any]) -> None:
    await served.ok("POST", "/agents/register", HERMES)

    assert await discovered(served, **query) == []


@pytest.mark.parametrize(
    "query", [{"limit": -1}, {"limit": "x"}, {"capabilities": "x"}, [], None], ids=str
)
async def test_a_query_that_cannot_be_read_is_refused(served: Served, query: Any) -> None:
    body = json.dumps(query).encode()

    response = await served.client.post("/agents/discover", content=body)

    assert response.status_code == 422


async def test_agents_of_one_chain_are_found_by_it_and_all_without(served: Served) -> None:
    await served.ok("POST", "/agents/register", agent("a", chain_id="ait-hub", island_id="i1"))
    await served.ok("POST", "/agents/register", agent("b"))

    assert await discovered(served) == ["a", "b"]
    assert await discovered(served, chain_id="ait-hub") == ["a"]
    assert (await served.ok("GET", "/agents/a"))["agent"]["island_id"] == "i1"


async def test_an_unknown_agent_is_answered_with_exactly_three_keys(served: Served) -> None:
    for verb, path, body in (
        ("GET", "/agents/nobody", None),
        ("POST", "/agents/nobody/heartbeat", None),
        ("PUT", "/agents/nobody/status", {"status": "busy"}),
        ("GET", "/no/such/path", None),
    ):
        response = await served.call(verb, path, body)

        assert response.status_code == 404, path
        answer = response.json()
        assert MOMENT.fullmatch(answer.pop("timestamp"))
        assert answer == {"status": "error", "message": "Resource not found"}


async def test_a_status_is_declared_and_load_is_merged(served: Served) -> None:
    await served.ok("POST", "/agents/register", HERMES)
    path = "/agents/hermes-agent/status"

    await served.ok("PUT", path, {"status": "active", "load_metrics": {"cpu": 0.5, "queue": 2}})
    answer = await served.ok("PUT", path, {"status": "busy", "load_metrics": {"cpu": 0.7}})

    assert list(answer) == ["status", "message", "agent_id", "new_status", "updated_at"]
    assert (answer["agent_id"], answer["new_status"]) == ("hermes-agent", "busy")
    found = (await served.ok("GET", "/agents/hermes-agent"))["agent"]
    assert found["status"] == "busy"
    assert found["load_metrics"] == {"cpu": 0.7, "queue": 2.0}


async def test_an_invalid_status_is_refused_and_changes_nothing(served: Served) -> None:
    await served.ok("POST", "/agents/register", HERMES)

    response = await served.call("PUT", "/agents/hermes-agent/status", {"status": "sleepy"})

    assert response.status_code == 422
    assert (await served.ok("GET", "/agents/hermes-agent"))["agent"]["status"] == "active"


async def test_a_heartbeat_is_answered_as_documented(served: Served) -> None:
    await served.ok("POST", "/agents/register", HERMES)

    answer = await served.ok("POST", "/agents/hermes-agent/heartbeat")

    assert list(answer) == ["status", "message", "agent_id", "heartbeat_at"]
    assert MOMENT.fullmatch(answer["heartbeat_at"])


async def test_agents_are_found_by_service_and_by_capability(served: Served) -> None:
    await served.ok("POST", "/agents/register", HERMES)

    by_service = await served.ok("GET", "/agents/service/analysis")
    by_capability = await served.ok("GET", "/agents/capability/general")
    none = await served.ok("GET", "/agents/service/no%20such")

    assert list(by_service) == ["status", "service", "agents", "count", "timestamp"]
    assert (by_service["service"], by_service["count"]) == ("analysis", 1)
    assert list(by_capability) == ["status", "capability", "agents", "count", "timestamp"]
    assert by_capability["agents"][0]["agent_id"] == "hermes-agent"
    assert (none["service"], none["count"], none["agents"]) == ("no such", 0, [])


async def test_the_registry_is_counted(served: Served) -> None:
    await served.ok("POST", "/agents/register", HERMES)
    await served.ok("POST", "/agents/register", agent("b", agent_type="monitor"))
    await served.ok("PUT", "/agents/b/status", {"status": "maintenance"})

    stats = (await served.ok("GET", "/registry/stats"))["stats"]

    assert MOMENT.fullmatch(stats.pop("last_cleanup"))
    assert stats == {
        "total_agents": 2,
        "status_counts": {"active": 1, "maintenance": 1},
        "type_counts": {"worker": 1, "monitor": 1},
        "service_count": 2,
        "capability_count": 3,
    }


async def test_a_silent_agent_is_inactive_after_the_documented_120_seconds(
    served: Served, namespace: str
) -> None:
    await served.ok("POST", "/agents/register", HERMES)

    cb = await served.coordinator.board(namespace)
    agent = await cb.agents.get("hermes-agent")

    assert agent.heartbeat_interval * 3 == 120.0


async def test_a_verb_that_a_path_has_not_is_405(served: Served) -> None:
    response = await served.call("PATCH", "/agents/register")

    assert (response.status_code, response.json()) == (405, {"detail": "Method Not Allowed"})
    assert "POST" in response.headers["allow"]


async def test_a_key_for_one_agent_acts_as_no_other(valkey_url: str, namespace: str) -> None:
    async with serving(valkey_url, namespace=namespace) as plain:
        access = (await plain.coordinator.board(namespace)).access
        for name in ("a", "b"):
            await plain.ok("POST", "/agents/register", agent(name))
        sent = {"sender": "a", "recipient": "b", "content": {}, "message_id": "m"}
        await plain.ok("POST", "/api/v1/agent/messages/send", sent)
        key = await access.create("of-a", role="work", namespaces=[namespace], agent="a")
        try:

            def guarded(app: Any) -> Any:
                async def keys() -> Any:
                    return access

                return secure(app, AccessSettings(require_keys=True), keys)

            async with serving(valkey_url, guarded, namespace=namespace) as served:
                headers = {"authorization": f"Bearer {key.secret}"}

                async def status(verb: str, path: str, body: Any = None) -> int:
                    response = await served.call(verb, path, body, headers=dict(headers))
                    return response.status_code

                inbox = "/api/v1/agent/messages"
                note = {"receiver_id": "b", "message_type": "direct", "payload": {}}
                topic = {"agent_id": "b", "topic": "t"}
                own = [
                    await status("POST", "/agents/register", agent("a")),
                    await status("POST", "/agents/a/heartbeat"),
                    await status("PUT", "/agents/a/status", {"status": "busy"}),
                    await status("POST", "/messages/send", note),
                    await status("GET", "/agents/b"),
                ]
                others = [
                    await status("POST", "/agents/register", agent("b")),
                    await status("POST", "/agents/b/heartbeat"),
                    await status("PUT", "/agents/b/status", {"status": "busy"}),
                    await status("POST", "/messages/send", {**note, "sender_id": "b"}),
                    await status("POST", f"{inbox}/send", {**sent, "sender": "b"}),
                    await status("POST", f"{inbox}/id/m/read"),
                    await status("POST", f"{inbox}/subscribe", topic),
                    await status("POST", f"{inbox}/unsubscribe", topic),
                    await status("POST", "/peers/add?agent_id=b&peer_id=a"),
                    await status("POST", "/peers/remove?agent_id=b&peer_id=a"),
                ]
        finally:
            await access.revoke(key.key.id)
        page = await plain.ok("GET", "/messages/history?sender_id=a")

    assert own == [200] * 5
    assert others == [403] * 10
    assert page["total"] == 2, "what names no sender is sent as the key's own agent"
