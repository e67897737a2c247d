"""Between values and the rows and replies of the functions."""

from __future__ import annotations

import math
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from typing import Any, Final, NamedTuple, TypeVar

import msgspec

from callboard.domain import task as tasks
from callboard.domain.bounds import SHALLOW_BYTES, check_depth, too_deep
from callboard.domain.flow import flow_field
from callboard.domain.names import check_name
from callboard.domain.ordering import sort_batch
from callboard.domain.record import Claimed, Record, parse_record
from callboard.domain.retry import DEFAULT_POLICY, RetryPolicy
from callboard.exceptions import InvalidArgument, TooLarge

T = TypeVar("T")
Row = tuple[str, bytes, str, str, bytes]
"""Id, body, spec, options and large payload of one task: see ``task_submit.lua``."""


def _foreign(value: Any) -> Any:
    """JSON form of values msgspec does not know: pydantic models, and anything alike."""
    dump = getattr(value, "model_dump", None)
    if dump is not None:
        return dump(mode="json")
    raise TypeError(f"{type(value).__name__} has no JSON form")


_encoder: Final = msgspec.json.Encoder(enc_hook=_foreign)
_body_encoder: Final = msgspec.json.Encoder()
_body_decoder: Final = msgspec.json.Decoder(tasks.Body)


def encode_json(what: str, value: Any, limit: int = tasks.PAYLOAD_BYTES_MAX) -> bytes:
    """JSON of *value*, verbatim where it is ``msgspec.Raw`` already.

    Raises:
        InvalidArgument: It has no JSON form, holds NaN or Infinity, is not JSON, or is nested
            more than 100 levels deep.
        TooLarge: It is over *limit* bytes.
    """
    if isinstance(value, msgspec.Raw):
        encoded = bytes(value)
        if len(encoded) > SHALLOW_BYTES:
            check_depth(what, encoded)
        try:
            msgspec.json.decode(encoded)
        except (msgspec.DecodeError, UnicodeDecodeError) as error:
            raise InvalidArgument(f"{what} is not valid JSON: {error}.", field=what) from error
    else:
        try:
            encoded = _encoder.encode(value)
        except RecursionError as error:
            raise too_deep(what) from error
        except (TypeError, ValueError) as error:
            raise InvalidArgument(
                f"{what} cannot be written as JSON: {error}.", field=what
            ) from error
        if len(encoded) > SHALLOW_BYTES:
            check_depth(what, encoded)
        # The encoder writes null for numbers that JSON does not have.
        if b"null" in encoded and value is not None and not _is_finite(value):
            raise InvalidArgument(
                f"{what} holds NaN or Infinity, which JSON does not have. Use None or a string.",
                field=what,
            )
    if len(encoded) > limit:
        raise TooLarge(
            f"{what} is {len(encoded):,} bytes of JSON; at most {limit:,} are kept. "
            "Store large data elsewhere and pass a reference.",
            field=what,
        )
    return encoded


def _is_finite(value: Any) -> bool:
    """Whether all numbers in a value that the encoder took can be written in JSON."""
    left = [msgspec.to_builtins(value, enc_hook=_foreign_or_raw)]
    while left:
        part = left.pop()
        if isinstance(part, float) and not math.isfinite(part):
            return False
        if isinstance(part, dict):
            left += part.values()
        elif isinstance(part, list | tuple):
            left += part
    return True


def _foreign_or_raw(value: Any) -> Any:
    return None if isinstance(value, msgspec.Raw) else _foreign(value)


def decode_json(raw: bytes | None, otherwise: Any = None) -> Any:
    """The value of stored JSON; *otherwise* where nothing is stored."""
    return msgspec.json.decode(raw) if raw else otherwise


