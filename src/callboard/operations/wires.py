"""How values travel that several operations take in more forms than JSON has."""

from __future__ import annotations

from typing import Annotated, Any, Final

import msgspec

from callboard.domain.lock import Lock, check_owner
from callboard.domain.message import Group, Role, Topic
from callboard.exceptions import InvalidArgument
from callboard.operations.operation import Wire


def owner_of(owner: Any) -> str | None:
    """The token of an owner, which is a claim or a token already; None stays None."""
    return None if owner is None else check_owner(owner)


def address_sent(to: Any) -> Any:
    """An address as JSON: a name, a list of names, a role, ``#topic``, ``@group``."""
    if isinstance(to, Topic):
        return f"#{to.name}"
    if isinstance(to, Group):
        return f"@{to.value}"
    return to if isinstance(to, str | Role) else list(to)


def address_taken(to: Any) -> Any:
    """The address that JSON names. Raises InvalidArgument where there is no such group."""
    if not isinstance(to, str):
        return to
    if to.startswith("#"):
        return Topic(to[1:])
    if to.startswith("@"):
        try:
            return Group(to[1:])
        except ValueError:
            groups = ", ".join(f"@{one.value}" for one in Group)
            raise InvalidArgument(f"{to!r} is no group: {groups}.", field="to") from None
    return to


def subject_sent(subject: Any) -> str:
    """A resource or a token as it is, a claim by its token."""
    return subject if isinstance(subject, str) else check_owner(subject)


def held_sent(lock: Any) -> Any:
    """A lock as it is, resources as a list."""
    return lock if isinstance(lock, Lock | str) else list(lock)


NAMES_MAX: Final = 1_000
Names = Annotated[list[str], msgspec.Meta(max_length=NAMES_MAX)]
"""What is read at once: a page of names, since each may stand for much."""

OWNER: Final = Wire(str, owner_of)
OWNER_OR_NONE: Final = Wire(str | None, lambda owner: owner_of(owner) if owner else None)
SUBJECT: Final = Wire(str, subject_sent)
HELD: Final = Wire(Lock | list[str] | str, held_sent)
ADDRESS: Final = Wire(str | list[str] | Role, address_sent, address_taken)
