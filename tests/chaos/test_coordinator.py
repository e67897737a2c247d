"""Coordinators under load whose engine goes away, or of which one is killed."""

from __future__ import annotations

import asyncio
import json
import threading
import time
from collections import Counter
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Self

import httpx2
import pytest

import callboard
from tests.chaos.board import check_each_was_done_once
from tests.chaos.coordinator_load import Load
from tests.engine.connection_support import Engine
from tests.http.nodes import Node
from tests.waiting import block_until

AWAY_SECONDS = 10.0
ANSWERED_SECONDS = 13.0
"""A call on an engine that does not answer is given up after 5 s, and a held claim makes two."""

pytestmark = pytest.mark.timeout(300)


@pytest.mark.parametrize("way", ["frozen", "killed"])
async def test_nothing_acknowledged_is_lost_while_the_engine_is_away_for_ten_seconds(
    engine: Engine, way: str
) -> None:
    with Node("--url", engine.url) as node:
        async with Load([node.url]) as load:
            await load.until(lambda: len(load.completed) > 300, "the load runs")
            (engine.freeze if way == "frozen" else engine.kill)()
            away_since = time.monotonic()
            await load.until(
                lambda: load.statuses()[503] > 50 and time.monotonic() - away_since > AWAY_SECONDS,
                "callers are told that the engine is away",
            )
            live = await ask(node, "/health")
            ready = await ask(node, "/ready")
            before = len(load.completed)
            if way == "frozen":
                engine.thaw()
            else:
                engine.start()
            await load.until(lambda: len(load.completed) > before + 300, "the load goes on")
            await load.finish()
        code = node.stop()

    assert live.status_code == 200
    assert (ready.status_code, ready.headers["retry-after"]) == (503, "1")
    assert set(load.statuses()) <= {503, 409}
    assert {after for status, _, after, _ in load.refusals if status == 503} == {"1"}
    assert max(took for _, _, _, took in load.refusals) < ANSWERED_SECONDS
    assert load.unreachable == 0
    assert code == 0
    async with callboard.connect(engine.url) as board:
        await check_each_was_done_once(board, sorted(load.acknowledged))


async def test_a_killed_node_takes_nothing_with_it_and_the_other_carries_on(
    engine: Engine, board: callboard.Callboard
) -> None:
    with Node("--url", engine.url) as doomed, Node("--url", engine.url) as other:
        async with Load([doomed.url, other.url]) as load:
            await load.until(lambda: len(load.completed) > 300, "the load runs")
            doomed.kill()
            before = len(load.completed)
            await load.until(lambda: len(load.completed) > before + 300, "the load goes on")
            await load.finish()
        system = other.ok("GET", "/system")["system"]

    assert load.unreachable > 0, "nobody noticed the killed node"
    assert set(load.statuses()) <= {409}
    assert system["requests"]["failures"] == 0
    await check_each_was_done_once(board, sorted(load.acknowledged))


async def test_nodes_that_come_and_go_one_by_one_are_not_noticed(
    engine: Engine, board: callboard.Callboard
) -> None:
    with Node("--url", engine.url) as first, Node("--url", engine.url) as second:
        async with Load([first.url, second.url], submitters=10, agents=10) as load:
            await load.until(lambda: len(load.completed) > 100, "the load runs")
            code = await asyncio.to_thread(first.stop)
            before = len(load.completed)
            await load.until(lambda: len(load.completed) > before + 100, "the second carries on")
            with Node("--url", engine.url, port=int(first.url.rpartition(":")[2])):
                second_code = await asyncio.to_thread(second.stop)
                before = len(load.completed)
                await load.until(lambda: len(load.completed) > before + 100, "the third does")
                await load.finish()

    assert (code, second_code) == (0, 0)
    # Claims that are held are told to ask elsewhere; all else is answered.
    assert load.statuses().keys() <= {409, 503}
    assert {path for status, path in load.refused if status == 503} <= {"/tasks/claim"}
    await check_each_was_done_once(board, sorted(load.acknowledged))


