"""The document of what is served, and the page that shows it to people."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from html.parser import HTMLParser
from typing import Any

import jsonschema_rs
import pytest
import schemathesis

from callboard import exceptions
from callboard.exceptions import CallboardError
from callboard.http import errors, openapi, pages
from callboard.http.route import Route
from callboard.http.routes import all_routes
from callboard.operations import OPERATIONS
from tests.http.support import Served

ROUTES = [route for route in all_routes() if route.verb != "WEBSOCKET"]
DOCUMENT: dict[str, Any] = json.loads(openapi.document(ROUTES))
VERBS = ("get", "post", "put", "delete")


def _documented() -> Iterator[tuple[str, str, dict[str, Any]]]:
    for path, verbs in DOCUMENT["paths"].items():
        for verb in VERBS:
            if verb in verbs:
                yield path, verb, verbs[verb]


def _references(value: Any) -> Iterator[str]:
    if isinstance(value, dict):
        for name, one in value.items():
            if name == "$ref" and isinstance(one, str):
                yield one
            else:
                yield from _references(one)
    elif isinstance(value, list):
        for one in value:
            yield from _references(one)


def test_the_document_is_one_of_openapi_3_1() -> None:
    schemathesis.openapi.from_dict(DOCUMENT).validate()

    assert DOCUMENT["openapi"] == "3.1.0"
    assert set(DOCUMENT) <= {
        *("openapi", "info", "servers", "security", "tags", "paths", "components")
    }


def test_every_schema_is_one_of_json_schema_2020_12() -> None:
    for name, schema in DOCUMENT["components"]["schemas"].items():
        jsonschema_rs.meta.validate(
            {"$schema": "https://json-schema.org/draft/2020-12/schema", **schema}
        )
        assert re.fullmatch(r"[A-Za-z0-9_-]+", name)  # Not a module's: two of one name have those.


def test_what_is_said_of_fields_stands_beside_each_and_not_in_one_heap() -> None:
    schemas = DOCUMENT["components"]["schemas"]

    assert not [
        name for name, one in schemas.items() if "Attributes:" in one.get("description", "")
    ]
    assert schemas["Limits"]["properties"]["burst"]["description"] == (
        "Claims that may come at once after a quiet time."
    )


def test_every_reference_leads_to_something() -> None:
    for reference in set(_references(DOCUMENT)):
        found: Any = DOCUMENT
        for part in reference.removeprefix("#/").split("/"):
            found = found[part]
        assert isinstance(found, dict)


def test_every_route_is_in_the_document_once_under_an_id_of_its_own() -> None:
    documented = [(verb.upper(), path) for path, verb, _ in _documented()]
    ids = [known["operationId"] for _, _, known in _documented()]

    assert sorted(documented) == sorted((route.verb, route.path) for route in ROUTES)
    assert len(set(ids)) == len(ids)


def test_every_value_of_a_path_is_a_parameter() -> None:
    for path, _, known in _documented():
        named = {one["name"] for one in known["parameters"] if one["in"] == "path"}
        assert named == set(re.findall(r"\{(\w+)\}", path))


def test_every_route_says_its_role_or_that_anybody_may_ask() -> None:
    roles = {(route.verb, route.path): route.role for route in ROUTES}

    for path, verb, known in _documented():
        role = roles[verb.upper(), path]
        assert known.get("x-role") == role
        if (verb, path) == ("post", "/tickets"):  # there, nothing can be done without a key
            assert known["security"] == [{"bearer": []}, {"key": []}]
        else:
            assert known.get("security") == ([] if role is None else None)


def test_every_route_has_words_and_every_group_too() -> None:
    assert all(known["summary"] for _, _, known in _documented())
    assert all(tag["description"] for tag in DOCUMENT["tags"])
    assert "Raises" not in json.dumps([known["summary"] for _, _, known in _documented()])


def test_a_body_is_required_exactly_where_one_of_its_fields_is() -> None:
    for _, _, known in _documented():
        if "requestBody" in known:
            schema = known["requestBody"]["content"]["application/json"]["schema"]
            while "$ref" in schema:
                schema = DOCUMENT["components"]["schemas"][schema["$ref"].rpartition("/")[2]]
            assert known["requestBody"]["required"] == bool(schema.get("required"))


def test_an_example_is_valid_by_its_own_schema() -> None:
    components = DOCUMENT["components"]
    examples = 0
    for path, verb, known in _documented():
        media = known.get("requestBody", {}).get("content", {}).get("application/json", {})
        if "example" in media:
            examples += 1
            schema = {**media["schema"], "components": components}
            assert jsonschema_rs.is_valid(schema, media["example"]), (verb, path)
    assert examples > 40


def test_what_an_operation_is_refused_with_is_told_by_code_and_status() -> None:
    known = DOCUMENT["paths"]["/tasks/{task_id}/complete"]["post"]

    assert "`lease_lost` (409): The fence is stale" in known["description"]
    assert {"404", "409", "422", "503"} <= set(known["responses"])


def test_no_error_has_a_status_that_is_not_documented() -> None:
    documented = {int(status) for status in DOCUMENT["components"]["responses"]}
    kinds = [kind for kind in vars(exceptions).values() if isinstance(kind, type)]
    statuses = {errors.status_of(kind("x")) for kind in kinds if issubclass(kind, CallboardError)}

    assert len(statuses) > 4
    assert statuses <= documented | {500}


async def test_a_running_coordinator_serves_the_document_the_page_and_its_style(
    served: Served,
) -> None:
    document = await served.ok("GET", "/openapi.json")
    page = await served.call("GET", "/docs")
    style = await served.call("GET", "/docs.css")

    assert document == DOCUMENT
    assert page.headers["content-type"] == pages.HTML
    assert style.headers["content-type"] == pages.CSS
    assert all(f'id="{one.service}_{one.method}"' in page.text for one in OPERATIONS.values())


class Elements(HTMLParser):
    """What a page loads, links and names."""

    def __init__(self) -> None:
        super().__init__()
        self.tags: set[str] = set()
        self.loads: list[str] = []
        self.links: list[str] = []
        self.ids: list[str] = []
        self.inline: list[str] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.add(tag)
        for name, value in attrs:
            if name == "src" or (tag == "link" and name == "href"):
                self.loads.append(value or "")
            elif name == "href":
                self.links.append(value or "")
            elif name == "id":
                self.ids.append(value or "")
            elif name == "style" or name.startswith("on"):
                self.inline.append(name)


@pytest.fixture(scope="module")
def page() -> Elements:
    elements = Elements()
    elements.feed(pages.docs(openapi.document(ROUTES)).decode())
    return elements


def test_the_page_loads_nothing_but_its_style_and_holds_no_script(page: Elements) -> None:
    assert page.loads == ["docs.css"]
    assert page.tags.isdisjoint({"script", "style", "iframe", "img"})
    assert page.inline == []


def test_every_link_of_the_page_leads_somewhere_on_it(page: Elements) -> None:
    wanted = {link.removeprefix("#") for link in page.links if link.startswith("#")}

    assert wanted - set(page.ids) == set()
    assert len(page.ids) == len(set(page.ids))
    assert {link for link in page.links if not link.startswith("#")} == {"openapi.json"}


def test_what_is_shown_cannot_become_part_of_the_page() -> None:
    route = Route(
        verb="GET",
        path="/x",
        handle=_nothing,
        role="read",
        summary="<script>alert(1)</script> & `<b>`",
        tag="<i>",
        answers={200: None},
    )

    text = pages.docs(openapi.document([route])).decode()

    assert "<script>" not in text
    assert "&lt;script&gt;" in text
    assert "<i>" not in text


async def _nothing(_: Any) -> None:
    return None


@pytest.mark.parametrize(
    ("path", "said"),
    [
        ("/tasks/claim", "curl -X POST http://localhost:9001/tasks/claim"),
        ("/locks/{resource}/check", "'http://localhost:9001/locks/file:src%2Fa.py/check?fence=1'"),
        ("/events", "curl -N http://localhost:9001/events"),
    ],
    ids=["body", "query", "stream"],
)
def test_a_route_has_a_call_that_can_be_pasted(path: str, said: str) -> None:
    verb = next(iter(DOCUMENT["paths"][path]))

    text = pages.curl_of(
        verb.upper(), path, DOCUMENT["paths"][path][verb], DOCUMENT["components"]["schemas"]
    )

    assert said in text
