"""What a coordinator can be asked: complete, and without two meanings of one path."""

from __future__ import annotations

import inspect
import typing
from collections.abc import Iterator

from callboard.app import Callboard
from callboard.http import documented
from callboard.http.routes import all_routes
from callboard.operations import LOCAL, OPERATIONS


def _services() -> Iterator[tuple[str, type]]:
    for name, kind in typing.get_type_hints(Callboard).items():
        if inspect.isclass(kind) and kind.__module__.startswith("callboard.") and name != "facts":
            yield name, kind


def _asynchronous(*, also_private: bool = False) -> Iterator[str]:
    for service, kind in _services():
        for name, method in inspect.getmembers(kind):
            is_wanted = also_private or not name.startswith("_")
            if is_wanted and (
                inspect.iscoroutinefunction(method) or inspect.isasyncgenfunction(method)
            ):
                yield f"{service}.{name}"


def test_every_public_service_method_has_a_route_or_a_reason_to_have_none() -> None:
    missing = [one for one in _asynchronous() if one not in OPERATIONS and one not in LOCAL]

    assert missing == []


def test_no_operation_and_no_reason_is_of_a_method_that_is_not_there() -> None:
    # Some are private: what only a client asks, on behalf of those who wait there.
    known = set(_asynchronous(also_private=True))

    assert [one for one in (*OPERATIONS, *LOCAL) if one not in known] == []


def test_nothing_is_both_an_operation_and_made_of_others() -> None:
    assert set(OPERATIONS) & set(LOCAL) == set()


def test_an_operation_is_the_method_of_its_name() -> None:
    kinds = dict(_services())

    assert [
        name
        for name, one in OPERATIONS.items()
        if inspect.unwrap(getattr(kinds[one.service], one.method)) is not one.function
    ] == []


def test_no_operation_is_hidden_by_a_documented_route() -> None:
    served = {route.operation.name for route in all_routes() if route.operation is not None}

    assert set(OPERATIONS) - served == set()


def test_no_name_of_a_users_thing_is_taken_by_a_fixed_path() -> None:
    """``GET /agents/counts`` would hide an agent of that name; only the documented ones may."""
    excused = {(route.verb, route.path) for route in documented.routes()}
    shapes = [(route.verb, tuple(route.path.split("/")[1:])) for route in all_routes()]

    hidden = [
        (verb, "/".join(parts), "/".join(others))
        for verb, parts in shapes
        if (verb, "/" + "/".join(parts)) not in excused
        for other_verb, others in shapes
        if verb == other_verb and _hides(parts, others)
    ]

    assert hidden == []


def _hides(fixed: tuple[str, ...], other: tuple[str, ...]) -> bool:
    """The paths meet, and where they differ *fixed* has a word and the other takes any value."""
    if len(fixed) != len(other) or fixed == other:
        return False
    pairs = [(one, two) for one, two in zip(fixed, other, strict=True) if one != two]
    return all(not one.startswith("{") and two.startswith("{") for one, two in pairs)


def test_reading_takes_the_role_read_and_the_access_of_others_admin() -> None:
    wrong = [
        name
        for name, one in OPERATIONS.items()
        if (one.verb == "GET" and one.role != "read" and one.service != "access")
        or (one.service == "access" and one.role != "admin")
    ]

    assert wrong == []


def test_what_answers_a_list_is_bounded_by_a_limit_or_by_how_many_can_be_stored() -> None:
    bounded = {
        # A bound on how many there can be stands in the function that makes them.
        *("access.list", "teams.versions", "tasks.notes", "tasks.attempts", "messages.copies"),
        "dead_letters.get",  # a pair
    }
    lists = [
        name
        for name, one in OPERATIONS.items()
        if one.verb == "GET"
        and typing.get_origin(one.answer) in (list, tuple)
        and not {"limit", "count"} & {part.name for part in one.parameters}
    ]

    assert sorted(set(lists) - bounded) == []
