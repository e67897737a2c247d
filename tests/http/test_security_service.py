"""The whole service behind its guard, as a process: keys over REST, and ten thousand silent."""

from __future__ import annotations

import asyncio
import resource
import socket
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx2
import pytest

from tests.http.nodes import Node
from tests.waiting import block_until

pytestmark = pytest.mark.timeout(180)

SILENT = 10_000
ROOM_BYTES_EACH = 16_384
"""What a silent connection may take, with its parser and its entry in the loop."""


@pytest.fixture
def node(tmp_path: Path) -> Iterator[Node]:
    """A coordinator on an engine of its own."""
    with Node("--data", str(tmp_path / "data")) as running:
        yield running


def asked(node: Node, verb: str, path: str, key: str = "", **rest: Any) -> httpx2.Response:
    headers = {"authorization": f"Bearer {key}"} if key else {}
    headers |= rest.pop("headers", {})
    return node.client.request(verb, path, headers=headers, **rest)


def make_key(node: Node, name: str, **options: Any) -> tuple[str, str]:
    """The id and the secret of a new key, made without one."""
    issued = node.ok("POST", "/keys", {"name": name, **options})["issued"]
    return issued["key"]["id"], issued["secret"]


def test_keys_are_made_used_and_revoked_over_rest(node: Node) -> None:
    key_id, secret = make_key(node, "ci", role="read")

    assert asked(node, "GET", "/tasks", secret).status_code == 200
    refused = asked(node, "POST", "/tasks", secret, json={"kind": "greet", "payload": 1})
    assert (refused.status_code, refused.json()["details"]["wanted"]) == (403, "work")
    assert asked(node, "DELETE", f"/keys/{key_id}", secret).status_code == 403
    node.ok("DELETE", f"/keys/{key_id}")

    listed = node.ok("GET", "/keys")["keys"]
    assert [(key["id"], key["status"]) for key in listed] == [(key_id, "revoked")]
    assert secret not in repr(listed)

    def is_refused() -> bool:
        return asked(node, "GET", "/tasks", secret).status_code == 401

    block_until(is_refused, "the key is refused", seconds=2)


@pytest.mark.parametrize(
    ("verb", "path", "status"),
    [
        ("POST", "/no/such/path", 404),
        ("PATCH", "/tasks", 405),
        ("POST", "/tasks", 403),
        ("DELETE", "/keys/abcdefghijkl", 403),
    ],
)
def test_no_body_is_read_for_what_leads_nowhere(
    node: Node, verb: str, path: str, status: int
) -> None:
    """32 of them would fill the room that there is for all bodies, for a minute."""
    _, secret = make_key(node, "reader", role="read")
    head = (
        f"{verb} {path} HTTP/1.1\r\nHost: localhost\r\nAuthorization: Bearer {secret}\r\n"
        "Expect: 100-continue\r\nContent-Length: 8000000\r\n\r\n"
    )
    port = int(node.url.rpartition(":")[2])

    with socket.create_connection(("127.0.0.1", port), timeout=30) as caller:
        caller.sendall(head.encode())
        answer = caller.makefile("rb").read()

    assert answer.startswith(b"HTTP/1.1 %d " % status)
    assert b"connection: close" in answer
    if path.startswith("/keys"):
        block_until(lambda: "may not access.revoke" in node.log, "it is in the log")


def test_only_a_key_of_all_namespaces_makes_keys(node: Node) -> None:
    _, team = make_key(node, "team-admin", role="admin", namespaces=["team"])
    admin, everywhere = make_key(node, "admin", role="admin")

    refused = asked(node, "POST", "/keys", team, json={"name": "more", "role": "admin"})

    assert (refused.status_code, refused.json()["code"]) == (403, "not_permitted")
    assert asked(node, "GET", "/audit", team).status_code == 403
    made = asked(node, "POST", "/keys", everywhere, json={"name": "more", "by": "somebody"})
    assert made.json()["issued"]["key"]["created_by"] == "admin"
    newest = node.ok("GET", "/audit", params={"limit": 1})["page"]["entries"][0]
    assert (newest["name"], newest["key"]) == ("admin", admin)


