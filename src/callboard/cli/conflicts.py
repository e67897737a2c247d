"""``callboard conflicts``: who wants the same thing, and how that is decided."""

from typing import TYPE_CHECKING, Annotated, Any

import msgspec
import typer

from callboard.cli import options, parse
from callboard.cli.command import command, group
from callboard.cli.output import Output
from callboard.domain.board import DEFAULT_BOARD
from callboard.exceptions import InvalidArgument

if TYPE_CHECKING:
    from callboard.app import Callboard
    from callboard.domain.conflict import Resolution

app = group("conflicts", "Report conflicts over locks, tasks and contexts, and decide them.")

ConflictId = Annotated[
    str, typer.Argument(metavar="CONFLICT", help="Id of the conflict.", show_default=False)
]
Limit = options.Limit
Priorities = Annotated[
    list[str] | None,
    typer.Option("--priority", metavar="PARTY=N", help="Of a party. May be repeated."),
]


@command(
    app,
    "list",
    example="""
        callboard conflicts list
        callboard conflicts list --for ann
    """,
)
async def list_conflicts(
    cb: "Callboard",
    out: Output,
    resolved: Annotated[
        bool, typer.Option("--resolved", help="Those that were decided, the last first.")
    ] = False,
    arbiter: Annotated[
        str | None, typer.Option("--for", metavar="NAME", help="Those that this arbiter decides.")
    ] = None,
    limit: Limit = 100,
) -> None:
    """List conflicts that are not decided, the newest first."""
    from callboard.cli import render_conflicts

    if arbiter is not None and resolved:
        raise InvalidArgument("Give --for or --resolved, not both.", field="for")
    if arbiter is not None:
        found = await cb.conflicts.pending(arbiter, limit=limit)
    elif resolved:
        found = await cb.conflicts.history(limit=limit)
    else:
        found = await cb.conflicts.active(limit=limit)
    out.emit({"conflicts": found}, render_conflicts.listing, found, out.width)


@command(app, "show", example="callboard conflicts show CONFLICT")
async def show(cb: "Callboard", out: Output, conflict: ConflictId) -> None:
    """Show a conflict: parties, votes, verdict, and who did what when."""
    from callboard.cli import render_conflicts

    found = await cb.conflicts.get(conflict)
    out.emit(found, render_conflicts.whole, found, out.width)


@command(
    app,
    "report",
    example="""
        callboard conflicts report task t_41 mira noor
        callboard conflicts report context p1 a b --about status
    """,
)
async def report(
    cb: "Callboard",
    out: Output,
    kind: Annotated[
        str, typer.Argument(metavar="KIND", help="resource, task or context.", show_default=False)
    ],
    subject: Annotated[
        str,
        typer.Argument(
            metavar="SUBJECT", help="The resource, task or context.", show_default=False
        ),
    ],
    parties: Annotated[
        list[str],
        typer.Argument(metavar="PARTY", help="Who wants it, as agents.", show_default=False),
    ],
    about: Annotated[
        str | None,
        typer.Option(
            "--about",
            metavar="WHAT",
            help="Of a task assignment, dependency or output; of a context the field.",
        ),
    ] = None,
    board: options.Board = DEFAULT_BOARD,
    priority: Priorities = None,
    rev: Annotated[
        list[str] | None,
        typer.Option("--rev", metavar="PARTY=N", help="Revision that it read. May be repeated."),
    ] = None,
    value: Annotated[
        list[str] | None,
        typer.Option("--value", metavar="PARTY=JSON", help="Kept if it wins. May be repeated."),
    ] = None,
    context: Annotated[
        str | None, typer.Option("--context", metavar="JSON", help="What deciders should know.")
    ] = None,
    no_enforce: Annotated[
        bool, typer.Option("--no-enforce", help="Keep the verdict, and change nothing else.")
    ] = False,
) -> None:
    """Report that several parties want what only one can have."""
    from callboard.cli import render_conflicts
    from callboard.domain.conflict import Party

    priorities, revs = _numbers("priority", priority), _numbers("rev", rev)
    values = {name: _json(text) for name, text in _pairs("value", value).items()}
    listed = [
        Party(
            name=name,
            priority=priorities.pop(name, None),
            rev=int(revs.pop(name)) if name in revs else None,
            value=values.pop(name, msgspec.UNSET),
        )
        for name in parties
    ]
    strangers = sorted({*priorities, *revs, *values})
    if strangers:
        raise InvalidArgument(f"{strangers[0]!r} is no party of this report.", field="parties")
    found = await cb.conflicts.report(
        kind,
        subject,
        listed,
        about=about,
        board=board,
        context=parse.json_value("context", context),
        enforce=not no_enforce,
        by=parse.operator(),
    )
    out.emit(found, render_conflicts.reported, found)


