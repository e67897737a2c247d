"""Ids under which the engine knows a call again, so that it may be made twice and counts once."""

from __future__ import annotations

import hashlib
from typing import Any, Final

import msgspec

from callboard.domain.names import check_name
from callboard.domain.task import new_id

_DIGITS: Final = 24


def operation_id(request_id: str | None, *said: Any) -> str:
    """The id of one call: made up, or of its request id and all that it says.

    Of what it says, so that a request id that is used twice for different things loses
    neither of them; mappings say the same in whatever order. It is remembered for ten minutes,
    by a lock's release for one.

    Raises:
        InvalidArgument: The request id is no name.
    """
    if request_id is None:
        return new_id()
    told = msgspec.json.encode([check_name("request id", request_id), *said], order="sorted")
    return hashlib.sha256(told).hexdigest()[:_DIGITS]


def in_order(encoded: bytes) -> bytes:
    """JSON, or nothing, with its names in order: it says the same however they were written."""
    return encoded and msgspec.json.encode(msgspec.json.decode(encoded), order="sorted")
