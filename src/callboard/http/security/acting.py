"""Who acts: with a key for one agent nobody acts as another, whatever is asked for.

Which parameters say who acts is known by their names, here and nowhere else: of the operation
itself, and of what it takes lists or single ones of.
"""

from __future__ import annotations

import asyncio
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from functools import cache
from typing import Any, Final

import msgspec
from msgspec import inspect

from callboard.domain.access import Caller
from callboard.domain.conflict import Party
from callboard.domain.lock import claim_of, is_owner
from callboard.operations import OPERATIONS, Operation
from callboard.operations.operation import named_of
from callboard.services.claims import Holding

ACTORS: Final = frozenset({"agent", "author", "sender", "voter"})
"""Who acts."""

OWNERS: Final = frozenset({"owner", "rows"})
"""What holds locks and waits: a claim, or a token, which is somebody's too."""

TOLD: Final = frozenset({"by", "created_by"})
"""Who did it, for what is kept: the name of the key is written there, whatever was sent."""

FILLED: Final = frozenset({"author", "sender"})
"""Nobody, where left out: with a key for one agent it is that one."""

REPORT: Final = "conflicts.report"
"""What others bring is theirs to say: with a key for one agent they are named, and no more."""

OTHERS: Final[Mapping[str, str]] = {
    "conflicts.report.parties": "those who want the same thing, of whom it is told",
    "messages.reply_to.sender": "who has asked, and is answered",
}
"""By operation and parameter: those that have such a name, and name another than who acts."""

STEERING: Final = frozenset({"conflicts.open_vote", "conflicts.refer", "conflicts.resolve"})
"""Operations by which a verdict comes about, which may take from others what they hold."""

AS_AGENT: Final = frozenset({"conflicts.decide"})
"""Operations whose ``by`` is compared with whom it lies with: with an agent's key, the agent."""

_CLAIMS: Final = ("claims", "begun")
"""Parameters that are pairs of task and fence."""

_ENDED: Final = ("results", "failures")
"""Parameters that hold what became of claims, each with its fence."""


@dataclass(frozen=True, slots=True)
class Acting:
    """What one operation is told of who acts.

    Attributes:
        actors, owners, told, filled: The parameters that say it themselves.
        inner: Those of one struct or several, and the fields of these that say it.
        is_agent: Its ``by`` is who it lies with.
    """

    actors: tuple[str, ...]
    owners: tuple[str, ...]
    told: tuple[str, ...]
    filled: tuple[str, ...]
    inner: tuple[tuple[str, frozenset[str]], ...]
    is_agent: bool

    @property
    def is_kept(self) -> bool:
        """Something that is kept says who did it."""
        return bool(self.told or self.filled or self.inner)

    def in_place(self, caller: Caller, given: Iterable[dict[str, Any] | msgspec.Struct]) -> Any:
        """What goes in place of what was sent, so that it is true: by name."""
        found: dict[str, Any] = dict.fromkeys(self.told, caller.name)
        if not self.inner and caller.agent is None:
            return found
        values = named_of(given)
        if caller.agent is not None:
            if self.is_agent:
                found["by"] = caller.agent
            found |= {name: caller.agent for name in self.filled if not values.get(name)}
        for name, fields in self.inner:
            if name in values:
                found[name] = _with_true(values[name], fields, caller)
        return found


@cache
def _acting(name: str) -> Acting:
    operation = OPERATIONS[name]
    own = [one.name for one in operation.parameters if f"{name}.{one.name}" not in OTHERS]
    is_lock = operation.service == "locks"
    inner = [
        (one.name, fields & (ACTORS | OWNERS | TOLD))
        for one in operation.parameters
        if one.name in own
        for fields in [fields_of(one.type)]
    ]
    return Acting(
        actors=tuple(one for one in own if one in ACTORS),
        owners=tuple(one for one in own if one in OWNERS),
        told=tuple(one for one in own if one in TOLD),
        filled=tuple(one for one in own if one in FILLED or (is_lock and one == "agent")),
        inner=tuple((one, fields) for one, fields in inner if fields),
        is_agent=name in AS_AGENT,
    )


def acting_of(operation: Operation) -> Acting:
    """What the operation is told of who acts."""
    return _acting(operation.name)


def check_caller(caller: Caller, operation: Operation, *given: Any) -> None:
    """Raise NotPermitted where a key for one agent, or for some namespaces, does not do.

    Operators steer what is others' too: for them such names say what is steered.
    """
    if operation.is_global:
        caller.check_everywhere()
    if caller.agent is None or operation.role != "work":
        return
    acting, values = acting_of(operation), named_of(given)
    for actor in _said(acting.actors, ACTORS, acting, values):
        caller.check_agent(actor)
    for party in _parties(operation, values):
        if party.owner is not None or party.value is not msgspec.UNSET:
            caller.check_agent(party.name)


