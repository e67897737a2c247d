"""A circuit breaker: when it opens and closes, and what is known of it.

After M. Nygard, *Release It!*: closed, calls go ahead; open, none does; half-open, a few
probe whether the component is well again.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from datetime import datetime
from typing import Any, Final, Literal, Self

import msgspec

from callboard.domain.bounds import check_whole
from callboard.domain.task import at_ms, check_seconds
from callboard.exceptions import Fatal, InvalidArgument, Refused

State = Literal["closed", "open", "half-open"]
Outcome = Literal["success", "failure", "ignored"]
STATES: Final[tuple[State, ...]] = ("closed", "open", "half-open")
OUTCOMES: Final[tuple[Outcome, ...]] = ("success", "failure", "ignored")

SECONDS_MAX: Final = 86_400.0
HALF_OPEN_MAX: Final = 100
"""Probes under way are listed in one field of the breaker's hash."""

_COMPONENT: Final = re.compile(r"[A-Za-z0-9._:/@+-]{1,160}")
_GATED: Final = re.compile(r"(agent|kind):[A-Za-z0-9._-]{1,128}")


def check_component(value: Any) -> str:
    """Return *value* if it can name a component: 1 to 160 letters, digits or ``._:/@+-``.

    Raises:
        InvalidArgument: It is no string, or has other characters.
    """
    if not isinstance(value, str) or _COMPONENT.fullmatch(value) is None:
        shown = value if isinstance(value, str) and len(value) <= 60 else repr(value)[:60]
        raise InvalidArgument(
            f"Component {shown!r} is not a valid name. Use 1 to 160 letters, digits or any of "
            ". _ : / @ + -",
            field="component",
        )
    return value


def check_gate(component: str) -> str:
    """Return *component* if a breaker of it can gate claims: ``agent:{id}``, ``kind:{name}``.

    Raises:
        InvalidArgument: It names neither an agent nor a kind of task.
    """
    if _GATED.fullmatch(component) is None:
        raise InvalidArgument(
            f"Component {component!r} gates no claims: only agent:AGENT and kind:KIND do.",
            field="gates",
        )
    return component


def _is_number(value: object) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)


class BreakerPolicy(msgspec.Struct, frozen=True, kw_only=True):
    """When a breaker opens, for how long, and what closes it.

    Attributes:
        failure_threshold: It opens after this many failures in a row, 1 to 1,000,000; None:
            only by *failure_rate*.
        failure_rate: It opens once this share of the calls of the window failed, above 0 to
            1; None: only by *failure_threshold*.
        window: Seconds that the rate is taken over, 0.1 to 86,400, in ten buckets.
        volume: Calls within the window below which the rate opens nothing, 1 to 1,000,000.
        open_for: Seconds that it stays open before it probes, 0.001 to 86,400.
        half_open_limit: Probes under way at a time, 1 to 100.
        success_threshold: It closes after this many successful probes, 1 to 1,000,000; it may
            be more than *half_open_limit*, as a probe's place is free again once it has ended.
        permit_lease: Seconds after which a probe that was not heard of frees its place, 0.001
            to 86,400.

    Raises:
        InvalidArgument: A field is out of its bounds, or neither rule is given.
    """

    failure_threshold: int | None = 5
    failure_rate: float | None = None
    window: float = 60.0
    volume: int = 20
    open_for: float = 60.0
    half_open_limit: int = 2
    success_threshold: int = 3
    permit_lease: float = 30.0

    def __post_init__(self) -> None:
        """Refuse what is out of bounds."""
        if self.failure_threshold is not None:
            check_whole("failure_threshold", self.failure_threshold, 1, 1_000_000)
        elif self.failure_rate is None:
            raise InvalidArgument(
                "A breaker without failure_threshold and failure_rate would never open. Give "
                "one of them.",
                field="failure_threshold",
            )
        rate = self.failure_rate
        if rate is not None and not (_is_number(rate) and 0.001 <= rate <= 1):
            raise InvalidArgument(
                f"failure_rate is {rate!r}; it must be a number from 0.001 to 1.",
                field="failure_rate",
            )
        check_whole("volume", self.volume, 1, 1_000_000)
        check_whole("half_open_limit", self.half_open_limit, 1, HALF_OPEN_MAX)
        check_whole("success_threshold", self.success_threshold, 1, 1_000_000)
        check_seconds("window", self.window, 0.1, SECONDS_MAX)
        check_seconds("open_for", self.open_for, 0.001, SECONDS_MAX)
        check_seconds("permit_lease", self.permit_lease, 0.001, SECONDS_MAX)

    def encode(self) -> str:
        """Return it as the functions read it: eight whole numbers, times in ms."""
        numbers = (
            self.failure_threshold or 0,
            round((self.failure_rate or 0) * 1000),
            round(self.window * 1000),
            self.volume,
            round(self.open_for * 1000),
            self.half_open_limit,
            self.success_threshold,
            round(self.permit_lease * 1000),
        )
        return ":".join(map(str, numbers))

    @classmethod
    def decode(cls, text: str) -> Self:
        """Read what :meth:`encode` wrote."""
        failures, rate, window, volume, open_for, half_open, successes, permit = map(
            int, text.split(":")
        )
        return cls(
            failure_threshold=failures or None,
            failure_rate=rate / 1000 or None,
            window=window / 1000,
            volume=volume,
            open_for=open_for / 1000,
            half_open_limit=half_open,
            success_threshold=successes,
            permit_lease=permit / 1000,
        )


