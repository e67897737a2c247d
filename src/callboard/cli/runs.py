"""``callboard runs``: look at runs, follow them, and change their course."""

from collections.abc import AsyncIterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from callboard.cli import failures, options, parse
from callboard.cli.command import command, group
from callboard.cli.output import Output
from callboard.cli.run import LEASE, Detach, Lease, LeaveAfter, Quiet
from callboard.cli.run_ids import find_run, where
from callboard.domain.run import ENDED, Phase, Run
from callboard.exceptions import InvalidArgument

if TYPE_CHECKING:
    from callboard.app import Callboard
    from callboard.domain.event import Gap
    from callboard.domain.story import RunEvent

app = group("runs", "Look at what teams were asked to do, follow it, and change its course.")
LOOK = "Look"
HOST = "Host"
STEER = "Steer"
DELETE_BATCH = 1_000

RunId = Annotated[
    str,
    typer.Argument(
        metavar="RUN", help="Id of the run, its beginning, or last.", show_default=False
    ),
]
From = Annotated[
    str | None,
    typer.Option("--from", metavar="CURSOR", help="Behind the event that carried it."),
]
Folder = Annotated[
    Path | None,
    typer.Option("--folder", metavar="DIR", help="Where its agents are; else as it was started."),
]


@command(app, "list", panel=LOOK, example="callboard runs list --team survey --phase failed")
async def list_runs(
    cb: "Callboard",
    out: Output,
    team: Annotated[
        str | None, typer.Option("--team", metavar="NAME", help="Only of this team.")
    ] = None,
    phase: Annotated[
        list[Phase] | None,
        typer.Option("--phase", metavar="PHASE", help="Only in these. May be repeated."),
    ] = None,
    limit: options.Limit = 20,
) -> None:
    """List runs, the newest first."""
    from callboard.cli import render_runs

    runs = await cb.runs.list(team=team, phases=phase, limit=limit)
    is_filtered = bool(team or phase)
    render = render_runs.listing
    out.emit({"runs": runs}, lambda: render(runs, out.width, limit, is_filtered=is_filtered))


@command(app, "show", panel=LOOK, example="callboard runs show last")
async def show(
    cb: "Callboard",
    out: Output,
    run: RunId,
    limit: Annotated[
        int, typer.Option("--limit", "-n", metavar="N", min=1, help="At most so many tasks.")
    ] = 20,
) -> None:
    """Show a run: where it stands, its tasks, its answer, its failures."""
    from callboard.cli import render_runs

    report = await cb.runs.report((await find_run(cb, run)).id)
    value = render_runs.shape(report)
    out.emit(value, render_runs.whole, report, where(cb), out.width, limit)


@command(
    app,
    "watch",
    panel=LOOK,
    example="""
        callboard runs watch last
        callboard runs watch 019f3a2b --json | jq .type
    """,
)
async def watch(cb: "Callboard", out: Output, run: RunId, cursor: From = None) -> int:
    """Follow a run until it ends, without doing any of its work.

    The exit code is 0 for done, 1 for failed or cancelled.
    """
    from callboard.cli.hosting import make_screen
    from callboard.cli.run_view import Watch

    found = await find_run(cb, run)
    # Nobody else may be there to act on the lost lease of its leader.
    janitor = cb.janitor()
    janitor.start()
    try:
        screen = None if out.as_json else make_screen(out, found)
        if screen is not None and screen.is_live:
            with screen:
                await Watch(cb, screen, cursor).follow()
        else:
            await _print(out, found, cb.runs.events(found.id, cursor, follow=True))
    finally:
        await janitor.stop()
    return await _ended(cb, out, found)


async def _ended(cb: "Callboard", out: Output, run: Run) -> int:
    from callboard.cli import render_runs

    report = await cb.runs.report(run.id)
    out.say(*render_runs.ending(report, where(cb), out.width, is_kept=True))
    return failures.OK if report.run.phase is Phase.DONE else failures.REFUSED


@command(
    app,
    "replay",
    panel=LOOK,
    example="""
        callboard runs replay last
        callboard runs replay 019f3a2b --from 42.1 --json
    """,
)
async def replay(cb: "Callboard", out: Output, run: RunId, cursor: From = None) -> None:
    """Tell all that has happened in a run so far, each thing once."""
    found = await find_run(cb, run)
    await _print(out, found, cb.runs.events(found.id, cursor))


async def _print(out: Output, run: Run, events: "AsyncIterator[RunEvent | Gap]") -> None:
    from callboard.cli.render_run_events import line_of

    async for event in events:
        if out.as_json:
            out.item(event)
        elif (line := line_of(event, run.created_at)) is not None:
            out.say(line.text)
            out.flush()


@command(
    app,
    "graph",
    panel=LOOK,
    example="""
        callboard runs graph last
        callboard runs graph last --dot | dot -Tsvg > run.svg
    """,
)
async def graph(
    cb: "Callboard",
    out: Output,
    run: RunId,
    dot: options.Dot = False,
    limit: options.TreeLines = 60,
) -> None:
    """Show what waits for what in a run: a tree, the critical path, what unblocks most."""
    from callboard.cli.tasks import show_graph

    await show_graph(cb, out, (await find_run(cb, run)).id, dot=dot, limit=limit)


