"""``callboard worker``: run the handlers of a module until told to stop."""

from collections.abc import Coroutine
from typing import TYPE_CHECKING, Annotated, Any

import typer

from callboard.cli import options, parse
from callboard.cli.command import Options, command
from callboard.cli.output import Output
from callboard.exceptions import InvalidArgument

if TYPE_CHECKING:
    from callboard.sdk.worker import Worker


def add_to(app: typer.Typer, panel: str) -> None:
    """Make ``worker`` a command of *app*."""
    command(
        app,
        "worker",
        panel=panel,
        example="callboard worker handlers:worker --concurrency 20",
    )(run)


def run(
    options: Options,
    out: Output,
    target: Annotated[
        str,
        typer.Argument(metavar="MODULE:NAME", help="Where the Worker stands.", show_default=False),
    ],
    agent: Annotated[
        str | None, typer.Option("--agent", "-a", metavar="NAME", help="The agent that it runs.")
    ] = None,
    board: Annotated[
        str | None, typer.Option("--board", "-b", metavar="NAME", help="Whose tasks it does.")
    ] = None,
    concurrency: Annotated[
        int | None, typer.Option("--concurrency", metavar="N", help="Handlers at once.")
    ] = None,
    lease: Annotated[
        str | None,
        typer.Option("--lease", metavar="TIME", help="Silent for so long, its tasks go to others."),
    ] = None,
    drain: Annotated[
        str | None,
        typer.Option("--drain", metavar="TIME", help="What handlers get to finish at the end."),
    ] = None,
    quiet: options.Quiet = False,
    verbose: options.Verbose = False,
) -> None:
    """Run the handlers of a worker until SIGTERM or Ctrl-C.

    It then claims nothing more, lets what runs finish, and gives back the rest; a second
    signal cancels what runs. What is given here goes before what the module says.
    """
    from callboard.cli.logs import log_to_stderr
    from callboard.sdk.worker import load_worker

    log_to_stderr(quiet=quiet, verbose=verbose, as_json=out.as_json)
    worker = load_worker(target)
    _override(worker, agent, board, concurrency)
    if lease is not None:
        worker.lease = parse.seconds("lease", lease) or 0.0
    if drain is not None:
        worker.drain = parse.seconds("drain", drain) or 0.0
    _run(_work(options, out, worker))


def _override(
    worker: "Worker", agent: str | None, board: str | None, concurrency: int | None
) -> None:
    from callboard.domain.names import check_name

    if agent is not None:
        worker.agent = check_name("agent", agent)
    if board is not None:
        worker.board = check_name("board", board)
    if concurrency is not None:
        if not 1 <= concurrency <= 1_000:
            raise InvalidArgument(f"concurrency is {concurrency}; it must be from 1 to 1,000.")
        worker.concurrency = concurrency


async def _work(options: Options, out: Output, worker: "Worker") -> None:
    async with options.connect() as cb:
        kinds = ", ".join(sorted(worker.handlers)) or "no kinds"
        out.remark(
            f"Agent {worker.agent} does {kinds} on board {worker.board!r}, "
            f"{worker.concurrency} at once. Ctrl-C lets it finish."
        )
        await worker.run(cb)
        out.remark(f"Agent {worker.agent} has finished.")
        if worker.was_drained:
            out.remark(
                f"It was asked to drain. To undo it: callboard agents activate {worker.agent}"
            )


def _run(work: Coroutine[Any, Any, None]) -> None:
    """Run to the end, on uvloop where it is installed: a fifth less CPU a call."""
    import asyncio

    try:
        import uvloop
    except ImportError:
        asyncio.run(work)
    else:
        uvloop.run(work)
