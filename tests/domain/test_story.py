from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any

import msgspec
import pytest

from callboard.domain.event import Event, parse_facts
from callboard.domain.story import RunEvent, Story
from callboard.domain.task import Status, Task

RUN = "r1"
AT = datetime(2026, 5, 4, 10, 0, tzinfo=UTC)


def entry(n: int, event_type: str, facts: str) -> Event:
    at = AT + timedelta(seconds=n)
    return Event(n, f"a1:{n}", event_type, RUN, at, "", parse_facts(facts))


def task(task_id: str, **values: Any) -> Task:
    given = {"kind": "work.reader", "status": Status.PENDING, "title": f"Do {task_id}", **values}
    return Task(id=task_id, board=RUN, created_at=AT, since=AT, **given)


TASKS = {
    known.id: known
    for known in (
        task("plan-1", kind="plan", title="Plan"),
        task("a", priority=10, status=Status.DONE, result={"lines": 3}),
        task(
            "b",
            kind="work",
            depends_on=("a",),
            suggested_worker="judge.r1",
            status=Status.DONE,
            result="fine",
        ),
        task("answer-1", kind="synthesis", status=Status.DONE, result="All is well."),
    )
}

JOURNAL = [
    entry(1, "board:created", "|active||0"),
    entry(2, "run:created", "r1|planning||0|survey"),
    entry(3, "task:created", "plan-1|pending||0"),
    entry(4, "task:claimed", "plan-1|claimed|planner.r1/x1|7|1"),
    entry(5, "task:output", 'plan-1|claimed|planner.r1/x1|7|token|"two | tasks"'),
    entry(6, "task:completed", "plan-1|done|planner.r1/x1|7"),
    entry(7, "task:created", "a|pending||0\nb|blocked||0"),
    entry(8, "run:phase", "r1|execution||0|1|1|"),
    entry(9, "task:claimed", "a|claimed|reader.r1/x1|8|1"),
    entry(10, "task:started", "a|in_progress|reader.r1/x1|8"),
    entry(11, "task:completed", "a|done|reader.r1/x1|8"),
    entry(12, "task:ready", "b|pending||0"),
    entry(13, "task:claimed", "b|claimed|reader.r1/x1|9|1"),
    entry(14, "task:completed", "b|done|reader.r1/x1|9"),
    entry(15, "run:phase", "r1|synthesis||0|1|1|"),
    entry(16, "task:created", "answer-1|pending||0"),
    entry(17, "task:claimed", "answer-1|claimed|writer.r1/x1|10|1"),
    entry(18, "task:completed", "answer-1|done|writer.r1/x1|10"),
    entry(19, "run:phase", "r1|done||0|1|1|"),
]

EVENTS = [
    ("2.1", "team_start", {"team_run_id": "r1", "team_name": "survey"}),
    ("2.2", "phase_change", {"phase": "planning"}),
    ("4.1", "invocation_start", {"agent": "planner", "invocation_id": "plan-1.1"}),
    (
        "5.1",
        "agent_token",
        {"agent": "planner", "invocation_id": "plan-1.1", "content": "two | tasks"},
    ),
    (
        "7.1",
        "task_created",
        {
            "task": {
                "id": "a",
                "title": "Do a",
                "priority": 10,
                "suggested_worker": None,
                "worker": "reader",
                "depends_on": [],
            }
        },
    ),
    (
        "7.2",
        "task_created",
        {
            "task": {
                "id": "b",
                "title": "Do b",
                "priority": 0,
                "suggested_worker": "judge",
                "worker": None,
                "depends_on": ["a"],
            }
        },
    ),
    ("8.1", "phase_change", {"phase": "execution"}),
    ("9.1", "worker_start", {"agent": "reader"}),
    (
        "9.2",
        "task_claimed",
        {"agent": "reader", "task_id": "a", "title": "Do a", "attempt": 1},
    ),
    ("11.1", "task_completed", {"agent": "reader", "task_id": "a", "result": {"lines": 3}}),
    (
        "13.1",
        "task_claimed",
        {"agent": "reader", "task_id": "b", "title": "Do b", "attempt": 1},
    ),
    ("14.1", "task_completed", {"agent": "reader", "task_id": "b", "result": "fine"}),
    ("15.1", "worker_done", {"agent": "reader"}),
    ("15.2", "phase_change", {"phase": "synthesis"}),
    ("17.1", "invocation_start", {"agent": "writer", "invocation_id": "answer-1.1"}),
    (
        "19.1",
        "done",
        {
            "response": "All is well.",
            "team_run_id": "r1",
            "team_name": "survey",
            "phase": "done",
            "tasks_created": 2,
            "tasks_completed": 2,
            "workers_used": ["reader"],
        },
    ),
]


