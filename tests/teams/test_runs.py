"""Every run ends, and says how: whatever planner, workers and synthesizer do.

Docstrings name what happens where a run of agents is a loop over a shared board.
"""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

import callboard
from callboard.domain.run import Phase
from callboard.domain.story import RunEvent
from callboard.exceptions import Fatal, RunFailed
from callboard.teams.agents import Invocation
from tests.teams.support import Held, Planner, Team, Worker, document, statuses, types_told, work_of

AGAIN = {"retry": {"max_retries": 1, "base": 0}}
"""One more try, at once."""


def fails(*tasks: str) -> Worker:
    """A worker that says of these tasks that it could not do them."""

    async def do(invocation: Invocation) -> Any:
        if work_of(invocation).task.id in tasks:
            raise Fatal(f"no source for {work_of(invocation).task.id}")
        return f"did {work_of(invocation).task.id}"

    return Worker(do)


def task(task_id: str, *depends_on: str, **fields: Any) -> dict[str, Any]:
    return {"id": task_id, "title": task_id.upper(), "depends_on": list(depends_on), **fields}


# A task fails


async def test_a_failed_dependency_fails_its_dependents_and_the_run_ends(
    cb: callboard.Callboard,
) -> None:
    """The dependents wait for ever, and so does whoever waits for the run."""
    plan = [task("a"), task("b", "a"), task("c", "b"), task("d")]
    team = Team(cb, document("w"), planner=Planner(plan, []), w=fails("a"))

    run = await team.run()

    assert run.phase is Phase.DONE
    assert run.counts == {"total": 4, "unfinished": 0, "done": 1, "failed": 3, "cancelled": 0}
    report = await cb.runs.report(run.id)
    assert report.answer == {"a": "failed", "b": "failed", "c": "failed", "d": "done"}
    failed = {failure.id: failure for failure in report.failures}
    assert (failed["a"].error, failed["a"].worker) == ("no source for a", "w")
    assert failed["b"].error == "Dependency a ended failed."
    assert failed["b"].cure == f"Mend a first, which it needs: callboard runs retry {run.id} a"
    assert team.done == {"a": 1, "d": 1}


async def test_the_synthesizer_is_told_of_failures_and_their_causes(
    cb: callboard.Callboard,
) -> None:
    plan = [task("a"), task("b", "a")]
    team = Team(cb, document("w"), planner=Planner(plan, []), w=fails("a"))

    await team.run()

    told = team.writer.told
    assert (told["a"].status, told["a"].error) == ("failed", "no source for a")
    assert told["b"].status == "failed"
    assert told["b"].error is not None and "a" in told["b"].error
    assert team.writer.asked[-1].counts["failed"] == 2


@pytest.mark.parametrize(
    ("policy", "became", "seen"),
    [("fail", "failed", None), ("skip", "cancelled", None), ("run", "done", "failed")],
)
async def test_what_a_failed_dependency_means_is_the_plans_choice(
    cb: callboard.Callboard, policy: str, became: str, seen: str | None
) -> None:
    plan = [task("a"), task("b", "a", on_dependency_failure=policy)]
    worker = fails("a")
    team = Team(cb, document("w"), planner=Planner(plan, []), w=worker)

    run = await team.run()

    assert await statuses(cb, run) == {"a": "failed", "b": became}
    results = [request.results for request in worker.asked if request.task.id == "b"]
    assert [found["a"].status for found in results] == ([seen] if seen else [])


async def test_a_worker_that_says_it_failed_has_failed(cb: callboard.Callboard) -> None:
    """The runner writes *done* over what the worker said of itself."""

    async def gives_up(invocation: Invocation) -> str:
        await invocation.context.tasks.fail(
            invocation.context.id,
            fence=invocation.context.fence,
            error=Fatal("the source is gone"),
        )
        return "I marked the task as failed."

    team = Team(cb, document("w"), planner=Planner([task("a")], []), w=Worker(gives_up))

    run = await team.run()

    report = await cb.runs.report(run.id)
    assert [(one.status, one.result) for one in report.tasks] == [("failed", None)]
    assert [failure.error for failure in report.failures] == ["the source is gone"]
    assert (run.counts["done"], run.counts["failed"]) == (0, 1)


async def test_a_worker_that_returns_what_is_no_json_fails_its_task_alone(
    cb: callboard.Callboard,
) -> None:
    async def odd(invocation: Invocation) -> Any:
        return object() if work_of(invocation).task.id == "a" else 1

    plan = [task("a"), task("b")]
    team = Team(cb, document("w"), planner=Planner(plan, []), w=Worker(odd))

    run = await team.run()

    assert await statuses(cb, run) == {"a": "failed", "b": "done"}
    assert run.phase is Phase.DONE
    [failure] = (await cb.runs.report(run.id)).failures
    assert "object" in failure.error


