"""A run hosted by this process and watched in it: what ``run``, ``join`` and ``retry`` share."""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
import subprocess
import sys
import tempfile
import threading
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Final

from callboard.cli import failures
from callboard.cli.output import Output, console
from callboard.cli.run_ids import where
from callboard.domain.run import LEAD_BOARD, Phase, Run, lead_id
from callboard.exceptions import ConfigError, RunNotFound, TaskNotFound

if TYPE_CHECKING:
    from callboard.app import Callboard
    from callboard.cli.run_view import Screen
    from callboard.domain.report import Report

LAST_EVENTS_SECONDS: Final = 2.0
"""What the view gets to tell the end in, once the run has ended."""

AT_ONCE_SECONDS: Final = 3.0
"""After a second signal, what an orderly end may take before there is none."""


@dataclass(frozen=True, slots=True)
class Wishes:
    """How a run is to be hosted here.

    Attributes:
        lease: Seconds without a sign of life after which others take over.
        timeout: Leave it after so many seconds.
        is_quiet: Show nothing but the answer.
        is_kept: Its engine outlives this command.
    """

    lease: float
    timeout: float | None = None
    is_quiet: bool = False
    is_kept: bool = True


async def host_run(cb: Callboard, out: Output, run: Run, folder: Path, wishes: Wishes) -> int:
    """Host a run until it has ended or a signal comes; answers the exit code."""
    from callboard.teams.host import Host

    host = Host(cb, run, folder=folder, lease=wishes.lease)
    with contextlib.ExitStack() as stack:
        screen = stack.enter_context(_screen(out, run, wishes))
        watching = _watch(cb, screen)
        serving = asyncio.create_task(host.serve(), name="callboard-host")

        def leave(number: int) -> None:
            if screen is not None:
                screen.scene.is_leaving = True
                screen.draw()
            host.leave()

        def leave_at_once(number: int) -> None:
            if screen is not None:
                screen.close()
            serving.cancel()
            _end_soon(number)

        signals = stack.enter_context(caught(leave, leave_at_once))
        try:
            is_late = await _served(serving, host.leave, wishes.timeout)
            if watching is not None and not signals and not is_late:
                await asyncio.wait({watching}, timeout=LAST_EVENTS_SECONDS)
        except asyncio.CancelledError:
            if not signals:
                raise
            is_late = False
        finally:
            if watching is not None:
                watching.cancel()
                await asyncio.gather(watching, return_exceptions=True)
    report = await _report(cb, run, serving)
    return _tell(cb, out, report, wishes, signals[0] if signals else None, is_late=is_late)


async def _report(cb: Callboard, run: Run, serving: asyncio.Task[Run]) -> Report:
    try:
        return await cb.runs.report(run.id)
    except RunNotFound as error:
        if serving.cancelled():
            raise
        phase = serving.result().phase.value
        raise RunNotFound(
            f"Run {run.id} ended ({phase}), and somebody deleted it before its answer was read "
            "here.",
            run=run.id,
            phase=phase,
        ) from error


async def _served(
    serving: asyncio.Task[Run], leave: Callable[[], None], timeout: float | None
) -> bool:
    """Wait for the host; answers whether it was told to leave for the time that it took."""
    done, _ = await asyncio.wait({serving}, timeout=timeout)
    if not done:
        leave()
    await serving
    return not done


@contextlib.contextmanager
def _screen(out: Output, run: Run, wishes: Wishes) -> Iterator[Screen | None]:
    """What shows the run; what agents print goes beside it, never into the answer."""
    if wishes.is_quiet or out.as_json:
        with contextlib.redirect_stdout(sys.stderr):
            yield None
        return
    screen = make_screen(out, run)
    with contextlib.ExitStack() as stack:
        if not screen.is_live:
            stack.enter_context(contextlib.redirect_stdout(sys.stderr))
        yield stack.enter_context(screen)


def make_screen(out: Output, run: Run) -> Screen:
    """A live view on a terminal; else lines, on stderr, so that stdout is the answer's."""
    from callboard.cli.run_view import Scene, Screen, can_redraw

    stdout = console()
    is_live = out.is_terminal and can_redraw(stdout)
    return Screen(stdout if is_live else console(stderr=True), Scene(run), is_live=is_live)


def _watch(cb: Callboard, screen: Screen | None) -> asyncio.Task[None] | None:
    if screen is None:
        return None
    from callboard.cli.run_view import Watch

    return asyncio.create_task(Watch(cb, screen).follow(), name="callboard-run-view")


def _tell(
    cb: Callboard,
    out: Output,
    report: Report,
    wishes: Wishes,
    number: int | None,
    *,
    is_late: bool,
) -> int:
    """Say what the run came to; the exit code says so too."""
    from callboard.cli import render_runs

    run, tail = report.run, where(cb)
    brief = wishes.is_quiet
    if run.phase.is_ended or out.as_json:
        out.emit(
            render_runs.shape(report),
            lambda: render_runs.ending(
                report, tail, out.width, is_kept=wishes.is_kept, is_brief=brief
            ),
        )
    if run.phase.is_ended:
        return failures.OK if run.phase is Phase.DONE else failures.REFUSED
    if not wishes.is_kept:
        out.remark(f"Left run {run.id}. Its engine was temporary: nothing of it is kept.")
    else:
        out.remark(
            f"Left run {run.id}; it stays where it was.\n"
            f"Go on: callboard runs join {run.id}{tail}\n"
            f"End it: callboard runs cancel {run.id}{tail}"
        )
    if number is not None:
        return 128 + number
    if is_late:
        message = f"Run {run.id} has not ended within {wishes.timeout:g} s."
        failures.write("timeout", message, {"run": run.id}, as_json=out.as_json)
    return failures.REFUSED


