"""``callboard keys`` and ``callboard audit``: who may ask a coordinator, and what they did."""

from typing import TYPE_CHECKING, Annotated, Any, Literal

import typer

from callboard.cli import parse
from callboard.cli.command import command, group
from callboard.cli.output import Output
from callboard.exceptions import ApiKeyNotFound, InvalidArgument

if TYPE_CHECKING:
    from callboard.app import Callboard
    from callboard.domain.access import ApiKey

app = group("keys", "API keys, for programs that come to a coordinator by HTTP.")

Key = Annotated[
    str, typer.Argument(metavar="KEY", help="Id or name of the key.", show_default=False)
]


class _Create(typer.core.TyperCommand):
    """Refuses a second --namespace, of which the last would be taken and the others forgotten."""

    def parse_args(self, ctx: Any, args: list[str]) -> list[str]:
        given = [one for one in args if one.partition("=")[0] == "--namespace"]
        if len(given) > 1:
            raise typer.BadParameter(
                "--namespace was given more than once. Name the first with it, each other one "
                "with --also.",
                ctx=ctx,
            )
        return super().parse_args(ctx, args)


@command(
    app,
    "create",
    kind=_Create,
    example="""
        callboard keys create ci --role work --expires 90d
        callboard keys create wall --role read --namespace team
    """,
)
async def create(
    cb: "Callboard",
    out: Output,
    name: Annotated[
        str, typer.Argument(metavar="NAME", help="What it is for.", show_default=False)
    ],
    role: Annotated[
        Literal["read", "work", "operate", "admin"],
        typer.Option("--role", help="Each may do what those before it may."),
    ] = "work",
    also: Annotated[
        list[str] | None,
        typer.Option(
            "--also", metavar="NAME", help="A namespace besides that of --namespace; repeatable."
        ),
    ] = None,
    default_namespace: Annotated[
        bool,
        typer.Option("--default-namespace", help="Only for the namespace without a name."),
    ] = False,
    agent: Annotated[
        str | None,
        typer.Option("--agent", "-a", metavar="NAME", help="Only to act as this agent."),
    ] = None,
    expires: Annotated[
        str | None,
        typer.Option("--expires", metavar="TIME", help="After which it holds no more, as 90d."),
    ] = None,
    rate: Annotated[
        float | None,
        typer.Option("--rate", metavar="N", help="Requests a second; else the coordinator's."),
    ] = None,
    burst: Annotated[
        int | None,
        typer.Option("--burst", metavar="N", help="Requests at once after a quiet time."),
    ] = None,
) -> None:
    """Make a key. It is shown this once, and only a hash of it is stored.

    It holds in the namespace that --namespace names, and without that in all of them.
    """
    from callboard.cli import render_keys

    issued = await cb.access.create(
        name,
        role=role,
        namespaces=_namespaces(cb.namespace.name, parse.names(also), default_namespace),
        agent=agent,
        expires_in=parse.seconds("expires", expires),
        rate=rate,
        burst=burst,
        by=parse.operator(),
    )
    out.emit(issued, render_keys.issued, issued)


@command(app, "list", example="callboard keys list")
async def list_keys(
    cb: "Callboard",
    out: Output,
    every: Annotated[
        bool, typer.Option("--all", help="Those that were revoked or ran out, too.")
    ] = False,
) -> None:
    """List the keys of the engine, of all namespaces."""
    from callboard.cli import render_keys

    found = await cb.access.list()
    ended = 0
    if not every:
        holding = [key for key in found if key.status == "active"]
        ended = len(found) - len(holding)
        found = holding
    out.emit({"keys": found}, render_keys.listing, found, ended, out.width)


@command(app, "show", example="callboard keys show ci")
async def show(cb: "Callboard", out: Output, key: Key) -> None:
    """Show a key: what it may do and where, since when, until when; never its secret."""
    from callboard.cli import render_keys

    found = await _named(cb, key)
    out.emit(found, render_keys.whole, found)


@command(app, "revoke", example="callboard keys revoke ci")
async def revoke(cb: "Callboard", out: Output, key: Key) -> None:
    """Take a key back for good; coordinators know within two seconds."""
    found = await cb.access.revoke((await _named(cb, key)).id, by=parse.operator())
    out.emit(found, lambda: [f"Revoked key {found.name} ({found.id})."])


def add_to(root: typer.Typer, panel: str) -> None:
    """Make ``callboard audit`` a command of the program."""

    @command(
        root,
        "audit",
        panel=panel,
        example="""
            callboard audit --since 1d
            callboard audit --operation 'boards.*' --by ci
        """,
    )
    async def audit(
        cb: "Callboard",
        out: Output,
        since: Annotated[
            str | None, typer.Option("--since", metavar="TIME", help="As 2h, or a moment.")
        ] = None,
        by: Annotated[
            str | None, typer.Option("--by", metavar="NAME", help="Only with keys of this name.")
        ] = None,
        operation: Annotated[
            str | None,
            typer.Option("--operation", metavar="NAME", help="As boards.pause, or boards.*"),
        ] = None,
        cursor: Annotated[
            str | None,
            typer.Option("--cursor", metavar="CURSOR", help="Go on behind an earlier page."),
        ] = None,
        limit: Annotated[
            int, typer.Option("--limit", "-n", metavar="N", help="At most so many.")
        ] = 50,
    ) -> None:
        """List what operators and administrators did by HTTP, the newest first."""
        from callboard.cli import render_keys

        page = await cb.access.audit(
            cursor=cursor,
            since=parse.moment("since", since, past=True),
            name=by,
            operation=operation,
            limit=limit,
        )
        out.emit(page, render_keys.audit, page, out.width)


def _namespaces(own: str, also: tuple[str, ...], only_default: bool) -> tuple[str, ...]:
    """Where a new key holds: ``--namespace`` and ``--also``, else everywhere."""
    if only_default:
        if own:
            raise InvalidArgument(
                "Give --namespace or --default-namespace, not both; with --also for more.",
                field="namespaces",
            )
        return ("", *also)
    if own:
        return (own, *also)
    if also:
        raise InvalidArgument(
            "--also adds to --namespace or --default-namespace. Give one of them.",
            field="namespaces",
        )
    return ("*",)


async def _named(cb: "Callboard", text: str) -> "ApiKey":
    """The key of this id, else the one of this name that holds."""
    from callboard.domain.reading import nearest

    keys = await cb.access.list()
    for key in keys:
        if key.id == text:
            return key
    found = [key for key in keys if key.name == text]
    holding = [key for key in found if key.status == "active"] or found
    if len(holding) == 1:
        return holding[0]
    if holding:
        ids = ", ".join(key.id for key in holding)
        raise InvalidArgument(
            f"{len(holding)} keys have the name {text!r}. Name one by its id: {ids}.", field="key"
        )
    close = nearest(text, [key.name for key in keys if key.status == "active"])
    hint = f" Did you mean {close}?" if close else " List them: callboard keys list."
    raise ApiKeyNotFound(f"No API key {text!r}.{hint}", api_key=text)
