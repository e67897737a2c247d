"""Teams: a planner, workers and a synthesizer that turn a request into an answer.

The names below are imported when they are first used: what a team's own code needs of them,
the requests, must not bring the rest with it.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from callboard.teams.agents import Agent, Invocation, Kind
    from callboard.teams.document import TeamDocument, read_document, team_of
    from callboard.teams.host import Host
    from callboard.teams.requests import (
        Outcome,
        Outline,
        PlanRequest,
        SynthesisRequest,
        TaskNote,
        WorkRequest,
    )

_HOMES = {
    "Agent": "agents",
    "Host": "host",
    "Invocation": "agents",
    "Kind": "agents",
    "Outcome": "requests",
    "Outline": "requests",
    "PlanRequest": "requests",
    "SynthesisRequest": "requests",
    "TaskNote": "requests",
    "TeamDocument": "document",
    "WorkRequest": "requests",
    "read_document": "document",
    "team_of": "document",
}

__all__ = [
    "Agent",
    "Host",
    "Invocation",
    "Kind",
    "Outcome",
    "Outline",
    "PlanRequest",
    "SynthesisRequest",
    "TaskNote",
    "TeamDocument",
    "WorkRequest",
    "read_document",
    "team_of",
]


def __getattr__(name: str) -> Any:
    home = _HOMES.get(name)
    if home is None:
        raise AttributeError(f"module 'callboard.teams' has no attribute {name!r}")
    value = getattr(import_module(f"callboard.teams.{home}"), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
