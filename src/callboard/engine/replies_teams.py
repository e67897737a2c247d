"""What the functions of teams and runs refuse, as exceptions with the cure."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from callboard import exceptions as e
from callboard.engine.told import Told


def of_teams(status: str, facts: Sequence[str], known: Mapping[str, Any]) -> Told | None:
    """What is said of runs and teams; None where the refusal is about something else."""
    run, team = known.get("run", ""), known.get("team", "")
    match status:
        case "run_not_found":
            return e.RunNotFound, f"No run {run!r}. List them: callboard runs list.", {}
        case "team_not_found":
            return e.TeamNotFound, f"No team {team!r}. List them: callboard teams list.", {}
        case "lease_lost" if run:
            return e.LeaseLost, f"Run {run} is led by another by now. Stop leading it.", {}
        case "unfinished" if run:
            return (
                e.Refused,
                f"Run {run} has {facts[0]} unfinished tasks, so it does not go on to its answer.",
                {"unfinished": int(facts[0])},
            )
        case "run_conflict":
            return (
                e.IdConflict,
                f"Run id {facts[0]!r} is taken: by a run with another team or request, or by a "
                "board or task of this name. Use another id.",
                {},
            )
        case "illegal_state" if run:
            return (
                e.IllegalState,
                f"Run {run} is in phase {facts[0]}, generation {facts[1]}, which does not allow "
                f"this. See callboard runs show {run}.",
                {"phase": facts[0], "generation": int(facts[1] or 0)},
            )
    return None
