"""What is posted to an agent, and what its answer means."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime
from typing import Any, Final, Literal

import msgspec

from callboard.dispatch.wire import Response
from callboard.domain.record import Claimed
from callboard.domain.retry import Failure
from callboard.domain.task import PRIORITIES, Requirements
from callboard.engine.codec import body_of
from callboard.engine.handed_in import Encoded, as_encoded
from callboard.exceptions import InvalidArgument, TooLarge
from callboard.outgoing import retry_after

SENDER: Final = "task_distributor"
TTL_SECONDS: Final = 300

TEMPORARY: Final = frozenset({408, 425, 429})
"""Of the 4xx; they speak of the moment, as all 5xx do."""

REASON_BYTES: Final = 300

RETRY_AFTER_SECONDS_MAX: Final = 3_600.0

Word = Literal["accepted", "completed", "failed", "undelivered", "released"]

_NAMES: Final = sorted(((value, name) for name, value in PRIORITIES.items()), reverse=True)


class Assignment(msgspec.Struct):
    """A task, as an agent is told of it."""

    task_id: str
    task_type: str
    task_data: msgspec.Raw
    requirements: Requirements | dict[str, Any]
    deadline: str | None
    priority: str
    assigned_agent: str
    status: str
    created_at: str
    updated_at: str
    board: str
    fence: int
    attempt: int
    lease: float


class AgentMessage(msgspec.Struct):
    """The envelope of what agents are sent."""

    id: str
    sender_id: str
    receiver_id: str
    message_type: str
    priority: str
    timestamp: str
    payload: Assignment
    correlation_id: str | None
    reply_to: str | None
    ttl: int


class Outcome(msgspec.Struct, frozen=True):
    """What became of a push.

    Attributes:
        word: ``accepted`` (it works on it), ``completed`` (with a result), ``failed`` (it was
            tried, or is refused), ``undelivered`` (the agent could not be asked), ``released`` (it
            was not asked).
        result: JSON, where it is completed; None for null.
        failure: Why not.
    """

    word: Word
    result: Encoded | None = None
    failure: Failure | None = None

    @property
    def is_heard(self) -> bool:
        """The agent itself answered. A gateway's 5xx may stand for one that is gone."""
        if self.word in ("accepted", "completed", "failed"):
            return True
        if self.word == "released" or self.failure is None:
            return False
        status = (self.failure.details or {}).get("status", 500)
        return self.failure.delay is not None or status < 500


class _Answer(msgspec.Struct):
    status: Any = ""
    result: msgspec.Raw = msgspec.Raw(b"null")
    error: Any = None
    message: Any = None
    retryable: Any = True


_encoder: Final = msgspec.json.Encoder()
_NULL: Final = msgspec.Raw(b"null")
_answers: Final = msgspec.json.Decoder(_Answer)


def priority_name(priority: int) -> str:
    """The name of a priority: that of the highest named one that it reaches."""
    for value, name in _NAMES:
        if priority >= value:
            return name
    return "low"


def assignment_message(claimed: Claimed, agent: str, lease: float) -> bytes:
    """The body to post: an assignment in the envelope of a message."""
    body = body_of(claimed.body)
    priority = priority_name(claimed.priority)
    claimed_at = _iso(claimed.claimed_at)
    return _encoder.encode(
        AgentMessage(
            id=f"{claimed.board}/{claimed.id}/{claimed.fence}",
            sender_id=SENDER,
            receiver_id=agent,
            message_type="task_assignment",
            priority="critical" if priority == "urgent" else priority,
            timestamp=claimed_at,
            payload=Assignment(
                task_id=claimed.id,
                task_type=claimed.kind,
                task_data=claimed.payload,
                requirements=body.requirements or {},
                deadline=None if body.deadline is None else _iso(body.deadline),
                priority=priority,
                assigned_agent=agent,
                status="assigned",
                created_at=_iso(claimed.created_at),
                updated_at=claimed_at,
                board=claimed.board,
                fence=claimed.fence,
                attempt=claimed.attempt,
                lease=claimed.lease or lease,
            ),
            correlation_id=claimed.id,
            reply_to=None,
            ttl=TTL_SECONDS,
        )
    )


