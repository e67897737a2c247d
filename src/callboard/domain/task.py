"""A task: what is submitted, where it can stand, what is read back.

The states and the legal moves between them stand here once; the functions on the engine,
the diagram in the docs and the tests agree with this table by test.
"""

from __future__ import annotations

import difflib
import os
import random
import time
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from enum import StrEnum
from functools import lru_cache
from typing import Any, Final, Literal

import msgspec

from callboard.domain.names import check_label, check_name
from callboard.domain.retry import DEFAULT_POLICY, RetryPolicy
from callboard.exceptions import InvalidArgument, TooLarge

PAYLOAD_BYTES_MAX: Final = 1 << 20
"""A payload or result is at most 1 MiB: larger data belongs in a store of its own."""

PAYLOAD_INLINE_MAX: Final = 32_000
"""Larger payloads are kept beside the body, so that reading a body stays cheap."""

BATCH_MAX: Final = 1_000
BATCH_BYTES_MAX: Final = 8 << 20
DEPENDENCIES_MAX: Final = 10_000
PRIORITY_MIN: Final = -1_000
PRIORITY_MAX: Final = 1_000
LEASE_MIN: Final = 0.1
LEASE_MAX: Final = 3_600.0
LEASE_DEFAULT: Final = 30.0
SUGGESTION_SECONDS: Final = 10.0

PRIORITIES: Final[Mapping[str, int]] = {
    "low": -10,
    "normal": 0,
    "high": 10,
    "critical": 20,
    "urgent": 30,
}


class Status(StrEnum):
    """Where a task stands."""

    BLOCKED = "blocked"
    SCHEDULED = "scheduled"
    PENDING = "pending"
    ASSIGNED = "assigned"
    CLAIMED = "claimed"
    IN_PROGRESS = "in_progress"
    INPUT_REQUIRED = "input_required"
    DONE = "done"
    FAILED = "failed"
    CANCELLED = "cancelled"

    @property
    def is_finished(self) -> bool:
        """Done, failed or cancelled."""
        return self in FINISHED

    @property
    def is_held(self) -> bool:
        """An agent has it under a fence."""
        return self in HELD


FINISHED: Final = frozenset({Status.DONE, Status.FAILED, Status.CANCELLED})
HELD: Final = frozenset({Status.CLAIMED, Status.IN_PROGRESS})

LETTERS: Final[Mapping[str, Status]] = {
    "b": Status.BLOCKED,
    "s": Status.SCHEDULED,
    "p": Status.PENDING,
    "a": Status.ASSIGNED,
    "c": Status.CLAIMED,
    "k": Status.CLAIMED,
    "i": Status.IN_PROGRESS,
    "q": Status.INPUT_REQUIRED,
    "d": Status.DONE,
    "f": Status.FAILED,
    "x": Status.CANCELLED,
}
"""How the engine writes a status: ``k`` is claimed ahead of its start."""

_READY = (Status.PENDING, Status.ASSIGNED)
_GIVEN_BACK = (*_READY, Status.SCHEDULED, Status.FAILED, Status.CANCELLED)

MOVES: Final[Mapping[Status | None, frozenset[Status]]] = {
    None: frozenset({Status.BLOCKED, Status.SCHEDULED, *_READY, Status.FAILED, Status.CANCELLED}),
    Status.BLOCKED: frozenset({*_READY, Status.SCHEDULED, Status.FAILED, Status.CANCELLED}),
    Status.SCHEDULED: frozenset({*_READY, Status.FAILED, Status.CANCELLED}),
    Status.PENDING: frozenset({Status.CLAIMED, Status.FAILED, Status.CANCELLED}),
    Status.ASSIGNED: frozenset({*_READY, Status.CLAIMED, Status.FAILED, Status.CANCELLED}),
    Status.CLAIMED: frozenset(
        {*_GIVEN_BACK, Status.IN_PROGRESS, Status.INPUT_REQUIRED, Status.BLOCKED, Status.DONE}
    ),
    Status.IN_PROGRESS: frozenset(
        {*_GIVEN_BACK, Status.INPUT_REQUIRED, Status.BLOCKED, Status.DONE}
    ),
    Status.INPUT_REQUIRED: frozenset({*_READY, Status.FAILED, Status.CANCELLED}),
    Status.DONE: frozenset(),
    Status.FAILED: frozenset({*_READY, Status.SCHEDULED, Status.BLOCKED}),
    Status.CANCELLED: frozenset({*_READY, Status.SCHEDULED, Status.BLOCKED}),
}
"""From each status (None: not there yet) the statuses that one operation may move it to."""


