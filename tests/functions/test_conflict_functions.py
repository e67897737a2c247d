"""Conflicts: decided once, by what was given, and what they are about agrees with the verdict."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from callboard.domain.conflict import Case, Conflict, Party, Verdict
from callboard.domain.task import at_ms
from callboard.exceptions import (
    AgentDraining,
    AgentNotFound,
    AlreadyResolved,
    AlreadyVoted,
    ConflictBusy,
    ConflictNotFound,
    DoesNotFit,
    IdConflict,
    IllegalState,
    InvalidArgument,
    LockLost,
    MissingInput,
    NotAParty,
    NotEntitled,
    RevisionConflict,
    StrategyFailed,
    TaskNotFound,
    TooLarge,
    TooManyLocks,
    VoteClosed,
)
from callboard.locking import Locks
from callboard.services.conflicts import Conflicts
from callboard.services.context import Contexts
from tests.functions.support import BOARD, MIRA, NOOR, START_US, Stage, spec, types_of
from tests.functions.test_wrong_types import failure_of
from tests.waiting import until

pytestmark = pytest.mark.every_engine

START_MS = START_US // 1_000
DAY = 86_400
NINE = datetime(2027, 1, 15, 9, tzinfo=UTC)
PAIR = [Party(name=MIRA, priority=1), Party(name=NOOR, priority=5)]
MEMBERS = ["m1", "m2", "m3", "m4", "m5"]


@pytest.fixture
def conflicts(stage: Stage) -> Conflicts:
    return Conflicts(stage.namespace)


@pytest.fixture
async def locks(stage: Stage) -> AsyncIterator[Locks]:
    opened = Locks(stage.namespace)
    yield opened
    await opened.keeper.close()


@pytest.fixture
def contexts(stage: Stage) -> Contexts:
    return Contexts(stage.namespace, stage.events.follow, stage.events.cursor)


async def voting(conflicts: Conflicts, *parties: str, **rules: Any) -> str:
    """A conflict that five members vote on, for 30 s."""
    found = await conflicts.report("resource", "db", parties or (MIRA, NOOR))
    await conflicts.open_vote(found.id, **{"members": MEMBERS, **rules})
    return found.id


# Refusals


@pytest.mark.parametrize(
    "wrong",
    [
        {"kind": "quarrel"},
        {"subject": "a|b"},
        {"parties": []},
        {"parties": "mira"},
        {"parties": [MIRA, MIRA]},
        {"parties": ["a b"]},
        {"parties": [1]},
        {"parties": [f"p{i}" for i in range(101)]},
        {"parties": [Party(name=MIRA, priority=float("nan"))]},
        {"parties": [Party(name=MIRA, priority="high")]},  # type: ignore[arg-type]
        {"parties": [Party(name=MIRA, requested_at=datetime(2027, 1, 1))]},  # noqa: DTZ001
        {"parties": [Party(name=MIRA, rev=-1)]},
        {"parties": [Party(name=MIRA, owner="a b")]},
        {"parties": [Party(name=MIRA, value=print)]},
        {"about": "output"},
        {"kind": "context"},
        {"kind": "context", "about": "a:b"},
        {"kind": "task", "about": "colour"},
        {"kind": "task", "subject": "a:b"},
        {"context": print},
        {"context": "x" * 65_536},
        {"id": "a:b"},
        {"by": "a b"},
    ],
    ids=str,
)
async def test_what_is_no_report_is_refused_at_the_edge(
    stage: Stage, conflicts: Conflicts, wrong: dict[str, Any]
) -> None:
    before = await stage.dump()

    with pytest.raises(InvalidArgument):
        await conflicts.report(
            **{"kind": "resource", "subject": "db", "parties": [MIRA, NOOR], **wrong}
        )

    assert await stage.dump() == before


@pytest.mark.parametrize("inputs", [[1], "ab", 5, [("a", 1)]], ids=repr)
async def test_inputs_that_are_no_mapping_are_refused(conflicts: Conflicts, inputs: Any) -> None:
    found = await conflicts.report("resource", "db", [MIRA, NOOR])

    for call in (
        conflicts.resolve(found.id, inputs=inputs),
        conflicts.refer(found.id, "ann", fallback="priority", inputs=inputs),
    ):
        with pytest.raises(InvalidArgument, match="inputs must be a mapping"):
            await call


def test_a_strategy_whose_decide_is_async_is_refused(conflicts: Conflicts) -> None:
    class Late:
        async def decide(self, case: Case) -> Verdict:
            raise NotImplementedError

    with pytest.raises(InvalidArgument, match="'late' .* must not be async"):
        conflicts.register("late", Late())  # type: ignore[arg-type]


async def test_a_conflict_over_a_task_needs_the_task(stage: Stage, conflicts: Conflicts) -> None:
    before = await stage.dump()

    with pytest.raises(TaskNotFound):
        await conflicts.report("task", "t", PAIR, board=BOARD)

    assert await stage.dump() == before


async def test_the_same_report_again_is_the_same_conflict_and_another_is_refused(
    stage: Stage, conflicts: Conflicts
) -> None:
    first = await conflicts.report("resource", "db", PAIR, id="c1")
    before = await stage.dump()

    again = await conflicts.report("resource", "db", PAIR, id="c1")
    with pytest.raises(IdConflict):
        await conflicts.report("resource", "other", PAIR, id="c1")

    assert again == first
    assert await stage.dump() == before


async def test_a_reason_with_half_a_character_is_refused(
    stage: Stage, conflicts: Conflicts
) -> None:
    found = await conflicts.report("resource", "r", [MIRA, NOOR])
    await conflicts.refer(found.id, "ann")
    before = await stage.dump()

    with pytest.raises(InvalidArgument, match="reason has half a character"):
        await conflicts.decide(found.id, MIRA, by="ann", reason="bad \udc80")

    assert await stage.dump() == before


async def test_what_is_not_there_is_not_found(stage: Stage, conflicts: Conflicts) -> None:
    before = await stage.dump()

    for call in (
        conflicts.get("c"),
        conflicts.resolve("c"),
        conflicts.decide("c", MIRA, by="ann"),
        conflicts.refer("c", "ann"),
        conflicts.open_vote("c", members=["m1"]),
        conflicts.vote("c", "m1", MIRA),
    ):
        with pytest.raises(ConflictNotFound, match="No conflict 'c'"):
            await call

    assert await stage.dump() == before


@pytest.mark.parametrize(
    ("strategy", "says"),
    [
        ("prioritty", "Did you mean priority"),
        ("coin", "Known are: priority, timestamp, optimistic"),
        ("vote", "open_vote"),
        ("consensus", "open_vote"),
        ("arbiter", "refer"),
    ],
)
async def test_an_unknown_strategy_is_refused_with_those_that_are_known(
    conflicts: Conflicts, strategy: str, says: str
) -> None:
    found = await conflicts.report("resource", "db", PAIR)

    with pytest.raises(InvalidArgument, match=says):
        await conflicts.resolve(found.id, strategy)

    assert (await conflicts.get(found.id)).status == "open"


@pytest.mark.parametrize(
    ("strategy", "inputs"),
    [
        ("priority", {}),
        ("priority", {"priorities": {"a": 1}}),
        ("timestamp", {}),
        ("timestamp", {"requested_at": {"a": NINE}}),
    ],
    ids=str,
)
async def test_nothing_is_made_up_for_a_party_of_which_nothing_is_known(
    stage: Stage, conflicts: Conflicts, strategy: str, inputs: dict[str, Any]
) -> None:
    found = await conflicts.report("resource", "db", ["a", "b"])
    before = await stage.dump()

    with pytest.raises(MissingInput, match="b is not known"):
        await conflicts.resolve(found.id, strategy, inputs=inputs)

    assert await stage.dump() == before


@pytest.mark.parametrize(
    ("strategy", "inputs"),
    [
        ("priority", {"priorities": {"a": "1", "b": 2}}),
        ("priority", {"priorities": [1, 2]}),
        ("timestamp", {"requested_at": {"a": 5, "b": NINE}}),
        ("timestamp", {"requested_at": {"a": "nine", "b": NINE}}),
    ],
    ids=str,
)
async def test_a_wrong_input_is_refused(
    conflicts: Conflicts, strategy: str, inputs: dict[str, Any]
) -> None:
    found = await conflicts.report("resource", "db", ["a", "b"])

    with pytest.raises(InvalidArgument):
        await conflicts.resolve(found.id, strategy, inputs=inputs)

    assert (await conflicts.get(found.id)).status == "open"


async def test_a_conflict_is_decided_once(stage: Stage, conflicts: Conflicts) -> None:
    found = await conflicts.report("resource", "db", PAIR)
    await conflicts.resolve(found.id)
    before = await stage.dump()

    for call in (
        conflicts.resolve(found.id),
        conflicts.resolve(found.id, "optimistic"),
        conflicts.resolve(found.id, "priority", inputs={"priorities": {MIRA: 9, NOOR: 1}}),
        conflicts.resolve(found.id, force=True),
        conflicts.decide(found.id, MIRA, by="ann"),
        conflicts.refer(found.id, "ann"),
        conflicts.open_vote(found.id, members=["m1"]),
        conflicts.vote(found.id, "m1", MIRA),
    ):
        with pytest.raises(AlreadyResolved, match="decided for 'noor' by priority") as refused:
            await call
        assert refused.value.details["winner"] == NOOR

    assert await stage.dump() == before


async def test_a_repeated_call_answers_as_before(stage: Stage, conflicts: Conflicts) -> None:
    found = await conflicts.report("resource", "db", PAIR)
    row = (found.id, "ann", "op1", "priority", NOOR, "because", "", 0)

    first = await stage.call("conflict_resolve", *row)
    before = await stage.dump()
    again = await stage.call("conflict_resolve", *row)

    assert (first.status, again.status) == ("ok", "replayed")
    assert first.facts == again.facts
    assert await stage.dump() == before


async def test_no_more_than_ten_thousand_may_be_open(stage: Stage, conflicts: Conflicts) -> None:
    await report_many(stage, 10_000)

    with pytest.raises(Exception, match="10,000 conflicts are open"):
        await conflicts.report("resource", "db", PAIR)


async def report_many(stage: Stage, count: int) -> None:
    for start in range(0, count, 500):
        await asyncio.gather(
            *(
                stage.call(
                    *("conflict_report", f"c{i:05d}", "resource", "", f"r{i}", "", "", 0, "", "x"),
                    *(1, "a", "", "", "", "", "", ""),
                )
                for i in range(start, min(start + 500, count))
            )
        )


# Strategies


@pytest.mark.parametrize(
    ("strategy", "parties", "inputs", "winner", "reason"),
    [
        ("priority", PAIR, None, NOOR, "priority 5 is the highest"),
        ("priority", PAIR, {"priorities": {MIRA: 7}}, MIRA, "priority 7 is the highest"),
        (
            "priority",
            ["a", "b", "c"],
            {"priorities": {"a": 1, "b": 2, "c": 2}},
            "b",
            "priority 2 is the highest, and the first listed of 2 that are even",
        ),
        ("priority", ["a"], {"priorities": {"a": -3}}, "a", "priority -3 is the highest"),
        (
            "timestamp",
            [
                Party(name="a", requested_at=NINE),
                Party(name="b", requested_at=NINE - timedelta(microseconds=1)),
            ],
            None,
            "b",
            "its request of 2027-01-15T08:59:59.999999+00:00 is the earliest",
        ),
        (
            "timestamp",
            ["a", "b"],
            {"requested_at": {"a": NINE, "b": NINE}},
            "a",
            "its request of 2027-01-15T09:00:00+00:00 is the earliest, and the first listed of "
            "2 that are even",
        ),
        (
            "timestamp",
            ["a", "b"],
            {"requested_at": {"a": NINE, "b": "2027-01-15T08:00:00Z"}},
            "b",
            "its request of 2027-01-15T08:00:00+00:00 is the earliest",
        ),
    ],
)
async def test_a_strategy_decides_by_what_was_given(
    conflicts: Conflicts,
    strategy: str,
    parties: list[Any],
    inputs: dict[str, Any] | None,
    winner: str,
    reason: str,
) -> None:
    found = await conflicts.report("resource", "db", parties)

    resolution = await conflicts.resolve(found.id, strategy, inputs=inputs, by="ann")

    assert (resolution.type, resolution.winner, resolution.reason) == (strategy, winner, reason)
    assert resolution.losers == tuple(name for name in found.agents if name != winner)
    assert (resolution.by, resolution.enforced) == ("ann", "nothing_held")


async def test_a_conflict_is_read_as_it_was_reported(stage: Stage, conflicts: Conflicts) -> None:
    parties = [
        Party(name="a", priority=1.5, requested_at=NINE, rev=7, owner="token:1", value=[1, None]),
        Party(name="b", value=None),
        Party(name="c"),
    ]
    found = await conflicts.report(
        "context", "p", parties, about="status", context={"why": 'a "b"\n'}, by="ann"
    )

    assert found.parties == tuple(parties)
    assert (found.type, found.subject, found.about) == ("context", "p", "status")
    assert (found.context, found.reported_by) == ({"why": 'a "b"\n'}, "ann")
    assert (found.status, found.resolved, found.resolution) == ("open", False, None)
    assert found.timestamp == at_ms(START_MS)
    event = (await stage.news())[-1]
    assert event.type == "conflict:context"
    assert [(fact.id, fact.state, fact.holder, fact.extra) for fact in event.facts] == [
        (found.id, "open", "ann", "p|a,b,c")
    ]


class Longest:
    """The longest name wins."""

    def decide(self, case: Case) -> Verdict:
        return Verdict(max(case.conflict.agents, key=len), f"letters\n{case.inputs.get('x')}")


class Throwing:
    def decide(self, case: Case) -> Verdict:
        raise ZeroDivisionError(case.conflict.subject)


class Stranger:
    def decide(self, case: Case) -> Verdict:
        return Verdict("nobody")


class Nothing:
    def decide(self, case: Case) -> Verdict:
        return None  # type: ignore[return-value]


async def test_a_strategy_of_ones_own_decides_like_any_other(conflicts: Conflicts) -> None:
    conflicts.register("longest", Longest())
    found = await conflicts.report("resource", "db", ["a", "abc", "ab"])

    resolution = await conflicts.resolve(found.id, "longest", inputs={"x": 1})

    assert (resolution.type, resolution.winner) == ("longest", "abc")
    assert resolution.reason == "letters 1"
    assert conflicts.strategies() == ("priority", "timestamp", "optimistic", "longest")
    assert (await conflicts.stats()).by_strategy == {"longest": 1}


@pytest.mark.parametrize("own", [Throwing, Stranger, Nothing])
async def test_a_strategy_that_fails_leaves_the_conflict_open(
    stage: Stage, conflicts: Conflicts, own: type[Any]
) -> None:
    conflicts.register("own", own())
    found = await conflicts.report("resource", "db", PAIR)
    before = await stage.dump()

    with pytest.raises(StrategyFailed, match="Strategy 'own'"):
        await conflicts.resolve(found.id, "own")

    assert await stage.dump() == before


@pytest.mark.parametrize(("name", "own"), [("vote", Longest()), ("priority", Longest()),
                                           ("a b", Longest()), ("x", 1)])  # fmt: skip
def test_what_is_no_strategy_is_not_registered(conflicts: Conflicts, name: str, own: Any) -> None:
    with pytest.raises(InvalidArgument):
        conflicts.register(name, own)


# Votes


async def test_who_may_vote_is_fixed_when_the_ballot_is_opened(
    stage: Stage, conflicts: Conflicts
) -> None:
    found = await conflicts.report("resource", "db", ["a", "b"])
    ballot = await conflicts.open_vote(found.id, quorum=1.0)
    await stage.agent("late")

    with pytest.raises(NotEntitled, match="'late' may not vote"):
        await conflicts.vote(found.id, "late", "a")

    assert (ballot.members, ballot.quorum) == (2, 2)
    assert (await conflicts.get(found.id)).electorate == (MIRA, NOOR)


async def test_a_vote_of_a_stranger_or_for_one_changes_nothing(
    stage: Stage, conflicts: Conflicts
) -> None:
    conflict = await voting(conflicts)
    before = await stage.dump()

    with pytest.raises(NotEntitled):
        await conflicts.vote(conflict, "stranger", MIRA)
    with pytest.raises(NotAParty):
        await conflicts.vote(conflict, "m1", "stranger")

    assert await stage.dump() == before


async def test_a_member_has_one_vote(stage: Stage, conflicts: Conflicts) -> None:
    conflict = await voting(conflicts)
    await conflicts.vote(conflict, "m1", MIRA)
    before = await stage.dump()

    again = await conflicts.vote(conflict, "m1", MIRA)
    with pytest.raises(AlreadyVoted, match="'m1' has voted for mira"):
        await conflicts.vote(conflict, "m1", NOOR)

    assert again.replayed
    assert await stage.dump() == before
    ballot = (await conflicts.get(conflict)).ballot
    assert ballot is not None
    assert [(vote.voter, vote.candidate, vote.confidence) for vote in ballot.votes] == [
        ("m1", MIRA, 1.0)
    ]


async def test_it_is_decided_by_the_vote_that_no_other_can_change_and_is_final(
    stage: Stage, conflicts: Conflicts
) -> None:
    conflict = await voting(conflicts)

    taken = [await conflicts.vote(conflict, voter, MIRA) for voter in MEMBERS[:3]]

    assert [one.status for one in taken] == ["voting", "voting", "resolved"]
    assert taken[2].winner == MIRA
    with pytest.raises(AlreadyResolved):
        await conflicts.vote(conflict, "m4", NOOR)
    assert (await conflicts.vote(conflict, "m3", MIRA)).replayed
    resolution = (await conflicts.get(conflict)).resolution
    assert resolution is not None
    assert (resolution.type, resolution.winner, resolution.by) == ("vote", MIRA, "m3")
    assert resolution.reason == "3 of 3, whatever the 2 others would say"
    await stage.advance(100)
    await conflicts.sweep()
    assert (await conflicts.get(conflict)).resolution == resolution


async def test_no_vote_decides_early_while_the_others_could_change_it(conflicts: Conflicts) -> None:
    conflict = await voting(conflicts, quorum=1.0)
    for voter in MEMBERS[:4]:
        assert (await conflicts.vote(conflict, voter, MIRA)).status == "voting"

    assert (await conflicts.vote(conflict, "m5", NOOR)).status == "resolved"


@pytest.mark.parametrize(
    ("votes", "rules", "outcome"),
    [
        ([], {}, "no_votes"),
        ([MIRA], {}, "no_quorum"),
        ([MIRA, MIRA], {"quorum": 0.6}, "no_quorum"),
        ([MIRA, MIRA], {"quorum": 0.4}, MIRA),
        ([MIRA, MIRA, NOOR], {}, MIRA),
        ([MIRA, NOOR, None], {}, "tie"),
        ([NOOR, MIRA, None], {"tie": "first"}, MIRA),
        ([None, None, None], {}, "no_votes_for_a_party"),
        ([None, None, NOOR], {}, NOOR),
        ([None, None, None], {"tie": "first"}, "no_votes_for_a_party"),
        ([], {"tie": "first", "quorum": 0.0}, "no_votes"),
    ],
    ids=str,
)
async def test_at_the_deadline_it_is_decided_or_left_undecided(
    stage: Stage,
    conflicts: Conflicts,
    votes: list[str | None],
    rules: dict[str, Any],
    outcome: str,
) -> None:
    conflict = await voting(conflicts, **rules)
    for voter, candidate in zip(MEMBERS, votes, strict=False):
        await conflicts.vote(conflict, voter, candidate)
    await stage.advance(29)
    await conflicts.sweep()
    assert (await conflicts.get(conflict)).status == "voting"

    await stage.advance(1)
    with pytest.raises(VoteClosed, match="its deadline has passed"):
        await conflicts.vote(conflict, "m5", MIRA)
    await conflicts.sweep()

    found = await conflicts.get(conflict)
    if found.resolution is not None:
        assert found.resolution.winner == outcome
    else:
        assert (found.status, found.reason) == ("undecided", outcome)
        with pytest.raises(VoteClosed, match="it is undecided"):
            await conflicts.vote(conflict, "m5", MIRA)


async def test_what_a_vote_left_undecided_another_vote_or_strategy_decides(
    stage: Stage, conflicts: Conflicts
) -> None:
    conflict = await voting(conflicts)
    await conflicts.vote(conflict, "m1", MIRA)
    await stage.advance(31)
    await conflicts.sweep()

    ballot = await conflicts.open_vote(conflict, members=["m1"], rule="vote")
    assert ballot.votes == ()
    assert (await conflicts.vote(conflict, "m1", NOOR)).winner == NOOR


async def test_all_votes_without_a_decision_leave_it_undecided_at_once(
    conflicts: Conflicts,
) -> None:
    conflict = await voting(conflicts, members=["m1", "m2"])
    await conflicts.vote(conflict, "m1", MIRA)

    taken = await conflicts.vote(conflict, "m2", NOOR)

    assert (taken.status, taken.winner) == ("undecided", "")
    assert (await conflicts.resolve(conflict, inputs={"priorities": {MIRA: 1, NOOR: 2}})).winner


async def test_where_votes_may_change_it_is_decided_at_the_deadline_only(
    stage: Stage, conflicts: Conflicts
) -> None:
    conflict = await voting(conflicts, revisable=True, members=["m1", "m2", "m3"])
    for voter in ("m1", "m2", "m3"):
        assert (await conflicts.vote(conflict, voter, MIRA)).status == "voting"
    for voter in ("m1", "m2"):
        await conflicts.vote(conflict, voter, NOOR)

    await stage.advance(31)
    await conflicts.sweep()

    resolution = (await conflicts.get(conflict)).resolution
    assert resolution is not None
    assert (resolution.winner, resolution.reason) == (NOOR, "2 of 3")


@pytest.mark.parametrize(
    ("votes", "outcome"),
    [
        ([], "no_votes"),
        ([(MIRA, 0.0), (MIRA, 0.0), (NOOR, 0.0)], "no_votes_for_a_party"),
        ([(MIRA, 0.9), (MIRA, 0.3), (NOOR, 0.8)], MIRA),
        ([(MIRA, 0.6), (MIRA, 0.59), (NOOR, 0.8)], "no_consensus"),
        ([(MIRA, 0.3), (MIRA, 0.3), (None, 0.4)], MIRA),
        ([(MIRA, 1.0), (None, 1.0), (None, 1.0)], "no_consensus"),
    ],
    ids=str,
)
async def test_a_consensus_needs_its_share_of_all_confidence(
    stage: Stage, conflicts: Conflicts, votes: list[tuple[str | None, float]], outcome: str
) -> None:
    conflict = await voting(conflicts, rule="consensus")
    for voter, (candidate, confidence) in zip(MEMBERS, votes, strict=False):
        await conflicts.vote(conflict, voter, candidate, confidence=confidence)
    await stage.advance(31)

    await conflicts.sweep()

    found = await conflicts.get(conflict)
    assert (found.resolution.winner if found.resolution else found.reason) == outcome


async def test_a_consensus_is_reached_early_where_no_dissent_could_undo_it(
    conflicts: Conflicts,
) -> None:
    conflict = await voting(conflicts, rule="consensus")

    statuses = [(await conflicts.vote(conflict, voter, MIRA)).status for voter in MEMBERS[:3]]

    assert statuses == ["voting", "voting", "resolved"]


async def test_half_of_the_confidence_is_no_early_consensus_while_the_rest_could_be_as_much(
    conflicts: Conflicts,
) -> None:
    conflict = await voting(conflicts, rule="consensus", threshold=0.5, members=["m1", "m2"])

    assert (await conflicts.vote(conflict, "m1", MIRA)).status == "voting"
    assert (await conflicts.vote(conflict, "m2", NOOR)).status == "undecided"


@pytest.mark.parametrize("revisable", [False, True])
async def test_while_it_is_voted_on_it_is_decided_otherwise_by_force_only(
    conflicts: Conflicts, revisable: bool
) -> None:
    conflict = await voting(conflicts, revisable=revisable)
    known = {"priorities": {MIRA: 1, NOOR: 2}}

    for call in (
        conflicts.resolve(conflict, inputs=known),
        conflicts.open_vote(conflict),
        conflicts.refer(conflict, "ann"),
    ):
        with pytest.raises(ConflictBusy):
            await call

    assert (await conflicts.resolve(conflict, inputs=known, force=True)).winner == NOOR


@pytest.mark.parametrize(
    "wrong",
    [
        {"members": []},
        {"members": "abc"},
        {"members": ["a b"]},
        {"members": [f"m{i}" for i in range(1_001)]},
        {"rule": "lottery"},
        {"tie": "coin"},
        {"quorum": 1.1},
        {"threshold": -0.1},
        {"deadline": 0},
        {"deadline": 2_592_001},
    ],
    ids=str,
)
async def test_what_is_no_ballot_is_refused(
    stage: Stage, conflicts: Conflicts, wrong: dict[str, Any]
) -> None:
    found = await conflicts.report("resource", "db", PAIR)
    before = await stage.dump()

    with pytest.raises(InvalidArgument):
        await conflicts.open_vote(found.id, **{"members": MEMBERS, **wrong})

    assert await stage.dump() == before


async def test_without_any_active_agent_there_is_no_electorate(
    stage: Stage, conflicts: Conflicts
) -> None:
    found = await conflicts.report("resource", "db", PAIR)
    for name in (MIRA, NOOR):
        await stage.call("agent_deregister", name, "ann")

    with pytest.raises(MissingInput, match="no agent may claim"):
        await conflicts.open_vote(found.id)


async def test_more_than_a_thousand_active_agents_must_be_named(
    stage: Stage, conflicts: Conflicts
) -> None:
    found = await conflicts.report("resource", "db", PAIR)
    await stage.raw("SADD", "agents:active", *(f"a{i}" for i in range(1_000)))

    with pytest.raises(TooLarge, match="More than 1,000 agents"):
        await conflicts.open_vote(found.id)


# Arbiters


async def test_only_its_arbiter_decides_what_was_referred(
    stage: Stage, conflicts: Conflicts
) -> None:
    found = await conflicts.report("resource", "db", PAIR)
    with pytest.raises(NotEntitled, match="referred to nobody"):
        await conflicts.decide(found.id, MIRA, by="ann")
    referred = await conflicts.refer(found.id, "ann", deadline=60, by="bob")
    before = await stage.dump()

    for call in (
        conflicts.decide(found.id, MIRA, by="bob"),
        conflicts.resolve(found.id, "priority", by="ann"),
        conflicts.resolve(found.id, "priority"),
    ):
        with pytest.raises(NotEntitled, match="lies with 'ann'"):
            await call
    with pytest.raises(NotAParty):
        await conflicts.decide(found.id, "carl", by="ann")
    assert await stage.dump() == before
    assert [one.id for one in await conflicts.pending("ann")] == [found.id]
    assert await conflicts.pending("bob") == []

    resolution = await conflicts.decide(found.id, MIRA, by="ann", reason="she asked first")

    assert (referred.status, referred.arbiter) == ("referred", "ann")
    assert referred.deadline == at_ms(START_MS + 60_000)
    assert (resolution.type, resolution.winner) == ("arbiter", MIRA)
    assert (resolution.by, resolution.reason) == ("ann", "she asked first")
    assert await conflicts.pending("ann") == []


@pytest.mark.parametrize("fallback", [None, "priority"])
async def test_an_arbiter_who_is_late_is_overtaken_by_the_fallback(
    stage: Stage, conflicts: Conflicts, fallback: str | None
) -> None:
    found = await conflicts.report("resource", "db", PAIR)
    await conflicts.refer(found.id, "ann", deadline=60, fallback=fallback)
    await stage.advance(60)

    await conflicts.sweep()

    after = await conflicts.get(found.id)
    assert await conflicts.pending("ann") == []
    if fallback is None:
        assert (after.status, after.reason) == ("undecided", "not_decided_in_time")
        with pytest.raises(NotEntitled):
            await conflicts.decide(found.id, MIRA, by="ann")
    else:
        assert after.resolution is not None
        assert (after.resolution.winner, after.resolution.by) == (NOOR, "janitor")
        assert after.resolution.reason == (
            "not decided in time; priority: priority 5 is the highest"
        )
        with pytest.raises(AlreadyResolved):
            await conflicts.decide(found.id, MIRA, by="ann")


async def test_a_fallback_that_lacks_its_inputs_is_refused_when_it_is_named(
    stage: Stage, conflicts: Conflicts
) -> None:
    found = await conflicts.report("resource", "db", ["a", "b"])
    before = await stage.dump()

    with pytest.raises(MissingInput):
        await conflicts.refer(found.id, "ann", fallback="priority")

    assert await stage.dump() == before


# Enforced on contexts


async def test_the_winners_value_is_written_into_the_context(
    stage: Stage, conflicts: Conflicts, contexts: Contexts
) -> None:
    before = await contexts.set("p", {"status": "open", "n": 1})
    parties = [
        Party(name="a", priority=1, value="done"),
        Party(name="b", priority=2, value={"x": [1.5]}),
    ]
    found = await conflicts.report("context", "p", parties, about="status")

    resolution = await conflicts.resolve(found.id)

    after = await contexts.get("p")
    assert resolution.enforced == "written"
    assert after.fields == {"status": {"x": [1.5]}, "n": 1}
    assert after.rev > before.rev
    kinds = types_of(await stage.news())
    assert kinds[-2:] == ["context:updated", "conflict:resolved"]


async def test_a_winner_without_a_value_is_refused_and_the_conflict_stays_open(
    stage: Stage, conflicts: Conflicts
) -> None:
    parties = [Party(name="a", priority=1, value="done"), Party(name="b", priority=2)]
    found = await conflicts.report("context", "p", parties, about="status")
    before = await stage.dump()

    with pytest.raises(MissingInput, match="'b' of conflict"):
        await conflicts.resolve(found.id)

    assert await stage.dump() == before


async def test_a_verdict_that_was_not_to_be_enforced_changes_nothing_else(
    stage: Stage, conflicts: Conflicts
) -> None:
    found = await conflicts.report("context", "p", PAIR, about="status", enforce=False)

    assert (await conflicts.resolve(found.id)).enforced == "not_asked"
    assert "context:project:p" not in await stage.key_names()


async def test_the_party_at_the_current_revision_wins_and_a_later_reader_takes_nothing_from_it(
    conflicts: Conflicts, contexts: Contexts
) -> None:
    old = await contexts.set("p", {"n": 0})
    current = await contexts.set("p", {"n": 1})
    parties = [
        Party(name="stale", rev=old.rev, value=5),
        Party(name="first", rev=current.rev, value=6),
        Party(name="reader", rev=current.rev, value=7),
    ]
    found = await conflicts.report("context", "p", parties, about="n")

    resolution = await conflicts.resolve(found.id, "optimistic")

    assert resolution.winner == "first"
    assert resolution.reason == f"its revision {current.rev} is the current one"
    assert (await contexts.get("p")).fields == {"n": 6}
    with pytest.raises(RevisionConflict):
        await contexts.set("p", {"n": 7}, if_rev=current.rev)


async def test_where_nobody_is_current_it_stays_open(
    stage: Stage, conflicts: Conflicts, contexts: Contexts
) -> None:
    old = await contexts.set("p", {"n": 0})
    await contexts.set("p", {"n": 1})
    parties = [Party(name="stale", rev=old.rev, value=5), Party(name="none", value=1)]
    found = await conflicts.report("context", "p", parties, about="n")
    before = await stage.dump()

    with pytest.raises(RevisionConflict, match="No party"):
        await conflicts.resolve(found.id, "optimistic")

    assert await stage.dump() == before


# Enforced on tasks


async def contested(stage: Stage, conflicts: Conflicts, task: str = "t", **more: Any) -> Conflict:
    return await conflicts.report("task", task, PAIR, board=BOARD, **more)


async def test_a_waiting_task_is_reserved_for_the_winner(
    stage: Stage, conflicts: Conflicts
) -> None:
    await stage.submit("t")
    found = await contested(stage, conflicts)

    assert (await conflicts.resolve(found.id)).enforced == "reserved"

    assert (await stage.claim(MIRA)).ids == []
    assert (await stage.claim(NOOR)).ids == ["t"]


async def test_a_task_that_a_loser_holds_is_taken_back_and_their_late_writes_are_refused(
    stage: Stage, conflicts: Conflicts
) -> None:
    await stage.submit("t")
    late = await stage.started("t", MIRA)
    found = await contested(stage, conflicts)

    assert (await conflicts.resolve(found.id)).enforced == "taken_back"

    assert await stage.complete("t", late) == "lease_lost"
    assert await stage.renew("t", late) == "lease_lost"
    (task,) = (await stage.claim(NOOR)).tasks
    assert task.fence > late
    assert await stage.complete("t", late) == "lease_lost"
    assert await stage.complete("t", task.fence) == "ok"
    record = await stage.record("t")
    assert (record.failures, record.crashes) == (0, 0)


async def test_the_winner_keeps_what_it_has(stage: Stage, conflicts: Conflicts) -> None:
    await stage.submit("t", "u")
    fence = await stage.started("t", NOOR)
    await stage.submit(spec("r", suggested_worker=NOOR))

    for task in ("t", "r"):
        found = await contested(stage, conflicts, task)
        assert (await conflicts.resolve(found.id)).enforced == "kept"

    assert await stage.complete("t", fence) == "ok"


async def test_a_task_that_waits_for_something_goes_to_the_winner_when_it_is_ready(
    stage: Stage, conflicts: Conflicts
) -> None:
    await stage.submit("first", spec("t", "first"))
    fence = await stage.started("first", MIRA)
    found = await contested(stage, conflicts)

    assert (await conflicts.resolve(found.id)).enforced == "suggested"

    assert await stage.complete("first", fence) == "ok"
    assert (await stage.record("t")).holder == NOOR


@pytest.mark.parametrize(
    ("end", "enforced"), [("complete", "finished"), ("ask", "cancel_requested")]
)
async def test_where_nothing_is_left_to_assign_the_verdict_says_so(
    stage: Stage, conflicts: Conflicts, end: str, enforced: str
) -> None:
    await stage.submit("t")
    fence = await stage.started("t", MIRA)
    if end == "complete":
        await stage.complete("t", fence)
    else:
        await stage.cancel("t")
    found = await contested(stage, conflicts)

    assert (await conflicts.resolve(found.id)).enforced == enforced


@pytest.mark.parametrize(
    ("arrange", "error"),
    [
        (lambda s: s.call("agent_deregister", NOOR, "ann"), AgentNotFound),
        (lambda s: s.agent(NOOR, status="maintenance"), AgentDraining),
        (lambda s: s.agent(NOOR, kinds=["other"]), DoesNotFit),
    ],
    ids=["gone", "draining", "unfit"],
)
async def test_a_winner_that_cannot_have_the_task_is_refused_and_a_vote_for_it_stands(
    stage: Stage,
    conflicts: Conflicts,
    arrange: Callable[[Stage], Awaitable[Any]],
    error: type[Exception],
) -> None:
    await stage.submit("t")
    await arrange(stage)
    found = await contested(stage, conflicts)
    before = await stage.dump()

    with pytest.raises(error):
        await conflicts.resolve(found.id)

    assert await stage.dump() == before
    await conflicts.open_vote(found.id, members=["m1"])
    assert (await conflicts.vote(found.id, "m1", NOOR)).winner == NOOR
    resolution = (await conflicts.get(found.id)).resolution
    assert resolution is not None
    assert resolution.enforced.startswith("refused: ")
    assert (await stage.claim(MIRA)).ids == ["t"]


@pytest.mark.parametrize("held", [True, False])
async def test_the_winners_result_is_the_tasks(
    stage: Stage, conflicts: Conflicts, held: bool
) -> None:
    await stage.submit("t", spec("next", "t"))
    fence = await stage.started("t", MIRA) if held else 0
    parties = [
        Party(name=MIRA, priority=1, value="hers"),
        Party(name=NOOR, priority=2, value={"text": "his"}),
    ]
    found = await conflicts.report("task", "t", parties, board=BOARD, about="output")

    assert (await conflicts.resolve(found.id)).enforced == "completed"

    task = await stage.task("t")
    assert (task.status.value, task.result) == ("done", {"text": "his"})
    assert await stage.status("next") == "pending"
    if held:
        assert await stage.complete("t", fence, '"late"') == "lease_lost"
        assert (await stage.task("t")).result == {"text": "his"}


async def test_a_result_that_a_loser_had_handed_in_is_replaced(
    stage: Stage, conflicts: Conflicts
) -> None:
    await stage.submit("t")
    await stage.complete("t", await stage.held("t", MIRA), '"hers"')
    parties = [
        Party(name=MIRA, priority=1, value="hers"),
        Party(name=NOOR, priority=2, value="his"),
    ]
    found = await conflicts.report("task", "t", parties, board=BOARD, about="output")

    assert (await conflicts.resolve(found.id)).enforced == "result_replaced"

    assert (await stage.task("t")).result == "his"


async def test_a_task_that_failed_takes_no_result(stage: Stage, conflicts: Conflicts) -> None:
    await stage.submit("t")
    await stage.cancel("t")
    parties = [Party(name=MIRA, priority=1, value=1)]
    found = await conflicts.report("task", "t", parties, board=BOARD, about="output")
    before = await stage.dump()

    with pytest.raises(IllegalState):
        await conflicts.resolve(found.id)

    assert await stage.dump() == before


async def test_a_conflict_over_dependencies_is_advice(stage: Stage, conflicts: Conflicts) -> None:
    await stage.submit("t")
    found = await contested(stage, conflicts, about="dependency")

    assert (await conflicts.resolve(found.id)).enforced == "advice"


async def test_the_fence_of_the_claim_is_a_tasks_revision(
    stage: Stage, conflicts: Conflicts
) -> None:
    await stage.submit("t")
    stale = await stage.held("t", MIRA)
    await stage.release("t", stale)
    fence = await stage.held("t", NOOR)
    parties = [Party(name=MIRA, rev=stale), Party(name=NOOR, rev=fence)]
    found = await conflicts.report("task", "t", parties, board=BOARD)

    resolution = await conflicts.resolve(found.id, "optimistic")

    assert (resolution.winner, resolution.enforced) == (NOOR, "kept")


# Enforced on locks


async def test_a_loser_is_made_to_give_up_the_lock_and_the_winner_in_line_gets_it(
    conflicts: Conflicts, locks: Locks
) -> None:
    held = await locks.acquire("db", owner="o1", agent=MIRA)
    other = asyncio.ensure_future(locks.acquire("db", owner="o2", agent="third", wait=20))
    await waiting(locks, 1)
    hers = asyncio.ensure_future(locks.acquire("db", owner="o3", agent=NOOR, wait=20))
    await waiting(locks, 2)
    found = await conflicts.report("resource", "db", PAIR)

    resolution = await conflicts.resolve(found.id)

    lock = await asyncio.wait_for(hers, 10)
    assert resolution.enforced == "handed_over"
    assert lock.fence > held.fence
    assert not other.done()
    other.cancel()
    await asyncio.gather(other, return_exceptions=True)


async def waiting(locks: Locks, count: int) -> None:
    async def are_in_line() -> bool:
        return len(await locks.waits()) >= count

    await until(are_in_line)


async def test_a_winner_that_is_not_there_yet_finds_the_lock_free(
    conflicts: Conflicts, locks: Locks
) -> None:
    held = await locks.acquire("db", owner="o1", agent=MIRA)
    queued = asyncio.ensure_future(locks.acquire("db", owner="o2", agent=MIRA, wait=20))
    await waiting(locks, 1)
    found = await conflicts.report("resource", "db", PAIR)

    assert (await conflicts.resolve(found.id)).enforced == "freed"

    lock = await locks.acquire("db", owner="o9", agent=NOOR, wait=0)
    assert lock.fence > held.fence
    with pytest.raises(LockLost):
        await locks.release(held)
    queued.cancel()
    await asyncio.gather(queued, return_exceptions=True)


async def test_a_winner_that_holds_the_lock_keeps_it(conflicts: Conflicts, locks: Locks) -> None:
    held = await locks.acquire("db", owner="token:1")
    parties = [Party(name=MIRA, priority=1), Party(name=NOOR, priority=2, owner="token:1")]
    found = await conflicts.report("resource", "db", parties)

    assert (await conflicts.resolve(found.id)).enforced == "kept"

    await locks.release(held)


async def test_a_winner_that_waits_for_more_stands_first_in_line(
    conflicts: Conflicts, locks: Locks
) -> None:
    await locks.acquire("db", owner="o1", agent=MIRA)
    stranger = await locks.acquire("disk", owner="o2", agent="third")
    hers = asyncio.ensure_future(locks.acquire("db", "disk", owner="o3", agent=NOOR, wait=20))
    await waiting(locks, 1)
    found = await conflicts.report("resource", "db", PAIR)

    assert (await conflicts.resolve(found.id)).enforced == "first_in_line"

    assert not hers.done()
    await locks.release(stranger)
    assert (await asyncio.wait_for(hers, 10)).resources == ("db", "disk")


async def test_a_verdict_over_a_pattern_takes_what_lies_beneath_it(
    conflicts: Conflicts, locks: Locks
) -> None:
    lost = [
        await locks.acquire("file:src/a.py", owner="o1", agent=MIRA),
        await locks.acquire("file:src/deep/b.py", "file:src/c.py", owner="o2", agent=MIRA),
    ]
    outside = await locks.acquire("file:docs/a.md", owner="o3", agent=MIRA)
    others = await locks.acquire("file:src/d.py", owner="o4", agent="third")
    found = await conflicts.report("resource", "file:src/**", PAIR)

    assert (await conflicts.resolve(found.id)).enforced == "freed"

    for lock in lost:
        with pytest.raises(LockLost):
            await locks.release(lock)
    await locks.release(outside)
    await locks.release(others)


async def test_a_verdict_over_a_name_takes_the_pattern_that_overlaps_it_and_hands_over(
    conflicts: Conflicts, locks: Locks
) -> None:
    held = await locks.acquire("file:src/**", owner="o1", agent=MIRA)
    other = asyncio.ensure_future(locks.acquire("file:src/a.py", owner="o2", agent="x", wait=20))
    await waiting(locks, 1)
    hers = asyncio.ensure_future(locks.acquire("file:src/*.py", owner="o3", agent=NOOR, wait=20))
    await waiting(locks, 2)
    found = await conflicts.report("resource", "file:src/a.py", PAIR)

    assert (await conflicts.resolve(found.id)).enforced == "handed_over"

    lock = await asyncio.wait_for(hers, 10)
    assert lock.fence > held.fence
    assert not other.done()
    with pytest.raises(LockLost):
        await locks.release(held)
    other.cancel()
    await asyncio.gather(other, return_exceptions=True)


async def test_a_winner_that_holds_part_of_a_pattern_keeps_it_and_waiting_losers_wait_on(
    conflicts: Conflicts, locks: Locks
) -> None:
    held = await locks.acquire("file:src/a.py", owner="o1", agent=NOOR)
    lost = await locks.acquire("file:src/b.py", owner="o2", agent=MIRA)
    found = await conflicts.report("resource", "file:src/**", PAIR)

    assert (await conflicts.resolve(found.id)).enforced == "kept"

    await locks.release(held)
    with pytest.raises(LockLost):
        await locks.release(lost)


async def test_a_pattern_over_more_than_a_thousand_locks_cannot_be_decided_by_force(
    stage: Stage, conflicts: Conflicts
) -> None:
    await stage.raw("ZADD", "locks", *(part for i in range(1_001) for part in (0, f"y{i}")))
    found = await conflicts.report("resource", "y*", PAIR)

    with pytest.raises(TooManyLocks, match=r"Pattern 'y\*' covers more than 1000 resources"):
        await conflicts.resolve(found.id)

    assert (await conflicts.get(found.id)).resolution is None
    await stage.raw("DEL", "locks")


async def test_a_pattern_that_nobody_is_in_takes_nothing(
    stage: Stage, conflicts: Conflicts, locks: Locks
) -> None:
    outside = await locks.acquire("file:docs/a.md", owner="o1", agent=MIRA)
    found = await conflicts.report("resource", "file:src/**", PAIR)

    assert (await conflicts.resolve(found.id)).enforced == "nothing_held"

    await locks.release(outside)


async def test_the_fence_of_the_lock_is_its_revision(conflicts: Conflicts, locks: Locks) -> None:
    stale = await locks.acquire("db", owner="o1", agent=MIRA)
    await locks.release(stale)
    held = await locks.acquire("db", owner="o2", agent=NOOR)
    parties = [Party(name=MIRA, rev=stale.fence), Party(name=NOOR, rev=held.fence)]
    found = await conflicts.report("resource", "db", parties)

    resolution = await conflicts.resolve(found.id, "optimistic")

    assert (resolution.winner, resolution.enforced) == (NOOR, "kept")


# Many at once, and what is kept


async def test_of_two_who_decide_at_once_one_is_right_and_the_other_hears_it(
    conflicts: Conflicts,
) -> None:
    for _ in range(20):
        found = await conflicts.report("resource", "db", PAIR)
        wishes = [{MIRA: 1, NOOR: 2}, {MIRA: 2, NOOR: 1}] * 3

        answers = await asyncio.gather(
            *(conflicts.resolve(found.id, inputs={"priorities": wish}) for wish in wishes),
            return_exceptions=True,
        )

        won = [one for one in answers if not isinstance(one, BaseException)]
        assert len(won) == 1
        assert all(isinstance(one, AlreadyResolved) for one in answers if one not in won)
        assert (await conflicts.get(found.id)).resolution == won[0]


async def test_of_many_votes_at_once_each_counts_once(conflicts: Conflicts) -> None:
    members = [f"m{i}" for i in range(100)]
    conflict = await voting(conflicts, members=members, quorum=1.0)

    await asyncio.gather(
        *(
            conflicts.vote(conflict, voter, MIRA if i < 60 else NOOR)
            for _ in range(2)
            for i, voter in enumerate(members)
        ),
        return_exceptions=True,
    )

    found = await conflicts.get(conflict)
    assert found.ballot is not None
    assert len(found.ballot.votes) == 100
    assert found.resolution is not None
    assert (found.resolution.winner, found.resolution.reason) == (MIRA, "60 of 100")


async def test_the_trail_says_who_did_what_when_and_with_what(
    stage: Stage, conflicts: Conflicts
) -> None:
    found = await conflicts.report("resource", "db", ["a", "b"], by="ann")
    stage.now += 1_000_000
    await conflicts.open_vote(found.id, members=["m1"], deadline=5, by="bob")
    await stage.advance(5)
    await conflicts.sweep()
    await conflicts.refer(found.id, "eve", by="carl")
    await conflicts.resolve(
        found.id, inputs={"priorities": {"a": 1, "b": 2}}, by="dora", force=True
    )

    trail = (await conflicts.get(found.id)).trail
    assert [(entry.what, entry.by) for entry in trail] == [
        ("reported", "ann"),
        ("put_to_vote", "bob"),
        ("undecided", "janitor"),
        ("referred", "carl"),
        ("resolved", "dora"),
    ]
    assert trail[1].at == at_ms(START_MS + 1_000)
    assert trail[2].inputs == "no_votes"
    assert trail[4].inputs == {
        "strategy": "priority",
        "winner": "b",
        "enforced": "nothing_held",
        "given": {"priorities": {"a": 1, "b": 2}},
    }


async def test_active_history_and_stats_are_of_what_there_is(
    stage: Stage, conflicts: Conflicts
) -> None:
    await stage.submit("t")
    ids = []
    for i in range(4):
        stage.now += 1_000_000
        ids.append((await conflicts.report("resource", f"r{i}", PAIR)).id)
    stage.now += 1_000_000
    task = await contested(stage, conflicts)
    for one in (ids[2], ids[0]):
        stage.now += 1_000_000
        await conflicts.resolve(one)

    assert [one.id for one in await conflicts.active()] == [task.id, ids[3], ids[1]]
    assert [one.id for one in await conflicts.history()] == [ids[0], ids[2]]
    assert [one.id for one in await conflicts.history(limit=1, skip=1)] == [ids[2]]
    stats = await conflicts.stats()
    assert (stats.total, stats.active, stats.resolved) == (5, 3, 2)
    assert stats.by_strategy == {"priority": 2}
    assert stats.by_type == {"resource": 4, "task": 1}


async def test_what_the_parties_bring_is_bounded_and_lists_of_much_are_read_in_parts(
    stage: Stage, conflicts: Conflicts
) -> None:
    await stage.submit("t")
    parties = [Party(name=f"p{i}", value="x" * 1_000_000) for i in range(9)]
    with pytest.raises(TooLarge, match="over 8,388,608 bytes"):
        await conflicts.report("task", "t", parties, board=BOARD, about="output")
    ids = set()
    for _ in range(4):
        stage.now += 1_000_000
        found = await conflicts.report("task", "t", parties[:5], board=BOARD, about="output")
        ids.add(found.id)

    assert {one.id for one in await conflicts.active()} == ids
    assert len(await conflicts.active(limit=3)) == 3
    assert len(await conflicts.active(skip=3)) == 1


async def test_cleanup_removes_what_was_resolved_longer_ago_and_nothing_open(
    stage: Stage, conflicts: Conflicts
) -> None:
    ids = [(await conflicts.report("resource", f"r{i}", PAIR)).id for i in range(3)]
    await conflicts.resolve(ids[0])
    await stage.advance(10)
    await conflicts.resolve(ids[1])

    assert await conflicts.cleanup(10) == 0
    stage.now += 1_000
    assert await conflicts.cleanup(10, by="ann") == 1

    assert [one.id for one in await conflicts.history()] == [ids[1]]
    assert [one.id for one in await conflicts.active()] == [ids[2]]
    with pytest.raises(ConflictNotFound):
        await conflicts.get(ids[0])
    event = (await stage.news())[-1]
    assert (event.type, event.by, event.facts[0].id) == ("conflict:removed", "ann", ids[0])


async def test_nothing_is_left_a_week_after_the_end(stage: Stage, conflicts: Conflicts) -> None:
    before = await stage.key_names()
    decided = await voting(conflicts)
    for voter in MEMBERS[:3]:
        await conflicts.vote(decided, voter, MIRA)
    referred = await conflicts.report("resource", "r", PAIR)
    await conflicts.refer(referred.id, "ann", deadline=60)
    await voting(conflicts)
    await stage.advance(31 * DAY)
    await conflicts.sweep()
    assert {one.status for one in await conflicts.active()} == {"undecided"}
    await conflicts.sweep()
    assert (await conflicts.history())[0].resolution.type == "abandoned"  # type: ignore[union-attr]

    await stage.advance(31 * DAY)
    while await conflicts.sweep():
        pass
    await stage.advance(7 * DAY)
    while await conflicts.sweep():
        pass

    after = await stage.key_names()
    assert after - before <= {"events"}


async def test_no_more_than_ten_thousand_are_kept(stage: Stage, conflicts: Conflicts) -> None:
    await report_many(stage, 9_000)
    await resolve_many(stage, 9_000)
    await report_many_more(stage)

    while await conflicts.sweep():
        pass

    assert (await conflicts.stats()).resolved == 10_000
    with pytest.raises(ConflictNotFound):
        await conflicts.get("c00000")


async def resolve_many(stage: Stage, count: int, prefix: str = "c") -> None:
    for start in range(0, count, 500):
        await asyncio.gather(
            *(
                stage.call(
                    *("conflict_resolve", f"{prefix}{i:05d}", "", f"op{i}", "own", "a", "", "", 0)
                )
                for i in range(start, min(start + 500, count))
            )
        )


async def report_many_more(stage: Stage) -> None:
    stage.now += 1_000_000
    for i in range(1_050):
        await stage.call(
            *("conflict_report", f"d{i:05d}", "resource", "", f"r{i}", "", "", 0, "", "x"),
            *(1, "a", "", "", "", "", "", ""),
        )
    await resolve_many(stage, 1_050, "d")


WRONG = ["conflicts", "conflicts:open", "conflicts:due", "conflicts:resolved",
         "conflicts:strategies", "conflicts:kind:context", "conflicts:record:c",
         "conflicts:votes:c", "conflicts:log:c", "conflicts:electorate:c",
         "conflicts:strategy:priority", "context:project:p", "contexts", "events",
         "conflicts:pending:ann", "conflicts:strategy:vote"]  # fmt: skip


@pytest.mark.parametrize("key", WRONG)
@pytest.mark.parametrize("how", ["report", "resolve", "poll", "vote", "refer", "sweep", "clean"])
async def test_a_foreign_value_stops_the_operation_before_its_first_write(
    stage: Stage, conflicts: Conflicts, key: str, how: str
) -> None:
    parties = [Party(name="a", priority=1, value=1)]
    if how != "report":
        await conflicts.report("context", "p", parties, about="n", id="c")
    if how in ("vote", "sweep"):
        await conflicts.open_vote("c", members=["m1"], deadline=5)
    if how == "clean":
        await conflicts.resolve("c")
    await stage.advance(6 if how in ("sweep", "clean") else 0)
    await stage.raw("DEL", key)
    await stage.raw("SET", key, "not ours")
    before = await stage.dump()
    calls: dict[str, Callable[[], Awaitable[Any]]] = {
        "report": lambda: conflicts.report("context", "p", parties, about="n", id="c"),
        "resolve": lambda: conflicts.resolve("c"),
        "poll": lambda: conflicts.open_vote("c", members=["m1"]),
        "vote": lambda: conflicts.vote("c", "m1", "a"),
        "refer": lambda: conflicts.refer("c", "ann"),
        "sweep": conflicts.sweep,
        "clean": lambda: conflicts.cleanup(1),
    }

    error = await failure_of(calls[how]())

    if error:
        assert "of the wrong type" in error
        assert await stage.dump() == before
    else:
        assert await stage.raw("GET", key) == b"not ours"
