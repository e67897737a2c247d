"""``callboard run``: a request, carried out by a team while one watches."""

import contextlib
import difflib
import shutil
import tempfile
from collections.abc import AsyncIterator, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Final

import typer

from callboard.cli import parse
from callboard.cli.command import Options, command
from callboard.cli.output import Output
from callboard.cli.run_ids import LAST
from callboard.exceptions import ConfigError, InvalidArgument

if TYPE_CHECKING:
    from callboard.app import Callboard
    from callboard.teams.document import TeamDocument

LEASE: Final = "30s"

File = Annotated[Path, typer.Argument(metavar="FILE", help="The team's file.", show_default=False)]
Team = Annotated[
    str | None,
    typer.Option("--team", metavar="NAME", help="Which team of the file, if it has several."),
]
Variables = Annotated[
    list[str] | None,
    typer.Option(
        "--var",
        metavar="NAME=VALUE",
        help="For the file's placeholders; kept with the run, so no secrets. May be repeated.",
    ),
]
Lease = Annotated[
    str,
    typer.Option("--lease", metavar="TIME", help="Silent for so long, others take the run over."),
]
Detach = Annotated[
    bool, typer.Option("--detach", help="Host it in the background, and return at once.")
]
Quiet = Annotated[bool, typer.Option("--quiet", "-q", help="Show nothing but the answer.")]
LeaveAfter = Annotated[
    str | None,
    typer.Option("--timeout", metavar="TIME", help="Leave it after this; the run stays."),
]


def add_to(app: typer.Typer, panel: str) -> None:
    """Make ``run`` a command of *app*."""
    example = """
        callboard run team.yaml "What is in this folder?"
        callboard run team.yaml "Survey src" --detach
    """
    command(app, "run", panel=panel, example=example)(run)


@dataclass(frozen=True)
class Chosen:
    """A team of a file, found to be one that can be run here."""

    document: "TeamDocument"
    name: str
    variables: dict[str, str]


def run(
    options: Options,
    out: Output,
    file: File,
    request: Annotated[
        str,
        typer.Argument(
            metavar="REQUEST",
            help="What the team is to do, or - for standard input.",
            show_default=False,
        ),
    ],
    team: Team = None,
    var: Variables = None,
    detach: Detach = False,
    quiet: Quiet = False,
    lease: Lease = LEASE,
    run_id: Annotated[
        str | None,
        typer.Option("--id", metavar="NAME", help="Names it; running it again joins it."),
    ] = None,
    timeout: LeaveAfter = None,
) -> int:
    """Have a team do what is asked, and watch it.

    The file says which team and which engine. Ctrl-C leaves the run, which stays where it
    was: callboard runs join goes on with it. The exit code is 0 for done, 1 for failed or
    cancelled, 130 or 143 where it was left for a signal.
    """
    import asyncio

    from callboard.cli.hosting import Wishes
    from callboard.teams.document import TEMPORARY, choose_url

    if run_id == LAST:
        raise InvalidArgument(f"A run cannot be called {LAST!r}: that is the newest one.")
    chosen = choose(file, team, parse.variables(var))
    url = choose_url(chosen.document, options.url, flag_data=options.data)
    is_kept = url is not TEMPORARY
    if detach and not is_kept:
        raise ConfigError(
            f"{file} asks for an engine that ends with this process, so the run cannot be "
            "detached. Leave out --detach, or give an engine that stays, as --data .callboard"
        )
    wishes = Wishes(
        lease=parse.seconds("lease", lease) or 0.0,
        timeout=parse.seconds("timeout", timeout),
        is_quiet=quiet,
        is_kept=is_kept,
    )
    # The file wins over what is found for other commands, so the choice is made here.
    options = replace(options, url=url if isinstance(url, str) else None)
    text = parse.source("request", "-").decode("utf-8", "replace") if request == "-" else request
    return asyncio.run(_run(options, out, chosen, text, run_id, wishes, detach=detach))


async def _run(
    options: Options,
    out: Output,
    chosen: Chosen,
    request: str,
    run_id: str | None,
    wishes: Any,
    *,
    detach: bool,
) -> int:
    from callboard.cli import hosting
    from callboard.teams.check import check_agents
    from callboard.teams.document import team_of

    document, name = chosen.document, chosen.name
    spec = team_of(name, document.teams[name], variables=chosen.variables)
    await check_agents(spec.agents.values(), document.folder)
    by = parse.operator()
    async with connected(options, is_kept=wishes.is_kept) as cb:
        team = await cb.teams.add(name, document.teams[name], by=by)
        started = await cb.runs.start(
            name,
            request,
            version=team.version,
            variables=chosen.variables,
            id=run_id,
            by=by,
            folder=str(document.folder),
        )
        if not detach:
            return await hosting.host_run(cb, out, started, document.folder, wishes)
        hosting.detach(cb, out, started, document.folder, wishes)
        return 0


@contextlib.asynccontextmanager
async def connected(options: Options, *, is_kept: bool) -> "AsyncIterator[Callboard]":
    """The connection that was chosen; an engine that is not to be kept goes with its data.

    Raises:
        ConfigError: It is one to a coordinator, beside which nothing is hosted.
    """
    from callboard.teams.host import check_can_host

    if is_kept:
        chosen = options.connect()
        check_can_host(chosen)
        async with chosen as cb:
            yield cb
        return
    folder = Path(tempfile.mkdtemp(prefix="callboard-"))
    try:
        async with replace(options, url=None, data=folder).connect() as cb:
            yield cb
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def choose(file: Path, team: str | None, variables: Mapping[str, str]) -> Chosen:
    """Read a team's file, and the team of it that is meant.

    Raises:
        InvalidTeam: The file cannot be used.
        InvalidArgument: It has no such team, or several and none is named; or a variable was
            given that nothing in it asks for.
    """
    from callboard.domain.reading import which_of
    from callboard.teams.document import read_document

    document = read_document(file, variables=variables)
    names = sorted(document.teams)
    if team is None and len(names) > 1:
        raise InvalidArgument(f"{file} has several teams. Name one: --team {' or '.join(names)}")
    name = team or names[0]
    if name not in document.teams:
        raise InvalidArgument(f"{file} has no team {name!r}; {which_of(name, names)}", field="team")
    known = document.variables
    for given in variables:
        if given not in known:
            close = difflib.get_close_matches(given, known, n=1)
            asked = ", ".join(sorted(known)) or "no variable"
            cure = f"did you mean {close[0]}?" if close else f"it asks for {asked}"
            raise InvalidArgument(f"Nothing in {file} asks for ${{{given}}}; {cure}", field="var")
    return Chosen(document, name, dict(variables))
