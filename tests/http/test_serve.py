"""``callboard serve`` as a process: its start, its addresses, its end."""

from __future__ import annotations

import asyncio
import json
import os
import re
import signal
import socket
import ssl
import struct
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx2
import pytest

from tests.dispatch.agents import completes, hangs, running
from tests.engine.connection_support import Engine, free_port
from tests.http.nodes import PROGRAM, Node, engine_of, refused
from tests.waiting import block_until, until

pytestmark = pytest.mark.timeout(180)


@pytest.fixture
def certificate(tmp_path: Path) -> tuple[Path, Path]:
    """A certificate for localhost that it signed itself, and its key."""
    return make_certificate(tmp_path, "node")


@pytest.fixture
def tcp_engine() -> Iterator[int]:
    """The port of an engine that listens on one."""
    with Engine(port=free_port()) as engine:
        yield engine.port


def make_certificate(folder: Path, name: str) -> tuple[Path, Path]:
    cert, key = folder / f"{name}.pem", folder / f"{name}.key"
    command = ["openssl", "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-days", "2"]
    command += ["-subj", "/CN=localhost", "-addext", "subjectAltName=IP:127.0.0.1"]
    command += ["-keyout", str(key), "-out", str(cert)]
    subprocess.run(command, check=True, capture_output=True)
    return cert, key


# Refusals


def test_a_port_in_use_is_refused_with_its_holder_and_what_to_do(
    valkey_url: str, namespace: str
) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]

        ran = refused(*engine_of(valkey_url, namespace), "--port", str(port), "--no-dispatch")

    assert ran.returncode == 2
    assert f"Port {port} on 127.0.0.1 is in use by process {os.getpid()}" in ran.stderr
    assert "--port N" in ran.stderr
    assert "Traceback" not in ran.stderr


@pytest.mark.parametrize(
    ("arguments", "code", "said"),
    [
        (["--host", "192.0.2.7"], 2, "192.0.2.7 is no address of this machine"),
        (["--host", "no such host"], 2, "no name that can be found"),
        (["--port", "70000"], 2, "from 1 to 65535"),
        (["--tls-cert", "/nowhere/cert.pem"], 2, "/nowhere/cert.pem is not there"),
        (["--tls-key", "/nowhere/key.pem"], 2, "Give --tls-cert too"),
        (["--strategy", "best_of_all"], 2, "best_of_all"),
        (["--log-format", "xml"], 2, "must be text or json"),
        (["--drain", "soon"], 2, "drain is 'soon'"),
        (["--cors-origin", "*"], 2, "is no origin"),
        (["--proxy", "zzz"], 2, "'zzz' is no address and no network"),
        (["--proxy", "10.0.0.1/8"], 2, "'10.0.0.1/8' is no address and no network"),
        (["--burst", "5"], 2, "burst says nothing without rate"),
        (["--workers", "0"], 2, "from 1 to 64"),
        (["--workers", "2", "--uds", "/tmp/cb.sock"], 2, "not a unix socket"),
    ],
    ids=lambda value: value[0] if isinstance(value, list) else None,
)
def test_what_cannot_be_used_is_said_in_a_line(
    valkey_url: str, namespace: str, arguments: list[str], code: int, said: str
) -> None:
    where = engine_of(valkey_url, namespace)

    ran = refused(*where, "--port", "0", "--no-dispatch", *arguments)

    assert ran.returncode == code
    assert said in ran.stderr
    assert "Traceback" not in ran.stderr
    assert len(ran.stderr.strip().splitlines()) == 1


def test_an_engine_that_is_not_there_is_exit_code_3_and_its_password_is_not_shown() -> None:
    ran = refused("--url", "redis://:s3cret@127.0.0.1:1/0", "--port", "0")

    assert ran.returncode == 3
    assert "127.0.0.1:1" in ran.stderr
    assert "s3cret" not in ran.stderr


def test_a_key_of_another_certificate_is_refused(tmp_path: Path, valkey_url: str) -> None:
    cert, _ = make_certificate(tmp_path, "one")
    _, key = make_certificate(tmp_path, "other")

    ran = refused("--url", valkey_url, "--tls-cert", str(cert), "--tls-key", str(key))

    assert ran.returncode == 2
    assert "KEY_VALUES_MISMATCH" in ran.stderr


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["--host", "0.0.0.0"], "there is no API key to ask for"),
        (["--host", "::"], "there is no API key to ask for"),
        (["--require-keys"], "callboard keys create NAME"),
    ],
    ids=["all-of-ipv4", "all-of-ipv6", "required"],
)
def test_beyond_this_machine_it_needs_a_key_that_somebody_has(
    tcp_engine: int, arguments: list[str], said: str
) -> None:
    ran = refused("--url", f"redis://127.0.0.1:{tcp_engine}/0", "--port", "0", *arguments)

    assert ran.returncode == 2
    assert said in ran.stderr
    assert "Traceback" not in ran.stderr