# Signals


@contextlib.contextmanager
def caught(
    first: Callable[[int], None], again: Callable[[int], None], *more: signal.Signals
) -> Iterator[list[int]]:
    """Call *first* for the first SIGINT or SIGTERM, *again* for those after; yields what came.

    *More* signals are caught too, except where they are ignored, as ``nohup`` has it.
    """
    came: list[int] = []
    if threading.current_thread() is not threading.main_thread():
        yield came
        return
    loop = asyncio.get_running_loop()

    def catch(number: int) -> None:
        came.append(number)
        (first if len(came) == 1 else again)(number)

    heeded = [number for number in more if signal.getsignal(number) != signal.SIG_IGN]
    numbers = (signal.SIGINT, signal.SIGTERM, *heeded)
    before = {number: signal.getsignal(number) for number in numbers}
    for number in numbers:
        loop.add_signal_handler(number, catch, int(number))
    try:
        yield came
    finally:
        for number in numbers:
            loop.remove_signal_handler(number)
            signal.signal(number, before[number])


def _end_soon(number: int) -> None:
    """End the process even if an agent of the user's does not let it."""

    def end() -> None:
        sys.stderr.flush()
        os._exit(128 + number)

    timer = threading.Timer(AT_ONCE_SECONDS, end)
    timer.daemon = True
    timer.start()


# Where a run is hosted


async def is_led(cb: Callboard, run: Run) -> bool:
    """Whether a host holds the run's lead."""
    try:
        task = await cb.board(LEAD_BOARD).tasks.get(lead_id(run.id, run.generation))
    except TaskNotFound:
        return False
    return task.status.is_held


def folder_of(run: Run, given: Path | None) -> Path:
    """Where the agents of a run are looked for: where it was started, unless told otherwise.

    Raises:
        ConfigError: It was started on another machine, or the folder is gone.
    """
    if given is not None:
        if not given.is_dir():
            raise ConfigError(f"{given} is no folder. Give --folder the one with the agents.")
        return given
    if run.folder and run.host in ("", os.uname().nodename) and Path(run.folder).is_dir():
        return Path(run.folder)
    if not run.folder:
        return Path.cwd()
    raise ConfigError(
        f"Run {run.id} was started on {run.host} in {run.folder}, which is not here. Give the "
        f"folder with its agents: callboard runs join {run.id} --folder DIR",
        run=run.id,
    )


def detach(cb: Callboard, out: Output, run: Run, folder: Path, wishes: Wishes) -> None:
    """Host a run in a process of its own, and say where it writes to."""
    log = log_of(cb, run)
    arguments = ["runs", "join", run.id, "--folder", str(folder), "--lease", f"{wishes.lease:g}s"]
    if wishes.timeout is not None:
        arguments += ["--timeout", f"{wishes.timeout:g}s"]
    if cb.namespace.name:
        arguments += ["--namespace", cb.namespace.name]
    # By the environment: anybody may read a process's arguments, and a URL may hold a password.
    environ = {
        name: value
        for name, value in os.environ.items()
        if name not in ("CALLBOARD_URL", "CALLBOARD_DATA")
    }
    if cb.choice.url is not None:
        environ["CALLBOARD_URL"] = cb.choice.url
    else:
        environ["CALLBOARD_DATA"] = str(cb.choice.data_dir)
    try:
        # Others may write into a folder for temporary files: a link there is not followed.
        flags = os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_NOFOLLOW
        descriptor = os.open(log, flags, 0o600)
    except OSError as error:
        raise ConfigError(
            f"Run {run.id} was begun, and its log {log} cannot be written: {error.strerror}. "
            f"Host it yourself: callboard runs join {run.id}{where(cb)}"
        ) from error
    with open(descriptor, "ab") as file:
        process = subprocess.Popen(
            [sys.executable, "-m", "callboard.cli", *arguments],
            stdin=subprocess.DEVNULL,
            stdout=file,
            stderr=file,
            env=environ,
            start_new_session=True,
        )
    # It is not this process's to wait for.
    process.returncode = 0
    value = {"run": run, "log": str(log), "pid": process.pid}
    tail = where(cb)
    out.emit(
        value,
        lambda: [
            f"Run {run.id} goes on in the background, process {process.pid}.",
            f"Log: {log}",
            f"Follow it: callboard runs watch {run.id}{tail}",
            f"Its answer: callboard runs show {run.id}{tail}",
        ],
    )


def log_of(cb: Callboard, run: Run) -> Path:
    """Where a host in the background writes: with the engine's data where that is here."""
    folder = cb.choice.data_dir
    return (folder or Path(tempfile.gettempdir())) / f"run-{run.id}.log"