def told(journal: list[Event], tasks: dict[str, Task] = TASKS) -> list[RunEvent]:
    """The whole story, each entry told with the tasks that it asks for and no others."""
    story = Story(RUN, "survey")
    events: list[RunEvent] = []
    for event in journal:
        needed = {name: tasks[name] for name in story.needs(event) if name in tasks}
        events += story.tell(event, needed)
    return events


def shown(journal: list[Event], tasks: dict[str, Task] = TASKS) -> list[tuple[str, Any]]:
    return [(event.type, event.data) for event in told(journal, tasks)]


# From a journal to the events of a run


def test_a_run_from_its_start_to_its_answer_is_told_in_order():
    events = told(JOURNAL)

    assert [(event.cursor, event.type, event.data) for event in events] == EVENTS


def test_an_event_carries_the_time_of_its_entry():
    (event,) = told([entry(5, "run:paused", "r1|||0")])

    assert event.at == datetime(2026, 5, 4, 10, 0, 5, tzinfo=UTC)


def test_the_same_journal_gives_the_same_events_under_the_same_cursors():
    assert told(JOURNAL) == told(JOURNAL)


def test_cursors_stay_where_tasks_are_not_there_to_read():
    with_tasks = [(event.cursor, event.type) for event in told(JOURNAL)]

    assert [(event.cursor, event.type) for event in told(JOURNAL, {})] == with_tasks


def test_every_cursor_is_given_once():
    cursors = [event.cursor for event in told(JOURNAL)]

    assert len(cursors) == len(set(cursors))


def test_an_event_is_written_as_json():
    event = told([entry(5, "task:retry_scheduled", "a|scheduled||8|1777888800500")])[0]

    assert msgspec.json.decode(msgspec.json.encode(event)) == {
        "type": "task_retry_scheduled",
        "cursor": "5.1",
        "at": "2026-05-04T10:00:05Z",
        "data": {"agent": "", "task_id": "a", "error": "", "due": "2026-05-04T10:00:00.500000Z"},
    }


# What has to be read


@pytest.mark.parametrize(
    ("event_type", "facts", "needed"),
    [
        ("task:created", "plan-2|pending||0\na|pending||0\nb|blocked||0", ["a", "b"]),
        ("task:claimed", "answer-1|claimed|w.r1/x|3|1\na|claimed|r.r1/x|4|1", ["a"]),
        ("task:completed", "a|done|r.r1/x|4\nplan-1|done|p.r1/x|3", ["a"]),
        ("task:failed", "plan-1|failed|p.r1/x|3|exhausted", ["plan-1"]),
        ("task:retry_scheduled", "answer-1|scheduled||3|99", ["answer-1"]),
        ("task:cancelled", "a|cancelled||0\nplan-2|cancelled||0", ["a"]),
        ("task:revived", "a|pending||4", ["a"]),
        ("task:started", "a|in_progress|r.r1/x|4", []),
        ("task:output", 'a|in_progress|r.r1/x|4|token|"x"', []),
        ("run:phase", "r1|synthesis||0|1|2|", []),
        ("run:phase", "r1|failed||0|1|2|it broke", []),
        ("run:phase", "r1|done||0|3|2|", ["answer-3"]),
    ],
)
def test_only_what_an_event_tells_more_of_is_read(event_type, facts, needed):
    assert Story(RUN, "survey").needs(entry(1, event_type, facts)) == needed


def test_the_title_of_a_task_is_read_once():
    story = Story(RUN, "survey")
    story.tell(entry(1, "task:created", "a|pending||0"), TASKS)
    claim = entry(2, "task:claimed", "a|claimed|reader.r1/x1|8|1")

    assert story.needs(claim) == []
    assert story.tell(claim, {})[1].data["title"] == "Do a"


# Attempts that do not succeed


