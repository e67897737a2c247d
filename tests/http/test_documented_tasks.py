"""The documented routes of tasks, queues and load balancing."""

from __future__ import annotations

import re
from typing import Any

import msgspec
import pytest

from tests.http.support import Served
from tests.http.test_documented_agents import MOMENT, agent

DOCUMENTED = (
    "round_robin",
    "least_connections",
    "least_response_time",
    "weighted_round_robin",
    "resource_based",
    "capability_based",
    "predictive",
    "consistent_hash",
)
EMPTY = {"urgent": 0, "critical": 0, "high": 0, "normal": 0, "low": 0}
LOAD = (
    "strategy",
    "total_assignments",
    "successful_assignments",
    "failed_assignments",
    "success_rate",
    "active_agents",
    "agent_weights",
    "avg_agent_load",
)


async def submit(served: Served, data: dict[str, Any], **fields: Any) -> str:
    answer = await served.ok("POST", "/tasks/submit", {"task_data": data, **fields})
    task_id: str = answer["task_id"]
    return task_id


async def sizes(served: Served) -> dict[str, int]:
    found: dict[str, int] = (await served.ok("GET", "/tasks/queues"))["queue_sizes"]
    return {name: size for name, size in found.items() if size}


async def test_a_submission_is_answered_as_documented(served: Served) -> None:
    data = {"model": "llama2", "prompt": "test prompt"}

    answer = await served.ok(
        "POST", "/tasks/submit", {"task_data": data, "priority": "Normal", "requirements": {}}
    )

    task_id, moment = answer.pop("task_id"), answer.pop("submitted_at")
    assert answer == {
        "status": "success",
        "message": "Task submitted successfully",
        "priority": "Normal",
    }
    assert MOMENT.fullmatch(moment)
    assert re.fullmatch(r"[A-Za-z0-9._-]+", task_id)


async def test_the_id_that_was_answered_is_the_tasks_own(served: Served) -> None:
    data = {"model": "llama2", "task_type": "inference", "n": 1.50}

    task_id = await submit(served, data, priority="HIGH")

    task = (await served.ok("GET", f"/tasks/{task_id}"))["task"]
    assert (task["kind"], task["payload"], task["priority"]) == ("inference", data, 10)


async def test_the_payload_is_kept_as_it_came(served: Served, namespace: str) -> None:
    body = b'{"task_data": {"n": 1.50, "big": 123456789012345678901234567890, "n": 2}}'

    response = await served.client.post("/tasks/submit", content=body)

    board = (await served.coordinator.board(namespace)).namespace
    raw = await board.connection.call(
        "HGET", board.keys.tasks("default"), response.json()["task_id"]
    )
    assert b'{"n": 1.50, "big": 123456789012345678901234567890, "n": 2}' in raw


async def test_a_task_takes_the_id_of_its_data(served: Served) -> None:
    assert await submit(served, {"task_id": "job-7"}) == "job-7"
    assert await submit(served, {"task_id": 41}) == "41"
    assert await submit(served, {"task_id": None}) not in ("", "None")


@pytest.mark.parametrize("task_id", ["no name!", "x" * 129, [1], True], ids=repr)
async def test_an_id_that_is_no_name_is_refused(served: Served, task_id: Any) -> None:
    response = await served.call("POST", "/tasks/submit", {"task_data": {"task_id": task_id}})

    assert response.status_code == 422
    assert await sizes(served) == {}


async def test_another_body_under_the_same_id_is_a_conflict(served: Served) -> None:
    await submit(served, {"task_id": "job-7", "n": 1})

    response = await served.call(
        "POST", "/tasks/submit", {"task_data": {"task_id": "job-7", "n": 2}}
    )

    assert response.status_code == 409
    assert isinstance(response.json()["detail"], str)


@pytest.mark.parametrize("priority", ["low", "normal", "high", "critical", "urgent", "UrGent"])
async def test_each_priority_is_taken_in_any_case(served: Served, priority: str) -> None:
    await submit(served, {}, priority=priority)

    assert await sizes(served) == {priority.lower(): 1}


async def test_an_unknown_priority_is_refused_with_the_documented_sentence(
    served: Served,
) -> None:
    response = await served.call("POST", "/tasks/submit", {"task_data": {}, "priority": "asap"})

    assert (response.status_code, response.json()["detail"]) == (400, "Invalid priority: asap")


