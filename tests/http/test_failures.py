"""What went wrong with the documented service when it was measured, one by one, put right."""

from __future__ import annotations

import asyncio
import json
import os
import signal
import subprocess
import time
from collections import Counter
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager, suppress
from pathlib import Path
from typing import Any

import pytest
import redis

from callboard.app import Callboard
from callboard.dispatch import DispatchSettings
from callboard.domain.task import TaskSpec
from callboard.engine.embedded_process import find_binary
from callboard.http.security import AccessSettings, secure
from callboard.services.deliveries import Deliveries
from tests.dispatch.agents import Agent, Behave, answers, completes, hangs, running
from tests.http.nodes import Node, engine_of
from tests.http.socket_support import socket
from tests.http.support import Served, serving
from tests.waiting import block_until, until

SECONDS = 40.0
"""More than anything here takes; a wait that meets it fails the test."""

QUICK: dict[str, Any] = {
    "delay": 0.02,
    "delay_most": 0.1,
    "rest": 0.05,
    "rest_most": 0.2,
    "poll": 0.2,
}
"""A dispatcher that soon tries again."""


class Clock:
    """The engine's time as the test wants it."""

    def __init__(self) -> None:
        self.us = 1_900_000_000_000_000

    def __call__(self) -> int:
        return self.us

    async def pass_(self, cb: Callboard, seconds: float) -> None:
        """Let time pass as a coordinator sees it that sweeps all the while."""
        left = seconds
        while left > 0:
            self.us += round(min(left, 1.5) * 1_000_000)
            left -= 1.5
            while await cb.agents.sweep():
                pass


async def board_of(served: Served) -> Callboard:
    return await served.coordinator.board(served.coordinator.settings.namespace)


@asynccontextmanager
async def dispatching(url: str, namespace: str, **how: Any) -> AsyncIterator[Served]:
    """A coordinator that dispatches, soon again where it fails."""
    settings = DispatchSettings(**{**QUICK, **how})
    async with serving(url, namespace=namespace, dispatches=True, dispatch=settings) as served:
        yield served


@pytest.fixture
async def coordinator(valkey_url: str, namespace: str) -> AsyncIterator[Served]:
    async with dispatching(valkey_url, namespace) as served:
        yield served


@asynccontextmanager
async def crew(served: Served, **behaviours: Behave) -> AsyncIterator[dict[str, Agent]]:
    """Agents behind HTTP, registered, each behaving in its way."""
    async with AsyncExitStack() as stack:
        agents = {}
        for name, behave in behaviours.items():
            agents[name] = await stack.enter_async_context(running(behave))
            await register(served, name, endpoints={"http": agents[name].url})
        yield agents


async def register(served: Served, name: str, **fields: Any) -> Any:
    body = {"agent_id": name, "agent_type": "worker", **fields}
    return await served.ok("POST", "/agents/register", body)


async def submit(served: Served, data: Any = None, **fields: Any) -> str:
    body = {"task_data": {} if data is None else data, **fields}
    answer = await served.ok("POST", "/tasks/submit", body)
    task_id: str = answer["task_id"]
    return task_id


async def stats(served: Served) -> dict[str, Any]:
    found: dict[str, Any] = (await served.ok("GET", "/tasks/status"))["stats"]
    return found


async def task(served: Served, task_id: str) -> dict[str, Any]:
    found: dict[str, Any] = (await served.ok("GET", f"/tasks/{task_id}"))["task"]
    return found


async def all_done(served: Served, count: int) -> None:
    async def are() -> bool:
        return bool((await stats(served))["tasks_completed"] == count)

    await until(are)


async def claim(served: Served, agent: str, **fields: Any) -> list[dict[str, Any]]:
    found = await served.ok("POST", "/tasks/claim", {"agent": agent, **fields})
    tasks: list[dict[str, Any]] = found["claims"]["tasks"]
    return tasks