async def test_a_team_that_stops_at_a_failure_stops_what_runs(cb: callboard.Callboard) -> None:
    held = Held()

    async def fails_once_b_runs(invocation: Invocation) -> Any:
        await held.until_begun("b")
        raise Fatal("no source for a")

    plan = [task("a", worker="w1"), task("b", worker="w2"), task("c", "b")]
    team = Team(
        cb,
        document(on_failure="stop"),
        planner=Planner(plan),
        w1=Worker(fails_once_b_runs),
        w2=Worker(held),
    )

    run = await team.run()

    assert run.phase is Phase.FAILED
    assert run.reason == "task a failed, and the team stops at a failure"
    assert await statuses(cb, run) == {"a": "failed", "b": "cancelled", "c": "cancelled"}
    await held.until_cancelled("b")
    assert team.writer.asked == []


async def test_a_synthesizer_that_fails_fails_the_run_and_keeps_the_results(
    cb: callboard.Callboard,
) -> None:
    class Broken:
        async def run(self, invocation: Invocation) -> Any:
            raise Fatal("out of ink")

    team = Team(cb, document("w"), planner=Planner([task("a")], []), writer=Broken())

    run = await team.run()

    assert (run.phase, run.reason) == (Phase.FAILED, "the synthesizer failed: out of ink")
    assert await statuses(cb, run) == {"a": "done"}
    with pytest.raises(RunFailed, match="out of ink"):
        await cb.runs.result(run.id, timeout=1)


# The planner


async def test_a_plan_for_nobody_in_the_team_is_refused_and_the_run_fails(
    cb: callboard.Callboard,
) -> None:
    """The task waits for a worker that does not exist, and the run never ends."""
    planner = Planner([task("a", worker="coder")])
    team = Team(cb, document(agents={"planner": AGAIN}), planner=planner)

    run = await team.run()

    said = "Task 'a' of the plan names the worker 'coder', who is not in the team: w1, w2."
    assert run.phase is Phase.FAILED
    assert run.reason == f"planning failed: {said}"
    assert [(one.attempt, one.previous_error) for one in planner.asked] == [(1, None), (2, said)]
    assert await statuses(cb, run) == {}


async def test_a_plan_that_is_right_the_second_time_is_done(cb: callboard.Callboard) -> None:
    planner = Planner([task("a", worker="coder")], [task("a", worker="w2")], [])
    team = Team(cb, document(agents={"planner": AGAIN}), planner=planner)

    run = await team.run()

    assert run.phase is Phase.DONE
    assert await statuses(cb, run) == {"a": "done"}
    assert planner.asked[1].previous_error is not None
    assert "'coder'" in planner.asked[1].previous_error


async def test_a_limit_on_tasks_at_once_cuts_no_worker_off(cb: callboard.Callboard) -> None:
    """A limit of one cuts the list of workers to one, and the others' tasks wait for ever."""
    plan = [task("a", worker="w1"), task("b", worker="w2")]
    team = Team(cb, document(max_concurrent=1), planner=Planner(plan, []))

    run = await team.run()

    assert await statuses(cb, run) == {"a": "done", "b": "done"}
    assert run.phase is Phase.DONE


async def test_a_plan_that_names_no_worker_is_done_by_any_that_fits(
    cb: callboard.Callboard,
) -> None:
    agents = {"w2": {"capabilities": ["csv"]}}
    plan = [task("a", capabilities=["csv"]), task("b")]
    team = Team(cb, document(agents=agents), planner=Planner(plan, []))

    run = await team.run()

    assert await statuses(cb, run) == {"a": "done", "b": "done"}
    assert "a" in team.agents["w2"].ids


async def test_a_planner_that_plans_nothing_is_refused_and_the_run_fails(
    cb: callboard.Callboard,
) -> None:
    team = Team(cb, document("w"), planner=Planner([]))

    run = await team.run()

    assert run.phase is Phase.FAILED
    assert run.reason == (
        "planning failed: The plan has no tasks. Give at least one, or done: true where the "
        "request needs none."
    )


async def test_a_planner_that_says_nothing_is_needed_goes_on_to_the_answer(
    cb: callboard.Callboard,
) -> None:
    planner = Planner({"tasks": [], "done": True, "remark": "All is known."})
    team = Team(cb, document("w"), planner=planner)

    run = await team.run()

    said = "the planner said that the plan is complete: All is known."
    assert (run.phase, run.planning) == (Phase.DONE, said)
    assert team.writer.asked[-1].remark == said