@pytest.mark.parametrize(
    "body",
    [
        {},
        {"task_data": []},
        {"task_data": "x"},
        {"task_data": None},
        {"task_data": {}, "priority": 3},
        {"task_data": {}, "requirements": []},
        {"task_data": {}, "requirements": {"capabilities": "x"}},
        {"task_data": {}, "requirements": {"capabilities": ["no name!"]}},
        {"task_data": {}, "requirements": {"min_health_score": 2}},
        [],
    ],
    ids=str,
)
async def test_what_is_no_submission_is_refused(served: Served, body: Any) -> None:
    response = await served.client.post("/tasks/submit", content=msgspec.json.encode(body))

    assert response.status_code == 422
    assert response.json()["detail"][0]["loc"]
    assert await sizes(served) == {}


async def test_requirements_decide_who_is_given_the_task(served: Served) -> None:
    await served.ok("POST", "/agents/register", agent("a", capabilities=["x"]))
    await served.ok("POST", "/agents/register", agent("b", capabilities=["x", "y"]))
    wanted = {"capabilities": ["y"], "agent_type": "worker", "min_agents": 3, "services": None}
    task_id = await submit(served, {}, requirements=wanted)

    none = (await served.ok("POST", "/tasks/claim", {"agent": "a"}))["claims"]
    one = (await served.ok("POST", "/tasks/claim", {"agent": "b"}))["claims"]

    assert none["tasks"] == []
    assert one["tasks"][0]["id"] == task_id


async def test_the_status_has_exactly_the_documented_names(served: Served) -> None:
    await served.ok("POST", "/agents/register", agent("a"))
    await submit(served, {})

    answer = await served.ok("GET", "/tasks/status")

    assert list(answer) == ["status", "stats", "timestamp"]
    stats = answer["stats"]
    assert list(stats) == [
        "tasks_distributed",
        "tasks_completed",
        "tasks_failed",
        "avg_distribution_time",
        "load_balancer_stats",
        "queue_sizes",
    ]
    assert tuple(stats["load_balancer_stats"]) == LOAD
    assert stats["load_balancer_stats"]["active_agents"] == 1
    assert stats["queue_sizes"] == {**EMPTY, "normal": 1}


async def test_an_empty_coordinator_has_a_status_too(served: Served) -> None:
    stats = (await served.ok("GET", "/tasks/status"))["stats"]

    assert (stats["tasks_distributed"], stats["tasks_completed"]) == (0, 0)
    assert (stats["avg_distribution_time"], stats["queue_sizes"]) == (0.0, EMPTY)
    load = stats["load_balancer_stats"]
    assert (load["total_assignments"], load["success_rate"]) == (0, 0.0)


async def test_a_completed_task_is_counted_and_is_no_load(served: Served) -> None:
    await served.ok("POST", "/agents/register", agent("a"))
    task_id = await submit(served, {})
    claim = (await served.ok("POST", "/tasks/claim", {"agent": "a"}))["claims"]["tasks"][0]
    busy = (await served.ok("GET", "/load-balancer/stats"))["stats"]
    await served.ok("POST", f"/tasks/{task_id}/complete", {"fence": claim["fence"], "result": 1})

    stats = (await served.ok("GET", "/tasks/status"))["stats"]

    assert busy["avg_agent_load"] == 1.0
    assert (stats["tasks_completed"], stats["tasks_failed"]) == (1, 0)
    assert stats["load_balancer_stats"]["avg_agent_load"] == 0.0
    assert stats["queue_sizes"] == EMPTY


async def test_queues_are_counted_by_priority(served: Served) -> None:
    for priority in ("low", "high", "high", "urgent"):
        await submit(served, {}, priority=priority)
    for number in (-1, 5, 15, 999):
        await served.ok("POST", "/tasks", {"kind": "k", "priority": number})

    queues = await served.ok("GET", "/tasks/queues")
    stats = await served.ok("GET", "/tasks/queues/stats")

    expected = {"urgent": 2, "critical": 0, "high": 3, "normal": 1, "low": 2}
    assert list(queues) == ["status", "queue_sizes", "timestamp"]
    assert queues["queue_sizes"] == expected
    assert list(stats) == ["status", "queue_sizes", "distribution_stats", "timestamp"]
    assert stats["queue_sizes"] == stats["distribution_stats"]["queue_sizes"] == expected