async def test_f01_a_task_waits_for_an_agent_that_comes_later(coordinator: Served) -> None:
    task_id = await submit(coordinator, {"prompt": "test prompt"})
    why = (await coordinator.ok("GET", f"/tasks/{task_id}/why"))["why"]
    waiting = await stats(coordinator)

    async with crew(coordinator, late=completes({"text": "done"})) as agents:
        await agents["late"].has(1)
        await all_done(coordinator, 1)

    assert (waiting["tasks_failed"], waiting["queue_sizes"]["normal"]) == (0, 1)
    assert why["text"]
    assert agents["late"].tasks == [task_id]
    assert (await task(coordinator, task_id))["result"] == {"text": "done"}


async def test_f02_three_equal_agents_get_ten_of_thirty_tasks_each(
    coordinator: Served,
) -> None:
    async with crew(coordinator, a=answers(), b=answers(), c=answers()) as agents:
        for _ in range(30):
            await submit(coordinator)
        for agent in agents.values():
            await agent.has(10)
        found = await stats(coordinator)

    assert {name: len(agent.messages) for name, agent in agents.items()} == {
        "a": 10,
        "b": 10,
        "c": 10,
    }
    assert found["tasks_distributed"] == 30
    assert found["load_balancer_stats"]["strategy"] == "least_connections"


async def test_f03_the_load_falls_with_each_completed_task(coordinator: Served) -> None:
    done = completes()
    async with crew(coordinator, a=done, b=done, c=done) as agents:
        specs = [{"kind": "task", "payload": {"n": n}} for n in range(430)]
        await coordinator.ok("POST", "/tasks/batch", {"specs": specs})
        await all_done(coordinator, 430)
        one_more = await submit(coordinator)
        await all_done(coordinator, 431)
        found = await stats(coordinator)

    pushed = [task_id for agent in agents.values() for task_id in agent.tasks]
    assert one_more in pushed
    assert Counter(pushed).most_common(1)[0][1] == 1
    assert found["tasks_failed"] == 0
    assert found["load_balancer_stats"]["avg_agent_load"] == 0.0


async def test_f04_a_killed_coordinator_loses_nothing_of_its_backlog(
    valkey_url: str, namespace: str
) -> None:
    engine = engine_of(valkey_url, namespace)
    async with running(hangs) as hung, running(completes()) as healthy:
        with Node(*engine, dispatches=True) as node:
            node.ok("POST", "/agents/register", body_of("hung", hung.url))
            ids = [
                node.ok("POST", "/tasks/submit", {"task_data": {"n": n}})["task_id"]
                for n in range(96)
            ]
            await hung.has(1)
            node.kill()

        with Node(*engine, dispatches=True) as node:
            node.ok("DELETE", "/agents/hung")
            node.ok("POST", "/agents/register", body_of("healthy", healthy.url))

            async def are_done() -> bool:
                status = await asyncio.to_thread(node.ok, "GET", "/tasks/status")
                return bool(status["stats"]["tasks_completed"] == 96)

            await until(are_done)

    assert sorted(healthy.tasks) == sorted(ids)


def body_of(name: str, url: str) -> dict[str, Any]:
    return {"agent_id": name, "agent_type": "worker", "endpoints": {"http": url}}


def test_f05_what_one_coordinator_is_told_the_other_knows_at_once(
    valkey_url: str, namespace: str
) -> None:
    engine = engine_of(valkey_url, namespace)
    with Node(*engine) as b, Node(*engine) as a:
        a.ok("POST", "/agents/register", {"agent_id": "aitbc1-agent", "agent_type": "worker"})
        found = b.ok("POST", "/agents/discover", {})
        a.ok("PUT", "/agents/aitbc1-agent/status", {"status": "error"})
        seen = b.ok("GET", "/agents/aitbc1-agent")["agent"]["status"]
        b.ok("POST", "/agents/aitbc1-agent/heartbeat")
        both = [node.ok("GET", "/agents/aitbc1-agent")["agent"]["status"] for node in (a, b)]

    assert [one["agent_id"] for one in found["agents"]] == ["aitbc1-agent"]
    assert seen == "error"
    assert both == ["error", "error"]


