"""The names that people give: of boards, tasks, agents, kinds and capabilities."""

from __future__ import annotations

import re
from functools import lru_cache
from typing import Any

from callboard.exceptions import InvalidArgument

NAME_MAX = 128
NAME = re.compile(r"[A-Za-z0-9._-]{1,128}")
LABEL_VALUE = re.compile(r"[A-Za-z0-9._:/@+-]{1,128}")


def check_name(what: str, value: Any) -> str:
    """Return *value* if it is a name, 1 to 128 of letters, digits, ``.``, ``_``, ``-``.

    Raises:
        InvalidArgument: It is not; *what* says in the message which thing it names.
    """
    if not isinstance(value, str):
        raise InvalidArgument(f"{what} must be a string, not {type(value).__name__}.", field=what)
    if len(value) > NAME_MAX or not _is_name(value):  # the cache is to keep nothing large
        shown = value if len(value) <= 60 else value[:57] + "..."
        cure = "It is empty." if not value else "Use 1 to 128 letters, digits, '.', '_' or '-'."
        raise InvalidArgument(
            f"{what} {shown!r} is not a valid name. {cure}", field=what, value=shown
        )
    return value


@lru_cache(maxsize=10_000)
def _is_name(value: str) -> bool:
    return NAME.fullmatch(value) is not None


def check_label(key: str, value: Any) -> str:
    """Return ``key=value`` if both parts are allowed in a label."""
    check_name("label", key)
    if not isinstance(value, str) or not LABEL_VALUE.fullmatch(value):
        raise InvalidArgument(
            f"Label {key} has the value {value!r}; use 1 to 128 letters, digits or any of . _ : "
            f"/ @ + -",
            field="labels",
        )
    return f"{key}={value}"