@command(
    app,
    "resolve",
    example="""
        callboard conflicts resolve CONFLICT
        callboard conflicts resolve CONFLICT --strategy priority
    """,
)
async def resolve(
    cb: "Callboard",
    out: Output,
    conflict: ConflictId,
    strategy: Annotated[
        str,
        typer.Option("--strategy", "-s", metavar="NAME", help="priority, timestamp, optimistic."),
    ] = "priority",
    priority: Priorities = None,
    inputs: Annotated[
        str | None, typer.Option("--inputs", metavar="JSON", help="For a strategy of your own.")
    ] = None,
    force: Annotated[
        bool, typer.Option("--force", help="Also while it is voted on or lies with an arbiter.")
    ] = False,
) -> None:
    """Decide a conflict by a strategy, and make what it is about agree."""
    given: dict[str, Any] = parse.json_object("inputs", inputs) or {}
    if priority:
        given["priorities"] = _numbers("priority", priority)
    resolution = await cb.conflicts.resolve(
        conflict, strategy, inputs=given, by=parse.operator(), force=force
    )
    _told(out, conflict, resolution)


@command(
    app,
    "poll",
    example="""
        callboard conflicts poll CONFLICT --deadline 5m
        callboard conflicts poll CONFLICT -m ann -m bob
    """,
)
async def poll(
    cb: "Callboard",
    out: Output,
    conflict: ConflictId,
    member: Annotated[
        list[str] | None,
        typer.Option(
            "--member", "-m", metavar="NAME", help="May vote; else all active agents. Repeat it."
        ),
    ] = None,
    rule: Annotated[
        str, typer.Option("--rule", metavar="RULE", help="vote or consensus.")
    ] = "vote",
    quorum: Annotated[
        float, typer.Option("--quorum", metavar="SHARE", help="Of the members, who have to vote.")
    ] = 0.5,
    threshold: Annotated[
        float,
        typer.Option("--threshold", metavar="SHARE", help="Of all confidence, for a consensus."),
    ] = 0.6,
    tie: Annotated[
        str, typer.Option("--tie", metavar="RULE", help="undecided, or first (listed).")
    ] = "undecided",
    revisable: Annotated[
        bool, typer.Option("--revisable", help="Votes may be changed until the deadline.")
    ] = False,
    deadline: Annotated[
        str, typer.Option("--deadline", metavar="TIME", help="When it is decided.")
    ] = "30s",
) -> None:
    """Put a conflict to the vote; who may vote and all rules are fixed from here."""
    ballot = await cb.conflicts.open_vote(
        conflict,
        members=parse.names(member) or None,
        rule=rule,
        quorum=quorum,
        threshold=threshold,
        tie=tie,
        revisable=revisable,
        deadline=parse.seconds("deadline", deadline) or 0.0,
        by=parse.operator(),
    )
    out.emit(
        ballot,
        lambda: [
            f"{ballot.members} may vote on {conflict}, {ballot.quorum} have to. "
            f"They do so by: callboard conflicts vote {conflict} NAME PARTY"
        ],
    )