async def test_f06_an_agent_heard_by_one_coordinator_is_active_for_all(
    valkey_url: str, namespace: str
) -> None:
    clock = Clock()
    how = {"namespace": namespace, "sweeps": False, "clock": clock}
    async with serving(valkey_url, **how) as a, serving(valkey_url, **how) as b:
        await register(a, "heard")
        await register(b, "silent")
        for _ in range(10):
            await a.ok("POST", "/agents/heard/heartbeat")
            await clock.pass_(await board_of(b), 30)

        found = {
            (node, name): (await served.ok("GET", f"/agents/{name}"))["agent"]["status"]
            for node, served in (("a", a), ("b", b))
            for name in ("heard", "silent")
        }
        active = (await b.ok("POST", "/agents/discover", {"status": "active"}))["agents"]

    assert found == {
        ("a", "heard"): "active",
        ("b", "heard"): "active",
        ("a", "silent"): "inactive",
        ("b", "silent"): "inactive",
    }
    assert [one["agent_id"] for one in active] == ["heard"]


async def test_f07_an_agent_that_hangs_delays_no_other(valkey_url: str, namespace: str) -> None:
    async with (
        dispatching(valkey_url, namespace, push_timeout=300.0, stop_timeout=0.0) as served,
        crew(served, hung=hangs) as agents,
    ):
        ids = [await submit(served, priority="low") for _ in range(40)]
        await agents["hung"].has(32)
        async with crew(served, healthy=completes()) as others:
            ids += [await submit(served, priority="low") for _ in range(60)]
            ids.append(await submit(served, priority="urgent"))
            await all_done(served, 101 - 32)  # long before a push to the one that hangs ends
            held = [one for one in ids if (await task(served, one))["status"] != "done"]
            await served.ok("DELETE", "/agents/hung")
            await all_done(served, 101)

    assert agents["hung"].most == 32, "it holds no more than its own bound"
    assert sorted(held) == sorted(agents["hung"].tasks)
    assert sorted(others["healthy"].tasks) == sorted(ids)


async def test_f08_an_agent_that_fails_each_push_makes_dead_letters_and_loses_none(
    coordinator: Served,
) -> None:
    cb = await board_of(coordinator)
    async with crew(coordinator, broken=answers(500)) as agents:
        policy = {"max_retries": 1, "base": 0.01}
        for n in range(5):
            await coordinator.ok("POST", "/tasks", {"kind": "k", "id": f"t{n}", "retry": policy})

        async def are_dead() -> bool:
            return bool((await cb.boards.get("default")).counts.dead_letters == 5)

        await until(are_dead)
        found = await stats(coordinator)

    pushes = Counter(agents["broken"].tasks)
    assert all(pushes[f"t{n}"] >= 2 for n in range(5)), "each was tried again"
    assert found["tasks_failed"] == 5
    await coordinator.ok("POST", "/tasks/t0/retry")
    async with crew(coordinator, broken=completes("now")):
        await all_done(coordinator, 1)
    assert (await task(coordinator, "t0"))["result"] == "now"


async def test_f09_what_a_dead_agent_held_goes_to_another(coordinator: Served) -> None:
    await register(coordinator, "dies", capabilities=["x"])
    await register(coordinator, "lives", capabilities=["x"])
    await coordinator.ok("PUT", "/agents/lives/status", {"status": "maintenance"})
    task_id = await submit(coordinator, requirements={"capabilities": ["x"]})
    held = await died_holding(coordinator, "dies")
    await coordinator.ok("PUT", "/agents/dies/status", {"status": "error"})
    await coordinator.ok("PUT", "/agents/lives/status", {"status": "active"})

    found: list[dict[str, Any]] = []

    async def has_it() -> bool:
        found.extend(await claim(coordinator, "lives"))
        return bool(found)

    await until(has_it)
    late = await coordinator.call(
        "POST", f"/tasks/{task_id}/complete", {"fence": held["fence"], "result": "late"}
    )
    await coordinator.ok(
        "POST", f"/tasks/{task_id}/complete", {"fence": found[0]["fence"], "result": "mine"}
    )

    assert (held["id"], found[0]["id"]) == (task_id, task_id)
    assert late.status_code == 409
    assert (await task(coordinator, task_id))["result"] == "mine"


