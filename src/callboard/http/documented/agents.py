"""Agents over the documented routes: registered, found, heard, declared."""

from __future__ import annotations

from typing import Any, Final, cast
from urllib.parse import urlsplit

import msgspec

from callboard.domain.agent import STATUSES, Agent, AgentSpec, push_address
from callboard.domain.names import LABEL_VALUE, NAME
from callboard.http import errors
from callboard.http.documented.shapes import (
    LIST_MAX,
    Done,
    InvalidAnswer,
    Refusal,
    act_as,
    answer,
    caller_name,
    documented,
    iso,
    sent,
    unusable,
)
from callboard.http.route import Call, Reply, Route
from callboard.outgoing import AddressRules, fault_of, literal, refusal

TYPES: Final = (
    "coordinator", "worker", "specialist", "monitor", "gateway", "orchestrator",
    "inference", "training", "processing", "provider", "consumer", "general",
)  # fmt: skip
"""Every type that the source documents; ``PUT /agents/{agent}`` takes any name."""

HEARTBEAT_SECONDS: Final = 40.0
"""Three of them are the documented 120 s after which a silent agent is inactive."""

PLACES: Final = ("chain_id", "island_id")
"""Where an agent belongs to, kept as labels: who asks for none finds all."""


class RegisterAgent(msgspec.Struct, kw_only=True):
    """An agent to register; again is an update.

    Attributes:
        endpoints: Addresses by protocol; tasks are pushed to ``http``.
        tags: For discovery.
        chain_id, island_id: Where it belongs to; kept as labels.
        kinds: The kinds of task it handles; all where empty.
        max_concurrent: Tasks it may hold at once.
        heartbeat_interval: Seconds; after three without a sign of it, it is inactive.
        weight, priority: Its share of the work, and who is chosen first of equal ones.
    """

    agent_id: str
    agent_type: str
    capabilities: list[str] = []
    services: list[str] = []
    endpoints: dict[str, str] = {}
    metadata: dict[str, Any] = {}
    tags: list[str] = []
    chain_id: str | None = None
    island_id: str | None = None
    kinds: list[str] = []
    version: str = "1.0.0"
    max_concurrent: int = 100
    heartbeat_interval: float = HEARTBEAT_SECONDS
    weight: float = 1.0
    priority: int = 0


class Registered(Done, frozen=True, kw_only=True):
    """The agent is on the roster."""

    message: str
    agent_id: str
    registered_at: str


class AgentShape(msgspec.Struct, frozen=True, kw_only=True):
    """An agent with the documented names."""

    agent_id: str
    agent_type: str
    status: str
    capabilities: tuple[str, ...]
    services: tuple[str, ...]
    endpoints: dict[str, str]
    metadata: dict[str, Any]
    last_heartbeat: str
    registration_time: str
    load_metrics: dict[str, float]
    health_score: float
    version: str
    tags: tuple[str, ...]
    chain_id: str | msgspec.UnsetType = msgspec.UNSET
    island_id: str | msgspec.UnsetType = msgspec.UNSET


class Discover(msgspec.Struct, kw_only=True):
    """What is asked for; unknown names are ignored, and come back in ``query``."""

    agent_type: Any = None
    status: Any = None
    capabilities: list[str] | None = None
    services: list[str] | None = None
    tags: list[str] | None = None
    min_health_score: float | None = None
    limit: int | None = None
    chain_id: str | None = None
    island_id: str | None = None


class Discovered(Done, frozen=True, kw_only=True):
    """The agents that have all of it, healthiest first; at most 1,000."""

    query: dict[str, Any]
    agents: list[AgentShape]
    count: int
    timestamp: str


class OneAgent(Done, frozen=True, kw_only=True):
    """One agent."""

    agent: AgentShape
    timestamp: str


class ByService(Done, frozen=True, kw_only=True):
    """The agents that offer a service."""

    service: str
    agents: list[AgentShape]
    count: int
    timestamp: str


class ByCapability(Done, frozen=True, kw_only=True):
    """The agents that have a capability."""

    capability: str
    agents: list[AgentShape]
    count: int
    timestamp: str


class DeclareStatus(msgspec.Struct, kw_only=True):
    """What an agent says of itself; ``load_metrics`` are merged into what it said before."""

    status: str
    load_metrics: dict[str, float] = {}


class Declared(Done, frozen=True, kw_only=True):
    """The agent's new status."""

    message: str
    agent_id: str
    new_status: str
    updated_at: str


