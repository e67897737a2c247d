"""Conflicts: who wants the same thing, how it is decided, and what the decision says."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from datetime import datetime
from types import MappingProxyType
from typing import Any, Final, Protocol, runtime_checkable

import msgspec

from callboard.domain.lock import check_resource
from callboard.domain.names import check_name
from callboard.exceptions import InvalidArgument, MissingInput, StrategyFailed

KINDS: Final = ("resource", "task", "context")
ABOUTS: Final = ("assignment", "dependency", "output")
"""What a conflict over a task may be about."""

TIES: Final = ("undecided", "first")
RULES: Final = ("vote", "consensus")
STATUSES: Final = ("open", "voting", "referred", "undecided", "resolved")
PARTIES_MAX: Final = 100
MEMBERS_MAX: Final = 1_000
DEADLINE_MAX: Final = 2_592_000.0
"""Seconds, 30 days: a conflict that nobody decides is abandoned then."""

VOTE_SECONDS: Final = 30.0
"""How long a ballot lasts where nothing is said: the documented *consensus_check*."""

THRESHOLD: Final = 0.6
"""The documented share of all confidence that makes a consensus."""

DECIDED_ELSEWHERE: Final[Mapping[str, str]] = MappingProxyType(
    {
        "vote": "open a ballot: cb.conflicts.open_vote(id)",
        "consensus": 'open a ballot: cb.conflicts.open_vote(id, rule="consensus")',
        "arbiter": "refer it, and have the arbiter decide: cb.conflicts.refer(id, arbiter)",
        "abandoned": "that is how a conflict ends that nobody decides",
    }
)
"""Names of decisions that no call of ``resolve`` makes, and what makes them."""


class Party(msgspec.Struct, frozen=True, kw_only=True):
    """One who wants it, with what they bring. Nothing that is left out is made up.

    Attributes:
        name: Mostly an agent.
        priority: For strategy ``priority``; higher wins.
        requested_at: For strategy ``timestamp``; earlier wins.
        rev: For ``optimistic``: the revision of the context that they read, or the fence of
            the task or the lock.
        owner: Under which they hold or await the lock, where that is not their name.
        value: What is written into the context, or accepted as the task's result, if they win.
    """

    name: str
    priority: float | None = None
    requested_at: datetime | None = None
    rev: int | None = None
    owner: str | None = None
    value: Any = msgspec.UNSET


class Vote(msgspec.Struct, frozen=True):
    """A member's vote.

    Attributes:
        candidate: A party; None for none of them.
        confidence: 0 to 1; 1 in a plain vote.
    """

    voter: str
    candidate: str | None
    confidence: float
    at: datetime


class Ballot(msgspec.Struct, frozen=True, kw_only=True):
    """How a conflict is voted on.

    Attributes:
        rule: ``vote`` (most votes) or ``consensus`` (a share of all confidence).
        members: How many may vote: fixed when the ballot was opened.
        quorum: How many have to.
        tie: ``undecided``, or ``first``: the first listed of those that are even.
        revisable: A member may change their vote; then it is decided at the deadline only.
    """

    rule: str
    members: int
    quorum: int
    threshold: float
    tie: str
    revisable: bool
    deadline: datetime | None
    votes: tuple[Vote, ...] = ()


class Resolution(msgspec.Struct, frozen=True, kw_only=True):
    """A decision.

    Attributes:
        type: The strategy that made it; ``abandoned`` where nobody did in 30 days.
        winner: The party; empty where it was abandoned.
        losers: The others, in the order of the report.
        enforced: What was done to what it is about: ``written`` (context); ``taken_back``,
            ``reserved``, ``suggested``, ``kept``, ``completed``, ``result_replaced`` (task);
            ``handed_over``, ``first_in_line``, ``freed``, ``kept``, ``nothing_held`` (lock);
            ``finished``, ``cancel_requested``, ``advice``, ``not_asked``; or ``refused: `` and why.
    """

    type: str
    winner: str
    losers: tuple[str, ...]
    reason: str
    timestamp: datetime
    by: str = ""
    enforced: str = ""


class Entry(msgspec.Struct, frozen=True):
    """A line of a conflict's trail: who did what when, and with what."""

    at: datetime
    by: str
    what: str
    inputs: Any = None


