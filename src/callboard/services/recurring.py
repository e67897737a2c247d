"""Recurring tasks: a task submitted by the clock, once a tick, however many are there to do it."""

from __future__ import annotations

import logging
import secrets
from collections.abc import Mapping, Sequence
from datetime import datetime, timedelta
from itertools import islice
from typing import Any, Final

import msgspec

from callboard.domain import recurring as rules
from callboard.domain.board import DEFAULT_BOARD
from callboard.domain.bounds import check_text, check_whole
from callboard.domain.names import check_name
from callboard.domain.recurring import CatchUp, Definition, Due, Overlap, Recurring, Template
from callboard.domain.task import at_ms, to_ms
from callboard.engine import codec
from callboard.engine.answers import checked
from callboard.engine.namespace import Namespace
from callboard.engine.replies import raise_refusal
from callboard.exceptions import CallboardError, EngineError, EngineFull, InvalidArgument

READ_MOST: Final = 500
LIST_MAX: Final = 1_000
PAYLOAD_BYTES_MAX: Final = 65_536

DUE_MOST: Final = 100
"""Those that are due are read together."""

PAGES_MAX: Final = 100
FIRED_IN_A_SWEEP: Final = 200
"""Of all recurring tasks that are due, shared among them: what else is swept waits meanwhile."""

PLANS_KEPT: Final = 100
"""Of what is still to be made good, from one sweep to the next, so as not to walk it again."""

ERROR_MAX: Final = 500
RESUMES_MAX: Final = 20

_TEMPLATE_FIELDS: Final = frozenset(Template.__struct_fields__)
_log = logging.getLogger("callboard.recurring")


