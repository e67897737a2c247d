"""``callboard metrics``: what the boards measure, and series that programs record."""

from typing import TYPE_CHECKING, Annotated, Any, cast

import typer

from callboard.cli import options, parse
from callboard.cli.command import command, group
from callboard.cli.output import Output
from callboard.cli.selection import confirmed
from callboard.exceptions import InvalidArgument

if TYPE_CHECKING:
    from callboard.app import Callboard
    from callboard.domain.metric import Aggregate

app = group("metrics", "Measure the boards, and record and read series of numbers.")

Name = Annotated[str, typer.Argument(metavar="NAME", help="The series.", show_default=False)]
Tags = Annotated[
    list[str] | None,
    typer.Option("--tag", metavar="KEY=VALUE", help="Of which tags. May be repeated."),
]
Since = options.Since
Training = Annotated[
    str | None,
    typer.Option("--training", metavar="PROJECT", help="The series of this project's trainings."),
]


@command(app, "show", example="callboard metrics show --board run-42")
async def show(
    cb: "Callboard",
    out: Output,
    board: options.AnyBoard = None,
    source: Annotated[
        bool, typer.Option("--source", help="With --json: the documented camelCase names.")
    ] = False,
) -> None:
    """Show the coordination metrics now: tasks, agents, locks, messages, cost."""
    from callboard.cli import render_metrics

    found = await cb.metrics.snapshot(board)
    out.emit(found.to_source() if source else found, render_metrics.snapshot, found, out.width)


@command(app, "prometheus", example="callboard metrics prometheus")
async def prometheus(cb: "Callboard", out: Output) -> None:
    """Print all metrics in the text format that Prometheus scrapes."""
    text = await cb.metrics.prometheus()
    if out.as_json:
        out.document({"text": text})
    else:
        out.raw(text)


@command(app, "history", example="callboard metrics history task_throughput --since 2h")
async def history(
    cb: "Callboard", out: Output, name: Name, since: Since = None, limit: options.Limit = 120
) -> None:
    """Show a coordination metric as it was sampled every 30 seconds."""
    from callboard.cli import render_metrics

    found = await cb.metrics.history(
        name, since=parse.moment("since", since, past=True), limit=limit
    )
    out.emit({"points": found}, render_metrics.points, name, found, out.width)


@command(app, "record", example="callboard metrics record latency 0.35 --tag kind=greet")
async def record(
    cb: "Callboard",
    out: Output,
    name: Name,
    value: Annotated[
        str, typer.Argument(metavar="VALUE", help="A finite number.", show_default=False)
    ],
    tag: Tags = None,
    step: Annotated[
        int | None, typer.Option("--step", metavar="N", help="The step that it is of.")
    ] = None,
    training: Training = None,
) -> None:
    """Append a point to a series; with --training and --step to one of a training."""
    number = _number(value)
    if training is None:
        await cb.metrics.record(name, number, tags=parse.labels(tag), step=step)
    elif step is None:
        raise InvalidArgument("A training's value needs its --step.", field="step")
    else:
        await cb.metrics.record_training(training, step, {name: number})
    out.emit({"recorded": True}, lambda: ["Recorded."])


@command(app, "series", example="callboard metrics series latency --tag kind=greet")
async def series(
    cb: "Callboard",
    out: Output,
    name: Annotated[
        str | None,
        typer.Argument(metavar="NAME", help="The series; all of them are listed without."),
    ] = None,
    tag: Tags = None,
    since: Since = None,
    limit: options.Limit = 20,
    every: Annotated[
        str | None,
        typer.Option("--every", metavar="TIME", help="One value for each span, as 1m."),
    ] = None,
    aggregate: Annotated[
        str,
        typer.Option(
            "--aggregate",
            metavar="NAME",
            help="Of a span: mean, sum, min, max, count, first, last, p50, p95 or p99.",
        ),
    ] = "mean",
    training: Training = None,
) -> None:
    """List the series, or show the points of one."""
    from callboard.cli import render_metrics

    if name is None:
        found = await cb.metrics.series(limit=limit)
        out.emit({"series": found}, render_metrics.series, found, out.width)
        return
    values: list[Any]
    if training is not None:
        values = list(await cb.metrics.training(training, name, limit))
    elif every is not None:
        values = list(
            await cb.metrics.downsample(
                name,
                parse.seconds("every", every) or 0,
                cast("Aggregate", aggregate),
                tags=parse.labels(tag),
                since=parse.moment("since", since, past=True),
            )
        )[-limit:]
    else:
        values = list(
            await cb.metrics.range(
                name,
                parse.moment("since", since, past=True),
                tags=parse.labels(tag),
                limit=limit,
            )
        )
    out.emit({"points": values}, render_metrics.points, name, values, out.width)


@command(app, "top", example="callboard metrics top --window 1h")
async def top(
    cb: "Callboard",
    out: Output,
    limit: options.Limit = 10,
    window: Annotated[
        str, typer.Option("--window", metavar="TIME", help="Points of the last so long.")
    ] = "5m",
) -> None:
    """List the series with the most points lately."""
    from callboard.cli import render_metrics

    found = await cb.metrics.top(limit, window=parse.seconds("window", window) or 0)
    out.emit({"series": found}, render_metrics.top, found, out.width)


@command(app, "set", example="callboard metrics set latency --points 10000 --keep 7d")
async def set_kept(
    cb: "Callboard",
    out: Output,
    name: Name,
    points: Annotated[
        int, typer.Option("--points", metavar="N", help="Keep the newest so many.")
    ] = 1_000,
    keep: Annotated[
        str, typer.Option("--keep", metavar="TIME", help="Keep a point for so long.")
    ] = "30d",
) -> None:
    """Set how much is kept of the series of a name; without options, as much as of others."""
    await cb.metrics.configure(name, points=points, keep=parse.seconds("keep", keep) or 0)
    out.emit({"set": True}, lambda: ["Set."])


@command(app, "clear", example="callboard metrics clear latency --yes")
async def clear(
    cb: "Callboard",
    out: Output,
    name: Annotated[
        str | None, typer.Argument(metavar="NAME", help="The series; all of them without.")
    ] = None,
    yes: options.Yes = False,
) -> None:
    """Remove the series of a name, or all, with their points."""
    noun = "name of series" if name else "kind of series"
    if not confirmed(out, "remove", [name or "all"], dry_run=False, yes=yes, noun=noun):
        return
    removed = await cb.metrics.clear(name)
    out.emit({"removed": removed}, lambda: [f"Removed {removed:,} series."])


def _number(text: str) -> float:
    try:
        return float(text)
    except ValueError:
        raise InvalidArgument(
            f"value is {text!r}; give a number, as 0.35.", field="value"
        ) from None
