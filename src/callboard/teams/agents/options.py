"""Options of agents as they stand in a file: checked, and numbers read from text."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, Final

import msgspec

from callboard.domain.task import PAYLOAD_BYTES_MAX
from callboard.domain.team import OUTPUT_BYTES_MAX
from callboard.teams.agents import unusable

if TYPE_CHECKING:
    from callboard.domain.team import AgentDefinition

OUTPUT_BYTES: Final = PAYLOAD_BYTES_MAX
"""A longer answer could not be kept as a result."""


def number(definition: AgentDefinition, key: str, default: float, low: float, high: float) -> float:
    """A number among the options, bounds included."""
    given = definition.options.get(key, default)
    try:
        if isinstance(given, bool):
            raise msgspec.ValidationError
        value = msgspec.convert(given, float, strict=False)
    except msgspec.ValidationError:
        value = float("nan")
    if not low <= value <= high:
        raise unusable(
            definition, f"{key} is {given!r:.60}; use a number from {low:,g} to {high:,g}."
        )
    return value


def output_bytes(definition: AgentDefinition) -> int:
    """How long an answer may be."""
    return int(number(definition, "output_bytes", OUTPUT_BYTES, 1, OUTPUT_BYTES_MAX))


def texts(definition: AgentDefinition, key: str) -> tuple[str, ...]:
    """A list of texts among the options; one text stands for a list of one."""
    given = definition.options.get(key, ())
    given = [given] if isinstance(given, str) else given
    if not isinstance(given, list | tuple) or not all(isinstance(one, str) for one in given):
        raise unusable(definition, f"{key} is {given!r:.60}; use a list of texts.")
    return tuple(given)


def pairs(definition: AgentDefinition, key: str) -> dict[str, str]:
    """A mapping of texts among the options; a value is never shown, as it may be a secret."""
    given: Any = definition.options.get(key) or {}
    if not isinstance(given, Mapping):
        raise unusable(definition, f"{key} is a {type(given).__name__}; use a mapping of texts.")
    found = {}
    for name, value in given.items():
        if not isinstance(name, str) or isinstance(value, bool):
            what = "name" if not isinstance(name, str) else "value"
        elif isinstance(value, str | int | float):
            found[name] = str(value)
            continue
        else:
            what = "value"
        raise unusable(definition, f"{key}.{name}: the {what} is no text; put it into quotes.")
    return found
