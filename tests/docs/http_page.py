"""The list of all routes in docs/reference/http.md, made from the document that is served."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Mapping
from typing import Any

from callboard.http import openapi
from callboard.http.routes import all_routes

Node = Mapping[str, Any]
ON_BOARD = "_on_board"
COMMON = ("status", "timestamp")


def http_routes() -> str:
    """Every route: what it does, who may ask, what is sent and what is answered."""
    document = json.loads(openapi.document(all_routes()))
    components = document["components"]["schemas"]
    lines: list[str] = []
    for tag in document["tags"]:
        name = tag["name"].replace("_", " ")
        lines += [f"## {name.capitalize()}", ""]
        if tag.get("description"):
            lines += [*tag["description"].replace(". ", ".\n").splitlines(), ""]
        lines += ["| route | role | | sent | answered |", "|---|---|---|---|---|"]
        lines += _rows(document["paths"], tag["name"], components)
        lines.append("")
    lines += ["## Statuses", "", "| status | what it means | holds |", "|---|---|---|"]
    lines += [
        f"| {status} | {answer['description']} | {_type(_json(answer['content']))} |"
        for status, answer in document["components"]["responses"].items()
    ]
    return "\n".join([*lines, ""])


def _rows(paths: Node, tag: str, components: Node) -> Iterator[str]:
    for path, verbs in paths.items():
        for verb, known in verbs.items():
            if known["tags"][0] == tag and not known["operationId"].endswith(ON_BOARD):
                cells = (
                    f"`{verb.upper()} {path}`",
                    known.get("x-role", "any"),
                    known["summary"],
                    ", ".join(_sent(known, components)),
                    _answered(known, components),
                )
                yield f"| {' | '.join(cell.replace('|', chr(92) + '|') for cell in cells)} |"


def _sent(known: Node, components: Node) -> Iterator[str]:
    for one in known["parameters"]:
        if one["in"] == "query":
            yield f"`{one['name']}`" if one["required"] else f"`{one['name']}`?"
    if "requestBody" in known:
        schema = _resolved(_json(known["requestBody"]["content"]), components)
        required = set(schema.get("required", ()))
        for name in schema.get("properties", ()):
            yield f"`{name}`" if name in required else f"`{name}`?"


def _answered(known: Node, components: Node) -> str:
    content = known["responses"]["200"].get("content", {})
    nothing: Node = {}
    kind, media = next(iter(content.items()), ("", nothing))
    if not kind.startswith("application/json"):
        return f"`{kind}`"
    schema = _resolved(media.get("schema", {}), components)
    fields = schema.get("properties", {})
    return ", ".join(
        f"`{name}`: {_type(one)}" for name, one in fields.items() if name not in COMMON
    )


def _type(schema: Node) -> str:
    if "$ref" in schema:
        return schema["$ref"].rpartition("/")[2]
    if "anyOf" in schema:
        return _either(_type(one) for one in schema["anyOf"])
    kind = schema.get("type", "any")
    if kind == "array":
        items = schema.get("items")
        return f"list of {_type(items)}" if isinstance(items, dict) and items else "list"
    if schema.get("format") == "date-time":
        return "instant"
    return _either(kind) if isinstance(kind, list) else str(kind)


def _either(parts: Iterable[str]) -> str:
    return " or ".join(dict.fromkeys(parts))


def _resolved(schema: Node, components: Node) -> Node:
    while "$ref" in schema:
        schema = components[schema["$ref"].rpartition("/")[2]]
    return schema


def _json(content: Node) -> Node:
    found: Node = content["application/json"].get("schema", {})
    return found