async def died_holding(served: Served, agent: str) -> dict[str, Any]:
    """The task that a process of this agent claimed by curl before it was killed."""
    body = json.dumps({"agent": agent, "lease": 1.0, "poll": 20})
    script = (
        f"curl -s -X POST {served.url}/tasks/claim -H 'content-type: application/json' "
        f"-d '{body}'; echo; sleep 600"
    )
    process = await asyncio.create_subprocess_exec(
        "sh", "-c", script, stdout=asyncio.subprocess.PIPE, start_new_session=True
    )
    assert process.stdout is not None
    async with asyncio.timeout(SECONDS):
        answer = json.loads(await process.stdout.readline())
    os.killpg(process.pid, signal.SIGKILL)
    await process.wait()
    found: dict[str, Any] = answer["claims"]["tasks"][0]
    return found


async def test_f10_an_agent_without_a_name_is_refused_and_harms_nobody(
    coordinator: Served,
) -> None:
    async with crew(coordinator, named=completes()) as agents:
        response = await coordinator.call(
            "POST", "/agents/register", {"agent_id": "", "agent_type": "worker"}
        )
        for _ in range(20):
            await submit(coordinator)
        await all_done(coordinator, 20)

    assert response.status_code == 422
    assert "agent_id" in str(response.json()["detail"]) or "agent" in str(response.json())
    assert len(agents["named"].messages) == 20


async def test_f11_the_ring_of_consistent_hash_follows_who_is_there(
    coordinator: Served,
) -> None:
    await coordinator.ok("PUT", "/load-balancer/strategy?strategy=consistent_hash")
    keys = [f"k{n}" for n in range(24)]
    done = 0

    async def owners(agents: dict[str, Agent]) -> list[str]:
        """Who is given the keys, one after the other."""
        nonlocal done
        found = []
        for key in keys:
            spec = {"kind": "task", "payload": {}, "affinity_key": key}
            task_id = (await coordinator.ok("POST", "/tasks", spec))["task"]["id"]
            done += 1
            await all_done(coordinator, done)
            found += [name for name, agent in agents.items() if task_id in agent.tasks]
        return found

    async with crew(coordinator, a=completes(), b=completes()) as agents:
        first = await owners(agents)
        again = await owners(agents)
        async with crew(coordinator, c=completes()) as late:
            joined = await owners({**agents, **late})
            await coordinator.ok("PUT", "/agents/a/status", {"status": "inactive"})
            left = await owners({**agents, **late})

    assert set(first) == {"a", "b"}
    assert again == first, "a key stays where it is"
    moved = [new for old, new in zip(first, joined, strict=True) if old != new]
    assert set(moved) == {"c"}, "who joins takes, and nobody else does"
    assert 0 < len(moved) < len(keys) * 2 / 3
    kept = [(old, new) for old, new in zip(joined, left, strict=True) if old != "a"]
    assert all(old == new for old, new in kept), "who leaves moves its own alone"
    assert set(left) == {"b", "c"}, "one that is inactive gets nothing more"


async def test_f12_the_documented_calls_reach_the_agent_without_a_chain(
    coordinator: Served,
) -> None:
    async with running(answers()) as agent:
        await register(
            coordinator,
            "hermes-agent",
            capabilities=["data-processing", "analysis", "general"],
            services=["task-execution", "analysis"],
            endpoints={"http": agent.url},
            metadata={"version": "1.0.0"},
        )
        ids = [
            await submit(
                coordinator,
                {"model": "llama2", "prompt": "test prompt"},
                priority="normal",
                requirements={},
            )
            for _ in range(5)
        ]
        await agent.has(5)

    assert sorted(agent.tasks) == sorted(ids)
    message = agent.messages[0]
    assert message["message_type"] == "task_assignment"
    assert message["payload"]["task_data"] == {"model": "llama2", "prompt": "test prompt"}


@pytest.mark.parametrize("status", ["maintenance", "busy", "error", "inactive"])
async def test_f13_a_heartbeat_keeps_what_was_declared(served: Served, status: str) -> None:
    await register(served, "a")
    await served.ok("PUT", "/agents/a/status", {"status": status})

    await served.ok("POST", "/agents/a/heartbeat")

    assert (await served.ok("GET", "/agents/a"))["agent"]["status"] == status


