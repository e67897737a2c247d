"""The router: fixed words before values, names with anything in them, verbs that there are."""

from __future__ import annotations

from typing import Any

import pytest

from callboard.http.route import Route, Router


async def _nothing(_: Any) -> None:
    return None


def _route(verb: str, path: str) -> Route:
    return Route(verb=verb, path=path, handle=_nothing, role=None, summary="")


ROUTER = Router(
    [
        _route("GET", "/"),
        _route("GET", "/tasks"),
        _route("POST", "/tasks"),
        _route("GET", "/tasks/status"),
        _route("GET", "/tasks/{task_id}"),
        _route("DELETE", "/tasks/{task_id}"),
        _route("GET", "/boards/{board}/tasks/{task_id}"),
        _route("PUT", "/topics/{topic}/subscribers/{agent}"),
        _route("GET", "/a/{x}/c"),
        _route("GET", "/a/b/{y}"),
    ]
)


@pytest.mark.parametrize(
    ("verb", "path", "found", "values"),
    [
        ("GET", b"/", "/", {}),
        ("GET", b"/tasks", "/tasks", {}),
        ("GET", b"/tasks/", "/tasks", {}),
        ("GET", b"/tasks/status", "/tasks/status", {}),
        ("GET", b"/tasks/t-1", "/tasks/{task_id}", {"task_id": "t-1"}),
        ("DELETE", b"/tasks/status", "/tasks/{task_id}", {"task_id": "status"}),
        ("GET", b"/tasks/a%2Fb", "/tasks/{task_id}", {"task_id": "a/b"}),
        ("GET", b"/tasks/%C3%A9t%C3%A9", "/tasks/{task_id}", {"task_id": "été"}),
        (
            "GET",
            b"/boards/b/tasks/t",
            "/boards/{board}/tasks/{task_id}",
            {"board": "b", "task_id": "t"},
        ),
        ("GET", b"/a/b/c", "/a/b/{y}", {"y": "c"}),
        ("GET", b"/a/z/c", "/a/{x}/c", {"x": "z"}),
    ],
    ids=[
        *("root", "plain", "slash-at-the-end", "fixed-first", "value", "value-of-another-verb"),
        *("slash-in-a-name", "letters", "two-values", "leftmost-fixed", "back-from-a-dead-end"),
    ],
)
def test_a_path_leads_to_its_route_and_its_values(
    verb: str, path: bytes, found: str, values: dict[str, str]
) -> None:
    route, given = ROUTER.find(verb, path)

    assert isinstance(route, Route)
    assert (route.path, given) == (found, values)


@pytest.mark.parametrize(
    ("verb", "path", "verbs"),
    [
        ("PUT", b"/tasks", ("GET", "POST")),
        ("POST", b"/tasks/t-1", ("DELETE", "GET")),
        ("POST", b"/tasks/status", ("DELETE", "GET")),
        ("GET", b"/nothing", ()),
        ("GET", b"/boards//tasks/t", ()),
        ("GET", b"/tasks/%ff", ()),
        ("GET", b"//tasks", ()),
        ("GET", b"/tasks/t/x", ()),
    ],
    ids=[
        *("verb", "verb-of-a-value", "verbs-of-both", "unknown", "empty-name", "no-utf-8"),
        *("empty-first", "too-deep"),
    ],
)
def test_what_leads_nowhere_names_the_verbs_that_would(
    verb: str, path: bytes, verbs: tuple[str, ...]
) -> None:
    assert ROUTER.find(verb, path) == verbs


def test_a_route_cannot_be_there_twice() -> None:
    with pytest.raises(ValueError, match="twice"):
        Router([_route("GET", "/x/{a}"), _route("GET", "/x/{b}")])
