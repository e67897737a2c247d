"""The record of a task that moves, as the engine keeps it, and a claim, which reads it."""

from __future__ import annotations

from datetime import datetime
from typing import Any, Final, Self

import msgspec

from callboard.domain.task import LETTERS, Status, at_ms


class Claimed:
    """A task that was claimed: the fence to present with every later write.

    Made for each task a worker gets, so it reads the record only as far as it is asked.
    """

    __slots__ = ("_body", "_deadline", "_fields", "_large", "board", "fence", "id", "kind")

    def __init__(
        self,
        board: str,
        task_id: bytes,
        deadline: bytes | int,
        record: bytes,
        body: bytes,
        large: bytes,
    ) -> None:
        self.board = board
        self.id = task_id.decode()
        self._fields = record.decode().split("|")
        self.fence = int(self._fields[2])
        self.kind = self._fields[8].partition(";")[0]
        self._deadline = deadline
        self._body = body
        self._large = large

    @classmethod
    def rebuilt(
        cls,
        *,
        id: str,
        board: str,
        kind: str,
        fence: int,
        attempt: int,
        until: datetime,
        body: bytes,
        agent: str,
        instance: str = "",
        failures: int = 0,
        crashes: int = 0,
        timeout: float | None = None,
        lease: float | None = None,
        is_ahead: bool = False,
        was_lost: bool = False,
        has_extra: bool = False,
    ) -> Self:
        """The claim as the engine would have told it, of its values."""
        holder = f"{agent}/{instance}" if instance else agent
        flags = ("Z" if was_lost else "") + ("E" if has_extra else "")
        record = (
            f"{'k' if is_ahead else 'c'}|{attempt}|{fence}|{holder}|||{_ms_or_none(lease)}|"
            f"{_ms_or_none(timeout)}|{kind};;;;|0|{failures}|{crashes}||{flags}||"
        )
        deadline = round(until.timestamp() * 1000)
        return cls(board, id.encode(), deadline, record.encode(), body, b"")

    @property
    def attempt(self) -> int:
        """How often it was claimed, this time included."""
        return int(self._fields[1])

    @property
    def priority(self) -> int:
        """As it is now."""
        return int(self._fields[9])

    @property
    def created_at(self) -> datetime:
        """When it was submitted."""
        return at_ms(float(self._fields[15] or 0))

    @property
    def claimed_at(self) -> datetime:
        """When it was claimed."""
        return at_ms(float(self._fields[5] or 0))

    @property
    def failures(self) -> int:
        """Failed attempts before this one."""
        return int(self._fields[10])

    @property
    def crashes(self) -> int:
        """Holders that were lost with it before."""
        return int(self._fields[11])

    @property
    def agent(self) -> str:
        """Who claimed it."""
        return self._fields[3].partition("/")[0]

    @property
    def instance(self) -> str:
        """Which process of the agent."""
        return self._fields[3].partition("/")[2]

    @property
    def until(self) -> datetime:
        """End of the lease unless it is renewed."""
        return at_ms(float(self._deadline))

    @property
    def timeout(self) -> float | None:
        """Seconds that this attempt may run."""
        return int(self._fields[7]) / 1000 if self._fields[7] else None

    @property
    def lease(self) -> float | None:
        """Seconds without a renewal after which it is lost, where the task says so itself."""
        return int(self._fields[6]) / 1000 if self._fields[6] else None

    @property
    def is_ahead(self) -> bool:
        """Claimed ahead of its start: losing it before ``start`` is no crash."""
        return self._fields[0] == "k"

    @property
    def was_lost(self) -> bool:
        """It was lost before, unstarted: say ``start`` before it runs, so that a crash counts."""
        return "Z" in self._fields[13]

    @property
    def has_extra(self) -> bool:
        """Answers, children or partial results of earlier attempts may be there to read."""
        return "E" in self._fields[13]

    @property
    def body(self) -> bytes:
        """The stored body; without a payload where that is null or kept beside it."""
        return self._body

    @property
    def large_payload(self) -> bytes:
        """The payload kept beside the body; empty where it is inside."""
        return self._large

    @property
    def trace_context(self) -> str:
        """The W3C ``traceparent`` that the task carries; empty for none."""
        return _trace_decoder.decode(self._body).trace_context

    @property
    def payload(self) -> msgspec.Raw:
        """The payload as JSON, verbatim."""
        return (
            msgspec.Raw(self._large) if self._large else _payload_decoder.decode(self._body).payload
        )

    def payload_as(self, kind: Any = Any) -> Any:
        """Decode the payload to *kind*, any type that msgspec knows."""
        return msgspec.json.decode(self.payload, type=kind)

    def __repr__(self) -> str:
        return f"<Claimed {self.id} kind={self.kind} attempt={self.attempt} fence={self.fence}>"


def _ms_or_none(seconds: float | None) -> str:
    return "" if seconds is None else str(round(seconds * 1000))


class _PayloadOnly(msgspec.Struct):
    payload: msgspec.Raw = msgspec.Raw(b"null")


_payload_decoder: Final = msgspec.json.Decoder(_PayloadOnly)


class _TraceOnly(msgspec.Struct):
    trace_context: str = ""


_trace_decoder: Final = msgspec.json.Decoder(_TraceOnly)


class Record(msgspec.Struct, frozen=True):
    """The moving record as the engine keeps it: see ``lua/include/record.lua``."""

    letter: str
    attempt: int
    fence: int
    holder: str
    score: str
    since_ms: int
    lease_ms: int
    timeout_ms: int
    lane: str
    priority: int
    failures: int
    crashes: int
    crashed: str
    flags: str
    retry: str
    created_ms: int

    @property
    def status(self) -> Status:
        """The status its letter stands for."""
        return LETTERS[self.letter]

    @property
    def kind(self) -> str:
        """The lane's first part."""
        return self.lane.partition(";")[0]

    @property
    def agent(self) -> str:
        """The holder without its instance."""
        return self.holder.partition("/")[0]

    @property
    def instance(self) -> str:
        """The holder's process; empty for a reservation."""
        return self.holder.partition("/")[2]


def parse_record(raw: bytes) -> Record:
    """Read a record; fields that a newer release appended are passed over."""
    f = raw.decode().split("|")
    return Record(
        f[0],
        int(f[1]),
        int(f[2]),
        f[3],
        f[4],
        int(f[5] or f[15] or 0),
        int(f[6] or 0),
        int(f[7] or 0),
        f[8],
        int(f[9]),
        int(f[10]),
        int(f[11]),
        f[12],
        f[13],
        f[14],
        int(f[15] or 0),
    )
