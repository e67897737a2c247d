"""What comes next in a run, from what stands on its board."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import fields
from typing import Any

from callboard.domain import course as courses
from callboard.domain.course import Ask, Course, End, EndPlanning, Synthesise, TakePlan
from callboard.domain.run import Phase
from callboard.domain.task import Status
from callboard.domain.team import AgentDefinition, TeamSpec

CLAIMED, DONE, FAILED, PENDING, CANCELLED = (
    Status.CLAIMED,
    Status.DONE,
    Status.FAILED,
    Status.PENDING,
    Status.CANCELLED,
)


def course(**limits: Any) -> Course:
    agents = {name: AgentDefinition(name, "callable", "m:f") for name in ("p", "w", "s")}
    return Course(
        TeamSpec(name="t", planner="p", synthesizer="s", workers=("w",), agents=agents, **limits)
    )


def planned(found: Course, statuses: dict[str, Status], *, round_number: int = 1) -> Course:
    """A course whose round was asked for, answered and taken."""
    found.round = round_number
    found.own[f"plan-{round_number}"] = DONE
    for task_id, status in statuses.items():
        found.note(task_id, status)
    return found


def test_a_new_run_asks_the_planner_and_waits_for_its_answer() -> None:
    found = course()
    assert found.next() == Ask(1, (), 0)

    found.own["plan-1"] = PENDING
    assert found.next() is None

    found.own["plan-1"] = DONE
    assert found.next() == TakePlan(1)


def test_a_run_whose_first_planning_failed_has_failed() -> None:
    found = course()
    found.own["plan-1"] = FAILED

    assert found.next() == End(Phase.FAILED, "planning failed")


def test_a_later_round_that_failed_ends_only_the_planning() -> None:
    found = planned(course(), {"a": DONE, "b": PENDING})
    found.own["plan-2"] = FAILED

    assert found.next() == EndPlanning("round 2 of planning failed")


def test_the_planner_is_asked_again_when_a_quarter_of_what_was_open_has_ended() -> None:
    found = planned(course(), dict.fromkeys("abcdefgh", PENDING))
    found.note_asked((), 0, 8)
    found.note("a", DONE)
    assert found.next() is None

    found.note("b", FAILED)
    assert found.next() == Ask(2, ("a", "b"), 0)


def test_what_the_planner_was_told_is_not_told_again() -> None:
    found = planned(course(), dict.fromkeys("abcd", PENDING))
    found.note_asked((), 0, 4)
    found.note("a", DONE)
    found.note_asked(("a",), 0, 3)
    found.own["plan-2"] = DONE
    found.round = 2
    assert found.next() is None

    found.note("b", DONE)
    assert found.next() == Ask(3, ("b",), 0)


def test_the_last_round_is_kept_for_when_all_has_ended() -> None:
    found = planned(course(max_rounds=2), {"a": DONE, "b": PENDING})
    assert found.next() is None

    found.note("b", DONE)
    assert found.next() == Ask(2, ("a", "b"), 0)


def test_a_team_that_replans_when_idle_is_not_asked_before() -> None:
    found = planned(course(replan="idle"), {"a": DONE, "b": PENDING})
    assert found.next() is None

    found.note("b", DONE)
    assert found.next() == Ask(2, ("a", "b"), 0)


def test_a_team_that_plans_once_goes_on_to_the_answer() -> None:
    found = planned(course(replan="never"), {"a": DONE})
    assert found.next() == EndPlanning("the team plans once")

    found.planning = "the team plans once"
    assert found.next() == Synthesise()


def test_planning_ends_when_its_rounds_are_used_up() -> None:
    found = planned(course(max_rounds=3), {"a": DONE}, round_number=3)

    assert found.next() == EndPlanning("all 3 rounds of planning are used up")


def test_planning_ends_when_the_run_has_its_tasks() -> None:
    found = planned(course(max_tasks=2), {"a": DONE, "b": DONE})

    assert found.next() == EndPlanning("the run has its 2 tasks")


def test_planning_ends_when_the_turns_are_used_up() -> None:
    found = planned(course(global_max_turns=7), {"a": DONE})
    found.spent = True

    assert found.next() == EndPlanning("its 7 turns are used up")


def test_two_rounds_without_a_task_that_was_done_end_the_planning() -> None:
    found = planned(course(), {"a": FAILED})
    assert found.next() == Ask(2, ("a",), 1)

    found.note_asked(("a",), 1, 0)
    found = planned(found, {"b": FAILED}, round_number=2)
    assert found.next() == EndPlanning(courses.NO_PROGRESS)


def test_a_task_that_was_done_between_makes_the_count_begin_anew() -> None:
    found = planned(course(), {"a": FAILED})
    found.note_asked(("a",), 1, 0)
    found = planned(found, {"b": FAILED, "c": DONE}, round_number=2)

    assert found.next() == Ask(3, ("b", "c"), 0)


def test_the_answer_waits_until_nothing_is_open() -> None:
    found = planned(course(), {"a": DONE, "b": PENDING})
    found.planning = "complete"
    assert found.next() is None

    found.note("b", CANCELLED)
    assert found.next() == Synthesise()


def test_the_run_ends_with_its_answer_or_without_one() -> None:
    found = planned(course(), {"a": DONE})
    found.planning = "complete"
    found.own["answer-1"] = PENDING
    assert found.next() is None

    found.own["answer-1"] = DONE
    assert found.next() == End(Phase.DONE, "")

    found.own["answer-1"] = FAILED
    assert found.next() == End(Phase.FAILED, "the synthesizer failed")


def test_a_team_that_stops_at_a_failure_ends_with_the_first() -> None:
    found = planned(course(on_failure="stop"), {"a": DONE, "b": FAILED, "c": PENDING})

    assert found.next() == End(Phase.FAILED, "task b failed, and the team stops at a failure")


def test_a_failed_task_alone_ends_nothing() -> None:
    found = planned(course(), {"a": FAILED, "b": PENDING})
    found.planning = "complete"

    assert found.next() is None


def test_no_step_walks_all_tasks_of_a_run_that_has_very_many() -> None:
    """Each event of a run asks what comes next."""
    names = [f"t{n}" for n in range(100_000)]
    found = course(on_failure="stop", max_tasks=1_000_000)
    Walked.steps = 0
    for each in fields(found):
        if type(getattr(found, each.name)) is dict:
            setattr(found, each.name, Walked())
    found = planned(found, dict.fromkeys(names, PENDING))
    found.note_asked((), 0, 100_000)

    for name in names:
        found.note(name, CLAIMED)
        found.note(name, DONE)
        if isinstance(found.next(), Ask):
            found.planning = "complete"
        assert Walked.steps <= courses.NEWS_MAX
    shown = [found.open, found.waiting, found.counts["done"]]

    assert shown == [[], [], 100_000]
    assert found.next() == Synthesise()
    assert Walked.steps <= courses.NEWS_MAX


class Walked(dict[Any, Any]):
    """Counts the items over which somebody iterates."""

    steps = 0

    def __iter__(self) -> Iterator[Any]:
        for each in super().__iter__():
            Walked.steps += 1
            yield each

    def keys(self) -> Any:
        return list(self)

    def values(self) -> Any:
        return [self[each] for each in self]

    def items(self) -> Any:
        return [(each, self[each]) for each in self]


def test_of_the_open_tasks_the_first_are_shown_and_those_that_nobody_holds_are_known() -> None:
    found = planned(course(), {f"t{n}": PENDING for n in range(300)})
    found.note("t0", DONE)
    found.note("t1", CLAIMED)
    found.note("t2", CANCELLED)

    assert found.open == ["t1", *(f"t{n}" for n in range(3, 202))]
    assert found.waiting == [f"t{n}" for n in range(3, 300)]
    assert found.counts == {
        "total": 300,
        "unfinished": 298,
        "done": 1,
        "failed": 0,
        "cancelled": 1,
    }


def test_a_failure_that_was_put_back_stops_nothing_and_the_next_one_does() -> None:
    found = planned(course(on_failure="stop"), {"a": FAILED, "b": PENDING})
    found.planning = "complete"
    found.note("a", PENDING)
    assert found.next() is None

    found.note("b", FAILED)
    assert found.next() == End(Phase.FAILED, "task b failed, and the team stops at a failure")


def test_a_done_task_that_was_put_back_and_failed_is_no_progress() -> None:
    found = planned(course(), {"a": DONE})
    found.barren = 1
    found.note("a", PENDING)
    found.note("a", FAILED)

    assert found.next() == EndPlanning(courses.NO_PROGRESS)


def test_a_task_that_was_put_back_is_open_again_and_news_when_it_ends() -> None:
    found = planned(course(), {"a": FAILED})
    found.note_asked(("a",), 0, 1)
    found.note("a", PENDING)

    assert found.open == ["a"]
    assert found.counts == {"total": 1, "unfinished": 1, "done": 0, "failed": 0, "cancelled": 0}

    found.note("a", DONE)
    assert found.next() == Ask(2, ("a",), 0)
