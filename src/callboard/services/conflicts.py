"""Conflicts: reported, decided by a strategy, a vote or an arbiter, and made to hold."""

from __future__ import annotations

import hashlib
import inspect
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, Final

import msgspec

from callboard.domain import conflict as conflicts
from callboard.domain.board import DEFAULT_BOARD
from callboard.domain.bounds import check_text, check_whole
from callboard.domain.conflict import (
    Ballot,
    Case,
    Conflict,
    ConflictStats,
    ConflictStrategy,
    Party,
    Resolution,
    Verdict,
)
from callboard.domain.names import check_name
from callboard.domain.reading import nearest
from callboard.domain.repeats import in_order, operation_id
from callboard.domain.task import check_seconds, new_id
from callboard.engine import codec
from callboard.engine.answers import checked
from callboard.engine.conflict_codec import conflict_of, row_of
from callboard.engine.namespace import Namespace
from callboard.engine.own_strategies import OwnStrategies
from callboard.engine.replies import raise_refusal
from callboard.exceptions import InvalidArgument, TooLarge

ENTRY_POINTS: Final = "callboard.conflict_strategies"
SWEEP_LIMIT: Final = 100
CONTEXT_BYTES_MAX: Final = 65_536
REPORT_BYTES_MAX: Final = 8_388_608
"""Of all that the parties of one conflict bring."""

NEVER_USED: Final = frozenset({*conflicts.BUILT_IN, *conflicts.DECIDED_ELSEWHERE, "optimistic"})

Found = list[Conflict]


class VoteTaken(msgspec.Struct, frozen=True, kw_only=True):
    """What a vote led to.

    Attributes:
        status: Of the conflict now: ``voting``, ``resolved`` or ``undecided``.
        winner: Where this vote decided it, or another had.
        replayed: The member had voted so before.
    """

    status: str
    winner: str = ""
    replayed: bool = False


