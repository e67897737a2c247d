"""The planner: five tasks for each package, then a closer look at what they brought up."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

from callboard.demo.plan import Module, Tree, read_tree
from callboard.exceptions import ConfigError, Fatal
from callboard.teams.requests import Outcome, PlanRequest

LONG_LINES = 150
"""From here on a function is worth a closer look."""


def plan(request: PlanRequest) -> dict[str, Any]:
    """Plan the survey in the first round, and a closer look where results call for one."""
    if request.round == 1:
        tree = tree_of(request.request)
        names = short_names(tree.packages)
        return {
            "tasks": [
                task
                for package, modules in tree.packages.items()
                for task in tasks_of(package, names[package], modules)
            ]
        }
    return {"tasks": list(closer_looks(request.finished))}


def tree_of(request: str) -> Tree:
    """The modules of the folder that the request names, or of Python's own library."""
    try:
        return read_tree(folder_in(request))
    except ConfigError as error:
        raise Fatal(str(error)) from error  # Asking again would not help.


def folder_in(request: str) -> Path | None:
    """The word of the request that is a folder, or has a slash as if it were one."""
    for word in request.split():
        path = Path(word.strip("\"'`,:;?!()")).expanduser()
        if path.is_dir() or "/" in word:
            return path
    return None


def short_names(packages: Iterable[str]) -> dict[str, str]:
    """What to call each package in the ids of its tasks: letters, digits, dots and dashes."""
    names: dict[str, str] = {}
    for number, package in enumerate(packages):
        name = re.sub(r"[^A-Za-z0-9_-]+", ".", package).strip(".")[-80:] or "top"
        names[package] = f"{name}.{number}" if name in names.values() else name
    return names


def tasks_of(package: str, name: str, modules: tuple[Module, ...]) -> Iterator[dict[str, Any]]:
    """The tasks of one package: four that may go on side by side, and one that needs them."""
    payload = {
        "package": package,
        "folder": str(Path(modules[0].path).parent),
        "files": [Path(module.path).name for module in modules],
    }
    parts = {"measure": "surveyor", "compare": "surveyor", "names": "surveyor"}
    parts["compile"] = "compiler"
    for part, worker in parts.items():
        yield {
            "id": f"{part}.{name}",
            "title": f"{part.capitalize()} {package}",
            "worker": worker,
            "payload": {"do": part, **payload},
        }
    yield {
        "id": f"summarise.{name}",
        "title": f"Summarise {package}",
        "worker": "surveyor",
        "payload": {"do": "summarise", **payload},
        "depends_on": [f"{part}.{name}" for part in parts],
        # A summary of what there is beats none: it says what is missing.
        "on_dependency_failure": "run",
        # Before the measuring of other packages, so that the planner hears of it early.
        "priority": "high",
    }


def closer_looks(finished: Iterable[Outcome]) -> Iterator[dict[str, Any]]:
    """A look into the longest function of each package that was summed up since last time."""
    for outcome in finished:
        if not outcome.id.startswith("summarise.") or outcome.status != "done":
            continue
        longest = max(outcome.result.get("long", ()), key=lambda f: f["lines"], default=None)
        if longest is not None and longest["lines"] >= LONG_LINES:
            yield {
                "id": outcome.id.replace("summarise", "look", 1),
                "title": f"Look closer at {longest['name']}",
                "worker": "surveyor",
                "payload": {"do": "look", **longest},
                "depends_on": [outcome.id],
                "priority": "high",
            }
