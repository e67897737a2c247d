"""The documented calls, pasted into a shell, against a coordinator in a process of its own."""

from __future__ import annotations

import json
import re
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import redis

from callboard.http.listening import ListenSettings
from tests.http.nodes import Node
from tests.http.test_documented_agents import MOMENT

pytestmark = pytest.mark.skipif(shutil.which("curl") is None, reason="curl is not installed")

ROOT = Path(__file__).parents[2]

REGISTER = """
curl -X POST http://localhost:9001/agents/register \\
  -H "Content-Type: application/json" \\
  -d '{
    "agent_id": "hermes-agent",
    "agent_type": "worker",
    "capabilities": ["data-processing", "analysis", "general"],
    "services": ["task-execution", "analysis"],
    "endpoints": {"http": "http://localhost:9002"},
    "metadata": {"version": "1.0.0"}
  }'
"""

SUBMIT = """
curl -X POST http://localhost:9001/tasks/submit \\
  -H "Content-Type: application/json" \\
  -d '{
    "task_data": {
      "model": "llama2",
      "prompt": "test prompt"
    },
    "priority": "normal",
    "requirements": {}
  }'
"""

STATUS = "curl http://localhost:9001/tasks/status"

DISCOVER = """
curl -X POST http://localhost:9001/agents/discover \\
  -H "Content-Type: application/json" \\
  -d '{
    "status": "active",
    "agent_type": "worker"
  }'
"""

HEALTH = "curl http://localhost:9001/health"


@pytest.fixture
def node(valkey_url: str) -> Iterator[Node]:
    """A coordinator in the default namespace of an engine that is emptied before and after."""
    client = client_of(valkey_url)
    client.flushdb()
    with Node("--url", f"{valkey_url}?db=1", dispatches=True) as started:
        yield started
    client.flushdb()
    client.close()


def client_of(url: str) -> redis.Redis:
    return redis.Redis(unix_socket_path=url.removeprefix("unix://"), db=1, decode_responses=True)


def paste(command: str, node: Node) -> Any:
    """What the shell prints, as JSON; only the port is another."""
    port = node.url.rpartition(":")[2]
    ran = subprocess.run(
        ["bash", "-c", command.replace("localhost:9001", f"127.0.0.1:{port}")],
        capture_output=True,
        text=True,
        timeout=30,
        check=True,
    )
    return json.loads(ran.stdout)


def test_the_five_documented_calls_answer_as_printed(node: Node, valkey_url: str) -> None:
    registered = paste(REGISTER, node)
    submitted = paste(SUBMIT, node)
    status = paste(STATUS, node)
    discovered = paste(DISCOVER, node)
    health = paste(HEALTH, node)

    assert MOMENT.fullmatch(registered.pop("registered_at"))
    assert registered == {
        "status": "success",
        "message": "Agent hermes-agent registered successfully",
        "agent_id": "hermes-agent",
    }
    assert re.fullmatch(r"[\w.-]+", submitted.pop("task_id"))
    assert MOMENT.fullmatch(submitted.pop("submitted_at"))
    assert submitted == {
        "status": "success",
        "message": "Task submitted successfully",
        "priority": "normal",
    }
    assert status["status"] == "success"
    assert status["stats"]["tasks_completed"] == status["stats"]["tasks_failed"] == 0
    assert status["stats"]["load_balancer_stats"]["strategy"] == "least_connections"
    assert status["stats"]["load_balancer_stats"]["active_agents"] == 1
    assert discovered["query"] == {"status": "active", "agent_type": "worker"}
    assert [agent["agent_id"] for agent in discovered["agents"]] == ["hermes-agent"]
    assert (health["status"], health["service"]) == ("healthy", "agent-coordinator")

    with client_of(valkey_url) as engine:
        assert engine.hgetall("agent:hermes-agent")["agent_id"] == "hermes-agent"
        assert engine.sismember("agents:active", "hermes-agent")
        assert engine.keys("agent:*") == ["agent:hermes-agent"]


def test_the_port_is_9001_unless_told_otherwise() -> None:
    listen = ListenSettings()

    assert (listen.host, listen.port) == ("127.0.0.1", 9001)


def test_an_agent_of_one_coordinator_is_found_and_given_work_by_another(
    node: Node, valkey_url: str
) -> None:
    with Node("--url", f"{valkey_url}?db=1", dispatches=True) as other:
        paste(REGISTER, node)

        found = paste(
            f"curl -s -X POST {other.url}/agents/discover "
            "-H 'Content-Type: application/json' -d '{}'",
            other,
        )
        submitted = paste(
            f"curl -s -X POST {other.url}/tasks/submit "
            "-H 'Content-Type: application/json' -d '{\"task_data\": {\"n\": 1}}'",
            other,
        )
        task = node.ok("GET", f"/tasks/{submitted['task_id']}")["task"]

    assert [agent["agent_id"] for agent in found["agents"]] == ["hermes-agent"]
    assert task["payload"] == {"n": 1}


def test_the_page_for_newcomers_can_be_pasted_from_top_to_bottom(node: Node) -> None:
    page = (ROOT / "docs" / "how-to" / "rest-quickstart.md").read_text("utf-8")
    blocks = re.findall(r"^```sh\n(.*?)^```", page, re.MULTILINE | re.DOTALL)
    commands = [
        command
        for block in blocks
        for command in re.split(r"\n(?=curl)", block.strip())
        if command.startswith("curl") and not command.endswith("/metrics")
    ]
    filled: dict[str, str] = {}
    answers = []

    for command in commands:
        for word, value in filled.items():
            command = command.replace(word, value)
        answer = paste(command, node)
        answers.append((command, answer))
        if "claims" in answer:
            filled["$FENCE"] = str(answer["claims"]["tasks"][0]["fence"])
        if "message_id" in answer:
            filled["$MESSAGE"] = answer["message_id"]

    assert len(answers) == 13
    assert [(command, answer) for command, answer in answers if answer["status"] != "success"] == []
    task = next(answer["task"] for command, answer in answers if command.endswith("report-7"))
    assert (task["status"], task["result"]) == ("done", {"text": "done"})
    assert answers[-1][1]["message_status"] == "read"
