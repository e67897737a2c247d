"""How the embedded engine looks to people and programs."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import asdict
from typing import Any

from rich.text import Text

from callboard.cli.render import fields, size, span
from callboard.engine.embedded import EngineStatus


def shape(found: EngineStatus) -> dict[str, Any]:
    """The status as JSON."""
    return {**asdict(found), "data_dir": str(found.data_dir)}


def status(found: EngineStatus) -> Iterator[str | Text]:
    """The status as fields, and how the engine is started where it is not running."""
    users = None if found.users is None else ", ".join(f"process {pid}" for pid in found.users)
    yield from fields(
        [
            ("engine", found.state),
            ("data", str(found.data_dir)),
            ("version", found.version),
            ("process", found.pid),
            ("up for", None if found.uptime_s is None else span(found.uptime_s)),
            ("memory", None if found.memory_bytes is None else size(found.memory_bytes)),
            ("url", found.url if found.is_running else None),
            ("writes", _writes(found) if found.is_running else None),
            ("used by", users or ("somebody" if found.in_use else "nobody")),
        ]
    )
    if not found.is_running:
        yield "It starts by itself with the next command that needs it."


def _writes(found: EngineStatus) -> str:
    if found.durable:
        return "on the disk before they are answered"
    return "on the disk within a second"
