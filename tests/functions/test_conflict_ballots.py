"""Ballots by chance, beside a plain count: no early decision is one that a later vote undoes."""

from __future__ import annotations

import math
import random
from dataclasses import dataclass

import pytest

from callboard.exceptions import AlreadyResolved, VoteClosed
from callboard.services.conflicts import Conflicts
from tests.functions.support import Stage

pytestmark = pytest.mark.every_engine


@dataclass(frozen=True)
class Case:
    """A ballot's rules, and the votes in the order in which they are cast."""

    parties: list[str]
    members: list[str]
    rule: str
    quorum: float
    threshold: float
    tie: str
    votes: list[tuple[str, str | None, float]]

    @classmethod
    def by_chance(cls, seed: int) -> Case:
        chance = random.Random(seed)
        parties = [f"p{i}" for i in range(chance.randint(1, 4))]
        members = [f"m{i}" for i in range(chance.randint(1, 9))]
        rule = chance.choice(["vote", "consensus"])
        voters = chance.sample(members, chance.randint(0, len(members)))
        return cls(
            parties=parties,
            members=members,
            rule=rule,
            quorum=chance.choice([0.0, 0.3, 0.5, 0.8, 1.0]),
            threshold=chance.choice([0.5, 0.6, 0.75]),
            tie=chance.choice(["undecided", "first"]),
            votes=[
                (
                    voter,
                    chance.choice([*parties, *parties, None]),
                    1.0 if rule == "vote" else chance.choice([0.0, 0.25, 0.5, 1.0]),
                )
                for voter in voters
            ],
        )

    @property
    def outcome(self) -> str | None:
        """The winner, counted when all is over; None where it is undecided."""
        if len(self.votes) < max(1, math.ceil(self.quorum * len(self.members))):
            return None
        sums = dict.fromkeys(self.parties, 0.0)
        for _, candidate, confidence in self.votes:
            if candidate is not None:
                sums[candidate] += confidence
        most = max(sums.values())
        leaders = [party for party in self.parties if sums[party] == most]
        if most == 0:
            return None
        if self.rule == "consensus":
            total = sum(confidence for _, _, confidence in self.votes)
            if most / total < self.threshold:
                return None
        if len(leaders) > 1 and self.tie == "undecided":
            return None
        return leaders[0]


@pytest.mark.parametrize("seed", range(60))
async def test_a_ballot_comes_to_what_a_plain_count_of_all_its_votes_says(
    stage: Stage, seed: int
) -> None:
    case, conflicts = Case.by_chance(seed), Conflicts(stage.namespace)
    conflict = (await conflicts.report("resource", "db", case.parties)).id
    await conflicts.open_vote(
        conflict,
        members=case.members,
        rule=case.rule,
        quorum=case.quorum,
        threshold=case.threshold,
        tie=case.tie,
    )

    for voter, candidate, confidence in case.votes:
        try:
            await conflicts.vote(conflict, voter, candidate, confidence=confidence)
        except (AlreadyResolved, VoteClosed):
            break
    await stage.advance(31)
    await conflicts.sweep()

    resolution = (await conflicts.get(conflict)).resolution
    assert (resolution.winner if resolution else None) == case.outcome, case
