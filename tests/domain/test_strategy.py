"""The strategies: each formula with its numbers, and what one's own may answer.

The text under test is the one that the engine runs, executed by itself in Lua 5.1.
"""

from __future__ import annotations

import importlib.resources
import itertools
import random
from collections import Counter
from collections.abc import Iterable, Iterator
from typing import Any

import pytest
from lupa import lua51

from callboard.domain import strategy
from callboard.domain.strategy import ALIASES, STRATEGIES, Assignment, Candidate, Decision
from callboard.domain.task import at_ms
from callboard.exceptions import InvalidArgument, StrategyFailed

LUA = importlib.resources.files("callboard.engine") / "lua" / "include" / "strategy.lua"
TASK = {"id": "t1", "kind": "work", "key": "t1", "priority": 0, "required": 0}


class Rules:
    """The table of strategies, called with plain values."""

    def __init__(self) -> None:
        self.lua = lua51.LuaRuntime()
        self.table = self.lua.execute(LUA.read_text() + "\nreturn strategies")
        self.state = self.lua.table_from({})

    def choose(
        self, name: str, *agents: dict[str, Any], **task: Any
    ) -> tuple[str | None, str, list[float | bool]]:
        """Who is chosen, why, and the scores."""
        candidates = [self.lua.table_from(agent) for agent in agents]
        index, reason = self.table["choose"](
            name,
            self.lua.table_from({**TASK, **task}),
            self.lua.table_from(candidates),
            self.state,
        )
        chosen = None if index is None else agents[index - 1]["id"]
        return chosen, reason, [candidate["score"] for candidate in candidates]


@pytest.fixture
def rules() -> Rules:
    return Rules()


def agent(name: str, **facts: Any) -> dict[str, Any]:
    return {
        "id": name,
        "held": 0,
        "reserved": 0,
        "limit": 10,
        "ready": 10,
        "health": 1.0,
        "waiting": True,
        "waited_ms": 0,
        "priority": 0,
        "weight": 1,
        **facts,
    }


def turns(rules: Rules, name: str, count: int, *agents: dict[str, Any]) -> list[str | None]:
    return [rules.choose(name, *agents, id=f"t{i}", key=f"t{i}")[0] for i in range(count)]


# Names


def test_the_engine_and_python_know_the_same_strategies_and_aliases(rules: Rules) -> None:
    assert tuple(rules.table["names"].values()) == STRATEGIES
    assert dict(rules.table["aliases"].items()) == ALIASES
    assert set(rules.table["reads"].keys()) == set(STRATEGIES)


@pytest.mark.parametrize(
    ("given", "name"),
    [
        ("Round-Robin", "round_robin"),
        ("LEAST_CONNECTIONS", "least_connections"),
        ("capability", "capability_based"),
        ("least-loaded", "least_connections"),
        ("mine", "mine"),
    ],
)
def test_a_name_is_known_in_any_case_and_by_its_aliases(given: str, name: str) -> None:
    assert strategy.canonical(given) == name


@pytest.mark.parametrize("name", STRATEGIES)
def test_nobody_is_chosen_where_there_is_nobody(rules: Rules, name: str) -> None:
    assert rules.choose(name)[:2] == (None, "no agent that fits has room")


@pytest.mark.parametrize("name", STRATEGIES)
def test_agents_of_which_nothing_is_known_do_not_disturb_any_strategy(
    rules: Rules, name: str
) -> None:
    bare = {"held": 0, "reserved": 0, "limit": 1, "ready": 1, "waiting": True}

    chosen, reason, _ = rules.choose(name, {"id": "a", **bare}, {"id": "b", **bare})

    assert chosen in ("a", "b")
    assert reason
    assert "\n" not in reason


# Each by its numbers


def test_best_idle_takes_only_who_waits(rules: Rules) -> None:
    busy = agent("a", waiting=False)

    assert rules.choose("best_idle", busy) == (None, "no agent waits for work", [False])
    assert rules.choose("best_idle", busy, agent("b"))[0] == "b"


