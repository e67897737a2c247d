"""Streams and sockets of ``callboard serve`` as a process: through the guard, to its end."""

from __future__ import annotations

import asyncio
import signal
from collections.abc import Iterator

import pytest
from websockets.exceptions import ConnectionClosed

from tests.http.live_support import sse
from tests.http.nodes import Node
from tests.http.socket_support import Socket, agent_socket, socket


@pytest.fixture
def node(valkey_url: str, namespace: str) -> Iterator[Node]:
    with Node("--url", valkey_url, "--namespace", namespace) as running:
        yield running


def port_of(node: Node) -> int:
    return int(node.url.rpartition(":")[2])


async def test_a_process_ends_its_streams_and_sockets_with_a_word_and_then_itself(
    node: Node,
) -> None:
    port = port_of(node)
    async with sse(port, "/events") as stream, agent_socket(port) as ws:
        await ws.ask("subscribe", work=True, events=True, inbox=True)
        await ws.ask("call", operation="tasks.submit", arguments={"kind": "greet", "id": "a"})
        created = await stream.until("task:created")
        task = (await ws.next("task"))["task"]
        node.signal(signal.SIGTERM)
        rest = await stream.rest()
        closed = await closing(ws)
        code = await asyncio.to_thread(node.wait)

    assert created.json["facts"][0]["id"] == task["id"] == "a"
    assert not [block for block in rest if block.event == "problem"]
    assert closed == 1012
    assert code == 0
    assert "Traceback" not in node.log


async def closing(ws: Socket) -> int:
    """The code that a socket is closed with."""
    try:
        while True:
            await ws.read()
    except ConnectionClosed as closed:
        return closed.rcvd.code if closed.rcvd is not None else 0


async def test_a_socket_from_a_page_elsewhere_is_refused(node: Node) -> None:
    async with sse(port_of(node), "/events", origin="http://elsewhere.example") as stream:
        assert "access-control-allow-origin" not in stream.headers

    with pytest.raises(Exception, match="403"):
        async with socket(port_of(node), origin="http://elsewhere.example"):
            pass