def row_of(spec: tasks.TaskSpec, parent: str | None = None) -> Row:
    """Check a task and write it as the five values that the engine takes.

    Raises:
        InvalidArgument: A field is wrong; the message names task, field and cure.
    """
    if not isinstance(spec, tasks.TaskSpec):
        raise InvalidArgument(
            f"A task to submit is a TaskSpec, not {type(spec).__name__}.", field="specs"
        )
    task_id = tasks.new_id() if spec.id is None else check_name("task id", spec.id)
    try:
        payload = encode_json("payload", spec.payload)
        flow = flow_field(spec.concurrency_key, spec.rate_key, spec.fairness_key)
        lane = tasks.lane_of(spec.kind, spec.requirements, flow)
        priority = tasks.check_priority(spec.priority)
        if parent is None and not flow and not priority and _is_plain(spec):
            body = b'{"kind":"%b"%b}' % (spec.kind.encode(), _inline(payload))
            if len(payload) <= tasks.PAYLOAD_INLINE_MAX:
                return task_id, body, f"||{lane}|0||", "", b""
        return _full_row(spec, task_id, payload, lane, priority, parent)
    except InvalidArgument as error:
        if spec.id is not None or spec.title:
            error.args = (f"Task {spec.id or spec.title!r}: {error.message}",)
            error.message = error.args[0]
        raise


def _inline(payload: bytes) -> bytes:
    return b"" if payload == b"null" else b',"payload":' + payload


def _is_plain(spec: tasks.TaskSpec) -> bool:
    return not (
        spec.title
        or spec.description
        or spec.depends_on
        or spec.requirements != tasks.NO_REQUIREMENTS
        or spec.unique is not None
        or spec.suggested_worker is not None
        or spec.affinity_key is not None
        or spec.created_by
        or spec.metadata is not None
        or spec.trace_context
        or spec.not_before is not None
        or spec.delay is not None
        or spec.deadline is not None
        or spec.timeout is not None
        or spec.lease is not None
        or spec.retry is not None
        or spec.on_dependency_failure != "fail"
    )


def _full_row(
    spec: tasks.TaskSpec, task_id: str, payload: bytes, lane: str, priority: int, parent: str | None
) -> Row:
    is_large = len(payload) > tasks.PAYLOAD_INLINE_MAX
    policy = check_policy("on_dependency_failure", spec.on_dependency_failure)
    retry = _policy(spec.retry)
    dependencies = dependencies_of(spec)
    for name in ("title", "description", "created_by", "trace_context"):
        _check_text(name, getattr(spec, name))
    options, flags = _options_of(spec, dependencies, parent)
    spec_line = _spec_line(spec, lane, priority, flags)
    body = tasks.Body(
        kind=spec.kind,
        payload=tasks.NULL if is_large or payload == b"null" else msgspec.Raw(payload),
        title=spec.title,
        description=spec.description,
        priority=priority,
        requirements=None if spec.requirements == tasks.NO_REQUIREMENTS else spec.requirements,
        depends_on=dependencies,
        on_dependency_failure=policy,
        suggested_worker=spec.suggested_worker,
        unique=spec.unique,
        created_by=spec.created_by,
        metadata=msgspec.UNSET
        if spec.metadata is None
        else msgspec.Raw(encode_json("metadata", _object("metadata", spec.metadata), 65_536)),
        trace_context=spec.trace_context,
        not_before=spec.not_before,
        deadline=spec.deadline,
        timeout=None if spec.timeout is None else float(spec.timeout),
        lease=None if spec.lease is None else float(spec.lease),
        retry=retry,
        concurrency_key=spec.concurrency_key,
        rate_key=spec.rate_key,
        fairness_key=spec.fairness_key,
        affinity_key=spec.affinity_key,
    )
    return task_id, _body_encoder.encode(body), spec_line, options, payload if is_large else b""


def _policy(policy: RetryPolicy | None) -> RetryPolicy | None:
    if policy is not None and not isinstance(policy, RetryPolicy):
        raise InvalidArgument("retry must be a RetryPolicy.", field="retry")
    return None if policy == DEFAULT_POLICY else policy


def check_policy(what: str, policy: Any) -> str:
    """The policy of a dependency's failure, as the one string of that word."""
    for name in tasks.POLICY_FLAGS:
        if policy == name:
            return name
    raise InvalidArgument(f"{what} is {policy!r}; use fail, skip or run.", field=what)


def _object(what: str, value: Any) -> Mapping[str, Any]:
    if not isinstance(value, Mapping):
        raise InvalidArgument(f"{what} must be an object, not {type(value).__name__}.", field=what)
    return value


def _check_text(what: str, value: Any, most: int = 65_536) -> None:
    if not isinstance(value, str):
        raise InvalidArgument(f"{what} must be a string, not {type(value).__name__}.", field=what)
    if len(value) > most:
        raise TooLarge(
            f"{what} has {len(value):,} characters; at most {most:,} are kept.", field=what
        )


