"""Engines that are more than one server: a Cluster, a master under Sentinels, one behind TLS."""

from __future__ import annotations

import contextlib
import shutil
import subprocess
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

import pytest
import redis
from redis.crc import key_slot

from tests.engine.connection_support import DEADLINE, Engine, free_port, redis_binary
from tests.waiting import block_until

# Cluster

ROUTE = "{team}:callboard:format"
SLOT = key_slot(ROUTE.encode())


class Cluster:
    """Three masters; the first owns the slot of the route, until it is moved."""

    def __init__(self, nodes: list[Engine]) -> None:
        self.nodes = nodes
        self.ids = [node.admin.execute_command("CLUSTER", "MYID") for node in nodes]

    @property
    def url(self) -> str:
        return f"redis+cluster://127.0.0.1:{self.nodes[2].port}"

    def owner(self, node: Engine, slot: int = SLOT) -> int:
        """The index of the node that *node* takes for the owner of a slot."""
        ranges = node.admin.execute_command("CLUSTER", "SLOTS")
        for shard in ranges:
            if shard[0] <= slot <= shard[1]:
                return self.ids.index(shard[2][2])
        return -1

    def has_met(self) -> bool:
        """Whether every node knows every other."""
        known = [node.admin.execute_command("CLUSTER", "SLOTS") for node in self.nodes]
        return all(len(ranges) >= len(self.nodes) for ranges in known)

    def is_settled(self) -> bool:
        """Whether every node is ready, and takes the first for the owner of our slot."""
        return all(self.owner(node) == 0 for node in self.nodes) and self.is_ready()

    def is_ready(self) -> bool:
        """Whether every node says that the cluster works."""
        return all(
            b"cluster_state:ok" in node.admin.execute_command("CLUSTER", "INFO")
            for node in self.nodes
        )

    def flush(self) -> None:
        for node in self.nodes:
            node.admin.flushall()

    def move(self, to: int) -> None:
        """Give the slot to another node; nobody may hold keys in it."""
        target = self.nodes[to]
        owner = self.owner(target)
        if owner != to:
            # So announced, the move gives the target a newer epoch, and gossip cannot undo it.
            target.admin.execute_command(
                *("CLUSTER", "SETSLOT", SLOT, "IMPORTING", self.ids[owner])
            )
        agreed = 0
        deadline = time.monotonic() + DEADLINE
        # On a starved machine gossip of before the move may arrive after it, and undo it.
        while agreed < 2:
            assert time.monotonic() < deadline, "the nodes do not agree on the move"
            stray = [node for node in (target, *self.nodes) if self.owner(node) != to]
            agreed = 0 if stray else agreed + 1
            for node in stray:
                node.admin.execute_command("CLUSTER", "SETSLOT", SLOT, "NODE", self.ids[to])


@contextmanager
def three_nodes(*options: str) -> Iterator[Cluster]:
    """A Cluster of three, who have yet to meet; the first owns the slot of the route."""
    with ExitStack() as stack:
        nodes = [
            stack.enter_context(
                Engine(
                    *("--cluster-enabled", "yes", "--cluster-node-timeout", "1000", *options),
                    port=port,
                )
            )
            for port in (free_port(), free_port(), free_port())
        ]
        bounds = [(0, 5460), (5461, 10922), (10923, 16383)]
        owner = next(i for i, (first, last) in enumerate(bounds) if first <= SLOT <= last)
        bounds[0], bounds[owner] = bounds[owner], bounds[0]
        for node, (first, last) in zip(nodes, bounds, strict=True):
            node.admin.execute_command("CLUSTER", "ADDSLOTSRANGE", first, last)
            node.admin.execute_command("CLUSTER", "MEET", "127.0.0.1", nodes[0].port)
        yield Cluster(nodes)


@contextmanager
def with_replica(cluster: Cluster) -> Iterator[Engine]:
    """A replica of the Cluster's first node, which has all of it and would take over."""
    options = ("--cluster-enabled", "yes", "--cluster-node-timeout", "1000")
    with Engine(*options, port=free_port()) as replica:
        replica.admin.execute_command("CLUSTER", "MEET", "127.0.0.1", cluster.nodes[0].port)

        def follows() -> bool:
            with contextlib.suppress(redis.ResponseError):  # It knows too few of them yet.
                replica.admin.execute_command("CLUSTER", "REPLICATE", cluster.ids[0])
                return True
            return False

        block_until(follows, "the replica knows its node")
        link = "master_link_status"
        block_until(lambda: replica.admin.info("replication").get(link) == "up", "it has all")
        block_until(cluster.is_ready, "the cluster works")
        yield replica


