"""Times of one kind of call, and their percentiles."""

from __future__ import annotations


class Samples:
    """Seconds, as they were measured."""

    def __init__(self) -> None:
        self._seconds: list[float] = []

    def add(self, seconds: float) -> None:
        """Keep one."""
        self._seconds.append(seconds)

    @property
    def count(self) -> int:
        """How many there are."""
        return len(self._seconds)

    def ms(self, percent: float) -> float:
        """The percentile in milliseconds, by nearest rank; 0 without any."""
        if not self._seconds:
            return 0.0
        ordered = sorted(self._seconds)
        at = max(0, min(len(ordered) - 1, round(percent / 100 * len(ordered)) - 1))
        return ordered[at] * 1e3
