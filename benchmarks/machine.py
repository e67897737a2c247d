"""The machine, and how much of it others used while something was measured."""

from __future__ import annotations

import contextlib
import os
import platform
import time
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path


def describe() -> dict[str, str]:
    """Processor, memory, kernel and Python: what a figure means nothing without."""
    return {
        "processor": f"{os.cpu_count()} cores, {_processor()}",
        "memory": _memory(),
        "system": f"{platform.system()} {platform.release()}",
        "python": platform.python_version(),
    }


def _processor() -> str:
    with contextlib.suppress(OSError):
        for line in Path("/proc/cpuinfo").read_text().splitlines():
            if line.startswith("model name"):
                return line.partition(":")[2].strip()
    return platform.processor() or platform.machine()


def _memory() -> str:
    total = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    return f"{total / 2**30:.0f} GiB"


@dataclass(frozen=True)
class LoadMark:
    """A moment's CPU accounts, to be compared with a later one."""

    at: float
    all_busy: float
    own: float


class ForeignLoad:
    """How many cores processes other than the measured ones kept busy; 0 where /proc is absent."""

    def __init__(self, pids: Iterable[int]) -> None:
        self._pids = [*pids, os.getpid()]
        self._start = self._mark()

    def cores(self) -> float:
        """Cores used by others since this object was made."""
        end = self._mark()
        seconds = end.at - self._start.at
        if seconds <= 0:
            return 0.0
        busy = end.all_busy - self._start.all_busy
        return max(0.0, (busy - (end.own - self._start.own)) / seconds)

    def _mark(self) -> LoadMark:
        own = sum(process_seconds(pid) for pid in self._pids)
        return LoadMark(time.monotonic(), _busy_seconds(), own)


def _busy_seconds() -> float:
    try:
        fields = Path("/proc/stat").read_text().split("\n", 1)[0].split()[1:]
    except OSError:
        return 0.0
    user, nice, system, _idle, _iowait, irq, softirq, steal = (int(field) for field in fields[:8])
    return (user + nice + system + irq + softirq + steal) / os.sysconf("SC_CLK_TCK")


def process_seconds(pid: int) -> float:
    """CPU seconds that a process has used so far, to 10 ms; 0 where /proc does not say."""
    try:
        fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    except OSError:
        return 0.0
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")