class Conflict(msgspec.Struct, frozen=True, kw_only=True):
    """A conflict as it stands.

    Attributes:
        type: ``resource``, ``task`` or ``context``.
        subject: The resource, the task, or the context.
        about: Of a task ``assignment``, ``dependency`` or ``output``; of a context the field.
        status: ``open``, ``voting``, ``referred``, ``undecided`` or ``resolved``.
        enforce: The verdict changes what it is about.
        context: What the reporter said besides, as JSON.
        reason: Why it is undecided.
        electorate: Who may vote; read with the trail.
        trail: What was done, the oldest first; read with ``get``.
    """

    id: str
    type: str
    subject: str
    board: str = ""
    about: str = ""
    parties: tuple[Party, ...]
    timestamp: datetime
    reported_by: str = ""
    status: str = "open"
    enforce: bool = True
    context: Any = None
    arbiter: str = ""
    deadline: datetime | None = None
    reason: str = ""
    ballot: Ballot | None = None
    resolution: Resolution | None = None
    electorate: tuple[str, ...] = ()
    trail: tuple[Entry, ...] = ()

    @property
    def agents(self) -> tuple[str, ...]:
        """The names of the parties, in the order of the report."""
        return tuple(party.name for party in self.parties)

    @property
    def resolved(self) -> bool:
        """It has ended."""
        return self.status == "resolved"


class ConflictStats(msgspec.Struct, frozen=True, kw_only=True):
    """How many conflicts are kept.

    Attributes:
        by_strategy: Of those that are resolved.
        by_type: Of all.
    """

    total: int
    active: int
    resolved: int
    by_strategy: dict[str, int]
    by_type: dict[str, int]


class Case(msgspec.Struct, frozen=True):
    """What a strategy decides on.

    Attributes:
        inputs: What the call brought besides, by name.
    """

    conflict: Conflict
    inputs: Mapping[str, Any]


class Verdict(msgspec.Struct, frozen=True):
    """What a strategy answers: a party's name, and why."""

    winner: str
    reason: str = ""


@runtime_checkable
class ConflictStrategy(Protocol):
    """Decides a conflict; whatever it raises leaves the conflict open."""

    def decide(self, case: Case) -> Verdict:
        """The winner and why."""


class ByPriority:
    """The highest priority wins; of equal ones the first listed.

    Priorities are those of the input ``priorities``, else those that the parties brought.
    """

    def decide(self, case: Case) -> Verdict:
        """The winner and why. Raises MissingInput where one of the priorities is not known."""
        given = _known(case, "priorities", lambda party: party.priority)
        for name, value in given.items():
            if isinstance(value, bool) or not isinstance(value, int | float) or value != value:
                raise InvalidArgument(
                    f"The priority of {name!r} is {value!r}; it must be a number.",
                    field="priorities",
                )
        winner = max(case.conflict.agents, key=lambda name: given[name])
        return Verdict(winner, f"priority {given[winner]:g} is the highest{_even(given, winner)}")


class ByTimestamp:
    """The earliest request wins; of equal ones the first listed.

    Times are those of the input ``requested_at``, else those that the parties brought.
    """

    def decide(self, case: Case) -> Verdict:
        """The winner and why. Raises MissingInput where one of the times is not known."""
        given = _known(case, "requested_at", lambda party: party.requested_at)
        for name, value in given.items():
            if isinstance(value, str):  # as JSON has it
                value = given[name] = _instant(value)
            if not isinstance(value, datetime) or value.tzinfo is None:
                raise InvalidArgument(
                    f"requested_at of {name!r} is {value!r}; it must be a datetime with a zone.",
                    field="requested_at",
                )
        winner = min(case.conflict.agents, key=lambda name: given[name])
        at = given[winner].isoformat()
        return Verdict(winner, f"its request of {at} is the earliest{_even(given, winner)}")


BUILT_IN: Final[Mapping[str, ConflictStrategy]] = MappingProxyType(
    {"priority": ByPriority(), "timestamp": ByTimestamp()}
)


def _instant(text: str) -> datetime | str:
    """The instant that a text in ISO-8601 stands for; the text itself where it is none."""
    try:
        return datetime.fromisoformat(text)
    except ValueError:
        return text