# The start


def test_in_a_folder_of_a_project_it_just_works_and_commands_meet_it(tmp_path: Path) -> None:
    with Node(cwd=tmp_path) as node:
        node.ok("POST", "/tasks", {"kind": "greet", "payload": {"name": "Ada"}})
        listed = subprocess.run(
            [*PROGRAM, "--json", "tasks", "list"], cwd=tmp_path, capture_output=True, check=True
        )
        code = node.stop()

    assert [task["kind"] for task in json.loads(listed.stdout)["tasks"]] == ["greet"]
    assert str(tmp_path / ".callboard") in node.started["engine"]
    assert code == 0
    state = subprocess.run(
        [*PROGRAM, "--json", "engine", "status"], cwd=tmp_path, capture_output=True, check=False
    )
    assert json.loads(state.stdout)["state"] != "ready"


def test_people_are_told_where_it_is_on_which_engine_and_where_its_docs_are(
    valkey_url: str, namespace: str
) -> None:
    process = subprocess.Popen(
        [*PROGRAM, "serve", *engine_of(valkey_url, namespace), "--port", "0", "--no-dispatch"],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    assert process.stdout is not None
    lines = []
    for line in process.stdout:
        lines.append(line)
        if line.startswith("Ctrl-C"):
            break
    process.terminate()
    rest = process.communicate(timeout=60)
    said = "".join(lines)

    assert re.search(r"serves http://127\.0\.0\.1:\d+\n", said)
    assert "valkey" in said
    assert namespace in said
    assert re.search(r"http://127\.0\.0\.1:\d+/docs", said)
    assert "has stopped" in rest[1]
    assert process.returncode == 0


@pytest.mark.parametrize("way", ["REDIS_URL", "REDIS_HOST", "CALLBOARD_URL"])
def test_the_engine_is_taken_from_the_environment(
    way: str, namespace: str, tmp_path: Path, tcp_engine: int
) -> None:
    env = {
        "REDIS_URL": {"REDIS_URL": f"redis://127.0.0.1:{tcp_engine}/0"},
        "REDIS_HOST": {"REDIS_HOST": "127.0.0.1", "REDIS_PORT": str(tcp_engine)},
        "CALLBOARD_URL": {
            "CALLBOARD_URL": f"redis://127.0.0.1:{tcp_engine}/0",
            "REDIS_URL": "redis://127.0.0.1:1/0",
        },
    }[way]

    with Node(cwd=tmp_path, env={**env, "CALLBOARD_NAMESPACE": namespace}) as node:
        system = node.ok("GET", "/system")["system"]

    assert way in node.started["engine"]
    assert system["engine"]["is_connected"]
    assert [one["name"] for one in system["namespaces"]] == [namespace]
    assert not (tmp_path / ".callboard").exists()


@pytest.mark.every_engine
def test_its_own_settings_are_taken_from_the_environment(engine_url: str, namespace: str) -> None:
    env = {"CALLBOARD_LOG_FORMAT": "json", "CALLBOARD_ACCESS_LOG": "1", "CALLBOARD_HOST": "::1"}
    with Node(*engine_of(engine_url, namespace), env=env) as node:
        node.ok("GET", "/tasks?kind=secret-word")
        node.stop()
        lines = [json.loads(line) for line in node.errors]

    assert node.url.startswith("http://[::1]:")
    (request,) = [line for line in lines if line["logger"] == "callboard.http.access"]
    assert request["method"] == "GET"
    assert request["route"] == "/tasks"
    assert request["status"] == 200
    assert request["ms"] >= 0
    assert "secret-word" not in node.log


def healthy(**settings: str) -> bool:
    """What the health check of the container says under these settings."""
    check = Path(__file__).parents[2] / "deploy" / "health.py"
    env = {name: value for name, value in os.environ.items() if not name.startswith("CALLBOARD_")}
    ran = subprocess.run([sys.executable, str(check)], env={**env, **settings}, capture_output=True)
    return ran.returncode == 0


def test_a_unix_socket_is_of_owner_and_group_and_goes_with_the_process(
    valkey_url: str, namespace: str, tmp_path: Path
) -> None:
    path = tmp_path / "callboard.sock"
    stale = socket.socket(socket.AF_UNIX)
    stale.bind(str(path))
    stale.close()

    with Node(*engine_of(valkey_url, namespace), "--uds", str(path)) as node:
        mode = path.stat().st_mode & 0o777
        with httpx2.Client(transport=httpx2.HTTPTransport(uds=str(path))) as client:
            answer = client.get("http://callboard/ready")
        lives = healthy(CALLBOARD_UDS=str(path))
        second = refused(*engine_of(valkey_url, namespace), "--uds", str(path))
        assert node.stop() == 0

    assert mode == 0o660
    assert answer.status_code == 200
    assert lives
    assert not healthy(CALLBOARD_UDS=str(path))
    assert second.returncode == 2
    assert "somebody listens on it already" in second.stderr
    assert not path.exists()


def test_with_a_certificate_callers_use_https_and_a_hangup_brings_the_new_one(
    valkey_url: str, namespace: str, tmp_path: Path, certificate: tuple[Path, Path]
) -> None:
    cert, key = certificate
    arguments = ["--tls-cert", str(cert), "--tls-key", str(key)]

    with Node(*engine_of(valkey_url, namespace), *arguments) as node:
        first = served_certificate(node)
        trusting = ssl.create_default_context(cafile=str(cert))
        with httpx2.Client(verify=trusting) as client:
            answer = client.get(node.url + "/ready")
        port = node.url.rpartition(":")[2]
        lives = healthy(CALLBOARD_TLS_CERT=str(cert), CALLBOARD_PORT=port)
        new_cert, new_key = make_certificate(tmp_path, "new")
        new_key.replace(key)
        new_cert.replace(cert)
        node.signal(signal.SIGHUP)
        block_until(lambda: served_certificate(node) != first, "the new certificate")

    assert node.url.startswith("https://")
    assert answer.status_code == 200
    assert lives


def served_certificate(node: Node) -> str:
    return ssl.get_server_certificate(("127.0.0.1", int(node.url.rpartition(":")[2])))


def test_callers_without_the_authoritys_certificate_are_turned_away(
    valkey_url: str, namespace: str, certificate: tuple[Path, Path]
) -> None:
    cert, key = certificate
    tls = ["--tls-cert", str(cert), "--tls-key", str(key), "--tls-client-ca", str(cert)]

    with Node(*engine_of(valkey_url, namespace), *tls) as node:
        trusting = ssl.create_default_context(cafile=str(cert))
        with httpx2.Client(verify=trusting) as client, pytest.raises(httpx2.TransportError):
            client.get(node.url + "/ready")
        trusting.load_cert_chain(cert, key)
        with httpx2.Client(verify=trusting) as client:
            answer = client.get(node.url + "/ready")

    assert answer.status_code == 200


def test_on_a_cluster_it_serves_named_namespaces_and_refuses_the_default_one() -> None:
    port = free_port()
    with Engine("--cluster-enabled", "yes", port=port) as engine:
        engine.admin.execute_command("CLUSTER", "ADDSLOTSRANGE", 0, 16_383)
        block_until(
            lambda: (
                "cluster_state:ok" in str(engine.admin.execute_command("CLUSTER INFO"))
                or "'cluster_state': 'ok'" in str(engine.admin.execute_command("CLUSTER INFO"))
            ),
            "the cluster is up",
        )
        url = f"redis+cluster://127.0.0.1:{port}"
        ran = refused("--url", url, "--port", "0")
        with Node("--url", url, "--namespace", "team-a") as node:
            node.ok("POST", "/tasks", {"id": "t-1", "kind": "greet"})
            other = {"x-callboard-namespace": "team-b"}
            elsewhere = node.ok("GET", "/tasks", headers=other)["page"]["tasks"]
            node.ok("POST", "/keys", {"name": "ops", "role": "read"})
            engine_state = node.ok("GET", "/system")["system"]["engine"]

    assert ran.returncode == 3
    assert "--namespace team" in ran.stderr
    assert elsewhere == []
    assert engine_state["is_cluster"]


# The end


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT], ids=lambda number: number.name)
def test_a_request_under_way_is_answered_before_the_end(
    valkey_url: str, namespace: str, number: signal.Signals
) -> None:
    body = json.dumps({"kind": "greet"}).encode()
    head = b"POST /tasks HTTP/1.1\r\nhost: 127.0.0.1\r\ncontent-type: application/json\r\n"
    head += b"content-length: %d\r\n\r\n" % len(body)

    with Node(*engine_of(valkey_url, namespace)) as node:
        port = int(node.url.rpartition(":")[2])
        with socket.create_connection(("127.0.0.1", port), timeout=30) as caller:
            caller.sendall(head + body[:5])
            block_until(
                lambda: node.ok("GET", "/system")["system"]["requests"]["in_flight"] == 2, "it"
            )
            node.client.close()
            node.signal(number)
            block_until(lambda: "Stopping" in node.log, "the log to say that it stops")
            caller.sendall(body[5:])
            answer = caller.makefile("rb").read()
        code = node.wait()

    assert answer.startswith(b"HTTP/1.1 200")
    assert b'"status":"success"' in answer
    assert code == 0


