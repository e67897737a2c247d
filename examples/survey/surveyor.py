"""The worker that is a Python function: it measures with the code of ``callboard demo``."""

from __future__ import annotations

import ast
from collections import Counter
from collections.abc import Iterator
from itertools import islice
from keyword import iskeyword
from pathlib import Path
from typing import Any

from callboard.demo import alike, measure
from callboard.exceptions import Retry
from callboard.sdk.context import TaskContext
from callboard.teams.requests import WorkRequest

SUMS = ("lines", "code", "functions", "classes", "complexity", "documentable", "documented")


def survey(request: WorkRequest, context: TaskContext) -> Any:
    """Do what the planner wrote into the payload."""
    return WAYS[request.task.payload["do"]](request, context)


def measure_package(request: WorkRequest, context: TaskContext) -> dict[str, Any]:
    """Add up the measures of a package's modules, and keep its longest functions."""
    sums: Counter[str] = Counter()
    functions: list[dict[str, Any]] = []
    for path, name in files_of(request):
        stop_if_cancelled(context)
        try:
            facts = measure.measure_file(path, name)
        except measure.NotPython:
            continue  # The compiler says so.
        sums.update(modules=1, **{field: getattr(facts, field) for field in SUMS})
        functions += (
            {
                "name": function.name,
                "file": str(path),
                "where": f"{name}:{function.line}",
                "line": function.line,
                "lines": function.lines,
                "complexity": function.complexity,
            }
            for function in facts.notable
        )
    functions.sort(key=lambda function: -function["lines"])
    return {"sums": sums, "long": functions[:3]}


def compare_package(request: WorkRequest, context: TaskContext) -> dict[str, Any]:
    """Find functions whose lines are mostly the same."""
    found = alike.compare(files_of(request), heed=lambda share: stop_if_cancelled(context))
    pairs = [{"first": p.first, "second": p.second, "ratio": p.ratio} for p in found.kept[:3]]
    return {"pairs": found.alike, "closest": pairs}


def count_names(request: WorkRequest, context: TaskContext) -> list[str]:
    """Find the names that a package uses most."""
    names: Counter[str] = Counter()
    for path, _ in files_of(request):
        stop_if_cancelled(context)
        try:
            names += measure.names_in(path.read_bytes())
        except measure.NotPython:
            continue
    own = (name for name, _ in names.most_common() if name != "self" and not iskeyword(name))
    return list(islice(own, 5))


def summarise_package(request: WorkRequest, context: TaskContext) -> dict[str, Any]:
    """Bring together what the other tasks found, whose outcomes come with the request."""
    summary: dict[str, Any] = {"package": request.task.payload["package"], "missing": []}
    for outcome in request.results.values():
        part = outcome.id.partition(".")[0]
        if outcome.status != "done":
            summary["missing"].append(f"{outcome.title}: {outcome.error}")
        elif part == "names":
            summary["names"] = outcome.result
        else:
            summary |= outcome.result
    return summary


def look_closer(request: WorkRequest, context: TaskContext) -> dict[str, Any]:
    """Say what a long function is made of, and where it is nested most deeply."""
    wanted = request.task.payload
    _, tree = measure.parse(Path(wanted["file"]).read_bytes(), wanted["where"])
    for _, function in measure.functions_of(tree):
        if function.lineno == wanted["line"]:
            break
    else:
        raise Retry(f"{wanted['where']} has changed since it was measured.")
    kinds = Counter(type(node).__name__.lower() for node in ast.walk(function))
    depth, line = max(nested(function))
    return {
        **{key: wanted[key] for key in ("name", "where", "lines", "complexity")},
        "branches": kinds["if"],
        "loops": kinds["for"] + kinds["asyncfor"] + kinds["while"],
        "returns": kinds["return"],
        "inner": kinds["functiondef"] + kinds["asyncfunctiondef"] - 1,
        "depth": depth,
        "deepest": line,
    }


def nested(node: ast.AST, depth: int = 0) -> Iterator[tuple[int, int]]:
    """How deep each statement below a node stands in blocks, with its line."""
    for child in ast.iter_child_nodes(node):
        # To the parser an elif is an if within the else.
        is_elif = isinstance(node, ast.If) and node.orelse == [child] and isinstance(child, ast.If)
        at = depth - is_elif
        if isinstance(child, ast.stmt):
            yield at, child.lineno
        yield from nested(child, at + isinstance(child, ast.stmt | ast.match_case))


def files_of(request: WorkRequest) -> list[tuple[Path, str]]:
    """The files of the task's package, and what to call them."""
    payload = request.task.payload
    folder, package = Path(payload["folder"]), Path(payload["package"])
    return [(folder / name, (package / name).as_posix()) for name in payload["files"]]


def stop_if_cancelled(context: TaskContext) -> None:
    """Leave a thread whose task was cancelled, as nobody can end it from outside."""
    if context.is_cancelled:
        raise Retry("The task was cancelled.")


WAYS = {
    "measure": measure_package,
    "compare": compare_package,
    "names": count_names,
    "summarise": summarise_package,
    "look": look_closer,
}