def test_best_idle_takes_who_will_be_done_first(rules: Rules) -> None:
    # (10 runs × 100/200 + 2 × 0.7) / 12 = 0.533 of the usual time, and 1.367 at 300 ms.
    quick = agent("quick", runs=10, avg_ms=100, mean_ms=200)
    slow = agent("slow", runs=10, avg_ms=300, mean_ms=200)

    chosen, reason, scores = rules.choose("best_idle", slow, quick)

    assert chosen == "quick"
    assert scores == pytest.approx([-1.36667, -0.53333], abs=1e-4)
    assert reason == "waits for work; expected at 0.53 of the usual time"


def test_best_idle_tries_an_unknown_agent_before_one_of_usual_speed(rules: Rules) -> None:
    known = agent("known", runs=100, avg_ms=200, mean_ms=200)

    chosen, reason, scores = rules.choose("best_idle", known, agent("new"))

    assert (chosen, reason) == ("new", "waits for work; its speed is not known yet")
    assert scores == pytest.approx([-(100 + 1.4) / 102, -0.7], abs=1e-4)


def test_best_idle_is_not_drawn_to_who_is_idle_because_it_fails_at_once(rules: Rules) -> None:
    # 12 outcomes with 2 supposed ones, 2 of them done: six times as long.
    failing = agent("failing", recent_done=0, recent_failed=10)
    slow = agent("slow", runs=100, avg_ms=300, mean_ms=200)

    chosen, _, scores = rules.choose("best_idle", failing, slow)

    assert chosen == "slow"
    assert scores[0] == pytest.approx(-0.7 * 12 / 2)


def test_best_idle_prefers_the_less_loaded_of_equals_then_the_longest_waiting(
    rules: Rules,
) -> None:
    loaded = agent("loaded", held=5)

    assert rules.choose("best_idle", loaded, agent("free"))[0] == "free"
    assert rules.choose("best_idle", agent("a"), agent("b", waited_ms=9))[0] == "b"
    # Half its slots taken: an eighth slower.
    assert rules.choose("best_idle", loaded)[2] == pytest.approx([-0.7 * 1.125])


@pytest.mark.parametrize("name", ["least_connections", "least-loaded"])
def test_least_connections_takes_the_fewest_tasks(rules: Rules, name: str) -> None:
    chosen, reason, scores = rules.choose(
        name, agent("a", held=2), agent("b", held=0, reserved=1), agent("c", held=3)
    )

    assert (chosen, reason, scores) == ("b", "has the fewest tasks: 1", [-2, -1, -3])


def test_of_equal_loads_the_larger_room_then_the_higher_priority_is_taken(rules: Rules) -> None:
    assert rules.choose("least_connections", agent("a", held=1), agent("b", held=1, limit=20))[
        0
    ] == ("b")
    assert rules.choose("least_connections", agent("a"), agent("b", priority=1))[0] == "b"


def test_round_robin_goes_on_by_name_wherever_agents_come_and_go(rules: Rules) -> None:
    a, b, c, d = (agent(name) for name in "abcd")

    assert turns(rules, "round-robin", 4, c, a, b) == ["a", "b", "c", "a"]
    assert turns(rules, "round_robin", 2, a, c, d) == ["c", "d"]
    assert turns(rules, "round_robin", 2, b, a) == ["a", "b"]


def test_least_response_time_tries_who_is_unknown_then_takes_the_shortest(rules: Rules) -> None:
    slow, quick = agent("slow", response_ms=900), agent("quick", response_ms=400)

    assert rules.choose("least_response_time", slow, quick)[:2] == (
        "quick",
        "has the shortest mean time: 0.400 s",
    )
    assert rules.choose("least_response_time", slow, quick, agent("new"))[0] == "new"


def test_weighted_round_robin_gives_each_its_share(rules: Rules) -> None:
    agents = [agent("a", weight=1), agent("b", weight=2), agent("c", weight=3)]

    assert turns(rules, "weighted_round_robin", 6, *agents) == ["a", "b", "c", "c", "b", "c"]
    shares = Counter(turns(rules, "weighted_round_robin", 594, *agents))
    assert shares == {"a": 99, "b": 198, "c": 297}


