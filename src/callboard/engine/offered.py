"""What installed packages offer to a group of entry points."""

from __future__ import annotations

import logging
from collections.abc import Callable, Collection
from importlib.metadata import EntryPoint, entry_points
from typing import Any, TypeVar

T = TypeVar("T")

log = logging.getLogger("callboard.packages")


class CannotLoad(Exception):
    """What a package offers cannot be used; the text says where it is, and why."""


def offered(
    group: str, taken: Collection[str] = (), plain: Callable[[str], str] = str
) -> dict[str, EntryPoint]:
    """The entry points of a group by name; of a name that is taken, or there twice, the first.

    Args:
        group: As in ``[project.entry-points."callboard.agents"]``.
        taken: Names that no package may have.
        plain: What a name is called by; names alike in it are the same.
    """
    found: dict[str, EntryPoint] = {}
    for point in entry_points(group=group):
        name = plain(point.name)
        if name in taken or name in found:
            log.warning(
                "%r of %s, offered as one of %s, is ignored: there is one of that name already.",
                point.name,
                point.value,
                group,
            )
        else:
            found[name] = point
    return found


def load(point: EntryPoint, check: Callable[[str, Any], T]) -> T:
    """Import what a package offers, and make of it what *check* makes of its name and value.

    Raises:
        CannotLoad: Either raised, whatever that was.
    """
    try:
        return check(point.name, point.load())
    except Exception as error:  # Somebody's package may raise anything.
        raise CannotLoad(
            f"{point.value} cannot be loaded: {type(error).__name__}: {error}"
        ) from error
