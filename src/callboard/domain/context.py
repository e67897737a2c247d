"""What agents share: contexts of plain fields, and what each agent says it is doing."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime
from enum import StrEnum
from types import MappingProxyType
from typing import Any, Final

import msgspec

FIELDS_MAX: Final = 1_000
VALUE_BYTES_MAX: Final = 262_144
CONTEXT_BYTES_MAX: Final = 4_194_304
TTL_MAX: Final = 31_536_000.0
"""Seconds that a context may be kept for, where it has an end: a year."""

WHOLE_MAX: Final = 2**53
"""Sums are made in the engine's doubles, which know all whole numbers below this."""

NAMES_TOLD_MAX: Final = 100
"""A change of more fields names none of them."""


class Context(msgspec.Struct, frozen=True, kw_only=True):
    """A context as it stood at one moment.

    Attributes:
        rev: Which of its changes was the last; 0 where somebody else wrote the hash. It only
            rises and is never given twice, not even after the context was deleted.
        fields: Values with the types they were given in.
        updated_at: By the engine's clock; None where somebody else wrote the hash.
        expires_at: When it is removed; None for never.
    """

    project: str
    rev: int
    fields: dict[str, Any]
    updated_at: datetime | None = None
    updated_by: str = ""
    expires_at: datetime | None = None

    def __getitem__(self, name: str) -> Any:
        return self.fields[name]

    def get(self, name: str, default: Any = None) -> Any:
        """A field, or *default* where there is none."""
        return self.fields.get(name, default)


class ContextSummary(msgspec.Struct, frozen=True, kw_only=True):
    """A context without its values.

    Attributes:
        fields: How many it has.
        bytes: Of names and values.
    """

    project: str
    rev: int
    fields: int
    bytes: int
    updated_at: datetime
    updated_by: str = ""
    expires_at: datetime | None = None


class Written(msgspec.Struct, frozen=True, kw_only=True):
    """What became of a write.

    Attributes:
        rev: The context's revision from now on; present it as *if_rev* to change this one only.
        sums: The fields that were incremented, with what they are now.
    """

    project: str
    rev: int
    at: datetime
    sums: dict[str, int | float] = {}


class Change(msgspec.Struct, frozen=True, kw_only=True):
    """What a watcher sees.

    Attributes:
        kind: ``created``, ``updated``, ``deleted``, ``expired``; ``current`` for how it stands
            where the watch begins behind a revision; ``gap`` where changes were missed, for
            how it stands behind them.
        rev: Of this change.
        changed: Names of the fields that were written; empty with ``all_fields``.
        removed: Names of the fields that were removed.
        all_fields: Too many were changed to name them, or it is not known which.
        context: How it stands now, which may be later than this change; None where it is gone.
        cursor: Go on watching behind this change with it; empty for ``current``.
    """

    project: str
    kind: str
    rev: int
    changed: tuple[str, ...] = ()
    removed: tuple[str, ...] = ()
    all_fields: bool = False
    by: str = ""
    at: datetime | None = None
    cursor: str = ""
    context: Context | None = None


class Doing(StrEnum):
    """What an agent may say of itself."""

    IDLE = "idle"
    BUSY = "busy"
    FAILED = "failed"


class Activity(msgspec.Struct, frozen=True, kw_only=True):
    """What an agent says it is doing.

    Attributes:
        status: ``idle``, ``busy`` or ``failed``; an agent that was lost has failed.
        current_task: What it is busy with, or failed at; None where it is idle.
        is_live: It is registered and may claim, as of the last sweep.
    """

    agent: str
    agent_type: str
    status: Doing
    current_task: str | None
    updated_at: datetime
    is_live: bool = True


LETTERS: Final[Mapping[type, str]] = MappingProxyType(
    {str: "s", int: "i", float: "f", bool: "b", type(None): "n"}
)
"""How the types of plain values are noted; whatever else is JSON, noted as ``j``."""


def spell(value: Any) -> str | None:
    """A plain value as the text that is stored; None where it has to be written as JSON."""
    match value:
        case str():
            return value
        case bool():
            return "true" if value else "false"
        case int() | float():
            return repr(value)
        case None:
            return "null"
    return None


def read_value(letter: str, text: str) -> Any:
    """The value of a stored text.

    A text that does not read as its type, since somebody else wrote it over, is a string.
    """
    try:
        match letter:
            case "i":
                return int(text)
            case "f":
                return float(text)
            case "b":
                return {"true": True, "false": False}[text]
            case "n":
                return None if text == "null" else text
            case "j":
                return msgspec.json.decode(text)
    except (ValueError, KeyError, msgspec.DecodeError):
        return text
    return text


def told_names(extra: str) -> tuple[tuple[str, ...], tuple[str, ...], bool]:
    """Names written, names removed, and whether all may be, from what an event carries."""
    if extra == "*":
        return (), (), True
    names = [name for name in extra.split(",") if name]
    removed = tuple(name[1:] for name in names if name.startswith("!"))
    return tuple(name for name in names if not name.startswith("!")), removed, False