async def test_f14_who_registers_anew_is_not_found_by_what_it_could_before(
    served: Served,
) -> None:
    await register(served, "a", capabilities=["old", "both"], services=["was"])

    await register(served, "a", capabilities=["new", "both"])

    counts = {
        name: (await served.ok("GET", f"/agents/capability/{name}"))["count"]
        for name in ("old", "new", "both")
    }
    assert counts == {"old": 0, "new": 1, "both": 1}
    assert (await served.ok("GET", "/agents/service/was"))["count"] == 0


FOREIGN = {"hash": 404, "text": 503, "list": 503, "spoilt": 404}
"""What the name of a foreign key is answered with: no agent, or an engine that holds another
type of key there."""


@pytest.mark.parametrize("kind", FOREIGN)
async def test_f15_a_foreign_key_hides_no_agent(valkey_url: str, namespace: str, kind: str) -> None:
    async with serving(valkey_url, namespace=namespace) as before:
        for name in ("a", "b", "c"):
            await register(before, name)
        call, key = (await board_of(before)).namespace.connection.call, f"{{{namespace}}}:agent:"
        if kind == "hash":
            await call("HSET", f"{key}foo", "agent_id", "foo", "status", "active")
        elif kind == "text":
            await call("SET", f"{key}foo", "not json")
        elif kind == "list":
            await call("RPUSH", f"{key}foo", "x")
        else:
            await call("HSET", f"{key}b", "capabilities", "not json", "load_metrics", "[")

    async with serving(valkey_url, namespace=namespace) as after:
        found = await after.ok("POST", "/agents/discover", {})
        await register(after, "d")
        one = await after.call("GET", "/agents/foo")
        census = (await after.ok("GET", "/registry/stats"))["stats"]

    assert [agent["agent_id"] for agent in found["agents"]] == ["a", "b", "c"]
    assert one.status_code == FOREIGN[kind]
    assert census["total_agents"] == 4


async def test_f16_without_the_engine_nothing_is_said_to_be_done(tmp_path: Path) -> None:
    path = tmp_path / "engine.sock"
    server = start_engine(find_binary(), path)
    url = f"unix://{path}"
    try:
        async with serving(url, namespace="ns", call_timeout=1.0) as served:
            await register(served, "before")
            server.kill()
            server.wait()

            refused = await served.call(
                "POST", "/agents/register", {"agent_id": "during", "agent_type": "worker"}
            )
            health = await served.call("GET", "/health")
            ready = await served.call("GET", "/ready")
            metrics = await served.call("GET", "/metrics")

            server = start_engine(find_binary(), path)

            async def is_ready() -> bool:
                return (await served.call("GET", "/ready")).status_code == 200

            await until(is_ready)
            found = await served.ok("POST", "/agents/discover", {})
            await register(served, "after")
    finally:
        server.kill()
        server.wait()

    assert refused.status_code == 503
    assert "detail" in refused.json()
    assert int(refused.headers["retry-after"]) >= 1
    assert (health.status_code, health.json()["status"]) == (200, "healthy")
    assert ready.status_code == 503
    assert (metrics.status_code, "callboard_engine_up 0" in metrics.text) == (200, True)
    assert "during" not in [agent["agent_id"] for agent in found["agents"]]


def start_engine(binary: Any, path: Path) -> subprocess.Popen[bytes]:
    """A server of our own on a socket, that keeps nothing."""
    server = subprocess.Popen(
        [
            *(str(binary), "--port", "0", "--unixsocket", str(path), "--dir", str(path.parent)),
            *("--save", "", "--appendonly", "no", "--logfile", str(path.with_suffix(".log"))),
        ]
    )
    with redis.Redis(unix_socket_path=str(path)) as client:

        def answers() -> bool:
            with suppress(redis.ConnectionError):
                return bool(client.ping())
            return False

        block_until(answers, "the engine starts")
    return server


async def test_f17_the_same_task_again_is_one_task(coordinator: Served) -> None:
    async with crew(coordinator, a=completes()) as agents:
        ids = [await submit(coordinator, {"task_id": "job-1", "n": 1}) for _ in range(3)]
        await all_done(coordinator, 1)
        again = await submit(coordinator, {"task_id": "job-1", "n": 1})
        found = await stats(coordinator)

    assert {*ids, again} == {"job-1"}
    assert agents["a"].tasks == ["job-1"]
    assert found["tasks_distributed"] == 1