DOCUMENTED: Final = BreakerPolicy()
ASSIGN: Final = BreakerPolicy(
    failure_threshold=3, success_threshold=2, open_for=30.0, half_open_limit=1
)
PATTERN: Final = BreakerPolicy(
    failure_threshold=1, success_threshold=1, open_for=300.0, half_open_limit=1
)
PRESETS: Final[Mapping[str, BreakerPolicy]] = {
    "documented": DOCUMENTED,
    "assign": ASSIGN,
    "pattern": PATTERN,
}


def policy_of(policy: BreakerPolicy | str) -> BreakerPolicy:
    """The policy itself, or the preset of that name. Raises InvalidArgument."""
    if isinstance(policy, BreakerPolicy):
        return policy
    found = PRESETS.get(str(policy))
    if found is None:
        raise InvalidArgument(
            f"{policy!r} is no breaker policy. Give a BreakerPolicy, or one of "
            f"{', '.join(PRESETS)}.",
            field="policy",
        )
    return found


class Permit(msgspec.Struct, frozen=True, kw_only=True):
    """Leave to make one call.

    Attributes:
        number: A fence, to be given back with the outcome; 0 where the component has no
            breaker, whose outcomes are not recorded.
        state: Of the breaker, as the call is made.
        lease: Seconds after which a probe's place is given on, unless renewed; None: no limit.
    """

    component: str
    number: int = 0
    state: State = "closed"
    lease: float | None = None

    @property
    def is_probe(self) -> bool:
        """The breaker is half-open, and this call tells whether it closes."""
        return self.state == "half-open"


class BreakerMetrics(msgspec.Struct, frozen=True, kw_only=True, rename="camel"):
    """A breaker in the figures that the documents name; as JSON in camel case.

    Attributes:
        failures: In a row, while it is closed; before it opened, while it is not.
        successes: Of probes, while it is half-open.
        total_requests: Calls that went ahead.
        rejected_requests: Calls that did not.
        half_open_requests: Probes under way.
    """

    state: State
    failures: int
    successes: int
    last_failure_time: datetime | None
    last_success_time: datetime | None
    total_requests: int
    rejected_requests: int
    half_open_requests: int


