"""A process group of our own: fed, listened to, and ended with all that belongs to it."""

from __future__ import annotations

import atexit
import os
import selectors
import signal
import subprocess
import threading
import time
from contextlib import ExitStack, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Final

READ_BYTES: Final = 65_536
ERRORS_BYTES: Final = 8_192
"""How much of the end of standard error is kept."""

LOOK_SECONDS: Final = 0.02
"""How often one looks whether a process has ended, where nothing tells."""

START_SECONDS: Final = 5.0
"""How long a process that ends waits for a command that is just being started."""

KILLED_SECONDS: Final = 1.0
"""How long processes may take to vanish after SIGKILL."""


@dataclass(frozen=True, slots=True)
class Ending:
    """How a command ended.

    Attributes:
        code: The exit code; negative: the signal that ended it.
        errors: The end of what it wrote to standard error.
        is_too_long: It was killed because it wrote more than it may.
        is_left_over: Some of its group are still there, even after SIGKILL.
    """

    group: int
    code: int
    output: bytes
    errors: bytes
    is_too_long: bool
    is_left_over: bool


class Child:
    """One command; ``run`` blocks a thread until it and its whole group have ended.

    A thread and not the event loop: starting and reaping behave the same under every loop,
    and a cancelled coroutine cannot leave either half done.
    """

    def __init__(
        self,
        arguments: list[str],
        *,
        program: str,
        cwd: Path,
        environment: dict[str, str],
        message: bytes,
        output_bytes: int,
        kill_after: float,
    ) -> None:
        self._arguments = arguments
        self._program = program
        self._cwd = cwd
        self._environment = environment
        self._message = memoryview(message)
        self._output_bytes = output_bytes
        self._kill_after = kill_after
        self._output = bytearray()
        self._errors = bytearray()
        self._lock = threading.Lock()
        self._is_stopped = False
        self._bell: int | None = None

    def stop(self) -> None:
        """End the command early; from any thread, as often as one likes."""
        with self._lock:
            self._is_stopped = True
            if self._bell is not None:
                with suppress(BlockingIOError):
                    os.write(self._bell, b"!")

    def run(self) -> Ending:
        """Start the command, and wait until it has ended and nothing of it is left.

        Raises:
            OSError: It could not be started.
        """
        with ExitStack() as stack:
            selector = stack.enter_context(selectors.DefaultSelector())
            heard, bell = os.pipe()
            stack.callback(os.close, heard)
            stack.callback(self._put_bell_away, bell)
            for end in (heard, bell):
                os.set_blocking(end, False)
            selector.register(heard, selectors.EVENT_READ)
            with self._lock:
                self._bell = bell
            with _starting:
                # One at a time, so that none is started and not yet known when all are ended.
                process = subprocess.Popen(
                    self._arguments,
                    executable=self._program,
                    cwd=self._cwd,
                    env=self._environment,
                    stdin=subprocess.PIPE,
                    stdout=subprocess.PIPE,
                    stderr=subprocess.PIPE,
                    bufsize=0,
                    start_new_session=True,
                )
                _under_way.add(process.pid)
            try:
                return self._attend(process, selector, stack)
            finally:
                _under_way.discard(process.pid)

    def _attend(
        self, process: subprocess.Popen[bytes], selector: selectors.BaseSelector, stack: ExitStack
    ) -> Ending:
        assert process.stdin and process.stdout and process.stderr
        for pipe in (process.stdin, process.stdout, process.stderr):
            stack.callback(_close, pipe)
            os.set_blocking(pipe.fileno(), False)
        is_left_over = True
        try:
            selector.register(process.stdin, selectors.EVENT_WRITE)
            for pipe in (process.stdout, process.stderr):
                selector.register(pipe, selectors.EVENT_READ)
            look = None if _watch_exit(process, selector, stack) else LOOK_SECONDS
            while process.poll() is None and not self._is_stopped and not self._is_too_long:
                self._turn(process, selector, look)
            while not self._is_too_long and self._listen(process.stdout, self._output):
                pass  # What it wrote before it exited is all in the pipe; bounded by the output.
            self._listen(process.stderr, self._errors)
        finally:
            is_left_over = self._end(process, selector)
        return Ending(
            process.pid,
            process.returncode,
            bytes(self._output),
            bytes(self._errors[-ERRORS_BYTES:]),
            self._is_too_long,
            is_left_over,
        )

    @property
    def _is_too_long(self) -> bool:
        return len(self._output) > self._output_bytes

    def _turn(
        self,
        process: subprocess.Popen[bytes],
        selector: selectors.BaseSelector,
        seconds: float | None,
    ) -> None:
        """Write and read what can be now, or wait for it."""
        for key, _ in selector.select(seconds):
            if key.fileobj is process.stdin:
                self._feed(process.stdin, selector)
            elif key.fileobj is process.stdout:
                if self._listen(process.stdout, self._output) is False:
                    selector.unregister(process.stdout)
            elif key.fileobj is process.stderr:
                if self._listen(process.stderr, self._errors) is False:
                    selector.unregister(process.stderr)
                del self._errors[:-ERRORS_BYTES]

    def _feed(self, pipe: IO[bytes], selector: selectors.BaseSelector) -> None:
        try:
            written = os.write(pipe.fileno(), self._message[:READ_BYTES])
        except BlockingIOError:
            return
        except OSError:  # It does not want to read; that is its own affair.
            self._message = self._message[:0]
        else:
            self._message = self._message[written:]
        if not self._message:
            selector.unregister(pipe)
            _close(pipe)

    def _listen(self, pipe: IO[bytes], kept: bytearray) -> bool | None:
        """Read once: True where there was something, False at the end, None for not now."""
        try:
            data = os.read(pipe.fileno(), READ_BYTES)
        except BlockingIOError:
            return None
        kept += data
        return bool(data)

    def _end(self, process: subprocess.Popen[bytes], selector: selectors.BaseSelector) -> bool:
        """End the whole group, politely first; answers whether some of it is still there."""
        group = process.pid
        politely = 0.0 if self._is_too_long else self._kill_after
        for number, seconds in ((signal.SIGTERM, politely), (signal.SIGKILL, KILLED_SECONDS)):
            if not _is_there(process):
                return False
            if number is signal.SIGTERM and not politely:
                continue
            with suppress(ProcessLookupError, PermissionError):
                os.killpg(group, number)
            until = time.monotonic() + seconds
            while _is_there(process) and time.monotonic() < until:
                self._discard(process)
                time.sleep(LOOK_SECONDS / 4)
        return _is_there(process)

    def _discard(self, process: subprocess.Popen[bytes]) -> None:
        """Let a command that writes while it ends not wait for a reader."""
        for pipe in (process.stdout, process.stderr):
            if pipe is not None:
                with suppress(BlockingIOError):
                    os.read(pipe.fileno(), READ_BYTES)

    def _put_bell_away(self, bell: int) -> None:
        with self._lock:
            self._bell = None
            os.close(bell)