async def check_holder(
    caller: Caller, cb: Any, service: Any, operation: Operation, *given: Any
) -> None:
    """Raise NotPermitted where a key for one agent is shown with what another one holds.

    That is a claim, by its fence; a lock or a place in line, by its owner; a request that
    somebody waits for. A conflict whose verdict changes what others hold takes the role
    operate.
    """
    if caller.agent is None or operation.role != "work":
        return
    acting, values = acting_of(operation), named_of(given)
    owners = dict.fromkeys(_said(acting.owners, OWNERS, acting, values))
    owners |= dict.fromkeys(one.owner for one in _parties(operation, values) if one.owner)
    await asyncio.gather(*(_check_owner(caller.agent, cb, one) for one in owners))
    if operation.name == "messages._stop_waiting":
        caller.check_agent((await service.get(values["request_id"])).sender)
    if operation.name in STEERING:
        await _check_effect(caller, service, values["conflict_id"])
    if not isinstance(service, Holding):
        return
    claims = [one for name in _CLAIMS for one in values.get(name, ())]
    for name in _ENDED:
        claims += [(one.id, one.fence) for one in values.get(name, ())]
    if "fence" in values:
        claims.append((values["task_id"], values["fence"]))
    if claims:
        await service._check_holder(caller.agent, claims)


async def _check_owner(agent: str, cb: Any, owner: str) -> None:
    """Raise NotPermitted where a claim or a token is another agent's."""
    claim = claim_of(owner)
    if claim is not None:
        board, task_id, fence = claim
        await cb.board(board).tasks._check_holder(agent, [(task_id, fence)])
    elif is_owner(owner):  # What is none is refused by what it is given to.
        await cb.locks._check_owner(agent, owner)


async def _check_effect(caller: Caller, service: Any, conflict_id: str) -> None:
    """Raise NotPermitted where the verdict is to change whose a task or a lock is.

    Who may only work writes contexts anyhow, and of dependencies a verdict is advice.
    """
    conflict = await service.get(conflict_id)
    is_harmless = conflict.type == "context" or conflict.about == "dependency"
    if conflict.enforce and not is_harmless and conflict.resolution is None:
        caller.check("operate")


def _parties(operation: Operation, values: Mapping[str, Any]) -> Iterator[Party]:
    """Those of a report that bring something."""
    if operation.name == REPORT:
        yield from (one for one in values.get("parties", ()) if isinstance(one, Party))


def fields_of(kind: Any) -> frozenset[str]:
    """The fields of the structs that a parameter of this type is, or is a list of."""
    return frozenset(_fields(inspect.type_info(kind)))


def _fields(info: Any) -> Iterator[str]:
    match info:
        case inspect.StructType():
            yield from (one.name for one in info.fields)
        case inspect.UnionType():
            for one in info.types:
                yield from _fields(one)
        case inspect.CollectionType():
            yield from _fields(info.item_type)


def _said(
    own: Iterable[str], names: frozenset[str], acting: Acting, values: Mapping[str, Any]
) -> Iterator[str]:
    """Whom these parameters name, and these fields of what others hold."""
    for name in own:
        yield from _texts(values.get(name))
    for name, fields in acting.inner:
        for one in _each(values.get(name)):
            for field in fields & names:
                yield from _texts(getattr(one, field, None))


def _texts(value: Any) -> Iterator[str]:
    """One name; or the first of each pair."""
    if isinstance(value, str):
        if value:
            yield value
    elif value is not None:
        yield from (one for one, _ in value if one)


def _each(value: Any) -> Iterable[Any]:
    return value if isinstance(value, list | tuple) else (value,)


def _with_true(value: Any, fields: frozenset[str], caller: Caller) -> Any:
    """The struct, or each of several, with who did it as it is."""
    if isinstance(value, list | tuple):
        return [_with_true(one, fields, caller) for one in value]
    if not isinstance(value, msgspec.Struct):
        return value
    right: dict[str, str] = {}
    for field in fields:
        said = getattr(value, field, None)
        if field in TOLD and said:
            right[field] = caller.name
        elif caller.agent is not None and said == "" and _is_filled(value, field):
            right[field] = caller.agent
    return msgspec.structs.replace(value, **right) if right else value


def _is_filled(value: msgspec.Struct, field: str) -> bool:
    return field in FILLED or (field == "agent" and "owner" in value.__struct_fields__)
