"""``callboard locks``: acquired and given back in scripts, looked at, taken by force."""

import secrets
import signal
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, Annotated, Literal

import typer

from callboard.cli import options, parse
from callboard.cli.command import command, group
from callboard.cli.output import Output
from callboard.exceptions import CallboardError, InvalidArgument

if TYPE_CHECKING:
    from callboard.app import Callboard
    from callboard.domain.lock import Lock

app = group("locks", "Lock resources, see who holds and who waits, and what deadlocks there were.")

TELL_AFTER_SECONDS = 1.0
"""A wait that lasts longer is told on stderr: at once it would be noise."""

ResourceName = Annotated[
    str,
    typer.Argument(metavar="RESOURCE", help="As db:users, file:src/a.py.", show_default=False),
]
Resources = Annotated[
    list[str],
    typer.Argument(
        metavar="RESOURCE",
        help="As db:users, file:src/a.py; with * within a part, or ** for any parts.",
        show_default=False,
    ),
]
Holder = Annotated[
    str,
    typer.Option(
        "--owner",
        "-o",
        metavar="OWNER",
        help="Who holds it: a token, or claim:BOARD:TASK:FENCE.",
        show_default=False,
    ),
]
NewOwner = Annotated[
    str | None,
    typer.Option(
        "--owner",
        "-o",
        metavar="OWNER",
        help="A token, or claim:BOARD:TASK:FENCE; one of its own if not given.",
    ),
]
Mode = Annotated[
    Literal["exclusive", "shared", "semaphore"],
    typer.Option("--mode", "-m", help="With whom it is shared."),
]
Permits = Annotated[
    int | None,
    typer.Option("--limit", metavar="N", help="Permits that the semaphore has."),
]
Wait = Annotated[
    str, typer.Option("--wait", "-w", metavar="TIME", help="How long to stand in line; 0 to try.")
]
Lease = Annotated[
    str, typer.Option("--lease", metavar="TIME", help="How long it is kept without a renewal.")
]
Priority = Annotated[
    str,
    typer.Option(
        "--priority", "-p", metavar="P", help="low to urgent, or a number: seconds of waiting."
    ),
]
AgentName = Annotated[
    str, typer.Option("--agent", "-a", metavar="NAME", help="Shown beside the owner.")
]
Fence = Annotated[
    int | None,
    typer.Option(
        "--fence", "-f", metavar="N", help="Only if it is still held under this fence.", min=1
    ),
]
MostResources = Annotated[
    int, typer.Option("--limit", "-n", metavar="N", help="At most so many, up to 1,000.")
]


@command(
    app,
    "acquire",
    example="""
        callboard locks acquire db:users -o nightly --lease 10m
        callboard locks acquire 'file:src/**' db:users --wait 0
        callboard locks acquire api --mode semaphore --limit 4
    """,
)
async def acquire(
    cb: "Callboard",
    out: Output,
    resources: Resources,
    owner: NewOwner = None,
    mode: Mode = "exclusive",
    limit: Permits = None,
    wait: Wait = "30s",
    lease: Lease = "30s",
    priority: Priority = "0",
    agent: AgentName = "",
) -> None:
    """Get all of the resources or none, and keep them until the lease is over.

    The exit code is 1 where they were not to be had in time. Give them back, or renew them,
    by the owner. To hold them while a command runs use callboard locks run.
    """
    from callboard.cli import render_locks

    check_permits(mode, limit)
    async with told_of_wait(cb, out, resources):
        lock = await cb.locks.acquire(
            *resources,
            owner=owner or new_owner(),
            mode=mode,
            limit=limit,
            wait=parse.seconds("wait", wait) or 0.0,
            lease=parse.seconds("lease", lease) or 0.0,
            priority=parse.priority(priority),
            agent=agent,
        )
    out.emit(lock, render_locks.granted, lock)