def test_a_request_whose_rest_never_comes_is_told_to_ask_elsewhere(
    valkey_url: str, namespace: str
) -> None:
    with Node(*engine_of(valkey_url, namespace), "--drain", "100s") as node:
        port = int(node.url.rpartition(":")[2])
        with socket.create_connection(("127.0.0.1", port), timeout=30) as caller:
            caller.sendall(
                b"POST /tasks HTTP/1.1\r\nhost: 127.0.0.1\r\ncontent-length: 100\r\n\r\n{"
            )
            block_until(
                lambda: node.ok("GET", "/system")["system"]["requests"]["in_flight"] == 2, "it"
            )
            node.signal(signal.SIGTERM)
            answer = caller.makefile("rb").read()
        code = node.wait()

    head, _, body = answer.partition(b"\r\n\r\n")
    assert head.startswith(b"HTTP/1.1 503")
    assert b"retry-after: 1" in head
    assert json.loads(body)["code"] == "stopping"
    assert code == 0
    assert "Traceback" not in node.log


def test_while_it_lingers_it_says_that_it_is_not_ready_and_still_serves(
    valkey_url: str, namespace: str
) -> None:
    with Node(*engine_of(valkey_url, namespace), "--linger", "30s") as node:
        node.signal(signal.SIGTERM)
        block_until(lambda: node.client.get("/ready").status_code == 503, "it is not ready")
        refusal = node.client.get("/ready")
        node.ok("POST", "/tasks", {"kind": "greet"})
        node.signal(signal.SIGTERM)
        code = node.wait()

    assert refusal.json()["code"] == "stopping"
    assert refusal.headers["retry-after"] == "1"
    assert code in (0, 143)


