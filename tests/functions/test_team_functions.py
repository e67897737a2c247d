"""Teams by name: each saved document is a version that nothing changes any more."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from callboard.domain.task import at_ms
from callboard.exceptions import EngineError, InvalidArgument, TeamNotFound, TooLarge
from callboard.services.teams import Teams
from tests.functions.support import START_US, Stage, types_of

pytestmark = pytest.mark.every_engine

START_MS = START_US // 1_000
DOCUMENT: dict[str, Any] = {"team": {"planner": "p", "note": 'a "word"\n'}, "agents": {}}


@pytest.fixture
def teams(stage: Stage) -> Teams:
    return Teams(stage.namespace)


# Refusals


@pytest.mark.parametrize(
    "wrong",
    [
        {"name": "no name"},
        {"document": [1]},
        {"document": {"x": float("nan")}},
        {"document": {"x": print}},
        {"by": 1},
        {"message": "m" * 1_001},
    ],
    ids=str,
)
async def test_what_is_no_team_is_refused_at_the_edge(
    stage: Stage, teams: Teams, wrong: dict[str, Any]
) -> None:
    before = await stage.dump()

    with pytest.raises(InvalidArgument):
        await teams.add(**{"name": "t", "document": DOCUMENT, **wrong})

    assert await stage.dump() == before


async def test_a_document_of_more_than_a_mebibyte_is_refused(teams: Teams) -> None:
    with pytest.raises(TooLarge):
        await teams.add("t", {"x": "x" * 1_048_576})


async def test_a_team_that_is_not_there_is_not_found(stage: Stage, teams: Teams) -> None:
    before = await stage.dump()

    for call in (teams.get("t"), teams.get("t", 1), teams.versions("t"), teams.remove("t")):
        with pytest.raises(TeamNotFound, match="No team 't'"):
            await call

    assert await stage.dump() == before


async def test_a_version_that_is_not_there_is_not_found(teams: Teams) -> None:
    await teams.add("t", DOCUMENT)

    with pytest.raises(TeamNotFound, match="has no version 2: the newest is 1"):
        await teams.get("t", 2)


@pytest.mark.parametrize("key", ["teams", "team:t", "events"])
@pytest.mark.parametrize("how", ["add", "remove"])
async def test_a_foreign_value_stops_the_operation_before_its_first_write(
    stage: Stage, teams: Teams, key: str, how: str
) -> None:
    await teams.add("t", DOCUMENT)
    await stage.raw("DEL", key)
    await stage.raw("SET", key, "not ours")
    before = await stage.dump()

    with pytest.raises(EngineError, match="of the wrong type"):
        await (teams.add("t", {}) if how == "add" else teams.remove("t"))

    assert await stage.dump() == before


# Versions


async def test_a_team_is_read_as_it_was_saved(stage: Stage, teams: Teams) -> None:
    added = await teams.add("t", DOCUMENT, by='an"n', message="first\ntry")

    assert (added.name, added.version, added.is_new) == ("t", 1, True)
    assert added.document == {"team": {"planner": "p", "note": 'a "word"\n'}, "agents": {}}
    assert (added.created_at, added.created_by) == (at_ms(START_MS), 'an"n')
    assert added.message == "first\ntry"
    read = await teams.get("t")
    assert (read.document, read.version, read.is_new) == (DOCUMENT, 1, False)
    event = (await stage.news())[-1]
    assert (event.type, event.board, event.by) == ("team:saved", "", 'an"n')
    assert [(fact.id, fact.state, fact.extra) for fact in event.facts] == [("t", "saved", "1")]


async def test_the_newest_document_again_is_no_new_version(stage: Stage, teams: Teams) -> None:
    await teams.add("t", DOCUMENT, by="ann")
    before = await stage.dump()

    again = await teams.add("t", DOCUMENT, by="bob", message="again")

    assert (again.version, again.is_new, again.created_by) == (1, False, "ann")
    assert await stage.dump() == before


@pytest.mark.parametrize("other", [{}, {"team": {}}, {**DOCUMENT, "at": 1}, {"document": DOCUMENT}])
async def test_another_document_is_the_next_version(teams: Teams, other: dict[str, Any]) -> None:
    await teams.add("t", DOCUMENT)

    second = await teams.add("t", other)
    third = await teams.add("t", DOCUMENT)

    assert [second.version, third.version] == [2, 3]
    assert [(await teams.get("t", n)).document for n in (1, 2, 3)] == [DOCUMENT, other, DOCUMENT]


async def test_six_versions_saved_at_once_get_the_numbers_1_to_6(teams: Teams) -> None:
    added = await asyncio.gather(*(teams.add("t", {"n": n}) for n in range(6)))

    assert sorted(team.version for team in added) == [1, 2, 3, 4, 5, 6]
    for team in added:
        assert (await teams.get("t", team.version)).document == team.document


async def test_the_same_document_saved_at_once_is_one_version(stage: Stage, teams: Teams) -> None:
    added = await asyncio.gather(*(teams.add("t", DOCUMENT) for _ in range(6)))

    assert sorted((team.version, team.is_new) for team in added) == [(1, False)] * 5 + [(1, True)]
    assert types_of(await stage.news()) == ["agent:registered"] * 2 + ["team:saved"]


async def test_the_fifty_newest_versions_are_kept(teams: Teams) -> None:
    for n in range(1, 53):
        await teams.add("t", {"n": n})

    assert [team.version for team in await teams.versions("t")] == list(range(52, 2, -1))
    with pytest.raises(TeamNotFound, match="the newest is 52, and 50 are kept"):
        await teams.get("t", 2)
    assert (await teams.get("t", 3)).document == {"n": 3}


# All teams


async def test_teams_are_listed_by_name_in_their_newest_version(teams: Teams) -> None:
    await teams.add("b", {"n": 1})
    await teams.add("c", {"n": 1})
    await teams.add("a", {"n": 1})
    await teams.add("b", {"n": 2})
    await teams.remove("c")

    assert [(team.name, team.version) for team in await teams.list()] == [("a", 1), ("b", 2)]
    assert [team.name for team in await teams.list(limit=1, skip=1)] == ["b"]


async def test_a_team_that_was_removed_is_gone_and_its_numbers_are_not_given_again(
    stage: Stage, teams: Teams
) -> None:
    await teams.add("t", {"n": 1})
    await teams.add("t", {"n": 2})

    await teams.remove("t", by="ann")

    event = (await stage.news())[-1]
    assert (event.type, event.by, event.facts[0].extra) == ("team:removed", "ann", "2")
    assert "team:t" not in await stage.key_names()
    with pytest.raises(TeamNotFound):
        await teams.remove("t")
    assert (await teams.add("t", {"n": 2})).version == 3
