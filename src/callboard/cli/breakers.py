"""``callboard breakers``: what may be called, and what not for now."""

from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated, Literal

import typer

from callboard.cli import parse
from callboard.cli.command import command, group
from callboard.cli.output import Output
from callboard.exceptions import InvalidArgument

if TYPE_CHECKING:
    from callboard.app import Callboard
    from callboard.domain.breaker import BreakerPolicy, Permit

app = group("breakers", "Circuit breakers: set them, see what is open, isolate and reset.")

Component = Annotated[
    str,
    typer.Argument(
        metavar="COMPONENT", help="As external-api, agent:mira, kind:deploy.", show_default=False
    ),
]
Number = Annotated[
    int, typer.Argument(metavar="PERMIT", help="As admit gave it.", show_default=False)
]
Lease = Annotated[
    str | None,
    typer.Option("--lease", metavar="TIME", help="After which a probe's place is given on."),
]


@command(app, "list", example="callboard breakers list")
async def list_breakers(
    cb: "Callboard",
    out: Output,
    state: Annotated[
        Literal["closed", "open", "half-open"] | None,
        typer.Option("--state", help="Only those in this state."),
    ] = None,
    start: Annotated[int, typer.Option("--start", metavar="N", help="Leave out the first N.")] = 0,
) -> None:
    """List breakers, at most 1,000, with what they count."""
    from callboard.cli import render_breakers

    found = await cb.breakers.list(start=start)
    if state is not None:
        found = [breaker for breaker in found if breaker.state == state]
    out.emit({"breakers": found}, render_breakers.listing, found, out.width)


@command(app, "show", example="callboard breakers show external-api")
async def show(cb: "Callboard", out: Output, component: Component) -> None:
    """Show a breaker: where it stands, since when, its policy and its counts."""
    from callboard.cli import render_breakers

    found = await cb.breakers.get(component)
    out.emit(found, render_breakers.whole, found)


@command(app, "metrics", example="callboard breakers metrics external-api")
async def metrics(cb: "Callboard", out: Output, component: Component) -> None:
    """Show the documented figures of a breaker, under their documented names."""
    from callboard.cli import render_breakers

    found = await cb.breakers.metrics(component)
    out.emit(found, render_breakers.figures, found)


@dataclass(frozen=True, slots=True)
class PolicyOptions:
    """When a breaker opens, and when it closes again."""

    preset: Annotated[
        Literal["documented", "assign", "pattern"],
        typer.Option("--preset", help="What the other options change."),
    ] = "documented"
    failures: Annotated[
        int | None,
        typer.Option("--failures", metavar="N", help="It opens after so many in a row."),
    ] = None
    rate: Annotated[
        float | None,
        typer.Option("--rate", metavar="SHARE", help="It opens once this share failed, 0 to 1."),
    ] = None
    window: Annotated[
        str | None, typer.Option("--window", metavar="TIME", help="What the rate is taken over.")
    ] = None
    volume: Annotated[
        int | None,
        typer.Option("--volume", metavar="N", help="Calls below which the rate opens nothing."),
    ] = None
    open_for: Annotated[
        str | None, typer.Option("--open-for", metavar="TIME", help="Until it probes.")
    ] = None
    probes: Annotated[
        int | None, typer.Option("--probes", metavar="N", help="Probes under way at a time.")
    ] = None
    successes: Annotated[
        int | None,
        typer.Option("--successes", metavar="N", help="Good probes that close it."),
    ] = None
    lease: Annotated[
        str | None, typer.Option("--lease", metavar="TIME", help="That a silent probe has.")
    ] = None

    def over_preset(self) -> "BreakerPolicy":
        """The preset's policy, with what they say."""
        import msgspec

        from callboard.domain.breaker import PRESETS

        given: dict[str, float | None] = {
            "failure_threshold": self.failures,
            "failure_rate": self.rate,
            "window": parse.seconds("window", self.window),
            "volume": self.volume,
            "open_for": parse.seconds("open-for", self.open_for),
            "half_open_limit": self.probes,
            "success_threshold": self.successes,
            "permit_lease": parse.seconds("lease", self.lease),
        }
        changes = {
            name: value
            for name, value in given.items()
            # A rate stands in for failures in a row.
            if value is not None or (name == "failure_threshold" and self.rate is not None)
        }
        return msgspec.structs.replace(PRESETS[self.preset], **changes)