class Heartbeat(Done, frozen=True, kw_only=True):
    """The agent was heard."""

    message: str
    agent_id: str
    heartbeat_at: str


class RegistryStats(msgspec.Struct, frozen=True, kw_only=True):
    """How many agents are known, and what they offer."""

    total_agents: int
    status_counts: dict[str, int]
    type_counts: dict[str, int]
    service_count: int
    capability_count: int
    last_cleanup: str


class Registry(Done, frozen=True, kw_only=True):
    """The roster in numbers."""

    stats: RegistryStats
    timestamp: str


_register = msgspec.json.Decoder(RegisterAgent)
_free = msgspec.json.Decoder(dict[str, Any])
_declare = msgspec.json.Decoder(DeclareStatus)


async def register(call: Call) -> Reply:
    """Enter an agent into the roster, or update it."""
    given = await sent(call, _register)
    if given.agent_type not in TYPES:
        detail = f"{given.agent_type!r} is not a valid AgentType"
        raise Refusal(errors.refused(422, detail, "invalid_argument", {"known": list(TYPES)}))
    act_as(call, given.agent_id)
    spec = AgentSpec(
        id=given.agent_id,
        agent_type=given.agent_type,
        capabilities=tuple(given.capabilities),
        services=tuple(given.services),
        endpoints=given.endpoints,
        metadata=given.metadata,
        tags=tuple(given.tags),
        labels={place: value for place in PLACES if (value := getattr(given, place))},
        kinds=tuple(given.kinds),
        version=given.version,
        max_concurrent=given.max_concurrent,
        heartbeat_interval=given.heartbeat_interval,
        weight=given.weight,
        priority=given.priority,
    )
    _check_reach(call, push_address(spec.endpoints))
    registration = await (await call.board()).agents.register(spec)
    return answer(
        Registered(
            message=f"Agent {spec.id} registered successfully",
            agent_id=spec.id,
            registered_at=iso(registration.at),
        )
    )


def _check_reach(call: Call, address: str) -> None:
    """Refuse an address of the own link or of cloud metadata, which is never pushed to."""
    host = "" if fault_of(address) else urlsplit(address).hostname or ""
    written = literal(host)
    if written is not None:
        dispatch = call.coordinator.settings.dispatch
        if AddressRules(dispatch.allow if dispatch else ()).is_refused(host, written):
            raise unusable(
                "endpoints", f"{refusal(host, written)} For a coordinator: --push-allow."
            )


async def discover(call: Call) -> Reply:
    """Find the agents that have all of what the body asks for."""
    query = _free.decode(await call.body())
    found = await find(call, msgspec.convert(query, Discover))
    return answer(Discovered(query=query, agents=found, count=len(found), timestamp=errors.now()))


async def get(call: Call) -> Reply:
    """Read one agent."""
    agent = await (await call.board()).agents.get(call.path["agent_id"])
    return answer(OneAgent(agent=shape_of(agent), timestamp=errors.now()))


async def by_service(call: Call) -> Reply:
    """Find the agents that offer a service."""
    service = call.path["service"]
    found = await find(call, Discover(services=[service]))
    return answer(
        ByService(service=service, agents=found, count=len(found), timestamp=errors.now())
    )


async def by_capability(call: Call) -> Reply:
    """Find the agents that have a capability."""
    capability = call.path["capability"]
    found = await find(call, Discover(capabilities=[capability]))
    return answer(
        ByCapability(capability=capability, agents=found, count=len(found), timestamp=errors.now())
    )


async def declare(call: Call) -> Reply:
    """Declare an agent's status, and merge what it reports of its load."""
    given = await sent(call, _declare)
    agent_id = call.path["agent_id"]
    act_as(call, agent_id)
    await (await call.board()).agents.set_status(
        agent_id, given.status, by=caller_name(call), load=given.load_metrics or None
    )
    return answer(
        Declared(
            message=f"Agent {agent_id} status updated to {given.status}",
            agent_id=agent_id,
            new_status=given.status,
            updated_at=errors.now(),
        )
    )


async def heartbeat(call: Call) -> Reply:
    """Note that an agent lives; what it declared stays."""
    agent_id = call.path["agent_id"]
    act_as(call, agent_id)
    heard = await (await call.board()).agents.heartbeat(agent_id)
    return answer(
        Heartbeat(
            message=f"Heartbeat received from {agent_id}",
            agent_id=agent_id,
            heartbeat_at=iso(heard.at),
        )
    )


