"""Locks: what can be locked, who can own it, and what is told of holders, waits and cycles.

A resource is a name, or a pattern over names. A name is cut behind each ``/`` and ``:``; in a
pattern ``**`` stands for any number of such parts, ``*`` and ``?`` for characters within one.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from datetime import datetime
from functools import cache, lru_cache
from typing import Any, Final, Literal, get_args

import msgspec

from callboard.domain.names import check_name
from callboard.exceptions import InvalidArgument

LockMode = Literal["exclusive", "shared", "semaphore"]
MODES: Final[tuple[str, ...]] = get_args(LockMode)
LETTERS: Final = {"exclusive": "x", "shared": "s", "semaphore": "p"}
MODE_OF: Final[dict[str, LockMode]] = {"x": "exclusive", "s": "shared", "p": "semaphore"}

WAIT_DEFAULT: Final = 30.0
"""Seconds: the documented default of ``resourceTimeout``."""

WAIT_MAX: Final = 86_400.0
LEASE_DEFAULT: Final = 30.0
LEASE_MIN: Final = 0.1
LEASE_MAX: Final = 3_600.0
RESOURCES_MAX: Final = 100
PERMITS_MAX: Final = 1_000
RESOURCE_BYTES_MAX: Final = 512
PARTS_MAX: Final = 64
WILDCARDS_MAX: Final = 8
"""In one pattern: they bound what comparing two patterns costs."""

_RESOURCE: Final = re.compile(r"[^\x00-\x1f\x7f|,~][^\x00-\x1f\x7f|,]*")
_OWNER: Final = re.compile(r"[A-Za-z0-9._:/@+-]{1,300}")
_CLAIM: Final = re.compile(r"claim:([^:]+):([^:]+):([0-9]+)")
_PART: Final = re.compile(r"[^/:]*[/:]|[^/:]+")


class Lock(msgspec.Struct, frozen=True, kw_only=True):
    """What an acquisition granted: all of its resources, under one owner.

    Attributes:
        fence: The number to present with writes outside: it rises with every grant. The
            newest of *fences*, where the owner held some of the resources before.
        fences: The fence of each resource.
        deadline: By the engine's clock; without a renewal others may get it then.
    """

    owner: str
    resources: tuple[str, ...]
    mode: LockMode
    fence: int
    fences: dict[str, int]
    deadline: datetime
    lease: float
    agent: str = ""


class LockHolder(msgspec.Struct, frozen=True, kw_only=True):
    """One who holds a resource.

    Attributes:
        count: How often its owner acquired it and has not released it.
        is_handed: It was handed over to a waiter that has not taken it up yet.
    """

    owner: str
    agent: str
    mode: LockMode
    count: int
    fence: int
    since: datetime
    deadline: datetime
    is_handed: bool = False


class LockWait(msgspec.Struct, frozen=True, kw_only=True):
    """One who waits for resources, all of them or none.

    Attributes:
        has_reserved: It waited so long that nobody behind it in line overtakes it any more.
        deadline: When it gives up.
    """

    owner: str
    agent: str
    mode: LockMode
    resources: tuple[str, ...]
    priority: int
    since: datetime
    deadline: datetime
    has_reserved: bool = False


class Resource(msgspec.Struct, frozen=True, kw_only=True):
    """How a resource stands.

    Attributes:
        limit: Permits that there are, where it is used as a semaphore.
        waiting: The first hundred in line, in order.
        waiting_count: How many are in line.
    """

    name: str
    holders: tuple[LockHolder, ...] = ()
    waiting: tuple[LockWait, ...] = ()
    waiting_count: int = 0
    limit: int | None = None

    @property
    def is_free(self) -> bool:
        """Nobody holds it under this very name; a pattern may cover it."""
        return not self.holders


class WaitEdge(msgspec.Struct, frozen=True):
    """One waits for another.

    Attributes:
        waiter: An owner, or ``task:board:id`` for a task in between.
        owner: Who has to go on first, named likewise.
        resource: What is waited for; empty for a task.
        is_any: One of several of whom any would do, as with a semaphore.
    """

    waiter: str
    owner: str
    resource: str = ""
    is_any: bool = False


class WaitGraph(msgspec.Struct, frozen=True):
    """Who waits for whom, over locks, parked tasks and requests.

    Attributes:
        is_whole: All waits are in it; false where there were more than were asked for.
    """

    edges: tuple[WaitEdge, ...] = ()
    is_whole: bool = True

    @property
    def nodes(self) -> tuple[str, ...]:
        """All who wait or are waited for, sorted."""
        return tuple(sorted({name for edge in self.edges for name in (edge.waiter, edge.owner)}))

    def dot(self) -> str:
        """The graph for Graphviz; edges of which any would do are dashed."""
        lines = ["digraph waits {", "  rankdir=LR;"]
        lines += [f"  {_quoted(name)};" for name in self.nodes]
        for edge in self.edges:
            style = ", style=dashed" if edge.is_any else ""
            label = _quoted(edge.resource)
            ends = f"{_quoted(edge.waiter)} -> {_quoted(edge.owner)}"
            lines.append(f"  {ends} [label={label}{style}];")
        return "\n".join([*lines, "}"]) + "\n"


class Incident(msgspec.Struct, frozen=True, kw_only=True):
    """A deadlock that was found and ended.

    Attributes:
        cycle: The owners, each waiting for the next, the last for the first.
        victim: The one whose wait was ended.
        reason: ``deadlock``, or ``upgrade`` where two shared holders both wanted it alone.
        resources: What the cycle went through.
    """

    id: str
    at: datetime
    victim: str
    reason: str
    cycle: tuple[str, ...]
    agents: tuple[str, ...]
    resources: tuple[str, ...]
    edges: tuple[WaitEdge, ...] = ()


class LockReasons(msgspec.Struct, frozen=True, kw_only=True):
    """Why an owner waits, or a resource is not free, in words and data."""

    subject: str
    reasons: tuple[str, ...]
    blockers: tuple[str, ...] = ()


def check_resource(value: Any) -> str:
    """Return *value* if it can be locked: up to 512 bytes of text on one line.

    Not allowed are ``|``, ``,``, control characters, and ``~`` at the beginning.

    Raises:
        InvalidArgument: It is no such name, or has too many parts or wildcards.
    """
    if not isinstance(value, str):
        raise InvalidArgument(
            f"A resource must be a string, not {type(value).__name__}.", field="resource"
        )
    return _checked_resource(value)


@lru_cache(maxsize=4_096)
def _checked_resource(value: str) -> str:
    shown = value if len(value) <= 60 else value[:57] + "..."
    if not _RESOURCE.fullmatch(value) or not _is_utf8(value):
        raise InvalidArgument(
            f"Resource {shown!r} is no valid name. Use text on one line without '|' and ',', "
            "not empty and not beginning with '~'.",
            field="resource",
            value=shown,
        )
    if len(value.encode()) > RESOURCE_BYTES_MAX or len(parts_of(value)) > PARTS_MAX:
        raise InvalidArgument(
            f"Resource {shown!r} is too long: at most {RESOURCE_BYTES_MAX} bytes in "
            f"{PARTS_MAX} parts.",
            field="resource",
            value=shown,
        )
    if len(re.findall(r"\*+|\?", value)) > WILDCARDS_MAX:
        raise InvalidArgument(
            f"Resource {shown!r} has more than {WILDCARDS_MAX} wildcards.",
            field="resource",
            value=shown,
        )
    return value


def _is_utf8(value: str) -> bool:
    try:
        value.encode()
    except UnicodeEncodeError:
        return False
    return True


def check_resources(values: Iterable[Any], mode: str = "exclusive") -> list[str]:
    """Return the resources sorted and once each; 1 to 100, no pattern as a semaphore.

    Raises:
        InvalidArgument: One of them cannot be locked so.
    """
    if isinstance(values, str | bytes):
        values = [values]
    if not isinstance(values, Iterable):
        raise InvalidArgument(
            f"Resources are names, or what Locks.acquire returned, not {type(values).__name__}.",
            field="resources",
        )
    found = sorted({check_resource(value) for value in values})
    if not 1 <= len(found) <= RESOURCES_MAX:
        raise InvalidArgument(
            f"Give 1 to {RESOURCES_MAX} resources, not {len(found)}.", field="resources"
        )
    if mode == "semaphore" and any(is_pattern(name) for name in found):
        raise InvalidArgument(
            "A semaphore needs a plain name: permits of a pattern could not be counted.",
            field="resources",
        )
    return found


def check_owner(value: Any) -> str:
    """Return the token of an owner: a claim, by its board, task and fence, or a token.

    Args:
        value: A string of up to 300 letters, digits or any of ``. _ : / @ + -``; or a claimed
            task, or whatever else has ``board``, ``id`` and ``fence``.

    Raises:
        InvalidArgument: It is neither. An agent's name alone would be a token, and locks of
            an agent's two tasks would be the same owner's: give the claim.
    """
    claim = getattr(value, "task", value)
    if all(hasattr(claim, name) for name in ("board", "id", "fence")):
        return claim_owner(claim.board, claim.id, claim.fence)
    if not isinstance(value, str) or not _OWNER.fullmatch(value):
        raise InvalidArgument(
            f"Owner {value!r} is no claimed task and no token: 1 to 300 letters, digits or any "
            "of . _ : / @ + -",
            field="owner",
        )
    if value.startswith("claim:") and not _CLAIM.fullmatch(value):
        raise InvalidArgument(
            f"Owner {value!r} begins like a claim, but is not claim:<board>:<task>:<fence>.",
            field="owner",
        )
    return value


def is_owner(value: str) -> bool:
    """Whether the text could be an owner's token, or a claim's."""
    return bool(_OWNER.fullmatch(value)) and (
        not value.startswith("claim:") or bool(_CLAIM.fullmatch(value))
    )


def claim_owner(board: str, task: str, fence: int) -> str:
    """The owner token of a claim."""
    return f"claim:{check_name('board', board)}:{check_name('task id', task)}:{int(fence)}"


def claim_of(owner: str) -> tuple[str, str, int] | None:
    """Board, task and fence of an owner that is a claim; None of a token."""
    found = _CLAIM.fullmatch(owner)
    return None if found is None else (found[1], found[2], int(found[3]))


def is_pattern(name: str) -> bool:
    """Whether the name stands for others too."""
    return "*" in name or "?" in name


def parts_of(name: str) -> list[str]:
    """The name cut behind each ``/`` and ``:``."""
    return _PART.findall(name)


def overlap(first: str, second: str) -> bool:
    """Whether some name is meant by both: what the functions on the engine decide by.

    ``file:src/**`` is everything beneath ``file:src/``, at any depth, not ``file:src``.
    """
    one, other = tuple(parts_of(first)), tuple(parts_of(second))

    @cache
    def meet(i: int, j: int) -> bool:
        if i == len(one) and j == len(other):
            return True
        forth = (i < len(one) and meet(i + 1, j), j < len(other) and meet(i, j + 1))
        if i < len(one) and _is_any(one[i]) and any(forth):
            return True
        if j < len(other) and _is_any(other[j]) and any(forth):
            return True
        if i == len(one) or j == len(other):
            return False
        return _parts_meet(one[i], other[j]) and meet(i + 1, j + 1)

    return meet(0, 0)


def _is_any(part: str) -> bool:
    return part.rstrip("/:") == "**"


def _parts_meet(first: str, second: str) -> bool:
    if first == second:
        return True
    one, one_end = _body(first)
    other, other_end = _body(second)

    @cache
    def meet(i: int, j: int) -> bool:
        if i == len(one) and j == len(other):
            return True
        if i < len(one) and one[i] == "*":
            return meet(i + 1, j) or (j < len(other) and meet(i, j + 1))
        if j < len(other) and other[j] == "*":
            return meet(i, j + 1) or (i < len(one) and meet(i + 1, j))
        if i == len(one) or j == len(other):
            return False
        return (one[i] == other[j] or "?" in (one[i], other[j])) and meet(i + 1, j + 1)

    return one_end == other_end and meet(0, 0)


def _body(part: str) -> tuple[str, str]:
    return (part[:-1], part[-1]) if part[-1] in "/:" else (part, "")


def _quoted(text: str) -> str:
    return '"' + text.replace("\\", "\\\\").replace('"', '\\"') + '"'
