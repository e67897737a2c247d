"""A team whose tasks the tests hold up, break and mend through files in its folder."""

from __future__ import annotations

import sys
from pathlib import Path

TEAM = """\
agents:
  planner: {callable: "handlers:plan"}
  worker:
    callable: "handlers:work"
    max_concurrent: 4
    retry: {max_retries: "${RETRIES:-0}", base: 0.01}
  writer: {callable: "handlers:write"}
teams:
  specs:
    gate:
      description: Waits at a gate.
      planner: planner
      workers: [worker]
      synthesizer: writer
"""

HANDLERS = '''\
import asyncio
from pathlib import Path

HERE = Path(__file__).parent


def plan(request):
    """A word of the request is a task; each waits for the one before."""
    words = request.request.split()
    return {
        "tasks": [
            {
                "id": word,
                "title": f"Do {word}",
                "worker": "worker",
                "depends_on": words[n - 1 : n] if n else [],
            }
            for n, word in enumerate(words)
        ],
        "done": True,
    }


async def work(request):
    word = request.task.id
    with (HERE / "done").open("a") as file:
        file.write(word + "\\n")
    while word == "gate" and not (HERE / "open").exists():
        await asyncio.sleep(0.01)
    if word == "broken" and not (HERE / "mended").exists():
        raise ValueError("no such page: \\x1b[31m404")
    print("printed by an agent")
    return {"did": word}


def write(request):
    return "\\n".join(f"{task.id}: {task.status}" for task in request.tasks)
'''


def write_team(folder: Path, *, team: str = TEAM, handlers: str = HANDLERS) -> Path:
    """Write the team into a folder; answers its file."""
    folder.mkdir(exist_ok=True)
    (folder / "handlers.py").write_text(handlers)
    file = folder / "team.yaml"
    file.write_text(team)
    return file


def begun(folder: Path) -> list[str]:
    """The tasks that were begun, in order, each as often as it was."""
    done = folder / "done"
    return done.read_text().split() if done.exists() else []


def forget_handlers() -> None:
    """Let the next team's handlers be loaded: a process has one module of a name."""
    sys.modules.pop("handlers", None)
