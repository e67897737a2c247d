"""The part of ``callboard tasks`` that a holder needs: claim, keep, finish, give back."""

from typing import TYPE_CHECKING, Annotated, Any

import typer

from callboard.cli import options, parse
from callboard.cli.answers import tell
from callboard.cli.command import command
from callboard.cli.output import Output
from callboard.cli.steering import app as app
from callboard.domain.agent import AgentSpec
from callboard.domain.board import DEFAULT_BOARD
from callboard.domain.retry import Failure
from callboard.domain.task import LEASE_MAX
from callboard.exceptions import AgentNotFound

if TYPE_CHECKING:
    from callboard.app import Callboard

HOLD = "Hold by hand"
CANCELLED = "Task {id} ended cancelled, as had been asked for."
BY_HAND_LEASE = "10m"
"""Nobody renews a claim made by hand in the background, so it is kept longer than a worker's."""


@command(
    app,
    "claim",
    panel=HOLD,
    example="""
        callboard tasks claim --agent mira --capability python
        callboard tasks claim 019f --agent mira
    """,
)
async def claim(
    cb: "Callboard",
    out: Output,
    agent: options.AgentName,
    task: Annotated[
        str | None,
        typer.Argument(metavar="TASK", help="This one; else the best that fits."),
    ] = None,
    board: options.Board = DEFAULT_BOARD,
    limit: options.Limit = 1,
    lease: options.Lease = BY_HAND_LEASE,
    capability: options.Capabilities = None,
    agent_type: Annotated[
        str, typer.Option("--type", metavar="NAME", help="The agent's type.")
    ] = "worker",
) -> None:
    """Claim tasks for an agent; each comes with the fence that its completion must show.

    An agent not known yet is registered first, with its type and capabilities.
    """
    from callboard.cli import render_tasks

    seconds = parse.seconds("lease", lease) or 0.0
    await _registered(cb, agent, agent_type, parse.names(capability))
    tasks = cb.board(board).tasks
    if task is not None:
        status, claimed = "ok", [await tasks.take(task, agent, lease=seconds)]
    else:
        claims = await tasks.claim(agent, limit=limit, lease=seconds)
        status, claimed = claims.status, list(claims.tasks)
    value = {"status": status, "tasks": [render_tasks.claimed_shape(one) for one in claimed]}
    out.emit(value, render_tasks.claimed, claimed, board, agent)


async def _registered(
    cb: "Callboard", agent: str, agent_type: str, capabilities: tuple[str, ...]
) -> None:
    """Enter the agent where it is missing, gone, or to have other capabilities."""
    spec = AgentSpec(id=agent, agent_type=agent_type, capabilities=capabilities)
    try:
        found = await cb.agents.get(agent)
    except AgentNotFound:
        pass
    else:
        if not found.gone and not capabilities:
            return
        known = {name: getattr(found, name) for name in _KEPT}
        spec = AgentSpec(id=agent, capabilities=capabilities or found.capabilities, **known)
    # Between two commands it is silent, and is not to be counted as lost for that.
    await cb.agents.register(spec, heartbeat_interval=LEASE_MAX)


_KEPT = (
    *("agent_type", "services", "labels", "kinds", "tags"),
    *("endpoints", "metadata", "version", "max_concurrent", "weight", "priority"),
)


@command(
    app,
    "complete",
    panel=HOLD,
    example="callboard tasks complete 019f --fence 17 '{\"ok\": true}'",
)
async def complete(
    cb: "Callboard",
    out: Output,
    task: options.TaskId,
    fence: options.Fence,
    result: Annotated[
        str | None, typer.Argument(metavar="RESULT", help="JSON, @FILE, or - for standard input.")
    ] = None,
    board: options.Board = DEFAULT_BOARD,
) -> int:
    """Hand in a result; it is accepted once, from the holder of the fence alone."""
    value = parse.json_value("result", result)
    told = await cb.board(board).tasks.complete(task, fence=fence, result=value)
    words = {"ok": "Task {id} done.", "replayed": "Task {id} was done already, under this fence."}
    return tell(out, [told], words, board=board)


@command(app, "fail", panel=HOLD, example='callboard tasks fail 019f --fence 17 "no such page"')
async def fail(
    cb: "Callboard",
    out: Output,
    task: options.TaskId,
    fence: options.Fence,
    message: Annotated[str, typer.Argument(metavar="MESSAGE", help="What went wrong.")],
    board: options.Board = DEFAULT_BOARD,
    error_type: Annotated[
        str, typer.Option("--type", metavar="NAME", help="The error's type.")
    ] = "Error",
    no_retry: Annotated[
        bool, typer.Option("--no-retry", help="No retry can cure it: a dead letter at once.")
    ] = False,
    delay: Annotated[
        str | None,
        typer.Option("--delay", metavar="TIME", help="Retry after this, whatever the policy says."),
    ] = None,
) -> int:
    """Hand in a failed attempt: it is tried again later, or becomes a dead letter."""
    failure = Failure(error_type, message, not no_retry)
    told = await cb.board(board).tasks.fail(
        task, fence=fence, error=failure, delay=parse.seconds("delay", delay)
    )
    words = {
        "ok": "The failure of task {id} is recorded.",
        "retry_scheduled": "Task {id} is tried again later.",
        "cancelled": CANCELLED,
        "failed": "Task {id} failed for good: callboard dlq show {id}",
        "replayed": "The failure of task {id} was recorded already, under this fence.",
    }
    return tell(out, [told], words, board=board)


