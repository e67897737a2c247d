"""How agents look to people."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Final

from rich.text import Text

from callboard.cli.render import Column, age, fields, heading, json_text, status, table, when
from callboard.domain.agent import Agent
from callboard.domain.roster import HeldTask

_COLUMNS: Final = (
    Column("AGENT"),
    Column("STATE"),
    Column("HELD", right=True),
    Column("SLOTS", drop=2, right=True),
    Column("HEALTH", drop=1, right=True),
    Column("HEARD", drop=3, right=True),
    Column("CAPABILITIES", drop=4, shrinks=True),
)
_HELD: Final = (
    Column("TASK"),
    Column("BOARD", shrinks=True),
    Column("FENCE", drop=1, right=True),
)
_PROCESSES: Final = (
    Column("PROCESS"),
    Column("SLOTS", drop=1, right=True),
    Column("HEARD", right=True),
    Column("PID", drop=2, right=True),
    Column("HOST", drop=3, shrinks=True),
)


def listing(agents: Sequence[Agent], width: int, is_filtered: bool) -> Iterator[str | Text]:
    """A line an agent."""
    if not agents:
        yield (
            "No agents match."
            if is_filtered
            else "No agents. Start a worker: callboard worker module:app"
        )
        return
    yield from table(_COLUMNS, (_row(agent) for agent in agents), width)


def _row(agent: Agent) -> tuple[object, ...]:
    return (
        agent.id,
        agent.state,
        agent.held,
        agent.slots,
        f"{agent.health:.2f}",
        age(agent.last_heartbeat, agent.at),
        ", ".join(agent.capabilities),
    )


def whole(agent: Agent, width: int) -> Iterator[str | Text]:
    """All of an agent."""
    yield Text().append(agent.id, style="bold").append("  ").append_text(status(agent.state))
    yield agent.reason
    yield from fields(_facts(agent))
    if agent.instances:
        yield heading("Processes")
        rows = (
            (one.id, one.max_concurrent, age(one.last_heartbeat, agent.at), one.pid or "", one.host)
            for one in agent.instances
        )
        yield from table(_PROCESSES, rows, width)


def held(agent: str, tasks: Sequence[HeldTask], width: int) -> Iterator[str | Text]:
    """A line a task that the agent holds."""
    if not tasks:
        yield f"{agent} holds no task. What waits: callboard boards list"
        return
    yield from table(_HELD, ((task.id, task.board, task.fence) for task in tasks), width)


def _facts(agent: Agent) -> list[tuple[str, object]]:
    return [
        ("type", agent.agent_type),
        ("declared", agent.declared),
        ("health", f"{agent.health:.2f}"),
        ("holds", f"{agent.held} of at most {agent.capacity}, runs {agent.slots} at once"),
        ("parked", agent.parked or None),
        ("reserved", agent.reserved or None),
        ("undelivered", f"{agent.undelivered} in a row" if agent.undelivered else None),
        ("weight", f"{agent.weight:g}" if agent.weight != 1 else None),
        ("priority", agent.priority or None),
        ("capabilities", ", ".join(agent.capabilities)),
        ("services", ", ".join(agent.services)),
        ("labels", ", ".join(f"{key}={value}" for key, value in agent.labels.items())),
        ("kinds", ", ".join(agent.kinds)),
        ("tags", ", ".join(agent.tags)),
        ("endpoints", ", ".join(f"{key} {value}" for key, value in agent.endpoints.items())),
        ("load", ", ".join(f"{key} {value:g}" for key, value in agent.load.items())),
        ("metadata", json_text(agent.metadata) if agent.metadata else None),
        ("version", agent.version),
        ("heard", when(agent.last_heartbeat)),
        ("registered", when(agent.registered_at)),
        (agent.gone or "gone", when(agent.gone_at)),
    ]
