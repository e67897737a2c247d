"""Pages for people, made here without anything from elsewhere."""

from __future__ import annotations

import html
import json
import re
import shlex
from collections.abc import Iterable, Iterator, Mapping
from functools import lru_cache
from importlib import resources
from typing import Any, Final
from urllib.parse import quote, urlencode

import msgspec

HTML: Final = "text/html; charset=utf-8"
CSS: Final = "text/css; charset=utf-8"
ON_BOARD: Final = "_on_board"
DEEP_MAX: Final = 4
"""How deep what is sent is shown in place; what lies deeper is shown under its own name."""

Node = Mapping[str, Any]

_INLINE = re.compile(r"`([^`]+)`|\*(\w[^*]*)\*")
_PARAMETER = re.compile(r"\{(\w+)\}")
_SAMPLES: Final = {
    "agent": "mira",
    "agent_id": "mira",
    "agent_type": "worker",
    "board": "run-42",
    "capability": "analysis",
    "component": "search-api",
    "conflict_id": "c-1",
    "fingerprint": "0f343b0931126a20f133d67c2b018a3b",
    "instance": "mira-1",
    "key": "customer-7",
    "message_id": "m-1",
    "on": "events",
    "moment": "2026-01-01T12:00:00Z",
    "name": "summary",
    "owner": "mira-job-7",
    "peer": "noor",
    "peer_id": "noor",
    "priority": "normal",
    "project": "release-2",
    "resource": "file:src/a.py",
    "run": "run-1",
    "service": "task-execution",
    "strategy": "least_connections",
    "task": "fetch-1",
    "task_id": "fetch-1",
    "topic": "builds",
}
_SAMPLES_OF: Final = {("/series/{name}/history", "name"): "task_throughput"}
"""Where a name stands for something else than elsewhere."""


@lru_cache(maxsize=1)
def docs(document: bytes) -> bytes:
    """The OpenAPI document as one page: every route, what it takes, what it answers."""
    return _Page(msgspec.json.decode(document)).whole().encode()


@lru_cache(maxsize=1)
def style() -> bytes:
    """The style of the pages."""
    return resources.files("callboard.http").joinpath("docs.css").read_bytes()


def curl_of(verb: str, path: str, operation: Node, components: Node) -> str:
    """A call of a route that can be pasted into a shell."""

    def filled(found: re.Match[str]) -> str:
        name = found[1]
        return quote(_SAMPLES_OF.get((path, name)) or _named(name), safe=":")

    required = [
        (one["name"], _sample(one.get("schema", {}), components, one["name"]))
        for one in operation.get("parameters", ())
        if one["in"] == "query" and one.get("required")
    ]
    address = f"http://localhost:9001{_PARAMETER.sub(filled, path)}"
    if required:
        address += f"?{urlencode(required, doseq=True, safe=':')}"
    is_stream = any("event-stream" in kind for kind in _content(operation))
    words = ["curl", *(["-N"] if is_stream else []), *(["-X", verb] if verb != "GET" else [])]
    words.append(address if "&" not in address and "?" not in address else shlex.quote(address))
    if operation.get("security"):
        words.append('-H "Authorization: Bearer $CALLBOARD_API_KEY"')
    body = operation.get("requestBody")
    if body is None:
        return " ".join(words)
    media = body["content"]["application/json"]
    given = media.get("example") or _sample(media["schema"], components)
    text = json.dumps(given, ensure_ascii=False)
    return (
        " ".join(words) + " \\\n  -H 'Content-Type: application/json' \\\n  -d " + shlex.quote(text)
    )


def type_of(schema: Node) -> str:
    """The type of a value in a few words, as HTML; other structs are links."""
    if "$ref" in schema:
        name = _name(schema)
        return f'<a href="#schema-{html.escape(name)}">{html.escape(name)}</a>'
    if "anyOf" in schema or "oneOf" in schema:
        parts = [type_of(one) for one in schema.get("anyOf", schema.get("oneOf", ()))]
        return " or ".join(dict.fromkeys(parts))
    if "enum" in schema:
        return " | ".join(f"<code>{html.escape(json.dumps(one))}</code>" for one in schema["enum"])
    if "const" in schema:
        return f"<code>{html.escape(json.dumps(schema['const']))}</code>"
    kind = schema.get("type")
    if kind == "array":
        return _array(schema)
    if kind == "object":
        values = schema.get("additionalProperties")
        return f"object of {type_of(values)}" if isinstance(values, dict) and values else "object"
    if isinstance(kind, list):
        return " or ".join(kind)
    return _plain(kind, schema)


def markup(text: str) -> str:
    """A little Markdown as HTML: paragraphs, lists, code, emphasis."""
    found = []
    for block in re.split(r"\n\s*\n", text.strip()):
        if block.startswith("    "):
            found.append(f"<pre>{html.escape(block)}</pre>")
        elif block.startswith("- "):
            items = "".join(f"<li>{_inline(line[2:])}</li>" for line in block.split("\n"))
            found.append(f"<ul>{items}</ul>")
        elif block:
            found.append(f"<p>{_inline(block)}</p>")
    return "".join(found)


