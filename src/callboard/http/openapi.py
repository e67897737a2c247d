"""The OpenAPI 3.1 document, from the same table and the same structs as the router."""

from __future__ import annotations

import inspect
import re
from collections.abc import Iterable, Mapping
from typing import Any, Final

import msgspec

from callboard.http import errors
from callboard.http.describing import Doc, codes_of, doc_of, markdown, parsed, without_codes
from callboard.http.route import JSON, Route
from callboard.operations import Operation, Parameter
from callboard.version import __version__

REF: Final = "#/components/schemas/{name}"
ON_BOARD: Final = "/boards/{board}/"
_NAMED = re.compile(r"\{(\w+)\}")

REFUSALS: Final = {
    400: ("A value is none of those that there are.", errors.ErrorBody),
    401: ("No key was sent, or it is not valid.", errors.ErrorBody),
    403: ("The key may not do this, or not here.", errors.ErrorBody),
    404: ("There is no such thing.", errors.MissingBody),
    408: ("The time to wait is over, or the request came too slowly.", errors.ErrorBody),
    409: ("A rule says no; nothing was changed.", errors.ErrorBody),
    413: ("What was sent, or what would be answered, is over its bound.", errors.ErrorBody),
    421: ("The request is for another host than this one.", errors.ErrorBody),
    422: ("What was sent cannot be used.", errors.InvalidBody),
    429: ("Too many requests. `Retry-After` says when to come again.", errors.ErrorBody),
    503: ("The engine is away. `Retry-After` says when to come again.", errors.ErrorBody),
}
"""What routes may answer besides their own, and what it holds."""

_OPEN: Final = (400, 404, 408, 413, 421, 422, 429, 503)
_VERBS: Final = frozenset({"GET", "POST", "PUT", "DELETE"})

TAGS: Final[Mapping[str, str]] = {
    "tasks": "Submitted, read, explained, steered; claimed, renewed, finished. Under "
    "`/boards/{board}` the same for the tasks of a board; without it for those of board `default`.",
    "dead_letters": "Tasks that failed for good, with every attempt kept.",
    "boards": "Listed, configured, paused, removed.",
    "agents": "Registered, heard, found, drained.",
    "scheduler": "Which agent is given which task, by what strategy, and why.",
    "load balancer": "The same in the documented shapes.",
    "messages": "What agents write to each other: inboxes, topics, requests, broadcasts.",
    "locks": "On resources, with an owner, a fence and a lease; deadlocks are found.",
    "context": "What agents share, and what each says it is doing.",
    "conflicts": "Who wants the same thing, and how it is decided.",
    "breakers": "Circuit breakers: asked before a call, told of its outcome.",
    "flow": "How many at once, how often and in which turns, by the keys of tasks.",
    "recurring": "Tasks that are submitted by the clock.",
    "errors": "What went wrong: recorded, counted, grouped.",
    "metrics": "Series of numbers, and what the boards measure of themselves.",
    "events": "The cursors and pages of the event stream; `GET /events` follows it.",
    "teams": "Teams of agents, by name and version.",
    "runs": "What teams were asked to do.",
    "access": "API keys and the audit log, of all namespaces of the engine.",
    "live": "Streams whose answers go on, and the socket of agents at `/ws`.",
    "system": "What the coordinator says of itself.",
}
"""What each group of routes is about, in the order in which they are shown."""

INTRODUCTION: Final = (
    "Everything that can be asked of a coordinator. Times are seconds, instants are UTC in "
    "ISO-8601. What a user named stands in the path percent-encoded: `file:src/a.py` is "
    "`file:src%2Fa.py`. An answer is `status`, the value under its own name, and `timestamp`; a "
    "refusal says `detail` and a stable `code`. Fields that are not known are refused, where the "
    "route does not say otherwise. A key is sent as `Authorization: Bearer …` or `X-API-Key`, a "
    "namespace as `X-Callboard-Namespace`."
)


