"""``callboard teams``: the teams that an engine knows, and hosts that wait for their runs."""

import os
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from callboard.cli import failures, options, parse
from callboard.cli.command import Options, command, group
from callboard.cli.output import Output
from callboard.cli.paging import all_of
from callboard.cli.run import LEASE, File, Lease, Variables
from callboard.exceptions import ConfigError, InvalidTeam, TeamNotFound

if TYPE_CHECKING:
    from callboard.app import Callboard
    from callboard.domain.team import AgentDefinition

app = group("teams", "Look at the teams that are known here, add them, host their runs.")

Name = Annotated[str, typer.Argument(metavar="NAME", help="The team.", show_default=False)]


@command(app, "list", example="callboard teams list")
async def list_teams(cb: "Callboard", out: Output) -> None:
    """List teams, each in its newest version."""
    from callboard.cli import render_teams

    teams = await all_of(cb.teams.list)
    out.emit({"teams": teams}, render_teams.listing, teams, out.width)


@command(app, "show", example="callboard teams show survey --version 2")
async def show(
    cb: "Callboard",
    out: Output,
    name: Name,
    version: Annotated[
        int | None,
        typer.Option("--version", metavar="N", help="Not the newest, but this one."),
    ] = None,
) -> None:
    """Show what a team is made of, with its placeholders as they stand in the file."""
    from callboard.cli import render_teams

    try:
        team = await cb.teams.get(name, version)
    except TeamNotFound as error:
        raise await _named(cb, name, error) from error
    out.emit(team, render_teams.whole, team)


@command(app, "versions", example="callboard teams versions survey")
async def versions(cb: "Callboard", out: Output, name: Name) -> None:
    """List the versions of a team that are kept, the newest first."""
    from callboard.cli import render_teams

    try:
        found = await cb.teams.versions(name)
    except TeamNotFound as error:
        raise await _named(cb, name, error) from error
    out.emit({"versions": found}, render_teams.versions, found, out.width)


async def _named(cb: "Callboard", name: str, error: TeamNotFound) -> TeamNotFound:
    """The error with the nearest name in it, where the name is known to nobody."""
    from callboard.domain.reading import nearest

    known = [team.name for team in await all_of(cb.teams.list)]
    close = nearest(name, known)
    if name in known or close is None:
        return error
    return TeamNotFound(f"No team {name!r}; did you mean {close}?", **dict(error.details))


@command(
    app,
    "add",
    example="""
        callboard teams add team.yaml --message "two readers"
    """,
)
async def add(
    cb: "Callboard",
    out: Output,
    file: File,
    message: Annotated[
        str, typer.Option("--message", "-m", metavar="TEXT", help="Why, for whoever reads it.")
    ] = "",
    var: Variables = None,
) -> None:
    """Keep the teams of a file, each as its next version; one that did not change adds none.

    Runs may then be begun by name from Python, and callboard teams host carries them out.
    """
    from callboard.teams.document import read_document

    document = read_document(file, variables=parse.variables(var))
    by = parse.operator()
    added = [
        await cb.teams.add(name, team, by=by, message=message)
        for name, team in document.teams.items()
    ]
    lines = [
        f"Team {team.name}: version {team.version}{'' if team.is_new else ', as it was'}."
        for team in added
    ]
    out.emit({"teams": added}, lambda: lines)


@command(app, "validate", example="callboard teams validate team.yaml")
def validate(options: Options, out: Output, file: File, var: Variables = None) -> int:
    """Check a team's file, and that each of its agents can be made here.

    Nothing is begun, and no engine is asked. The exit code is 0, or 2 where something is wrong.
    """
    import asyncio

    problems, agents = asyncio.run(_problems(file, parse.variables(var)))
    if out.as_json:
        out.document({"valid": not problems, "problems": problems})
    for problem in problems if not out.as_json else ():
        failures.write("invalid_team", problem["message"], {}, as_json=False)
    if not problems:
        out.say(f"{file} is right: {failures.counted(agents, 'agent')} can be made here.")
    return failures.USAGE if problems else failures.OK


