"""Names: what is one, and that one that is none costs nothing afterwards."""

from __future__ import annotations

import pytest

from callboard.domain.names import _is_name, check_name
from callboard.exceptions import InvalidArgument


def test_a_name_that_is_too_long_is_refused_in_a_few_words_and_not_kept() -> None:
    _is_name.cache_clear()

    with pytest.raises(InvalidArgument) as refused:
        check_name("message id", "x" * 1_000_000)
    longest = check_name("message id", "x" * 128)

    assert len(str(refused.value)) < 200
    assert len(longest) == 128
    assert _is_name.cache_info().currsize == 1
