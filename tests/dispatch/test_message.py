"""What an agent's answer means, and how priorities are called."""

from __future__ import annotations

import pytest

from callboard.dispatch.message import outcome_of, priority_name
from callboard.dispatch.wire import Response


@pytest.mark.parametrize(
    ("priority", "name"),
    [
        *((-1_000, "low"), (-11, "low"), (-10, "low"), (-1, "low"), (0, "normal"), (9, "normal")),
        *((10, "high"), (20, "critical"), (29, "critical"), (30, "urgent"), (1_000, "urgent")),
    ],
)
def test_a_priority_is_called_by_the_highest_named_one_that_it_reaches(
    priority: int, name: str
) -> None:
    assert priority_name(priority) == name


@pytest.mark.parametrize(
    ("status", "word"),
    [
        *((200, "accepted"), (202, "accepted"), (204, "accepted"), (299, "accepted")),
        *((301, "undelivered"), (307, "undelivered"), (304, "undelivered")),
        *((400, "failed"), (401, "failed"), (404, "failed"), (409, "failed"), (422, "failed")),
        *((408, "undelivered"), (425, "undelivered"), (429, "undelivered")),
        *((500, "undelivered"), (503, "undelivered"), (599, "undelivered"), (700, "undelivered")),
    ],
)
def test_a_status_means_what_the_reference_says(status: int, word: str) -> None:
    assert outcome_of("a", Response(status, {}, b"")).word == word


@pytest.mark.parametrize(
    ("header", "delay"),
    [
        *(("30", 30.0), ("0", 0.0), ("1.5", 1.5), ("999999", 3_600.0)),
        *(("Thu, 01 Jan 1970 00:00:00 GMT", 0.0), ("soon", None), ("-1", None)),
    ],
)
def test_who_asks_to_be_left_alone_is(header: str, delay: float | None) -> None:
    outcome = outcome_of("a", Response(503, {"retry-after": header}, b""))

    assert outcome.failure is not None
    assert outcome.failure.delay == delay


@pytest.mark.parametrize(
    ("body", "kind", "message", "retryable"),
    [
        (b'{"status":"failed"}', "failed_by_agent", "Agent a says that it failed", True),
        (b'{"status":"error","message":"m"}', "failed_by_agent", "m", True),
        (b'{"status":"failed","error":"e","message":"m"}', "failed_by_agent", "e", True),
        (b'{"status":"failed","error":{"type":"T","message":"e"}}', "T", "e", True),
        (b'{"status":"failed","error":{"retryable":false}}', "failed_by_agent", "", False),
        (b'{"status":"failed","error":[1],"retryable":false}', "failed_by_agent", "", False),
        (b'{"status":"failed","retryable":"no"}', "failed_by_agent", "", True),
    ],
    ids=["bare", "message", "text", "object", "final", "list", "word"],
)
def test_a_failure_is_read_however_it_is_told(
    body: bytes, kind: str, message: str, retryable: bool
) -> None:
    outcome = outcome_of("a", Response(200, {}, b" \n" + body))

    assert (outcome.word, outcome.failure is not None) == ("failed", True)
    assert outcome.failure is not None
    assert (outcome.failure.type, outcome.failure.retryable) == (kind, retryable)
    assert message in outcome.failure.message


@pytest.mark.parametrize(
    ("body", "kind"),
    [
        (b'{"status":"completed","result":', "application/json"),
        (b'{"status":"completed","result":NaN}', "application/json"),
        (b'{"status":["completed"]}', "application/json"),
        (b'{"status":"completed"} trailing', "application/json"),
        (b"<html>sign in</html>", "text/html; charset=utf-8"),
        (b"", "Text/HTML"),
    ],
    ids=["cut", "nan", "list", "trailing", "page", "empty_page"],
)
def test_an_answer_that_cannot_be_read_is_a_failed_attempt(body: bytes, kind: str) -> None:
    outcome = outcome_of("a", Response(200, {"content-type": kind}, body))

    assert outcome.word == "failed"
    assert outcome.failure is not None
    assert (outcome.failure.type, outcome.failure.retryable) == ("unreadable_answer", True)


@pytest.mark.parametrize(
    ("status", "headers", "is_heard"),
    [
        *((200, {}, True), (202, {}, True), (302, {}, True), (404, {}, True), (429, {}, True)),
        *((500, {}, False), (503, {}, False), (503, {"retry-after": "0"}, True)),
    ],
)
def test_an_answer_shows_that_the_agent_lives_unless_a_gateway_may_have_given_it(
    status: int, headers: dict[str, str], is_heard: bool
) -> None:
    assert outcome_of("a", Response(status, headers, b"")).is_heard is is_heard


def test_what_an_agent_says_with_its_refusal_is_cut() -> None:
    outcome = outcome_of("a", Response(400, {}, b"x" * 100_000))

    assert outcome.failure is not None
    assert len(outcome.failure.message) < 500