def test_streams_end_at_the_stop_and_do_not_keep_it(valkey_url: str, namespace: str) -> None:
    with Node(*engine_of(valkey_url, namespace), "--drain", "30s") as node:
        ended = threading.Event()

        def listen() -> None:
            with httpx2.stream("GET", node.url + "/events", timeout=60) as answer:
                for _ in answer.iter_bytes():
                    pass
            ended.set()

        reader = threading.Thread(target=listen)
        reader.start()
        block_until(lambda: node.ok("GET", "/system")["system"]["namespaces"][0]["listeners"], "it")
        node.signal(signal.SIGTERM)
        code = node.wait()
        reader.join(30)

    assert code == 0
    assert ended.is_set()
    assert "Cancel" not in node.log


def test_a_second_signal_ends_it_though_a_request_never_does(
    valkey_url: str, namespace: str
) -> None:
    with Node(*engine_of(valkey_url, namespace), "--drain", "1h") as node:
        port = int(node.url.rpartition(":")[2])
        with socket.create_connection(("127.0.0.1", port), timeout=30) as caller:
            caller.sendall(
                b"POST /tasks HTTP/1.1\r\nhost: 127.0.0.1\r\ncontent-length: 100\r\n\r\n{"
            )
            block_until(
                lambda: node.ok("GET", "/system")["system"]["requests"]["in_flight"] == 2, "it"
            )
            node.signal(signal.SIGTERM)
            block_until(lambda: "Stopping" in node.log, "the log to say that it stops")
            node.signal(signal.SIGTERM)
            code = node.wait()

    assert code in (0, 128 + signal.SIGTERM)


# The service manager