async def registry_stats(call: Call) -> Reply:
    """Count the agents by status and type."""
    census = await (await call.board()).agents.census()
    now = errors.now()
    stats = RegistryStats(
        total_agents=census.total,
        status_counts=census.statuses,
        type_counts=census.types,
        service_count=census.services,
        capability_count=census.capabilities,
        last_cleanup=now,
    )
    return answer(Registry(stats=stats, timestamp=now))


def shape_of(agent: Agent) -> AgentShape:
    """An agent with the documented names."""
    return AgentShape(
        agent_id=agent.id,
        agent_type=agent.agent_type,
        status=agent.status,
        capabilities=agent.capabilities,
        services=agent.services,
        endpoints=agent.endpoints,
        metadata=agent.metadata,
        last_heartbeat=iso(agent.last_heartbeat or agent.registered_at),
        registration_time=iso(agent.registered_at),
        load_metrics=agent.load,
        health_score=agent.health,
        version=agent.version,
        tags=agent.tags,
        chain_id=agent.labels.get("chain_id", msgspec.UNSET),
        island_id=agent.labels.get("island_id", msgspec.UNSET),
    )


async def find(call: Call, asked: Discover) -> list[AgentShape]:
    """The agents; each is the JSON of its shape already, which the engine makes."""
    limit = _limit_of(asked.limit)
    if limit == 0 or not _can_match(asked):
        return []
    found = await (await call.board()).agents.documents(
        agent_type=asked.agent_type or "",
        status=asked.status or "",
        capabilities=asked.capabilities or (),
        services=asked.services or (),
        tags=asked.tags or (),
        labels={place: value for place in PLACES if (value := getattr(asked, place))},
        min_health=max(asked.min_health_score or 0.0, 0.0),
        limit=limit,
    )
    return cast("list[AgentShape]", list(found))


def _limit_of(limit: int | None) -> int:
    if limit is not None and limit < 0:
        raise unusable("limit", "limit is below 0")
    return LIST_MAX if limit is None else min(limit, LIST_MAX)


def _can_match(asked: Discover) -> bool:
    """Whether an agent could have all of it: what is no name at all is nobody's."""
    for word in (asked.agent_type, asked.status):
        if word is not None and not (isinstance(word, str) and (not word or NAME.fullmatch(word))):
            return False
    if asked.status and asked.status not in STATUSES:
        return False
    names = [*(asked.capabilities or ()), *(asked.services or ())]
    values = [*(asked.tags or ()), *(getattr(asked, place) or "-" for place in PLACES)]
    return (
        all(NAME.fullmatch(name) for name in names)
        and all(LABEL_VALUE.fullmatch(value) for value in values)
        and (asked.min_health_score or 0.0) <= 1.0
    )


def routes() -> list[Route]:
    """The documented routes of agents and their registry."""
    tag = "agents"
    return [
        documented(
            *("POST", "/agents/register", register, Registered),
            role="work",
            summary="Enter an agent into the roster, or update it.",
            tag=tag,
            body=RegisterAgent,
            others={422: InvalidAnswer},
        ),
        documented(
            *("POST", "/agents/discover", discover, Discovered),
            role="read",
            summary="Find the agents that have all of what is asked for.",
            tag=tag,
            body=Discover,
        ),
        documented(
            *("GET", "/agents/{agent_id}", get, OneAgent),
            role="read",
            summary="Read one agent.",
            tag=tag,
        ),
        documented(
            *("PUT", "/agents/{agent_id}/status", declare, Declared),
            role="work",
            summary="Declare an agent's status, and merge what it reports of its load.",
            tag=tag,
            body=DeclareStatus,
        ),
        documented(
            *("POST", "/agents/{agent_id}/heartbeat", heartbeat, Heartbeat),
            role="work",
            summary="Note that an agent lives; what it declared stays.",
            tag=tag,
        ),
        documented(
            *("GET", "/agents/service/{service}", by_service, ByService),
            role="read",
            summary="Find the agents that offer a service.",
            tag=tag,
        ),
        documented(
            *("GET", "/agents/capability/{capability}", by_capability, ByCapability),
            role="read",
            summary="Find the agents that have a capability.",
            tag=tag,
        ),
        documented(
            *("GET", "/registry/stats", registry_stats, Registry),
            role="read",
            summary="Count the agents by status and type.",
            tag=tag,
        ),
    ]