async def test_a_cleared_queue_is_empty_and_the_others_are_not(served: Served) -> None:
    await served.ok("POST", "/agents/register", agent("a"))
    held = await submit(served, {"task_id": "held"}, priority="high")
    await served.ok("POST", "/tasks/claim", {"agent": "a"})
    cleared = await submit(served, {}, priority="high")
    kept = await submit(served, {}, priority="low")

    answer = await served.ok("POST", "/tasks/queues/high/clear")

    assert MOMENT.fullmatch(answer.pop("timestamp"))
    assert answer == {
        "status": "success",
        "message": "Cleared 1 tasks from high queue",
        "priority": "high",
        "cleared_count": 1,
    }
    statuses = [
        (await served.ok("GET", f"/tasks/{task}"))["task"]["status"]
        for task in (held, cleared, kept)
    ]
    assert statuses == ["claimed", "cancelled", "pending"]


@pytest.mark.parametrize("priority", ["High", "asap"])
async def test_the_queue_to_clear_is_named_exactly(served: Served, priority: str) -> None:
    response = await served.call("POST", f"/tasks/queues/{priority}/clear")

    assert response.status_code == 400
    assert response.json()["detail"] == f"Invalid priority: {priority}"


@pytest.mark.parametrize("strategy", [*DOCUMENTED, "Round_Robin", "round-robin"])
async def test_each_documented_strategy_is_set_for_all(served: Served, strategy: str) -> None:
    answer = await served.ok("PUT", f"/load-balancer/strategy?strategy={strategy}")

    assert list(answer) == ["status", "message", "strategy", "updated_at"]
    assert answer["strategy"] == strategy
    stats = await served.ok("GET", "/load-balancer/stats")
    assert tuple(stats["stats"]) == LOAD
    assert stats["stats"]["strategy"] == strategy.lower().replace("-", "_")


@pytest.mark.parametrize(
    ("query", "status", "detail"),
    [
        ("?strategy=fastest", 400, "Invalid strategy: fastest"),
        ("?strategy=best_idle", 400, "Invalid strategy: best_idle"),
        ("", 422, None),
    ],
    ids=["unknown", "not for dispatch", "missing"],
)
async def test_a_strategy_that_is_none_changes_nothing(
    served: Served, query: str, status: int, detail: str | None
) -> None:
    response = await served.call("PUT", f"/load-balancer/strategy{query}")

    assert response.status_code == status
    if detail is not None:
        assert response.json()["detail"] == detail
    else:
        assert response.json()["detail"][0]["loc"] == ["query", "strategy"]


async def test_the_strategy_cannot_be_read_by_its_own_path(served: Served) -> None:
    assert (await served.call("GET", "/load-balancer/strategy")).status_code == 405


async def test_a_chain_that_is_asked_for_decides_who_is_given_the_task(served: Served) -> None:
    await served.ok("POST", "/agents/register", agent("a"))
    await served.ok("POST", "/agents/register", agent("b", chain_id="ait-hub"))
    body = {"task_data": {}, "chain_id": "ait-hub"}

    answer = await served.ok("POST", "/tasks/submit", body)
    none = (await served.ok("POST", "/tasks/claim", {"agent": "a"}))["claims"]
    one = (await served.ok("POST", "/tasks/claim", {"agent": "b"}))["claims"]

    assert answer["chain_id"] == "ait-hub"
    assert none["tasks"] == []
    assert one["tasks"][0]["id"] == answer["task_id"]


@pytest.mark.parametrize(
    ("verb", "path", "body", "loc"),
    [
        ("POST", "/agents/register", agent(""), ["body", "agent_id"]),
        ("POST", "/agents/register", agent("a", capabilities=["x y"]), ["body", "capabilities"]),
        ("POST", "/agents/register", agent("a", chain_id="x y"), ["body", "chain_id"]),
        ("POST", "/agents/x%20y/heartbeat", None, ["path", "agent_id"]),
        (
            *("PUT", "/agents/a/status"),
            {"status": "active", "load_metrics": {"x y": 1}},
            ["body", "load_metrics"],
        ),
        (
            *("POST", "/tasks/submit"),
            {"task_data": {}, "requirements": {"min_health_score": 2}},
            ["body", "requirements"],
        ),
        ("GET", "/messages/history?sender_id=x%20y", None, ["query", "sender_id"]),
        ("GET", "/messages/history?limit=-1", None, ["query", "limit"]),
        ("POST", "/peers/add?agent_id=a&peer_id=a", None, ["query", "peer_id"]),
    ],
    ids=str,
)
async def test_a_fault_says_where_it_stands_by_the_documented_name(
    served: Served, verb: str, path: str, body: Any, loc: list[str]
) -> None:
    response = await served.call(verb, path, body)

    assert response.status_code == 422
    assert response.json()["detail"][0]["loc"] == loc