@command(
    app,
    "configure",
    example="""
        callboard breakers configure api --failures 5 --probes 1
        callboard breakers configure api --rate 0.5 --window 1m
        callboard breakers configure kind:deploy --gates
    """,
)
async def configure(
    cb: "Callboard",
    out: Output,
    *,
    component: Component,
    policy: PolicyOptions,
    gates: Annotated[
        bool,
        typer.Option("--gates", help="It decides over the claims of its agent or kind of task."),
    ] = False,
) -> None:
    """Give a component a breaker, or its breaker another policy; its state stays."""
    changed = policy.over_preset()
    is_new = await cb.breakers.configure(component, changed, gates=gates, by=parse.operator())
    value = {"component": component, "is_new": is_new, "policy": changed, "gates": gates}
    verb = "Configured" if is_new else "Changed"
    out.emit(value, lambda: [f"{verb} the breaker of {component}."])


@command(app, "isolate", example='callboard breakers isolate api --reason "they move"')
async def isolate(
    cb: "Callboard",
    out: Output,
    component: Component,
    reason: Annotated[
        str, typer.Option("--reason", "-r", metavar="TEXT", help="Why, for whoever looks.")
    ] = "",
) -> None:
    """Let no call through until the breaker is reset; also where the component had none."""
    await cb.breakers.isolate(component, reason=reason, by=parse.operator())
    out.emit(
        {"component": component, "isolated": True},
        lambda: [f"Isolated {component}. Undo it: callboard breakers reset {component}"],
    )


@command(app, "force", example="callboard breakers force external-api half-open")
async def force(
    cb: "Callboard",
    out: Output,
    component: Component,
    state: Annotated[
        Literal["closed", "open", "half-open"],
        typer.Argument(metavar="STATE", help="closed, open or half-open.", show_default=False),
    ],
) -> None:
    """Put a breaker into a state, from which it goes on as ever."""
    await cb.breakers.force(component, state, by=parse.operator())
    out.emit(
        {"component": component, "state": state},
        lambda: [f"The breaker of {component} is {state}."],
    )


@command(app, "reset", example="callboard breakers reset external-api")
async def reset(
    cb: "Callboard",
    out: Output,
    component: Annotated[
        str | None,
        typer.Argument(metavar="COMPONENT", help="Which.", show_default=False),
    ] = None,
    everything: Annotated[bool, typer.Option("--all", help="The first 1,000 of them.")] = False,
) -> None:
    """Close a breaker and set its counts to zero."""
    if everything == (component is not None):
        raise InvalidArgument("Name one component, or say --all.", field="component")
    if component is None:
        count = await cb.breakers.reset_all(by=parse.operator())
        out.emit({"reset": count}, lambda: [f"Breakers reset: {count:,}."])
        return
    await cb.breakers.reset(component, by=parse.operator())
    out.emit(
        {"component": component, "state": "closed"},
        lambda: [f"Reset: the breaker of {component} is closed."],
    )


@command(app, "remove", example="callboard breakers remove external-api")
async def remove(cb: "Callboard", out: Output, component: Component) -> None:
    """Remove a breaker: all calls of its component go ahead."""
    await cb.breakers.remove(component, by=parse.operator())
    out.emit({"removed": component}, lambda: [f"Removed the breaker of {component}."])


@command(
    app,
    "admit",
    example="""
        callboard breakers admit external-api
    """,
)
async def admit(cb: "Callboard", out: Output, component: Component, lease: Lease = None) -> None:
    """Ask whether a call may be made: prints a permit's number, or exits with 1.

    Record how the call ended with callboard breakers record. 0 is the number where the
    component has no breaker.
    """
    permit = await cb.breakers.admit(
        component, lease=parse.seconds("lease", lease), by=parse.operator()
    )
    out.emit(permit, lambda: [str(permit.number)])


@command(app, "record", example="callboard breakers record api 1800000000000000 failure")
async def record(
    cb: "Callboard",
    out: Output,
    component: Component,
    number: Number,
    outcome: Annotated[
        Literal["success", "failure", "ignored"],
        typer.Argument(metavar="OUTCOME", help="success, failure or ignored."),
    ] = "success",
) -> None:
    """Record how a permitted call ended, once."""
    counted = await cb.breakers.record(_permit(component, number), outcome, by=parse.operator())
    text = "Recorded." if counted else "Not counted: the permit is from before the last change."
    out.emit({"component": component, "counted": counted}, lambda: [text])


@command(app, "renew", example="callboard breakers renew api 1800000000000000 --lease 1m")
async def renew(
    cb: "Callboard", out: Output, component: Component, number: Number, lease: Lease = None
) -> None:
    """Push the deadline of a probe forward."""
    await cb.breakers.renew(_permit(component, number), lease=parse.seconds("lease", lease))
    out.emit({"component": component, "renewed": True}, lambda: ["Renewed."])


def _permit(component: str, number: int) -> "Permit":
    from callboard.domain.breaker import Permit

    return Permit(component=component, number=number)