def test_a_key_sees_its_own_namespace_and_no_other(node: Node) -> None:
    _, team = make_key(node, "team", namespaces=["team"])
    _, other = make_key(node, "other", namespaces=["other"])
    submitted = asked(node, "POST", "/tasks", team, json={"kind": "greet", "payload": 1, "id": "t"})
    assert submitted.status_code == 200

    assert asked(node, "GET", "/tasks/t", team).status_code == 200
    assert asked(node, "GET", "/tasks/t", other).status_code == 404
    elsewhere = {"X-Callboard-Namespace": "team"}
    assert asked(node, "GET", "/tasks/t", other, headers=elsewhere).status_code == 403
    assert asked(node, "GET", "/tasks/t").status_code == 404


def test_what_operators_do_is_in_the_audit_log_once(node: Node) -> None:
    operator_id, operator = make_key(node, "olga", role="operate")
    asked(node, "POST", "/tasks", operator, json={"kind": "greet", "payload": "private", "id": "t"})
    assert asked(node, "POST", "/boards/default/pause", operator).status_code == 200
    assert asked(node, "DELETE", "/boards/nowhere", operator).status_code == 404

    node.ok("GET", "/audit")
    entries = node.ok("GET", "/audit")["page"]["entries"]

    told = [(one["operation"], one["name"], one["target"], one["outcome"]) for one in entries]
    assert told == [
        ("boards.remove", "olga", "nowhere", "board_not_found"),
        ("boards.pause", "olga", "default", "ok"),
        ("access.create", "anonymous", f"{operator_id} olga", "ok"),
    ]
    assert {one["address"] for one in entries} == {"127.0.0.1"}
    assert "private" not in repr(entries)


def test_a_ticket_opens_a_stream_where_no_header_can_be_set(tmp_path: Path) -> None:
    with Node("--data", str(tmp_path / "data")) as first:
        _, secret = make_key(first, "page", role="read")
    with Node("--data", str(tmp_path / "data"), "--require-keys") as node:
        ticket = asked(node, "POST", "/tickets", secret).json()["ticket"]

        with node.client.stream("GET", f"/events?ticket={ticket}&types=task:*") as stream:
            assert stream.status_code == 200
            assert stream.headers["content-type"].startswith("text/event-stream")
        again = node.client.get(f"/events?ticket={ticket}")

        assert again.status_code == 401
        assert ticket not in node.log
        assert asked(node, "POST", "/tickets").status_code == 401


def test_nobody_is_let_in_from_elsewhere_without_keys(tmp_path: Path) -> None:
    with pytest.raises(AssertionError, match="there is no API key to ask for"):
        Node("--data", str(tmp_path / "data"), "--host", "0.0.0.0")


def test_ten_thousand_silent_connections_cost_little_and_others_are_served(node: Node) -> None:
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    wanted = min(SILENT, (hard if hard != resource.RLIM_INFINITY else 1 << 20) - 500)
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    port = int(node.url.rpartition(":")[2])
    node.ok("GET", "/tasks")
    before = memory_of(node.pid)

    async def crowd() -> tuple[int, list[int]]:
        writers: list[asyncio.StreamWriter] = []
        statuses: list[int] = []
        async with httpx2.AsyncClient(base_url=node.url, timeout=20) as client:
            for start in range(0, wanted, 200):
                opened = await asyncio.gather(
                    *(asyncio.open_connection("127.0.0.1", port) for _ in range(200))
                )
                writers += [writer for _, writer in opened]
                if start % 1_000 == 0:
                    statuses.append((await client.get("/tasks")).status_code)
            statuses.append((await client.get("/tasks")).status_code)
            held = memory_of(node.pid)
            for writer in writers:
                writer.transport.abort()
        return held, statuses

    try:
        held, statuses = asyncio.run(crowd())
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))

    assert set(statuses) == {200}
    assert held - before < wanted * ROOM_BYTES_EACH
    node.ok("GET", "/tasks")


def memory_of(pid: int) -> int:
    """Bytes of memory that a process has at the moment."""
    for line in Path(f"/proc/{pid}/status").read_text().splitlines():
        if line.startswith("VmRSS:"):
            return int(line.split()[1]) * 1_024
    raise AssertionError("no VmRSS")
