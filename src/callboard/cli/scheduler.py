"""``callboard scheduler``: which agent is given which task, and why."""

from typing import TYPE_CHECKING, Annotated

import typer

from callboard.cli import options, parse
from callboard.cli.command import command, group
from callboard.cli.output import Output
from callboard.domain.board import DEFAULT_BOARD
from callboard.exceptions import InvalidArgument

if TYPE_CHECKING:
    from callboard.app import Callboard

app = group("scheduler", "Choose which agent is given which task, and see why it was.")

StrategyName = Annotated[
    str,
    typer.Argument(
        metavar="STRATEGY", help="As `scheduler strategies` lists them.", show_default=False
    ),
]


@command(app, "strategies", example="callboard scheduler strategies")
async def strategies(cb: "Callboard", out: Output, board: options.Board = DEFAULT_BOARD) -> None:
    """List the strategies by name, and say which is the board's."""
    from callboard.cli import render_scheduler

    current = await cb.scheduler.strategy(board)
    value = {"board": board, "strategy": current, "strategies": list(cb.scheduler.names())}
    out.emit(value, render_scheduler.names, cb.scheduler.names(), current, board, out.width)


@command(app, "set", example="callboard scheduler set least_connections --board builds")
async def choose(
    cb: "Callboard",
    out: Output,
    strategy: StrategyName,
    board: options.Board = DEFAULT_BOARD,
) -> None:
    """Have tasks that become ready on a board go where a strategy says.

    Tasks that wait already stay where they are: assign them.
    """
    name = await cb.scheduler.set_strategy(strategy, board=board, by=parse.operator())
    value = {"board": board, "strategy": name}
    out.emit(value, lambda: [f"Board {board!r} goes by {name}."])


@command(app, "assign", example="callboard scheduler assign --strategy round_robin")
async def assign(
    cb: "Callboard",
    out: Output,
    tasks: options.SomeTaskIds = None,
    most: Annotated[
        int | None,
        typer.Option("--most", "-n", metavar="N", help="The next N tasks, instead of ids."),
    ] = None,
    strategy: Annotated[
        str | None,
        typer.Option(
            "--strategy",
            "-s",
            metavar="NAME",
            help="Not the board's own; one of yours as module:attribute.",
        ),
    ] = None,
    take_up: Annotated[
        str,
        typer.Option("--take-up", metavar="TIME", help="Then it goes back if it was not begun."),
    ] = "5s",
    board: options.Board = DEFAULT_BOARD,
) -> None:
    """Choose an agent for each of some waiting tasks, and reserve it for that agent."""
    from callboard.cli import render_scheduler

    if not tasks and most is None:
        raise InvalidArgument("Give ids of TASKs, or --most N for the next ones.", field="tasks")
    if strategy is not None and ":" in strategy:
        from callboard.simulator.choosing import load_strategy

        found = load_strategy(strategy)
        strategy = strategy.replace(":", ".")
        cb.scheduler.register(strategy, found)
    decisions = await cb.scheduler.assign(
        *(tasks or ()),
        most=most,
        strategy=strategy,
        board=board,
        take_up=parse.seconds("take-up", take_up) or 0.0,
        by=parse.operator(),
    )
    out.emit({"decisions": decisions}, render_scheduler.assigned, decisions, board)


@command(app, "decisions", example="callboard scheduler decisions --agent mira")
async def decisions(
    cb: "Callboard",
    out: Output,
    task: Annotated[
        str | None, typer.Option("--task", "-t", metavar="TASK", help="Only about this task.")
    ] = None,
    agent: Annotated[
        str | None, typer.Option("--agent", "-a", metavar="NAME", help="Only for this agent.")
    ] = None,
    board: options.AnyBoard = None,
    limit: options.Limit = 20,
) -> None:
    """List the last decisions that gave a task to an agent, newest first."""
    from callboard.cli import render_scheduler

    found = await cb.scheduler.decisions(limit, task=task, agent=agent, board=board)
    is_filtered = not task == agent == board
    out.emit({"decisions": found}, render_scheduler.listing, found, out.width, is_filtered)


@command(app, "why", example="callboard scheduler why 019f")
async def why(
    cb: "Callboard", out: Output, task: options.TaskId, board: options.Board = DEFAULT_BOARD
) -> None:
    """Say why a task was given to the agent that has it, and who else was compared."""
    from callboard.cli import render_scheduler

    decision = await cb.scheduler.why_this_agent(task, board=board)
    out.emit(
        {"task": task, "board": board, "decision": decision},
        *(render_scheduler.explained, task, board, decision, out.width),
    )


@command(app, "distribution", example="callboard scheduler distribution")
async def distribution(cb: "Callboard", out: Output, board: options.Board = DEFAULT_BOARD) -> None:
    """Show how many tasks a coordinator gave to agents, and what became of them."""
    from callboard.cli import render_scheduler

    stats = await cb.scheduler.distribution(board)
    out.emit(stats, render_scheduler.distributed, stats, board, out.width)


@command(app, "load", example="callboard scheduler load")
async def load(cb: "Callboard", out: Output, board: options.Board = DEFAULT_BOARD) -> None:
    """Show how work is spread over the agents, and how assignments went."""
    from callboard.cli import render_scheduler

    stats = await cb.scheduler.load(board)
    out.emit(stats, render_scheduler.spread, stats, board, out.width)