class Recurrences:
    """What is submitted by the clock. Any running worker, host or sweep fires what is due.

    A tick is fired within about a second of its time while some process sweeps the
    namespace. Where none does nothing is lost: the next one to sweep does what ``catch_up``
    says of the ticks that passed.
    """

    def __init__(self, namespace: Namespace) -> None:
        self._namespace = namespace
        self._functions = namespace.functions
        self._plans: dict[str, tuple[int, Sequence[Due]]] = {}

    async def create(
        self,
        /,
        name: str,
        kind: str,
        payload: Any = None,
        *,
        cron: str | None = None,
        every: float | None = None,
        anchor: datetime | None = None,
        timezone: str = "UTC",
        catch_up: CatchUp = "one",
        overlap: Overlap = "allow",
        start: datetime | None = None,
        end: datetime | None = None,
        board: str = DEFAULT_BOARD,
        replace: bool = False,
        by: str = "",
        **options: Any,
    ) -> Recurring:
        """Submit such a task at each tick from now on; the same definition again is left alone.

        Args:
            name: Of the recurring task; its tasks' ids are ``{name}-{tick in UTC}``.
            payload: JSON of at most 64 KiB.
            cron: Five fields, or six with seconds before them, or ``@daily`` and the like.
            every: Instead: seconds, 1 to 31,622,400, counted from *anchor*.
            anchor: The Unix epoch unless given, so that 3,600 is every full hour.
            timezone: In which *cron* is read, by its IANA name.
            catch_up: Ticks that passed while nothing ran: ``skip``, ``one`` (the newest) or
                ``all`` (the newest 1,000).
            overlap: ``skip`` leaves a tick out while the task before has not ended.
            start: No tick before.
            end: No tick after.
            board: Where the tasks go.
            replace: Take the place of another definition under this name.
            options: As for a task, where metadata has no ``recurring`` and no ``tick``, which
                each task is told by itself: title, description, priority, requirements,
                suggested_worker, metadata, timeout, lease, retry, concurrency_key, rate_key,
                fairness_key.

        Raises:
            InvalidArgument: The schedule or an option is wrong; ``details["field"]`` says which.
            IdConflict: The name is taken by another definition.
            TooLarge: There are 10,000 of them, or the payload is over 64 KiB.
        """
        unknown = sorted(set(options) - _TEMPLATE_FIELDS)
        if unknown:
            raise InvalidArgument(
                f"A recurring task has no option {unknown[0]!r}. It may have: "
                f"{', '.join(sorted(_TEMPLATE_FIELDS))}.",
                field=unknown[0],
            )
        if not isinstance(options.get("metadata") or {}, Mapping):
            raise InvalidArgument("metadata must be an object.", field="metadata")
        if options.get("metadata"):  # as it is read back: its keys are strings
            encoded = codec.encode_json("metadata", options["metadata"])
            options["metadata"] = msgspec.json.decode(encoded)
        if not isinstance(replace, bool):
            raise InvalidArgument("replace must be True or False.", field="replace")
        definition = Definition(
            kind=kind,
            payload=_usual_json(codec.encode_json("payload", payload, PAYLOAD_BYTES_MAX)),
            board=board,
            cron=cron,
            every=every,
            anchor=anchor,
            timezone=timezone,
            catch_up=catch_up,
            overlap=overlap,
            start=start,
            end=end,
            template=Template(**options),
        )
        definition = rules.check_definition(name, definition)
        now = await self._now()
        codec.row_of(rules.spec_of(name, definition, now))  # refuses what is no task
        reply = await self._functions.call(
            "recurring_save",
            name,
            check_text("by", by),
            _encoder.encode(definition),
            _ms(rules.next_tick(definition, now)),
            int(replace),
        )
        checked(reply, "ok", "same", recurring=name)
        return await self.get(name)

    async def get(self, name: str) -> Recurring:
        """A recurring task with its next tick. Raises RecurringNotFound."""
        found, _ = await self._read([check_name("name", name)])
        if not found:
            raise_refusal("recurring_not_found", recurring=name)
        return found[0]

    async def list(self, *, limit: int = LIST_MAX, skip: int = 0) -> list[Recurring]:
        """Recurring tasks by name: *limit*, 1 to 1,000, behind the first *skip*.

        Those that this version cannot read are left out.
        """
        check_whole("limit", limit, 1, LIST_MAX)
        check_whole("skip", skip, 0, 10**9)
        raw = await self._namespace.connection.call("ZRANGE", self._namespace.keys.recurring, 0, -1)
        names = sorted(name.decode() for name in raw)[skip : skip + limit]
        listed: list[Recurring] = []
        for start in range(0, len(names), READ_MOST):
            rows, _ = await self._rows(names[start : start + READ_MOST])
            for row in rows:
                try:
                    listed.append(_recurring(*row))
                except InvalidArgument as error:
                    _log.warning("%s", error)
        return listed

    async def next(self, name: str, count: int = 5) -> Sequence[datetime]:
        """Its next ticks from now on, 1 to 1,000, in UTC, as if it were not paused.

        Raises:
            RecurringNotFound: No such recurring task.
        """
        check_whole("count", count, 1, 1_000)
        found = await self.get(name)
        return list(islice(rules.ticks_after(found.definition, await self._now()), count))

    async def pause(self, name: str, *, by: str = "") -> Recurring:
        """Let it fire nothing. The ticks meanwhile are not missed, but left out.

        Raises:
            RecurringNotFound: No such recurring task.
        """
        await self._set(name, 1, 0, "", by)
        return await self.get(name)

    async def resume(self, name: str, *, by: str = "") -> Recurring:
        """Let it go on with its next tick from now. Raises RecurringNotFound."""
        for _ in range(RESUMES_MAX):  # again where it was replaced meanwhile
            found = await self.get(name)
            following = rules.next_tick(found.definition, await self._now())
            if await self._set(name, 0, _ms(following), str(found.revision), by):
                break
        return await self.get(name)

    async def delete(self, name: str, *, by: str = "") -> None:
        """Forget it; what it submitted stays. Raises RecurringNotFound."""
        reply = await self._functions.call(
            "recurring_remove", check_name("name", name), check_text("by", by)
        )
        checked(reply, "ok", recurring=name)

    async def trigger(self, name: str, *, by: str = "") -> str:
        """Submit its task now, out of turn, and answer the task's id; ticks stay as they are.

        Its id is made of the present moment, to the millisecond, or the next one for which
        there is no task yet. *overlap* does not hold it back.

        Raises:
            RecurringNotFound: No such recurring task.
            BoardFull, BoardClosed, TooManyLanes: Nothing was submitted.
        """
        found, now = await self._read([check_name("name", name)])
        if not found:
            raise_refusal("recurring_not_found", recurring=name)
        by, word = check_text("by", by), secrets.token_hex(8)
        while not await self._fire(found[0], Due(at_ms(0), now, None), by=by, trigger=word):
            now += timedelta(milliseconds=1)
        return rules.task_id(name, now)

    async def sweep(self) -> bool:
        """Fire what is due, at most 200 ticks; whether there may be more.

        Who sweeps at once does no harm. One that cannot be fired, as its board is full or its
        time zone not known here, keeps its tick and is tried again; the others go on.
        """
        stuck, left, is_cut = 0, FIRED_IN_A_SWEEP, False
        seen: set[bytes] = set()
        for _ in range(PAGES_MAX):
            rows, now = await self._rows([], due_from=stuck, due_most=DUE_MOST)
            fresh = [row for row in rows if row[0] not in seen]
            seen.update(row[0] for row in fresh)
            share = max(1, left // max(1, len(fresh)))
            for row in fresh:
                if left <= 0:
                    return True
                try:
                    fired, more = await self._fire_due(_recurring(*row), now, share)
                except EngineFull as error:
                    await self._note(row, error)
                    return False
                except EngineError:
                    raise
                except Exception as error:
                    stuck += 1
                    await self._note(row, error)
                else:
                    left -= fired
                    is_cut = is_cut or more
            if len(rows) < DUE_MOST or not fresh:
                return is_cut or len(rows) == DUE_MOST
        return True

    async def _fire_due(self, one: Recurring, now: datetime, most: int) -> tuple[int, bool]:
        """Fire up to *most* of its ticks that have come; how many, and whether some are left."""
        assert one.next_at is not None
        revision, planned = self._plans.pop(one.name, (0, ()))
        if revision != one.revision or not planned or planned[0].expected != one.next_at:
            planned = rules.dues(one.definition, one.next_at, now)
        for i, tick in enumerate(planned[:most]):
            if not await self._fire(one, tick, by="janitor"):
                return i, False  # another was quicker
        if len(planned) <= most:
            return len(planned), False
        if len(self._plans) < PLANS_KEPT:
            self._plans[one.name] = (one.revision, planned[most:])
        return most, True

    async def _note(self, row: Sequence[Any], error: Exception) -> None:
        """Keep and tell why it cannot be fired, unless that is known already."""
        name, _, flat = row
        code = error.code if isinstance(error, CallboardError) else type(error).__name__
        said = str(error) if isinstance(error, CallboardError) else f"{code}: {error}"
        text = " ".join(said.encode(errors="backslashreplace").decode().split())[:ERROR_MAX]
        if _fields(flat).get("last_error_code") == code.encode():
            return
        reply = await self._functions.call("recurring_note", name, code, text)
        if checked(reply, "ok", "same", "recurring_not_found") == "ok":
            _log.warning("Recurring task %s cannot be fired: %s", name.decode(), text)

    async def _fire(self, one: Recurring, due: Due, *, by: str, trigger: str = "") -> bool:
        """Whether it was this call that handled the tick."""
        definition = one.definition
        row: Sequence[Any] = ()
        if due.tick is not None:
            row = codec.row_of(rules.spec_of(one.name, definition, due.tick))
        reply = await self._functions.call(
            "recurring_fire",
            one.name,
            by,
            trigger or one.revision,
            _ms(due.expected),
            _ms(due.tick or due.expected),
            _ms(due.following),
            int(definition.overlap == "skip" and not trigger),
            definition.board,
            int(due.tick is not None),
            *row,
        )
        return checked(reply, "ok", "moved", recurring=one.name, board=definition.board) == "ok"

    async def _set(self, name: str, paused: int, next_ms: int, revision: str, by: str) -> bool:
        name, by = check_name("name", name), check_text("by", by)
        reply = await self._functions.call("recurring_set", name, by, paused, next_ms, revision)
        return checked(reply, "ok", "moved", recurring=name) == "ok"

    async def _now(self) -> datetime:
        """The engine's time."""
        return (await self._read([]))[1]

    async def _read(self, names: Sequence[str]) -> tuple[Sequence[Recurring], datetime]:
        rows, now = await self._rows(names)
        return [_recurring(*row) for row in rows], now

    async def _rows(
        self, names: Sequence[str], *, due_from: int = 0, due_most: int = 0
    ) -> tuple[Sequence[Sequence[Any]], datetime]:
        """Name, next tick and fields of each that is there, undecoded; and the engine's time."""
        reply = await self._functions.call("recurring_read", due_from, due_most, len(names), *names)
        checked(reply, "ok")
        return [row for row in reply[2:] if row[2]], at_ms(float(reply[1]))


_encoder: Final = msgspec.json.Encoder(order="deterministic")
_decoder: Final = msgspec.json.Decoder(Definition)


def _usual_json(raw: bytes) -> msgspec.Raw:
    """The same JSON with its keys in order; as it is where that cannot be had."""
    if b"{" not in raw:
        return msgspec.Raw(raw)
    try:
        return msgspec.Raw(_encoder.encode(msgspec.json.decode(raw)))
    except (OverflowError, RecursionError):  # numbers beyond 64 bits
        return msgspec.Raw(raw)


def _fields(flat: Sequence[bytes]) -> Mapping[str, bytes]:
    return {flat[i].decode(): flat[i + 1] for i in range(0, len(flat), 2)}


def _ms(moment: datetime | None) -> int:
    return 0 if moment is None else to_ms(moment, "tick")


def _recurring(name: bytes, next_ms: bytes, flat: Sequence[bytes]) -> Recurring:
    raw = _fields(flat)
    try:
        definition = _decoder.decode(raw["definition"])
    except msgspec.DecodeError as error:
        raise InvalidArgument(
            f"Recurring task {name.decode()!r} cannot be read by this version: {error}.",
            field="definition",
        ) from None
    last = raw.get("last_tick")
    task = raw.get("last_task", b"").decode()
    return Recurring(
        name=name.decode(),
        definition=definition,
        is_paused=raw.get("paused") == b"1",
        next_at=rules.moment_of(int(float(next_ms))),
        fired=int(raw.get("fired", 0)),
        last_at=rules.moment_of(int(last)) if last else None,
        last_task=task or None,
        last_outcome=raw.get("last_outcome", b"").decode(),
        last_error=raw.get("last_error", b"").decode(),
        revision=int(raw["revision"]),
        created_at=at_ms(int(raw["created"])),
        created_by=raw.get("created_by", b"").decode(),
    )