async def test_a_planner_that_raises_fails_the_run_with_what_it_said(
    cb: callboard.Callboard,
) -> None:
    team = Team(cb, document("w"), planner=Planner(Fatal("no model answers")))

    run = await team.run()

    assert (run.phase, run.reason) == (Phase.FAILED, "planning failed: no model answers")


async def test_a_later_round_that_fails_ends_the_planning_and_not_the_run(
    cb: callboard.Callboard,
) -> None:
    planner = Planner([task("a")], Fatal("no model answers"))
    team = Team(cb, document("w"), planner=planner)

    run = await team.run()

    assert (run.phase, run.planning) == (Phase.DONE, "round 2 of planning failed")
    assert await statuses(cb, run) == {"a": "done"}


async def test_a_plan_may_be_a_text_around_its_json(cb: callboard.Callboard) -> None:
    text = 'Here is my plan:\n```json\n[{"id": "a", "title": "A"}]\n```\nGood luck!'
    team = Team(cb, document("w"), planner=Planner(text, '{"tasks": [], "done": true}'))

    run = await team.run()

    assert await statuses(cb, run) == {"a": "done"}


async def test_a_planner_that_repeats_itself_is_asked_no_more(cb: callboard.Callboard) -> None:
    """Wave after wave of the same tasks, until somebody stops it."""
    planner = Planner([{"title": "Look again"}])
    team = Team(cb, document("w"), planner=planner)

    run = await team.run()

    assert (run.phase, run.planning) == (Phase.DONE, "the planner gave the same plan twice")
    assert len(planner.asked) == 2
    assert run.counts["total"] == 1


async def test_a_planner_that_always_wants_more_is_bounded_by_rounds(
    cb: callboard.Callboard,
) -> None:
    planner = Planner(*([{"title": f"Look at {n}"}] for n in range(100)))
    team = Team(cb, document("w", max_rounds=5), planner=planner)

    run = await team.run()

    assert (run.phase, run.planning) == (Phase.DONE, "all 5 rounds of planning are used up")
    assert (len(planner.asked), run.counts["total"], run.round) == (5, 5, 5)
    assert [one.limits.rounds_left for one in planner.asked] == [4, 3, 2, 1, 0]


async def test_a_planner_that_always_wants_more_is_bounded_by_tasks(
    cb: callboard.Callboard,
) -> None:
    planner = Planner(*([{"title": f"Look at {n}"}, {"title": f"And {n}"}] for n in range(100)))
    team = Team(cb, document("w", max_rounds=50, max_tasks=6), planner=planner)

    run = await team.run()

    assert (run.phase, run.planning) == (Phase.DONE, "the run has its 6 tasks")
    assert (len(planner.asked), run.counts["total"]) == (3, 6)
    assert [one.limits.tasks_left for one in planner.asked] == [6, 4, 2]


async def test_a_plan_of_more_tasks_than_are_left_is_refused_whole(
    cb: callboard.Callboard,
) -> None:
    team = Team(cb, document("w", max_tasks=2), planner=Planner([{"title": n} for n in "abc"]))

    run = await team.run()

    assert run.phase is Phase.FAILED
    assert "3 tasks, and the run may get 2 more" in run.reason
    assert await statuses(cb, run) == {}


async def test_a_planner_whose_tasks_all_fail_is_not_asked_a_third_time(
    cb: callboard.Callboard,
) -> None:
    planner = Planner(*([task(f"a{n}")] for n in range(100)))
    worker = fails(*(f"a{n}" for n in range(100)))
    team = Team(cb, document("w", max_rounds=50), planner=planner, w=worker)

    run = await team.run()

    assert run.planning == "no task was done before 2 rounds of planning in a row"
    assert len(planner.asked) == 2
    assert run.phase is Phase.DONE


# Limits


async def test_turns_are_never_more_than_the_limit(cb: callboard.Callboard) -> None:
    """The limit stands in the description of the team, and nothing reads it."""
    plan = [{"title": f"Look at {n}"} for n in range(20)]
    planner = Planner(plan)
    team = Team(cb, document(global_max_turns=6), planner=planner)

    run = await team.run()

    turns = len(planner.asked) + sum(team.done.values()) + len(team.writer.asked)
    assert turns == 6
    assert run.phase is Phase.DONE
    found = list((await statuses(cb, run)).values())
    assert (found.count("done"), found.count("cancelled")) == (4, 16)
    told = [one for one in team.writer.told.values() if one.status == "cancelled"]
    assert told[0].error == "the run's 6 turns are used up"