def _spec_line(spec: tasks.TaskSpec, lane: str, priority: int, flags: str) -> str:
    lease = (
        ""
        if spec.lease is None
        else tasks.check_seconds("lease", spec.lease, tasks.LEASE_MIN, tasks.LEASE_MAX)
    )
    timeout = (
        ""
        if spec.timeout is None
        else tasks.check_seconds("timeout", spec.timeout, 0.001, 31_536_000)
    )
    retry = "" if spec.retry is None else spec.retry.encode()
    return f"{lease}|{timeout}|{lane}|{priority}|{flags}|{retry}"


def _options_of(
    spec: tasks.TaskSpec, dependencies: Sequence[str], parent: str | None
) -> tuple[str, str]:
    """The optional lines of a row, and the flags of its record."""
    lines = []
    if dependencies:
        lines.append("d=" + ",".join(dict.fromkeys(dependencies)))
    if spec.unique is not None:
        lines.append("u=" + _key("unique", spec.unique))
    if spec.affinity_key is not None:
        lines.append("a=" + _key("affinity_key", spec.affinity_key))
    if spec.not_before is not None and spec.delay is not None:
        raise InvalidArgument("Give not_before or delay, not both.", field="delay")
    if spec.not_before is not None:
        lines.append(f"n={tasks.to_ms(spec.not_before, 'not_before')}")
    if spec.delay is not None:
        lines.append(f"w={tasks.check_seconds('delay', spec.delay, 0, 31_536_000)}")
    if spec.deadline is not None:
        lines.append(f"x={tasks.to_ms(spec.deadline, 'deadline')}")
    if spec.suggested_worker is not None:
        agent = check_name("suggested_worker", spec.suggested_worker)
        lines.append(f"s={agent}|{round(tasks.SUGGESTION_SECONDS * 1000)}")
    if parent is not None:
        lines.append(f"t={parent}")
    return "\n".join(lines), tasks.POLICY_FLAGS[spec.on_dependency_failure]


def dependencies_of(spec: tasks.TaskSpec) -> tuple[str, ...]:
    """The ids of the tasks before this one, checked, as they were given."""
    if isinstance(spec.depends_on, str):
        raise InvalidArgument(
            "depends_on must be a list of task ids, not one string.", field="depends_on"
        )
    if not isinstance(spec.depends_on, Collection):
        raise InvalidArgument(
            f"depends_on must be a list of task ids, not {type(spec.depends_on).__name__}.",
            field="depends_on",
        )
    ids = tuple(spec.depends_on)
    if len(ids) > tasks.DEPENDENCIES_MAX:
        raise TooLarge(
            f"A task may depend on at most {tasks.DEPENDENCIES_MAX:,} others, not {len(ids):,}.",
            field="depends_on",
        )
    for name in ids:
        check_name("dependency", name)
    return ids


def _key(what: str, key: Any) -> str:
    if not isinstance(key, str) or not 1 <= len(key) <= 256 or "\n" in key:
        raise InvalidArgument(
            f"{what} must be 1 to 256 characters without a line break.", field=what
        )
    return str(key)


def values_of_rows(rows: Sequence[Row]) -> tuple[str, list[str | bytes]]:
    """The spec that all rows have and nothing else, with two values a row; else none, and all."""
    spec = rows[0][2]
    values: list[str | bytes] = []
    for task_id, body, own, options, payload in rows:
        if own != spec or options or payload:
            return "", [value for row in rows for value in row]
        values += (task_id, body)
    return spec, values


def row_bytes(row: Row) -> int:
    """About what a row takes in a call."""
    return len(row[1]) + len(row[3]) + len(row[4]) + 100


class _Placed(NamedTuple):
    """A row with what its place depends on."""

    id: str
    depends_on: Sequence[str]
    row: Row


def in_order(specs: Sequence[tasks.TaskSpec], rows: Sequence[Row]) -> list[Row]:
    """The rows of these tasks, each behind those that it depends on.

    Raises:
        DependencyCycle: There is no such order.
    """
    pairs = zip(specs, rows, strict=True)
    placed = sort_batch([_Placed(row[0], spec.depends_on, row) for spec, row in pairs])
    return [item.row for item in placed]


