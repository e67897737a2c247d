"""``callboard teams``: what is known of teams, whether a file is right, hosts that stand by."""

from __future__ import annotations

import asyncio
import signal
from collections.abc import Iterator
from pathlib import Path

import pytest

from callboard.app import connect
from callboard.domain.run import LEAD_BOARD, Phase
from callboard.teams.station import Station
from tests.interfaces.cli_support import Cli, run_alone
from tests.interfaces.teams_support import TEAM, begun, forget_handlers, write_team

DEADLINE_SECONDS = 30


@pytest.fixture
def team(tmp_path: Path) -> Path:
    """The file of a team that waits at a gate."""
    return write_team(tmp_path / "team")


@pytest.fixture(autouse=True)
def forgetful() -> Iterator[None]:
    """Modules of one test's team are not those of the next."""
    yield
    forget_handlers()


# Refusals


def test_where_no_team_is_known_it_says_how_to_add_one(cli: Cli) -> None:
    assert cli.ok("teams", "list").out == (
        "No teams yet. Add one: callboard teams add team.yaml\n"
        "A file to begin with: callboard init\n"
    )
    assert cli("teams", "show", "gate").code == 4


@pytest.mark.parametrize("verb", ["show", "versions", "remove"])
def test_a_mistyped_team_is_told_with_the_nearest(cli: Cli, team: Path, verb: str) -> None:
    cli.ok("teams", "add", str(team))

    ran = cli("--json", "teams", verb, "gaet")

    assert ran.code == 4
    assert ran.error["code"] == "team_not_found"
    assert ran.error["message"] == "No team 'gaet'; did you mean gate?"


def test_every_agent_that_cannot_be_made_is_told_with_its_line(tmp_path: Path) -> None:
    wrong = TEAM.replace("handlers:plan", "handlers:paln").replace("handlers:work", "nosuch:work")
    team = write_team(tmp_path / "team", team=wrong)

    # On its own, and where no engine may be made.
    ran = run_alone("teams", "validate", str(team), cwd=tmp_path)

    assert ran.code == 2
    first, second = ran.err.splitlines()
    assert first.startswith(f"Error: {team}:2: Agent 'planner': ")
    assert first.endswith("did you mean 'plan'?")
    assert second.startswith(f"Error: {team}:3: Agent 'worker': there is no module 'nosuch'")
    assert not (tmp_path / ".callboard").exists()


def test_a_fault_of_the_file_is_told_with_its_line(cli: Cli, tmp_path: Path) -> None:
    team = write_team(tmp_path / "team", team=TEAM.replace("synthesizer", "synthesiser"))

    ran = cli("--json", "teams", "validate", str(team))

    assert ran.code == 2
    assert ran.json["valid"] is False
    (problem,) = ran.json["problems"]
    assert (problem["file"], problem["line"]) == (str(team), 14)
    assert problem["message"].endswith("did you mean synthesizer?")


def test_a_standing_host_is_not_started_on_an_engine_that_nobody_else_reaches(
    tmp_path: Path,
) -> None:
    temporary = TEAM + "providers: {tasks: {backend: in_memory}}\n"
    team = write_team(tmp_path / "team", team=temporary)

    ran = run_alone("teams", "host", str(team), cwd=tmp_path)

    assert ran.code == 2
    assert "--data .callboard" in ran.err


@pytest.mark.parametrize(
    "command",
    [
        ("teams", "host", "TEAM"),
        ("run", "TEAM", "count"),
        ("run", "TEAM", "count", "--detach"),
    ],
    ids=["host", "run", "detach"],
)
def test_where_it_cannot_be_hosted_that_is_said_before_a_coordinator_is_asked(
    team: Path, command: tuple[str, ...], tmp_path: Path
) -> None:
    given = [str(team) if one == "TEAM" else one for one in command]

    # Nobody listens there.
    ran = run_alone(*given, "--url", "http://127.0.0.1:1", cwd=tmp_path)

    assert ran.code == 2
    assert "not hosted over HTTP" in ran.err
    assert "callboard teams host team.yaml --url redis://" in ran.err


# Teams by name and version


def test_a_file_that_is_right_is_said_to_be(cli: Cli, team: Path) -> None:
    assert cli.ok("teams", "validate", str(team)).out == (
        f"{team} is right: 3 agents can be made here.\n"
    )
    assert cli.json("teams", "validate", str(team)) == {"valid": True, "problems": []}


def test_teams_are_kept_in_versions(cli: Cli, team: Path) -> None:
    assert cli.ok("teams", "add", str(team), "-m", "first").out == "Team gate: version 1.\n"
    assert cli.ok("teams", "add", str(team)).out == "Team gate: version 1, as it was.\n"
    team.write_text(TEAM + "      max_tasks: 7\n")

    added = cli.json("teams", "add", str(team), "-m", "fewer")

    assert [(each["version"], each["is_new"]) for each in added["teams"]] == [(2, True)]
    told = [(v["version"], v["message"]) for v in cli.json("teams", "versions", "gate")["versions"]]
    assert told == [(2, "fewer"), (1, "first")]
    rows = cli.ok("teams", "versions", "gate").out.splitlines()
    assert rows[0].split() == ["VERSION", "SINCE", "BY", "MESSAGE"]
    assert cli.ok("teams", "list").out.splitlines()[1].split()[:2] == ["gate", "2"]
    assert "max_tasks" in cli.ok("teams", "show", "gate").out
    assert "max_tasks" not in cli.ok("teams", "show", "gate", "--version", "1").out
    assert "${RETRIES:-0}" in cli.ok("teams", "show", "gate").out
    assert cli("teams", "show", "gate", "--version", "9").code == 4