class Requirements(msgspec.Struct, frozen=True, omit_defaults=True):
    """What an agent must have to be given the task.

    Attributes:
        agent_type: Exactly this type; empty for any.
        capabilities: All of these.
        services: All of these.
        labels: All of these, key and value.
        min_health_score: At least this healthy, 0 to 1.
    """

    agent_type: str = ""
    capabilities: tuple[str, ...] = ()
    services: tuple[str, ...] = ()
    labels: dict[str, str] = {}
    min_health_score: float = 0.0


NO_REQUIREMENTS: Final = Requirements()

DependencyPolicy = Literal["fail", "skip", "run"]
POLICY_FLAGS: Final[Mapping[str, str]] = {"fail": "", "skip": "S", "run": "G"}


class TaskSpec(msgspec.Struct, kw_only=True):
    """A task to submit.

    Attributes:
        kind: Which handler runs it.
        payload: Any JSON value, given to the handler and stored verbatim; at most 1 MiB.
            ``msgspec.Raw`` is taken as JSON already encoded.
        id: Names the task, and makes submitting idempotent; else one is made, in order of time.
        unique: At most one unfinished task of the board has this key (1 to 256 characters).
        title: For people.
        description: For people.
        priority: −1000 to 1000, higher first, or ``low normal high critical urgent``
            (−10, 0, 10, 20, 30). A point is worth the board's step of waiting, a minute.
        requirements: What the agent must have.
        depends_on: Ids on the same board that must be done first; forward references too.
        on_dependency_failure: ``fail`` (this task fails too), ``skip`` (it ends cancelled),
            ``run`` (it counts as satisfied).
        suggested_worker: An agent that may have it first; the suggestion lapses in 10 s.
        created_by: Who submitted it.
        metadata: Free JSON object, stored with the task.
        trace_context: A W3C ``traceparent``, carried along.
        not_before: Not claimable before this time.
        delay: Not claimable before this many seconds from now; instead of *not_before*.
        deadline: If still waiting at this time, it fails and is not retried.
        timeout: Seconds that one attempt may run; overrunning is a retryable failure.
        lease: Seconds without a renewal after which the holder counts as gone, 0.1 to 3600;
            the worker's own (30) where not given.
        retry: The retry policy; 3 retries with full jitter where not given.
        concurrency_key: Counts against what ``cb.flow`` allows to be claimed at once with it.
        rate_key: Each claim counts against the rate that ``cb.flow`` sets for it.
        fairness_key: Takes turns with tasks of other such keys, however many each has.
        affinity_key: Under the strategy ``consistent_hash``, tasks with the same key go to the
            same agent, as long as that has room: 1 to 256 characters.
    """

    kind: str
    payload: Any = None
    id: str | None = None
    unique: str | None = None
    title: str = ""
    description: str = ""
    priority: int | str = 0
    requirements: Requirements = NO_REQUIREMENTS
    depends_on: Sequence[str] = ()
    on_dependency_failure: DependencyPolicy = "fail"
    suggested_worker: str | None = None
    created_by: str = ""
    metadata: dict[str, Any] | None = None
    trace_context: str = ""
    not_before: datetime | None = None
    delay: float | None = None
    deadline: datetime | None = None
    timeout: float | None = None
    lease: float | None = None
    retry: RetryPolicy | None = None
    concurrency_key: str | None = None
    rate_key: str | None = None
    fairness_key: str | None = None
    affinity_key: str | None = None


def spec_of(**fields: Any) -> TaskSpec:
    """The task to submit with these fields.

    Raises:
        InvalidArgument: A task has no such field; the message names the nearest.
    """
    known = TaskSpec.__struct_fields__
    unknown = next((name for name in fields if name not in known), None)
    if unknown is not None:
        of_retry = RetryPolicy.__struct_fields__
        near = difflib.get_close_matches(unknown, (*known, *of_retry), 1, 0.5)
        meant = ""
        if near:
            name = f"retry=RetryPolicy({near[0]}=...)" if near[0] in of_retry else f"{near[0]}="
            meant = f" Did you mean {name}?"
        raise InvalidArgument(
            f"A task has no field {unknown!r}.{meant} Fields are {', '.join(known)}.",
            field=unknown,
        )
    return TaskSpec(**fields)


NULL: Final = msgspec.Raw(b"null")
"""The payload that a body leaves out: what is left out is known by identity."""


class Body(msgspec.Struct, omit_defaults=True, kw_only=True):
    """The immutable part of a task, as the engine stores it: JSON in ``tasks:{board}``.

    Bodies are compared as bytes, so a value that is a default must be left out.
    """

    kind: str
    payload: msgspec.Raw = NULL
    title: str = ""
    description: str = ""
    priority: int = 0
    requirements: Requirements | None = None
    depends_on: tuple[str, ...] = ()
    on_dependency_failure: str = "fail"
    suggested_worker: str | None = None
    unique: str | None = None
    created_by: str = ""
    metadata: msgspec.Raw | msgspec.UnsetType = msgspec.UNSET
    trace_context: str = ""
    not_before: datetime | None = None
    deadline: datetime | None = None
    timeout: float | None = None
    lease: float | None = None
    retry: RetryPolicy | None = None
    concurrency_key: str | None = None
    rate_key: str | None = None
    fairness_key: str | None = None
    affinity_key: str | None = None