def in_batches(items: Iterable[T], bytes_of: Callable[[T], int]) -> Iterator[list[T]]:
    """Cut into what one call may carry: 1,000 items, and 8 MiB where it is more than one."""
    batch: list[T] = []
    size = 0
    for item in items:
        item_bytes = bytes_of(item)
        if batch and (len(batch) == tasks.BATCH_MAX or size + item_bytes > tasks.BATCH_BYTES_MAX):
            yield batch
            batch, size = [], 0
        batch.append(item)
        size += item_bytes
    if batch:
        yield batch


def body_of(raw: bytes) -> tasks.Body:
    """Decode a stored body."""
    return _body_decoder.decode(raw)


def claimed_of(board: str, values: Sequence[Any]) -> list[Claimed]:
    """The tasks in the flat part of a claim's reply, five values each."""
    return [Claimed(board, *values[i : i + 5]) for i in range(0, len(values), 5)]


def record_of(raw: bytes) -> Record | None:
    """The moving record in what ``task_read`` gave; None where there is none, or not any more."""
    return parse_record(raw) if raw.count(b"|") >= 15 else None


def task_of(board: str, task_id: str, values: Sequence[Any]) -> tasks.Task | None:
    """A task from the six values of ``task_read``; None where there is none."""
    raw, body_raw, result, deadline, payload, extra_values = values
    record = record_of(raw)
    if record is None:
        return None
    body = body_of(body_raw)
    extra = {extra_values[i].decode(): extra_values[i + 1] for i in range(0, len(extra_values), 2)}
    texts = {name: extra[name].decode() for name in ("reason", "cause", "parent") if name in extra}
    values_of = {
        name: decode_json(extra.get(name))
        for name in ("error", "progress", "partial", "question", "answer")
    }
    return tasks.Task(
        id=task_id,
        board=board,
        kind=body.kind,
        status=record.status,
        payload=msgspec.Raw(payload) if payload else body.payload,
        title=body.title,
        description=body.description,
        priority=record.priority,
        requirements=body.requirements or tasks.NO_REQUIREMENTS,
        depends_on=body.depends_on,
        on_dependency_failure=body.on_dependency_failure,
        suggested_worker=body.suggested_worker,
        unique=body.unique,
        created_by=body.created_by,
        metadata=None if body.metadata is msgspec.UNSET else decode_json(bytes(body.metadata)),
        trace_context=body.trace_context,
        not_before=body.not_before,
        deadline=body.deadline if "X" in record.flags else None,
        timeout=body.timeout,
        lease=body.lease,
        retry=body.retry or DEFAULT_POLICY,
        concurrency_key=body.concurrency_key,
        rate_key=body.rate_key,
        fairness_key=body.fairness_key,
        affinity_key=body.affinity_key,
        attempt=record.attempt,
        failures=record.failures,
        crashes=record.crashes,
        fence=record.fence,
        agent=record.agent,
        instance=record.instance,
        created_at=tasks.at_ms(record.created_ms),
        since=tasks.at_ms(record.since_ms),
        until=tasks.at_ms(float(deadline)) if deadline else None,
        duration=int(record.score) / 1000 if record.letter == "d" and record.score else None,
        result=decode_json(result),
        answers=_answers(extra),
        children=tuple(
            tuple(batch.split(","))
            for batch in extra.get("children", b"").decode().split(";")
            if batch
        ),
        cancel_requested="C" in record.flags,
        has_notes="M" in record.flags,
        **texts,
        **values_of,
    )


def _answers(extra: Mapping[str, bytes]) -> tuple[msgspec.Raw, ...]:
    numbered = sorted(
        (int(name[7:]), raw) for name, raw in extra.items() if name.startswith("answer:")
    )
    return tuple(msgspec.Raw(raw) for _, raw in numbered)


def summary_of(task_id: bytes, raw: bytes) -> tasks.TaskSummary:
    """A line of a list from an id and its record."""
    record = parse_record(raw)
    return tasks.TaskSummary(
        id=task_id.decode(),
        kind=record.kind,
        status=record.status,
        priority=record.priority,
        attempt=record.attempt,
        failures=record.failures,
        crashes=record.crashes,
        agent=record.agent,
        instance=record.instance,
        fence=record.fence,
        created_at=tasks.at_ms(record.created_ms),
        since=tasks.at_ms(record.since_ms),
    )