def test_a_team_that_was_removed_is_gone(cli: Cli, team: Path) -> None:
    cli.ok("teams", "add", str(team))

    assert cli.ok("teams", "remove", "gate").out == "Removed team gate.\n"

    assert cli.json("teams", "list") == {"teams": []}


# Hosts that stand by


async def test_a_standing_host_takes_the_runs_that_nobody_leads(
    engine_url: str, namespace: str, cli: Cli, team: Path
) -> None:
    host = cli.started("teams", "host", str(team), "--max", "2")
    await asyncio.to_thread(host.read_until, "Hosting runs of gate, 2 at once", stderr=True)

    async with connect(engine_url, namespace=namespace) as cb:
        runs = [await cb.runs.start("gate", "first last") for _ in range(3)]
        ended = [await cb.runs.wait(run.id, timeout=DEADLINE_SECONDS) for run in runs]
        assert [run.phase for run in ended] == [Phase.DONE] * 3
        again = await cb.runs.start("gate", "gate")
        await asyncio.to_thread(host.read_until, f"Hosting run {again.id}", stderr=True)
        host.signal(signal.SIGTERM)
        left = await asyncio.to_thread(host.end)

        assert left.code == 0
        assert left.err.endswith("Stopped.\n")
        assert (await cb.runs.get(again.id)).phase is not Phase.DONE
        lead = await cb.board(LEAD_BOARD).tasks.get(again.id)
        assert not lead.status.is_held


async def test_two_stations_do_a_run_once(engine_url: str, namespace: str, team: Path) -> None:
    from callboard.teams.document import read_document

    async with connect(engine_url, namespace=namespace) as cb:
        await cb.teams.add("gate", read_document(team).teams["gate"])
        stations = [Station(cb, ["gate"], folder=team.parent) for _ in range(2)]
        serving = [asyncio.create_task(station.serve()) for station in stations]
        runs = [await cb.runs.start("gate", f"a{n} b{n}") for n in range(5)]

        for run in runs:
            await cb.runs.result(run.id, timeout=DEADLINE_SECONDS)

        for station in stations:
            station.stop()
        await asyncio.wait_for(asyncio.gather(*serving), DEADLINE_SECONDS)
        assert sorted(begun(team.parent)) == sorted(f"{x}{n}" for n in range(5) for x in "ab")


async def test_a_station_takes_no_run_that_is_led_and_no_more_than_it_may(
    engine_url: str, namespace: str, team: Path
) -> None:
    from callboard.teams.document import read_document
    from callboard.teams.host import Host

    async with connect(engine_url, namespace=namespace) as cb:
        await cb.teams.add("gate", read_document(team).teams["gate"])
        led = await cb.runs.start("gate", "gate")
        host = Host(cb, led, folder=team.parent)
        hosting = asyncio.create_task(host.serve())
        async with asyncio.timeout(DEADLINE_SECONDS):
            async for event in cb.runs.events(led.id, follow=True):
                if event.type == "task_claimed":
                    break
        free = [await cb.runs.start("gate", "gate") for _ in range(2)]
        station = Station(cb, ["gate"], folder=team.parent, most=1)
        serving = asyncio.create_task(station.serve())
        async with asyncio.timeout(DEADLINE_SECONDS):
            async for event in cb.runs.events(free[0].id, follow=True):
                if event.type == "task_claimed":
                    break

        assert station.runs == (free[0].id,)

        (team.parent / "open").touch()
        for run in free:
            await cb.runs.result(run.id, timeout=DEADLINE_SECONDS)
        station.stop()
        await asyncio.wait_for(asyncio.gather(serving, hosting), DEADLINE_SECONDS)


async def test_a_station_leaves_alone_what_it_cannot_host(
    engine_url: str, namespace: str, team: Path, caplog: pytest.LogCaptureFixture
) -> None:
    from callboard.teams.document import read_document

    broken = write_team(team.parent.parent / "b", team=TEAM.replace("rs:work", "rs:wrok"))
    async with connect(engine_url, namespace=namespace) as cb:
        await cb.teams.add("gate", read_document(broken).teams["gate"])
        bad = await cb.runs.start("gate", "first")
        await cb.teams.add("gate", read_document(team).teams["gate"])
        good = await cb.runs.start("gate", "first")
        station = Station(cb, ["gate"], folder=team.parent)
        serving = asyncio.create_task(station.serve())

        assert await cb.runs.result(good.id, timeout=DEADLINE_SECONDS) == "first: done"

        station.stop()
        await asyncio.wait_for(serving, DEADLINE_SECONDS)
        assert (await cb.runs.get(bad.id)).phase is Phase.PLANNING
        told = [r.message for r in caplog.records if f"Run {bad.id} cannot be hosted" in r.message]
        assert len(told) == 1
