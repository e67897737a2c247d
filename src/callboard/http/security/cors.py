"""Pages of other origins: none may ask, but those that are named."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from typing import Final

from callboard.http.security.headers import Header

PREFLIGHT_SECONDS: Final = 600
_METHODS: Final = b"GET, POST, PUT, DELETE, OPTIONS"
_TAKEN: Final = (
    b"authorization, content-type, last-event-id, x-api-key, x-callboard-namespace, x-request-id"
)
_SHOWN: Final = b"retry-after, x-request-id"
_VARY: Final[Header] = (b"vary", b"origin")


class Cors:
    """Which origins' pages may ask, and read what is answered.

    Cookies are never taken, so nothing goes along with a request that its page did not put
    there: answers say nothing of credentials.
    """

    def __init__(self, origins: Collection[str]) -> None:
        self._origins = frozenset(origin.encode() for origin in origins)

    def allows(self, origin: bytes) -> bool:
        """Whether pages of this origin may ask."""
        return origin in self._origins

    def headers(self, origin: bytes | None) -> tuple[Header, ...]:
        """What an answer says to the browser."""
        if not self._origins:
            return ()
        if origin is None or origin not in self._origins:
            return (_VARY,)
        return (
            _VARY,
            (b"access-control-allow-origin", origin),
            (b"access-control-expose-headers", _SHOWN),
        )

    def preflight(self, headers: Mapping[bytes, bytes]) -> tuple[Header, ...] | None:
        """The answer to a browser that asks whether a page may ask; None where it is none."""
        origin = headers.get(b"origin")
        if origin is None or b"access-control-request-method" not in headers:
            return None
        if not self.allows(origin):
            return None
        return (
            (b"access-control-allow-methods", _METHODS),
            (b"access-control-allow-headers", _TAKEN),
            (b"access-control-max-age", b"%d" % PREFLIGHT_SECONDS),
        )