# Sentinel


class Guarded:
    """A master, its replica, and the Sentinels that watch them."""

    def __init__(self, master: Engine, replica: Engine, sentinels: list[Engine]) -> None:
        self.master = master
        self.replica = replica
        self.sentinels = sentinels

    @property
    def url(self) -> str:
        # The first is not there: the second has to be asked.
        ports = (free_port(), *(sentinel.port for sentinel in self.sentinels))
        return f"redis+sentinel://{','.join(f'127.0.0.1:{port}' for port in ports)}/service/0"

    def is_watched(self) -> bool:
        """Whether the replica follows, and each Sentinel knows it and all other Sentinels."""
        return self.replica.admin.info("replication")["master_link_status"] == "up" and all(
            _counts(sentinel) == (1, len(self.sentinels) - 1) for sentinel in self.sentinels
        )

    def fails_over(self) -> bool:
        """Whether the Sentinel began a failover; it may not know enough of the replica yet."""
        with contextlib.suppress(redis.ResponseError):
            self.sentinels[0].admin.execute_command("SENTINEL", "FAILOVER", "service")
            return True
        return False


def _counts(sentinel: Engine) -> tuple[int, int]:
    """The replicas and the other Sentinels that one knows."""
    replicas = sentinel.admin.execute_command("SENTINEL", "REPLICAS", "service")
    others = sentinel.admin.execute_command("SENTINEL", "SENTINELS", "service")
    return len(replicas), len(others)


@contextmanager
def guarded_service(*options: str, sentinels: int = 1) -> Iterator[Guarded]:
    """A master with *options*, a replica, and so many Sentinels; ready once ``is_watched``."""
    with ExitStack() as stack:
        master = Engine("--repl-diskless-sync-delay", "0", *options, port=free_port())
        stack.enter_context(master)
        replica = Engine("--replicaof", f"127.0.0.1 {master.port}", *options, port=free_port())
        stack.enter_context(replica)
        watching = []
        for _ in range(sentinels):
            sentinel = Engine(port=free_port())
            settings = sentinel.folder / "sentinel.conf"
            settings.write_text(
                f"sentinel monitor service 127.0.0.1 {master.port} {sentinels // 2 + 1}\n"
                "sentinel down-after-milliseconds service 500\n"
                "sentinel failover-timeout service 5000\n"
            )
            sentinel.leading, sentinel.options = (str(settings), "--sentinel"), ()
            watching.append(stack.enter_context(sentinel))
        yield Guarded(master, replica, watching)


# TLS


def make_papers(folder: Path) -> None:
    """An authority, and a certificate for localhost that it signed; skips without openssl."""
    openssl = shutil.which("openssl")
    if openssl is None:
        pytest.skip("openssl is not installed")
    (folder / "names").write_text("subjectAltName=DNS:localhost,IP:127.0.0.1")
    for command in (
        "req -x509 -newkey rsa:2048 -nodes -days 2 -subj /CN=authority -keyout ca.key -out ca.pem",
        "req -newkey rsa:2048 -nodes -subj /CN=localhost -keyout own.key -out own.csr",
        "x509 -req -in own.csr -CA ca.pem -CAkey ca.key -CAcreateserial -days 2 "
        "-extfile names -out own.pem",
    ):
        subprocess.run([openssl, *command.split()], cwd=folder, check=True, capture_output=True)


@contextmanager
def behind_tls(papers: Path, *, clients: str = "optional") -> Iterator[int]:
    """Redis with these papers; its port for TLS. Skips where the server was built without."""
    port = free_port()
    engine = Engine(
        *("--tls-port", str(port), "--tls-auth-clients", clients),
        *("--tls-ca-cert-file", str(papers / "ca.pem")),
        *("--tls-cert-file", str(papers / "own.pem"), "--tls-key-file", str(papers / "own.key")),
        binary=redis_binary(),
    )
    try:
        try:
            engine.start()
        except AssertionError as error:
            pytest.skip(f"redis-server has no TLS: {error}")
        yield port
    finally:
        engine.__exit__()
