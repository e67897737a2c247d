"""A planner's answer: read, or refused with what to do."""

from __future__ import annotations

from typing import Any

import pytest

from callboard.domain.plan import PlannedTask, check_references, read_plan, references
from callboard.exceptions import InvalidPlan

MEMBERS = {"reader": ("csv",), "judge": ()}


def read(answer: Any, *, round_number: int = 1, tasks_left: int = 100) -> Any:
    return read_plan(answer, round_number=round_number, members=MEMBERS, tasks_left=tasks_left)


@pytest.mark.parametrize(
    ("answer", "fault"),
    [
        (None, "answered nothing"),
        (7, "a value of type int"),
        ("Sure! Here is the plan.", "no JSON"),
        ({"tasks": "a"}, "tasks are a text"),
        ({"taks": []}, "Did you mean 'tasks'"),
        ({"tasks": ["a"], "done": "yes"}, "done is a text"),
        ([], "has no tasks"),
        ([7], "Task 1 of the plan is a value of type int"),
        ([{"title": " "}], "has no title"),
        ([{"title": "a", "dependson": ["b"]}], "Did you mean 'depends_on'"),
        ([{"id": "a b", "title": "a"}], "'a b' is not a valid name"),
        ([{"id": "plan-2", "title": "a"}], "the run's own"),
        ([{"id": "answer-1", "title": "a"}], "the run's own"),
        ([{"title": "a", "priority": "urgnt"}], "Priority 'urgnt'"),
        ([{"title": "a", "priority": 1001}], "1001"),
        ([{"title": "a", "timeout": 0}], "timeout is 0"),
        ([{"title": "a", "max_retries": -1}], "max_retries"),
        ([{"title": "a", "on_dependency_failure": "stop"}], "on_dependency_failure"),
        ([{"id": "a", "title": "a"}, {"id": "a", "title": "b"}], "Two tasks"),
        ([{"title": "a", "worker": "judgge"}], "Did you mean 'judge'"),
        ([{"title": "a", "assigned_to": "nobody"}], "not in the team: reader, judge"),
        ([{"title": "a", "suggested_worker": "nobody"}], "not in the team"),
        ([{"title": "a", "worker": "judge", "capabilities": ["csv"]}], "who lacks: csv"),
        ([{"title": "a", "capabilities": ["sql"]}], "needs sql, and no worker"),
        ([{"id": "a", "title": "a", "depends_on": ["a"]}], "a needs a"),
        (
            [
                {"id": "a", "title": "a", "depends_on": ["b"]},
                {"id": "b", "title": "b", "depends_on": ["a"]},
            ],
            "wait for each other",
        ),
    ],
)
def test_an_answer_that_is_no_plan_is_refused_and_says_what_to_do(answer: Any, fault: str) -> None:
    with pytest.raises(InvalidPlan) as refused:
        read(answer)

    assert fault in str(refused.value)


def test_more_tasks_than_the_run_may_get_are_refused_whole() -> None:
    with pytest.raises(InvalidPlan, match="3 tasks, and the run may get 2 more"):
        read(["a", "b", "c"], tasks_left=2)


def test_a_plan_too_long_to_keep_is_refused() -> None:
    with pytest.raises(InvalidPlan, match="in several rounds"):
        read([{"title": "a", "payload": "x" * 600_000}, {"title": "b", "payload": "y" * 600_000}])


def test_titles_alone_are_tasks_with_ids_made_for_them() -> None:
    plan = read(["first", "second"], round_number=3)

    assert plan.tasks == (
        PlannedTask(id="t3-1", title="first"),
        PlannedTask(id="t3-2", title="second"),
    )


def test_all_fields_are_read_and_the_other_names_of_some() -> None:
    plan = read(
        {
            "tasks": [
                {"id": "a", "title": "A"},
                {
                    "id": "b",
                    "title": "B",
                    "description": "more",
                    "assigned_to": "reader",
                    "suggested_worker": None,
                    "capabilities": "csv",
                    "input": {"n": [1, {}]},
                    "depends_on": "a, ",
                    "priority": "high",
                    "on_dependency_failure": "run",
                    "timeout": 2,
                    "max_retries": 0,
                },
            ],
            "done": True,
            "remark": "that is all",
        }
    )

    assert plan.tasks[1] == PlannedTask(
        id="b",
        title="B",
        description="more",
        worker="reader",
        capabilities=("csv",),
        payload={"n": [1, {}]},
        depends_on=("a",),
        priority=10,
        on_dependency_failure="run",
        timeout=2.0,
        max_retries=0,
    )
    assert plan.is_last and plan.remark == "that is all"


def test_a_text_with_a_fenced_block_is_read() -> None:
    plan = read('Here it is:\n```json\n{"tasks": [{"title": "a"}]}\n```\nGood luck.')

    assert [task.title for task in plan.tasks] == ["a"]


def test_no_tasks_are_a_plan_where_the_planner_says_that_none_are_needed() -> None:
    assert read({"tasks": [], "done": True}).tasks == ()
    assert read([], round_number=2).tasks == ()


def test_the_same_tasks_have_the_same_fingerprint_whatever_their_ids_and_order() -> None:
    one = read([{"id": "a", "title": "A", "payload": {"x": 1, "y": 2}}, "B"])
    other = read(["B", {"id": "z", "title": "A", "payload": {"y": 2, "x": 1}}], round_number=2)
    third = read(["B", {"id": "z", "title": "A", "payload": {"y": 2, "x": 3}}], round_number=2)

    assert one.fingerprint == other.fingerprint != third.fingerprint


def test_a_reference_to_what_is_not_there_is_refused_with_the_nearest() -> None:
    plan = read(
        [{"id": "a", "title": "A", "depends_on": ["erlier", "b"]}, {"id": "b", "title": "B"}]
    )

    assert references(plan) == ["erlier"]
    with pytest.raises(InvalidPlan, match="Did you mean 'earlier'"):
        check_references(plan, {"earlier"}, set())
    check_references(plan, {"erlier"}, set())


def test_an_id_that_an_earlier_round_used_is_refused() -> None:
    with pytest.raises(InvalidPlan, match="an earlier round has given"):
        check_references(read([{"id": "a", "title": "A"}], round_number=2), set(), {"a"})


def test_a_plan_of_5000_tasks_in_layers_is_read_quickly_enough_to_be_used() -> None:
    rows = [
        {"id": f"n{i}", "title": f"N {i}", "depends_on": [f"n{i - 500}"] if i >= 500 else []}
        for i in range(5_000)
    ]

    plan = read(rows, tasks_left=5_000)

    check_references(plan, set(), set())
    assert len(plan.tasks) == 5_000
