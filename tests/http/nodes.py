"""Coordinators in processes of their own: ``callboard serve``, started, asked, stopped, killed."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import threading
from collections.abc import Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any, Self

import httpx2

PATIENCE = 60.0
PROGRAM = (sys.executable, "-m", "callboard.cli")


class Node:
    """A running ``callboard serve`` on a port of the system's choice.

    Attributes:
        started: What it said when it began to serve.
        url: Where it answers.
    """

    def __init__(
        self,
        *arguments: str,
        port: int = 0,
        env: Mapping[str, str] | None = None,
        cwd: Path | None = None,
        dispatches: bool = False,
    ) -> None:
        more = [] if dispatches else ["--no-dispatch"]
        self.process = subprocess.Popen(
            [*PROGRAM, "serve", "--json", "--port", str(port), *more, *arguments],
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            stdin=subprocess.DEVNULL,
            text=True,
            cwd=cwd,
            env={**os.environ, **(env or {})},
            start_new_session=True,
        )
        self.errors: list[str] = []
        self._reader = threading.Thread(target=self._read_errors, daemon=True)
        self._reader.start()
        self._guard = threading.Timer(PATIENCE, self.process.kill)
        self._guard.start()
        assert self.process.stdout is not None
        line = self.process.stdout.readline()
        self._guard.cancel()
        if not line:
            code = self.process.wait(PATIENCE)
            self._reader.join(PATIENCE)
            raise AssertionError(f"It ended with {code}: {self.log}")
        self.started: dict[str, Any] = json.loads(line)
        self.url: str = self.started["url"]
        self.client = httpx2.Client(base_url=self.url, timeout=20)

    @property
    def pid(self) -> int:
        return self.process.pid

    @property
    def log(self) -> str:
        """What it logged up to now."""
        return "".join(self.errors)

    def ok(self, verb: str, path: str, body: Any = None, **rest: Any) -> Any:
        """The JSON of an answer that must be 200."""
        if body is not None:
            rest["json"] = body
        response = self.client.request(verb, path, **rest)
        assert response.status_code == 200, response.text
        return response.json()

    def signal(self, number: signal.Signals) -> None:
        self.process.send_signal(number)

    def kill(self) -> None:
        """SIGKILL, and wait until it is gone."""
        self.process.kill()
        self.process.wait(PATIENCE)

    def stop(self) -> int:
        """SIGTERM; its exit code."""
        self.process.terminate()
        return self.wait()

    def wait(self) -> int:
        code = self.process.wait(PATIENCE)
        self._reader.join(PATIENCE)
        return code

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.client.close()
        if self.process.poll() is None:
            self.process.terminate()
            try:
                self.process.wait(15)
            except subprocess.TimeoutExpired:
                self.process.kill()
                self.process.wait(PATIENCE)
        self._reader.join(PATIENCE)
        for stream in (self.process.stdout, self.process.stderr):
            if stream is not None:
                stream.close()

    def _read_errors(self) -> None:
        assert self.process.stderr is not None
        with suppress(ValueError):
            for line in self.process.stderr:
                self.errors.append(line)
                del self.errors[:-500]


def refused(*arguments: str, env: Mapping[str, str] | None = None, cwd: Path | None = None) -> Any:
    """A ``callboard serve`` that must not begin: its exit code and what it said."""
    ran = subprocess.run(
        [*PROGRAM, "serve", *arguments],
        capture_output=True,
        text=True,
        stdin=subprocess.DEVNULL,
        env={**os.environ, **(env or {})},
        cwd=cwd,
        timeout=PATIENCE,
        check=False,
    )
    return ran


def engine_of(url: str, namespace: str) -> Sequence[str]:
    """The arguments for an engine and a namespace that a test has."""
    return ("--url", url, "--namespace", namespace)