@command(app, "join", panel=HOST, example="callboard runs join last")
async def join(
    cb: "Callboard",
    out: Output,
    run: RunId,
    folder: Folder = None,
    quiet: Quiet = False,
    lease: Lease = LEASE,
    timeout: LeaveAfter = None,
) -> int:
    """Host a run here, beside others or alone, and watch it.

    Ctrl-C leaves it, and it stays where it was. The exit code is that of callboard run.
    """
    from callboard.cli import hosting
    from callboard.teams.host import check_can_host

    check_can_host(cb, "Watch it there (callboard runs watch)")
    found = await find_run(cb, run)
    wishes = hosting.Wishes(
        lease=parse.seconds("lease", lease) or 0.0,
        timeout=parse.seconds("timeout", timeout),
        is_quiet=quiet,
    )
    place = Path.cwd() if found.phase.is_ended else hosting.folder_of(found, folder)
    return await hosting.host_run(cb, out, found, place, wishes)


@command(
    app,
    "retry",
    panel=HOST,
    example="""
        callboard runs retry last
        callboard runs retry 019f3a2b count-1 --no-host
    """,
)
async def retry(
    cb: "Callboard",
    out: Output,
    run: RunId,
    task: Annotated[
        str | None,
        typer.Argument(metavar="TASK", help="This one, with what failed because of it."),
    ] = None,
    folder: Folder = None,
    detach: Detach = False,
    no_host: Annotated[
        bool, typer.Option("--no-host", help="Leave it to the hosts that are there.")
    ] = False,
    quiet: Quiet = False,
    lease: Lease = LEASE,
) -> int:
    """Put back what failed or was cancelled, have the answer written anew, and host it here.

    Where another host leads the run already, it is left to that one.
    """
    from callboard.cli import hosting
    from callboard.teams.host import check_can_host

    if not no_host:
        check_can_host(cb, "Put it back alone (--no-host)")
    found = await find_run(cb, run)
    # Before anything is put back: where it cannot be hosted, that is known first.
    place = None if no_host else hosting.folder_of(found, folder)
    again = await cb.runs.retry(found.id, task, by=parse.operator())
    if place is None or await hosting.is_led(cb, again):
        lines = [f"Put back. Follow it: callboard runs watch {again.id}{where(cb)}"]
        out.emit({"run": again}, lambda: lines)
        return failures.OK
    wishes = hosting.Wishes(lease=parse.seconds("lease", lease) or 0.0, is_quiet=quiet)
    if not detach:
        return await hosting.host_run(cb, out, again, place, wishes)
    hosting.detach(cb, out, again, place, wishes)
    return failures.OK


@command(app, "cancel", panel=STEER, example="callboard runs cancel last --reason outdated")
async def cancel(
    cb: "Callboard", out: Output, run: RunId, reason: options.Reason = "requested"
) -> None:
    """End a run: nothing more is begun, and what runs is told to stop."""
    found = await find_run(cb, run)
    ended = await cb.runs.cancel(found.id, reason=reason, by=parse.operator())
    out.emit({"run": ended}, lambda: [f"Cancelled run {ended.id}."])


@command(app, "pause", panel=STEER, example="callboard runs pause last")
async def pause(cb: "Callboard", out: Output, run: RunId) -> None:
    """Begin nothing more in a run until it is resumed; what runs goes on."""
    paused = await cb.runs.pause((await find_run(cb, run)).id, by=parse.operator())
    cure = f"Undo it: callboard runs resume {paused.id}{where(cb)}"
    out.emit({"run": paused}, lambda: [f"Paused run {paused.id}. {cure}"])


@command(app, "resume", panel=STEER, example="callboard runs resume last")
async def resume(cb: "Callboard", out: Output, run: RunId) -> None:
    """Undo a pause."""
    resumed = await cb.runs.resume((await find_run(cb, run)).id, by=parse.operator())
    out.emit({"run": resumed}, lambda: [f"Run {resumed.id} goes on."])


@command(
    app,
    "delete",
    panel=STEER,
    example="""
        callboard runs delete 019f3a2b
        callboard runs delete --older-than 30d --yes
    """,
)
async def delete(
    cb: "Callboard",
    out: Output,
    run: Annotated[
        str | None, typer.Argument(metavar="RUN", help="Id of the run, its beginning, or last.")
    ] = None,
    older_than: Annotated[
        str | None,
        typer.Option("--older-than", metavar="TIME", help="All that ended so long ago."),
    ] = None,
    yes: options.Yes = False,
) -> None:
    """Remove runs that have ended, with their tasks, results and events."""
    from callboard.cli.selection import confirmed

    if (run is None) == (older_than is None):
        raise InvalidArgument("Name a run, or give --older-than, as 30d.", field="run")
    if run is not None:
        ids = [(await find_run(cb, run)).id]
    else:
        ids = await _older_than(cb, parse.seconds("older-than", older_than) or 0.0)
    # Who gives a whole id knows what goes; all else may match more than was thought.
    if ids != [run] and not confirmed(out, "delete", ids, dry_run=False, yes=yes, noun="run"):
        return
    for each in ids:
        await cb.runs.delete(each, by=parse.operator())
    text = failures.counted(len(ids), "run") if older_than else f"run {ids[0]}"
    out.emit({"deleted": ids}, lambda: [f"Deleted {text}."])


async def _older_than(cb: "Callboard", seconds: float) -> list[str]:
    before = datetime.now(UTC) - timedelta(seconds=seconds)
    runs = await cb.runs.list(phases=ENDED, limit=DELETE_BATCH)
    return [run.id for run in runs if run.ended_at is not None and run.ended_at <= before]
