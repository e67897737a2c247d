"""Runs as those see them who are connected, without a host."""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import Any

import pytest

import callboard
from callboard.app import Callboard
from callboard.domain.run import LEAD_BOARD, Phase
from callboard.domain.story import RunEvent
from callboard.exceptions import (
    IdConflict,
    IllegalState,
    InvalidArgument,
    InvalidTeam,
    RunFailed,
    RunNotFound,
    TeamNotFound,
)

pytestmark = pytest.mark.every_engine


def document(**team: Any) -> dict[str, Any]:
    agents = {name: {"callable": f"handlers:{name}"} for name in ("plan", "read", "write")}
    return {
        "team": {"planner": "plan", "synthesizer": "write", "workers": ["read"], **team},
        "agents": agents,
    }


@pytest.fixture
async def cb(engine_url: str, namespace: str) -> AsyncIterator[Callboard]:
    async with callboard.connect(engine_url, namespace=namespace) as opened:
        await opened.teams.add("survey", document())
        yield opened


async def keys_of(cb: Callboard) -> set[str]:
    raw = await cb.namespace.connection.call("KEYS", cb.namespace.keys.prefix + "*")
    return {key.decode() for key in raw}


@pytest.mark.parametrize("request_text", ["", " \n", "x" * 262_145])
async def test_a_request_that_is_empty_or_too_long_begins_nothing(
    cb: Callboard, request_text: str
) -> None:
    with pytest.raises(InvalidArgument, match="request"):
        await cb.runs.start("survey", request_text)

    assert await cb.runs.list() == []


async def test_a_team_or_version_that_is_not_there_begins_nothing(cb: Callboard) -> None:
    with pytest.raises(TeamNotFound):
        await cb.runs.start("survy", "look")
    with pytest.raises(TeamNotFound):
        await cb.runs.start("survey", "look", version=7)

    assert await cb.runs.list() == []


async def test_a_limit_without_a_value_begins_nothing(cb: Callboard) -> None:
    await cb.teams.add("survey", document(max_tasks="${MOST}"))

    with pytest.raises(InvalidTeam, match="MOST"):
        await cb.runs.start("survey", "look", environ={})
    run = await cb.runs.start("survey", "look", variables={"MOST": "7"}, environ={})

    assert run.variables == {"MOST": "7"}
    assert run.version == 2


async def test_values_of_agents_need_not_be_known_where_a_run_is_begun(cb: Callboard) -> None:
    given = document()
    given["agents"]["read"] = {"endpoint": "${READER}"}
    await cb.teams.add("survey", given)

    run = await cb.runs.start("survey", "look", environ={})

    assert run.phase is Phase.PLANNING


async def test_starting_again_under_the_same_id_is_the_same_run(cb: Callboard) -> None:
    first = await cb.runs.start("survey", "look", id="mine")
    second = await cb.runs.start("survey", "look", id="mine")

    assert first == second
    with pytest.raises(IdConflict):
        await cb.runs.start("survey", "look elsewhere", id="mine")


async def test_a_run_that_nobody_hosts_waits_and_says_what_for(cb: Callboard) -> None:
    run = await cb.runs.start("survey", "look")

    why = await cb.board(LEAD_BOARD).tasks.why(run.id)

    assert (await cb.runs.get(run.id)).phase is Phase.PLANNING
    assert why.status == "pending"
    with pytest.raises(TimeoutError):
        await cb.runs.wait(run.id, timeout=0.05)


async def test_a_run_is_cancelled_without_a_host_and_again_without_harm(cb: Callboard) -> None:
    run = await cb.runs.start("survey", "look")

    await cb.runs.cancel(run.id, reason="changed my mind")
    again = await cb.runs.cancel(run.id)

    assert (again.phase, again.reason) == (Phase.CANCELLED, "changed my mind")
    lead = await cb.board(LEAD_BOARD).tasks.get(run.id)
    assert lead.status == "cancelled"
    with pytest.raises(RunFailed, match="cancelled: changed my mind"):
        await cb.runs.result(run.id)


async def test_a_run_that_goes_on_is_not_deleted(cb: Callboard) -> None:
    run = await cb.runs.start("survey", "look")

    with pytest.raises(IllegalState, match="callboard runs cancel"):
        await cb.runs.delete(run.id)

    assert (await cb.runs.get(run.id)).id == run.id


async def test_nothing_is_left_of_a_deleted_run(cb: Callboard) -> None:
    await cb.board(LEAD_BOARD).tasks.submit("other", id="other")
    before = await keys_of(cb)
    run = await cb.runs.start("survey", "look")
    await cb.runs.cancel(run.id)

    await cb.runs.delete(run.id)

    # Ids and outcomes of what stood on a board are kept for a week, how many ended for a month.
    outcomes = {f"{cb.namespace.keys.prefix}tasks:runs:{name}" for name in OUTCOMES}
    totals = f"{cb.namespace.keys.prefix}metrics:totals"
    assert await keys_of(cb) - before <= {*outcomes, totals}
    with pytest.raises(RunNotFound):
        await cb.runs.get(run.id)


OUTCOMES = ("outcomes", "outcome_times", "waiters")


async def test_an_ended_run_is_deleted_by_a_sweep_when_its_time_is_over(
    engine_url: str, namespace: str
) -> None:
    now = [1_700_000_000_000_000]
    async with callboard.connect(engine_url, namespace=namespace, clock=lambda: now[0]) as cb:
        await cb.teams.add("survey", document(keep=3_600))
        kept = await cb.runs.start("survey", "look")
        ended = await cb.runs.start("survey", "look")
        await cb.runs.cancel(ended.id)
        janitor = cb.janitor()

        now[0] += 3_599_000_000
        await janitor.sweep(force=True)
        assert {run.id for run in await cb.runs.list()} == {kept.id, ended.id}

        now[0] += 2_000_000
        await janitor.sweep(force=True)
        assert [run.id for run in await cb.runs.list()] == [kept.id]


async def test_what_is_no_cursor_of_a_run_is_refused(cb: Callboard) -> None:
    run = await cb.runs.start("survey", "look")

    with pytest.raises(InvalidArgument, match=r"42\.1"):
        async for _ in cb.runs.events(run.id, "yesterday"):
            pass


async def test_events_of_a_cancelled_run_end_with_its_cancellation(cb: Callboard) -> None:
    run = await cb.runs.start("survey", "look")
    await cb.runs.cancel(run.id, reason="enough")

    told = [event async for event in cb.runs.events(run.id, follow=True)]

    assert [event.type for event in told] == ["team_start", "phase_change", "cancelled"]
    assert isinstance(told[-1], RunEvent) and told[-1].data == {"reason": "enough"}


async def test_a_run_where_nothing_has_failed_is_not_retried(cb: Callboard) -> None:
    run = await cb.runs.start("survey", "look")

    with pytest.raises(IllegalState, match="nothing to retry"):
        await cb.runs.retry(run.id)


async def test_a_cancelled_run_is_retried_from_where_it_stood(cb: Callboard) -> None:
    run = await cb.runs.start("survey", "look")
    await cb.runs.cancel(run.id)

    again = await cb.runs.retry(run.id)

    assert (again.phase, again.generation) == (Phase.EXECUTION, 2)
    lead = await cb.board(LEAD_BOARD).tasks.get(f"{run.id}.2")
    assert lead.status == "pending"
