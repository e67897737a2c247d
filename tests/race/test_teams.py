"""Two processes that save teams and begin runs at once: each number and each run once."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import chain
from typing import Any

import pytest

import callboard
from callboard.services.runs import RunRecords
from callboard.services.teams import Teams
from tests.chaos.processes import Program
from tests.race.support import each_does, racing

pytestmark = pytest.mark.timeout(180)


@pytest.fixture
def savers(cb: callboard.Callboard, valkey_url: str, namespace: str) -> Iterator[list[Program]]:
    """Two processes that have opened the test's namespace."""
    each = [{"namespace": namespace}] * 2
    with racing("saver", *each, url=valkey_url) as programs:
        yield programs


def both_do(savers: list[Program], *messages: dict[str, Any]) -> list[Any]:
    return list(chain.from_iterable(each_does(savers, list(messages))))


async def test_ten_teams_saved_at_once_by_two_processes_are_ten_teams(
    cb: callboard.Callboard, savers: list[Program]
) -> None:
    names = [f"t{n}" for n in range(10)]

    answers = both_do(savers, *({"do": "save", "names": names, "document": {"n": 1}},) * 2)

    assert sorted(answers) == sorted(
        [name, 1, is_new] for name in names for is_new in (False, True)
    )
    assert [team.name for team in await Teams(cb.namespace).list()] == names


async def test_documents_saved_at_once_by_two_processes_have_a_number_each(
    cb: callboard.Callboard, savers: list[Program]
) -> None:
    names = [f"t{n}" for n in range(10)]

    answers = both_do(
        savers, *({"do": "save", "names": names, "document": {"n": n}} for n in range(2))
    )

    assert sorted(answers) == sorted([name, version, True] for name in names for version in (1, 2))
    teams = Teams(cb.namespace)
    for name in names:
        kept = await teams.versions(name)
        assert [team.version for team in kept] == [2, 1]
        assert sorted(team.document["n"] for team in kept) == [0, 1]


async def test_ten_runs_begun_at_once_by_two_processes_are_begun_once_each(
    cb: callboard.Callboard, savers: list[Program]
) -> None:
    runs = [f"r{n}" for n in range(10)]

    answers = both_do(savers, *({"do": "begin", "runs": runs},) * 2)

    assert sorted(answers) == runs
    assert sorted(run.id for run in await RunRecords(cb.namespace).list()) == runs
    assert (await cb.boards.get("runs")).counts.total == 10
