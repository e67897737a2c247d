"""A coordinator among callers who mean it ill: its memory stays bounded, and others are served."""

from __future__ import annotations

import asyncio
import random
import resource
import socket
import time
from collections.abc import Iterator
from contextlib import ExitStack, suppress
from pathlib import Path

import httpx2
import pytest

from tests.http.nodes import Node, engine_of
from tests.waiting import block_until

SILENT = 10_000
GROWTH_BYTES = 150 << 20
"""What a flood may take besides what the process had: about 10 KiB a connection, and slack."""

PROMPT_SECONDS = 5.0
"""In which others are answered meanwhile, on a busy machine."""

pytestmark = pytest.mark.timeout(240)


@pytest.fixture
def node(valkey_url: str, namespace: str) -> Iterator[Node]:
    with Node(*engine_of(valkey_url, namespace)) as node:
        for number in range(50):
            node.ok("POST", "/tasks", {"kind": "greet", "payload": number})
        yield node


def memory_of(node: Node) -> int:
    """Bytes that the process has in memory."""
    pages = int(Path(f"/proc/{node.pid}/statm").read_text().split()[1])
    return pages * resource.getpagesize()


def port_of(node: Node) -> int:
    return int(node.url.rpartition(":")[2])


def check_others_are_served(node: Node) -> None:
    started = time.monotonic()
    with httpx2.Client(base_url=node.url, timeout=30) as client:
        answer = client.post("/tasks", json={"kind": "greet"})
        assert answer.status_code == 200, answer.text
        assert client.get("/health").status_code == 200
    assert time.monotonic() - started < PROMPT_SECONDS


def allow_files(number: int) -> None:
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if hard != resource.RLIM_INFINITY and hard < number:
        pytest.skip(f"the system allows {hard} open files, and {number} are needed")
    if soft < number:
        resource.setrlimit(resource.RLIMIT_NOFILE, (number, hard))


async def test_ten_thousand_connections_that_say_nothing(node: Node) -> None:
    allow_files(SILENT + 1_000)
    before = memory_of(node)
    opened: list[socket.socket] = []
    loop = asyncio.get_running_loop()

    async def connect() -> None:
        one = socket.socket()
        one.setblocking(False)
        opened.append(one)
        await loop.sock_connect(one, ("127.0.0.1", port_of(node)))

    try:
        for _ in range(SILENT // 250):
            await asyncio.gather(*[connect() for _ in range(250)])
        await asyncio.to_thread(check_others_are_served, node)
        growth = memory_of(node) - before
    finally:
        for one in opened:
            one.close()

    assert growth < GROWTH_BYTES
    await asyncio.to_thread(check_others_are_served, node)


def test_a_million_bytes_of_garbage_from_each_of_fifty(node: Node) -> None:
    before = memory_of(node)
    garbage = random.Random(7).randbytes(1_000_000)
    heads = [
        b"",
        b"POST /tasks HTTP/1.1\r\nx: ",
        b"GET /",
        b"POST /tasks HTTP/1.1\r\nhost: a\r\n\r\n",
    ]
    for number in range(50):
        with socket.create_connection(("127.0.0.1", port_of(node)), timeout=30) as one:
            with suppress(OSError):
                one.sendall(heads[number % len(heads)] + garbage)
                one.shutdown(socket.SHUT_WR)
            with suppress(OSError):
                while one.recv(65_536):
                    pass
        if number % 10 == 0:
            check_others_are_served(node)

    check_others_are_served(node)
    assert memory_of(node) - before < GROWTH_BYTES
    assert "Traceback" not in node.log
    assert node.ok("GET", "/system")["system"]["requests"]["failures"] == 0


def test_bodies_that_come_a_byte_at_a_time(node: Node) -> None:
    before = memory_of(node)
    head = b"POST /tasks HTTP/1.1\r\nhost: 127.0.0.1\r\ncontent-length: 8000000\r\n\r\n"
    with ExitStack() as stack:
        slow = [
            stack.enter_context(socket.create_connection(("127.0.0.1", port_of(node)), timeout=30))
            for _ in range(500)
        ]
        for one in slow:
            one.sendall(head + b"{")
        block_until(
            lambda: node.ok("GET", "/system")["system"]["requests"]["in_flight"] > len(slow), "all"
        )
        for one in slow:
            one.sendall(b" ")
        check_others_are_served(node)
        growth = memory_of(node) - before

    assert growth < GROWTH_BYTES


def test_bodies_that_fill_all_memory_there_is_for_them_are_refused(node: Node) -> None:
    before = memory_of(node)
    size = 8 << 20
    head = b"POST /tasks HTTP/1.1\r\nhost: 127.0.0.1\r\ncontent-length: %d\r\n\r\n" % size
    part = b" " * (size - 1)
    with ExitStack() as stack:
        large = [
            stack.enter_context(socket.create_connection(("127.0.0.1", port_of(node)), timeout=5))
            for _ in range(60)
        ]
        for one in large:
            with suppress(OSError):
                one.sendall(head + part)
        growth = memory_of(node) - before
        check_small_ones_are_served_or_put_off(node)

    # 256 MiB for bodies, and each that is not taken has 64 KiB on its way.
    assert growth < (320 << 20)
    block_until(lambda: is_served(node), "others are served once they are gone")


def check_small_ones_are_served_or_put_off(node: Node) -> None:
    answer = httpx2.post(node.url + "/tasks", json={"kind": "greet"}, timeout=30)
    assert answer.status_code in (200, 503)
    assert httpx2.get(node.url + "/health", timeout=30).status_code == 200


def is_served(node: Node) -> bool:
    return httpx2.post(node.url + "/tasks", json={"kind": "a"}, timeout=30).status_code == 200


def test_callers_who_ask_for_much_and_read_nothing(node: Node) -> None:
    before = memory_of(node)
    ask = b"GET /openapi.json HTTP/1.1\r\nhost: 127.0.0.1\r\n\r\n" * 200
    with ExitStack() as stack:
        for _ in range(100):
            one = stack.enter_context(socket.socket())
            one.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4_096)
            one.connect(("127.0.0.1", port_of(node)))
            one.setblocking(False)
            with suppress(BlockingIOError):
                one.send(ask)
        check_others_are_served(node)
        growth = memory_of(node) - before

    assert growth < GROWTH_BYTES


def test_listeners_who_read_nothing_while_much_happens(node: Node) -> None:
    with ExitStack() as stack:
        for _ in range(100):
            one = stack.enter_context(socket.socket())
            one.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4_096)
            one.connect(("127.0.0.1", port_of(node)))
            one.sendall(b"GET /events HTTP/1.1\r\nhost: 127.0.0.1\r\n\r\n")
        block_until(
            lambda: node.ok("GET", "/system")["system"]["namespaces"][0]["listeners"] >= 100, "all"
        )
        before = memory_of(node)
        for _ in range(30):
            specs = [{"kind": "greet", "title": "x" * 900} for _ in range(500)]
            node.ok("POST", "/tasks/batch", {"specs": specs})
            listed = node.ok("GET", "/tasks?limit=500")["page"]["tasks"]
            node.ok("POST", "/tasks/cancel", {"task_ids": [task["id"] for task in listed]})
        check_others_are_served(node)
        growth = memory_of(node) - before

    assert growth < GROWTH_BYTES
