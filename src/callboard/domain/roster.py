"""What the roster of agents is told, and what it answers."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime

import msgspec


class Registration(msgspec.Struct, frozen=True, kw_only=True):
    """What became of a registration.

    Attributes:
        is_new: The agent was not known before.
        revision: Rises with each change of what the agent can serve.
        status: ``draining`` or ``maintenance`` outlive a registration: nothing is given then.
        at: By the engine's clock.
    """

    agent: str
    instance: str
    is_new: bool
    revision: int
    status: str
    at: datetime


class Beat(msgspec.Struct, frozen=True):
    """A heartbeat to hand in: the agent, its instance, and the load it reports."""

    agent: str
    instance: str = ""
    load: Mapping[str, float] | None = None


class Heard(msgspec.Struct, frozen=True):
    """The answer to a heartbeat.

    Attributes:
        status: ``ok``, ``drain`` (ok too: take no new work), ``agent_not_found``, or
            ``instance_unknown`` (it was swept, and must register again).
    """

    agent: str
    instance: str
    status: str
    at: datetime

    @property
    def is_ok(self) -> bool:
        """Heard."""
        return self.status in ("ok", "drain")

    @property
    def should_drain(self) -> bool:
        """The agent was asked to take no new work."""
        return self.status == "drain"


class HeldTask(msgspec.Struct, frozen=True):
    """A task that an agent holds, and the fence under which it does."""

    board: str
    id: str
    fence: int


class AgentCounts(msgspec.Struct, frozen=True):
    """How many agents are known, and how many of them may claim."""

    total: int
    active: int


class Census(msgspec.Struct, frozen=True, kw_only=True):
    """How many agents are known, and what they offer between them.

    Attributes:
        statuses: Agents by documented status, as they were settled last.
        types: Agents by type; at most 1,000 types.
        services: Distinct services.
        capabilities: Distinct capabilities.
    """

    total: int
    statuses: dict[str, int]
    types: dict[str, int]
    services: int
    capabilities: int