@pytest.mark.parametrize(
    ("weights", "count", "shares", "in_a_row"),
    [
        ((0.5, 0.5), 40, (20, 20), 1),
        ((0.1, 0.3), 40, (10, 30), 3),
        ((1_000, 1_000), 40, (20, 20), 1),
        ((1_000, 500, 250), 70, (40, 20, 10), 2),
        ((0.001, 1_000), 100, (0, 100), 100),
        ((1.5, 2.25, 0.75), 60, (20, 30, 10), 2),
        ((1, 1, 1, 1), 40, (10, 10, 10, 10), 1),
    ],
    ids=str,
)
def test_any_weights_have_their_shares_evenly_spread(
    rules: Rules,
    weights: tuple[float, ...],
    count: int,
    shares: tuple[int, ...],
    in_a_row: int,
) -> None:
    agents = [agent(f"a{i}", weight=weight) for i, weight in enumerate(weights)]

    taken = turns(rules, "weighted_round_robin", count, *agents)

    found = Counter(taken)
    assert tuple(found[one["id"]] for one in agents) == shares
    assert max(len(list(group)) for _, group in itertools.groupby(taken)) == in_a_row


@pytest.mark.parametrize("seed", range(5))
def test_no_agent_is_ever_more_than_two_turns_from_its_share_among_a_few(
    rules: Rules, seed: int
) -> None:
    draw = random.Random(seed)
    agents = [agent(f"a{i}", weight=draw.choice([0.25, 1, 1.7, 3, 10])) for i in range(6)]
    total = sum(one["weight"] for one in agents)
    rules.state["turn"] = 1_000_000_000  # as after many choices

    taken = Counter[str | None]()
    for turn in range(1, 400):
        taken.update(turns(rules, "weighted_round_robin", 1, *agents))
        for one in agents:
            assert abs(taken[one["id"]] - turn * one["weight"] / total) <= 2, turn


def test_a_thousand_agents_of_any_weights_have_their_turns(rules: Rules) -> None:
    agents = [agent(f"a{i}", weight=1 + i % 5) for i in range(1_000)]

    taken = Counter(turns(rules, "weighted_round_robin", 20, *agents))

    assert max(taken.values()) == 1


# performance: CPU .4 and memory .2 leave .6 and .8; 2 s of 10 leave .8; 9 of 10 tasks done.
# The mean of .6, .8, .8 and .9 is .775; reliability 1 as there were no more than ten.
MEASURED = {"cpu": 0.4, "memory": 0.2, "response_ms": 2_000, "done": 9, "failed": 1}


@pytest.mark.parametrize(
    ("name", "score"),
    [
        pytest.param("resource_based", 54.25, id="(60 + 80) / 2 × .775"),
        pytest.param("capability_based", 0.775, id="1 × .775"),
        pytest.param("capability", 0.775, id="by its alias"),
        pytest.param("predictive", 0.7 * 0.8875 + 0.3 * 0.8, id=".7 (.775 + 1) / 2 + .3 × 8 / 10"),
        # 100 − 10 × 2 − .5 × 40 − .3 × 20 + 5 × 1 + 20 − 2000 × 2 / 1000
        pytest.param("work_stealing", 75.0, id="findBestAgent"),
    ],
)
def test_a_score_is_as_documented(rules: Rules, name: str, score: float) -> None:
    one = agent("a", **MEASURED, held=2, priority=1, recent_done=8, recent_failed=2)

    assert rules.choose(name, one)[2] == [pytest.approx(score)]


def test_hybrid_weighs_load_performance_capability_and_affinity(rules: Rules) -> None:
    # Used: mean of 2/10 reserved, .4, .2 and 5/10 held = .325. Performance: as quick as
    # usual counts 1, half as quick .5; with 9 of 10 done, the mean is .7.
    one = agent(
        "a", **MEASURED, held=5, reserved=2, avg_ms=200, mean_ms=100, was_last=True, match=1
    )

    _, _, scores = rules.choose("hybrid", one, agent("b"))

    assert scores[0] == pytest.approx(0.25 * 0.675 + 0.3 * 0.7 + 0.3 + 0.15)
    assert scores[1] == pytest.approx(0.25 + 0.3 * 0.5 + 0.3 + 0.15 * 0.5)


def test_reliability_counts_once_there_were_more_than_ten_tasks(rules: Rules) -> None:
    early = agent("early", done=0, failed=10)
    late = agent("late", done=2, failed=10)

    _, _, scores = rules.choose("predictive", early, late)

    assert scores == pytest.approx([(2 / 3 + 1) / 2, ((2 + 2 / 12) / 3 + 2 / 12) / 2])


