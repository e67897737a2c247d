"""Operations as routes: what was sent becomes a call, and what it returns an answer."""

from __future__ import annotations

import asyncio
import random
import typing
from collections.abc import Awaitable, Collection, Iterator, Mapping, Sequence, Set
from contextlib import suppress
from functools import cache
from typing import Any, Final

import msgspec

from callboard.domain.access import Caller
from callboard.exceptions import EngineError, EngineUnavailable, InvalidArgument, TooLarge
from callboard.http import errors, polling
from callboard.http.route import Call, Gone, Handler, Reply, Route
from callboard.http.security.acting import acting_of, check_caller, check_holder
from callboard.operations import Operation
from callboard.operations.examples import EXAMPLES
from callboard.operations.operation import BOUNDED, named_of

BOARD_PATH: Final = "/boards/{board}"

ANSWER_BYTES_MAX: Final = 64 << 20
"""Of one answer to a question: eight of the largest bodies."""

CHECK_SECONDS: Final = 2.0
"""How often a request that is held looks whether its key still holds, as streams do."""

_encode = msgspec.json.Encoder().encode


def routes_of(operation: Operation) -> Iterator[Route]:
    """The routes of an operation: one about a board's tasks has a second, which names it."""
    paths = [operation.path]
    if operation.is_on_board:
        paths.append(BOARD_PATH + operation.path)
    for path in paths:
        yield Route(
            verb=operation.verb,
            path=path,
            handle=_handler(operation),
            role=operation.role,
            summary=operation.summary,
            description=operation.description,
            tag=operation.service,
            operation=operation,
            body=operation.body if operation.body.__struct_fields__ else None,
            query=operation.query if operation.query.__struct_fields__ else None,
            example=EXAMPLES.get(operation.name),
            answers={200: operation.envelope},
        )


def success(key: str, value: Any) -> Reply:
    """``{"status": "success", key: value, "timestamp": …}``; without a key no value."""
    return _success(key, _encode(value) if key else b"")


def _success(key: str, value: bytes) -> Reply:
    if not key:
        return Reply(b'{"status":"success","timestamp":"%b"}' % errors.now().encode())
    return Reply(
        b'{"status":"success","%b":%b,"timestamp":"%b"}'
        % (key.encode(), value, errors.now().encode())
    )


def answered(operation: Operation, value: Any) -> bytes:
    """The JSON of an answer. Raises TooLarge where it is one to a question, and over its bound.

    Of what was changed the answer is never refused: nobody would know what came of it.
    """
    found = _encode(value)
    if len(found) > ANSWER_BYTES_MAX and operation.role == "read":
        raise TooLarge(
            f"The answer has {len(found):,} bytes, and may have {ANSWER_BYTES_MAX:,}. Ask for "
            "less at once.",
            limit=ANSWER_BYTES_MAX,
        )
    return found


def service_of(cb: Any, operation: Operation, board: str | None) -> Any:
    """The service whose method is called."""
    if operation.is_on_board and board is not None:
        return getattr(cb.board(board), operation.service)
    return getattr(cb, operation.service)


def converted(struct: type[msgspec.Struct], values: Mapping[str, list[str]]) -> Any:
    """A query's values as a struct: lists where it has lists, else the last one given."""
    given: dict[str, Any] = {}
    lists, maps = _kinds_of(struct)
    try:
        for name, texts in values.items():
            if name in maps:
                given[name] = msgspec.json.decode(texts[-1].encode())
            else:
                given[name] = texts if name in lists else texts[-1]
        return msgspec.convert(given, struct, strict=False)
    except (msgspec.DecodeError, UnicodeEncodeError) as error:
        fault = errors.fault_of("query", str(error))
        name = ".".join(map(str, fault.loc[1:]))
        where = f"{name}: " if name else ""
        raise InvalidArgument(
            f"The query cannot be used: {where}{fault.msg}.", field=name, place="query"
        ) from error


