"""The table of operations: what is sent and answered keeps its value on the way."""

from __future__ import annotations

import inspect
from typing import Any, get_type_hints

import msgspec
import pytest

from callboard.domain.message import PEERS, Hearing, MessageSpec, Role, Topic
from callboard.exceptions import InvalidArgument
from callboard.operations import LOCAL, OPERATIONS, Operation, find
from callboard.operations.examples import EXAMPLES
from callboard.operations.operation import plain
from callboard.operations.wires import address_sent, address_taken
from tests.operations.samples import sample

ALL = list(OPERATIONS.values())
FULL = pytest.mark.parametrize("is_full", [True, False], ids=["all-fields", "few-fields"])
EACH = pytest.mark.parametrize("operation", ALL, ids=lambda one: one.name)


def _again(value: Any, kind: Any) -> Any:
    return msgspec.json.decode(msgspec.json.encode(value), type=kind)


@FULL
@EACH
def test_arguments_keep_their_values_as_json(operation: Operation, is_full: bool) -> None:
    given = sample(operation.arguments, is_full)

    assert _again(given, operation.arguments) == given


@FULL
@EACH
def test_answers_keep_their_values_as_json(operation: Operation, is_full: bool) -> None:
    given = sample(operation.envelope, is_full)

    assert _again(given, operation.envelope) == given


@EACH
def test_every_parameter_of_a_method_is_sent_or_said_to_be_hidden(operation: Operation) -> None:
    signature = inspect.signature(operation.function)
    sent = {one.name for one in operation.parameters}
    named = {
        name
        for name, one in list(signature.parameters.items())[1:]
        if one.kind is not one.VAR_KEYWORD
    }

    assert named - sent == operation.hidden & named
    assert operation.fields is not None or "fields" not in sent or "fields" in named


@EACH
def test_what_stands_in_a_path_is_a_text_that_is_needed(operation: Operation) -> None:
    in_path = [one for one in operation.parameters if one.place == "path"]

    assert operation.path.count("{") == len(in_path)
    assert all(one.type is str and one.is_required for one in in_path)


@EACH
def test_no_value_of_an_answer_is_left_without_its_name(operation: Operation) -> None:
    returns = plain(get_type_hints(operation.function).get("return"))

    assert bool(operation.answers) == (returns is not type(None))


@pytest.mark.parametrize("name", sorted(EXAMPLES))
def test_an_example_is_what_may_be_sent(name: str) -> None:
    operation = find(name)

    msgspec.convert(EXAMPLES[name], operation.body)


def test_an_unknown_operation_is_refused_with_the_nearest() -> None:
    with pytest.raises(InvalidArgument, match=r"tasks\.submit"):
        find("tasks.submitt")


def test_reasons_are_given_for_what_is_no_operation() -> None:
    assert all(LOCAL.values())


@pytest.mark.parametrize(
    "to",
    ["mira", ["mira", "noor"], Topic("news"), PEERS, Role(capabilities=("code",))],
    ids=["agent", "agents", "topic", "group", "role"],
)
def test_every_address_travels(to: Any) -> None:
    kind = next(one.type for one in find("messages.send").parameters if one.name == "to")

    assert address_taken(_again(address_sent(to), kind)) == to


class Recorder:
    """A service that only notes how it was called."""

    def __init__(self) -> None:
        self.calls: list[tuple[str, tuple[Any, ...], dict[str, Any]]] = []

    def __getattr__(self, name: str) -> Any:
        async def method(*args: Any, **named: Any) -> None:
            self.calls.append((name, args, named))

        return method


async def test_what_is_sent_becomes_the_arguments_of_the_method() -> None:
    service = Recorder()
    body = find("locks.acquire").body(resources=["a", "b"], owner="job", wait=0.0)

    await find("locks.acquire").perform(service, body)

    assert service.calls == [("acquire", ("a", "b"), {"owner": "job", "wait": 0.0})]


async def test_what_is_for_the_coordinator_does_not_reach_the_method() -> None:
    service = Recorder()
    operation = find("messages.take")

    await operation.perform(service, {"agent": "mira", "poll": 5.0, "limit": 2})

    assert service.calls == [("take", (), {"agent": "mira", "limit": 2})]


async def test_a_hearing_travels_as_its_place_and_a_spec_with_its_address() -> None:
    service = Recorder()
    heard, batch = find("messages.heard"), find("messages.send_many")
    hearing = Hearing(messages=(), fence=3, upto=9)
    values = heard.sent({"agent": "mira", "hearing": hearing})
    specs = batch.sent({"specs": [MessageSpec(to=Topic("news"))]})

    await heard.perform(service, _again(values, heard.arguments))
    await batch.perform(service, _again(specs, batch.arguments))

    assert service.calls[0][2]["hearing"] == hearing
    assert service.calls[1][2]["specs"][0].to == Topic("news")


async def test_who_did_it_is_anonymous_where_nobody_says_and_it_must_be_said() -> None:
    service = Recorder()

    await find("conflicts.decide").perform(service, {"conflict_id": "c", "winner": "mira"})
    await find("boards.pause").perform(service, {"name": "b"})

    assert service.calls[0][2]["by"] == "anonymous"
    assert "by" not in service.calls[1][2]
