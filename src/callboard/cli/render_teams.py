"""How teams look to people."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any, Final

from rich.text import Text

from callboard.cli.render import Column, age, fields, heading, json_text, one_line, table, when
from callboard.services.teams import TeamVersion

_COLUMNS: Final = (
    Column("TEAM"),
    Column("VERSION", right=True),
    Column("SINCE", drop=1, right=True),
    Column("WORKERS", drop=2, shrinks=True),
    Column("ABOUT", drop=3, shrinks=True),
)
_VERSION_COLUMNS: Final = (
    Column("VERSION", right=True),
    Column("SINCE", right=True),
    Column("BY", drop=1, shrinks=True),
    Column("MESSAGE", shrinks=True),
)


def listing(teams: Sequence[TeamVersion], width: int) -> Iterator[str | Text]:
    """Teams, a line each."""
    if not teams:
        yield "No teams yet. Add one: callboard teams add team.yaml"
        yield Text("A file to begin with: callboard init", style="dim")
        return
    rows = (
        (
            team.name,
            team.version,
            age(team.created_at),
            ", ".join(map(str, _said(team).get("workers") or ())),
            one_line(str(_said(team).get("description") or "")),
        )
        for team in teams
    )
    yield from table(_COLUMNS, rows, width)


def versions(found: Sequence[TeamVersion], width: int) -> Iterator[str | Text]:
    """The versions of one team, a line each."""
    rows = (
        (team.version, age(team.created_at), team.created_by, one_line(team.message))
        for team in found
    )
    yield from table(_VERSION_COLUMNS, rows, width)


def whole(team: TeamVersion) -> Iterator[str | Text]:
    """All of one version."""
    said = _said(team)
    first = ("description", "planner", "workers", "synthesizer")
    order = [*first, *(key for key in said if key not in first)]
    yield from fields(
        [
            ("team", team.name),
            ("version", team.version),
            ("added", when(team.created_at)),
            ("by", team.created_by),
            ("message", one_line(team.message)),
            *((key, _shown(said[key])) for key in order if key in said),
        ]
    )
    yield heading("Agents")
    agents: Mapping[str, Any] = team.document.get("agents") or {}
    yield from fields((f"  {name}", _shown(agents[name])) for name in agents)


def _said(team: TeamVersion) -> Mapping[str, Any]:
    return team.document.get("team") or {}


def _shown(value: Any) -> str:
    if isinstance(value, list):
        return ", ".join(_shown(item) for item in value)
    if isinstance(value, Mapping):
        return "; ".join(f"{key}: {_shown(item)}" for key, item in value.items())
    return one_line(value) if isinstance(value, str) else json_text(value)
