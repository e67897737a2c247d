"""How many tasks a worker claims ahead of its free slots. Pure."""

from __future__ import annotations

import math
from typing import Final

PREFETCH_MAX: Final = 100
PREFETCH_SECONDS: Final = 0.05
"""A worker claims ahead what its slots finish in this time: 100 no-ops, 1 long task."""

MEASURED_MIN: Final = 5
"""Tasks whose duration is known before any is claimed ahead: long ones must not be hoarded."""


def worth_ahead(measured: int, duration: float, slots: int) -> int:
    """Return how many tasks are worth having ahead, 0 to 100.

    Args:
        measured: How many tasks the worker has timed.
        duration: Their mean in seconds.
        slots: How many it runs at once.
    """
    if measured < MEASURED_MIN:
        return 0
    worth = PREFETCH_SECONDS * slots / max(duration, 1e-6)
    return min(PREFETCH_MAX, max(1, math.ceil(worth)))
