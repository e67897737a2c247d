"""What comes before what: an order of things that need each other, or the circle they are in.

Nothing here recurses, so a chain of 10,000 is as safe as a fan of 10,000.
"""

from __future__ import annotations

import heapq
from collections.abc import Iterable, Sequence
from typing import Final, Protocol, TypeVar

from callboard.exceptions import DependencyCycle

_CYCLE_NAMES_MAX: Final = 12


class Sortable(Protocol):
    """What :func:`sort_batch` needs to see of an item."""

    @property
    def id(self) -> str | None:
        """The item's id; None if nothing can refer to it yet."""

    @property
    def depends_on(self) -> Iterable[str]:
        """Ids of the items and tasks before this one."""


SortableT = TypeVar("SortableT", bound=Sortable)


def sort_batch(items: Iterable[SortableT]) -> list[SortableT]:
    """Put every item after the items of the same batch that it depends on.

    Stable: an order that is already right is kept as it is. Ids outside the batch are
    left to the board. Where two items share an id, references mean the first.

    Raises:
        DependencyCycle: The batch cannot be ordered; ``details["cycle"]`` is the list
            of ids, each depending on the next and the last on the first.
    """
    batch = list(items)
    position: dict[str, int] = {}
    for index, item in enumerate(batch):
        if item.id is not None:
            position.setdefault(item.id, index)
    needs = [
        tuple(position[need] for need in dict.fromkeys(item.depends_on) if need in position)
        for item in batch
    ]
    order = topological(needs)
    if len(order) < len(batch):
        raise cycle_error([str(batch[index].id) for index in cycle_of(needs, order)])
    return [batch[index] for index in order]


def topological(needs: Sequence[Sequence[int]]) -> list[int]:
    """Order positions after what they need (Kahn 1962); those behind a cycle are left out."""
    behind: list[list[int]] = [[] for _ in needs]
    for index, before in enumerate(needs):
        for need in before:
            behind[need].append(index)
    open_needs = [len(before) for before in needs]
    free = [index for index, count in enumerate(open_needs) if not count]
    order: list[int] = []
    while free:
        index = heapq.heappop(free)
        order.append(index)
        for after in behind[index]:
            open_needs[after] -= 1
            if not open_needs[after]:
                heapq.heappush(free, after)
    return order


def cycle_of(needs: Sequence[Sequence[int]], placed: Iterable[int]) -> list[int]:
    """Walk from need to need among the positions that found no place until one repeats.

    Each of them needs another of them, else it would have been placed, so the walk
    ends in a cycle. The cycle starts at its earliest position.
    """
    left = set(range(len(needs))).difference(placed)
    steps: dict[int, int] = {}
    index = min(left)
    while index not in steps:
        steps[index] = len(steps)
        index = next(need for need in needs[index] if need in left)
    cycle = list(steps)[steps[index] :]
    start = cycle.index(min(cycle))
    return cycle[start:] + cycle[:start]


def cycle_error(cycle: list[str]) -> DependencyCycle:
    """The refusal of a circle, of which a long one is told by its ends."""
    named = cycle
    if len(cycle) > _CYCLE_NAMES_MAX:
        half = _CYCLE_NAMES_MAX // 2
        named = [*cycle[:half], f"({len(cycle) - 2 * half} more)", *cycle[-half:]]
    circle = " -> ".join([*named, cycle[0]])
    return DependencyCycle(
        f"Tasks depend on each other in a circle: {circle} (each needs the next)."
        " None of them could ever start. Remove one of these dependencies and submit again.",
        cycle=cycle,
    )
