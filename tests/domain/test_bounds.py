"""What callers give besides names."""

from __future__ import annotations

from typing import Any

import pytest

from callboard.domain.bounds import DEPTH_MAX, check_list, check_text, is_deeper
from callboard.exceptions import InvalidArgument


@pytest.mark.parametrize("value", [None, 5, b"text"], ids=["nothing", "number", "bytes"])
def test_what_is_no_string_is_no_text(value: Any) -> None:
    with pytest.raises(InvalidArgument, match="note must be a string"):
        check_text("note", value)


@pytest.mark.parametrize("text", ["\udc80", "wörter \ud83d"], ids=["low", "high"])
def test_half_a_character_is_refused_and_the_message_can_be_written(text: str) -> None:
    with pytest.raises(InvalidArgument, match="note has half a character") as caught:
        check_text("note", text)

    assert str(caught.value).encode()


@pytest.mark.parametrize("text", ["", "plain", "wörter 🦊\n|\0"], ids=["empty", "plain", "all"])
def test_any_text_that_can_be_written_is_one(text: str) -> None:
    assert check_text("note", text) == text


@pytest.mark.parametrize(
    "value", [None, 5, "text", b"text", {"a": 1}], ids=["nothing", "number", "text", "bytes", "map"]
)
def test_what_is_no_list_is_refused(value: Any) -> None:
    with pytest.raises(InvalidArgument, match="ids must be a list"):
        check_list("ids", value)


@pytest.mark.parametrize(
    ("opening", "inner", "closing"),
    [
        (b"[", b"", b"]"),
        (b"[1,[],", b"2", b",[]]"),
        (b'{"k]":', b"1", b"}"),
        (b'{"\\"[{":[[],', b'"\\\\"', b"]}"),
    ],
    ids=["lists", "siblings", "brackets-in-keys", "escapes"],
)
def test_levels_are_counted_outside_of_strings(
    opening: bytes, inner: bytes, closing: bytes
) -> None:
    each = 2 if b":[" in opening else 1
    most = DEPTH_MAX // each

    def nested(times: int) -> bytes:
        return opening * times + inner + closing * times

    deepest = is_deeper(nested(most - 1), DEPTH_MAX), is_deeper(nested(most + 1), DEPTH_MAX)
    assert deepest == (False, True)


@pytest.mark.parametrize(
    "text",
    [b'"' + b"[" * 1_000_000 + b'"', b"[" + b"[]," * 300_000 + b"[]]", b"\\" * 1_000_000],
    ids=["string", "siblings", "no-json"],
)
def test_what_has_many_brackets_and_few_levels_is_not_deep(text: bytes) -> None:
    assert not is_deeper(text, DEPTH_MAX)


def test_an_iterator_is_a_list() -> None:
    assert check_list("ids", iter("ab")) == ["a", "b"]