async def test_f18_the_machines_health_keeps_nobody_waiting(served: Served) -> None:
    longest, last = 0.0, time.monotonic()

    async def look_for_gaps() -> None:
        nonlocal longest, last
        while True:
            await asyncio.sleep(0)
            longest, last = max(longest, time.monotonic() - last), time.monotonic()

    looking = asyncio.create_task(look_for_gaps())
    found = await asyncio.gather(
        *(served.call("GET", "/metrics/health") for _ in range(10)),
        *(served.call("GET", "/health") for _ in range(10)),
    )
    looking.cancel()

    assert {response.status_code for response in found} == {200}
    assert found[0].json()["health"]["memory"]["total"] > 0
    assert longest < 1.0, "each used to stop the loop for a second"


def test_f19_metrics_are_valid_bounded_and_move(valkey_url: str, namespace: str) -> None:
    with Node(*engine_of(valkey_url, namespace)) as node:
        for n in range(30):
            name = f"agent-{n}"
            node.ok("POST", "/agents/register", {"agent_id": name, "agent_type": "worker"})
            node.ok("GET", f"/agents/{name}")
        node.ok("POST", "/tasks/submit", {"task_data": {}})
        response = node.client.get("/metrics")

    families = parse_exposition(response.text)
    assert response.headers["content-type"].startswith("text/plain")
    assert "agent-7" not in response.text
    assert families["callboard_agents"]["state=idle"] == 30
    assert families["callboard_tasks"]["board=default,status=pending"] == 1
    asked = "method=GET,route=/agents/{agent_id}"
    assert families["callboard_http_requests_total"][f"{asked},status=2xx"] == 30
    buckets = [
        value
        for labels, value in families["callboard_http_request_seconds_bucket"].items()
        if labels.startswith(f"{asked},le=")
    ]
    assert len(buckets) > 5
    assert buckets == sorted(buckets)
    assert buckets[-1] == families["callboard_http_request_seconds_count"][asked] == 30


def parse_exposition(text: str) -> dict[str, dict[str, float]]:
    """The samples by family and labels; fails on a line that is not in the format."""
    found: dict[str, dict[str, float]] = {}
    assert text.endswith("\n")
    for line in text.splitlines():
        if line.startswith("# "):
            assert line.split(" ")[1] in ("HELP", "TYPE")
            continue
        head, _, value = line.rpartition(" ")
        name, has_labels, inner = head.partition("{")
        pairs: list[str] = []
        rest = inner.removesuffix("}") if has_labels else ""
        while rest:
            label, _, rest = rest.partition('="')
            end = 0
            while rest[end] != '"':
                end += 2 if rest[end] == "\\" else 1
            pairs.append(f"{label}={rest[:end]}")
            rest = rest[end + 1 :].removeprefix(",")
        family = found.setdefault(name, {})
        assert ",".join(pairs) not in family, f"told twice: {line}"
        family[",".join(pairs)] = float(value)
    return found


async def test_f20_what_was_sent_while_a_socket_was_away_comes_on_the_next(
    served: Served,
) -> None:
    async with socket(served.port) as ws:
        await ws.ask("register", agent="a")
        await ws.ask("subscribe", inbox=True)
    sent = [
        (
            await served.ok(
                "POST",
                "/api/v1/agent/messages/send",
                {"sender": "b", "recipient": "a", "content": {"n": 1}},
            )
        )["message_id"],
        (
            await served.ok(
                "POST", "/messages/broadcast", {"message_type": "broadcast", "payload": {"n": 2}}
            )
        )["message_id"],
    ]

    async with socket(served.port) as again:
        await again.ask("register", agent="a")
        await again.ask("subscribe", inbox=True)
        found = [(await again.next("message"))["message"] for _ in sent]
        for message in found:
            await again.ask("ack", message=message["id"])

    assert sorted(one["id"] for one in found) == sorted(sent)
    assert [one["status"] for one in await inbox(served)] == ["read", "read"]


async def inbox(served: Served) -> list[dict[str, Any]]:
    answer = await served.ok("GET", "/api/v1/agent/messages/inbox?agent_id=a")
    found: list[dict[str, Any]] = answer["messages"]
    return found


