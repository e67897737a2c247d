"""Agents that know only HTTP: a shell with curl, Node, a server of Python's own library."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from tests.http.nodes import Node, engine_of
from tests.waiting import block_until

FOLDER = Path(__file__).parents[2] / "examples" / "agents"

pytestmark = pytest.mark.timeout(180)


@pytest.fixture
def node(valkey_url: str, namespace: str) -> Iterator[Node]:
    with Node(*engine_of(valkey_url, namespace), dispatches=True) as node:
        yield node


@contextmanager
def agent(node: Node, *command: str, **env: str) -> Iterator[subprocess.Popen[str]]:
    """A running agent, which says in its first line that it is there."""
    process = subprocess.Popen(
        command,
        cwd=FOLDER,
        env={**os.environ, "CALLBOARD_COORDINATOR": node.url, **env},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
    )
    try:
        assert process.stdout is not None
        first = process.stdout.readline()
        assert first.startswith("Agent "), process.communicate()
        yield process
    finally:
        if process.poll() is None:
            os.killpg(process.pid, signal.SIGKILL)
        process.communicate()


def left(process: subprocess.Popen[str]) -> str:
    """Tell an agent to go; what it had said by then."""
    process.send_signal(signal.SIGTERM)
    out, err = process.communicate(timeout=60)
    assert process.returncode == 0, (out, err)
    return out


def submit(node: Node, kind: str, payload: Any, **fields: Any) -> str:
    body = {"kind": kind, "payload": payload, **fields}
    task: str = node.ok("POST", "/tasks", body)["task"]["id"]
    return task


def ended(node: Node, task: str) -> dict[str, Any]:
    """The task, once it has ended."""
    found: dict[str, Any] = node.ok("GET", f"/tasks/{task}/wait?timeout=60")["task"]
    return found


def state_of(node: Node, name: str) -> str:
    found: str = node.ok("GET", f"/agents/{name}/state")["agent"]["state"]
    return found


needs_curl = pytest.mark.skipif(shutil.which("curl") is None, reason="curl is not installed")
needs_node = pytest.mark.skipif(shutil.which("node") is None, reason="node is not installed")


@needs_curl
def test_a_shell_with_curl_claims_completes_and_leaves(node: Node) -> None:
    said = 'It said "no", and\twent \\ away.'
    with agent(node, "sh", "curl-agent.sh", "cat", AGENT="curly", KINDS="echo shout") as process:
        results = [ended(node, submit(node, "echo", text)) for text in ("hello", said)]
        code = left(process)

    assert [task["status"] for task in results] == ["done", "done"]
    assert [task["result"] for task in results] == [
        '"hello"',
        '"It said \\"no\\", and\\twent \\\\ away."',
    ]
    assert "Agent curly has left." in code


@needs_curl
def test_a_payload_that_looks_like_a_task_is_taken_as_it_is(node: Node) -> None:
    payload = {
        "tasks": [{"id": "t_99", "fence": 7, "payload": {"deep": 1}, "agent": "eve"}],
        "fence": 12,
    }
    with agent(node, "sh", "curl-agent.sh", "cat", AGENT="curly", KINDS="echo") as process:
        results = [ended(node, submit(node, "echo", one))["result"] for one in (payload, "next")]
        left(process)

    assert json.loads(results[0]) == payload
    assert results[1] == '"next"'


@needs_curl
def test_a_command_that_fails_is_a_failed_attempt_with_its_words(node: Node) -> None:
    command = ["sh", "-c", 'echo "the disk is full" >&2; exit 3']
    with agent(node, "sh", "curl-agent.sh", *command, AGENT="curly", KINDS="echo") as process:
        task = ended(node, submit(node, "echo", 1, retry={"max_attempts": 1}))
        left(process)

    assert task["status"] == "failed"
    assert "the disk is full" in str(task["error"])


@needs_curl
def test_a_shell_finishes_what_it_has_in_hand_and_keeps_its_lease(
    node: Node, tmp_path: Path
) -> None:
    begun, go = tmp_path / "begun", tmp_path / "go"
    command = f"touch {begun}; while [ ! -e {go} ]; do sleep 0.1; done; echo done"
    with agent(
        node, "sh", "curl-agent.sh", "sh", "-c", command, AGENT="curly", KINDS="slow", LEASE="2"
    ) as process:
        task = submit(node, "slow", None)
        block_until(begun.exists, "the command runs")
        first = node.ok("GET", f"/tasks/{task}")["task"]["until"]
        block_until(lambda: node.ok("GET", f"/tasks/{task}")["task"]["until"] > first, "renewed")
        process.send_signal(signal.SIGTERM)
        go.touch()
        out, _ = process.communicate(timeout=60)

    assert node.ok("GET", f"/tasks/{task}")["task"]["result"] == "done"
    assert f"{task}: done" in out
    assert "has left" in out


@needs_curl
def test_a_killed_coordinator_is_waited_for_by_the_shell(valkey_url: str, namespace: str) -> None:
    with Node(*engine_of(valkey_url, namespace)) as first:
        port = int(first.url.rpartition(":")[2])
        with agent(first, "sh", "curl-agent.sh", "cat", AGENT="curly", KINDS="echo") as process:
            first.kill()
            with Node(*engine_of(valkey_url, namespace), port=port) as second:
                task = ended(second, submit(second, "echo", "still here"))
                left(process)

    assert task["result"] == '"still here"'


@needs_node
def test_node_reads_its_tasks_as_a_stream_and_fails_what_it_cannot_do(node: Node) -> None:
    with agent(node, "node", "agent.mjs", AGENT="nora") as process:
        tasks = [submit(node, "shout", {"text": f"hello {n}"}) for n in range(20)]
        shouted = [ended(node, task)["result"] for task in tasks]
        hopeless = submit(node, "divide", {"a": 1, "b": 0}, retry={"max_attempts": 1})
        failed = ended(node, hopeless)
        out = left(process)

    assert shouted == [f"HELLO {n}!" for n in range(20)]
    assert failed["status"] == "failed"
    assert "cannot be divided by zero" in str(failed["error"])
    assert "Agent nora has left." in out


@needs_node
def test_node_comes_back_where_the_coordinator_was_killed(valkey_url: str, namespace: str) -> None:
    with Node(*engine_of(valkey_url, namespace)) as first:
        port = int(first.url.rpartition(":")[2])
        with agent(first, "node", "agent.mjs", AGENT="nora") as process:
            first.kill()
            with Node(*engine_of(valkey_url, namespace), port=port) as second:
                task = ended(second, submit(second, "shout", {"text": "still here"}))
                left(process)

    assert task["result"] == "STILL HERE!"


def test_a_server_is_handed_tasks_and_answers_at_once_or_later(node: Node) -> None:
    long = "rose " * 500
    with agent(node, sys.executable, "push_agent.py", AGENT="pia") as process:
        ids = []
        for text in ("a rose is a rose", long):
            answer = node.ok(
                "POST",
                "/tasks/submit",
                {
                    "task_data": {"task_type": "words", "text": text},
                    "requirements": {"capabilities": ["words"]},
                },
            )
            ids.append(answer["task_id"])
        quick, slow = (ended(node, task) for task in ids)
        out = left(process)

    assert quick["result"] == {"a": 2, "rose": 2, "is": 1}
    assert slow["result"] == {"rose": 500}
    assert "Agent pia has left." in out


def test_a_server_fails_what_it_cannot_read_and_is_not_handed_other_work(node: Node) -> None:
    with agent(node, sys.executable, "push_agent.py", AGENT="pia") as process:
        other = submit(node, "shout", {"text": "hello"})
        tasks = [
            submit(node, "words", payload, retry={"max_attempts": 1})
            for payload in (["no", "object"], {"text": None, "long": "x" * 2000}, {})
        ]
        endings = [ended(node, task) for task in tasks]
        after = ended(node, submit(node, "words", {"text": "still here"}))
        untouched = node.ok("GET", f"/tasks/{other}")["task"]
        out = left(process)

    assert [task["status"] for task in endings] == ["failed", "failed", "failed"]
    assert "has no text" in str(endings[0]["error"])
    assert after["result"] == {"still": 1, "here": 1}
    assert (untouched["status"], untouched["attempt"]) == ("pending", 0)
    assert "Agent pia has left." in out