def headers_of(claimed: Claimed) -> dict[str, str]:
    """Headers by which an agent knows a task again, whoever pushes it."""
    headers = {
        "content-type": "application/json",
        "accept": "application/json",
        "accept-encoding": "identity",
        "user-agent": "callboard",
        "idempotency-key": f"{claimed.board}/{claimed.id}",
        "callboard-fence": str(claimed.fence),
    }
    if claimed.trace_context:
        headers["traceparent"] = claimed.trace_context
    return headers


def outcome_of(agent: str, response: Response) -> Outcome:
    """What an agent's response means for the task."""
    status = response.status
    if 200 <= status < 300:
        return _taken(agent, response) if status in (200, 201) else Outcome("accepted")
    said = response.body[:REASON_BYTES].decode("utf-8", "replace").strip()
    details: dict[str, Any] = {"agent": agent, "status": status}
    if 300 <= status < 400:
        text = f"Agent {agent} answered {status}: redirects are not followed."
        return undelivered(text, **details)
    text = f"Agent {agent} answered {status}{f': {said}' if said else '.'}"
    if status >= 500 or status in TEMPORARY or status < 200:
        delay = retry_after(response.headers.get("retry-after", ""), RETRY_AFTER_SECONDS_MAX)
        return undelivered(text, delay, **details)
    return Outcome("failed", failure=Failure("refused_by_agent", text, True, details=details))


def undelivered(message: str, delay: float | None = None, **details: Any) -> Outcome:
    """The agent could not be asked, and wants to be left alone for *delay* seconds."""
    failure = Failure("undelivered", message, True, delay, details or None)
    return Outcome("undelivered", failure=failure)


def _taken(agent: str, response: Response) -> Outcome:
    """It was taken; perhaps it is over already."""
    if "html" in response.headers.get("content-type", "").lower():
        return _unreadable(agent, "with a web page")
    if response.body.lstrip()[:1] != b"{":
        return Outcome("accepted")
    try:
        answer = _answers.decode(response.body)
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError) as error:
        return _unreadable(agent, f"with JSON that cannot be read ({error})")
    if not isinstance(answer.status, str | None):
        return _unreadable(agent, "with a status that is no text")
    status = (answer.status or "").lower()
    if status in ("completed", "done"):
        result = msgspec.Raw(bytes(answer.result))
        try:  # here, so that one that cannot be kept keeps no other from being handed in
            return Outcome("completed", None if result == _NULL else as_encoded(result))
        except (InvalidArgument, TooLarge) as error:
            text = f"Agent {agent} answered with a result that cannot be kept: {error}"
            return Outcome("failed", failure=Failure(error.code, text, False))
    if status in ("failed", "error"):
        return Outcome("failed", failure=_failure(agent, answer))
    return Outcome("accepted")


def _unreadable(agent: str, how: str) -> Outcome:
    """It may have done the task or not; whether it has it, it did not say."""
    text = f"Agent {agent} answered {how}. It must be an object whose status is text, or nothing."
    return Outcome(
        "failed", failure=Failure("unreadable_answer", text, True, details={"agent": agent})
    )


def _failure(agent: str, answer: _Answer) -> Failure:
    """What the agent says of its failure: text, or an object with type and message."""
    error = answer.error
    if isinstance(error, Mapping):
        kind, text = error.get("type"), error.get("message")
        retryable = error.get("retryable", answer.retryable)
    else:
        kind, text, retryable = None, error, answer.retryable
    unsaid = f"Agent {agent} says that it failed, and not why."
    return Failure(
        kind if isinstance(kind, str) and kind else "failed_by_agent",
        next((one for one in (text, answer.message) if isinstance(one, str) and one), unsaid),
        retryable is not False,
        details={"agent": agent},
    )


def _iso(at: datetime) -> str:
    return at.isoformat(timespec="microseconds")
