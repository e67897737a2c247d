"""The headers of every answer, and the ids of requests."""

from __future__ import annotations

import itertools
import re
import secrets
from collections.abc import Iterable
from typing import Final

Header = tuple[bytes, bytes]

POLICY: Final = (
    b"default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' data:; "
    b"font-src 'self'; connect-src 'self'; base-uri 'none'; form-action 'none'; "
    b"frame-ancestors 'none'"
)
"""What pages may load: nothing from elsewhere, and no script or style that stands in them."""

POLICY_NAME: Final = b"content-security-policy"

SECURITY_HEADERS: Final[tuple[Header, ...]] = (
    (b"x-content-type-options", b"nosniff"),
    (b"x-frame-options", b"DENY"),
    # The filter that this once switched on could be turned against pages: it is off.
    (b"x-xss-protection", b"0"),
    (b"strict-transport-security", b"max-age=31536000"),
    (b"referrer-policy", b"no-referrer"),
    (b"permissions-policy", b"camera=(), geolocation=(), microphone=(), payment=(), usb=()"),
    (b"cache-control", b"no-store"),
)
ALL_HEADERS: Final[tuple[Header, ...]] = (*SECURITY_HEADERS, (POLICY_NAME, POLICY))

_OWN: Final = frozenset({POLICY_NAME, b"cache-control"})
_GIVEN = re.compile(rb"[A-Za-z0-9._-]{1,64}")
_prefix = secrets.token_hex(4)
_numbers = itertools.count(1)


def has_own(headers: Iterable[Header]) -> bool:
    """Whether an answer comes with a header that it has instead of the one of all answers."""
    return any(name in _OWN for name, _ in headers)


def guarded(headers: Iterable[Header]) -> list[Header]:
    """The headers of an answer with those that every answer has.

    A page may come with a policy of its own, and say how long it may be kept.
    """
    found = list(headers)
    own = {name for name, _ in found if name in _OWN}
    if own:
        found += (header for header in ALL_HEADERS if header[0] not in own)
    else:
        found += ALL_HEADERS
    return found


def request_id(given: bytes | None) -> bytes:
    """The id that a request came with, where it is a plain word, else a new one."""
    if given is not None and _GIVEN.fullmatch(given) is not None:
        return given
    return b"%b-%x" % (_prefix.encode(), next(_numbers))