@command(
    app,
    "release",
    example="""
        callboard locks release db:users --owner nightly
        callboard locks release --all --owner nightly
    """,
)
async def release(
    cb: "Callboard",
    out: Output,
    owner: Holder,
    resources: Annotated[
        list[str] | None,
        typer.Argument(metavar="RESOURCE", help="Which.", show_default=False),
    ] = None,
    fence: Fence = None,
    everything: Annotated[
        bool, typer.Option("--all", help="All that the owner holds; its waits end too.")
    ] = False,
) -> None:
    """Give resources back, once for each time they were acquired; the next in line gets them."""
    if everything == bool(resources) or (everything and fence is not None):
        raise InvalidArgument("Name resources, or say --all.", field="resources")
    if everything:
        count = await cb.locks.release_all(owner)
        out.emit({"owner": owner, "count": count}, lambda: [f"Released: {count:,}."])
        return
    names = resources or []
    if fence is None:
        await cb.locks.release(names, owner)
    else:
        await cb.locks.release(_under(names, owner, fence))
    out.emit(
        {"owner": owner, "released": sorted(set(names))},
        lambda: [f"Released {', '.join(sorted(set(names)))}."],
    )


@command(app, "renew", example="callboard locks renew db:users -o nightly --lease 10m")
async def renew(
    cb: "Callboard",
    out: Output,
    resources: Resources,
    owner: Holder,
    lease: Lease = "30s",
    fence: Fence = None,
) -> None:
    """Push the deadline forward, if the owner still holds them; it never moves backwards."""
    seconds = parse.seconds("lease", lease) or 0.0
    if fence is None:
        await cb.locks.renew(resources, owner, lease=seconds)
    else:
        await cb.locks.renew(_under(resources, owner, fence), lease=seconds)
    names = sorted(set(resources))
    out.emit(
        {"owner": owner, "renewed": names, "lease": seconds},
        lambda: [f"Renewed {', '.join(names)}."],
    )


@command(app, "list", example="callboard locks list file:src/")
async def list_locks(
    cb: "Callboard",
    out: Output,
    prefix: Annotated[
        str, typer.Argument(metavar="PREFIX", help="Only names that begin so.", show_default=False)
    ] = "",
    limit: MostResources = 1_000,
) -> None:
    """List the resources that are held or waited for, by name."""
    from callboard.cli import render_locks

    found = await cb.locks.list(prefix, limit=limit)
    out.emit({"resources": found}, render_locks.listing, found, prefix, out.width)


@command(app, "show", example="callboard locks show db:users")
async def show(cb: "Callboard", out: Output, resource: ResourceName) -> None:
    """Show who holds a resource, under which fence, and who is in line for it."""
    from callboard.cli import render_locks

    found = await cb.locks.get(resource)
    out.emit(found, render_locks.whole, found, out.width)


@command(app, "waits", example="callboard locks waits")
async def waits(cb: "Callboard", out: Output, limit: MostResources = 1_000) -> None:
    """List who waits for locks, the longest waiting first."""
    from callboard.cli import render_locks

    found = await cb.locks.waits(limit=limit)
    out.emit({"waits": found}, render_locks.waits, found, out.width)


@command(
    app,
    "graph",
    example="""
        callboard locks graph
        callboard locks graph --dot | dot -Tsvg > waits.svg
    """,
)
async def graph(
    cb: "Callboard",
    out: Output,
    owner: Annotated[
        str | None,
        typer.Argument(metavar="OWNER", help="Of it and all it leads to.", show_default=False),
    ] = None,
    dot: options.Dot = False,
    limit: Annotated[
        int, typer.Option("--limit", "-n", metavar="N", help="Waits looked at, up to 5,000.")
    ] = 5_000,
) -> None:
    """Show who waits for whom, over locks, tasks and requests."""
    from callboard.cli import render_locks

    found = await cb.locks.graph(owner, limit=limit)
    if dot:
        out.raw(found.dot())
        return
    out.emit(found, render_locks.graph, found, owner, out.width)


