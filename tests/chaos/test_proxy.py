"""nginx before two coordinators, as deploy/nginx.conf has it: streams, sockets, nodes that stop."""

from __future__ import annotations

import asyncio
import os
import re
import shutil
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import httpx2
import pytest
from websockets.asyncio.client import connect

from tests.engine.connection_support import free_port
from tests.http.nodes import PROGRAM, Node, engine_of
from tests.waiting import block_until

CONFIGURATION = Path(__file__).resolve().parents[2] / "deploy" / "nginx.conf"

pytestmark = [
    pytest.mark.timeout(180),
    pytest.mark.skipif(shutil.which("nginx") is None, reason="nginx is not installed"),
]


@contextmanager
def proxy(folder: Path, a: Node, b: Node) -> Iterator[str]:
    """nginx with the project's own configuration, but for ports; its address."""
    port = free_port()
    text = CONFIGURATION.read_text()
    for name, node in (("a", a), ("b", b)):
        text = text.replace(f"server {name}:9001", f"server {node.url.partition('//')[2]}")
    text = re.sub(r"listen 80;", f"listen 127.0.0.1:{port};", text)
    paths = "".join(
        f"{kind}_temp_path {folder}/{kind};\n"
        for kind in ("client_body", "proxy", "fastcgi", "uwsgi", "scgi")
    )
    whole = folder / "nginx.conf"
    whole.write_text(
        f"daemon off;\nmaster_process off;\npid {folder}/pid;\nerror_log {folder}/error.log;\n"
        f"events {{}}\nhttp {{\naccess_log off;\n{paths}{text}}}\n"
    )
    process = subprocess.Popen(
        ["nginx", "-p", str(folder), "-c", str(whole)], stderr=subprocess.DEVNULL
    )
    url = f"http://127.0.0.1:{port}"
    try:
        block_until(lambda: answers(url) or process.poll() is not None, "nginx listens")
        assert process.poll() is None, (folder / "error.log").read_text()
        yield url
    finally:
        process.terminate()
        process.wait(30)


def answers(url: str) -> bool:
    try:
        return httpx2.get(url + "/health", timeout=5).status_code == 200
    except httpx2.TransportError:
        return False


@pytest.fixture
def secret(valkey_url: str) -> str:
    """An API key: what comes by a proxy is not from this machine."""

    async def make() -> str:
        import callboard

        async with callboard.connect(valkey_url, adopt=True) as cb:
            return (await cb.access.create("by-proxy", role="operate")).secret

    return asyncio.run(make())


@pytest.fixture
def nodes(valkey_url: str, namespace: str) -> Iterator[tuple[Node, Node]]:
    where = engine_of(valkey_url, namespace)
    with Node(*where) as a, Node(*where) as b:
        yield a, b


def test_who_shows_no_key_is_not_taken_for_one_on_this_machine(
    nodes: tuple[Node, Node], tmp_path: Path
) -> None:
    with proxy(tmp_path, *nodes) as url:
        answer = httpx2.get(url + "/tasks", timeout=20)

    assert answer.status_code == 401


def test_events_come_through_as_they_happen(
    nodes: tuple[Node, Node], tmp_path: Path, secret: str
) -> None:
    headers = {"authorization": f"Bearer {secret}"}
    with proxy(tmp_path, *nodes) as url, httpx2.Client(headers=headers, timeout=20) as client:
        with client.stream("GET", url + "/events?types=task:*") as stream:
            lines = stream.iter_lines()
            next(lines)
            task = client.post(url + "/tasks", json={"kind": "greet"}).json()["task"]["id"]
            told = next(line for line in lines if line.startswith("data:") and task in line)
        doctor = subprocess.run(
            [*PROGRAM, "--json", "doctor", "--url", url],
            env={**os.environ, "CALLBOARD_API_KEY": secret},
            capture_output=True,
            text=True,
            timeout=60,
            check=False,
        )

    assert "task:" in told
    assert doctor.returncode == 0, doctor.stdout
    assert "the stream of events begins" in doctor.stdout


async def test_a_websocket_comes_through(
    nodes: tuple[Node, Node], tmp_path: Path, secret: str
) -> None:
    headers = {"authorization": f"Bearer {secret}"}
    with proxy(tmp_path, *nodes) as url:
        address = url.replace("http", "ws", 1) + "/ws"
        async with connect(address, additional_headers=headers, open_timeout=20) as socket:
            await (await socket.ping())
            was_open = socket.state.name

    assert was_open == "OPEN"


def test_a_node_that_stops_is_left_out_and_no_caller_notices(
    nodes: tuple[Node, Node], tmp_path: Path, secret: str
) -> None:
    headers = {"authorization": f"Bearer {secret}"}
    with proxy(tmp_path, *nodes) as url, httpx2.Client(headers=headers, timeout=20) as client:
        before = [client.get(url + "/tasks").status_code for _ in range(20)]
        assert nodes[0].stop() == 0
        after = [
            client.post(url + "/tasks", json={"id": f"t-{number}", "kind": "greet"}).status_code
            for number in range(50)
        ]

    assert set(before) == {200}
    assert set(after) == {200}
