"""Runs by way of a coordinator: begun and followed there, hosted beside the engine."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import suppress
from pathlib import Path
from typing import Any

import msgspec
import pytest

import callboard
from callboard.domain.run import Phase
from callboard.exceptions import ConfigError, EngineUnavailable
from callboard.teams.host import Host
from callboard.teams.station import Station
from tests.http.support import Served, serving
from tests.interfaces.teams_support import TEAM, forget_handlers, write_team
from tests.teams.support import Held, Planner, Team, Worker, document, soon, types_told
from tests.waiting import until


@pytest.fixture
async def served(engine_url: str, namespace: str) -> AsyncIterator[Served]:
    async with serving(engine_url, namespace=namespace) as found:
        yield found


@pytest.fixture
async def remote(served: Served, namespace: str) -> AsyncIterator[callboard.Callboard]:
    async with callboard.connect(served.url, namespace=namespace) as opened:
        yield opened


async def test_a_run_begun_over_http_is_followed_there_to_its_answer(
    cb: callboard.Callboard, remote: callboard.Callboard, served: Served, tmp_path: Path
) -> None:
    file = write_team(tmp_path / "team")
    (file.parent / "open").touch()
    given = msgspec.yaml.decode(TEAM)
    given = {"team": given["teams"]["specs"]["gate"], "agents": given["agents"]}
    await remote.teams.add("gate", given)
    station = Station(cb, ["gate"], folder=file.parent)
    standing = asyncio.create_task(station.serve())
    try:
        run = await remote.runs.start("gate", "count gate", variables={"RETRIES": "0"})
        told = [event async for event in remote.runs.events(run.id, follow=True)]
        answer = await soon(remote.runs.result(run.id))
        streamed = await soon(_streamed(served, run.id))
    finally:
        station.stop()
        await soon(standing)
        forget_handlers()

    assert (told[0].type, told[-1].type) == ("team_start", "done")
    assert streamed == [*(event.type for event in told), "end"]
    assert answer == "count: done\ngate: done"
    assert (await remote.runs.get(run.id)).phase is Phase.DONE


async def _streamed(served: Served, run: str) -> list[str]:
    """The names of the events of the run's stream, which ends with it."""
    async with served.client.stream("GET", f"/runs/{run}/stream") as stream:
        lines = [line async for line in stream.aiter_lines()]
    return [line.removeprefix("event: ") for line in lines if line.startswith("event: ")]


@pytest.mark.parametrize("kind", ["host", "station"])
async def test_runs_are_not_hosted_over_http_and_it_says_what_to_do(
    remote: callboard.Callboard, kind: str
) -> None:
    await remote.teams.add("team", document())
    run = await remote.runs.start("team", "Do it.")
    serving_it: Any = Host(remote, run) if kind == "host" else Station(remote, ["team"])

    with pytest.raises(ConfigError, match="callboard teams host team.yaml --url redis") as refused:
        await serving_it.serve()

    assert "not hosted over HTTP" in str(refused.value)


async def test_a_station_ends_where_its_connection_is_closed(
    cb: callboard.Callboard, engine_url: str, namespace: str
) -> None:
    own = await callboard.connect(engine_url, namespace=namespace).open()
    standing = asyncio.create_task(Station(own, ["team"]).serve())
    run = await Team(cb, document()).start()

    async def has_looked() -> bool:
        return (await types_told(cb, run))["worker_error"] > 0  # Its agents cannot be had here.

    await until(has_looked, "the station takes the run")

    await own.close()

    with pytest.raises(EngineUnavailable, match="closed"):
        await soon(standing)


async def test_a_host_ends_where_its_connection_is_closed(
    cb: callboard.Callboard, engine_url: str, namespace: str
) -> None:
    held = Held()
    team = Team(cb, document("far"), planner=Planner({"tasks": ["x"], "done": True}))
    team.agents["far"] = Worker(held)
    run = await team.start()
    own = await callboard.connect(engine_url, namespace=namespace).open()
    hosting = asyncio.create_task(Host(own, run, agents=team.agents).serve())
    await held.until_begun("t1-1")

    await own.close()

    with pytest.raises(EngineUnavailable, match="closed"):
        await soon(hosting)
    with suppress(callboard.CallboardError):
        await cb.runs.cancel(run.id)
