"""A graph of tasks in Graphviz's DOT language."""

from __future__ import annotations

from collections.abc import Container, Iterable, Sequence
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from callboard.domain.graph import GraphNode

_FILLS: Final = {
    "claimed": "yellow",
    "in_progress": "yellow",
    "done": "green",
    "failed": "red",
    "cancelled": "grey",
}
_LABEL_CHARACTERS_MAX: Final = 80
_BOLD: Final = "penwidth=2.5"


def dot_of(
    title: str,
    nodes: Sequence[GraphNode],
    *,
    critical: Sequence[str],
    ready: Container[str],
    lost: Container[str],
    unknown: Iterable[str],
) -> str:
    """The drawing, dependencies on the left.

    Args:
        title: The name of the graph.
        critical: Ids along the critical path, first to last: they are bold.
        ready, lost: Ids of tasks that may begin, and that never will.
        unknown: Ids that are needed and not among *nodes*: they are dashed.
    """
    path = dict(zip(critical[1:], critical, strict=False))
    bold = frozenset(critical)
    lines = [
        f"digraph {_name(title)} {{",
        "  rankdir=LR;",
        '  node [shape=box, style=filled, fillcolor=white, fontname="sans-serif"];',
    ]
    names = {task_id: _name(task_id) for task_id in unknown}
    lines.extend(f"  {missing} [style=dashed, color=grey];" for missing in names.values())
    for node in nodes:
        names[node.id] = _name(node.id)
        fill = "lightgreen" if node.id in ready else _FILLS.get(node.status, "white")
        if node.id in lost:
            fill = "lightgrey"
        look = f', style="filled,bold", {_BOLD}' if node.id in bold else ""
        lines.append(f"  {names[node.id]} [label={_label(node)}, fillcolor={fill}{look}];")
    for node in nodes:
        for need in dict.fromkeys(node.depends_on):
            look = f" [style=bold, {_BOLD}]" if path.get(node.id) == need else ""
            lines.append(f"  {names[need]} -> {names[node.id]}{look};")
    lines.append("}")
    return "\n".join(lines) + "\n"


def _name(text: str) -> str:
    """Quote an id: control characters spelled out, so that different ids stay different."""
    quoted = text.replace("\\", "\\\\").replace('"', '\\"')
    return '"' + "".join(c if _is_drawable(c) else f"\\x{ord(c):02x}" for c in quoted) + '"'


def _label(node: GraphNode) -> str:
    """Quote id and title as two lines in which nothing is read as an escape or an entity."""
    lines = [node.id, node.title] if node.title and node.title != node.id else [node.id]
    return '"' + "\\n".join(_text(line) for line in lines) + '"'


def _text(text: str) -> str:
    if len(text) > _LABEL_CHARACTERS_MAX:
        text = text[: _LABEL_CHARACTERS_MAX - 1] + "…"
    text = "".join(c if _is_drawable(c) else " " for c in text)
    return text.replace("\\", "\\\\").replace('"', '\\"').replace("&", "&amp;")


def _is_drawable(character: str) -> bool:
    """Refuse control characters, and lone surrogates, which no encoding can write."""
    code = ord(character)
    return code >= 0x20 and not 0x7F <= code <= 0x9F and not 0xD800 <= code <= 0xDFFF
