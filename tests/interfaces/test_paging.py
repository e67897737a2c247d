"""Lists that come by pages are shown whole."""

from __future__ import annotations

import pytest

from callboard.cli.paging import PAGE, all_of


@pytest.mark.parametrize("count", [0, 1, PAGE, PAGE + 1, 2 * PAGE])
async def test_a_list_is_read_to_its_end_and_no_further(count: int) -> None:
    asked: list[int] = []

    async def list_page(*, limit: int, skip: int) -> list[int]:
        asked.append(skip)
        return list(range(count))[skip : skip + limit]

    assert await all_of(list_page) == list(range(count))
    assert asked == list(range(0, count + 1, PAGE))
