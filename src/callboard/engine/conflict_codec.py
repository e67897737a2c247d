"""Between conflicts and the rows and replies of their functions."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime, timedelta
from typing import Any

import msgspec

from callboard.domain.bounds import check_whole
from callboard.domain.conflict import Ballot, Conflict, Entry, Party, Resolution, Vote
from callboard.domain.context import read_value
from callboard.domain.lock import check_owner
from callboard.domain.task import at_ms
from callboard.engine.codec import encode_json
from callboard.engine.context_codec import row_of_value
from callboard.exceptions import InvalidArgument

_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)


def row_of(party: Party, *, is_typed: bool) -> tuple[str | bytes, ...]:
    """A party as the seven values that the engine takes; *is_typed* as a field of a context.

    Raises:
        InvalidArgument, TooLarge: What it brings is wrong.
    """
    letter, value = "", b""
    if party.value is not msgspec.UNSET:
        if is_typed:
            letter, text = row_of_value("value", party.value)
            value = text if isinstance(text, bytes) else text.encode()
        else:
            letter, value = "j", encode_json(f"The value of {party.name}", party.value)
    return (
        party.name,
        _number(party),
        _instant(party),
        "" if party.rev is None else str(check_whole("rev", party.rev, 0, 2**53)),
        "" if party.owner is None else check_owner(party.owner),
        letter,
        value,
    )


def _number(party: Party) -> str:
    value: Any = party.priority
    if value is None:
        return ""
    if isinstance(value, bool) or not isinstance(value, int | float) or not math.isfinite(value):
        raise InvalidArgument(
            f"The priority of {party.name!r} is {value!r}; it must be a number.", field="priority"
        )
    return repr(value)


def _instant(party: Party) -> str:
    at: Any = party.requested_at
    if at is None:
        return ""
    if not isinstance(at, datetime) or at.tzinfo is None:
        raise InvalidArgument(
            f"requested_at of {party.name!r} is {at!r}; it must be a datetime with a zone.",
            field="requested_at",
        )
    return str((at - _EPOCH) // timedelta(microseconds=1))


def conflict_of(values: Sequence[Any]) -> Conflict | None:
    """A conflict from its part of a reply of ``conflict_read``; None where there is none."""
    if not values:
        return None
    conflict_id, fields, votes, trail, electorate = values
    f = {name.decode(): value for name, value in _pairs(fields)}
    text = {name: value.decode(errors="replace") for name, value in f.items()}
    names = text["parties"].split(",")
    return Conflict(
        id=conflict_id.decode(),
        type=text["kind"],
        subject=text["subject"],
        board=text.get("board", ""),
        about=text.get("about", ""),
        parties=tuple(_party(name, text) for name in names),
        timestamp=at_ms(int(text["created_at"])),
        reported_by=text.get("created_by", ""),
        status=text["status"],
        enforce=text.get("enforce") == "1",
        context=msgspec.json.decode(f["context"]) if f.get("context") else None,
        arbiter=text.get("arbiter", ""),
        deadline=at_ms(int(text["deadline"])) if "deadline" in text else None,
        reason=text.get("reason", "") if text["status"] == "undecided" else "",
        ballot=_ballot(text, votes) if "rule" in text else None,
        resolution=_resolution(text, names) if text["status"] == "resolved" else None,
        electorate=tuple(sorted(member.decode() for member in electorate)),
        trail=tuple(_entry(line) for line in trail),
    )


def _pairs(flat: Any) -> Any:
    """The fields of a hash, in either protocol's shape."""
    return flat.items() if isinstance(flat, dict) else zip(flat[::2], flat[1::2], strict=True)


def _party(name: str, text: Mapping[str, str]) -> Party:
    priority, asked, rev = (
        text.get(f"{name}:{field}") for field in ("priority", "asked_at", "rev")
    )
    value = msgspec.UNSET
    if f"{name}:type" in text:
        value = read_value(text[f"{name}:type"], text[f"{name}:value"])
    return Party(
        name=name,
        priority=None if priority is None else float(priority),
        requested_at=None if asked is None else _EPOCH + timedelta(microseconds=int(asked)),
        rev=None if rev is None else int(rev),
        owner=text.get(f"{name}:owner"),
        value=value,
    )


def _ballot(text: Mapping[str, str], votes: Any) -> Ballot:
    cast = []
    for voter, raw in _pairs(votes):
        candidate, confidence, at = raw.decode().split("|")
        cast.append(Vote(voter.decode(), candidate or None, float(confidence), at_ms(int(at))))
    return Ballot(
        rule=text["rule"],
        members=int(text["size"]),
        quorum=int(text["quorum"]),
        threshold=float(text["threshold"]),
        tie=text["tie"],
        revisable=text["revisable"] == "1",
        deadline=at_ms(int(text["deadline"])) if "deadline" in text else None,
        votes=tuple(sorted(cast, key=lambda vote: (vote.at, vote.voter))),
    )


def _resolution(text: Mapping[str, str], names: Sequence[str]) -> Resolution:
    winner = text.get("winner", "")
    return Resolution(
        type=text["strategy"],
        winner=winner,
        losers=tuple(name for name in names if name != winner),
        reason=text.get("reason", ""),
        timestamp=at_ms(int(text["resolved_at"])),
        by=text.get("resolved_by", ""),
        enforced=text.get("enforced", ""),
    )


def _entry(line: bytes) -> Entry:
    found = msgspec.json.decode(line)
    return Entry(at_ms(found["at"]), found["by"], found["what"], found["inputs"])
