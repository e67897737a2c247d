"""Several processes on one port: begun, watched, begun again where one dies, ended together."""

from __future__ import annotations

import logging
import os
import select
import shutil
import signal
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from functools import partial
from pathlib import Path
from typing import Any, Final, NoReturn

import msgspec

from callboard.exceptions import CallboardError, ConfigError
from callboard.http import systemd
from callboard.http.listening import ListenSettings, bind
from callboard.http.serve import Service, Started, run
from callboard.http.siblings import bury

WORKERS_MAX: Final = 64
LOOK_SECONDS: Final = 0.5
"""How often the processes are looked at, where no signal says that one ended."""

BACKOFF_SECONDS: Final = (0.5, 30.0)
"""How long a process that died is waited for, at first and at most: doubled each time."""

BEAT_SECONDS: Final = 5.0
"""How often a process says that its loop turns."""

HANG_SECONDS: Final = 30.0
"""One that says nothing for so long is ended, and another begun: callers still reach it."""

START_SECONDS: Final = 60.0
"""What one that replaces another gets to begin in; the first ones are waited for without end."""

STEADY_SECONDS: Final = 30.0
"""A process that ran so long died of something else than its predecessor."""

_log = logging.getLogger("callboard.serve")

Make = Callable[[ListenSettings, Callable[[Started], None]], Service]
"""Makes the service of one process: where it listens, and whom it tells of its start."""


