"""What the functions of boards refuse, as exceptions with the cure."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from callboard import exceptions as e
from callboard.engine.told import Told


def of_boards(status: str, facts: Sequence[str], known: Mapping[str, Any]) -> Told | None:
    """What is said of boards; None where the refusal is about something else."""
    first, second = facts[0], facts[1]
    board = known.get("board", "")
    match status:
        case "board_not_found":
            return (
                e.BoardNotFound,
                f"No board {board!r}. A board comes into being with its first task.",
                {},
            )
        case "board_full":
            return (
                e.BoardFull,
                f"Board {board!r} holds {second} unfinished tasks of at most {first}. "
                "Let agents work some off, or raise its limit: callboard boards set.",
                {"limit": int(first or 0)},
            )
        case "too_many_lanes":
            return (
                e.TooManyLanes,
                f"Board {board!r} has {first} different combinations of kind and requirements "
                "waiting, its maximum. Use fewer distinct kinds and requirements; data belongs in "
                "the payload.",
                {"limit": int(first or 0)},
            )
        case "unfinished":
            return (
                e.Refused,
                f"Board {board!r} has {first} unfinished tasks. Let them end, or cancel them, "
                "before it is removed.",
                {"unfinished": int(first or 0)},
            )
        case "board_closed":
            return (
                e.BoardClosed,
                f"Board {board!r} is closed: the run that it belongs to has ended. "
                f"Retry the run, which opens it again: callboard runs retry {board}.",
                {},
            )
        case "paused" if first == "closed":
            return (
                e.BoardPaused,
                f"Nothing is claimed from board {board!r}: the run that it belongs to has ended. "
                f"Retry the run, which opens it again: callboard runs retry {board}.",
                {},
            )
        case "paused":
            return (
                e.BoardPaused,
                f"Board {board!r} is paused. Resume it: callboard boards resume {board}.",
                {},
            )
        case "at_limit":
            cause, cure = (
                ("gave out as many claims as it may", "Raise its claims_most")
                if first == "claims_most"
                else ("has as many tasks held at once as it may", "Wait, or raise its concurrency")
            )
            return (
                e.AtLimit,
                f"Board {board!r} {cause}. {cure}: callboard boards set {board}.",
                {"limit": first},
            )
        case "step_fixed":
            return (
                e.Refused,
                f"Board {board!r} was created with a priority step of "
                f"{int(float(first or 0)) / 1e6:g} s, which "
                "cannot be changed. Create another board.",
                {},
            )
    return None