def test_a_lost_lease_is_told_with_who_lost_it():
    journal = [
        entry(1, "task:claimed", "a|claimed|reader.r1/x1|8|1"),
        entry(2, "task:lease_lost", "a|pending|reader.r1/x1|8|1"),
        entry(3, "task:claimed", "a|claimed|reader.r1/x2|9|2"),
    ]

    assert shown(journal)[2:] == [
        ("task_lost", {"agent": "reader", "task_id": "a"}),
        ("task_claimed", {"agent": "reader", "task_id": "a", "title": "Do a", "attempt": 2}),
    ]


def test_a_retry_is_told_with_who_failed_why_and_when_it_is_due():
    tasks = {"a": task("a", error={"type": "RuntimeError", "message": "no such page"})}
    journal = [
        entry(1, "task:claimed", "a|claimed|reader.r1/x1|8|1"),
        entry(2, "task:retry_scheduled", "a|scheduled||8|1777888800500"),
    ]

    assert shown(journal, tasks)[-1] == (
        "task_retry_scheduled",
        {
            "agent": "reader",
            "task_id": "a",
            "error": "no such page",
            "due": datetime(2026, 5, 4, 10, 0, 0, 500_000, tzinfo=UTC),
        },
    )


def test_a_planner_that_fails_is_told_by_its_invocation():
    tasks = {"plan-1": task("plan-1", error={"type": "invalid_plan", "message": "no tasks"})}
    journal = [
        entry(1, "task:claimed", "plan-1|claimed|planner.r1/x1|8|2"),
        entry(2, "task:failed", "plan-1|failed|planner.r1/x1|8|exhausted"),
    ]

    assert shown(journal, tasks)[-1] == (
        "task_failed",
        {"agent": "planner", "invocation_id": "plan-1.2", "error": "no tasks"},
    )


@pytest.mark.parametrize(
    ("why", "error"),
    [
        ("not_retryable", "It failed, and trying again was ruled out."),
        ("exhausted", "It failed, and no tries were left."),
        ("poison", "It lost its holders too often."),
        ("deadline_exceeded", "Its deadline passed while it waited."),
        ("dependency_failed", "A task that it depends on ended without success."),
        ("something_new", "something_new"),
    ],
)
def test_a_failure_whose_error_is_gone_is_told_by_its_cause(why, error):
    journal = [entry(1, "task:failed", f"a|failed||8|{why}")]

    assert shown(journal) == [("task_failed", {"agent": "", "task_id": "a", "error": error})]


def test_cancelled_work_is_told_with_the_reason_and_the_lead_asking_is_not():
    tasks = {"a": task("a", status=Status.CANCELLED, reason="not needed")}
    journal = [
        entry(1, "task:cancelled", "a|cancelled||0\nplan-2|cancelled||0\nb|cancelled||0|skipped")
    ]

    assert shown(journal, tasks) == [
        ("task_cancelled", {"task_id": "a", "reason": "not needed"}),
        ("task_cancelled", {"task_id": "b", "reason": "skipped"}),
    ]


# What agents say


def test_what_a_worker_says_is_told_by_its_task():
    journal = [
        entry(1, "task:output", 'a|in_progress|reader.r1/x1|8|token|"Half"'),
        entry(2, "task:output", 'a|in_progress|reader.r1/x1|8|tool|"grep"'),
        entry(3, "task:output", 'a|in_progress|reader.r1/x1|8|log|"warned"'),
        entry(4, "task:output", "a|in_progress|reader.r1/x1|8|newer|1"),
    ]

    assert shown(journal) == [
        ("agent_token", {"agent": "reader", "task_id": "a", "content": "Half"}),
        ("agent_tool", {"agent": "reader", "task_id": "a", "name": "grep"}),
        ("agent_log", {"agent": "reader", "task_id": "a", "content": "warned"}),
    ]


def test_an_agent_outside_the_team_keeps_its_own_name():
    events = shown([entry(1, "task:claimed", "a|claimed|mira/x1|8|1")])

    assert events[0] == ("worker_start", {"agent": "mira"})


# The run


def test_pausing_is_told():
    journal = [entry(1, "run:paused", "r1|||0"), entry(2, "run:unpaused", "r1|||0")]

    assert shown(journal) == [("paused", {}), ("unpaused", {})]


