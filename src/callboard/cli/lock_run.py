"""``callboard locks run``: a command, and locks that are held for as long as it runs."""

import os
import shutil
import signal
import sys
from contextlib import AsyncExitStack, suppress
from typing import TYPE_CHECKING, Annotated, Any, Final

import typer

from callboard.cli import parse
from callboard.cli.command import command
from callboard.cli.locks import (
    AgentName,
    Lease,
    Mode,
    NewOwner,
    Permits,
    Priority,
    Wait,
    app,
    check_permits,
    new_owner,
    told_of_wait,
)
from callboard.cli.output import Output
from callboard.exceptions import InvalidArgument

if TYPE_CHECKING:
    from asyncio.subprocess import Process

    from callboard.app import Callboard
    from callboard.domain.lock import Lock

__all__ = ["app"]

MARK: Final = "--"


class _BeforeCommand(typer.core.TyperCommand):
    """A command whose arguments say where another program's command line begins."""

    def parse_args(self, ctx: Any, args: list[str]) -> list[str]:
        if MARK in args:
            # The parser takes one away.
            args = [*args]
            args.insert(args.index(MARK), MARK)
        return super().parse_args(ctx, args)

    def collect_usage_pieces(self, ctx: Any) -> list[str]:
        return ["[OPTIONS]", "RESOURCE...", MARK, "COMMAND..."]


@command(
    app,
    "run",
    kind=_BeforeCommand,
    example="""
        callboard locks run db:users -- ./migrate.sh
        callboard locks run 'file:src/**' -w 10m -- make format
        callboard locks run api -m semaphore --limit 4 -- ./ask
    """,
)
async def run(
    cb: "Callboard",
    out: Output,
    words: Annotated[
        list[str],
        typer.Argument(
            metavar="RESOURCE -- COMMAND",
            help="What to lock, and behind -- the command to run.",
            show_default=False,
        ),
    ],
    owner: NewOwner = None,
    mode: Mode = "exclusive",
    limit: Permits = None,
    wait: Wait = "30s",
    lease: Lease = "30s",
    priority: Priority = "0",
    agent: AgentName = "",
    grace: Annotated[
        str,
        typer.Option("--grace", metavar="TIME", help="From SIGTERM to SIGKILL, if it was lost."),
    ] = "10s",
) -> int:
    """Run a command while holding the resources, and exit with its exit code.

    The locks are renewed as long as it runs. If they are lost, the command gets SIGTERM,
    then SIGKILL, and the exit code is 1, as where they were not to be had in time; a command
    that a signal ended gives 128 and the signal's number. SIGINT, SIGTERM and SIGHUP are passed
    on to it. It finds the fence in
    CALLBOARD_LOCK_FENCE, for what it writes to, and the owner in CALLBOARD_LOCK_OWNER.
    """
    resources, program = _parted(words)
    check_permits(mode, limit)
    patience = parse.seconds("grace", grace) or 0.0
    async with AsyncExitStack() as stack:
        async with told_of_wait(cb, out, resources):
            lock = await stack.enter_async_context(
                cb.locks.hold(
                    *resources,
                    owner=owner or new_owner(),
                    mode=mode,
                    limit=limit,
                    wait=parse.seconds("wait", wait) or 0.0,
                    lease=parse.seconds("lease", lease) or 0.0,
                    priority=parse.priority(priority),
                    agent=agent,
                )
            )
        return await _run(program, lock, patience)


def _parted(words: list[str]) -> tuple[list[str], list[str]]:
    """The resources, and the command behind the mark."""
    at = words.index(MARK) if MARK in words else len(words)
    resources, program = words[:at], words[at + 1 :]
    if not resources or not program:
        raise InvalidArgument(
            "Say what to lock, and behind -- what to run, as in: "
            "callboard locks run db:users -- ./migrate.sh",
            field="command",
        )
    if shutil.which(program[0]) is None:
        raise InvalidArgument(f"There is no command {program[0]!r} here.", field="command")
    return resources, program


async def _run(program: list[str], lock: "Lock", patience: float) -> int:
    """Run the program to its end, with the signals that come here; its exit code."""
    import asyncio

    from callboard.cli.hosting import caught

    environ = {"CALLBOARD_LOCK_FENCE": str(lock.fence), "CALLBOARD_LOCK_OWNER": lock.owner}
    process: Process | None = None
    early: list[int] = []

    def pass_on(number: int) -> None:
        if process is None:
            early.append(number)
        # A terminal sends its own to both.
        elif not (number == signal.SIGINT and sys.stdin.isatty()):
            _tell(process, number)

    # What was written here stands before what it writes.
    sys.stdout.flush()
    # It may send a signal here before its id is known here.
    with caught(pass_on, pass_on, signal.SIGHUP):
        process = await asyncio.create_subprocess_exec(*program, env={**os.environ, **environ})
        try:
            for number in early:
                _tell(process, number)
            code = await process.wait()
        except BaseException:
            await _end(process, patience)
            raise
    return code if code >= 0 else 128 - code


async def _end(process: "Process", patience: float) -> None:
    """Ask the program to end, then make it."""
    import asyncio

    _tell(process, signal.SIGTERM)
    try:
        await asyncio.wait_for(process.wait(), patience)
    except TimeoutError:
        pass
    finally:
        _tell(process, signal.SIGKILL)
    await process.wait()


def _tell(process: "Process", number: int) -> None:
    """Send the program a signal, if it runs.

    ``Process.send_signal`` would look whether it has ended, and take its exit code away from
    whoever waits for it.
    """
    if process.returncode is None:
        with suppress(ProcessLookupError):
            os.kill(process.pid, number)