def test_capability_based_takes_the_larger_share_of_what_is_required(rules: Rules) -> None:
    assert rules.choose("capability_based", agent("a", match=0.5), agent("b"))[0] == "b"


def test_affinity_stays_with_the_last_one_until_it_is_four_fifths_full(rules: Rules) -> None:
    last = agent("last", was_last=True, held=7)

    assert rules.choose("affinity", agent("free"), last)[:2] == (
        "last",
        "was the last to do this kind",
    )
    assert rules.choose("affinity", agent("free"), {**last, "held": 8})[0] == "free"


def test_random_spreads_evenly_and_the_same_task_draws_the_same_lot(rules: Rules) -> None:
    agents = [agent(name) for name in "abcd"]

    drawn = Counter(turns(rules, "random", 4_000, *agents))

    assert all(900 < count < 1_100 for count in drawn.values())
    assert turns(rules, "random", 50, *agents) == turns(rules, "random", 50, *agents)


def test_an_average_is_the_plain_mean_at_first_and_moves_by_a_tenth_later(rules: Rules) -> None:
    average = rules.table["average"]

    mean = 0.0
    for count, value in enumerate([10, 20, 60]):
        mean = average(mean, count, value)

    assert mean == pytest.approx(30)
    assert average(30.0, 500, 130.0) == pytest.approx(40)


# Consistent hashing


def owners(rules: Rules, names: Iterable[str], keys: int = 2_000) -> list[str | None]:
    agents = [agent(name, limit=10_000) for name in names]
    return [rules.choose("consistent_hash", *agents, key=f"key-{i}")[0] for i in range(keys)]


def test_the_same_key_goes_to_the_same_agent_whatever_the_order(rules: Rules) -> None:
    names = [f"agent-{i}" for i in range(10)]

    assert owners(rules, names) == owners(rules, reversed(names))
    assert all(140 < count < 260 for count in Counter(owners(rules, names)).values())


def test_a_change_of_membership_moves_only_the_share_of_who_came_or_went(rules: Rules) -> None:
    names = [f"agent-{i}" for i in range(10)]
    before = owners(rules, names)

    without = owners(rules, names[:-1])
    grown = owners(rules, [*names, "agent-x"])

    left = [b for b, w in zip(before, without, strict=True) if b != w]
    assert set(left) == {"agent-9"}
    moved = [(b, g) for b, g in zip(before, grown, strict=True) if b != g]
    assert {g for _, g in moved} == {"agent-x"}
    assert 130 < len(moved) < 240  # an eleventh is 182