@command(app, "incidents", example="callboard locks incidents --limit 10")
async def incidents(cb: "Callboard", out: Output, limit: options.Limit = 20) -> None:
    """List the deadlocks that were found, the newest first: the cycle, and its victim."""
    from callboard.cli import render_locks

    found = await cb.locks.incidents(limit=limit)
    out.emit({"incidents": found}, render_locks.incidents, found)


@command(
    app,
    "force-release",
    example="callboard locks force-release db:users --reason gone",
)
async def force_release(
    cb: "Callboard",
    out: Output,
    resource: ResourceName,
    owner: Annotated[
        str | None,
        typer.Option("--owner", "-o", metavar="OWNER", help="Only from this one of several."),
    ] = None,
    reason: options.Reason = "",
) -> None:
    """Take a resource from whoever holds it; who is next in line gets it.

    The holder is told, and what it presents from here is refused: the fence that is printed
    is above its own.
    """
    fence = await cb.locks.force_release(resource, by=parse.operator(), reason=reason, owner=owner)
    out.emit(
        {"resource": resource, "fence": fence},
        lambda: [f"Took {resource} from its holder. Fences below {fence} are stale."],
    )


@command(app, "why", example="callboard locks why db:users")
async def why(
    cb: "Callboard",
    out: Output,
    subject: Annotated[
        str,
        typer.Argument(metavar="SUBJECT", help="A resource, or an owner.", show_default=False),
    ],
) -> None:
    """Say why a resource is not to be had, or whom an owner waits for."""
    found = await cb.locks.why(subject)
    out.emit(found, lambda: found.reasons)


def new_owner() -> str:
    """An owner of this command's own, by the name of whoever gives it."""
    return f"cli-{parse.operator()}-{secrets.token_hex(4)}"


def check_permits(mode: str, limit: int | None) -> None:
    """Say which option is missing, or is too much."""
    if mode == "semaphore" and limit is None:
        raise InvalidArgument(
            "--mode semaphore needs --limit N: how many may hold it at once.", field="limit"
        )
    if mode != "semaphore" and limit is not None:
        raise InvalidArgument("--limit is for --mode semaphore.", field="limit")


@asynccontextmanager
async def told_of_wait(
    cb: "Callboard", out: Output, resources: Sequence[str]
) -> AsyncIterator[None]:
    """Within it, say on stderr what is waited for, once that lasts.

    A signal leaves the line in order, where the connection still is there to do it.
    """
    import asyncio

    from callboard.cli.hosting import caught

    waiter = asyncio.current_task()
    assert waiter is not None
    telling = asyncio.create_task(_tell_of_wait(cb, out, resources), name="callboard-cli-wait")

    def leave(_: int) -> None:
        waiter.cancel()

    with caught(leave, leave, signal.SIGHUP) as signals:
        try:
            try:
                yield
            finally:
                telling.cancel()
                await asyncio.gather(telling, return_exceptions=True)
        except asyncio.CancelledError:
            if signals:
                raise SystemExit(128 + signals[0]) from None
            raise


async def _tell_of_wait(cb: "Callboard", out: Output, resources: Sequence[str]) -> None:
    import asyncio

    await asyncio.sleep(TELL_AFTER_SECONDS)
    try:
        for name in resources:
            found = await cb.locks.get(name)
            if found.holders:
                out.remark(f"Waiting for {name}: {(await cb.locks.why(name)).reasons[0]}.")
                return
    except CallboardError:
        return  # The wait itself tells what is wrong.
    out.remark(f"Waiting for {', '.join(resources)}.")


def _under(resources: Sequence[str], owner: str, fence: int) -> "Lock":
    """The resources as held under one fence."""
    from datetime import UTC, datetime

    from callboard.domain import lock as rules

    names = tuple(rules.check_resources(resources))
    return rules.Lock(
        owner=rules.check_owner(owner),
        resources=names,
        mode="exclusive",
        fence=fence,
        fences=dict.fromkeys(names, fence),
        deadline=datetime.now(UTC),
        lease=rules.LEASE_DEFAULT,
    )