def document(routes: Iterable[Route]) -> bytes:
    """The document as JSON. Sockets are not in it: OpenAPI has no word for them."""
    listed = [route for route in routes if route.verb in _VERBS]
    types = list(dict.fromkeys(_types_of(listed)))
    schemas, components = msgspec.json.schema_components(
        types, schema_hook=_schema_of, ref_template=REF
    )
    for schema in components.values():
        _describe(schema)
    schema_of = dict(zip(types, schemas, strict=True))
    paths: dict[str, dict[str, Any]] = {}
    for route in listed:
        paths.setdefault(route.path, {})[route.verb.lower()] = _operation(
            route, schema_of, components
        )
    used = {route.tag for route in listed}
    tags = [*TAGS, *sorted(used - set(TAGS))]
    return msgspec.json.encode(
        {
            "openapi": "3.1.0",
            "info": {
                "title": "Callboard coordinator",
                "version": __version__,
                "summary": "Coordinates teams of software agents.",
                "description": INTRODUCTION,
                "license": {"name": "Apache-2.0", "identifier": "Apache-2.0"},
            },
            "servers": [{"url": "/"}],
            "security": [{}, {"bearer": []}, {"key": []}],
            "tags": [
                {"name": tag, **({"description": TAGS[tag]} if tag in TAGS else {})}
                for tag in tags
                if tag in used
            ],
            "paths": paths,
            "components": {
                "schemas": components,
                "responses": {
                    str(status): {
                        "description": words,
                        "content": {JSON: {"schema": schema_of[struct]}},
                    }
                    for status, (words, struct) in REFUSALS.items()
                },
                "securitySchemes": {
                    "bearer": {"type": "http", "scheme": "bearer"},
                    "key": {"type": "apiKey", "in": "header", "name": "X-API-Key"},
                },
            },
        }
    )


def _types_of(routes: Iterable[Route]) -> Iterable[Any]:
    for _, struct in REFUSALS.values():
        yield struct
    for route in routes:
        for found in (route.body, route.query, *route.answers.values()):
            if found is not None:
                yield found


def _operation(route: Route, schema_of: dict[Any, Any], components: dict[str, Any]) -> Any:
    doc = doc_of(route.operation.function) if route.operation is not None else None
    said = names_of(route.operation)
    operation: dict[str, Any] = {
        "operationId": _id_of(route),
        "summary": without_codes(markdown(route.summary)),
        "tags": [route.tag],
        "parameters": [
            *_path_parameters(route, said),
            *_query_parameters(route, schema_of, components, said),
        ],
        "responses": _responses(route, schema_of, doc),
    }
    text = text_of(route, doc)
    if text:
        operation["description"] = text
    if route.role is not None:
        operation["x-role"] = route.role
    else:
        operation["security"] = []
    if route.needs_key:
        operation["security"] = [{"bearer": []}, {"key": []}]
    if route.body is not None:
        operation["requestBody"] = _body(route, schema_of, components, said)
    return operation


def text_of(route: Route, doc: Doc | None) -> str:
    """What is said of a route behind its first line, in Markdown."""
    if doc is None:
        return markdown(route.description)
    parts = [without_codes(doc.text)]
    if doc.returns:
        parts.append(f"Answers {doc.returns[0].lower()}{doc.returns[1:]}")
    refusals = codes_of(doc)
    if refusals:
        lines = [
            f"- `{kind.code}` ({errors.status_of(kind(''))}){f': {said}' if said else ''}"
            for kind, said in refusals
        ]
        parts.append("Refused with:\n\n" + "\n".join(lines))
    return "\n\n".join(part for part in parts if part)


def names_of(operation: Operation | None) -> dict[str, str]:
    """What is said of each parameter of an operation."""
    if operation is None:
        return {}
    found: dict[str, str] = {}
    if operation.fields is not None:
        found |= doc_of(operation.fields).names
    found |= doc_of(operation.function).names
    if operation.polls:
        found["poll"] = (
            "Seconds, up to 60, for which the request is held until there is something to answer."
        )
    return found


def _id_of(route: Route) -> str:
    if route.operation is not None:
        on_board = "_on_board" if route.path.startswith(ON_BOARD) else ""
        return f"{route.operation.service}_{route.operation.method}{on_board}"
    words = re.sub(r"[^A-Za-z0-9]+", "_", route.path).strip("_") or "root"
    return f"{route.verb.lower()}_{words}"


def _path_parameters(route: Route, said: Mapping[str, str]) -> list[dict[str, Any]]:
    return [
        {
            "name": name,
            "in": "path",
            "required": True,
            **_said(said, name),
            "schema": {"type": "string", "minLength": 1},
        }
        for name in _NAMED.findall(route.path)
    ]


