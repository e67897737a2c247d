"""What the functions of conflicts refuse, as exceptions with the cure."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from callboard import exceptions as e
from callboard.engine.told import Told


def of_conflicts(status: str, facts: Sequence[str], known: Mapping[str, Any]) -> Told | None:
    """What is said of conflicts; None where the refusal is about something else."""
    conflict = known.get("conflict", "")
    if not conflict:
        return None
    told = _not_possible(conflict, status, facts) or _not_now(conflict, status, facts)
    return told or _no_vote(conflict, status, facts, known)


def _not_possible(conflict: str, status: str, facts: Sequence[str]) -> Told | None:
    match status:
        case "conflict_not_found":
            return (
                e.ConflictNotFound,
                f"No conflict {conflict!r}. List them: callboard conflicts list.",
                {},
            )
        case "conflict_id_taken":
            return (
                e.IdConflict,
                f"Conflict id {conflict!r} was reported before, otherwise. Use another id.",
                {},
            )
        case "too_many_conflicts":
            return (
                e.Refused,
                f"{int(facts[0]):,} conflicts are open, the maximum. Resolve some first: "
                "callboard conflicts list.",
                {"limit": int(facts[0])},
            )
        case "nobody_is_current":
            return (
                e.RevisionConflict,
                f"No party of conflict {conflict} presents the current revision {facts[0]}. "
                "Nothing was decided. Decide it by another strategy.",
                {"rev": int(facts[0])},
            )
        case "no_value":
            return (
                e.MissingInput,
                f"Party {facts[0]!r} of conflict {conflict} brought no value, so it cannot win "
                "one that is about a value. Report it with Party(value=...).",
                {"missing": [facts[0]]},
            )
        case "not_a_party":
            return (
                e.NotAParty,
                f"That is no party of conflict {conflict}. Its parties: callboard conflicts show "
                f"{conflict}.",
                {},
            )
    return None


def _not_now(conflict: str, status: str, facts: Sequence[str]) -> Told | None:
    match status:
        case "already_resolved":
            how = f"for {facts[0]!r} by {facts[1]}" if facts[0] else f"as {facts[1]}"
            return (
                e.AlreadyResolved,
                f"Conflict {conflict} was decided {how}, which is final.",
                {"winner": facts[0], "strategy": facts[1]},
            )
        case "conflict_busy":
            where = "is being voted on" if facts[0] == "voting" else "lies with an arbiter"
            return (
                e.ConflictBusy,
                f"Conflict {conflict} {where}. Wait until that is over, or decide it with force.",
                {"status": facts[0], "until_ms": int(facts[1] or 0)},
            )
        case "not_arbiter":
            whose = f"lies with {facts[0]!r}" if facts[0] else "was referred to nobody"
            return (
                e.NotEntitled,
                f"Conflict {conflict} {whose}, so only they decide it.",
                {"arbiter": facts[0]},
            )
    return None


def _no_vote(
    conflict: str, status: str, facts: Sequence[str], known: Mapping[str, Any]
) -> Told | None:
    voter = known.get("voter", "")
    match status:
        case "no_electorate":
            return (
                e.MissingInput,
                f"Nobody could vote on conflict {conflict}: no agent may claim just now. "
                "Give members.",
                {"missing": ["members"]},
            )
        case "electorate_too_large":
            return (
                e.TooLarge,
                f"More than {int(facts[0]):,} agents are active. Give the members of the ballot.",
                {"limit": int(facts[0])},
            )
        case "not_a_member":
            return (
                e.NotEntitled,
                f"{voter!r} may not vote on conflict {conflict}: who may was fixed when the "
                "ballot was opened.",
                {},
            )
        case "already_voted":
            return (
                e.AlreadyVoted,
                f"{voter!r} has voted for {facts[0] or 'none of the parties'} on conflict "
                f"{conflict}, and this ballot takes no change.",
                {"candidate": facts[0]},
            )
        case "vote_closed":
            why = "its deadline has passed" if facts[0] == "over" else f"it is {facts[0]}"
            return e.VoteClosed, f"Conflict {conflict} takes no votes: {why}.", {"status": facts[0]}
    return None