def _watch_exit(
    process: subprocess.Popen[bytes], selector: selectors.BaseSelector, stack: ExitStack
) -> bool:
    """Let the selector wake when the process exits, where the system can tell."""
    if not hasattr(os, "pidfd_open"):
        return False
    try:
        watch = os.pidfd_open(process.pid)
    except OSError:  # An old kernel, or a sandbox that forbids it.
        return False
    stack.callback(os.close, watch)
    selector.register(watch, selectors.EVENT_READ)
    return True


def _close(pipe: IO[bytes]) -> None:
    with suppress(OSError):
        pipe.close()


def _is_there(process: subprocess.Popen[bytes]) -> bool:
    """Whether the process, or another one of its group, still runs."""
    if process.poll() is None:
        return True
    try:
        os.killpg(process.pid, 0)
    except (ProcessLookupError, PermissionError):
        return False
    return _has_living(process.pid)


def _has_living(group: int) -> bool:
    """Whether a group is more than the ended processes that nobody has reaped yet."""
    try:
        numbers = [name for name in os.listdir("/proc") if name.isdigit()]
    except OSError:
        return True
    if not numbers:
        return True
    for number in numbers:
        with suppress(OSError):
            with open(f"/proc/{number}/stat", "rb") as file:
                state, _, its_group = file.read().rpartition(b") ")[2].split()[:3]
            if int(its_group) == group and state not in (b"Z", b"X"):
                return True
    return False


_under_way: set[int] = set()
_starting = threading.Lock()


def _begin_anew() -> None:
    """A forked process that ends in its own way has no say over its parent's commands."""
    global _starting
    _starting = threading.Lock()
    _under_way.clear()


os.register_at_fork(after_in_child=_begin_anew)


@atexit.register
def _kill_all() -> None:
    """The threads end with the process, without another word: their commands must not stay."""
    _starting.acquire(timeout=START_SECONDS)  # And kept: nothing is started any more.
    for group in tuple(_under_way):
        with suppress(ProcessLookupError, PermissionError):
            os.killpg(group, signal.SIGKILL)
