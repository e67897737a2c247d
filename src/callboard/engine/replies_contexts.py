"""What the functions of contexts refuse, as exceptions with the cure."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from callboard import exceptions as e
from callboard.engine.told import Told


def of_contexts(status: str, facts: Sequence[str], known: Mapping[str, Any]) -> Told | None:
    """What is said of contexts; None where the refusal is about something else."""
    project = known.get("project", "")
    match status:
        case "context_not_found":
            return (
                e.ContextNotFound,
                f"No context {project!r}. It comes into being with its first field: "
                f"callboard context set {project} NAME=VALUE.",
                {},
            )
        case "rev_conflict" if project:
            rev = int(facts[0])
            how = f"{facts[1]!r}" if facts[1] else "somebody"
            said = f"is at revision {rev}, written by {how}" if rev else "is not there"
            return (
                e.RevisionConflict,
                f"Context {project!r} {said}, and not at the revision presented. Nothing was "
                "changed. Read it again, and decide anew.",
                {"rev": rev, "by": facts[1]},
            )
        case "context_full":
            return (
                e.TooLarge,
                f"Context {project!r} would have more than {int(facts[1]):,} {facts[0]}. Nothing "
                "was changed. Remove fields, or split it over several contexts.",
                {"limit": int(facts[1])},
            )
        case "not_a_number":
            return (
                e.NotANumber,
                f"Field {facts[0]!r} of context {project!r} cannot be incremented: it holds no "
                "number, or the sum would be 2^53 or more. Nothing was changed.",
                {"name": facts[0]},
            )
    return None
