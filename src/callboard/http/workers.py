"""Several processes on one port: begun, watched, begun again where one dies, ended together."""

from __future__ import annotations

import logging
import os
import select
import signal
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from typing import Any, Final, NoReturn

import msgspec

from callboard.exceptions import CallboardError, ConfigError
from callboard.http import systemd
from callboard.http.listening import ListenSettings, bind
from callboard.http.serve import Service, Started, run

WORKERS_MAX: Final = 64
LOOK_SECONDS: Final = 0.5
"""How often the processes are looked at, where no signal says that one ended."""

BACKOFF_SECONDS: Final = (0.5, 30.0)
"""How long a process that died is waited for, at first and at most: doubled each time."""

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
        self._number = number
        self._make = make
        self._on_start = on_start
        self._report = report
        # Bound and not listening: the port stays ours, and nobody is let in here.
        self._reserved = bind(msgspec.structs.replace(listen, shares_port=True))
        port = self._reserved.getsockname()[1]
        self._listen = msgspec.structs.replace(listen, shares_port=True, port=port)
        self._news, self._telling = os.pipe()
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
        with self._heeding_signals() as wakeup:
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
        if not self._asked:
            for due in [due for due in self._due if due <= now]:
                self._due.remove(due)
                self._begin()
            systemd.notify("WATCHDOG=1")

    def _begin(self) -> None:
        sys.stdout.flush()
        sys.stderr.flush()
        pid = os.fork()
        if pid == 0:
            self._be_child()
        self.processes[pid] = time.monotonic()

    def _be_child(self) -> NoReturn:
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
            service = self._make(self._listen, self._tell)
            service.lifeline = self._lifeline
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

    def _tell(self, started: Started) -> None:
        os.write(self._telling, msgspec.json.encode(started) + b"\n")

    def _hear(self) -> None:
        *lines, self._buffer = (self._buffer + os.read(self._news, 65_536)).split(b"\n")
        for line in lines:
            self._ready += 1
            if self._ready == self._number and not self._was_ready:
                self._was_ready = True
                started = msgspec.json.decode(line, type=Started)
                self._on_start(
                    msgspec.structs.replace(started, pid=os.getpid(), workers=self._number)
                )
                systemd.notify("READY=1\nSTATUS=Serving " + started.url)

    def _reap(self) -> None:
        for pid in list(self.processes):
            done, status = os.waitpid(pid, os.WNOHANG)
            if done:
                self._lost(pid, os.waitstatus_to_exitcode(status))

    def _lost(self, pid: int, code: int) -> None:
        lived = time.monotonic() - self.processes.pop(pid)
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