def test_the_service_manager_is_told_of_ready_alive_and_stopping(
    valkey_url: str, namespace: str, tmp_path: Path
) -> None:
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as manager:
        manager.bind(str(tmp_path / "notify"))
        manager.settimeout(60)
        env = {"NOTIFY_SOCKET": str(tmp_path / "notify"), "WATCHDOG_USEC": "200000"}
        with Node(*engine_of(valkey_url, namespace), env=env) as node:
            told = [manager.recv(1024).decode() for _ in range(3)]
            node.signal(signal.SIGTERM)
            while "STOPPING=1" not in told:
                told.append(manager.recv(1024).decode())
            assert node.wait() == 0

    assert told[0].startswith("READY=1\n")
    assert told[1:3] == ["WATCHDOG=1", "WATCHDOG=1"]


def test_of_several_processes_only_their_parent_speaks_to_the_service_manager(
    valkey_url: str, namespace: str, tmp_path: Path
) -> None:
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as manager:
        manager.setsockopt(socket.SOL_SOCKET, socket.SO_PASSCRED, 1)
        manager.bind(str(tmp_path / "notify"))
        manager.settimeout(60)
        env = {"NOTIFY_SOCKET": str(tmp_path / "notify"), "WATCHDOG_USEC": "30000000"}
        told: list[tuple[str, int]] = []

        def hear_until(text: str) -> None:
            while not told or not told[-1][0].startswith(text):
                said, ancillary, _, _ = manager.recvmsg(1024, 1024)
                told.append((said.decode(), struct.unpack("3i", ancillary[0][2])[0]))

        with Node(*engine_of(valkey_url, namespace), "--workers", "2", env=env) as node:
            hear_until("READY=1\n")
            behind = block_until(lambda: pids_behind(node, 2), "both answer")
            hear_until("WATCHDOG=1")
            node.signal(signal.SIGTERM)
            hear_until("STOPPING=1")
            assert node.wait() == 0

    assert {pid for _, pid in told} == {node.pid}
    assert node.pid not in behind
    assert [text.partition("\n")[0] for text, _ in told].count("READY=1") == 1


# Several processes on one port


def test_several_processes_share_a_port_and_one_that_dies_is_begun_again(
    valkey_url: str, namespace: str
) -> None:
    with Node(*engine_of(valkey_url, namespace), "--workers", "2") as node:
        first = block_until(lambda: pids_behind(node, 2), "both answer")
        victim = first.pop()
        os.kill(victim, signal.SIGKILL)
        block_until(lambda: pids_behind(node, 2) - {victim} == pids_behind(node, 2), "another one")
        second = pids_behind(node, 2)
        code = node.stop()

    assert node.pid not in second
    assert len(second) == 2
    assert code == 0
    assert not [pid for pid in second if is_alive(pid)]


def test_processes_end_where_their_parent_is_killed(valkey_url: str, namespace: str) -> None:
    with Node(*engine_of(valkey_url, namespace), "--workers", "2") as node:
        children = block_until(lambda: pids_behind(node, 2), "both answer")
        node.kill()
        try:
            block_until(
                lambda: not [pid for pid in children if is_alive(pid)], "the children to end"
            )
        finally:
            for pid in filter(is_alive, children):
                os.kill(pid, signal.SIGKILL)


def test_any_of_several_processes_answers_for_all_and_no_sum_falls_when_one_is_killed(
    valkey_url: str, namespace: str, tmp_path: Path
) -> None:
    env = {"TMPDIR": str(tmp_path)}
    with Node(*engine_of(valkey_url, namespace), "--workers", "2", env=env) as node:
        pids = block_until(lambda: pids_behind(node, 2), "both answer")
        for number in range(30):  # Each by a connection of its own, and so by either.
            body = {"id": f"t-{number}", "kind": "greet"}
            httpx2.post(node.url + "/tasks", json=body, timeout=20).raise_for_status()
        by_process: dict[int, Any] = {}
        while by_process.keys() < pids:
            system = httpx2.get(node.url + "/system", timeout=20).json()["system"]
            by_process[system["pid"]] = system
        sums = [submits_in(httpx2.get(node.url + "/metrics", timeout=20).text) for _ in range(20)]
        summary = httpx2.get(node.url + "/metrics/summary", timeout=20).json()["performance"]
        os.kill(pids.pop(), signal.SIGKILL)
        block_until(lambda: pids_behind(node, 2), "another one")
        afterwards = submits_in(httpx2.get(node.url + "/metrics", timeout=20).text)
        rest = node.ok("GET", "/system")["system"]["requests"]["total"]
        folders = list(tmp_path.iterdir())
        assert node.stop() == 0

    for pid, system in by_process.items():
        assert system["processes"][0]["pid"] == pid
        assert {one["pid"] for one in system["processes"]} == by_process.keys()
        assert system["requests"]["total"] >= 30
        assert [one["name"] for one in system["namespaces"]] == [namespace]
    assert sums == [30] * 20
    assert summary["total_requests"] >= 50
    assert afterwards == 30
    assert rest > 50
    assert len(folders) == 1
    assert not list(tmp_path.iterdir())


