"""``callboard worker``."""

from __future__ import annotations

import signal
from pathlib import Path

import pytest

from tests.interfaces.cli_support import Cli, Program

HANDLERS = """
from callboard.sdk.worker import Worker

worker = Worker(agent="mira")

@worker.handles("greet")
async def greet(payload):
    return f"Hello {payload['name']}"
"""


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "handlers.py").write_text(HANDLERS)
    return tmp_path


@pytest.mark.parametrize(
    ("target", "said"),
    [("nosuch:worker", "nosuch"), ("handlers:nosuch", "worker"), ("handlers:greet", "Worker")],
)
def test_a_worker_that_is_not_there_is_exit_code_2(
    cli: Cli, folder: Path, target: str, said: str
) -> None:
    ran = Program([*cli.where, "worker", target], cwd=folder).end()

    assert ran.code == 2
    assert said in ran.err
    assert "Traceback" not in ran.err


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT], ids=lambda number: number.name)
def test_a_worker_works_until_it_is_told_to_stop(
    cli: Cli, folder: Path, number: signal.Signals
) -> None:
    task = cli.add("greet", '{"name": "Ada"}', "--board", "run-42")
    options = ["--agent", "noor", "--board", "run-42", "--concurrency", "2"]
    worker = Program([*cli.where, "worker", "handlers:worker", *options], cwd=folder)

    result = cli("tasks", "wait", task, "--board", "run-42", "--timeout", "30s")
    worker.signal(number)
    ran = worker.end()

    assert result.out == '"Hello Ada"\n'
    assert ran.code == 0
    assert "Agent noor does greet on board 'run-42', 2 at once" in ran.err
    assert "has finished" in ran.err
    assert cli.json("agents", "show", "noor")["gone"] == "left"