class _Page:
    def __init__(self, document: dict[str, Any]) -> None:
        self.document = document
        self.components = document["components"]["schemas"]
        self.groups: dict[str, list[tuple[str, str, Node]]] = {
            tag["name"]: [] for tag in document["tags"]
        }
        self.boards: set[str] = set()
        for path, verbs in document["paths"].items():
            for verb, operation in verbs.items():
                known = operation["operationId"]
                if known.endswith(ON_BOARD):
                    self.boards.add(known.removesuffix(ON_BOARD))
                else:
                    self.groups[operation["tags"][0]].append((verb.upper(), path, operation))

    def whole(self) -> str:
        """The page."""
        info = self.document["info"]
        title = html.escape(info["title"])
        routes = sum(map(len, self.groups.values()))
        return (
            '<!doctype html><html lang="en"><head><meta charset="utf-8">'
            '<meta name="viewport" content="width=device-width, initial-scale=1">'
            f'<title>{title}</title><link rel="stylesheet" href="docs.css"></head><body>'
            f"<header><h1>{title} <small>{html.escape(info['version'])}</small></h1>"
            f"{markup(info['description'])}"
            f'<p>{routes} routes. The same for programs: <a href="openapi.json">openapi.json</a>. '
            "Find a word with your browser's search: what is folded up opens.</p></header>"
            f"<nav>{self._navigation()}</nav><main>{''.join(self._groups())}"
            f"{self._statuses()}{''.join(self._schemas())}</main></body></html>\n"
        )

    def _navigation(self) -> str:
        found = []
        for tag, routes in self.groups.items():
            lines = "".join(
                f'<li><a href="#{known["operationId"]}"><b class="{verb.lower()}">{verb}</b> '
                f"{_path(path)}</a></li>"
                for verb, path, known in routes
            )
            found.append(
                f"<details><summary>{_words(tag)} <small>{len(routes)}</small></summary>"
                f'<ul><li><a href="#{_group(tag)}">About</a></li>{lines}</ul></details>'
            )
        found.append('<p><a href="#statuses">Statuses</a></p><p><a href="#schemas">Schemas</a></p>')
        return "".join(found)

    def _groups(self) -> Iterator[str]:
        for tag in self.document["tags"]:
            routes = self.groups[tag["name"]]
            yield (
                f'<section><h2 id="{_group(tag["name"])}">{_words(tag["name"])}</h2>'
                f"{markup(tag.get('description', ''))}"
            )
            for verb, path, operation in routes:
                yield self._route(verb, path, operation)
            yield "</section>"

    def _route(self, verb: str, path: str, operation: Node) -> str:
        known = operation["operationId"]
        role = operation.get("x-role")
        facts = f"Role: <b>{role}</b>." if role else "Anybody may ask."
        if known in self.boards:
            facts += f" For another board: <code>/boards/{{board}}{html.escape(path)}</code>."
        return (
            f'<details class="route" id="{known}"><summary><b class="{verb.lower()}">{verb}</b> '
            f"<code>{_path(path)}</code> <span>{_inline(operation['summary'])}</span></summary>"
            f'<p class="facts">{facts} <a href="#{known}" title="Link to this">#</a></p>'
            f"{markup(operation.get('description', ''))}"
            f"{self._parameters(operation)}{self._body(operation)}{self._answers(operation)}"
            f"<h4>Example</h4><pre>{html.escape(curl_of(verb, path, operation, self.components))}"
            "</pre></details>"
        )

    def _parameters(self, operation: Node) -> str:
        rows = [
            _row(
                one["name"],
                one.get("schema") or one["content"]["application/json"]["schema"],
                one.get("description", ""),
                f"{one['in']}{', required' if one.get('required') else ''}",
            )
            for one in operation.get("parameters", ())
        ]
        return f"<h4>Parameters</h4>{_table(rows)}" if rows else ""

    def _body(self, operation: Node) -> str:
        if "requestBody" not in operation:
            return ""
        schema = operation["requestBody"]["content"]["application/json"]["schema"]
        is_needed = operation["requestBody"].get("required")
        return (
            f"<h4>Body <small>JSON{'' if is_needed else ', may be left out'}</small></h4>"
            f"{self._fields(schema, is_sent=True)}"
        )

    def _answers(self, operation: Node) -> str:
        found = []
        refusals = []
        for status, answer in operation["responses"].items():
            if "$ref" in answer:
                refusals.append(f'<a href="#status-{status}">{status}</a>')
                continue
            for kind, media in (answer.get("content") or {"": {}}).items():
                found.append(
                    f"<h4>{status} <small>{html.escape(kind)}</small></h4>"
                    f"<p>{_inline(answer['description'])}</p>"
                    f"{self._fields(media['schema']) if media.get('schema') else ''}"
                )
        return "".join(found) + f'<p class="facts">Or {", ".join(refusals)}.</p>'

    def _fields(self, schema: Node, is_sent: bool = False) -> str:
        found = schema
        while "$ref" in found:
            found = self.components[_name(found)]
        if "properties" not in found:
            return f"<p>{type_of(schema)}</p>"
        required = set(found.get("required", ())) if is_sent else ()
        return _table(
            _row(name, one, one.get("description", ""), "required" if name in required else "")
            for name, one in found["properties"].items()
        )

    def _statuses(self) -> str:
        rows = "".join(
            f'<tr id="status-{status}"><td>{status}</td><td>{_inline(answer["description"])}</td>'
            f"<td>{type_of(answer['content']['application/json']['schema'])}</td></tr>"
            for status, answer in self.document["components"]["responses"].items()
        )
        return (
            '<section><h2 id="statuses">Statuses</h2><p>What any route may answer instead.</p>'
            f"<table><tbody>{rows}</tbody></table></section>"
        )

    def _schemas(self) -> Iterator[str]:
        yield '<section><h2 id="schemas">Schemas</h2>'
        shown = _linked(self.document)
        for name in sorted(set(self.components) & shown):
            schema = self.components[name]
            yield (
                f'<details class="route" id="schema-{html.escape(name)}"><summary>'
                f"<code>{html.escape(name)}</code></summary>"
                f"{markup(schema.get('description', ''))}{self._fields(schema)}</details>"
            )
        yield "</section>"


