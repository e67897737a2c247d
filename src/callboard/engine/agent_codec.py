"""Between agents and the rows and replies of the functions on the roster."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from typing import Any

import msgspec

from callboard.domain import agent as agents
from callboard.domain.agent import Agent, AgentSpec, Instance, Standing
from callboard.domain.bounds import check_whole
from callboard.domain.task import at_ms
from callboard.engine.codec import encode_json
from callboard.exceptions import InvalidArgument


def fields_of(spec: AgentSpec) -> list[str | bytes]:
    """The documented fields of the agent's hash, names and values in turn.

    Raises:
        InvalidArgument: A field is wrong; the message names it.
        TooLarge: Metadata or endpoints are over 64 KiB of JSON.
    """
    if not spec.agent_type:
        raise InvalidArgument(
            "agent_type is empty. Leave it out for 'worker', or give a name.", field="agent_type"
        )
    version = agents.check_version(spec.version)
    endpoints = agents.check_endpoints(spec.endpoints)
    tags = agents.tags_of(spec.tags)
    return [
        *("agent_type", spec.agent_type, "version", version, "tag_list", tags),
        *("capabilities", _list(spec.capabilities), "services", _list(spec.services)),
        *("kinds", _list(spec.kinds), "tags", _list(spec.tags)),
        *("labels", _object("labels", spec.labels)),
        *("endpoints", _object("endpoints", endpoints), "push", agents.push_address(endpoints)),
        *("metadata", _object("metadata", agents.check_metadata(spec.metadata))),
        *("weight", f"{agents.check_weight(spec.weight):g}"),
        *("priority", str(_priority(spec.priority))),
    ]


def _priority(priority: object) -> int:
    return check_whole("priority", priority, -agents.PRIORITY_MOST, agents.PRIORITY_MOST)


def _list(names: Sequence[str]) -> bytes:
    return msgspec.json.encode(list(names))


def _object(what: str, value: Mapping[str, Any]) -> bytes:
    return encode_json(what, value, agents.JSON_MAX)


def agent_of(now_ms: float, values: Sequence[Any]) -> Agent:
    """An agent from the six values of ``agent_read``.

    Fields that somebody else's writes left unreadable are given their defaults: an agent
    that cannot be shown would hide the others.
    """
    health, held, parked, reserved, flat, raw_instances = values
    raw = {flat[i].decode(): flat[i + 1] for i in range(0, len(flat), 2)}
    text = {name: value.decode(errors="replace") for name, value in raw.items()}
    number = {name: _int(text.get(name, "")) for name in _NUMBERS}
    parts = [
        _instance(*(part.decode() for part in raw_instances[i : i + 3]))
        for i in range(0, len(raw_instances), 3)
    ]
    parts.sort(key=lambda part: (part.registered_at, part.id))
    now = at_ms(now_ms)
    live = [part for part in parts if not part.is_ending]
    last = max((p.last_heartbeat for p in live), default=_moment(text.get("last_heartbeat")))
    interval = number["interval_ms"] / 1000 or agents.HEARTBEAT_DEFAULT
    declared = text.get("declared") or text.get("status", "")
    undelivered, rests_until = _deliveries(text.get("undelivered", ""), now)
    standing = Standing(
        declared=declared,
        gone=text.get("gone", ""),
        silent_for=max((now - last).total_seconds(), 0.0) if last else 0.0,
        interval=max((part.heartbeat_interval for part in live), default=interval),
        heard=any(part.last_heartbeat > part.registered_at for part in live) or not live,
        held=int(held),
        slots=number["ready_limit"],
        lapsed=number["lapsed"],
        undelivered=undelivered,
        rests_for=(rests_until - now).total_seconds() if rests_until else 0.0,
    )
    state, reason = agents.judge(text.get("agent_id", ""), standing)
    return Agent(
        id=text.get("agent_id", ""),
        agent_type=text.get("agent_type", ""),
        status=text.get("status", ""),
        declared=declared,
        state=state,
        reason=reason,
        health=float(health),
        capabilities=_json(raw, "capabilities", tuple[str, ...], ()),
        services=_json(raw, "services", tuple[str, ...], ()),
        labels=_json(raw, "labels", dict[str, str], {}),
        kinds=_json(raw, "kinds", tuple[str, ...], ()),
        tags=_json(raw, "tags", tuple[str, ...], ()),
        endpoints=_json(raw, "endpoints", dict[str, str], {}),
        metadata=_json(raw, "metadata", dict[str, Any], {}),
        version=text.get("version", ""),
        load=_json(raw, "load_metrics", dict[str, float], {}),
        max_concurrent=number["max_concurrent"],
        capacity=number["claim_limit"],
        slots=standing.slots,
        held=int(held),
        parked=int(parked),
        reserved=int(reserved),
        lapsed=number["lapsed"],
        undelivered=undelivered,
        rests_until=rests_until,
        weight=_json(raw, "weight", float, 1.0),
        priority=_json(raw, "priority", int, 0),
        revision=number["revision"],
        heartbeat_interval=interval,
        registered_at=_moment(text.get("registration_time")) or now,
        last_heartbeat=last,
        instances=tuple(part for part in parts if part.id),
        gone=text.get("gone", ""),
        gone_at=at_ms(number["gone_since"]) if number["gone_since"] else None,
        at=now,
    )


_NUMBERS = (
    "interval_ms",
    "ready_limit",
    "claim_limit",
    "max_concurrent",
    "lapsed",
    "revision",
    "gone_since",
)


def _instance(name: str, record: str, beat_ms: str) -> Instance:
    run, ahead, since, interval, pid, mark, host = record.split("|", 6)
    return Instance(
        id=name,
        max_concurrent=int(run),
        prefetch=int(ahead),
        host=host,
        pid=_int(pid),
        heartbeat_interval=int(interval) / 1000,
        registered_at=at_ms(int(since)),
        last_heartbeat=at_ms(int(beat_ms)),
        is_ending=bool(mark),
    )


def _deliveries(text: str, now: datetime) -> tuple[int, datetime | None]:
    """How many deliveries failed in a row, and until when it rests therefore."""
    failed, _, rest = text.partition("|")
    until_ms = _int(rest.partition("|")[0])
    until = at_ms(until_ms) if until_ms else None
    return _int(failed), until if until is not None and until > now else None


def _int(text: str) -> int:
    return int(text) if text.isdecimal() else 0


def _json(raw: Mapping[str, bytes], name: str, kind: Any, otherwise: Any) -> Any:
    try:
        return msgspec.json.decode(raw[name], type=kind)
    except (KeyError, msgspec.MsgspecError):
        return otherwise


def _moment(text: str | None) -> datetime | None:
    try:
        moment = datetime.fromisoformat(text) if text else None
    except ValueError:
        return None
    return moment.replace(tzinfo=moment.tzinfo or UTC) if moment else None
