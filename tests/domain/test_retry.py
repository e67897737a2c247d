from __future__ import annotations

import json
import math

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from callboard.domain.retry import Failure, RetryPolicy
from callboard.exceptions import Fatal, InvalidArgument, Retry, TaskNotFound

policies = st.builds(
    RetryPolicy,
    max_retries=st.integers(0, 1_000),
    base=st.floats(0, 86_400),
    factor=st.floats(1, 100),
    cap=st.floats(0, 2_592_000),
)


# The policy refuses


@pytest.mark.parametrize(
    ("field", "value", "bounds"),
    [
        ("max_retries", -1, "whole number from 0 to 1000"),
        ("max_retries", 1_001, "whole number from 0 to 1000"),
        ("max_retries", 2.0, "whole number from 0 to 1000"),
        ("max_retries", True, "whole number from 0 to 1000"),
        ("base", -0.1, "number from 0 to 86400"),
        ("base", math.nan, "number from 0 to 86400"),
        ("base", "1", "number from 0 to 86400"),
        ("factor", 0.5, "number from 1 to 100"),
        ("factor", math.inf, "number from 1 to 100"),
        ("cap", 2_592_001.0, "number from 0 to 2592000"),
        ("cap", None, "number from 0 to 2592000"),
        pytest.param("cap", 10**6_000, "number from 0 to 2592000", id="cap-endless"),
    ],
)
def test_policy_out_of_bounds_names_field_value_and_bounds(field, value, bounds):
    with pytest.raises(InvalidArgument, match=f"{field} is .*; it must be a {bounds}") as caught:
        RetryPolicy(**{field: value})
    assert caught.value.details["field"] == field


def test_jitter_other_than_full_is_refused():
    with pytest.raises(InvalidArgument, match="jitter is 'none'"):
        RetryPolicy(jitter="none")  # type: ignore[arg-type]


@pytest.mark.parametrize(
    "text", ["3", "1:2:3", "1:2:3:4:5", "a:1:1:1", "-1:1:1000:1", "1:1.5:1000:1", "²:1:1000:1", ":"]
)
def test_text_of_another_form_is_refused(text):
    with pytest.raises(InvalidArgument, match="max:base_ms:factor_milli:cap_ms"):
        RetryPolicy.decode(text)


def test_text_out_of_bounds_is_refused_by_field():
    with pytest.raises(InvalidArgument, match="factor is 0"):
        RetryPolicy.decode("3:1000:0:300000")


@pytest.mark.parametrize("failures", [0, -1, 1.5])
def test_delay_before_the_first_failure_is_refused(failures):
    with pytest.raises(InvalidArgument, match=r"failures is .*whole number of at least 1"):
        RetryPolicy().delay_bound(failures)


@pytest.mark.parametrize("random_unit", [-0.1, 1.1, math.nan])
def test_random_number_out_of_the_unit_is_refused(random_unit):
    with pytest.raises(InvalidArgument, match="random_unit"):
        RetryPolicy().delay(1, random_unit)


# The policy answers


def test_default_bounds_double_up_to_five_minutes():
    policy = RetryPolicy()

    assert [policy.delay_bound(n) for n in (1, 2, 3, 4, 9, 10, 11)] == [1, 2, 4, 8, 256, 300, 300]


def test_three_retries_end_at_the_fourth_failure():
    policy = RetryPolicy(max_retries=3)

    assert [policy.allows(failures) for failures in (1, 3, 4)] == [True, True, False]


def test_full_jitter_is_a_share_of_the_bound():
    policy = RetryPolicy(base=10.0)

    assert [policy.delay(2, unit) for unit in (0.0, 0.25, 1.0)] == [0.0, 5.0, 20.0]


@pytest.mark.parametrize("failures", [2_000, 10**9, 10**400])
def test_huge_number_of_failures_does_not_overflow(failures):
    assert RetryPolicy().delay_bound(failures) == 300.0
    assert RetryPolicy(factor=100.0, base=86_400.0).delay_bound(failures) == 300.0
    assert RetryPolicy(factor=1.0, base=2.0).delay_bound(failures) == 2.0
    assert RetryPolicy(base=0.0).delay_bound(failures) == 0.0


def test_slowest_growth_has_met_the_highest_cap_where_the_exponent_stops():
    policy = RetryPolicy(base=0.001, factor=1.001, cap=2_592_000.0)

    assert policy.delay_bound(100_001) == 2_592_000.0


def test_default_policy_takes_no_room():
    assert RetryPolicy().encode() == ""
    assert RetryPolicy.decode("") == RetryPolicy()


def test_policy_is_written_in_whole_thousandths():
    policy = RetryPolicy(max_retries=5, base=0.25, factor=1.5, cap=60)

    assert policy.encode() == "5:250:1500:60000"
    assert RetryPolicy.decode("5:250:1500:60000") == policy


def test_policy_in_a_request_is_checked_like_any_other():
    with pytest.raises(msgspec.ValidationError, match="max_retries is -1"):
        msgspec.json.decode(b'{"max_retries": -1}', type=RetryPolicy)


@given(policies)
def test_policy_survives_its_text(policy):
    assert RetryPolicy.decode(policy.encode()) == policy


@given(policies, st.integers(1, 10**6), st.floats(0, 1))
def test_delay_lies_between_none_and_the_cap_and_its_bound_never_falls(policy, failures, unit):
    bound = policy.delay_bound(failures)

    assert 0 <= policy.delay(failures, unit) <= bound <= policy.cap
    assert bound <= policy.delay_bound(failures + 1)


# Failures


def raised(error: BaseException) -> BaseException:
    try:
        raise error
    except BaseException as caught:
        return caught