def _linked(value: Any) -> set[str]:
    """The names of all schemas that something refers to."""
    found: set[str] = set()
    if isinstance(value, dict):
        if isinstance(value.get("$ref"), str):
            found.add(_name(value))
        for one in value.values():
            found |= _linked(one)
    elif isinstance(value, list):
        for one in value:
            found |= _linked(one)
    return found


def _sample(schema: Node, components: Node, name: str = "", depth: int = 0) -> Any:
    """A value for the field of this name that the schema lets through, of what it must have."""
    if "default" in schema:
        return schema["default"]
    if "$ref" in schema:
        return _sample(components[_name(schema)], components, name, depth)
    for word in ("anyOf", "oneOf"):
        if word in schema:
            return _sample(schema[word][0], components, name, depth)
    if "enum" in schema:
        return schema["enum"][0]
    if "const" in schema:
        return schema["const"]
    kind = schema.get("type")
    if kind == "object":
        return {
            one: _sample(schema["properties"][one], components, one, depth + 1)
            for one in schema.get("required", ())
            if depth < DEEP_MAX
        }
    if kind == "array":
        items = schema.get("prefixItems")
        if items:
            return [_sample(one, components, name, depth + 1) for one in items]
        return [_sample(schema.get("items") or {}, components, name.removesuffix("s"), depth + 1)]
    if kind == "string":
        return _named(name)
    return {"integer": 1, "number": 1.0, "boolean": True}.get(str(kind))


def _named(name: str) -> str:
    return _SAMPLES.get(name, f"some-{name}")


def _row(name: str, schema: Node, said: str, note: str) -> str:
    default = ""
    if "default" in schema and schema["default"] not in (None, ""):
        default = f" Default: <code>{html.escape(json.dumps(schema['default']))}</code>."
    return (
        f"<tr><td><code>{html.escape(name)}</code>"
        f"{f'<small>{note}</small>' if note else ''}</td>"
        f"<td>{type_of(schema)}</td><td>{_inline(' '.join(said.split()))}{default}</td></tr>"
    )


def _table(rows: Iterable[str]) -> str:
    return f"<table><tbody>{''.join(rows)}</tbody></table>"


def _array(schema: Node) -> str:
    if schema.get("prefixItems"):
        return f"[{', '.join(type_of(one) for one in schema['prefixItems'])}]"
    items = schema.get("items")
    return f"list of {type_of(items)}" if isinstance(items, dict) and items else "list"


def _plain(kind: Any, schema: Node) -> str:
    if kind is None:
        return "any JSON"
    words = {"string": "text", "integer": "whole number", "boolean": "true or false"}
    name = {"date-time": "instant", "byte": "base64"}.get(schema.get("format", ""))
    bounds = [
        f"{word} {schema[key]:g}"
        for key, word in (("minimum", "from"), ("maximum", "to"))
        if key in schema
    ]
    return " ".join([name or words.get(kind, str(kind)), *bounds])


def _content(operation: Node) -> Iterator[str]:
    for answer in operation["responses"].values():
        yield from answer.get("content", ())


def _name(schema: Node) -> str:
    return str(schema["$ref"]).rpartition("/")[2]


def _group(tag: str) -> str:
    return html.escape(f"group-{tag.replace(' ', '-')}")


def _words(tag: str) -> str:
    return html.escape(tag.replace("_", " ").capitalize())


def _path(path: str) -> str:
    """The path as HTML that may be broken behind a slash."""
    return html.escape(path).replace("/", "/<wbr>")


def _inline(text: str) -> str:
    def shown(found: re.Match[str]) -> str:
        return f"<code>{found[1]}</code>" if found[1] else f"<em>{found[2]}</em>"

    return _INLINE.sub(shown, html.escape(text, quote=False))