@command(app, "vote", example="callboard conflicts vote CONFLICT ann mira")
async def vote(
    cb: "Callboard",
    out: Output,
    conflict: ConflictId,
    voter: Annotated[str, typer.Argument(metavar="NAME", help="Who votes.", show_default=False)],
    candidate: Annotated[
        str | None,
        typer.Argument(metavar="[PARTY]", help="For whom; none of them if left out."),
    ] = None,
    confidence: Annotated[
        float, typer.Option("--confidence", metavar="SHARE", help="0 to 1, for a consensus.")
    ] = 1.0,
) -> None:
    """Vote as a member of the ballot."""
    taken = await cb.conflicts.vote(conflict, voter, candidate, confidence=confidence)
    became = f"decided for {taken.winner}" if taken.winner else taken.status
    out.emit(taken, lambda: [f"Vote of {voter} taken. Conflict {conflict} is {became}."])


@command(app, "refer", example="callboard conflicts refer CONFLICT ann")
async def refer(
    cb: "Callboard",
    out: Output,
    conflict: ConflictId,
    arbiter: Annotated[
        str, typer.Argument(metavar="NAME", help="Who decides.", show_default=False)
    ],
    deadline: Annotated[
        str, typer.Option("--deadline", metavar="TIME", help="How long they have.")
    ] = "1h",
    fallback: Annotated[
        str | None,
        typer.Option("--fallback", metavar="NAME", help="Strategy that decides if they do not."),
    ] = None,
) -> None:
    """Put a conflict before an arbiter, an agent or a person."""
    found = await cb.conflicts.refer(
        conflict,
        arbiter,
        deadline=parse.seconds("deadline", deadline) or 0.0,
        fallback=fallback,
        by=parse.operator(),
    )
    out.emit(
        found,
        lambda: [
            f"Conflict {conflict} lies with {arbiter}, who decides by: "
            f"callboard conflicts decide {conflict} PARTY --by {arbiter}"
        ],
    )


@command(app, "decide", example="callboard conflicts decide CONFLICT mira --by ann")
async def decide(
    cb: "Callboard",
    out: Output,
    conflict: ConflictId,
    winner: Annotated[str, typer.Argument(metavar="PARTY", help="Who wins.", show_default=False)],
    by: Annotated[
        str | None, typer.Option("--by", metavar="NAME", help="The arbiter; else your user name.")
    ] = None,
    reason: options.Reason = "",
) -> None:
    """Decide a conflict as its arbiter."""
    who = by or parse.operator()
    _told(out, conflict, await cb.conflicts.decide(conflict, winner, by=who, reason=reason))


@command(app, "stats", example="callboard conflicts stats")
async def stats(cb: "Callboard", out: Output) -> None:
    """Count conflicts, by type and by the strategy that decided them."""
    from callboard.cli import render_conflicts

    found = await cb.conflicts.stats()
    out.emit(found, render_conflicts.stats, found)


@command(app, "cleanup", example="callboard conflicts cleanup --older-than 1d")
async def cleanup(
    cb: "Callboard",
    out: Output,
    older_than: Annotated[
        str, typer.Option("--older-than", metavar="TIME", help="Decided so long ago.")
    ] = "7d",
) -> None:
    """Remove conflicts that were decided; open ones stay."""
    age = parse.seconds("older-than", older_than) or 0.0
    count = await cb.conflicts.cleanup(age, by=parse.operator())
    out.emit({"removed": count}, lambda: [f"Removed {count:,} conflicts."])


def _told(out: Output, conflict: str, resolution: "Resolution") -> None:
    from callboard.cli import render_conflicts

    out.emit(resolution, render_conflicts.verdict, conflict, resolution)


def _pairs(what: str, given: list[str] | None) -> dict[str, str]:
    found: dict[str, str] = {}
    for pair in given or ():
        name, equals, value = pair.partition("=")
        if not equals or not name:
            raise InvalidArgument(f"--{what} {pair!r} is not of the form PARTY=VALUE.", field=what)
        found[name] = value
    return found


def _numbers(what: str, given: list[str] | None) -> dict[str, Any]:
    found: dict[str, Any] = {}
    for name, text in _pairs(what, given).items():
        value = _json(text)
        if isinstance(value, bool) or not isinstance(value, int | float):
            raise InvalidArgument(f"--{what} {name}={text} is no number.", field=what)
        found[name] = value
    return found


def _json(text: str) -> Any:
    """JSON where it reads as such, else the text."""
    try:
        return msgspec.json.decode(text, type=Any)
    except msgspec.DecodeError:
        return text
