"""What the functions of agents refuse, as exceptions with the cure."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from callboard import exceptions as e
from callboard.engine.told import Told


def of_agents(status: str, facts: Sequence[str], known: Mapping[str, Any]) -> Told | None:
    """What is said of agents; None where the refusal is about something else."""
    first, agent = facts[0], known.get("agent", "")
    match status:
        case "agent_not_found":
            return (
                e.AgentNotFound,
                f"No agent {agent!r} is registered. Register it first: "
                f"cb.agents.register({agent!r}).",
                {},
            )
        case "instance_unknown":
            return (
                e.AgentNotFound,
                f"Agent {agent!r} has no such instance: it was silent too long and its work was "
                "given back. Register it again.",
                {},
            )
        case "too_many_instances":
            return (
                e.Refused,
                f"Agent {agent!r} has {first} live instances, its maximum. Stop some, or use "
                "another agent name.",
                {},
            )
        case "agent_full":
            return (
                e.AgentFull,
                f"Agent {agent!r} holds as many tasks as it declared that it can. "
                "Finish some, or register it with a higher max_concurrent.",
                {},
            )
        case "agent_draining":
            return (
                e.AgentDraining,
                f"Agent {agent!r} is {first or 'draining'} and takes no new work. "
                "Set it active again: callboard agents activate.",
                {"status": first},
            )
    return None
