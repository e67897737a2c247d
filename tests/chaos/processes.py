"""Other processes of a test: started, told what to do, heard, killed, and never left behind."""

from __future__ import annotations

import json
import os
import queue
import signal
import subprocess
import sys
import threading
from contextlib import suppress
from pathlib import Path
from typing import Any, Self, TypeVar

T = TypeVar("T")

PATIENCE = 60.0
"""Seconds until a condition counts as never coming true, on a busy machine."""

_pause = threading.Event()


class Program:
    """A script in a process of its own; it is told and tells lines of JSON.

    The first line it gets is its arguments, as an argument of the command.
    """

    def __init__(self, script: Path, **arguments: Any) -> None:
        self.heard: list[Any] = []
        self._lines: queue.SimpleQueue[Any] = queue.SimpleQueue()
        self._errors: list[str] = []
        self.process = subprocess.Popen(
            [sys.executable, str(script), json.dumps(arguments)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            env={**os.environ, "PYTHONUNBUFFERED": "1"},
        )
        self._readers = [
            threading.Thread(target=self._read_lines, daemon=True),
            threading.Thread(target=self._read_errors, daemon=True),
        ]
        for reader in self._readers:
            reader.start()

    @property
    def pid(self) -> int:
        return self.process.pid

    @property
    def is_running(self) -> bool:
        return self.process.poll() is None

    @property
    def errors(self) -> str:
        """The end of what it wrote to standard error."""
        return "".join(self._errors[-40:])

    def tell(self, **message: Any) -> None:
        assert self.process.stdin is not None
        self.process.stdin.write(json.dumps(message) + "\n")
        self.process.stdin.flush()

    def hear(self, seconds: float = PATIENCE) -> Any:
        """The next line that it tells."""
        try:
            line = self._lines.get(timeout=seconds)
        except queue.Empty:
            raise AssertionError(f"Nothing heard in {seconds:g} s. {self.errors}") from None
        assert line is not None, f"It ended with {self.process.wait()}. {self.errors}"
        self.heard.append(line)
        return line

    def hear_all(self) -> list[Any]:
        """All lines told up to now, earlier ones too."""
        with suppress(queue.Empty):
            while True:
                line = self._lines.get_nowait()
                if line is not None:
                    self.heard.append(line)
        return self.heard

    def signal(self, number: signal.Signals) -> None:
        self.process.send_signal(number)

    def kill(self) -> None:
        """SIGKILL, and wait until it is gone."""
        self.process.kill()
        self.process.wait(PATIENCE)

    def wait(self, seconds: float = PATIENCE) -> int:
        """Its exit status, once it has ended."""
        try:
            status = self.process.wait(seconds)
        except subprocess.TimeoutExpired:
            raise AssertionError(f"It did not end in {seconds:g} s. {self.errors}") from None
        for reader in self._readers:
            reader.join(seconds)
        return status

    def close(self) -> None:
        """End it, in whatever state it is."""
        if self.is_running:
            self.process.kill()
        self.process.wait(PATIENCE)
        for reader in self._readers:
            reader.join(PATIENCE)
        for stream in (self.process.stdin, self.process.stdout, self.process.stderr):
            if stream is not None:
                with suppress(BrokenPipeError):
                    stream.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def _read_lines(self) -> None:
        assert self.process.stdout is not None
        for line in self.process.stdout:
            with suppress(json.JSONDecodeError):  # Killed in the middle of a line.
                self._lines.put(json.loads(line))
        self._lines.put(None)

    def _read_errors(self) -> None:
        assert self.process.stderr is not None
        for line in self.process.stderr:
            self._errors.append(line)
            del self._errors[:-200]


class Stage:
    """All programs of a test; those still there at its end are killed."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self.programs: list[Program] = []

    def start(self, script: str, /, **arguments: Any) -> Program:
        program = Program(self._folder / f"{script}.py", **arguments)
        self.programs.append(program)
        return program

    def close(self) -> None:
        for program in self.programs:
            program.close()