class Conflicts:
    """The conflicts of a namespace.

    Each is decided once, whoever asks, and what it is about is made to agree in the same step.
    """

    def __init__(self, namespace: Namespace) -> None:
        self._functions = namespace.functions
        self._own = OwnStrategies(ENTRY_POINTS, _checked_strategy)

    def register(self, name: str, strategy: ConflictStrategy) -> None:
        """Have ``resolve`` know a strategy of one's own by name, in this process.

        Installed packages offer theirs by entry points of group
        ``callboard.conflict_strategies``.

        Raises:
            InvalidArgument: The name is Callboard's own, or the strategy has no ``decide``, or
                an async one.
        """
        if check_name("strategy", name) in NEVER_USED:
            raise InvalidArgument(
                f"Strategy {name!r} is Callboard's own; use another name.", field="name"
            )
        self._own.register(name, strategy)

    def strategies(self) -> tuple[str, ...]:
        """All strategies that ``resolve`` knows here."""
        own = self._own.names()
        return (*conflicts.BUILT_IN, "optimistic", *sorted(own))

    async def report(
        self,
        kind: str,
        subject: str,
        parties: Sequence[str | Party],
        *,
        about: str | None = None,
        board: str = DEFAULT_BOARD,
        context: Any = None,
        id: str | None = None,
        enforce: bool = True,
        by: str = "",
    ) -> Conflict:
        """Report that several parties want what only one can have.

        Args:
            kind: ``resource``, ``task`` or ``context``.
            subject: The resource that is locked, or a pattern of names; the task's id, or the
                context's name.
            parties: Names, mostly of agents, or a ``Party`` with what it brings; 1 to 100,
                and up to 8 MiB of values.
            about: Of a task ``assignment`` (default), ``dependency`` or ``output``; of a
                context the field.
            context: Anything that those who decide should know, up to 64 KiB of JSON.
            id: The same id and report again answers the conflict that there is.
            enforce: Change what it is about as the verdict says; else only the verdict is kept.

        Raises:
            InvalidArgument, TooLarge: No party, or a wrong one; nothing was reported.
            TaskNotFound: There is no such task on the board.
            IdConflict: The id was used for another report.
            Refused: 10,000 conflicts are open.
        """
        what = conflicts.check_about(kind, subject, about)
        is_typed = kind == "context"
        listed = conflicts.parties_of(parties)
        rows = [value for one in listed for value in row_of(one, is_typed=is_typed)]
        if sum(map(len, rows)) > REPORT_BYTES_MAX:
            raise TooLarge(
                f"What the parties bring is over {REPORT_BYTES_MAX:,} bytes. Keep it elsewhere and "
                "report references.",
                field="parties",
            )
        conflict_id = new_id() if id is None else check_name("conflict id", id)
        where = check_name("board", board) if kind == "task" else ""
        said = b"" if context is None else codec.encode_json("context", context, CONTEXT_BYTES_MAX)
        given = (kind, where, subject, what, _by(by), int(enforce), said)
        reply = await self._functions.call(
            "conflict_report", conflict_id, *given, _digest(given, rows), len(listed), *rows
        )
        checked(reply, "ok", "exists", conflict=conflict_id, task=subject, board=board)
        return await self.get(conflict_id)

    async def get(self, conflict_id: str) -> Conflict:
        """A conflict with its votes and its trail. Raises ConflictNotFound."""
        found = await self._read("ids", 0, 1, [check_name("conflict id", conflict_id)])
        if not found:
            raise_refusal("conflict_not_found", conflict=conflict_id)
        return found[0]

    async def active(self, *, limit: int = 100, skip: int = 0) -> Found:
        """Conflicts that are not resolved, the newest first, without their trails."""
        return await self._read("open", skip, limit)

    async def history(self, *, limit: int = 100, skip: int = 0) -> Found:
        """Conflicts that are resolved, the last resolved first, without their trails."""
        return await self._read("resolved", skip, limit)

    async def pending(self, arbiter: str, *, limit: int = 100) -> Found:
        """Conflicts that lie with an arbiter, without their trails."""
        return await self._read(f"pending:{check_name('arbiter', arbiter)}", 0, limit)

    async def resolve(
        self,
        conflict_id: str,
        strategy: str = "priority",
        *,
        inputs: Mapping[str, Any] | None = None,
        by: str = "",
        force: bool = False,
        request_id: str | None = None,
    ) -> Resolution:
        """Decide a conflict by a strategy, and make what it is about agree.

        ``priority`` and ``timestamp`` go by what the parties brought, or by the inputs
        ``priorities`` and ``requested_at``; nothing is made up. ``optimistic`` decides for the
        first party whose revision is the current one.

        Args:
            inputs: What the strategy needs besides, by name.
            force: Also while it is voted on or lies with an arbiter.
            request_id: Makes the call repeatable: the repeat changes nothing.

        Raises:
            AlreadyResolved: It was decided, which is final.
            ConflictBusy, NotEntitled: It is voted on, or lies with an arbiter.
            MissingInput: A fact that the strategy needs was not given.
            RevisionConflict: ``optimistic``, and no party presents the current revision.
            StrategyFailed: One's own threw; the conflict stays open.
            InvalidArgument: There is no such strategy; the message names those there are.
            AgentNotFound, AgentDraining, DoesNotFit, IllegalState, TooLarge, TooManyLocks: The
                verdict cannot be enforced, so nothing was decided.
        """
        conflict = await self.get(conflict_id)
        given = _inputs(inputs)
        check_name("strategy", strategy)
        verdict = Verdict("", "")
        if strategy != "optimistic":
            if conflict.resolution is None:
                how = self._find(strategy)
                verdict = conflicts.decide(strategy, how, Case(conflict, given))
            elif request_id is None:
                _refuse_again(conflict)
            # Else the engine knows whether it was this call that decided it.
        said = _encoded(given)
        operation = operation_id(
            request_id, "resolve", conflict_id, strategy, by, force, in_order(said)
        )
        return await self._settle(
            conflict, strategy, verdict, said, by, force=force, operation=operation
        )

    async def decide(
        self,
        conflict_id: str,
        winner: str,
        *,
        by: str,
        reason: str = "",
        request_id: str | None = None,
    ) -> Resolution:
        """Decide a conflict as its arbiter.

        Args:
            request_id: Makes the call repeatable: the repeat changes nothing.

        Raises:
            NotEntitled: It does not lie with *by*.
            NotAParty: *winner* is no party of it.
            AlreadyResolved: It was decided, by the deadline's fallback for example.
        """
        conflict = await self.get(conflict_id)
        verdict = Verdict(check_name("winner", winner), check_text("reason", reason))
        if not by:
            raise InvalidArgument("Say by whom it is decided.", field="by")
        operation = operation_id(request_id, "decide", conflict_id, winner, by, reason)
        return await self._settle(
            conflict, "arbiter", verdict, b"", by, force=False, operation=operation
        )

    async def refer(
        self,
        conflict_id: str,
        arbiter: str,
        *,
        deadline: float = 3_600.0,
        fallback: str | None = None,
        inputs: Mapping[str, Any] | None = None,
        by: str = "",
        request_id: str | None = None,
    ) -> Conflict:
        """Put a conflict before an arbiter, an agent or a person, who has *deadline* seconds.

        Args:
            fallback: A strategy that decides if they do not. It is asked now, with *inputs*,
                so that a sweep can carry its verdict out. Without one it is left undecided.
            request_id: Makes the call repeatable: the repeat changes nothing.

        Raises:
            AlreadyResolved, ConflictBusy: It is decided, or being decided.
            MissingInput, StrategyFailed: Of the fallback.
        """
        verdict, given = Verdict("", ""), _inputs(inputs)
        named = (check_name("conflict id", conflict_id), _by(by))
        how = (
            check_name("arbiter", arbiter),
            check_seconds("deadline", deadline, 0.001, conflicts.DEADLINE_MAX),
        )
        if fallback is not None:
            case = Case(await self.get(conflict_id), given)
            verdict = conflicts.decide(fallback, self._find(fallback), case)
        said = b"" if request_id is None else in_order(_encoded(given))
        reply = await self._functions.call(
            "conflict_refer",
            *named,
            operation_id(request_id, "refer", *named, *how, fallback, said),
            *how,
            verdict.winner,
            f"not decided in time; {fallback}: {verdict.reason}" if fallback else "",
        )
        checked(reply, "ok", "replayed", conflict=conflict_id)
        return await self.get(conflict_id)

    async def open_vote(
        self,
        conflict_id: str,
        *,
        members: Iterable[str] | None = None,
        rule: str = "vote",
        quorum: float = 0.5,
        threshold: float = conflicts.THRESHOLD,
        tie: str = "undecided",
        revisable: bool = False,
        deadline: float = conflicts.VOTE_SECONDS,
        by: str = "",
        request_id: str | None = None,
    ) -> Ballot:
        """Put a conflict to the vote; who may vote, and every rule, is fixed from here.

        It is decided in the call of the vote that no other can change any more, else at the
        deadline by a sweep. Without enough votes, or with a tie, it is left undecided.

        Args:
            members: Up to 1,000 names; all agents that may claim just now where left out.
            rule: ``vote``: the most votes win. ``consensus``: who has *threshold* of all the
                confidence given.
            quorum: The share of the members who have to vote, 0 to 1; at least one.
            tie: ``undecided``, or ``first`` for the first listed of those that are even.
            revisable: Let members change their votes; then it is decided at the deadline only.
            request_id: Makes the call repeatable: the repeat changes nothing.

        Raises:
            AlreadyResolved, ConflictBusy: It is decided, or being decided.
            MissingInput: There is nobody who could vote.
        """
        listed = conflicts.check_members(members)
        named = (check_name("conflict id", conflict_id), _by(by))
        rules = (
            conflicts.check_word("rule", rule, conflicts.RULES),
            conflicts.check_share("quorum", quorum),
            conflicts.check_share("threshold", threshold),
            conflicts.check_word("tie", tie, conflicts.TIES),
            int(revisable),
            check_seconds("deadline", deadline, 0.001, conflicts.DEADLINE_MAX),
        )
        reply = await self._functions.call(
            "conflict_poll",
            *named,
            operation_id(request_id, "vote", *named, *rules, sorted(listed)),
            *rules,
            len(listed),
            *listed,
        )
        checked(reply, "ok", "replayed", conflict=conflict_id)
        ballot = (await self.get(conflict_id)).ballot
        assert ballot is not None
        return ballot

    async def vote(
        self, conflict_id: str, voter: str, candidate: str | None, *, confidence: float = 1.0
    ) -> VoteTaken:
        """Vote as a member of the ballot, for a party, or with None for none of them.

        The same vote again changes nothing. *confidence*, 0 to 1, weighs a consensus; a plain
        vote counts 1.

        Raises:
            NotEntitled: *voter* is no member.
            NotAParty: *candidate* is no party.
            AlreadyVoted: Otherwise, and votes of this ballot cannot be changed.
            VoteClosed, AlreadyResolved: There is no ballot, or it is over.
        """
        reply = await self._functions.call(
            "conflict_vote",
            check_name("conflict id", conflict_id),
            check_name("voter", voter),
            "" if candidate is None else check_name("candidate", candidate),
            f"{conflicts.check_share('confidence', confidence):g}",
        )
        status = checked(reply, "ok", "replayed", conflict=conflict_id, voter=voter)
        return VoteTaken(
            status=reply[1].decode(), winner=reply[2].decode(), replayed=status == "replayed"
        )

    async def cleanup(self, age: float, *, by: str = "") -> int:
        """Remove conflicts resolved more than *age* seconds ago; how many those were."""
        removed, more = 0, True
        age_ms = check_seconds("age", age, 0, 3_153_600_000)
        while more:
            reply = await self._functions.call("conflict_clean", _by(by), age_ms, SWEEP_LIMIT)
            checked(reply, "ok")
            more, removed = bool(reply[1]), removed + int(reply[2])
        return removed

    async def stats(self) -> ConflictStats:
        """How many conflicts there are, by type, and by the strategy that resolved them."""
        reply = await self._functions.call("conflict_stats", 1_000)
        checked(reply, "ok")
        _, total, active, resolved, types, strategies = reply
        return ConflictStats(
            total=int(total),
            active=int(active),
            resolved=int(resolved),
            by_type=_counts(types),
            by_strategy=_counts(strategies),
        )

    async def sweep(self) -> bool:
        """Decide what is past its deadline, remove what is kept no more; whether more is due."""
        reply = await self._functions.call("conflict_sweep", SWEEP_LIMIT)
        checked(reply, "ok")
        return bool(reply[1])

    async def _read(self, which: str, skip: int, limit: int, ids: Sequence[str] = ()) -> Found:
        """Conflicts in order; what one reply does not hold is asked for again."""
        check_whole("skip", skip, 0, 1_000_000)
        check_whole("limit", limit, 1, 1_000)
        raw: list[Any] = []
        while len(raw) < limit:
            at = (skip + len(raw), limit - len(raw), int(bool(ids)))
            reply = await self._functions.call("conflict_read", which, *at, len(ids), *ids)
            checked(reply, "ok")
            raw += reply[3:]
            if len(reply) == 3 or ids:
                break
        return [one for one in map(conflict_of, raw) if one is not None]

    async def _settle(
        self,
        conflict: Conflict,
        strategy: str,
        verdict: Verdict,
        inputs: bytes,
        by: str,
        *,
        force: bool,
        operation: str,
    ) -> Resolution:
        reply = await self._functions.call(
            "conflict_resolve",
            conflict.id,
            _by(by),
            operation,
            strategy,
            verdict.winner,
            _plain(verdict.reason),
            inputs,
            int(force),
        )
        checked(
            reply,
            *("ok", "replayed"),
            conflict=conflict.id,
            task=conflict.subject,
            board=conflict.board,
            agent=verdict.winner,
            project=conflict.subject,
        )
        resolution = (await self.get(conflict.id)).resolution
        assert resolution is not None
        return resolution

    def _find(self, name: str) -> ConflictStrategy:
        """A strategy by name: built in, registered here, or offered by an installed package."""
        if name in conflicts.BUILT_IN:
            return conflicts.BUILT_IN[name]
        if name in conflicts.DECIDED_ELSEWHERE:
            raise InvalidArgument(
                f"{name!r} is no strategy to resolve by: {conflicts.DECIDED_ELSEWHERE[name]}.",
                field="strategy",
            )
        if name == "optimistic":
            raise InvalidArgument(
                "optimistic decides by how things stand then, so it cannot be asked before.",
                field="strategy",
            )
        found = self._own.find(name)
        if found is None:
            close = nearest(str(name), self.strategies())
            hint = f"Did you mean {close}? " if close else ""
            raise InvalidArgument(
                f"There is no strategy {name!r}. {hint}Known are: {', '.join(self.strategies())}.",
                field="strategy",
            )
        return found