class Workers:
    """The parent of processes that each serve on the same port.

    It serves nothing and connects to nothing. Where it is killed, the processes end too.

    Attributes:
        processes: Those that run: id, and when each was begun.
        names: What each of them is called in the folder where they meet.
    """

    def __init__(
        self,
        number: int,
        listen: ListenSettings,
        make: Make,
        on_start: Callable[[Started], None],
        report: Callable[[CallboardError], int],
    ) -> None:
        if not 1 <= number <= WORKERS_MAX:
            raise ConfigError(f"workers is {number}; it must be from 1 to {WORKERS_MAX}.")
        if listen.uds is not None:
            raise ConfigError(
                "Several processes share a port, not a unix socket. Give --workers 1, or a port."
            )
        self.processes: dict[int, float] = {}
        self.names: dict[int, str] = {}
        self._heard: dict[str, float] = {}
        self._looked = time.monotonic()
        self._folder: Path | None = None
        self._begun = 0
        self._number = number
        self._make = make
        self._on_start = on_start
        self._report = report
        # Bound and not listening: the port stays ours, and nobody is let in here.
        self._reserved = bind(msgspec.structs.replace(listen, shares_port=True))
        port = self._reserved.getsockname()[1]
        self._listen = msgspec.structs.replace(listen, shares_port=True, port=port)
        self._news, self._telling = os.pipe()
        os.set_blocking(self._telling, False)  # No process waits for its parent.
        self._lifeline, self._holding = os.pipe()
        self._ready = 0
        self._due: list[float] = []
        self._failures = 0
        self._code = 0
        self._asked: list[int] = []
        self._was_ready = False
        self._buffer = b""

    def run(self) -> int:
        """Run the processes until a signal comes; the exit code."""
        with self._meeting_place() as self._folder, self._heeding_signals() as wakeup:
            for _ in range(self._number):
                self._begin()
            while self.processes or (self._due and not self._asked):
                self._look(wakeup)
        return self._code

    def _look(self, wakeup: int) -> None:
        readable, _, _ = select.select([wakeup, self._news], [], [], LOOK_SECONDS)
        if wakeup in readable:
            for number in os.read(wakeup, 256):
                self._heed(number)
        if self._news in readable:
            self._hear()
        self._reap()
        now = time.monotonic()
        self._end_hung(now)
        if not self._asked:
            for due in [due for due in self._due if due <= now]:
                self._due.remove(due)
                self._begin()
            systemd.notify("WATCHDOG=1")

    def _begin(self) -> None:
        sys.stdout.flush()
        sys.stderr.flush()
        self._begun += 1
        name = str(self._begun)
        pid = os.fork()
        if pid == 0:
            self._be_child(name)
        now = time.monotonic()
        self.processes[pid], self.names[pid] = now, name
        if self._was_ready:
            # As if it had said something then.
            self._heard[name] = now + START_SECONDS - HANG_SECONDS

    def _be_child(self, name: str) -> NoReturn:
        code = 1
        try:
            signal.set_wakeup_fd(-1)
            for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP, signal.SIGCHLD):
                signal.signal(number, signal.SIG_DFL)
            # Ctrl-C at a terminal is for the parent, which passes it on.
            os.setpgid(0, 0)
            os.close(self._holding)
            os.close(self._news)
            self._reserved.close()
            os.environ.pop("NOTIFY_SOCKET", None)
            service = self._make(self._listen, partial(self._tell, name))
            service.lifeline = self._lifeline
            service.beats = BEAT_SECONDS, partial(self._beat, name)
            if self._folder is not None:
                service.meets_in = self._folder, name
            run(service)
            code = 0
        except CallboardError as error:
            code = self._report(error)
        except BaseException:
            _log.exception("A process of the coordinator failed.")
        finally:
            sys.stdout.flush()
            sys.stderr.flush()
            os._exit(code)

    def _tell(self, name: str, started: Started) -> None:
        self._beat(name)
        os.write(self._telling, msgspec.json.encode(started) + b"\n")

    def _beat(self, name: str) -> None:
        with suppress(OSError):  # It hears too slowly, or is gone.
            os.write(self._telling, name.encode() + b"\n")

    def _hear(self) -> None:
        *lines, self._buffer = (self._buffer + os.read(self._news, 65_536)).split(b"\n")
        for line in lines:
            if line.isdigit():
                self._heard[line.decode()] = time.monotonic()
                continue
            self._ready += 1
            if self._ready == self._number and not self._was_ready:
                self._was_ready = True
                started = msgspec.json.decode(line, type=Started)
                self._on_start(
                    msgspec.structs.replace(started, pid=os.getpid(), workers=self._number)
                )
                systemd.notify("READY=1\nSTATUS=Serving " + started.url)

    def _end_hung(self, now: float) -> None:
        """End those whose loop has stood still for too long."""
        if now - self._looked > HANG_SECONDS / 2:
            # This process was stopped itself, so that nobody could be heard.
            self._heard = {name: max(at, now) for name, at in self._heard.items()}
        self._looked = now
        for pid, name in self.names.items():
            if now - self._heard.get(name, now) > HANG_SECONDS and not self._asked:
                _log.error("Process %d has hung for %g s; it is ended.", pid, HANG_SECONDS)
                self._heard[name] = now
                with suppress(ProcessLookupError):
                    os.kill(pid, signal.SIGKILL)

    def _reap(self) -> None:
        for pid in list(self.processes):
            done, status = os.waitpid(pid, os.WNOHANG)
            if done:
                self._lost(pid, os.waitstatus_to_exitcode(status))

    def _lost(self, pid: int, code: int) -> None:
        lived, name = time.monotonic() - self.processes.pop(pid), self.names.pop(pid)
        self._heard.pop(name, None)
        if self._folder is not None:
            bury(self._folder, name)
        if self._asked:
            self._code = self._code or max(code, 0)
            return
        if not self._was_ready:
            # It could not begin: neither will the others, or not as was wished.
            self._code = code if code > 0 else 1
            self._asked.append(signal.SIGTERM)
            self._pass_on(signal.SIGTERM)
            return
        self._failures = 0 if lived >= STEADY_SECONDS else self._failures + 1
        first, most = BACKOFF_SECONDS
        pause = min(first * 2 ** max(self._failures - 1, 0), most)
        _log.error("Process %d ended with %d; another begins in %g s.", pid, code, pause)
        self._due.append(time.monotonic() + pause)

    @contextmanager
    def _meeting_place(self) -> Iterator[Path | None]:
        """A folder that only this user may look into; None where there can be none."""
        try:
            folder = Path(tempfile.mkdtemp(prefix="callboard-"))
        except OSError as error:
            _log.warning("Each process will tell of itself alone in its metrics: %s", error)
            yield None
            return
        try:
            yield folder
        finally:
            shutil.rmtree(folder, ignore_errors=True)

    # Signals

    @contextmanager
    def _heeding_signals(self) -> Iterator[int]:
        reading, writing = os.pipe()
        os.set_blocking(writing, False)
        numbers = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP, signal.SIGCHLD)
        before: dict[int, Any] = {n: signal.signal(n, _nothing) for n in numbers}
        wakeup_before = signal.set_wakeup_fd(writing, warn_on_full_buffer=False)
        try:
            yield reading
        finally:
            signal.set_wakeup_fd(wakeup_before)
            for number, handler in before.items():
                signal.signal(number, handler)

    def _heed(self, number: int) -> None:
        if number == signal.SIGHUP:
            self._pass_on(signal.SIGHUP)
        elif number in (signal.SIGINT, signal.SIGTERM):
            if not self._asked:
                systemd.notify("STOPPING=1")
            self._asked.append(number)
            self._pass_on(signal.SIGTERM)

    def _pass_on(self, number: int) -> None:
        for pid in self.processes:
            with suppress(ProcessLookupError):
                os.kill(pid, number)


def _nothing(*_: object) -> None:
    """The wake-up says it."""