class Breaker(msgspec.Struct, frozen=True, kw_only=True):
    """A breaker as it stands.

    Attributes:
        state: ``open`` also when its time is over: it is half-open from the next call on.
        policy: None where it was made to isolate the component, and for nothing else.
        is_configured: Kept until it is removed; others are forgotten after 7 days without use.
        is_isolated: Open until somebody puts it into another state.
        reason: Why it was isolated.
        gates: It decides over the claims of its agent or kind of task.
        opened_at: When it opened last, while it is not closed.
        retry_at: When its open time is over.
        probes: Calls under way in the half-open state.
        generation: A fence: permits with a smaller number are from before the last trip.
    """

    component: str
    state: State
    policy: BreakerPolicy | None
    is_configured: bool
    is_isolated: bool
    reason: str
    gates: bool
    opened_at: datetime | None
    retry_at: datetime | None
    failures: int
    successes: int
    probes: int
    last_failure_at: datetime | None
    last_success_at: datetime | None
    total_requests: int
    rejected_requests: int
    generation: int
    used_at: datetime | None

    @property
    def metrics(self) -> BreakerMetrics:
        """The figures that the documents name."""
        return BreakerMetrics(
            state=self.state,
            failures=self.failures,
            successes=self.successes,
            last_failure_time=self.last_failure_at,
            last_success_time=self.last_success_at,
            total_requests=self.total_requests,
            rejected_requests=self.rejected_requests,
            half_open_requests=self.probes,
        )


def breaker_of(component: str, fields: Mapping[str, str], now_ms: int) -> Breaker:
    """The breaker from its hash, as of the engine's time: overdue probes count no more."""
    policy = BreakerPolicy.decode(fields["policy"]) if "policy" in fields else None
    state = fields.get("state", "closed")
    opened = _moment(fields, "opened_at")
    isolated = fields.get("isolated") == "1"
    retry = None
    if policy is not None and state == "open" and opened is not None and not isolated:
        retry = at_ms(int(fields["opened_at"]) + round(policy.open_for * 1000))
    deadlines = [int(p.partition(":")[2]) for p in fields.get("probes", "").split(",") if p]
    return Breaker(
        component=component,
        state=state if state in STATES else "closed",
        policy=policy,
        is_configured=fields.get("kept") == "1",
        is_isolated=isolated,
        reason=fields.get("reason", ""),
        gates=fields.get("gates") == "1",
        opened_at=opened,
        retry_at=retry,
        failures=int(fields.get("failures", 0)),
        successes=int(fields.get("successes", 0)),
        probes=sum(1 for deadline in deadlines if deadline == 0 or deadline > now_ms),
        last_failure_at=_moment(fields, "last_failure_at"),
        last_success_at=_moment(fields, "last_success_at"),
        total_requests=int(fields.get("total", 0)),
        rejected_requests=int(fields.get("rejected", 0)),
        generation=int(fields.get("generation", 0)),
        used_at=_moment(fields, "used_at"),
    )


def _moment(fields: Mapping[str, str], name: str) -> datetime | None:
    value = fields.get(name)
    return at_ms(int(value)) if value else None


Counts = Callable[[Exception], bool] | type[Exception] | tuple[type[Exception], ...]
"""Which exceptions speak against a component: their classes, or what says it of each."""


def outcome_of(error: BaseException | None, counts: Counts | None = None) -> Outcome:
    """What the end of a call says of the component: an exception that does not count, nothing.

    By itself every exception counts but those that no retry can cure (``Fatal``, data that
    cannot be decoded, whatever has ``retryable = False``) and Callboard's own refusals: the
    caller is at fault there. What is no ``Exception`` (cancelled, interrupted) never counts.
    """
    if error is None:
        return "success"
    if not isinstance(error, Exception):
        return "ignored"
    if counts is None:
        is_callers = isinstance(error, Fatal | InvalidArgument | Refused | msgspec.DecodeError)
        is_failure = not is_callers and getattr(error, "retryable", True) is not False
    elif isinstance(counts, type | tuple):
        is_failure = isinstance(error, counts)
    else:
        is_failure = bool(counts(error))
    return "failure" if is_failure else "ignored"


DEFER_SECONDS: Final = 5.0
"""Where the breaker can't say when, as somebody isolated the component."""


def deferral(retry_after: float | None, random_unit: float) -> float:
    """For how many seconds a task waits whose handler met an open breaker.

    Up to a tenth longer than the breaker asks for, and at least that tenth of
    ``DEFER_SECONDS``: those that were refused together do not come back together.
    """
    asked = DEFER_SECONDS if retry_after is None else max(retry_after, DEFER_SECONDS / 10)
    return asked * (1 + random_unit / 10)