def test_fatal_is_not_retryable():
    failure = Failure.from_exception(raised(Fatal("no such repository", repository="x")))

    assert (failure.type, failure.message) == ("Fatal", "no such repository")
    assert failure.retryable is False
    assert failure.details == {"repository": "x"}


def test_payload_that_cannot_be_decoded_is_not_retryable():
    with pytest.raises(msgspec.ValidationError) as caught:
        msgspec.json.decode(b'"x"', type=int)

    assert Failure.from_exception(caught.value).retryable is False


def test_retry_brings_its_own_delay():
    failure = Failure.from_exception(raised(Retry("rate limited", delay=12.5)))

    assert (failure.retryable, failure.delay) == (True, 12.5)


@pytest.mark.parametrize(
    ("delay", "kept"), [(-5, 0.0), (math.nan, None), (math.inf, 2_592_000.0), ("soon", None)]
)
def test_impossible_delay_is_bounded_rather_than_refused(delay, kept):
    assert Failure.from_exception(Retry("later", delay=delay)).delay == kept


def test_other_exceptions_are_retryable_and_keep_their_traceback():
    failure = Failure.from_exception(raised(ValueError("bad page")))

    assert (failure.type, failure.message, failure.retryable) == ("ValueError", "bad page", True)
    assert failure.traceback is not None
    assert failure.traceback.startswith("Traceback (most recent call last):")
    assert failure.traceback.endswith("ValueError: bad page\n")
    assert failure.details is None


def test_caller_overrules_the_rule_and_may_leave_the_traceback_out():
    failure = Failure.from_exception(KeyError("x"), retryable=False, traceback=False)

    assert failure == Failure(
        type="KeyError", message="'x'", retryable=False, kinds=("KeyError", "LookupError")
    )


def test_exception_without_words_is_called_by_its_name():
    assert Failure.from_exception(TimeoutError()).message == "TimeoutError"


def test_exception_that_cannot_describe_itself_is_still_reported():
    class BrokenError(Exception):
        def __str__(self) -> str:
            raise RuntimeError("no words")

    class BareRetryError(Retry):
        def __init__(self) -> None:
            pass

    assert Failure.from_exception(raised(BrokenError())).message.endswith("BrokenError")
    assert Failure.from_exception(raised(BareRetryError())).delay is None


def test_deep_recursion_leaves_a_bounded_traceback_with_the_fault_at_its_end():
    def dig(depth: int) -> int:
        return dig(depth + 1)

    with pytest.raises(RecursionError) as caught:
        dig(0)
    failure = Failure.from_exception(caught.value)

    assert failure.traceback is not None
    assert len(failure.traceback.encode()) <= 8_192
    assert "maximum recursion depth exceeded" in failure.traceback.splitlines()[-1]


def test_traceback_of_many_frames_keeps_the_one_at_fault():
    def dig(depth: int) -> None:
        if depth:
            climb(depth - 1)
        else:
            raise ValueError("the bottom")

    def climb(depth: int) -> None:
        dig(depth)

    with pytest.raises(ValueError, match="the bottom") as caught:
        dig(100)
    failure = Failure.from_exception(caught.value)

    assert failure.traceback is not None
    assert 'raise ValueError("the bottom")' in failure.traceback


def test_text_that_utf_8_cannot_write_is_kept_as_escapes():
    failure = Failure("x", "no file \udcff.txt", retryable=True)

    assert failure.message == "no file \\udcff.txt"


def test_details_that_are_no_json_become_a_word_each():
    circle: list[object] = []
    circle.append(circle)
    error = TaskNotFound(
        "gone", id="t1", thing=object(), circle=circle, text="\ud800", nan=math.nan
    )

    failure = Failure.from_exception(error)

    assert failure.details == {
        "id": "t1",
        "thing": "<object>",
        "circle": "<list>",
        "text": "<str>",
        "nan": None,
    }
    failure.encode()


def test_details_over_their_bound_are_dropped_with_a_note():
    failure = Failure("x", "y", retryable=True, details={"page": "z" * 10_000})

    assert failure.details == {"dropped": "details took 10011 bytes; at most 8192 are kept"}


def test_json_leaves_out_what_is_not_known():
    failure = Failure(type="deadline_exceeded", message="Too late.", retryable=False)

    assert json.loads(failure.encode()) == {
        "type": "deadline_exceeded",
        "message": "Too late.",
        "retryable": False,
    }


@pytest.mark.parametrize("data", [b"", b"[]", b'{"type": "x"}', b"\xff", b'{"type": 1}'])
def test_what_is_no_failure_is_refused(data):
    with pytest.raises(InvalidArgument, match="JSON object with type, message and retryable"):
        Failure.decode(data)


def test_fields_of_a_later_release_are_ignored():
    data = b'{"type": "x", "message": "y", "retryable": true, "colour": "red"}'

    assert Failure.decode(data) == Failure("x", "y", retryable=True)


any_text = st.text(st.characters(exclude_categories=()))
long_text = st.builds(lambda text, times: text * times, any_text, st.integers(1, 4_000))


@given(long_text, long_text, long_text)
def test_any_text_is_bounded_and_survives_json(kind, message, traceback):
    failure = Failure(kind, message, retryable=True, traceback=traceback)

    assert len(failure.type.encode()) <= 256
    assert len(failure.message.encode()) <= 4_096
    assert len((failure.traceback or "").encode()) <= 8_192
    assert Failure.decode(failure.encode()) == failure


def test_message_is_cut_at_a_whole_character_and_keeps_its_beginning():
    failure = Failure("x", "a" + "é" * 4_096, retryable=True)

    assert failure.message.startswith("aéé")
    assert failure.message.endswith("é…")
    assert 4_094 <= len(failure.message.encode()) <= 4_096
