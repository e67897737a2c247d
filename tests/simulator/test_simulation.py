"""What happens in a simulation is what would happen on a board."""

from __future__ import annotations

import pytest

from callboard.simulator.measures import jain, measure, quantile
from callboard.simulator.scenario import SimulatedAgent, SimulatedTask
from tests.simulator.support import Scripted, began, ended, run, scenario

LUCKY = ((0.99, 1.0, 1.0),) * 4
UNLUCKY = ((0.0, 1.0, 1.0),) * 4


def test_a_task_takes_its_work_by_the_speed_of_its_agent() -> None:
    agent = SimulatedAgent("a", speed=2.0, kind_speeds={"fetch": 5.0})
    tasks = [SimulatedTask(at=1, work=10), SimulatedTask(at=7, work=10, kind="fetch")]

    assert ended(run(scenario([agent], tasks))) == [6.0, 8.0]


def test_a_task_waits_for_whoever_is_free_first() -> None:
    agents = [SimulatedAgent("fast", speed=1.0), SimulatedAgent("slow", speed=0.5)]
    tasks = [SimulatedTask(at=0, work=4), SimulatedTask(at=0, work=4), SimulatedTask(at=1, work=1)]

    assert began(run(scenario(agents, tasks)))[2] == 4.0


def test_of_idle_agents_the_one_that_proved_faster_is_chosen() -> None:
    agents = [SimulatedAgent("a", speed=0.1), SimulatedAgent("b", speed=1.0)]
    together = [SimulatedTask(at=0, work=1), SimulatedTask(at=0, work=1)]
    later = [SimulatedTask(at=20.0 + i, work=0.5) for i in range(3)]

    simulation = run(scenario(agents, [*together, *later]))

    assert ended(simulation)[2:] == [20.5, 21.5, 22.5]


def test_priority_is_worth_a_minute_of_waiting_a_point() -> None:
    tasks = [
        SimulatedTask(at=0, work=100),
        SimulatedTask(at=1, work=1),
        SimulatedTask(at=62, work=1, priority=1),
        SimulatedTask(at=60, work=1, priority=1),
    ]

    assert began(run(scenario([SimulatedAgent("a")], tasks))) == [0, 101.0, 102.0, 100.0]


def test_a_task_begins_when_all_it_needs_are_done() -> None:
    tasks = [
        SimulatedTask(at=0, work=1),
        SimulatedTask(at=0, work=5),
        SimulatedTask(at=0, work=1, depends_on=(0, 1)),
    ]

    assert ended(run(scenario([SimulatedAgent("a", slots=4)], tasks))) == [1.0, 5.0, 6.0]


def test_only_an_agent_with_the_skills_is_given_a_task() -> None:
    agents = [SimulatedAgent("a"), SimulatedAgent("b", skills=frozenset({"rare"}), speed=0.5)]
    tasks = [SimulatedTask(at=0, work=1, requires=frozenset({"rare"})) for _ in range(2)]

    assert ended(run(scenario(agents, tasks))) == [2.0, 4.0]


def test_a_failure_is_tried_again_after_its_back_off_and_buried_after_the_fourth() -> None:
    agent = SimulatedAgent("a", fail_rate=0.5)
    tasks = [
        SimulatedTask(at=0, work=1, chances=UNLUCKY),
        SimulatedTask(at=100, work=1, chances=(UNLUCKY[0], *LUCKY[:3])),
    ]

    simulation = run(scenario([agent], tasks))

    # Four seconds of work, and waits of 1, 2 and 4 s: the whole of each bound.
    assert ended(simulation) == [11.0, 103.0]
    assert (measure(simulation).done, measure(simulation).failed) == (1, 1)


def test_a_failure_may_come_after_a_part_of_the_time() -> None:
    task = SimulatedTask(at=0, work=10, chances=((0.0, 0.3, 0.0), *LUCKY[:3]))
    made = scenario([SimulatedAgent("a", fail_rate=0.5)], [task], fails_early=True)

    assert ended(run(made)) == [13.0]


# Pushing


def test_what_is_pushed_waits_for_its_agent_and_begins_in_order() -> None:
    agents = [SimulatedAgent("a"), SimulatedAgent("b")]
    tasks = [SimulatedTask(at=0, work=2), *(SimulatedTask(at=1, work=1) for _ in range(2))]

    simulation = run(scenario(agents, tasks), Scripted(lambda _: "a"), steals=False)

    assert began(simulation) == [0, 2.0, 3.0]


def test_a_reservation_not_taken_up_in_five_seconds_goes_to_whoever_claims() -> None:
    agents = [SimulatedAgent("a"), SimulatedAgent("b")]
    tasks = [
        SimulatedTask(at=0, work=20),
        SimulatedTask(at=0, work=7),
        SimulatedTask(at=1, work=1),
    ]
    chosen = {"t0": "a", "t1": "b", "t2": "a"}

    simulation = run(scenario(agents, tasks), Scripted(chosen.get), steals=False)

    assert began(simulation) == [0, 0, 7.0]
    assert simulation.lapsed == 1


@pytest.mark.parametrize(("reserved", "stolen"), [(1, 0), (2, 1), (4, 2), (5, 2)])
def test_an_idle_agent_steals_half_of_what_is_reserved(reserved: int, stolen: int) -> None:
    agents = [SimulatedAgent("a"), SimulatedAgent("b", slots=8)]
    tasks = [SimulatedTask(at=0, work=4), *(SimulatedTask(at=0, work=4) for _ in range(reserved))]

    simulation = run(scenario(agents, tasks), Scripted(lambda _: "a"), prefetch=0)

    at_the_first_look = [at for at in began(simulation) if at and at < 1.3]
    assert len(at_the_first_look) == stolen