def _known(case: Case, name: str, brought: Any) -> dict[str, Any]:
    """A fact about each party; nothing is made up for one that has none."""
    given = case.inputs.get(name) or {}
    if not isinstance(given, Mapping):
        raise InvalidArgument(f"{name} must map parties to values.", field=name)
    found = {party.name: given.get(party.name, brought(party)) for party in case.conflict.parties}
    missing = [party for party, value in found.items() if value is None]
    if missing:
        raise MissingInput(
            f"Conflict {case.conflict.id}: {name} of {', '.join(missing)} is not known. Report it "
            f'with the party, or give inputs={{"{name}": {{...}}}}.',
            conflict=case.conflict.id,
            missing=missing,
        )
    return found


def _even(given: Mapping[str, Any], winner: str) -> str:
    count = sum(value == given[winner] for value in given.values())
    return f", and the first listed of {count} that are even" if count > 1 else ""


def decide(name: str, strategy: ConflictStrategy, case: Case) -> Verdict:
    """Ask a strategy, and check what it answers.

    Raises:
        StrategyFailed: It threw, or did not name a party.
        InvalidArgument: It misses an input, or one of them is wrong.
    """
    try:
        verdict: Any = strategy.decide(case)  # of somebody else's code
    except InvalidArgument:
        raise
    except Exception as error:
        raise StrategyFailed(
            f"Strategy {name!r} threw {type(error).__name__}: {error}. Conflict "
            f"{case.conflict.id} stays as it was.",
            strategy=name,
            conflict=case.conflict.id,
        ) from error
    if not isinstance(verdict, Verdict) or verdict.winner not in case.conflict.agents:
        raise StrategyFailed(
            f"Strategy {name!r} answered {verdict!r}, which names no party of conflict "
            f"{case.conflict.id}: {', '.join(case.conflict.agents)}. It stays as it was.",
            strategy=name,
            conflict=case.conflict.id,
        )
    return verdict


def parties_of(given: Any) -> tuple[Party, ...]:
    """Parties, or their names, each once and one at least.

    Raises:
        InvalidArgument: There is none, one is named twice, or one is no party.
    """
    if isinstance(given, str | bytes) or not isinstance(given, Sequence):
        raise InvalidArgument("parties must be a list of names or parties.", field="parties")
    parties = tuple(one if isinstance(one, Party) else Party(name=one) for one in given)
    if not 1 <= len(parties) <= PARTIES_MAX:
        raise InvalidArgument(
            f"A conflict has 1 to {PARTIES_MAX} parties, not {len(parties)}.", field="parties"
        )
    names = [check_name("party", party.name) for party in parties]
    if len(set(names)) < len(names):
        raise InvalidArgument(f"A party is named twice: {', '.join(names)}.", field="parties")
    return parties


def check_about(kind: Any, subject: Any, about: str | None) -> str:
    """What a conflict is about, its kind and subject checked."""
    match check_word("kind", kind, KINDS):
        case "resource":
            check_resource(subject)
            if about is not None:
                raise InvalidArgument("about goes with a task or a context.", field="about")
            return ""
        case "task":
            check_name("task id", subject)
            return check_word("about", about or "assignment", ABOUTS)
    check_name("project", subject)
    if about is None:
        raise InvalidArgument("Say with about which field of the context.", field="about")
    return check_name("field", about)


def check_word(what: str, value: Any, words: Sequence[str]) -> str:
    """Return *value* if it is one of *words*; InvalidArgument lists them."""
    if value not in words:
        raise InvalidArgument(f"{what} is {value!r}; use {', '.join(words)}.", field=what)
    return str(value)


def check_share(what: str, value: Any) -> float:
    """Return *value* if it is a number from 0 to 1."""
    if isinstance(value, bool) or not isinstance(value, int | float) or not 0 <= value <= 1:
        raise InvalidArgument(f"{what} is {value!r}; it must be from 0 to 1.", field=what)
    return float(value)


def check_members(members: Any) -> list[str]:
    """Return the members of a ballot, each once; none where they are left out."""
    if members is None:
        return []
    if isinstance(members, str | bytes) or not isinstance(members, Iterable):
        raise InvalidArgument("members must be a list of names.", field="members")
    listed = list(dict.fromkeys(check_name("member", name) for name in members))
    if not 1 <= len(listed) <= MEMBERS_MAX:
        raise InvalidArgument(
            f"A ballot has 1 to {MEMBERS_MAX:,} members, not {len(listed)}.",
            field="members",
        )
    return listed
