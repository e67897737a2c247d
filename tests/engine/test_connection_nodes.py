"""TLS, Sentinel and Cluster: the connection finds the node that takes its calls, each time."""

from __future__ import annotations

import asyncio
import contextlib
import os
import socket
from collections.abc import AsyncIterator, Iterator
from contextlib import ExitStack
from pathlib import Path

import hiredis
import pytest
from redis.crc import key_slot

from callboard import connect
from callboard.engine.connection import Connection
from callboard.exceptions import ConfigError, EngineUnavailable, InvalidArgument
from tests.engine.connection_support import DEADLINE, Engine, free_port
from tests.engine.topologies import (
    ROUTE,
    Cluster,
    Guarded,
    behind_tls,
    guarded_service,
    make_papers,
    three_nodes,
)
from tests.waiting import until

# Cluster


@pytest.fixture(scope="module")
def running_cluster() -> Iterator[Cluster]:
    with three_nodes() as cluster:
        yield cluster


@pytest.fixture
async def cluster(running_cluster: Cluster) -> Cluster:
    """The cluster without keys, with our slot at its first node, and all nodes knowing that."""
    await until(running_cluster.has_met)
    running_cluster.flush()
    running_cluster.move(to=0)
    await until(running_cluster.is_settled)
    return running_cluster


async def test_calls_go_to_the_owner_of_the_slot(cluster: Cluster) -> None:
    async with await Connection.open(cluster.url, route=ROUTE) as connection:
        await connection.call("SET", "{team}:k", "v")

        assert connection.is_cluster
        assert connection.epoch == 1
        assert len(cluster.nodes[0].clients("callboard")) == 1
        assert len(cluster.nodes[2].clients("callboard")) == 0
        assert cluster.nodes[0].admin.get("{team}:k") == b"v"


async def test_moved_slot_is_followed(cluster: Cluster) -> None:
    async with await Connection.open(cluster.url, route=ROUTE) as connection:
        await connection.call("PING")
        cluster.move(to=1)

        calls = [connection.call("INCR", "{team}:n") for _ in range(100)]

        assert sorted([await call for call in calls]) == list(range(1, 101))
        assert connection.epoch == 2
        assert cluster.nodes[1].admin.get("{team}:n") == b"100"


async def test_bells_follow_the_slot(cluster: Cluster) -> None:
    async with await Connection.open(cluster.url, route=ROUTE) as connection:
        bells = await connection.subscribe("{team}:bell")
        await connection.call("SPUBLISH", "{team}:bell", "before")
        assert await bells.get(DEADLINE) == ("{team}:bell", b"before")

        cluster.move(to=1)

        assert await bells.get(DEADLINE) == ("{team}:bell", b"")
        await connection.call("SPUBLISH", "{team}:bell", "after")
        assert await bells.get(DEADLINE) == ("{team}:bell", b"after")


async def test_subscribing_after_the_slot_moved_finds_its_new_owner(cluster: Cluster) -> None:
    async with await Connection.open(cluster.url, route=ROUTE) as connection:
        # Ordinary channels belong to no slot: nothing tells their connection of the move.
        news = await connection.subscribe_plain("news")
        cluster.move(to=1)

        bells = await connection.subscribe("{team}:bell")

        assert await news.get(DEADLINE) == ("news", b"")
        cluster.nodes[1].admin.execute_command("SPUBLISH", "{team}:bell", "x")
        assert await bells.get(DEADLINE) == ("{team}:bell", b"x")


async def test_api_keys_are_found_from_every_namespace_wherever_they_lie(
    cluster: Cluster,
) -> None:
    slot = key_slot(b"{callboard-access}:callboard:format")
    ranges = cluster.nodes[0].admin.execute_command("CLUSTER", "SLOTS")
    (home,) = (cluster.ids.index(one[2][2]) for one in ranges if one[0] <= slot <= one[1])
    cluster.move(to=(home + 1) % 3)
    own = f"callboard-{os.getpid()}-callboard-access"

    async with (
        connect(cluster.url, namespace="team") as cb,
        connect(cluster.url, namespace="other") as other,
    ):
        issued = await cb.access.create("ci", by="olga")
        revoked = await other.access.revoke(issued.key.id)

        assert await cb.access.list() == [revoked]
        assert cluster.nodes[home].admin.exists("{callboard-access}:access:keys") == 1
        assert len(cluster.nodes[home].clients(own)) == 2
    await until(lambda: not cluster.nodes[home].clients(own))


async def test_channel_of_another_slot_is_refused(cluster: Cluster) -> None:
    async with await Connection.open(cluster.url, route=ROUTE) as connection:
        with pytest.raises(InvalidArgument, match="another slot"):
            await connection.subscribe("bell")


async def test_dead_seed_does_no_harm(cluster: Cluster) -> None:
    seeds = f"127.0.0.1:{free_port()},127.0.0.1:{cluster.nodes[1].port}"

    async with await Connection.open(f"redis+cluster://{seeds}", route=ROUTE) as connection:
        assert await connection.call("SET", "{team}:k", "v") == b"OK"


async def test_silent_seed_does_no_harm(cluster: Cluster) -> None:
    with socket.create_server(("127.0.0.1", 0)) as silent:
        seeds = f"127.0.0.1:{silent.getsockname()[1]},127.0.0.1:{cluster.nodes[1].port}"
        url = f"redis+cluster://{seeds}"

        async with await Connection.open(url, route=ROUTE, connect_timeout=2) as connection:
            assert await connection.call("SET", "{team}:k", "v") == b"OK"


