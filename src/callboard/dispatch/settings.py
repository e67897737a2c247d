"""What can be set for a dispatcher, and within which bounds."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

import msgspec

from callboard.domain.board import DEFAULT_BOARD
from callboard.domain.names import check_name
from callboard.domain.strategy import BEST_IDLE, DISPATCH_STRATEGY, check_built_in
from callboard.exceptions import InvalidArgument

PUSH_PATH: Final = "/tasks/execute"
"""What is appended to an agent's endpoint ``http``."""

ALL_BOARDS: Final = "*"
"""Among ``boards``: every board of the namespace, those too that come later."""

_SECONDS: Final[Mapping[str, tuple[float, float]]] = {
    "push_timeout": (0.05, 300),
    "lease": (1, 3_600),
    "take_up": (1, 3_600),
    "delay": (0, 3_600),
    "delay_most": (0, 3_600),
    "rest": (0.01, 3_600),
    "rest_most": (0.01, 3_600),
    "poll": (0.05, 60),
    "stop_timeout": (0, 300),
}
_COUNTS: Final[Mapping[str, tuple[int, int]]] = {
    "reserve_most": (1, 1_000),
    "per_agent": (1, 1_000),
    "concurrency": (1, 10_000),
    "batch": (1, 1_000),
    "deliveries": (1, 100),
    "rest_after": (1, 1_000),
}


class DispatchSettings(msgspec.Struct, frozen=True, kw_only=True):
    """How tasks are brought to agents. Times are in seconds.

    Attributes:
        boards: Whose tasks are given out; the default board unless set. ``"*"`` is every board
            of the namespace; one that comes later is found within ``poll``.
        strategy: Which agent, on boards that have no strategy of their own.
        push_timeout: Until an agent must have answered a push. 0.05 to 300.
        lease: Under which an agent has a task that it accepted, until it renews it. 1 to 3,600.
        take_up: Until a reservation lapses that an agent without an address did not take up.
            1 to 3,600.
        reserve_most: Tasks reserved for such an agent at once: those beyond may be had by
            whoever is free first. 1 to 1,000.
        per_agent: Pushes to one agent at once, by this node. 1 to 1,000.
        concurrency: Pushes at once in all, by this node. 1 to 10,000.
        batch: Tasks given out in one call on the engine. 1 to 1,000.
        deliveries: Failed deliveries that count as one failed attempt. 1 to 100.
        delay: Until a task whose delivery failed is given out again; doubled each time it
            fails again. 0 to 3,600.
        delay_most: The longest such delay. 0 to 3,600.
        rest_after: Deliveries failed in a row after which an agent rests. 1 to 1,000.
        rest: For how long nothing is pushed to it then; doubled each time the one that is
            tried after that fails too. 0.01 to 3,600.
        rest_most: The longest rest. 0.01 to 3,600.
        poll: How often it is looked for work even where nothing rang. 0.05 to 60.
        stop_timeout: How long pushes under way may take once it is stopped. 0 to 300.
        allow: Hosts, addresses and networks that are pushed to though they are refused else:
            link-local ones and those of cloud metadata.
    """

    boards: tuple[str, ...] = (DEFAULT_BOARD,)
    strategy: str = DISPATCH_STRATEGY
    push_timeout: float = 5.0
    lease: float = 300.0
    take_up: float = 30.0
    reserve_most: int = 10
    per_agent: int = 32
    concurrency: int = 512
    batch: int = 100
    deliveries: int = 3
    delay: float = 1.0
    delay_most: float = 30.0
    rest_after: int = 3
    rest: float = 2.0
    rest_most: float = 60.0
    poll: float = 1.0
    stop_timeout: float = 10.0
    allow: tuple[str, ...] = ()

    def checked(self) -> DispatchSettings:
        """The same, the strategy by its plain name.

        Raises:
            InvalidArgument: A setting is out of its bounds; the message names it.
        """
        if not self.boards:
            raise InvalidArgument("boards is empty; name at least one board.", field="boards")
        for board in self.boards:
            if board != ALL_BOARDS:
                check_name("board", board)
        for name, (low, high) in {**_SECONDS, **_COUNTS}.items():
            value = getattr(self, name)
            is_number = isinstance(value, int | float) and not isinstance(value, bool)
            if not is_number or not low <= value <= high:
                raise InvalidArgument(
                    f"{name} is {value!r}; it must be from {low:g} to {high:,g}.", field=name
                )
            if name in _COUNTS and not isinstance(value, int):
                raise InvalidArgument(f"{name} is {value!r}; it must be whole.", field=name)
        strategy = check_built_in(self.strategy)
        if strategy == BEST_IDLE:
            raise InvalidArgument(
                f"Strategy {BEST_IDLE} gives work to agents that wait for it, which is not for "
                "those it is brought to. Use least_connections, or another.",
                field="strategy",
            )
        return msgspec.structs.replace(self, strategy=strategy)
