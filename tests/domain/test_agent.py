"""What an agent may say of itself, and how it is judged."""

from __future__ import annotations

from typing import Any

import pytest

from callboard.domain.agent import (
    AgentSpec,
    Standing,
    State,
    check_capacity,
    check_host,
    check_status,
    encode_load,
    judge,
    labels_of,
    names_of,
    profile_of,
    tags_of,
)
from callboard.domain.task import Requirements, lane_of
from callboard.exceptions import InvalidArgument, TooLarge

# Profiles


def test_a_profile_lists_each_part_sorted_and_once() -> None:
    profile = profile_of(
        "worker", ["sql", "python", "sql"], ["api"], {"zone": "eu", "arch": "arm64"}, ["b", "a"]
    )

    assert profile == "worker;python,sql;api;arch=arm64,zone=eu;a,b"


def test_a_profile_without_anything_is_its_type() -> None:
    assert AgentSpec(id="mira").profile == "worker;;;;"


def test_a_profile_has_its_parts_where_a_lane_has_them() -> None:
    requirements = Requirements(
        agent_type="worker", capabilities=("b", "a"), services=("s",), labels={"zone": "eu"}
    )

    assert lane_of("work", requirements) == "work;worker;a,b;s;zone=eu"
    assert profile_of("worker", ("b", "a"), ("s",), {"zone": "eu"}, ("work",)) == (
        "worker;a,b;s;zone=eu;work"
    )


@pytest.mark.parametrize(
    ("parts", "said"),
    [
        ({"agent_type": "a;b"}, "agent_type 'a;b' is not a valid name"),
        ({"capabilities": ["a,b"]}, "capability 'a,b' is not a valid name"),
        ({"capabilities": [""]}, "capability '' is not a valid name. It is empty."),
        ({"capabilities": "python"}, "capabilities must be a list of names, as in ['python']"),
        ({"capabilities": 5}, "capabilities must be a list of names"),
        ({"services": [None]}, "services must be names, and None is NoneType"),
        ({"services": [["a"]]}, "services must be names"),
        ({"labels": {"zone": "a,b"}}, "Label zone has the value 'a,b'"),
        ({"labels": {"a=b": "c"}}, "label 'a=b' is not a valid name"),
        ({"labels": ["zone"]}, 'labels must be an object, as in {"zone": "eu"}'),
        ({"kinds": ["a/b"]}, "kind 'a/b' is not a valid name"),
    ],
)
def test_a_profile_refuses_what_is_no_name(parts: dict[str, Any], said: str) -> None:
    with pytest.raises(InvalidArgument) as refused:
        profile_of(**parts)

    assert said in str(refused.value)


def test_a_profile_is_bounded() -> None:
    with pytest.raises(TooLarge, match="at most 4,000 are kept"):
        profile_of(capabilities=[f"capability-{number}" for number in range(400)])


def test_names_labels_and_tags_are_joined_alike() -> None:
    assert names_of("services", iter(["b", "a"])) == "a,b"
    assert labels_of({"zone": "eu:1"}) == "zone=eu:1"
    assert tags_of(["team:red", "a"]) == "a,team:red"


@pytest.mark.parametrize("tag", ["", "a,b", "a b", "x" * 129])
def test_a_tag_that_could_not_be_told_apart_is_refused(tag: str) -> None:
    with pytest.raises(InvalidArgument, match="is not valid"):
        tags_of([tag])


# Single values


def test_a_status_must_be_one_that_can_be_declared() -> None:
    assert check_status("draining") == "draining"
    with pytest.raises(InvalidArgument, match="none of active, inactive, busy, maintenance"):
        check_status("lost")


@pytest.mark.parametrize("value", [0, -1, 100_001, 1.5, True, "4", None])
def test_a_capacity_is_a_whole_number_of_tasks(value: object) -> None:
    with pytest.raises(InvalidArgument, match="must be a whole number from 1 to 100,000"):
        check_capacity("max_concurrent", value)


def test_a_prefetch_may_be_none() -> None:
    assert check_capacity("prefetch", 0, 0) == 0


@pytest.mark.parametrize("host", ["a|b", "a b", "x" * 256, None])
def test_a_host_is_a_name_or_an_address(host: object) -> None:
    with pytest.raises(InvalidArgument, match="host"):
        check_host(host)


def test_load_is_written_as_pairs() -> None:
    assert encode_load(None) == ""
    assert encode_load({"cpu": 0.25, "queue": 12, "tiny": 1e-9}) == "cpu=0.25,queue=12,tiny=1e-09"


@pytest.mark.parametrize(
    "load",
    [
        {"cpu": float("nan")},
        {"cpu": float("inf")},
        {"cpu": 10**400},
        {"cpu": "0.5"},
        {"cpu": True},
        {"a,b": 1},
        {"a=b": 1},
        {1: 1},
        ["cpu"],
    ],
)
def test_load_refuses_what_is_no_number_under_a_name(load: Any) -> None:
    with pytest.raises(InvalidArgument):
        encode_load(load)


def test_load_is_bounded() -> None:
    with pytest.raises(TooLarge, match="at most 64 metrics, not 65"):
        encode_load({f"m{number}": 1 for number in range(65)})


# The ladder


@pytest.mark.parametrize(
    ("facts", "state", "reason"),
    [
        ({}, State.ACTIVE, "mira holds 0 of the 4 tasks it runs at once."),
        ({"held": 3}, State.ACTIVE, "mira holds 3 of the 4 tasks it runs at once."),
        ({"held": 4}, State.BUSY, "All 4 slots of mira are taken."),
        ({"declared": "busy"}, State.BUSY, "offered nothing, but may claim"),
        ({"heard": False, "silent_for": 2.0}, State.STARTING, "mira registered 2.0 s ago"),
        ({"silent_for": 15.0}, State.ACTIVE, "holds"),
        ({"silent_for": 15.1}, State.SUSPECT, "was last heard 15.1 s ago; it should be every 10 s"),
        ({"lapsed": 1}, State.NOT_CONSUMING, "takes no work: 1 tasks reserved for it lapsed"),
        (
            {"rests_for": 2.5},
            State.NOT_CONSUMING,
            "mira is heard, but asked to be left alone: the next is delivered to it in 2.5 s.",
        ),
        (
            {"undelivered": 4, "rests_for": 2.5},
            State.NOT_CONSUMING,
            "the last 4 deliveries to its address failed: the next is tried in 2.5 s",
        ),
        ({"declared": "draining"}, State.DRAINING, "finishes what it holds"),
        ({"declared": "maintenance"}, State.MAINTENANCE, "set aside"),
        ({"declared": "error"}, State.ERROR, "declared an error"),
        ({"declared": "inactive"}, State.INACTIVE, "declared inactive"),
        ({"gone": "lost"}, State.LOST, "mira was not heard for 30 s"),
        ({"gone": "left"}, State.INACTIVE, "mira left"),
    ],
)
def test_a_state_has_its_reason(facts: dict[str, Any], state: State, reason: str) -> None:
    judged, said = judge("mira", Standing(**{"declared": "active", "slots": 4, **facts}))

    assert judged is state
    assert reason in said


def test_the_worst_that_holds_is_what_is_said() -> None:
    everything = Standing(
        declared="draining", gone="lost", silent_for=99, heard=False, held=9, lapsed=9
    )

    assert judge("mira", everything)[0] is State.LOST