async def test_f21_nobody_is_held_back_by_a_rate_that_nobody_set(
    valkey_url: str, namespace: str
) -> None:
    async with serving(valkey_url, namespace=namespace) as served:
        ids = {await submit(served) for _ in range(120)}

        def limited(app: Any) -> Any:
            async def keys() -> Any:
                return (await app.coordinator.board(namespace)).access

            return secure(app, AccessSettings(rate=0.01, burst=50), keys)

        async with serving(valkey_url, limited, namespace=namespace) as slow:
            answers_ = [
                await slow.call("POST", "/tasks/submit", {"task_data": {}}) for _ in range(60)
            ]

    assert len(ids) == 120
    counts = Counter(response.status_code for response in answers_)
    assert counts == {200: 50, 429: 10}
    refused = answers_[-1]
    assert refused.json()["detail"]
    assert int(refused.headers["retry-after"]) >= 1


async def test_f22_a_steady_stream_of_urgent_tasks_starves_nobody(
    valkey_url: str, namespace: str
) -> None:
    clock = Clock()
    async with serving(valkey_url, namespace=namespace, sweeps=False, clock=clock) as served:
        await register(served, "a")
        low = await submit(served, priority="low")
        first = []
        for minutes in range(60):
            clock.us += 60_000_000
            urgent = await submit(served, {"minutes": minutes}, priority="urgent")
            claimed = (await claim(served, "a"))[0]
            first.append(claimed["id"])
            await served.ok("POST", f"/tasks/{claimed['id']}/complete", {"fence": claimed["fence"]})
            if claimed["id"] == low:
                break
            assert claimed["id"] == urgent

    assert first[-1] == low
    assert 30 <= len(first) <= 50, "40 points of priority are worth 40 minutes"


async def test_f23_no_task_ends_unless_somebody_ends_it(valkey_url: str, namespace: str) -> None:
    async with dispatching(valkey_url, namespace, deliveries=100) as coordinator:
        await nobody_listens_then_somebody_does(coordinator)


async def nobody_listens_then_somebody_does(coordinator: Served) -> None:
    for n in range(10):
        await register(coordinator, f"deaf-{n}", endpoints={"http": "http://127.0.0.1:9"})
    ids = [await submit(coordinator, {"n": n}) for n in range(20)]

    async def were_tried() -> bool:
        return bool((await stats(coordinator))["tasks_distributed"] >= 20)

    await until(were_tried)
    meanwhile = [(await task(coordinator, one))["status"] for one in ids]
    for n in range(10):
        await coordinator.ok("DELETE", f"/agents/deaf-{n}")
    await coordinator.ok("POST", f"/tasks/{ids[0]}/cancel")
    async with crew(coordinator, real=completes({"ok": True})) as agents:
        await all_done(coordinator, 19)

    ended = [(await task(coordinator, one))["status"] for one in ids]
    assert "done" not in meanwhile
    assert ended == ["cancelled"] + ["done"] * 19
    assert sorted(set(agents["real"].tasks)) == sorted(ids[1:])
    assert (await task(coordinator, ids[1]))["result"] == {"ok": True}


async def test_f24_where_keys_are_needed_nobody_clears_a_queue_without_one(
    valkey_url: str, namespace: str
) -> None:
    async with serving(valkey_url, namespace=namespace) as plain:
        access = (await board_of(plain)).access
        worker = await access.create("worker", role="work", namespaces=[namespace])
        operator = await access.create("operator", role="operate", namespaces=[namespace])
        try:

            def guarded(app: Any) -> Any:
                async def keys() -> Any:
                    return access

                return secure(app, AccessSettings(require_keys=True), keys)

            async with serving(valkey_url, guarded, namespace=namespace) as served:

                async def asked(verb: str, path: str, **headers: str) -> int:
                    return (await served.call(verb, path, headers=headers)).status_code

                path = "/tasks/queues/normal/clear"
                nobody = await asked("POST", path)
                basic = await asked("POST", path, authorization="Basic YWRtaW46YWRtaW4xMjM=")
                login = await asked("POST", "/auth/login", **bearer(worker.secret))
                too_little = await asked("POST", path, **bearer(worker.secret))
                strategy = await asked(
                    "PUT", "/load-balancer/strategy?strategy=random", **bearer(worker.secret)
                )
                enough = await asked("POST", path, **bearer(operator.secret))
                health = await asked("GET", "/health")
            entries = (await access.audit()).entries
        finally:
            await access.revoke(worker.key.id)
            await access.revoke(operator.key.id)

    assert (nobody, basic) == (401, 401)
    assert login == 404, "there are no users, and no default passwords"
    assert (too_little, strategy) == (403, 403)
    assert (enough, health) == (200, 200)
    cleared = [entry for entry in entries if "clear" in entry.operation]
    assert cleared