def test_a_process_that_hangs_is_ended_and_another_begun(
    valkey_url: str, namespace: str, tmp_path: Path
) -> None:
    settings = "HANG_SECONDS, workers.BEAT_SECONDS = 5.0, 0.2"
    (tmp_path / "sitecustomize.py").write_text(
        f"from callboard.http import workers\nworkers.{settings}\n"
    )
    env = {"PYTHONPATH": str(tmp_path)}
    with Node(*engine_of(valkey_url, namespace), "--workers", "2", env=env) as node:
        first = block_until(lambda: pids_behind(node, 2), "both answer")
        victim = first.pop()
        os.kill(victim, signal.SIGSTOP)
        block_until(lambda: f"Process {victim} has hung" in node.log, "it is noticed")
        second = block_until(lambda: pids_behind(node, 2), "another one")
        code = node.stop()

    assert victim not in second
    assert first < second
    assert not is_alive(victim)
    assert code == 0


def submits_in(text: str) -> int:
    """The submits that the metrics have counted."""
    line = 'callboard_http_requests_total{method="POST",route="/tasks",status="2xx"}'
    (found,) = (one for one in text.splitlines() if one.startswith(line))
    return int(found.rpartition(" ")[2])


def pids_behind(node: Node, number: int) -> set[int]:
    """The processes that answer, where there are so many; else none."""
    found: set[int] = set()
    for _ in range(50):
        try:
            answer = httpx2.get(node.url + "/system", timeout=20)
        except httpx2.TransportError:
            continue  # It was in the backlog of a process that was killed.
        found.add(answer.json()["system"]["pid"])
        if len(found) == number:
            return found
    return set()


def is_alive(pid: int) -> bool:
    try:
        state = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]
    except FileNotFoundError:
        return False
    return state != "Z"


def test_processes_that_cannot_begin_say_so_once_each_and_end_all() -> None:
    ran = refused("--url", "redis://127.0.0.1:1/0", "--port", "0", "--workers", "2")

    assert ran.returncode == 3
    assert "127.0.0.1:1" in ran.stderr


# Bringing tasks to agents


async def test_it_hands_out_the_tasks_of_the_boards_it_is_told_and_pushes_as_it_is_told(
    valkey_url: str, namespace: str
) -> None:
    how = ("--board", "*", "--push-timeout", "200ms", "--push-deliveries", "1")
    async with running(hangs) as hung, running(completes("done")) as healthy:
        with Node(*engine_of(valkey_url, namespace), *how, dispatches=True) as node:

            async def ok(verb: str, path: str, body: Any = None) -> Any:
                return await asyncio.to_thread(node.ok, verb, path, body)

            for name, agent in (("hung", hung), ("healthy", healthy)):
                body = {"agent_id": name, "agent_type": "worker", "capabilities": [name]}
                await ok("POST", "/agents/register", {**body, "endpoints": {"http": agent.url}})
            for name in ("hung", "healthy"):
                spec = {"kind": "k", "id": name, "retry": {"max_retries": 0}}
                spec["requirements"] = {"capabilities": [name]}
                await ok("POST", "/tasks?board=elsewhere", spec)

            async def ended() -> list[Any]:
                tasks = [
                    (await ok("GET", f"/tasks/{name}?board=elsewhere"))["task"]
                    for name in ("hung", "healthy")
                ]
                return tasks if all(one["status"] in ("done", "failed") for one in tasks) else []

            found = await until(ended)

    assert [task["status"] for task in found] == ["failed", "done"]
    assert "0.2 s" in found[0]["error"]["message"]


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["--board", "a b"], "'a b' is not a valid name"),
        (["--push-timeout", "1h"], "push_timeout is 3600.0; it must be from 0.05 to 300"),
        (["--push-per-agent", "0"], "per_agent is 0"),
    ],
    ids=["board", "timeout", "per agent"],
)
def test_what_cannot_be_set_for_pushes_is_named(arguments: list[str], said: str) -> None:
    ran = refused(*arguments)

    assert ran.returncode == 2
    assert said in ran.stderr
    assert "Traceback" not in ran.stderr
