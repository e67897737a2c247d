"""``callboard flow``: how many at once, how often, in which turns, by the keys of tasks."""

import math
from typing import TYPE_CHECKING, Annotated

import typer

from callboard.cli import parse
from callboard.cli.command import command, group
from callboard.cli.output import Output
from callboard.cli.paging import all_of
from callboard.exceptions import InvalidArgument

if TYPE_CHECKING:
    from callboard.app import Callboard

app = group("flow", "Limit how many tasks run at once or how often; share turns between keys.")

Key = Annotated[
    str,
    typer.Argument(
        metavar="KEY",
        help="Key of tasks; with * behind it, as 'customer-*', each that begins so.",
        show_default=False,
    ),
]


@command(app, "list", example="callboard flow list")
async def list_keys(cb: "Callboard", out: Output) -> None:
    """List the keys that something is set for, with what runs and waits."""
    from callboard.cli import render_flow

    found = await all_of(cb.flow.list)
    out.emit({"keys": found}, render_flow.listing, found, out.width)


@command(app, "show", example="callboard flow show customer-7")
async def show(cb: "Callboard", out: Output, key: Key) -> None:
    """Show what holds for a key, who has its slots, and how many wait."""
    from callboard.cli import render_flow

    found = await cb.flow.get(key)
    out.emit(found, render_flow.whole, found)


@command(app, "limit", example="callboard flow limit openai --rate 500 --per 1m")
async def limit(
    cb: "Callboard",
    out: Output,
    key: Key,
    concurrency: Annotated[
        str | None,
        typer.Option(
            "--concurrency", "-c", metavar="N", help="Tasks claimed at once; or 'unlimited'."
        ),
    ] = None,
    rate: Annotated[
        str | None,
        typer.Option(
            "--rate", "-r", metavar="N", help="Claims in the time of --per; or 'unlimited'."
        ),
    ] = None,
    per: Annotated[
        str, typer.Option("--per", metavar="TIME", help="What --rate is counted in.")
    ] = "1s",
    burst: Annotated[
        int | None,
        typer.Option("--burst", metavar="N", help="Claims at once after a quiet time; 1 if not."),
    ] = None,
) -> None:
    """Limit a concurrency key, a rate key, or both under one name."""
    from callboard.cli import render_flow

    found = await cb.flow.limit(
        key,
        concurrency=_whole("concurrency", concurrency),
        rate=_number("rate", rate),
        per=parse.seconds("per", per) or 0,
        burst=burst,
        by=parse.operator(),
    )
    out.emit(found, render_flow.whole, found)


@command(app, "weight", example="callboard flow weight customer-7 3")
async def weight(
    cb: "Callboard",
    out: Output,
    key: Key,
    share: Annotated[
        float, typer.Argument(metavar="WEIGHT", help="Against 1 of others.", show_default=False)
    ],
) -> None:
    """Give a fairness key more turns than others, or fewer."""
    from callboard.cli import render_flow

    found = await cb.flow.weight(key, share, by=parse.operator())
    out.emit(found, render_flow.whole, found)


@command(app, "pause", example="callboard flow pause 'customer-*'")
async def pause(cb: "Callboard", out: Output, key: Key) -> None:
    """Let no task with the key be claimed; what is held goes on."""
    found = await cb.flow.pause(key, by=parse.operator())
    out.emit(found, lambda: [f"Paused tasks with key {key!r}. Held tasks go on."])


@command(app, "resume", example="callboard flow resume 'customer-*'")
async def resume(cb: "Callboard", out: Output, key: Key) -> None:
    """Undo a pause, also one of a pattern that the key belongs to."""
    found = await cb.flow.resume(key, by=parse.operator())
    out.emit(found, lambda: [f"Tasks with key {key!r} may be claimed again."])


@command(app, "remove", example="callboard flow remove customer-7")
async def remove(cb: "Callboard", out: Output, key: Key) -> None:
    """Take back all that was set for a key."""
    await cb.flow.remove(key, by=parse.operator())
    out.emit({"key": key, "removed": True}, lambda: [f"Nothing is set for key {key!r} any more."])


def _whole(what: str, text: str | None) -> float | None:
    if text is None or text == "unlimited":
        return None if text is None else math.inf
    try:
        return int(text)
    except ValueError:
        raise InvalidArgument(
            f"{what} is {text!r}; give a whole number, or 'unlimited'.", field=what
        ) from None


def _number(what: str, text: str | None) -> float | None:
    if text is None or text == "unlimited":
        return None if text is None else math.inf
    try:
        return float(text)
    except ValueError:
        raise InvalidArgument(
            f"{what} is {text!r}; give a number, or 'unlimited'.", field=what
        ) from None
