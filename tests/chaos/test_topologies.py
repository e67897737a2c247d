"""Coordinators on engines that are more than one server: failover, a Cluster, TLS."""

from __future__ import annotations

import asyncio
from pathlib import Path

import httpx2
import pytest
from redis.crc import key_slot

import callboard
from tests.chaos.coordinator_load import Load
from tests.engine.connection_support import Engine
from tests.engine.topologies import (
    Cluster,
    behind_tls,
    guarded_service,
    make_papers,
    three_nodes,
    with_replica,
)
from tests.http.nodes import Node, refused
from tests.waiting import block_until

pytestmark = pytest.mark.timeout(300)

ANSWERED_SECONDS = 13.0
"""A call on an engine that does not answer is given up after 5 s, and a held claim makes two."""


# Sentinel


async def test_service_goes_on_after_a_failover_with_all_that_a_replica_had() -> None:
    with guarded_service(sentinels=3) as engines:
        block_until(engines.is_watched, "the Sentinels know each other")
        with Node("--url", engines.url) as node:
            async with Load([node.url], submitters=10, agents=10, lost=(404,)) as load:
                await load.until(lambda: len(load.completed) > 200, "the load runs")
                submitted = set(load.acknowledged)
                assert engines.master.admin.wait(1, 20_000) == 1, "the replica has these"
                engines.master.kill()
                await load.until(lambda: load.statuses()[503] > 0, "callers are told")
                known = set(load.acknowledged)
                await load.until(lambda: len(load.acknowledged - known) > 200, "submits go on")
                afterwards = load.acknowledged - known
                await load.until(
                    lambda: submitted | afterwards <= load.completed, "all these are completed"
                )
            await asyncio.to_thread(
                block_until, lambda: node.client.get("/ready").is_success, "ready"
            )
            system = node.ok("GET", "/system")["system"]
            code = node.stop()
        async with callboard.connect(engines.url) as cb:
            ended = {name: (await cb.tasks.get(name)).status for name in submitted | afterwards}
        primary = engines.replica.admin.info("replication")["role"]

    assert system["engine"]["is_connected"]
    assert set(load.statuses()) <= {503, 409, 404}
    assert {after for status, _, after, _ in load.refusals if status == 503} == {"1"}
    assert max(took for _, _, _, took in load.refusals) < ANSWERED_SECONDS
    assert load.unreachable == 0
    assert set(ended.values()) == {"done"}
    assert primary == "master"
    assert code == 0


def test_writes_wait_while_an_engine_lacks_the_replicas_it_was_told_to_have() -> None:
    with Engine() as engine, Node("--url", engine.url) as node:
        engine.admin.config_set("min-replicas-to-write", 1)
        refusal = node.client.post("/tasks", json={"id": "t-1", "kind": "greet"})
        found = node.ok("GET", "/tasks")["page"]["tasks"]
        engine.admin.config_set("min-replicas-to-write", 0)
        node.ok("POST", "/tasks", {"id": "t-1", "kind": "greet"})

    assert (refusal.status_code, refusal.headers["retry-after"]) == (503, "1")
    assert refusal.json()["code"] == "engine_unavailable"
    assert "NOREPLICAS" in refusal.json()["detail"]
    assert found == []


# Cluster


NAMES = ("red", "team-c", "north")
"""By their hash slots each lies on another of three nodes."""


def to(namespace: str) -> dict[str, str]:
    return {"x-callboard-namespace": namespace}


def ask(node: Node, namespace: str) -> httpx2.Response:
    return node.client.get("/tasks", headers=to(namespace))


def ids(node: Node, namespace: str) -> list[str]:
    found = node.ok("GET", "/tasks", headers=to(namespace))["page"]["tasks"]
    return [task["id"] for task in found]


def namespaces_of(engine: Engine) -> set[str]:
    """The namespaces that have keys on this node."""
    return {key.decode()[1:].partition("}")[0] for key in engine.admin.scan_iter()}


def test_each_namespace_lies_on_one_node_and_the_death_of_another_hurts_none() -> None:
    with three_nodes("--cluster-require-full-coverage", "no") as cluster:
        block_until(cluster.has_met, "the nodes know each other")
        block_until(cluster.is_ready, "the cluster works")
        homes = {
            name: cluster.owner(cluster.nodes[0], key_slot(f"{{{name}}}:".encode()))
            for name in NAMES
        }
        with Node("--url", cluster.url, "--namespace", NAMES[0]) as node:
            for name in NAMES:
                node.ok("POST", "/tasks", {"id": name, "kind": "greet"}, headers=to(name))
            found = {name: ids(node, name) for name in NAMES}
            keys = [namespaces_of(one) for one in cluster.nodes]
            doomed = homes[NAMES[2]]
            cluster.nodes[doomed].kill()
            block_until(lambda: ask(node, NAMES[2]).status_code == 503, "its namespace is away")
            others = {name: ids(node, name) for name in NAMES if homes[name] != doomed}
            for name in others:
                node.ok("POST", "/tasks", {"id": "late", "kind": "greet"}, headers=to(name))
            code = node.stop()

    assert set(homes.values()) == {0, 1, 2}
    assert found == {name: [name] for name in NAMES}
    for name, home in homes.items():
        for at, there in enumerate(keys):
            assert (name in there) == (at == home)
    assert others == {name: [name] for name in NAMES[:2]}
    assert code == 0


def test_a_replica_takes_over_for_the_node_of_a_cluster_that_a_namespace_lies_on() -> None:
    statuses: list[int] = []

    def is_served() -> bool:
        statuses.append(ask(node, "team").status_code)
        return statuses[-1] == 200

    with three_nodes() as cluster:
        block_until(cluster.has_met, "the nodes know each other")
        with with_replica(cluster) as replica, Node(*of_team(cluster)) as node:
            node.ok("POST", "/tasks", {"id": "before", "kind": "greet"})
            assert cluster.nodes[0].admin.wait(1, 20_000) == 1, "the replica has it"
            cluster.nodes[0].kill()
            block_until(is_served, "the replica takes over")
            node.ok("POST", "/tasks", {"id": "after", "kind": "greet"})
            found = ids(node, "team")
            role = replica.admin.info("replication")["role"]

    assert set(statuses) <= {200, 503}
    assert sorted(found) == ["after", "before"]
    assert role == "master"


def of_team(cluster: Cluster) -> tuple[str, ...]:
    """The namespace whose keys lie on the first node."""
    return ("--url", cluster.url, "--namespace", "team")


# TLS


def test_the_engine_is_reached_by_tls_with_an_authority_of_our_own(tmp_path: Path) -> None:
    make_papers(tmp_path)
    with behind_tls(tmp_path, clients="yes") as port:
        url = f"rediss://localhost:{port}/0?ssl_ca_certs={tmp_path}/ca.pem"
        shown = f"&ssl_certfile={tmp_path}/own.pem&ssl_keyfile={tmp_path}/own.key"
        stranger = refused("--url", f"rediss://localhost:{port}/0", "--port", "0")
        unknown = refused("--url", url, "--port", "0")
        with Node("--url", url + shown) as node:
            node.ok("POST", "/tasks", {"id": "t-1", "kind": "greet"})
            node.ok("PUT", "/agents/mira", {})
            (task,) = node.ok("POST", "/tasks/claim", {"agent": "mira"})["claims"]["tasks"]
            ready = node.ok("GET", "/ready")
            code = node.stop()

    assert stranger.returncode == 2
    assert "ssl_ca_certs" in stranger.stderr
    assert unknown.returncode != 0
    assert task["id"] == "t-1"
    assert ready["status"] == "ready"
    assert code == 0