def bearer(secret: str) -> dict[str, str]:
    return {"authorization": f"Bearer {secret}"}


async def test_f25_a_submission_costs_the_same_whatever_agents_there_are(
    valkey_url: str, namespace: str
) -> None:
    async with serving(valkey_url, namespace=namespace, sweeps=False) as served:
        await submissions_cost_the_same(served)


async def submissions_cost_the_same(served: Served) -> None:
    cb = await board_of(served)

    async def commands_of_ten() -> int:
        before = await commands(cb)
        for _ in range(10):
            await submit(served, requirements={"capabilities": ["nobody"]})
        return await commands(cb) - before

    await submit(served, requirements={"capabilities": ["nobody"]})
    for n in range(10):
        await register(served, f"a{n}")
    few = await commands_of_ten()
    for n in range(300):
        await register(served, f"b{n}")
    many = await commands_of_ten()

    await served.ok("PUT", "/boards/default", {"settings": {"limit": 25}})
    full = [
        (await served.call("POST", "/tasks/submit", {"task_data": {}})).status_code
        for _ in range(6)
    ]

    assert abs(many - few) <= 20, (few, many)
    assert full[-1] == 409, "a queue is bounded"


async def test_f25_what_nobody_serves_costs_a_dispatcher_nothing_whatever_agents_there_are(
    valkey_url: str, namespace: str
) -> None:
    async with (
        dispatching(valkey_url, namespace, poll=60.0) as served,
        crew(served, real=completes()) as agents,
    ):
        cb = await board_of(served)
        nobody = {"http": "http://127.0.0.1:9"}
        for first in range(0, 1_000, 100):
            names = [f"a{n}" for n in range(first, first + 100)]
            await asyncio.gather(
                *(cb.agents.register(name, endpoints=nobody, kinds=["x"]) for name in names)
            )
        await cb.agents.register("real", endpoints={"http": agents["real"].url}, kinds=["mine"])
        specs = [TaskSpec(kind=f"lane-{n}") for n in range(200)]
        await cb.tasks.submit_many(specs)

        async def pushes(count: int) -> int:
            """The rounds up to the push of a task that somebody serves."""
            await cb.tasks.submit("mine")
            await agents["real"].has(count)
            return int((await served.coordinator.served(namespace)).dispatcher.state().rounds)

        before = await pushes(1)
        for n in range(40):
            await cb.tasks.submit(f"lane-{n}")
        after = await pushes(2)

        deliveries = Deliveries(cb.namespace, "default", "test")
        costs = []
        for _ in range(5):
            began = await spent_us(cb)
            await deliveries.dispatch(
                strategy="least_connections",
                most=100,
                each_most=32,
                reserve_most=10,
                push_ms=10_000,
                take_up_ms=30_000,
                serve_ms=60_000,
                busy={},
            )
            costs.append(await spent_us(cb) - began)

    assert after - before <= 5, "a task that nobody serves rings nobody"
    assert min(costs) < 20_000, f"a round takes the engine {costs} us"


async def spent_us(cb: Callboard) -> int:
    """How long functions on the engine ran, in all."""
    found = (await cb.namespace.connection.call("INFO", "commandstats")).decode()
    lines = [line for line in found.splitlines() if line.startswith("cmdstat_fcall:")]
    return int(lines[0].partition("usec=")[2].partition(",")[0])


async def commands(cb: Callboard) -> int:
    """Commands that the engine did, those within functions too, but for what asks this."""
    found = (await cb.namespace.connection.call("INFO", "commandstats")).decode()
    return sum(
        int(line.partition("calls=")[2].partition(",")[0])
        for line in found.splitlines()
        if line.startswith("cmdstat_")
    )
