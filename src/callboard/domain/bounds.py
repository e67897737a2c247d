"""What callers give besides names: counts, claims, lists of ids, each with its bounds."""

from __future__ import annotations

from array import array
from collections.abc import Iterable, Mapping
from itertools import accumulate
from typing import Any, Final

from callboard.domain.names import NAME, check_name
from callboard.exceptions import InvalidArgument

DEPTH_MAX: Final = 100
"""Levels of lists and objects in a value: with what is put around it, it stays within the 128
that strict readers take, and far within what this interpreter's recursion allows."""

SHALLOW_BYTES: Final = 2 * DEPTH_MAX
"""JSON of so many bytes has no room for more levels."""

_STEPS: Final = bytes.maketrans(b"[{]}", b"\x01\x01\xff\xff")
_NO_BRACKETS: Final = bytes(set(range(256)) - set(b"[]{}"))


def check_whole(what: str, value: Any, low: int, high: int) -> int:
    """Return *value* if it is a whole number within the bounds; True and False are none.

    Raises:
        InvalidArgument: It is not; *what* says in the message which argument it is.
    """
    if isinstance(value, bool) or not isinstance(value, int) or not low <= value <= high:
        raise InvalidArgument(
            f"{what} is {value!r}; it must be a whole number from {low:,} to {high:,}.",
            field=what,
        )
    return value


def check_text(what: str, value: Any) -> str:
    """Return *value* if it is a string that can be stored: of whole characters.

    Raises:
        InvalidArgument: It is none, or holds half a surrogate pair, which UTF-8 does not have.
    """
    text = check_string(what, value)
    if not text.isascii():
        try:
            text.encode()
        except UnicodeEncodeError as error:
            raise InvalidArgument(
                f"{what} has half a character, {text[error.start]!r}, at {error.start}. Decode "
                "with errors='replace', or encode with errors='backslashreplace'.",
                field=what,
            ) from error
    return text


def check_string(what: str, value: Any) -> str:
    """Return *value* if it is a string, of any content."""
    if not isinstance(value, str):
        raise InvalidArgument(f"{what} must be a string, not {type(value).__name__}.", field=what)
    return value


def check_depth(what: str, encoded: bytes) -> None:
    """Refuse JSON that is nested more than 100 levels deep: it could not be read everywhere.

    Raises:
        InvalidArgument: It is.
    """
    if is_deeper(encoded, DEPTH_MAX):
        raise too_deep(what)


def too_deep(what: str) -> InvalidArgument:
    """The error about a value that is nested too deeply, or contains itself."""
    return InvalidArgument(
        f"{what} is nested more than {DEPTH_MAX} levels deep. Flatten it, or pass it as a string.",
        field=what,
    )


def is_deeper(encoded: bytes, most: int) -> bool:
    """Whether JSON is nested in more than *most* levels; its strings are passed over.

    Few values have so many brackets at all; of those that do, they are added up.
    """
    if len(encoded) <= 2 * most or encoded.count(b"[") + encoded.count(b"{") <= most:
        return False
    if b"\\" in encoded:
        encoded = encoded.replace(b"\\\\", b"").replace(b'\\"', b"")
    outside = b"".join(encoded.split(b'"')[::2])
    steps = array("b", outside.translate(_STEPS, _NO_BRACKETS))
    return max(accumulate(steps), default=0) > most


def check_list(what: str, values: Any) -> list[Any]:
    """Return the values as a list; a text is no list, nor is anything else but an iterable."""
    if isinstance(values, str | bytes | Mapping) or not isinstance(values, Iterable):
        raise InvalidArgument(f"{what} must be a list, not {type(values).__name__}.", field=what)
    return list(values)


def check_claim(task_id: Any, fence: Any) -> None:
    """Refuse what cannot name a claim: a task's id, and a fence, which is 1 or more.

    Written to be called for each of hundreds of claims.

    Raises:
        InvalidArgument: The id is no name, or the fence no such number.
    """
    if type(task_id) is not str or NAME.fullmatch(task_id) is None:
        check_name("task id", task_id)
    if type(fence) is not int or fence < 1:
        raise InvalidArgument(
            f"fence is {fence!r}; it must be the whole number that the claim of task {task_id} "
            "brought.",
            field="fence",
        )


def check_claims(claims: Iterable[Any]) -> list[tuple[str, int]]:
    """Return the claims, pairs of task id and fence, each checked.

    Raises:
        InvalidArgument: One of them is no pair, or one of its parts is wrong.
    """
    checked: list[tuple[str, int]] = []
    for claim in claims:
        if not isinstance(claim, tuple | list) or len(claim) != 2:
            raise InvalidArgument(
                f"{claim!r} is no claim; give pairs of task id and fence.", field="claims"
            )
        task_id, fence = claim
        check_claim(task_id, fence)
        checked.append((task_id, fence))
    return checked


def check_ids(task_ids: Iterable[Any]) -> list[str]:
    """Return the ids as a list, each checked; one string is no list of ids.

    Raises:
        InvalidArgument: It is no list, or one of them is no name.
    """
    if isinstance(task_ids, str | bytes) or not isinstance(task_ids, Iterable):
        raise InvalidArgument(
            f"Give a list of task ids, not {type(task_ids).__name__}.", field="task_ids"
        )
    return [check_name("task id", task_id) for task_id in task_ids]