class Note(msgspec.Struct, frozen=True):
    """A remark on a task."""

    author: str
    content: str
    at: datetime


class Attempt(msgspec.Struct, frozen=True):
    """One attempt that did not succeed. Times are UTC."""

    attempt: int
    fence: int
    agent: str
    instance: str
    claimed_at: datetime
    ended_at: datetime
    error: dict[str, Any]


class Task(msgspec.Struct, frozen=True, kw_only=True):
    """A task as it stood when it was read.

    Attributes:
        attempt: How often it was claimed.
        failures: Failed attempts, which spend the retry budget.
        crashes: Leases lost by a holder that had started it.
        fence: Of the last claim; 0 before the first.
        agent: Who holds it, is reserved for, or held it last.
        instance: Which process of the agent.
        since: When the status last changed.
        until: End of the lease, of the reservation, or of the wait, by status.
        duration: Seconds that the accepted attempt took, once done.
        result: What the handler returned, decoded from JSON.
        error: Of the last failure: ``type``, ``message``, ``retryable`` and more.
        reason: Why it was cancelled.
        cause: The dependency whose failure ended it.
        progress: What the holder last said.
        partial: A partial result, kept over attempts.
        question: What the task waits to be told.
        answer: What it was told.
        answers: All it was told so far, in order, as JSON.
        parent: The task that was split into this one and others.
        children: The ids of each of its splits, in order.
        cancel_requested: The holder was asked to stop.
        has_notes: Somebody has remarked something on it.
    """

    id: str
    board: str
    kind: str
    status: Status
    payload: msgspec.Raw = msgspec.field(default_factory=lambda: NULL)
    title: str = ""
    description: str = ""
    priority: int = 0
    requirements: Requirements = NO_REQUIREMENTS
    depends_on: tuple[str, ...] = ()
    on_dependency_failure: str = "fail"
    suggested_worker: str | None = None
    unique: str | None = None
    created_by: str = ""
    metadata: dict[str, Any] | None = None
    trace_context: str = ""
    not_before: datetime | None = None
    deadline: datetime | None = None
    timeout: float | None = None
    lease: float | None = None
    retry: RetryPolicy = DEFAULT_POLICY
    concurrency_key: str | None = None
    rate_key: str | None = None
    fairness_key: str | None = None
    affinity_key: str | None = None
    attempt: int = 0
    failures: int = 0
    crashes: int = 0
    fence: int = 0
    agent: str = ""
    instance: str = ""
    created_at: datetime
    since: datetime
    until: datetime | None = None
    duration: float | None = None
    result: Any = None
    error: dict[str, Any] | None = None
    reason: str | None = None
    cause: str | None = None
    progress: Any = None
    partial: Any = None
    question: Any = None
    answer: Any = None
    answers: tuple[msgspec.Raw, ...] = ()
    parent: str | None = None
    children: tuple[tuple[str, ...], ...] = ()
    cancel_requested: bool = False
    has_notes: bool = False

    def payload_as(self, kind: Any = Any) -> Any:
        """Decode the payload to *kind*, any type that msgspec knows."""
        return msgspec.json.decode(self.payload, type=kind)


class TaskSummary(msgspec.Struct, frozen=True, kw_only=True):
    """A line of a list: what the moving record says, without the body."""

    id: str
    kind: str
    status: Status
    priority: int
    attempt: int
    failures: int
    crashes: int
    agent: str
    instance: str
    fence: int
    created_at: datetime
    since: datetime


def at_ms(ms: float) -> datetime:
    """A moment of the engine's clock, in ms, as UTC."""
    return datetime.fromtimestamp(ms / 1000, UTC)


def to_ms(moment: Any, what: str) -> int:
    """A moment in ms; a naive one is refused, as it could mean anything."""
    if not isinstance(moment, datetime):
        raise InvalidArgument(
            f"{what} must be a datetime with a time zone, not {type(moment).__name__}.", field=what
        )
    if moment.tzinfo is None:
        raise InvalidArgument(
            f"{what} {moment.isoformat()} has no time zone; use datetime.now(timezone.utc) and "
            f"the like.",
            field=what,
        )
    return int(moment.timestamp() * 1000)


