"""What the machine says of itself: memory and processor, read without waiting."""

from __future__ import annotations

import os
from pathlib import Path

import msgspec

TICKS_MIN = 20
"""Hundredths of a second that a share is of at least: of fewer it is noise."""

_MEMORY = Path("/proc/meminfo")
_PROCESSOR = Path("/proc/stat")


class Memory(msgspec.Struct, frozen=True, kw_only=True):
    """Bytes of the machine; None where it does not say."""

    total: int | None
    available: int | None
    used: int | None
    percentage: float | None


class Processor(msgspec.Struct, frozen=True, kw_only=True):
    """How busy all cores were since this was asked last, in per cent; None if unknown."""

    percentage: float | None
    count: int


class Machine:
    """Reads the machine's own figures; two readings make a share."""

    def __init__(self) -> None:
        self._before = (0, 0)
        self._share = 0.0

    def memory(self) -> Memory:
        """The machine's memory now."""
        try:
            lines = _MEMORY.read_text().splitlines()
            sizes = {name: int(rest.split()[0]) * 1024 for name, _, rest in map(_split, lines)}
            total, available = sizes["MemTotal"], sizes["MemAvailable"]
        except (OSError, LookupError, ValueError):
            return Memory(total=_physical(), available=None, used=None, percentage=None)
        used = total - available
        share = round(used / total * 100, 1) if total else 0.0
        return Memory(total=total, available=available, used=used, percentage=share)

    def processor(self) -> Processor:
        """How busy the cores were of late; since the start of the machine at first."""
        count = os.cpu_count() or 1
        try:
            fields = [int(part) for part in _PROCESSOR.read_text().split("\n", 1)[0].split()[1:]]
            now = sum(fields[:8]), fields[3] + fields[4]
        except (OSError, LookupError, ValueError):
            return Processor(percentage=None, count=count)
        whole, idle = now[0] - self._before[0], now[1] - self._before[1]
        if whole >= TICKS_MIN * count:
            self._before = now
            self._share = min(max(round((whole - idle) / whole * 100, 1), 0.0), 100.0)
        return Processor(percentage=self._share, count=count)


def _split(line: str) -> tuple[str, str, str]:
    return line.partition(":")


def _physical() -> int | None:
    try:
        return os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    except (OSError, ValueError):
        return None
