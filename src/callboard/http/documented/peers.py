"""Peers over the documented routes: who may write to whom by ``peer_to_peer``."""

from __future__ import annotations

import msgspec

from callboard.http import errors
from callboard.http.documented.shapes import (
    Done,
    act_as,
    answer,
    asked,
    caller_name,
    documented,
)
from callboard.http.route import Call, Reply, Route


class Pair(msgspec.Struct, kw_only=True):
    """An agent and its peer."""

    agent_id: str
    peer_id: str


class Added(Done, frozen=True, kw_only=True):
    """The agent may write to the peer."""

    message: str
    agent_id: str
    peer_id: str
    connected_at: str


class Removed(Done, frozen=True, kw_only=True):
    """The agent may not write to the peer any more."""

    message: str
    agent_id: str
    peer_id: str
    removed_at: str


class PeersOf(Done, frozen=True, kw_only=True):
    """The peers of an agent."""

    agent_id: str
    peers: list[str]
    count: int
    timestamp: str


class AllPeers(Done, frozen=True, kw_only=True):
    """The peers of all agents; at most 10,000 pairs."""

    connections: dict[str, list[str]]
    total_agents: int
    total_peers: int
    timestamp: str


PAIRS_MOST = 10_000


async def add(call: Call) -> Reply:
    """Let an agent write to another by ``peer_to_peer``."""
    given = asked(call, Pair)
    act_as(call, given.agent_id)
    messages = (await call.board()).messages
    await messages.add_peer(given.agent_id, given.peer_id, by=caller_name(call))
    return answer(
        Added(
            message=f"Peer {given.peer_id} added to agent {given.agent_id}",
            agent_id=given.agent_id,
            peer_id=given.peer_id,
            connected_at=errors.now(),
        )
    )


async def remove(call: Call) -> Reply:
    """Undo that; also where there was nothing to undo."""
    given = asked(call, Pair)
    act_as(call, given.agent_id)
    messages = (await call.board()).messages
    await messages.remove_peer(given.agent_id, given.peer_id, by=caller_name(call))
    return answer(
        Removed(
            message=f"Peer {given.peer_id} removed from agent {given.agent_id}",
            agent_id=given.agent_id,
            peer_id=given.peer_id,
            removed_at=errors.now(),
        )
    )


async def of_agent(call: Call) -> Reply:
    """The peers of one agent."""
    agent_id = call.path["agent_id"]
    found = await (await call.board()).messages.peers(agent_id, limit=PAIRS_MOST)
    peers = [link.name for link in found]
    return answer(PeersOf(agent_id=agent_id, peers=peers, count=len(peers), timestamp=errors.now()))


async def of_all(call: Call) -> Reply:
    """The peers of all agents."""
    connections: dict[str, list[str]] = {}
    for link in await (await call.board()).messages.peers(limit=PAIRS_MOST):
        connections.setdefault(link.agent, []).append(link.name)
    return answer(
        AllPeers(
            connections=connections,
            total_agents=len(connections),
            total_peers=sum(map(len, connections.values())),
            timestamp=errors.now(),
        )
    )


def routes() -> list[Route]:
    """The documented routes of peers."""
    tag = "messages"
    return [
        documented(
            *("POST", "/peers/add", add, Added),
            role="work",
            summary="Let an agent write to another by peer_to_peer.",
            tag=tag,
            query=Pair,
        ),
        documented(
            *("POST", "/peers/remove", remove, Removed),
            role="work",
            summary="Let an agent not write to another by peer_to_peer any more.",
            tag=tag,
            query=Pair,
        ),
        documented(
            *("GET", "/peers/{agent_id}", of_agent, PeersOf),
            role="read",
            summary="The peers of one agent.",
            tag=tag,
        ),
        documented(
            *("GET", "/peers", of_all, AllPeers),
            role="read",
            summary="The peers of all agents.",
            tag=tag,
        ),
    ]