@pytest.mark.parametrize(
    ("turns", "phase", "why"),
    [
        (1, Phase.FAILED, "planning failed: the run's 1 turns are used up"),
        (2, Phase.DONE, "its 2 turns are used up"),
    ],
)
async def test_a_run_with_next_to_no_turns_ends_and_says_so(
    cb: callboard.Callboard, turns: int, phase: Phase, why: str
) -> None:
    team = Team(cb, document("w", global_max_turns=turns), planner=Planner([task("a")], []))

    run = await team.run()

    assert run.phase is phase
    assert why in (run.reason, run.planning)
    assert await statuses(cb, run) == ({"a": "cancelled"} if turns == 2 else {})


async def test_every_attempt_is_a_turn(cb: callboard.Callboard) -> None:
    async def always_fails(invocation: Invocation) -> Any:
        raise RuntimeError("again")

    agents = {"w": {"retry": {"max_retries": 1_000, "base": 0}}}
    worker = Worker(always_fails)
    planner = Planner([task("a", worker="w")])
    team = Team(cb, document("w", agents=agents, global_max_turns=8), planner=planner, w=worker)

    run = await team.run()

    assert len(planner.asked) + len(worker.asked) + len(team.writer.asked) == 8
    assert run.phase is Phase.DONE
    assert (await statuses(cb, run))["a"] in ("failed", "cancelled")


async def test_a_run_ends_when_its_time_is_over(cb: callboard.Callboard) -> None:
    """The limit stands in the description of the team, and a run outlives it tenfold."""
    held = Held()
    plan = [task("a"), task("b", worker="w1"), task("c", "b")]
    agents = {"w1": {"max_concurrent": 2}}
    team = Team(
        cb,
        document("w1", agents=agents, global_timeout_seconds=0.5),
        planner=Planner(plan),
        w1=Worker(held),
    )
    held.release("a")

    run = await team.run()

    assert (run.phase, run.reason) == (Phase.FAILED, "it took longer than its 0.5 s")
    assert await statuses(cb, run) == {"a": "done", "b": "cancelled", "c": "cancelled"}
    await held.until_cancelled("b")
    assert run.ended_at is not None
    assert 0.5 <= (run.ended_at - run.created_at).total_seconds() < 5
    assert (await types_told(cb, run))["error"] == 1


async def test_a_run_in_which_things_happen_all_the_time_ends_too(
    cb: callboard.Callboard,
) -> None:
    async def talks(invocation: Invocation) -> None:
        while True:
            await invocation.context.say("still at it")

    team = Team(
        cb,
        document("w", global_timeout_seconds=0.3),
        planner=Planner([task("a")]),
        w=Worker(talks),
    )

    run = await team.run()

    assert (run.phase, run.reason) == (Phase.FAILED, "it took longer than its 0.3 s")


async def test_a_planner_that_never_answers_ends_with_the_runs_time(
    cb: callboard.Callboard,
) -> None:
    class Silent:
        async def run(self, invocation: Invocation) -> Any:
            await asyncio.Event().wait()

    team = Team(cb, document("w", global_timeout_seconds=0.3), planner=Silent())

    run = await team.run()

    assert (run.phase, run.reason) == (Phase.FAILED, "it took longer than its 0.3 s")


# Whoever follows it


async def test_a_run_that_is_followed_makes_the_same_tasks_as_one_that_is_not(
    cb: callboard.Callboard,
) -> None:
    """Arguments are lost on the way that streams, and a followed run makes no tasks."""

    class Talks(Planner):
        async def run(self, invocation: Invocation) -> Any:
            await invocation.context.say("I think that ")
            await invocation.context.say("two tasks will do.")
            return await super().run(invocation)

    plan = [task("a", payload={"n": 1}), task("b", "a", payload=[])]
    team = Team(cb, document("w"), planner=Talks(plan, []))
    alone = await team.run()
    team.agents["planner"] = Talks(plan, [])
    followed = await team.start()
    events: list[RunEvent] = []

    async with team.hosted(followed):
        async for event in cb.runs.events(followed.id, follow=True):
            assert isinstance(event, RunEvent)
            events.append(event)

    assert await statuses(cb, followed) == await statuses(cb, alone) == {"a": "done", "b": "done"}
    created = [event.data["task"]["id"] for event in events if event.type == "task_created"]
    assert created == ["a", "b"]
    said = [event.data["content"] for event in events if event.type == "agent_token"]
    assert "".join(said[:2]) == "I think that two tasks will do."
    assert [one.task.payload for one in team.workers[0].asked] == [{"n": 1}, []] * 2
