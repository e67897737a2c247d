"""What a refusal of the engine becomes."""

from __future__ import annotations

from typing import Any

from callboard.exceptions import CallboardError

Told = tuple[type[CallboardError], str, dict[str, Any]]
"""The class of the exception, its message, and the facts behind it."""