def test_nothing_is_stolen_where_stealing_is_off() -> None:
    agents = [SimulatedAgent("a"), SimulatedAgent("b", slots=8)]
    tasks = [SimulatedTask(at=0, work=1) for _ in range(4)]

    simulation = run(scenario(agents, tasks), Scripted(lambda _: "a"), steals=False)

    assert (simulation.stolen, ended(simulation)) == (0, [1.0, 2.0, 3.0, 4.0])


def test_after_five_tasks_an_agent_claims_one_ahead() -> None:
    tasks = [SimulatedTask(at=0, work=1) for _ in range(12)]
    made = scenario([SimulatedAgent("a"), SimulatedAgent("b", joins_at=5.5)], tasks)

    # "b" takes what waits from 5.5 s on; what "a" has ahead by then stays with it.
    assert began(run(made))[5:8] == [5.0, 6.0, 5.5]
    assert began(run(made, prefetch=0))[5:8] == [5.0, 5.5, 6.0]


def test_an_old_view_makes_a_strategy_pile_up_what_a_fresh_one_spreads() -> None:
    agents = [SimulatedAgent(f"a{i}") for i in range(4)]
    tasks = [SimulatedTask(at=0.1 + i / 100, work=1) for i in range(4)]

    fresh = run(scenario(agents, tasks), "least_connections", steals=False)
    stale = run(scenario(agents, tasks, stale=2.0), "least_connections", steals=False)

    assert [len({*began(fresh)}), fresh.lapsed] == [4, 0]
    assert max(map(float, filter(None, began(fresh)))) < 0.2
    assert max(map(float, filter(None, began(stale)))) > 3.0


# Agents that come and go


def test_what_a_crashed_agent_ran_is_found_after_a_lease() -> None:
    agents = [
        SimulatedAgent("a", leaves_at=2.0, crashes=True),
        SimulatedAgent("b", joins_at=3.0),
    ]

    simulation = run(scenario(agents, [SimulatedTask(at=0, work=5)]))

    assert ended(simulation) == [37.0]
    assert simulation.agents[0].busy == 2.0


def test_a_crashed_waiter_is_offered_no_more_than_it_wanted() -> None:
    agents = [SimulatedAgent("a", leaves_at=1.0, crashes=True), SimulatedAgent("b", speed=0.1)]
    tasks = [SimulatedTask(at=0, work=0.1), *(SimulatedTask(at=2, work=1) for _ in range(3))]

    simulation = run(scenario(agents, tasks))

    assert simulation.lapsed <= 1
    assert all(job.is_done for job in simulation.jobs)


def test_a_draining_agent_ends_what_it_runs_and_gives_back_the_rest() -> None:
    agents = [SimulatedAgent("a", leaves_at=1.0), SimulatedAgent("b", joins_at=1.0)]
    tasks = [SimulatedTask(at=0, work=3), SimulatedTask(at=0.5, work=3)]

    simulation = run(scenario(agents, tasks), Scripted(lambda _: "a"), steals=False)

    assert ended(simulation) == [3.0, 4.0]


def test_tasks_that_nobody_is_left_for_are_counted() -> None:
    made = scenario([SimulatedAgent("a", leaves_at=1.0)], [SimulatedTask(at=5, work=1)])

    assert measure(run(made)).unfinished == 1


# The oracle


def test_the_oracle_gives_a_task_to_where_it_will_be_done_first() -> None:
    agents = [SimulatedAgent("fast", speed=4.0), SimulatedAgent("slow", speed=1.0)]
    tasks = [SimulatedTask(at=0, work=4) for _ in range(6)]

    simulation = run(scenario(agents, tasks), "oracle")

    # Four go to the fast one; the fifth would be done there after 5 s, at the slow one after 4.
    assert sorted(map(float, filter(None, ended(simulation)))) == [1.0, 2.0, 3.0, 4.0, 4.0, 5.0]


# Measures


@pytest.mark.parametrize(("share", "value"), [(0.5, 5), (0.95, 10), (0.9, 9), (0.0, 1), (1.0, 10)])
def test_a_quantile_is_the_least_value_that_so_many_do_not_exceed(
    share: float, value: float
) -> None:
    assert quantile(range(1, 11), share) == value


def test_fairness_is_one_where_all_are_equal_and_one_by_n_where_one_does_all() -> None:
    assert jain([0.5, 0.5, 0.5]) == pytest.approx(1.0)
    assert jain([1.0, 0.0, 0.0, 0.0]) == pytest.approx(0.25)
    assert jain([]) == 1.0


def test_the_times_of_tasks_are_from_when_they_could_be_claimed() -> None:
    tasks = [
        SimulatedTask(at=1, work=4),
        SimulatedTask(at=2, work=1, depends_on=(0,)),
        SimulatedTask(at=2, work=1, depends_on=(1,), since=2.0),
        SimulatedTask(at=2, work=9, counted=False),
    ]

    measures = measure(run(scenario([SimulatedAgent("a", slots=2)], tasks)))

    assert measures.mean == pytest.approx(10 / 3)
    assert (measures.p50, measures.p99) == (4.0, 5.0)
    assert (measures.makespan, measures.fairness) == (11.0, 1.0)