class QueueSizes(msgspec.Struct, frozen=True, kw_only=True):
    """How many tasks wait to be claimed, by the names of priorities.

    A number counts as the name at or below it: 15 as ``high``, what is below 0 as ``low``.

    Attributes:
        is_estimate: More wait than are counted one by one; a sample stands for them.
    """

    urgent: int = 0
    critical: int = 0
    high: int = 0
    normal: int = 0
    low: int = 0
    is_estimate: bool = False

    @property
    def total(self) -> int:
        """All of them."""
        return self.urgent + self.critical + self.high + self.normal + self.low


def priorities_of(name: Any) -> tuple[int, int]:
    """The least and the greatest number that counts as a priority of this name.

    Raises:
        InvalidArgument: There is no such name.
    """
    low = check_priority(name) if isinstance(name, str) else None
    if low is None:
        raise InvalidArgument(
            f"Priority {name!r} is none of {', '.join(PRIORITIES)}.", field="priority"
        )
    above = [other for other in PRIORITIES.values() if other > low]
    least = PRIORITY_MIN if low == min(PRIORITIES.values()) else low
    return least, min(above) - 1 if above else PRIORITY_MAX


def check_priority(value: Any) -> int:
    """The priority as a number, or InvalidArgument with the valid ones."""
    if isinstance(value, str):
        named = PRIORITIES.get(value.lower())
        if named is None:
            raise InvalidArgument(
                f"Priority {value!r} is none of {', '.join(PRIORITIES)}; or give a number "
                f"from {PRIORITY_MIN} to {PRIORITY_MAX}.",
                field="priority",
            )
        return named
    if (
        isinstance(value, bool)
        or not isinstance(value, int)
        or not PRIORITY_MIN <= value <= PRIORITY_MAX
    ):
        raise InvalidArgument(
            f"Priority {value!r} is not a whole number from {PRIORITY_MIN} to {PRIORITY_MAX}.",
            field="priority",
        )
    return value


def check_seconds(what: str, value: Any, low: float, high: float) -> int:
    """Seconds within bounds as whole ms, at least one where *low* is above zero."""
    if isinstance(value, bool) or not isinstance(value, int | float) or not low <= value <= high:
        raise InvalidArgument(
            f"{what} is {value!r}; it must be a number of seconds from {low:g} to {high:g}.",
            field=what,
        )
    return max(round(value * 1000), 1 if low > 0 else 0)


@lru_cache(maxsize=10_000)
def _plain_lane(kind: str) -> str:
    return f"{check_name('kind', kind)};;;;"


def lane_of(kind: str, requirements: Requirements, flow: str = "") -> str:
    """The lane of tasks that any agent serves alike, and that have the same keys.

    ``kind;type;capabilities;services;labels``, then the health that is asked for and *flow*,
    the keys, where there are any.
    """
    if flow:
        lane = lane_of(kind, requirements)
        return f"{lane}{';' if lane.count(';') == 5 else ';;'}{flow}"
    if requirements is NO_REQUIREMENTS or requirements == NO_REQUIREMENTS:
        try:
            return _plain_lane(kind)
        except TypeError:  # What has no hash is no name.
            return check_name("kind", kind)
    _check_requirements(requirements)
    agent_type = requirements.agent_type and check_name("agent_type", requirements.agent_type)
    capabilities = ",".join(
        sorted({check_name("capability", name) for name in requirements.capabilities})
    )
    services = ",".join(sorted({check_name("service", name) for name in requirements.services}))
    labels = ",".join(sorted(check_label(key, value) for key, value in requirements.labels.items()))
    lane = f"{check_name('kind', kind)};{agent_type};{capabilities};{services};{labels}"
    health: Any = requirements.min_health_score
    if isinstance(health, bool) or not isinstance(health, int | float) or not 0 <= health <= 1:
        raise InvalidArgument(
            f"min_health_score is {health!r}; it must be from 0 to 1.", field="min_health_score"
        )
    if health:
        lane += f";{health:.3f}"
    if len(lane) > 2_000:
        raise TooLarge(
            f"The requirements of a task of kind {kind} take {len(lane)} characters; at most "
            f"2,000 are kept."
        )
    return lane


def _check_requirements(requirements: Any) -> None:
    if not isinstance(requirements, Requirements):
        raise InvalidArgument(
            f"requirements must be Requirements, not {type(requirements).__name__}.",
            field="requirements",
        )
    for name in ("capabilities", "services"):
        if not isinstance(getattr(requirements, name), list | tuple | set | frozenset):
            raise InvalidArgument(f"{name} must be a tuple of names.", field=name)
    if not isinstance(requirements.labels, Mapping):
        raise InvalidArgument("labels must be a dict of names and values.", field="labels")


_random = random.Random(os.urandom(16))
os.register_at_fork(after_in_child=lambda: _random.seed(os.urandom(16)))


def new_id() -> str:
    """A task id: 24 hexadecimal digits, 11 of the time in ms and 13 of chance."""
    return f"{time.time_ns() // 1_000_000:011x}{_random.getrandbits(52):013x}"