def test_no_agent_is_given_more_than_one_and_a_quarter_times_its_share(rules: Rules) -> None:
    agents = [agent(name, limit=1_000) for name in "abcde"]

    for given in range(1, 101):
        chosen, reason, _ = rules.choose("consistent_hash", *agents, key="hot")
        next(one for one in agents if one["id"] == chosen)["reserved"] += 1
        assert max(one["reserved"] for one in agents) <= -(-1.25 * given // 5), reason

    assert sorted(one["reserved"] for one in agents) == [0, 25, 25, 25, 25]


def test_a_weight_is_a_share_of_the_keys(rules: Rules) -> None:
    agents = [agent("a", weight=1), agent("b", weight=3)]

    given = Counter(
        rules.choose("consistent_hash", *agents, key=f"key-{i}")[0] for i in range(2_000)
    )

    assert 420 < given["a"] < 580


def test_agents_that_weigh_the_same_are_chosen_from_as_if_they_had_no_weight(rules: Rules) -> None:
    dice = random.Random(7)
    for i in range(300):
        count = dice.choice([1, 2, 10, 100])
        plain = [agent(f"a{n}", held=dice.choice([0, 0, 1, 9]), limit=100) for n in range(count)]
        heavy = [{**one, "weight": 2} for one in plain]

        chosen, reason, scores = rules.choose("consistent_hash", *plain, key=f"key-{i}")
        other, why, all_scores = rules.choose("consistent_hash", *heavy, key=f"key-{i}")

        assert (chosen, reason) == (other, why)
        assert [2 * one for one in scores[:64]] == all_scores[:64]


def test_the_reason_says_who_was_passed_over(rules: Rules) -> None:
    _, reason, scores = rules.choose("consistent_hash", agent("a"), agent("b"), key="k")
    first = "ab"[scores.index(max(scores))]
    full = [agent(name, held=9 if name == first else 0) for name in "ab"]

    assert reason == "is the first choice for its key"
    assert rules.choose("consistent_hash", *full, key="k")[1] == (
        f"is the next choice for its key; {first} has its share"
    )


# One's own


class Answers:
    def __init__(self, answer: Any) -> None:
        self.answer = answer

    def choose(self, assignment: Assignment) -> Any:
        if isinstance(self.answer, Exception):
            raise self.answer
        return self.answer


async def waits(_: Assignment) -> str:
    return "a"


ASSIGNMENT = Assignment(
    task="t1", board="b", kind="work", key="t1", priority=0, required=0, at=at_ms(0),
    candidates=(Candidate(id="a"), Candidate(id="b", held=2, reserved=1)),
)  # fmt: skip


@pytest.mark.parametrize(
    "answer",
    ["c", 1, "", ASSIGNMENT.candidates[0], ["a"]],
    ids=["unknown", "number", "empty", "candidate", "list"],
)
def test_an_answer_that_names_no_candidate_is_an_error_that_names_the_strategy(
    answer: Any,
) -> None:
    with pytest.raises(StrategyFailed, match="Strategy 'mine' answered .*t1.*stays") as caught:
        strategy.ask("mine", Answers(answer), ASSIGNMENT)

    assert caught.value.details == {"strategy": "mine", "task": "t1", "board": "b"}


def test_what_a_strategy_raises_is_the_cause_of_the_error_that_names_it() -> None:
    with pytest.raises(StrategyFailed, match="'mine' failed on task t1: ZeroDivisionError: x") as e:
        strategy.ask("mine", Answers(ZeroDivisionError("x")), ASSIGNMENT)

    assert isinstance(e.value.__cause__, ZeroDivisionError)


@pytest.mark.filterwarnings("error")
def test_a_coroutine_is_no_answer_and_is_not_left_unawaited() -> None:
    class Late:
        choose = staticmethod(waits)

    with pytest.raises(StrategyFailed, match="coroutine"):
        strategy.ask("mine", Late(), ASSIGNMENT)  # type: ignore[arg-type]


def test_none_leaves_the_task_and_an_id_takes_the_candidate() -> None:
    assert strategy.ask("mine", Answers(None), ASSIGNMENT) is None
    chosen = strategy.ask("mine", Answers("b"), ASSIGNMENT)
    assert chosen is not None
    assert (chosen.id, chosen.load) == ("b", 3)


def test_a_class_is_made_and_what_cannot_choose_is_refused() -> None:
    class First:
        def choose(self, assignment: Assignment) -> str:
            return assignment.candidates[0].id

    assert strategy.check_strategy("first", First).choose(ASSIGNMENT) == "a"
    with pytest.raises(InvalidArgument, match="'nothing' is a int without a method choose"):
        strategy.check_strategy("nothing", 5)


def test_an_async_choose_is_refused_before_anything_is_asked_of_it() -> None:
    class Late:
        async def choose(self, assignment: Assignment) -> str:
            raise NotImplementedError

    for given in (Late, Late()):
        with pytest.raises(InvalidArgument, match="'late' .* must not be async"):
            strategy.check_strategy("late", given)


# Decisions


def decisions() -> Iterator[tuple[Decision, str]]:
    common: dict[str, Any] = {"task": "t1", "board": "b", "strategy": "round_robin", "at": at_ms(0)}
    yield (
        Decision(agent="a", reason="is next after z", considered=3, **common),
        "Agent 'a', of 3 with room, by round_robin: it is next after z.",
    )
    yield (
        Decision(agent="a", status="reserved", reason="", **common),
        "Task t1 was reserved for agent 'a' already.",
    )
    yield (
        Decision(agent="", status="no_agent", reason="no agent that fits has room", **common),
        "No agent was chosen for task t1: no agent that fits has room.",
    )


@pytest.mark.parametrize(("decision", "text"), list(decisions()), ids=["made", "reserved", "none"])
def test_a_decision_reads_as_a_sentence(decision: Decision, text: str) -> None:
    assert decision.text == text
    assert decision.is_ok is bool(decision.agent)
