"""How a board's graph looks to people: its sum, its longest way, a tree."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from typing import Final, TypeVar

from rich.text import Text

from callboard.cli.failures import counted
from callboard.cli.render import fields, heading, one_line, span, status
from callboard.domain.graph import CriticalPath, GraphNode, TaskGraph

T = TypeVar("T")
PATH_SHOWN: Final = 12
MOST_SHOWN: Final = 5
INDENT_MAX: Final = 8
"""Levels that are indented; deeper ones say their depth instead."""


def summary(graph: TaskGraph, board: str, width: int, limit: int) -> Iterator[str | Text]:
    """All that the graph can answer, and as much of its tree as *limit* lines hold."""
    if not len(graph):
        yield f"No tasks on board {board!r}. Add some: callboard tasks add KIND --depends-on TASK"
        return
    counts = Counter(node.status for node in graph)
    yield heading(board, counted(len(graph), "task"))
    yield from fields((word, f"{count:,}") for word, count in counts.most_common())
    cycle = graph.find_cycle()
    if cycle:
        yield Text(f"They wait for each other in a circle: {' -> '.join(cycle)}", style="red")
    else:
        yield from _paths(graph)
        yield from _unblocks(graph)
    yield from _stuck(graph)
    yield heading("Tree", "what waits is indented below what it waits for")
    yield from _tree(graph, limit)


def _paths(graph: TaskGraph) -> Iterator[str | Text]:
    remaining = graph.critical_path(remaining=True)
    path = remaining if remaining.ids else graph.critical_path()
    if len(path.ids) < 2:
        return
    note = "still to run" if remaining.ids else "of all"
    yield heading("Critical path", f"{note}: {len(path.ids):,} tasks, {_length(path)}")
    shown = list(path.ids)
    if len(shown) > PATH_SHOWN:
        half = PATH_SHOWN // 2
        shown = [*shown[:half], f"… {len(shown) - 2 * half:,} more …", *shown[-half:]]
    yield from (f"  {task_id}" for task_id in shown)


def _length(path: CriticalPath) -> str:
    if not path.measured:
        return "none measured yet"
    return f"about {span(path.seconds)}, {path.measured:,} of them measured"


def _unblocks(graph: TaskGraph) -> Iterator[str | Text]:
    most = graph.unblocks_most(MOST_SHOWN)
    if most:
        yield heading("Unblocks most", "tasks that wait for it, however far")
        yield from (f"  {one.id}  {'' if one.exact else 'at least '}{one.tasks:,}" for one in most)


def _stuck(graph: TaskGraph) -> Iterator[str | Text]:
    unresolved, unreachable = graph.unresolved(), graph.unreachable()
    if unresolved:
        yield heading("Never submitted", "what waits for it")
        yield from (f"  {', '.join(ids)}  {task_id}" for task_id, ids in _first(unresolved))
    if unreachable:
        yield heading("Can never start", "because of")
        yield from (f"  {task_id}  {cause}" for task_id, cause in _first(unreachable))


def _first(found: dict[str, T]) -> list[tuple[str, T]]:
    return list(found.items())[:MOST_SHOWN]


def _tree(graph: TaskGraph, limit: int) -> Iterator[Text]:
    """Depth first, each task once; where it comes up again it only points up."""
    nodes = {node.id: node for node in graph}
    roots = [node.id for node in graph if not any(need in nodes for need in node.depends_on)]
    stack = [(task_id, 0) for task_id in reversed(roots)]
    seen: set[str] = set()
    lines = 0
    while stack:
        if lines == limit:
            yield Text("… and more: --limit, --dot or --json show all.", style="dim")
            return
        task_id, depth = stack.pop()
        lines += 1
        yield _branch(nodes[task_id], depth, again=task_id in seen)
        if task_id not in seen:
            seen.add(task_id)
            stack += [(after, depth + 1) for after in reversed(graph.dependents(task_id))]


def _branch(node: GraphNode, depth: int, *, again: bool) -> Text:
    indent = "  " * min(depth, INDENT_MAX)
    line = Text(f"{indent}{f'({depth}) ' if depth > INDENT_MAX else ''}{node.id}")
    if again:
        return line.append("  ↑ above", style="dim")
    line.append("  ").append_text(status(node.status)).append(f"  {node.kind}", style="dim")
    if node.title:
        line.append(f"  {one_line(node.title)}")
    return line
