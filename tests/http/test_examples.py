"""Every example of the page about this interface, pasted as it stands there."""

from __future__ import annotations

import html
import json
import re
import shlex
from collections.abc import AsyncIterator, Iterator
from typing import Any, NamedTuple

import pytest
import pytest_asyncio

from callboard.http import openapi, pages
from callboard.http.routes import all_routes
from callboard.http.security import AccessSettings, secure
from tests.engine.connection_support import Engine
from tests.http.support import Served, serving

pytestmark = pytest.mark.timeout(300)

ADDRESS = "http://localhost:9001"
ABSENT = {"lease_lost", "lock_lost"}
"""Refusals of what nobody holds, besides 404."""

UNANSWERED = {"POST /requests/answered": 408}
"""What waits for somebody who is not there."""


class Example(NamedTuple):
    """One call as it is pasted."""

    name: str
    verb: str
    path: str
    headers: dict[str, str]
    body: bytes | None
    is_stream: bool


def pasted(name: str, text: str) -> Example:
    words = shlex.split(text.replace("\\\n", " "))
    assert words[0] == "curl"
    address = next(word for word in words if word.startswith(ADDRESS))
    given = [words[at + 1] for at, word in enumerate(words) if word == "-H"]
    return Example(
        name=name,
        verb=words[words.index("-X") + 1] if "-X" in words else "GET",
        path=address.removeprefix(ADDRESS),
        headers=dict(one.split(": ", 1) for one in given),
        body=words[words.index("-d") + 1].encode() if "-d" in words else None,
        is_stream="-N" in words,
    )


def of_page() -> Iterator[Example]:
    """The examples that the page shows; one that is for boards too is shown once."""
    page = pages.docs(openapi.document(all_routes())).decode()
    for block in re.findall(r'<details class="route".*?</details>', page, re.DOTALL):
        found = re.search(r"<h4>Example</h4><pre>(.*?)</pre>", block, re.DOTALL)
        if found:
            verb, path = re.findall(r"<summary><b[^>]*>(\w+)</b> <code>(.*?)</code>", block)[0]
            name = f"{verb} {html.unescape(path.replace('<wbr>', ''))}"
            yield pasted(name, html.unescape(found[1]))


EXAMPLES = list(of_page())


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def served() -> AsyncIterator[Served]:
    """A coordinator behind its guard; each example is for a namespace of its own."""

    def guard(app: Any) -> Any:
        coordinator = app.coordinator

        async def access() -> Any:
            return (await coordinator.board("main")).access

        return secure(app.app, AccessSettings(), access)

    with Engine() as engine:
        async with serving(engine.url, wrap=guard, namespace="main") as found:
            yield found


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def key(served: Served) -> str:
    made = await served.ok("POST", "/keys", {"name": "reader", "role": "admin"})
    return str(made["issued"]["secret"])


def test_the_page_has_an_example_of_every_route() -> None:
    document = json.loads(openapi.document(all_routes()))
    routes = {
        f"{verb.upper()} {path}"
        for path, verbs in document["paths"].items()
        for verb, operation in verbs.items()
        if not operation["operationId"].endswith(pages.ON_BOARD)
    }

    assert {one.name for one in EXAMPLES} == routes
    assert len(routes) > 200


def test_an_example_of_the_documented_routes_says_what_is_to_be_done() -> None:
    (submit,) = [one for one in EXAMPLES if one.name == "POST /tasks/submit"]

    assert json.loads(submit.body or b"")["task_data"]["task_type"] == "summarise"
    assert [one.name for one in EXAMPLES if one.body and "…" in one.body.decode()] == []


@pytest.mark.asyncio(loop_scope="module")
@pytest.mark.parametrize("example", EXAMPLES, ids=lambda one: one.name)
async def test_an_example_does_something_where_it_is_pasted(
    served: Served, key: str, example: Example
) -> None:
    headers = {"x-callboard-namespace": re.sub(r"\W+", "-", example.name).strip("-").lower()}
    for name, value in example.headers.items():
        headers[name.lower()] = value.replace("$CALLBOARD_API_KEY", key)

    async with served.client.stream(
        example.verb, example.path, headers=headers, content=example.body, timeout=60
    ) as answer:
        text = "" if example.is_stream else (await answer.aread()).decode()

    status = answer.status_code
    if status == 409:
        assert json.loads(text)["code"] in ABSENT, text
    else:
        assert status == UNANSWERED.get(example.name, status), text
        assert status < 300 or status in (404, 408), text
