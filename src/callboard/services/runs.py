"""What is true of the runs of teams: begun, moved from phase to phase, paused, forgotten."""

from __future__ import annotations

import asyncio
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, Final

import msgspec

from callboard.domain.bounds import check_ids, check_text, check_whole
from callboard.domain.names import check_name
from callboard.domain.run import LEAD_BOARD, Phase, Run
from callboard.domain.task import BATCH_MAX, TaskSpec, at_ms, check_seconds, new_id
from callboard.engine import codec
from callboard.engine.answers import Answers, answers_of, checked, finish_cascade
from callboard.engine.namespace import Namespace
from callboard.engine.replies import raise_refusal
from callboard.exceptions import InvalidArgument, TooLarge

VALUE_BYTES_MAX: Final = 16_384
REQUEST_BYTES_MAX: Final = 1_048_576
TIMEOUT_MAX: Final = 31_536_000
PAGE: Final = 100
"""Runs read at once for a list; their replies come back over one connection."""

SWEEPS_MAX: Final = 50

_FIELDS: Final = frozenset({"round", "planning", "reason", "counts", "host", "folder"})

Phases = list[Phase]


RunIds = list[str]


class RunRecords:
    """The records of runs; what happens in them is done by those who hold their leads."""

    def __init__(self, namespace: Namespace) -> None:
        self._namespace = namespace
        self._functions = namespace.functions

    async def create(
        self,
        run_id: str,
        *,
        team: str,
        version: int,
        request: str,
        variables: Mapping[str, str],
        document: Mapping[str, Any],
        timeout_seconds: float,
        keep_seconds: float,
        concurrency: int | None,
        claims_most: int | None,
        lead_spec: TaskSpec,
        by: str = "",
        host: str = "",
        folder: str = "",
    ) -> tuple[Run, bool]:
        """Begin a run: its record, its board, and the task of who leads it, or nothing.

        Answers the run, and whether it existed with the same team and request.

        Args:
            timeout_seconds: Its time, 0.001 to 31,536,000 from the engine's now.
            document: The team as it is now; what becomes of the team later does not matter.
            keep_seconds: How long the run is kept after its end, 0 to 31,536,000.
            concurrency: How many of its tasks may be held at once; any number where None.
            claims_most: How many claims its board grants in all; any number where None.

        Raises:
            IdConflict: Another run, a board or a task has this id.
            InvalidArgument, TooLarge: Nothing was begun.
            BoardFull, TooManyLanes: Too many runs wait for someone to lead them.
        """
        reply = await self._functions.call(
            "run_create",
            _run_name(run_id),
            check_text("by", by),
            check_name("team", team),
            check_whole("version", version, 1, 1_000_000_000),
            _text("request", request, REQUEST_BYTES_MAX),
            codec.encode_json("variables", _variables(variables), 65_536),
            codec.encode_json("document", dict(document)),
            _text("host", host),
            _text("folder", folder),
            check_seconds("timeout_seconds", timeout_seconds, 0.001, TIMEOUT_MAX),
            check_seconds("keep_seconds", keep_seconds, 0, 31_536_000),
            "" if concurrency is None else check_whole("concurrency", concurrency, 1, 100_000_000),
            "" if claims_most is None else check_whole("claims_most", claims_most, 0, 100_000_000),
            LEAD_BOARD,
            *_lead_row(lead_spec),
        )
        status = checked(reply, "ok", "exists", board=LEAD_BOARD)
        return await self.get(run_id), status == "exists"

    async def get(self, run: str) -> Run:
        """Read a run. Raises RunNotFound."""
        found = await self._read(check_name("run id", run))
        if found is None:
            raise_refusal("run_not_found", run=run)
        return found

    async def document(self, run: str) -> dict[str, Any]:
        """The team that a run runs, as it was when the run was begun. Raises RunNotFound."""
        raw = await self._namespace.connection.call(
            "HGET", self._namespace.keys.run(check_name("run id", run)), "document"
        )
        if raw is None:
            raise_refusal("run_not_found", run=run)
        document: dict[str, Any] = msgspec.json.decode(raw)
        return document

    async def list(
        self,
        *,
        team: str | None = None,
        phases: Iterable[Phase] | None = None,
        limit: int = 50,
    ) -> list[Run]:
        """Up to *limit* runs, 1 to 1,000, the newest first; of one team, in these phases."""
        check_whole("limit", limit, 1, 1_000)
        wanted = None if phases is None else set(_phases(phases))
        found: list[Run] = []
        start = 0
        while len(found) < limit:
            page = await self._namespace.connection.call(
                "ZRANGE", self._namespace.keys.runs, start, start + PAGE - 1, "REV"
            )
            for run in await asyncio.gather(*(self._read(name.decode()) for name in page)):
                if run is None or (team is not None and run.team != team):
                    continue
                if wanted is None or run.phase in wanted:
                    found.append(run)
            if len(page) < PAGE:
                break
            start += PAGE
        return found[:limit]

    async def move(
        self,
        run: str,
        *,
        from_: Iterable[Phase],
        to: Phase,
        generation: int,
        fence: int = 0,
        fields: Mapping[str, str] | None = None,
        by: str = "",
    ) -> Phase:
        """Move a run from one of these phases to another, and set fields with it.

        *to* may be where it stands, to set fields alone. Moved to an end, its board is
        closed. Answers the phase after.

        Args:
            fence: Of the lease of who leads it; 0 for everybody else.
            fields: Any of round, planning, reason, counts (JSON), host and folder.

        Raises:
            IllegalState: It stands elsewhere, or in another generation; the details say where.
            LeaseLost: Another leads it since.
            Refused: It is to go on to its answer, and tasks of it have not ended.
            RunNotFound: No such run.
        """
        pairs = [part for pair in (fields or {}).items() for part in _field(*pair)]
        reply = await self._functions.call(
            "run_move",
            check_name("run id", run),
            check_text("by", by),
            new_id(),
            check_whole("generation", generation, 1, 1_000_000_000),
            fence,
            ",".join(_phases(from_)),
            _phases([to])[0],
            *pairs,
        )
        checked(reply, "ok", run=run)
        return Phase(reply[1].decode())

    async def pause(self, run: str, *, by: str = "") -> Run:
        """Let nothing more be claimed on its board, and its time stand still.

        Raises:
            IllegalState: It has ended.
            RunNotFound: No such run.
        """
        return await self._pause(run, 1, by)

    async def resume(self, run: str, *, by: str = "") -> Run:
        """Undo a pause; its end moves back by as long as the pause was. Raises RunNotFound."""
        return await self._pause(run, 0, by)

    async def reopen(
        self,
        run: str,
        *,
        generation: int,
        timeout_seconds: float,
        lead_spec: TaskSpec,
        ids: Sequence[str] = (),
        by: str = "",
    ) -> Run:
        """Begin the generation after *generation*, in which the run has ended: in execution.

        Its board is open again, *lead_spec* is the task of who leads it, and of *ids*, at most
        1,000, those tasks that can be are put back, all in one step. Of several callers at
        once, one does.

        Raises:
            IllegalState: It has not ended, or is in another generation.
            IdConflict: The lead's id was used before.
            RunNotFound: No such run.
        """
        reply = await self._functions.call(
            "run_reopen",
            check_name("run id", run),
            check_text("by", by),
            new_id(),
            check_whole("generation", generation, 1, 1_000_000_000),
            check_seconds("timeout_seconds", timeout_seconds, 0.001, TIMEOUT_MAX),
            LEAD_BOARD,
            len(ids),
            *_lead_row(lead_spec),
            *check_ids(ids),
        )
        checked(reply, "ok", run=run, board=LEAD_BOARD)
        if reply[2]:
            await finish_cascade(self._functions)
        return await self.get(run)

    async def wind_up(
        self, run: str, ids: Sequence[str], *, generation: int, reason: str, by: str = ""
    ) -> Answers:
        """Cancel these tasks of a run that has ended in this generation; each answers.

        Raises:
            IllegalState: It has not ended, or was taken up again.
            RunNotFound: No such run.
        """
        answers: Answers = []
        wanted = check_ids(ids)
        for start in range(0, len(wanted), BATCH_MAX):
            batch = wanted[start : start + BATCH_MAX]
            reply = await self._functions.call(
                "run_wind_up",
                check_name("run id", run),
                check_text("by", by),
                generation,
                check_text("reason", reason)[:1_000],
                len(batch),
                *batch,
            )
            checked(reply, "ok", run=run)
            if reply[1]:
                await finish_cascade(self._functions)
            answers += answers_of(batch, reply[2])
        return answers

    async def tell(self, run: str, *, kind: str, key: str, value: Any = None, by: str = "") -> bool:
        """Put something to know of a run into its journal, once for each *key*.

        Answers whether this call did.

        Args:
            kind: What it is, a name.
            key: 1 to 256 characters.
            value: JSON of at most 16 KiB.

        Raises:
            RunNotFound: No such run.
            InvalidArgument, TooLarge: Nothing was told.
        """
        if not 1 <= len(check_text("key", key)) <= 256:
            raise InvalidArgument("key must be 1 to 256 characters.", field="key")
        reply = await self._functions.call(
            "run_tell",
            check_name("run id", run),
            check_text("by", by),
            check_name("kind", kind),
            key,
            _line(value),
        )
        return checked(reply, "ok", "replayed", run=run) == "ok"

    async def due(self, limit: int = 10) -> RunIds:
        """Runs that were kept for long enough, or whose time is over unended; longest due first.

        Each is answered again no sooner than in a minute: until then it is the caller's to do.
        """
        reply = await self._functions.call("run_due", check_whole("limit", limit, 1, 1_000))
        checked(reply, "ok")
        return [run.decode() for run in reply[1:]]

    async def sweep(self, run: str) -> None:
        """Do what is due on a run's board, where nobody else may be there to do it."""
        for _ in range(SWEEPS_MAX):
            reply = await self._functions.call("board_sweep", check_name("run id", run), PAGE)
            checked(reply, "ok")
            if not reply[1]:
                return

    async def remove(self, run: str, *, by: str = "") -> None:
        """Forget a run that has ended. Its board is not touched: remove that before.

        Raises:
            IllegalState: It has not ended.
            RunNotFound: No such run.
        """
        reply = await self._functions.call(
            "run_remove", check_name("run id", run), check_text("by", by)
        )
        checked(reply, "ok", run=run)

    async def _pause(self, run: str, on: int, by: str) -> Run:
        reply = await self._functions.call(
            "run_pause", check_name("run id", run), check_text("by", by), on
        )
        checked(reply, "ok", run=run)
        return await self.get(run)

    async def _read(self, run: str) -> Run | None:
        # By name: the document, which may be long, is read by those who host the run.
        raws = await self._namespace.connection.call("HMGET", self._namespace.keys.run(run), *_READ)
        named = zip(_READ, raws, strict=True)
        fields = {name: raw.decode() for name, raw in named if raw is not None}
        return _run(run, fields) if "phase" in fields else None