@command(app, "renew", panel=HOLD, example="callboard tasks renew 019f --fence 17 --lease 30m")
async def renew(
    cb: "Callboard",
    out: Output,
    task: options.TaskId,
    fence: options.Fence,
    board: options.Board = DEFAULT_BOARD,
    lease: options.Lease = BY_HAND_LEASE,
) -> int:
    """Keep a claim for longer."""
    seconds = parse.seconds("lease", lease) or 0.0
    told = await cb.board(board).tasks.renew(task, fence=fence, lease=seconds)
    words = {
        "ok": f"Task {{id}} is yours for another {lease}.",
        "cancel": "Task {id} is still yours, and its cancellation was asked for: stop, then "
        "callboard tasks release {id}",
    }
    return tell(out, [told], words, board=board)


@command(app, "release", panel=HOLD, example="callboard tasks release 019f --fence 17")
async def release(
    cb: "Callboard",
    out: Output,
    task: options.TaskId,
    fence: options.Fence,
    board: options.Board = DEFAULT_BOARD,
    delay: Annotated[
        str, typer.Option("--delay", metavar="TIME", help="Not claimable again before this.")
    ] = "0",
) -> int:
    """Give a claim back unharmed; no failure is counted."""
    seconds = parse.seconds("delay", delay) or 0.0
    told = await cb.board(board).tasks.release(task, fence=fence, delay=seconds)
    words = {"ok": "Task {id} is back on the board.", "cancelled": CANCELLED}
    return tell(out, [told], words, board=board)


@command(app, "start", panel=HOLD, example="callboard tasks start 019f --fence 17")
async def start(
    cb: "Callboard",
    out: Output,
    task: options.TaskId,
    fence: options.Fence,
    board: options.Board = DEFAULT_BOARD,
) -> int:
    """Say that the work on a claimed task began: in_progress."""
    told = await cb.board(board).tasks.start(task, fence=fence)
    return tell(out, [told], {"ok": "Task {id} is in progress."}, board=board)


@command(
    app,
    "progress",
    panel=HOLD,
    example="callboard tasks progress 019f --fence 17 '{\"page\": 3}'",
)
async def progress(
    cb: "Callboard",
    out: Output,
    task: options.TaskId,
    fence: options.Fence,
    value: Annotated[str, typer.Argument(metavar="VALUE", help="JSON, @FILE, or -.")],
    board: options.Board = DEFAULT_BOARD,
    partial: Annotated[
        bool, typer.Option("--partial", help="Keep it as a partial result, over attempts.")
    ] = False,
) -> int:
    """Say how far a task is, or keep a partial result that a later attempt can read."""
    given: Any = parse.json_value("value", value)
    tasks = cb.board(board).tasks
    keep = tasks.partial if partial else tasks.progress
    told = await keep(task, fence=fence, value=given)
    words = {
        "ok": "Kept on task {id}.",
        "cancel": "Kept on task {id}; its cancellation was asked for.",
    }
    return tell(out, [told], words, board=board)


@command(app, "handoff", panel=HOLD, example="callboard tasks handoff 019f --fence 17 --to noor")
async def handoff(
    cb: "Callboard",
    out: Output,
    task: options.TaskId,
    fence: options.Fence,
    to: Annotated[str, typer.Option("--to", metavar="AGENT", help="Who gets it.")],
    board: options.Board = DEFAULT_BOARD,
    take_up: Annotated[
        str, typer.Option("--take-up", metavar="TIME", help="How long it is kept for them.")
    ] = "30s",
) -> int:
    """Give a claim to another agent; if it does not take it up, it goes back to the board."""
    seconds = parse.seconds("take-up", take_up) or 0.0
    told = await cb.board(board).tasks.handoff(task, fence=fence, to=to, take_up=seconds)
    return tell(out, [told], {"ok": f"Task {{id}} is reserved for {to}."}, board=board)


@command(app, "ask", panel=HOLD, example="callboard tasks ask 019f --fence 17 '\"Which branch?\"'")
async def ask(
    cb: "Callboard",
    out: Output,
    task: options.TaskId,
    fence: options.Fence,
    question: Annotated[str, typer.Argument(metavar="QUESTION", help="JSON, @FILE, or -.")],
    board: options.Board = DEFAULT_BOARD,
) -> int:
    """End a claim with a question: the task waits until somebody answers it."""
    given = parse.json_value("question", question)
    told = await cb.board(board).tasks.ask(task, fence=fence, question=given)
    words = {
        "ok": "Task {id} waits for an answer: callboard tasks answer {id} ANSWER",
        "cancelled": CANCELLED,
    }
    return tell(out, [told], words, board=board)