def test_what_one_node_is_told_the_other_knows_at_once(engine: Engine) -> None:
    with Node("--url", engine.url) as a, Node("--url", engine.url) as b:
        a.ok(
            "POST",
            "/agents/register",
            {
                "agent_id": "hermes-agent",
                "agent_type": "worker",
                "capabilities": ["code"],
                "endpoints": {"http": "http://127.0.0.1:9"},
            },
        )
        found = b.ok("POST", "/agents/discover", {"capabilities": ["code"]})
        b.ok("PUT", "/agents/hermes-agent/status", {"status": "maintenance"})
        seen = a.ok("GET", "/agents/hermes-agent")

    assert [agent["agent_id"] for agent in found["agents"]] == ["hermes-agent"]
    assert seen["agent"]["status"] == "maintenance"


def test_what_is_submitted_on_one_node_is_brought_to_the_agent_of_another(
    engine: Engine,
) -> None:
    with (
        Called() as called,
        Node("--url", engine.url, dispatches=True) as a,
        Node("--url", engine.url) as b,
    ):
        a.ok("POST", "/agents/register", called.registration("hermes-agent"))
        answer = b.ok("POST", "/tasks/submit", {"task_data": {"task_type": "greet", "n": 1}})
        task = b.ok("GET", f"/tasks/{answer['task_id']}/wait?timeout=60")["task"]

    assert task["status"] == "done"
    assert task["result"] == {"n": 1}
    assert called.done == {answer["task_id"]: 1}


def test_a_node_killed_while_it_hands_out_loses_nothing(engine: Engine) -> None:
    with (
        Called() as called,
        Node("--url", engine.url, dispatches=True) as doomed,
        Node("--url", engine.url, dispatches=True) as other,
    ):
        for number in range(4):
            other.ok("POST", "/agents/register", called.registration(f"agent-{number}"))
        specs = [
            {"id": f"t-{number}", "kind": "greet", "payload": {"n": number}}
            for number in range(400)
        ]
        other.ok("POST", "/tasks/batch", {"specs": specs})
        block_until(lambda: len(called.done) > 50, "tasks come")
        doomed.kill()
        block_until(lambda: done_on(other) == len(specs), "all are done")
        counts = other.ok("GET", "/boards/default")["board"]["counts"]

    assert set(called.done) == {spec["id"] for spec in specs}
    assert (counts["done"], counts["dead_letters"]) == (len(specs), 0)


def done_on(node: Node) -> int:
    done: int = node.ok("GET", "/boards/default")["board"]["counts"]["done"]
    return done


class Called:
    """An agent that is called: it answers each task at once with what it was given.

    Attributes:
        done: How often each task came.
    """

    def __init__(self) -> None:
        self.done: Counter[str] = Counter()
        outer = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def do_POST(self) -> None:
                size = int(self.headers["content-length"])
                task = json.loads(self.rfile.read(size))["payload"]
                outer.done[task["task_id"]] += 1
                result = {"n": task["task_data"]["n"]}
                body = json.dumps({"status": "completed", "result": result}).encode()
                self.send_response(200)
                self.send_header("content-type", "application/json")
                self.send_header("content-length", str(len(body)))
                self.end_headers()
                self.wfile.write(body)

            def log_message(self, *_: object) -> None:
                pass

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self._server.daemon_threads = True
        # A node that is killed resets its connections.
        self._server.handle_error = lambda *_: None  # type: ignore[method-assign]
        self._thread = threading.Thread(target=self._server.serve_forever)

    def registration(self, name: str) -> dict[str, object]:
        url = f"http://127.0.0.1:{self._server.server_port}"
        return {"agent_id": name, "agent_type": "worker", "endpoints": {"http": url}}

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._server.shutdown()
        self._server.server_close()
        self._thread.join()


def test_a_stopped_node_leaves_the_embedded_engine_to_the_others(
    tmp_path_factory: pytest.TempPathFactory,
) -> None:
    folder = tmp_path_factory.mktemp("cb")
    with Node("--data", str(folder / "data")) as first, Node("--data", str(folder / "data")) as two:
        first.ok("POST", "/tasks", {"id": "t-1", "kind": "greet"})
        first.kill()
        found = two.ok("GET", "/tasks/t-1")
        assert two.stop() == 0
        with Node("--data", str(folder / "data")) as third:
            again = third.ok("GET", "/tasks/t-1")

    assert found["task"]["id"] == again["task"]["id"] == "t-1"


async def ask(node: Node, path: str) -> httpx2.Response:
    async with httpx2.AsyncClient(base_url=node.url, timeout=30) as client:
        return await client.get(path)
