"""What the functions of API keys refuse, with the cure."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from callboard import exceptions as e
from callboard.engine.told import Told


def of_access(status: str, facts: Sequence[str], known: Mapping[str, Any]) -> Told | None:
    """What is said of API keys and tickets; None where it is about something else."""
    key = known.get("api_key", "")
    match status:
        case "api_key_not_found":
            return e.ApiKeyNotFound, f"No API key {key!r}. List them: callboard keys list.", {}
        case "too_many_api_keys":
            return (
                e.TooLarge,
                f"There are {int(facts[0]):,} API keys that hold, the maximum. Revoke one that "
                "nobody needs: callboard keys list.",
                {"limit": int(facts[0])},
            )
        case "id_conflict" if key:
            return e.IdConflict, f"API key {key!r} is there already, and is another one.", {}
        case "ticket_not_found":
            return (
                e.NotAuthenticated,
                "The ticket does not hold: each can be used once, within a minute. Ask for "
                "another: POST /tickets.",
                {},
            )
    return None