def _handler(operation: Operation) -> Handler:
    decoder = msgspec.json.Decoder(operation.body) if operation.body.__struct_fields__ else None
    is_optional = not any(one.is_required for one in operation.parameters if one.place == "body")
    query = operation.query if operation.query.__struct_fields__ else None
    key = operation.answers
    acting = acting_of(operation)
    is_kept = acting.is_kept
    is_bounded = operation.hidden >= BOUNDED

    async def handle(call: Call) -> Reply | None:
        given: list[Any] = [call.path]
        board = call.path.pop("board", None) if operation.is_on_board else None
        if decoder is not None:
            raw = await call.body()
            given.append(decoder.decode(raw or b"{}" if is_optional else raw))
        if query is not None:
            given.append(converted(query, call.query()))
        poll = _poll_of(given[-1]) if operation.polls else 0.0
        caller = call.caller
        if caller is not None:
            if caller.agent is not None or operation.is_global:
                check_caller(caller, operation, *given)
            if is_kept and caller.key_id is not None:
                # Whatever was sent: what is kept of who did it must be true.
                given.append(acting.in_place(caller, given))
            if "address" in operation.hidden:
                # It writes its own entry into the audit log, so nobody says who else it was.
                given.append(asker(caller))
        if is_bounded:
            given.append({"bytes_max": ANSWER_BYTES_MAX})
        if poll or operation.is_waiting:
            # How long it takes is up to what it waits for.
            call.scope.setdefault("state", {})["is_held"] = True
        cb = await call.board()
        service = service_of(cb, operation, board)
        if caller is not None and caller.agent is not None:
            await check_holder(caller, cb, service, operation, *given)
        if poll:
            work = polling.held(
                operation,
                cb,
                service,
                named_of(given),
                poll,
                lambda besides: operation.perform(service, *given, besides),
            )
            return _success(key, answered(operation, await while_there(call, work)))
        if operation.is_waiting:
            work = operation.perform(service, *given)
            return _success(key, answered(operation, await while_there(call, work)))
        return _success(key, answered(operation, await operation.perform(service, *given)))

    return handle


def asker(caller: Caller) -> dict[str, str]:
    """Who asks, for what writes its own entry into the audit log."""
    return {"by": caller.name, "by_key": caller.key_id or "", "address": caller.address}


def _poll_of(given: Any) -> float:
    poll = getattr(given, "poll", msgspec.UNSET)
    return 0.0 if poll is msgspec.UNSET else float(poll)


async def while_there(call: Call, work: Awaitable[Any]) -> Any:
    """Run *work*, and cancel it where nobody is to have its answer any more.

    Raises:
        Gone: The caller went away.
        NotAuthenticated: The caller's key was taken back, or ran out, meanwhile.
        EngineUnavailable: This coordinator stops; another can be asked.
    """
    task = asyncio.ensure_future(work)
    leaving = asyncio.ensure_future(_left(call))
    ending = asyncio.ensure_future(_key_ended(call))
    stopping = asyncio.ensure_future(call.coordinator.is_stopping.wait())
    others = (leaving, ending, stopping)
    try:
        await asyncio.wait({task, *others}, return_when=asyncio.FIRST_COMPLETED)
        if task.done():
            return task.result()
        if leaving.done():
            raise Gone
        if ending.done():
            ending.result()
        raise EngineUnavailable(
            "This coordinator is stopping, so it waits for nothing more. Ask again: another "
            "one, or this one in a moment."
        )
    finally:
        for one in (task, *others):
            one.cancel()
            with suppress(asyncio.CancelledError, Exception):
                await one


async def _left(call: Call) -> None:
    while (await call.receive())["type"] != "http.disconnect":
        pass


async def _key_ended(call: Call) -> None:
    """Raises NotAuthenticated soon after the caller's key holds no more; else goes on."""
    check = (call.scope.get("state") or {}).get("check")
    if check is None or call.caller is None or call.caller.key_id is None:
        await asyncio.Event().wait()
        return
    while True:
        await asyncio.sleep(CHECK_SECONDS * (0.75 + random.random() / 2))
        with suppress(EngineError):
            await check()


@cache
def _kinds_of(struct: type[msgspec.Struct]) -> tuple[frozenset[str], frozenset[str]]:
    """The fields that may be given several times, and those that are JSON objects."""
    fields = msgspec.structs.fields(struct)
    return (
        frozenset(one.name for one in fields if _holds(one.type, _LISTS)),
        frozenset(one.name for one in fields if _holds(one.type, _MAPS)),
    )


_LISTS: Final = (list, tuple, set, frozenset, Sequence, Collection, Set)
_MAPS: Final = (dict, Mapping)


def _holds(type_: Any, kinds: tuple[type, ...]) -> bool:
    origin = typing.get_origin(type_)
    return origin is not None and (
        origin in kinds or any(_holds(part, kinds) for part in typing.get_args(type_))
    )
