"""From a function's status word to the exception that says the same, with the cure."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NoReturn

from callboard import exceptions as e
from callboard.engine.replies_access import of_access
from callboard.engine.replies_agents import of_agents
from callboard.engine.replies_boards import of_boards
from callboard.engine.replies_breakers import of_breakers
from callboard.engine.replies_conflicts import of_conflicts
from callboard.engine.replies_contexts import of_contexts
from callboard.engine.replies_flow import of_flow
from callboard.engine.replies_locks import of_locks
from callboard.engine.replies_messages import of_messages
from callboard.engine.replies_tasks import of_tasks
from callboard.engine.replies_teams import of_teams
from callboard.engine.told import Told


def words(reply: Sequence[Any]) -> list[str]:
    """The scalar parts of a refusal as text."""
    return [part.decode() if isinstance(part, bytes) else str(part) for part in reply]


def raise_refusal(status: str, reply: Sequence[Any] = (), **context: Any) -> NoReturn:
    """Raise the exception of *status*.

    Args:
        status: The status word of a function or of one item.
        reply: The whole reply, where the status is its first part: the facts follow it.
        context: What the caller knows: ``task``, ``agent``, ``board``, …

    Raises:
        CallboardError: The narrowest class for the status, always.
    """
    facts = words([part for part in reply[1:] if not isinstance(part, list)])
    facts += [""] * (4 - len(facts))
    kind, message, details = (
        of_conflicts(status, facts, context)
        or of_contexts(status, facts, context)
        or of_locks(status, facts, context)
        or of_messages(status, facts, context)
        or of_breakers(status, facts, context)
        or of_flow(status, facts, context)
        or of_access(status, facts, context)
        or of_teams(status, facts, context)
        or of_tasks(status, facts, context)
        or of_boards(status, facts, context)
        or of_agents(status, facts, context)
        or _of_engine(status, facts)
    )
    raise kind(message, **{**context, **details})


def _of_engine(status: str, facts: Sequence[str]) -> Told:
    """What is said of a namespace as a whole, and of a word that nothing is known of."""
    match status:
        case "error_not_found":
            return (
                e.ErrorNotFound,
                "No error with this fingerprint was recorded in the last 90 days. "
                "List them: callboard errors groups.",
                {},
            )
        case "too_many_series":
            return (
                e.TooLarge,
                f"{facts[0]} names of metrics have settings, the maximum. Use tags instead of "
                "names.",
                {"limit": int(facts[0] or 0)},
            )
        case "newer_format":
            return (
                e.NewerFormat,
                f"This namespace was written in format {facts[0]}, newer than this release can "
                "read. Install a newer release of Callboard.",
                {},
            )
        case "no_namespace":
            return (
                e.EngineError,
                "The namespace is gone from the engine (flushed, or another database). Connect "
                "again.",
                {},
            )
        case _:
            return (
                e.Refused,
                f"The engine refused with {status!r} ({', '.join(filter(None, facts))}).",
                {},
            )
