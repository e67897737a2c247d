"""What callers give besides names."""

from __future__ import annotations

from typing import Any

import pytest

from callboard.domain.bounds import check_list, check_text
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


def test_an_iterator_is_a_list() -> None:
    assert check_list("ids", iter("ab")) == ["a", "b"]