_TEXTS: Final = ("team", "request", "planning", "reason", "created_by", "host", "folder")
_READ: Final = (
    *_TEXTS,
    "version",
    "phase",
    "variables",
    "generation",
    "round",
    "paused_at",
    "created_at",
    "deadline_at",
    "ended_at",
    "counts",
)


def _run(run: str, fields: Mapping[str, str]) -> Run:
    ended_at = fields.get("ended_at")
    return Run(
        id=run,
        version=int(fields["version"]),
        phase=Phase(fields["phase"]),
        variables=msgspec.json.decode(fields.get("variables") or "{}"),
        generation=int(fields["generation"]),
        round=int(fields.get("round") or 0),
        is_paused="paused_at" in fields,
        created_at=at_ms(int(fields["created_at"])),
        deadline_at=at_ms(int(fields["deadline_at"])),
        ended_at=at_ms(int(ended_at)) if ended_at else None,
        counts=msgspec.json.decode(fields.get("counts") or "{}"),
        **{name: fields.get(name, "") for name in _TEXTS},
    )


def _run_name(run: Any) -> str:
    if check_name("run id", run) == LEAD_BOARD:
        raise InvalidArgument(
            f"A run cannot be called {LEAD_BOARD!r}: that is the board of those who lead runs. "
            "Use another id.",
            field="run_id",
        )
    return str(run)