def test_the_end_of_a_cancelled_run_says_why_after_its_workers():
    journal = [
        entry(1, "task:claimed", "a|claimed|reader.r1/x1|8|1\nb|claimed|judge.r1/x1|9|1"),
        entry(2, "run:phase", "r1|cancelled||0|1|1|too slow | too dear"),
    ]

    assert shown(journal)[4:] == [
        ("worker_done", {"agent": "reader"}),
        ("worker_done", {"agent": "judge"}),
        ("cancelled", {"reason": "too slow | too dear"}),
    ]


def test_a_failed_run_ends_with_its_error():
    assert shown([entry(1, "run:phase", "r1|failed||0|1|1|the planner failed")]) == [
        ("error", {"detail": "the planner failed"})
    ]


@pytest.mark.parametrize("end", ["done", "failed", "cancelled"])
def test_a_story_has_ended_at_an_end_and_not_once_the_run_is_retried(end):
    story = Story(RUN, "survey")
    ended = []

    for event in (
        entry(1, "run:created", "r1|planning||0|survey|1"),
        entry(2, "run:phase", f"r1|{end}||0|1|1|"),
        entry(3, "task:revived", "a|pending||8"),
        entry(4, "run:reopened", "r1|execution||0|2"),
    ):
        story.tell(event, {})
        ended.append(story.has_ended)

    assert ended == [False, True, True, False]


def test_a_phase_that_was_entered_already_is_no_change():
    journal = [
        entry(1, "run:created", "r1|planning||0"),
        entry(2, "run:phase", "r1|planning||0|1|0|"),
        entry(3, "run:phase", "r1|replanning||0|1|2|"),
    ]

    assert shown(journal)[1:] == [
        ("phase_change", {"phase": "planning"}),
        ("phase_change", {"phase": "replanning"}),
    ]


def test_what_the_lead_tells_keeps_its_name_and_payload():
    journal = [
        entry(1, "run:phase", "r1|execution||0|1|1|"),
        entry(2, "run:told", "r1|||0|run_resumed|{}"),
        entry(3, "run:told", 'r1|||0|worker_error|{"agent":"judge","error":"a | b"}'),
    ]

    assert shown(journal)[1:] == [
        ("run_resumed", {"team_run_id": "r1", "team_name": "survey", "phase": "execution"}),
        ("worker_error", {"agent": "judge", "error": "a | b"}),
    ]


def test_a_run_that_is_retried_starts_its_workers_again_and_ends_with_the_new_answer():
    tasks = {**TASKS, "answer-2": task("answer-2", kind="synthesis", result="Better.")}
    failed = entry(14, "task:failed", "b|failed|reader.r1/x1|9|exhausted")
    journal = [
        *(failed if event.n == 14 else event for event in JOURNAL),
        entry(20, "run:reopened", "r1|execution||0|2"),
        entry(21, "task:revived", "b|pending||9"),
        entry(22, "task:claimed", "b|claimed|reader.r1/x1|11|2"),
        entry(23, "task:completed", "b|done|reader.r1/x1|11"),
        entry(24, "run:phase", "r1|synthesis||0|2|1|"),
        entry(25, "run:phase", "r1|done||0|2|1|"),
    ]

    assert shown(journal, tasks)[len(EVENTS) :] == [
        ("phase_change", {"phase": "execution"}),
        ("task_retry", {"task_id": "b", "title": "Do b"}),
        ("worker_start", {"agent": "reader"}),
        ("task_claimed", {"agent": "reader", "task_id": "b", "title": "Do b", "attempt": 2}),
        ("task_completed", {"agent": "reader", "task_id": "b", "result": "fine"}),
        ("retry_done", {"task_id": "b"}),
        ("worker_done", {"agent": "reader"}),
        ("phase_change", {"phase": "synthesis"}),
        (
            "done",
            {
                "response": "Better.",
                "team_run_id": "r1",
                "team_name": "survey",
                "phase": "done",
                "tasks_created": 2,
                "tasks_completed": 2,
                "workers_used": ["reader"],
            },
        ),
    ]


@pytest.mark.parametrize(
    ("event_type", "facts"),
    [
        ("task:failed", "a|failed||8|exhausted"),
        ("task:cancelled", "a|cancelled||8"),
        ("task:completed", "a|done|reader.r1/x1|8"),
    ],
)
def test_a_retry_is_done_once_however_the_task_ends(event_type, facts):
    journal = [
        entry(1, "task:revived", "a|pending||8"),
        entry(2, event_type, facts),
        entry(3, event_type, facts),
    ]

    assert [name for name, _ in shown(journal)].count("retry_done") == 1
