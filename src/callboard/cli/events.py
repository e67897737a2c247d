"""``callboard tail``: what happens, as it happens."""

from collections.abc import AsyncIterator
from typing import TYPE_CHECKING, Annotated

import typer

from callboard.cli import options, parse
from callboard.cli.command import command
from callboard.cli.output import Output
from callboard.domain.event import Event, Gap
from callboard.exceptions import InvalidArgument

if TYPE_CHECKING:
    from callboard.app import Callboard


def add_to(app: typer.Typer, panel: str) -> None:
    """Make ``tail`` a command of *app*."""
    command(
        app,
        "tail",
        panel=panel,
        example="""
            callboard tail --since 10m --type 'task:*'
            callboard tail --json | jq .type
        """,
    )(tail)


async def tail(
    cb: "Callboard",
    out: Output,
    since: options.From = None,
    cursor: Annotated[
        str | None,
        typer.Option("--cursor", metavar="CURSOR", help="Behind the event that carried it."),
    ] = None,
    event_type: Annotated[
        list[str] | None,
        typer.Option("--type", "-t", metavar="PATTERN", help="As 'task:*'. May be repeated."),
    ] = None,
    board: options.AnyBoard = None,
    limit: Annotated[
        int | None, typer.Option("--limit", "-n", metavar="N", help="Stop after so many events.")
    ] = None,
    no_follow: Annotated[
        bool, typer.Option("--no-follow", help="Stop at the newest event.")
    ] = False,
) -> None:
    """Print events as they come, until Ctrl-C.

    From now on, unless --since or --cursor says from where. Events that are gone by then
    are told as a gap.
    """
    from callboard.cli import render_events

    moment = parse.moment("since", since, past=True)
    if cursor is not None and moment is not None:
        raise InvalidArgument("Give --since or --cursor, not both.", field="cursor")
    if no_follow:
        found = _read(
            cb, cursor or (await cb.events.cursor_at(moment) if moment else None), event_type
        )
    else:
        found = cb.events.follow(cursor, since=moment, types=event_type or ())
    left = limit
    async for event in found:
        if board is not None and isinstance(event, Event) and event.board not in ("", board):
            continue
        if out.as_json:
            out.item(event)
        else:
            out.say(*render_events.lines(event))
            out.flush()
        if isinstance(event, Event) and left is not None:
            left -= 1
            if left <= 0:
                return


async def _read(
    cb: "Callboard", cursor: str | None, types: list[str] | None
) -> AsyncIterator[Event | Gap]:
    """What is there by now, from the cursor or from the oldest."""
    while True:
        found, after = await cb.events.read(cursor, types=types or ())
        for event in found:
            yield event
        if after == cursor:
            return
        cursor = after