def _variables(variables: Any) -> dict[str, str]:
    if not isinstance(variables, Mapping):
        raise InvalidArgument(
            f"variables must be an object, not {type(variables).__name__}.", field="variables"
        )
    return {check_text("variables", n): check_text("variables", v) for n, v in variables.items()}


def _phases(phases: Iterable[Any]) -> Phases:
    if isinstance(phases, str):
        raise InvalidArgument("Give a list of phases, not one string.", field="phases")
    try:
        return [Phase(phase) for phase in phases]
    except ValueError as error:
        raise InvalidArgument(f"{error}; use {', '.join(Phase)}.", field="phases") from error


def _text(what: str, value: Any, most: int = 65_536) -> bytes:
    try:
        encoded = check_text(what, value).encode()
    except UnicodeEncodeError as error:
        raise InvalidArgument(f"{what} is not valid Unicode text: {error}.", field=what) from error
    if len(encoded) > most:
        raise TooLarge(
            f"{what} is {len(encoded):,} bytes; at most {most:,} are kept. Put large texts into a "
            "file and name it.",
            field=what,
        )
    return encoded


def _line(value: Any) -> bytes:
    """The value as JSON in one line: an event is lines of facts."""
    encoded = codec.encode_json("value", value, VALUE_BYTES_MAX)
    return msgspec.json.format(encoded, indent=-1) if b"\n" in encoded else encoded


def _lead_row(spec: TaskSpec) -> codec.Row:
    row = codec.row_of(spec)
    if spec.id is None or spec.depends_on or spec.unique is not None:
        raise InvalidArgument(
            "The task that leads a run has an id, no dependencies and no unique key.",
            field="lead_spec",
        )
    return row


def _field(name: str, value: Any) -> tuple[str, bytes]:
    if name not in _FIELDS:
        raise InvalidArgument(
            f"{name!r} is no field that moves with a run; use {', '.join(sorted(_FIELDS))}.",
            field="fields",
        )
    return name, _text(name, value)
