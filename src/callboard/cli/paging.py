"""Lists that come by pages, read to their end."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Any, Final

PAGE: Final = 1_000


async def all_of(list_page: Callable[..., Awaitable[list[Any]]]) -> list[Any]:
    """All that ``list_page(limit=…, skip=…)`` lists, page by page."""
    found: list[Any] = []
    while True:
        page = await list_page(limit=PAGE, skip=len(found))
        found += page
        if len(page) < PAGE:
            return found
