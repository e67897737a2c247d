"""The teams of a namespace: their documents by name, in versions that never change."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from datetime import datetime
from typing import Any, Final

import msgspec

from callboard.domain.bounds import check_text, check_whole
from callboard.domain.names import check_name
from callboard.domain.task import at_ms
from callboard.engine import codec
from callboard.engine.answers import checked
from callboard.engine.namespace import Namespace
from callboard.engine.replies import raise_refusal
from callboard.exceptions import InvalidArgument, TeamNotFound

LIST_MAX: Final = 1_000
DOCUMENT_BYTES_MAX: Final = 1_048_576
VERSIONS_KEPT: Final = 50


class TeamVersion(msgspec.Struct, frozen=True, kw_only=True):
    """A version of a team.

    Attributes:
        version: 1 for the first, one more for each that differed from the one before.
        document: As it was saved, its placeholders not filled in.
        is_new: The call that answers this made it.
    """

    name: str
    version: int
    document: dict[str, Any]
    created_at: datetime
    created_by: str = ""
    message: str = ""
    is_new: bool = False


TeamVersions = list[TeamVersion]


class Teams:
    """Keeps the 50 newest versions of each team; who starts a run names one of them."""

    def __init__(self, namespace: Namespace) -> None:
        self._namespace = namespace
        self._functions = namespace.functions

    async def add(
        self, name: str, document: Mapping[str, Any], *, by: str = "", message: str = ""
    ) -> TeamVersion:
        """Keep a document as the team's next version; the same as the newest adds none.

        Args:
            document: JSON of at most 1 MiB. Without secrets: whoever reads the engine reads it.
            message: Why, in up to 1,000 characters.

        Raises:
            InvalidArgument, TooLarge: Nothing was added.
        """
        if not isinstance(document, Mapping):
            raise InvalidArgument(
                f"document must be an object, not {type(document).__name__}.", field="document"
            )
        if len(check_text("message", message)) > 1_000:
            raise InvalidArgument("message must be at most 1,000 characters.", field="message")
        reply = await self._functions.call(
            "team_save",
            check_name("team", name),
            check_text("by", by),
            codec.encode_json("by", by, 65_536),
            codec.encode_json("message", message),
            codec.encode_json("document", dict(document), DOCUMENT_BYTES_MAX),
        )
        status = checked(reply, "ok", "same", team=name)
        found = await self.get(name, int(reply[1]))
        return msgspec.structs.replace(found, is_new=status == "ok")

    async def get(self, name: str, version: int | None = None) -> TeamVersion:
        """A version of a team, the newest where none is named. Raises TeamNotFound."""
        check_name("team", name)
        if version is None:
            version = await self._newest(name)
        check_whole("version", version, 1, 1_000_000_000)
        found = await self._read(name, version)
        if found is None:
            newest = await self._newest(name)
            raise TeamNotFound(
                f"Team {name!r} has no version {version}: the newest is {newest}, and "
                f"{VERSIONS_KEPT} are kept. See callboard teams show {name}.",
                team=name,
                version=version,
            )
        return found

    async def list(self, *, limit: int = LIST_MAX, skip: int = 0) -> list[TeamVersion]:
        """The newest version of teams, by name: *limit*, 1 to 1,000, behind the first *skip*."""
        check_whole("limit", limit, 1, LIST_MAX)
        check_whole("skip", skip, 0, 10**9)
        raw = await self._namespace.connection.call("HGETALL", self._namespace.keys.teams)
        newest = {name.decode(): int(version) for name, version in _pairs(raw)}
        names = sorted(name for name, version in newest.items() if version > 0)
        found = await asyncio.gather(
            *(self._read(name, newest[name]) for name in names[skip : skip + limit])
        )
        return [team for team in found if team is not None]

    async def versions(self, name: str) -> TeamVersions:
        """All versions of a team that are kept, the newest first. Raises TeamNotFound."""
        raw = await self._namespace.connection.call(
            "HGETALL", self._namespace.keys.team(check_name("team", name))
        )
        found = [_version(name, int(number), entry) for number, entry in _pairs(raw)]
        if not found:
            raise_refusal("team_not_found", team=name)
        return sorted(found, key=lambda team: -team.version)

    async def remove(self, name: str, *, by: str = "") -> None:
        """Remove a team with its versions; runs of it can be read, but not begun or retried.

        Raises:
            TeamNotFound: No such team.
        """
        reply = await self._functions.call(
            "team_remove", check_name("team", name), check_text("by", by)
        )
        checked(reply, "ok", team=name)

    async def _newest(self, name: str) -> int:
        raw = await self._namespace.connection.call("HGET", self._namespace.keys.teams, name)
        if raw is None or int(raw) < 1:
            raise_refusal("team_not_found", team=name)
        return int(raw)

    async def _read(self, name: str, version: int) -> TeamVersion | None:
        raw = await self._namespace.connection.call(
            "HGET", self._namespace.keys.team(name), version
        )
        return None if raw is None else _version(name, version, raw)


class _Entry(msgspec.Struct):
    document: dict[str, Any]
    at: int
    by: str
    message: str


_decoder: Final = msgspec.json.Decoder(_Entry)


def _version(name: str, version: int, raw: bytes) -> TeamVersion:
    entry = _decoder.decode(raw)
    return TeamVersion(
        name=name,
        version=version,
        document=entry.document,
        created_at=at_ms(entry.at),
        created_by=entry.by,
        message=entry.message,
    )


def _pairs(raw: Any) -> Any:
    """The fields of a hash, in either protocol's shape."""
    return raw.items() if isinstance(raw, dict) else zip(raw[::2], raw[1::2], strict=True)