def _query_parameters(
    route: Route, schema_of: dict[Any, Any], components: dict[str, Any], said: Mapping[str, str]
) -> list[dict[str, Any]]:
    if route.query is None:
        return []
    schema = _resolved(schema_of[route.query], components)
    required = schema.get("required", ())
    defaults = _defaults_of(route.operation)
    return [
        {
            "name": name,
            "in": "query",
            "required": name in required,
            **_said(said, name),
            **_place(_with_default(found, name, defaults)),
        }
        for name, found in schema["properties"].items()
    ]


def _place(schema: dict[str, Any]) -> dict[str, Any]:
    """Where the schema of a query's value stands: an object is sent as JSON."""
    kinds = [schema, *schema.get("anyOf", ())]
    if any(one.get("type") == "object" for one in kinds):
        return {"content": {JSON: {"schema": schema}}}
    if any(one.get("type") == "array" for one in kinds):
        return {"schema": schema, "style": "form", "explode": True}
    return {"schema": schema}


def _body(
    route: Route, schema_of: dict[Any, Any], components: dict[str, Any], said: Mapping[str, str]
) -> dict[str, Any]:
    schema = _resolved(schema_of[route.body], components)
    defaults = _defaults_of(route.operation)
    for name, found in schema.get("properties", {}).items():
        schema["properties"][name] = {**_with_default(found, name, defaults), **_said(said, name)}
    content: dict[str, Any] = {"schema": schema_of[route.body]}
    if route.example is not None:
        content["example"] = route.example
    return {"required": bool(schema.get("required")), "content": {JSON: content}}


def _resolved(schema: dict[str, Any], components: dict[str, Any]) -> dict[str, Any]:
    found: dict[str, Any] = schema
    while "$ref" in found:
        found = components[found["$ref"].rpartition("/")[2]]
    return found


def _said(said: Mapping[str, str], name: str) -> dict[str, str]:
    return {"description": said[name]} if said.get(name) else {}


def _defaults_of(operation: Operation | None) -> dict[str, Any]:
    """The defaults of parameters that have a form in JSON; none is sent."""
    if operation is None:
        return {}
    given = inspect.signature(operation.function).parameters
    parameters: Iterable[Parameter] = operation.parameters
    return {
        one.name: given[one.name].default
        for one in parameters
        if one.name in given and isinstance(given[one.name].default, str | int | float)
    }


def _with_default(schema: dict[str, Any], name: str, defaults: Mapping[str, Any]) -> dict[str, Any]:
    return {**schema, "default": defaults[name]} if name in defaults else schema


def _responses(route: Route, schema_of: dict[Any, Any], doc: Doc | None) -> dict[str, Any]:
    found: dict[str, Any] = {}
    for status, struct in route.answers.items():
        answer: dict[str, Any] = {"description": _words_of(status, doc)}
        if status != 204:
            content: dict[str, Any] = {route.content_type: {}}
            if struct is not None:
                content = {
                    route.content_type if status < 300 else JSON: {"schema": schema_of[struct]}
                }
            answer["content"] = content
        found[str(status)] = answer
    for status in REFUSALS:
        if str(status) not in found and (route.role is not None or status in _OPEN):
            found[str(status)] = {"$ref": f"#/components/responses/{status}"}
    return found


def _words_of(status: int, doc: Doc | None) -> str:
    if status >= 300:
        return REFUSALS[status][0] if status in REFUSALS else "Refused."
    if status == 204:
        return "There is nothing more."
    return (doc.returns if doc is not None else "") or "Done."


def _describe(schema: dict[str, Any]) -> None:
    """Put what a struct's docstring says of its fields beside them."""
    text = schema.get("description")
    if not text:
        return
    doc = parsed(inspect.cleandoc(text))
    schema["description"] = "\n\n".join(part for part in (doc.summary, doc.text) if part)
    for name, found in schema.get("properties", {}).items():
        if doc.names.get(name):
            schema["properties"][name] = {**found, "description": doc.names[name]}


def _schema_of(type_: Any) -> dict[str, Any]:
    """The schema of a type that msgspec has none for: any value."""
    return {}
