"""How the tests run ``callboard``: in this process, or as a program of its own."""

from __future__ import annotations

import io
import json
import os
import signal
import subprocess
import sys
import threading
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from callboard.cli import main

PROGRAM = [sys.executable, "-c", "import sys; from callboard.cli import main; sys.exit(main())"]
DEADLINE_SECONDS = 60


@dataclass(frozen=True)
class Ran:
    """What a command left behind."""

    code: int
    out: str
    err: str

    @property
    def json(self) -> Any:
        return json.loads(self.out)

    @property
    def error(self) -> Any:
        return json.loads(self.err)["error"]


class Cli:
    """Runs commands on one namespace of the session's engine."""

    def __init__(
        self,
        url: str,
        namespace: str,
        capsys: pytest.CaptureFixture[str],
        monkeypatch: pytest.MonkeyPatch,
    ) -> None:
        self.where = ["--url", url, "--namespace", namespace]
        self._capsys = capsys
        self._monkeypatch = monkeypatch

    def __call__(self, *arguments: str, stdin: str | None = None) -> Ran:
        """Run it in this process, its output taken."""
        if stdin is not None:
            self._monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(stdin.encode())))
        self._capsys.readouterr()
        code = main([*self.where, *arguments])
        taken = self._capsys.readouterr()
        return Ran(code, taken.out, taken.err)

    def ok(self, *arguments: str, stdin: str | None = None) -> Ran:
        """Run it, and expect it to succeed."""
        ran = self(*arguments, stdin=stdin)
        assert ran.code == 0, ran
        return ran

    def json(self, *arguments: str, stdin: str | None = None) -> Any:
        """Run it for a program, and answer the document that it printed."""
        return self.ok("--json", *arguments, stdin=stdin).json

    def add(self, *arguments: str) -> str:
        """Add a task and answer its id."""
        added: str = self.json("tasks", "add", *arguments)["id"]
        return added

    def claim(self, agent: str = "mira") -> tuple[str, str]:
        """Claim the best task and answer its id and fence."""
        (task,) = self.json("tasks", "claim", "--agent", agent)["tasks"]
        return task["id"], str(task["fence"])

    def bury(self, *arguments: str) -> str:
        """Add a task and make it a dead letter."""
        self.add(*arguments)
        task, fence = self.claim()
        self.ok("tasks", "fail", task, "--fence", fence, "no such page", "--no-retry")
        return task

    def started(self, *arguments: str) -> Program:
        """Start it as a program of its own."""
        return Program([*self.where, *arguments])


class Program:
    """A running ``callboard``, read line by line; killed where it outlives its test."""

    def __init__(
        self, arguments: list[str], *, env: Mapping[str, str] | None = None, cwd: Path | None = None
    ) -> None:
        self.process = subprocess.Popen(
            [*PROGRAM, *arguments],
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            stdin=subprocess.DEVNULL,
            text=True,
            cwd=cwd,
            env={**os.environ, **(env or {})},
        )
        self._guard = threading.Timer(DEADLINE_SECONDS, self.process.kill)
        self._guard.start()

    def read_until(self, part: str, *, stderr: bool = False) -> str:
        """Read lines up to the one with this part in it."""
        stream = self.process.stderr if stderr else self.process.stdout
        assert stream is not None
        for line in stream:
            if part in line:
                return line
        raise AssertionError(f"{part!r} was not printed; {self.process.communicate()}")

    def signal(self, number: signal.Signals) -> None:
        self.process.send_signal(number)

    def end(self) -> Ran:
        """Wait for its end; what was not read yet is in the answer."""
        out, err = self.process.communicate(timeout=DEADLINE_SECONDS)
        self._guard.cancel()
        return Ran(self.process.returncode, out, err)


def run_alone(
    *arguments: str, env: Mapping[str, str] | None = None, cwd: Path | None = None
) -> Ran:
    """Run it as a program of its own to its end."""
    return Program(list(arguments), env=env, cwd=cwd).end()
