"""A board: the tasks of one team run, project or queue, and its settings."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime
from typing import Any, Final

import msgspec

from callboard.domain.strategy import check_built_in
from callboard.exceptions import InvalidArgument

DEFAULT_BOARD: Final = "default"


class BoardSettings(msgspec.Struct, frozen=True, kw_only=True):
    """What can be set for a board; None leaves a setting at its default.

    Attributes:
        step: Seconds of waiting that one point of priority is worth; fixed once the
            board exists. 60.
        limit: Unfinished tasks that it may hold. 1,000,000.
        unresolved_after: Seconds after which a dependency that was never submitted fails
            its dependents; never unless set.
        finished_for: Seconds that finished tasks are kept. 86,400.
        finished_most: Finished tasks kept per outcome. 100,000.
        dead_for: Seconds that dead letters are kept. 2,592,000 (30 days).
        poison: Distinct crashed instances that make a task a dead letter. 3.
        crashes: Crashes in all that make a task a dead letter. 5.
        concurrency: Tasks held at once, by all agents together; parked ones do not count.
            As many as agents claim, unless set.
        claims_most: Claims that it gives out in all, counted from when this is set. As many
            as there is work, unless set.
        strategy: Which agent a task that becomes ready is given to. ``best_idle``, which
            takes one that waits.
        steal_most: Tasks reserved for others that one claim takes over at most; 0 for none.
            100.
        steal_threshold: Tasks that must be reserved for an agent before any of them is taken
            over. 2.
    """

    step: float | None = None
    limit: int | None = None
    unresolved_after: float | None = None
    finished_for: float | None = None
    finished_most: int | None = None
    dead_for: float | None = None
    poison: int | None = None
    crashes: int | None = None
    concurrency: int | None = None
    claims_most: int | None = None
    strategy: str | None = None
    steal_most: int | None = None
    steal_threshold: int | None = None


_SCALES: Final[Mapping[str, tuple[float, float, float]]] = {
    "step": (1_000_000, 0.001, 86_400),
    "limit": (1, 1, 100_000_000),
    "unresolved_after": (1_000, 1, 31_536_000),
    "finished_for": (1_000, 0, 31_536_000),
    "finished_most": (1, 0, 100_000_000),
    "dead_for": (1_000, 0, 315_360_000),
    "poison": (1, 1, 100),
    "crashes": (1, 1, 1_000),
    "concurrency": (1, 1, 100_000_000),
    "claims_most": (1, 0, 100_000_000),
    "steal_most": (1, 0, 100),
    "steal_threshold": (1, 2, 1_000_000),
}
"""What a setting is multiplied by for the engine, and its bounds."""


def encode_settings(settings: BoardSettings) -> list[str]:
    """Names and values for the engine, in turn; only what is set.

    Raises:
        InvalidArgument: A value is out of its bounds.
    """
    pairs: list[str] = []
    for name, (scale, low, high) in _SCALES.items():
        value = getattr(settings, name)
        if value is None:
            continue
        if (
            isinstance(value, bool)
            or not isinstance(value, int | float)
            or not low <= value <= high
        ):
            raise InvalidArgument(
                f"Board setting {name} is {value!r}; it must be from {low:g} to {high:g}.",
                field=name,
            )
        pairs += [name, str(round(value * scale))]
    if settings.strategy is not None:
        pairs += ["strategy", check_built_in(settings.strategy)]
    return pairs


def decode_settings(raw: Mapping[str, str]) -> BoardSettings:
    """The settings as the engine holds them; unknown names are passed over."""
    values: dict[str, Any] = {}
    for name, (scale, _, _) in _SCALES.items():
        if name in raw:
            values[name] = int(raw[name]) / scale if scale != 1 else int(raw[name])
    if "strategy" in raw:
        values["strategy"] = raw["strategy"]
    return BoardSettings(**values)


class Counts(msgspec.Struct, frozen=True, kw_only=True):
    """How many tasks of a board stand where, all read at one moment.

    Attributes:
        held: Claimed or in progress.
        retrying: Of the scheduled ones, those that back off after a failure.
        unresolved: Ids that others depend on and that were never submitted.
    """

    total: int = 0
    blocked: int = 0
    scheduled: int = 0
    retrying: int = 0
    pending: int = 0
    assigned: int = 0
    held: int = 0
    input_required: int = 0
    done: int = 0
    failed: int = 0
    cancelled: int = 0
    dead_letters: int = 0
    lanes: int = 0
    waiters: int = 0
    unresolved: int = 0

    @property
    def finished(self) -> int:
        """Done, failed and cancelled."""
        return self.done + self.failed + self.cancelled

    @property
    def unfinished(self) -> int:
        """All others."""
        return self.total - self.finished


class Board(msgspec.Struct, frozen=True, kw_only=True):
    """A board as it stood when it was read.

    Attributes:
        is_closed: It takes no new tasks and gives none out: its run has ended.
        claims: How many claims it has given out, where ``claims_most`` is set.
    """

    name: str
    is_paused: bool
    paused_kinds: tuple[str, ...]
    counts: Counts
    settings: BoardSettings
    created_at: datetime
    at: datetime
    is_closed: bool = False
    claims: int = 0