async def _problems(file: Path, variables: dict[str, str]) -> tuple[list[dict[str, Any]], int]:
    """What is wrong with a file, each with its line; and how many agents it has."""
    from callboard.teams.check import lines_of_agents, unusable_agents
    from callboard.teams.document import read_document, team_of

    try:
        document = read_document(file, variables=variables)
    except InvalidTeam as error:
        return [_problem(error.message, file, error.details.get("line"))], 0
    agents: dict[str, AgentDefinition] = {}
    for name, team in document.teams.items():
        agents |= team_of(name, team, variables=variables).agents
    unusable = await unusable_agents(agents.values(), document.folder)
    lines = lines_of_agents(file) if unusable else {}
    found = []
    for each in unusable:
        line = lines.get(str(each.details.get("agent")))
        place = f"{file}:{line}" if line else str(file)
        found.append(_problem(f"{place}: {each.message}", file, line))
    return found, len(agents)


def _problem(message: str, file: Path, line: Any) -> dict[str, Any]:
    return {"file": str(file), "line": line, "message": message}


@command(app, "remove", example="callboard teams remove survey")
async def remove(cb: "Callboard", out: Output, name: Name) -> None:
    """Remove a team with its versions; its runs can be read, but not begun or retried."""
    try:
        await cb.teams.remove(name, by=parse.operator())
    except TeamNotFound as error:
        raise await _named(cb, name, error) from error
    out.emit({"removed": name}, lambda: [f"Removed team {name}."])


@command(app, "host", example="callboard teams host team.yaml --max 8")
def host(
    options: Options,
    out: Output,
    file: File,
    most: Annotated[
        int, typer.Option("--max", metavar="N", min=1, max=1_000, help="Runs at once.")
    ] = 4,
    var: Variables = None,
    lease: Lease = LEASE,
    quiet: options.Quiet = False,
    verbose: options.Verbose = False,
) -> int:
    """Host the runs of a file's teams as they come, until SIGTERM or Ctrl-C.

    Runs that nobody leads are taken, so several such hosts may stand beside each other, and
    what one leaves another goes on with.
    """
    import asyncio
    import logging

    from callboard.cli.logs import log_to_stderr

    log_to_stderr(quiet=quiet, verbose=verbose, as_json=out.as_json)
    if not verbose:
        # A task that failed is told by its run.
        logging.getLogger("callboard.worker").setLevel(logging.WARNING)
    return asyncio.run(_host(options, out, file, most, parse.variables(var), lease))


async def _host(
    options: Options, out: Output, file: Path, most: int, variables: dict[str, str], lease: str
) -> int:
    from callboard.cli.hosting import caught
    from callboard.teams.check import check_agents
    from callboard.teams.document import TEMPORARY, choose_url, read_document, team_of
    from callboard.teams.host import check_can_host
    from callboard.teams.station import Station

    document = read_document(file, variables=variables)
    for name, team in document.teams.items():
        spec = team_of(name, team, variables=variables)
        await check_agents(spec.agents.values(), document.folder)
    url = choose_url(document, options.url, flag_data=options.data)
    if url is TEMPORARY:
        raise ConfigError(
            f"{file} asks for an engine that nobody else can reach. Give one, as --data .callboard"
        )
    chosen = replace(options, url=url if isinstance(url, str) else None).connect()
    check_can_host(chosen)
    async with chosen as cb:
        for name, team in document.teams.items():
            await cb.teams.add(name, team, by=parse.operator())
        station = Station(
            cb,
            document.teams,
            folder=document.folder,
            most=most,
            lease=parse.seconds("lease", lease) or 0.0,
            environ={**os.environ, **variables},
        )
        names = ", ".join(sorted(document.teams))
        out.remark(f"Hosting runs of {names}, {most} at once. Ctrl-C leaves them to others.")
        with caught(lambda _: station.stop(), lambda _: os._exit(failures.INTERRUPTED)):
            await station.serve()
        out.remark("Stopped.")
    return failures.OK