async def test_plain_url_of_a_cluster_node_is_told(cluster: Cluster) -> None:
    async with await Connection.open(cluster.nodes[1].url) as connection:
        with pytest.raises(EngineUnavailable, match=r"use a redis\+cluster:// URL"):
            await connection.call("GET", "{team}:k")


async def test_single_server_is_not_a_cluster() -> None:
    with Engine(port=free_port()) as engine:
        url = f"redis+cluster://127.0.0.1:{engine.port}"
        with pytest.raises(ConfigError, match="is not part of a Cluster"):
            await Connection.open(url, connect_timeout=DEADLINE)


# Sentinel


@pytest.fixture
async def guarded() -> AsyncIterator[Guarded]:
    with guarded_service() as guarded:
        await until(guarded.is_watched)
        yield guarded


async def test_master_is_found_and_found_again_after_its_death(guarded: Guarded) -> None:
    async with await Connection.open(guarded.url, call_timeout=60) as connection:
        bells = await connection.subscribe("bell")
        await connection.call("SET", "k", "v")
        await connection.call("WAIT", 1, 0)

        guarded.master.kill()
        await until(lambda: not connection.is_connected)

        assert await connection.call("GET", "k") == b"v"
        assert await connection.call("ROLE") != b"slave"
        assert len(guarded.replica.clients("callboard")) == 1
        assert connection.epoch == 2
        assert await bells.get(DEADLINE) == ("bell", b"")


async def test_demoted_master_is_left(guarded: Guarded) -> None:
    async with await Connection.open(guarded.url, call_timeout=60) as connection:
        await connection.subscribe_plain("news")
        await connection.call("SET", "k", "v")
        await until(guarded.fails_over)
        await until(lambda: guarded.replica.admin.info("replication")["role"] == "master")
        # It keeps its connections, and answers READONLY from now on.
        guarded.master.admin.replicaof("127.0.0.1", str(guarded.replica.port))

        assert await connection.call("SET", "k", "w") == b"OK"
        assert guarded.replica.admin.get("k") == b"w"
        await until(lambda: len(guarded.replica.clients("callboard-bells")) == 1)


async def test_replica_that_a_sentinel_still_names_is_not_taken_for_the_master() -> None:
    with ExitStack() as stack:
        master = stack.enter_context(Engine(port=free_port()))
        replica = stack.enter_context(
            Engine("--replicaof", f"127.0.0.1 {master.port}", port=free_port())
        )
        async with mistaken_sentinel([replica.port, master.port]) as port:
            url = f"redis+sentinel://127.0.0.1:{port}/service"
            async with await Connection.open(url, connect_timeout=DEADLINE) as connection:
                assert await connection.call("ROLE") == [b"master", 0, []]


@contextlib.asynccontextmanager
async def mistaken_sentinel(ports: list[int]) -> AsyncIterator[int]:
    """A Sentinel that names one port after the other, and then always the last."""

    async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        parser = hiredis.Reader()
        while data := await reader.read(1 << 16):
            parser.feed(data)
            while (command := parser.gets()) is not False:
                if command[0] == b"SENTINEL":
                    named = str(ports[0] if len(ports) == 1 else ports.pop(0))
                    writer.write(hiredis.pack_command(("127.0.0.1", named)))  # type: ignore[arg-type]
                else:
                    writer.write(b"+OK\r\n" if command[0] != b"HELLO" else b"%0\r\n")
        writer.close()

    server = await asyncio.start_server(answer, "127.0.0.1", 0)
    async with server:
        yield server.sockets[0].getsockname()[1]


async def test_service_that_no_sentinel_knows(guarded: Guarded) -> None:
    url = f"redis+sentinel://127.0.0.1:{guarded.sentinels[0].port}/elsewhere"

    with pytest.raises(ConfigError, match='knows a service "elsewhere"'):
        await Connection.open(url, connect_timeout=DEADLINE)


# TLS


@pytest.fixture(scope="module")
def papers(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An authority, and a certificate for localhost that it signed."""
    folder = tmp_path_factory.mktemp("tls")
    make_papers(folder)
    return folder


@pytest.fixture(scope="module")
def tls_port(papers: Path) -> Iterator[int]:
    with behind_tls(papers) as port:
        yield port


async def test_tls_with_an_authority_of_our_own(papers: Path, tls_port: int) -> None:
    url = (
        f"rediss://localhost:{tls_port}/0?ssl_ca_certs={papers}/ca.pem"
        f"&ssl_certfile={papers}/own.pem&ssl_keyfile={papers}/own.key"
    )
    async with await Connection.open(url) as connection:
        calls = [connection.call("ECHO", f"{n}" * 1000) for n in range(200)]
        assert [await call for call in calls] == [(f"{n}" * 1000).encode() for n in range(200)]


async def test_unknown_authority_is_told_at_once(tls_port: int) -> None:
    with pytest.raises(ConfigError, match="ssl_ca_certs"):
        await Connection.open(f"rediss://localhost:{tls_port}", connect_timeout=DEADLINE * 10)


async def test_server_without_tls_is_told_in_time() -> None:
    # It takes the greeting for the beginning of a command, and waits for the rest.
    with Engine(port=free_port()) as engine, pytest.raises(EngineUnavailable, match="speaks TLS"):
        await Connection.open(f"rediss://127.0.0.1:{engine.port}", connect_timeout=0.3)


async def test_plain_url_of_a_tls_port_fails_in_time(tls_port: int) -> None:
    with pytest.raises(EngineUnavailable):
        await Connection.open(f"redis://127.0.0.1:{tls_port}", connect_timeout=0.3)