def _checked_strategy(name: str, strategy: Any) -> ConflictStrategy:
    made = strategy() if isinstance(strategy, type) else strategy
    if not isinstance(made, ConflictStrategy):
        raise InvalidArgument(f"Strategy {name!r} has no method decide(case).", field="strategy")
    if inspect.iscoroutinefunction(made.decide):
        raise InvalidArgument(
            f"Strategy {name!r} has an async decide(); it must not be async. Write it as "
            "def decide(case).",
            field="strategy",
        )
    return made


def _refuse_again(conflict: Conflict) -> None:
    assert conflict.resolution is not None
    how = (b"already_resolved", conflict.resolution.winner, conflict.resolution.type)
    raise_refusal("already_resolved", how, conflict=conflict.id)


def _plain(reason: Any) -> str:
    """One line of at most 1,000 characters that UTF-8 can write: a strategy says what it likes."""
    text = " ".join(str(reason).split())[:1_000]
    return text.encode("utf-8", "backslashreplace").decode()


def _by(by: Any) -> str:
    return by if by == "" else check_name("by", by)


def _inputs(inputs: Any) -> dict[str, Any]:
    if inputs is not None and not isinstance(inputs, Mapping):
        raise InvalidArgument(
            f"inputs must be a mapping of names to values, not {type(inputs).__name__}.",
            field="inputs",
        )
    return dict(inputs or {})


def _encoded(inputs: Mapping[str, Any]) -> bytes:
    return codec.encode_json("inputs", inputs, CONTEXT_BYTES_MAX) if inputs else b""


def _digest(given: Sequence[Any], rows: Sequence[Any]) -> str:
    return hashlib.sha256(msgspec.json.encode([given, rows])).hexdigest()


def _counts(flat: Sequence[Any]) -> dict[str, int]:
    return {flat[i].decode(): int(flat[i + 1]) for i in range(0, len(flat), 2) if int(flat[i + 1])}
