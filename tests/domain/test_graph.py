from __future__ import annotations

import itertools
import json
import math
from dataclasses import dataclass

import pytest
from hypothesis import given
from hypothesis import strategies as st

from callboard.domain import graph as graph_module
from callboard.domain.graph import CriticalPath, GraphNode, TaskGraph, Unblocks
from callboard.domain.ordering import sort_batch
from callboard.exceptions import DependencyCycle, InvalidArgument, TaskNotFound


def node(task_id: str, *needs: str, **fields) -> GraphNode:
    return GraphNode(id=task_id, depends_on=needs, **fields)


def chain(length: int) -> list[GraphNode]:
    """t0 <- t1 <- ... given last first, so that every reference points forward."""
    return [node(f"t{i}", *([f"t{i - 1}"] if i else [])) for i in reversed(range(length))]


@dataclass(frozen=True)
class Item:
    id: str | None
    depends_on: tuple[str, ...] = ()


# Refusals


@pytest.mark.parametrize("duration", [-1.0, math.nan, math.inf, 2e9])
def test_duration_out_of_bounds_is_refused_by_name(duration):
    with pytest.raises(InvalidArgument, match=r'duration of task "a".*between 0 and 1000000000'):
        TaskGraph([node("a", duration=duration)])


def test_same_id_twice_is_refused():
    with pytest.raises(InvalidArgument, match='"a" is in the graph twice'):
        TaskGraph([node("a"), node("b"), node("a")])


def test_empty_id_is_refused():
    with pytest.raises(InvalidArgument, match="empty id"):
        TaskGraph([node("")])


def test_asking_about_an_id_never_seen_says_so():
    graph = TaskGraph([node("a")])

    for question in (graph.dependents, graph.transitive_dependents, graph.weight):
        with pytest.raises(TaskNotFound, match='"z" is not in this graph'):
            question("z")


def test_limit_below_one_is_refused():
    with pytest.raises(InvalidArgument, match="limit is 0"):
        TaskGraph([node("a")]).unblocks_most(0)


def test_whatever_needs_an_order_names_the_cycle():
    graph = TaskGraph([node("x"), node("a", "b", "x"), node("b", "c"), node("c", "a")])

    assert graph.find_cycle() == ["a", "b", "c"]
    for question in (
        graph.topological_order,
        graph.critical_path,
        graph.slack,
        graph.unblocks,
        graph.unblocks_most,
    ):
        with pytest.raises(DependencyCycle, match="a -> b -> c -> a") as caught:
            question()
        assert caught.value.details["cycle"] == ["a", "b", "c"]


def test_graph_with_a_cycle_can_still_be_drawn_and_exported():
    graph = TaskGraph([node("a", "b"), node("b", "a")])

    assert '"a" -> "b"' in graph.to_dot()
    data = graph.to_data()
    assert (data["cycle"], data["order"], data["critical_path"]["ids"]) == (["a", "b"], None, [])


def test_task_behind_a_cycle_is_not_named_in_it():
    graph = TaskGraph([node("after", "b"), node("a", "b"), node("b", "a")])

    assert graph.find_cycle() == ["a", "b"]


def test_cycle_is_followed_past_needs_that_are_not_on_it():
    graph = TaskGraph([node("x"), node("a", "x", "b"), node("b", "x", "a")])

    assert graph.find_cycle() == ["a", "b"]


def test_task_on_a_cycle_is_not_its_own_dependent():
    graph = TaskGraph([node("a", "b"), node("b", "a")])

    assert graph.transitive_dependents("a") == ("b",)


def test_task_that_needs_itself_is_a_cycle_of_one():
    assert TaskGraph([node("a", "a")]).find_cycle() == ["a"]


# A batch


def test_batch_with_a_cycle_is_refused_with_the_cycle_and_the_cure():
    items = [Item("a", ("b",)), Item("b", ("a",)), Item(None)]

    with pytest.raises(DependencyCycle, match=r"a -> b -> a .*Remove one") as caught:
        sort_batch(items)
    assert caught.value.details["cycle"] == ["a", "b"]


def test_long_cycle_is_named_whole_in_details_and_short_in_the_message():
    items = [Item(f"t{i}", (f"t{(i + 1) % 10_000}",)) for i in range(10_000)]

    with pytest.raises(DependencyCycle) as caught:
        sort_batch(items)
    assert len(caught.value.details["cycle"]) == 10_000
    assert "(9988 more)" in caught.value.message
    assert len(caught.value.message) < 400


def test_batch_comes_out_in_dependency_order():
    last, first, middle = Item("c", ("b", "elsewhere")), Item("a"), Item("b", ("a", "a"))

    assert sort_batch([last, first, middle]) == [first, middle, last]


def test_batch_in_order_is_left_as_it_is():
    items = [Item("b"), Item(None, ("b",)), Item("a"), Item("c", ("a",)), Item(None)]

    assert sort_batch(items) == items


def test_reference_to_an_id_given_twice_means_the_first():
    items = [Item("c", ("a",)), Item("a"), Item("a", ("c",))]

    assert sort_batch(items) == [items[1], items[0], items[2]]


# Neighbours and states


def test_order_keeps_what_was_given_where_it_can():
    graph = TaskGraph([node("d", "a"), node("c"), node("a"), node("b", "d")])

    assert graph.topological_order() == ("c", "a", "d", "b")


def test_dependents_are_direct_or_transitive():
    graph = TaskGraph([node("d", "b", "c"), node("a"), node("b", "a"), node("c", "a")])

    assert graph.dependents("a") == ("b", "c")
    assert graph.transitive_dependents("a") == ("b", "c", "d")
    assert graph.dependents("d") == ()


def test_unknown_reference_is_reported_and_has_dependents():
    graph = TaskGraph(
        [node("a", "ghost"), node("b", "a"), node("old", "purged", status="done")],
    )

    assert graph.unresolved() == {"a": ("ghost",)}
    assert graph.dependents("ghost") == ("a",)
    assert graph.transitive_dependents("ghost") == ("a", "b")
    assert graph.ready() == ()
    assert "ghost" not in graph
    assert len(graph) == 3


def test_ready_is_pending_with_every_dependency_satisfied():
    graph = TaskGraph(
        [
            node("done", status="done"),
            node("failed", status="failed"),
            node("free"),
            node("after_done", "done"),
            node("after_failed", "failed"),
            node("after_failed_anyway", "failed", on_dependency_failure="run"),
            node("after_free_anyway", "free", on_dependency_failure="run"),
            node("later", status="scheduled"),
            node("running", status="claimed"),
        ]
    )

    assert graph.ready() == ("free", "after_done", "after_failed_anyway")


def test_unreachable_follows_failure_and_stops_at_the_policy_run():
    graph = TaskGraph(
        [
            node("c", "b", status="blocked"),
            node("failed", status="failed"),
            node("b", "failed", status="blocked"),
            node("skips", "gone", status="blocked", on_dependency_failure="skip"),
            node("gone", status="cancelled"),
            node("anyway", "b", status="blocked", on_dependency_failure="run"),
            node("after_anyway", "anyway", status="blocked"),
            node("running", "failed", status="in_progress"),
            node("done", "failed", status="done"),
        ]
    )

    assert graph.unreachable() == {"b": "failed", "c": "failed", "skips": "gone"}


# Time


def test_critical_path_is_the_longest_not_the_shortest_way():
    graph = TaskGraph([node("t", "s", "x2"), node("x2", "x1"), node("x1", "s"), node("s")])

    assert graph.critical_path() == CriticalPath(("s", "x1", "x2", "t"), 4.0, 0)


def test_critical_path_goes_by_measured_time_not_by_count():
    graph = TaskGraph(
        [
            node("s", status="done", duration=1.0),
            node("slow", "s", duration=10.0, status="done"),
            node("q1", "s", duration=2.0),
            node("q2", "q1", duration=2.0),
            node("t", "slow", "q2", duration=1.0),
        ]
    )

    assert graph.critical_path() == CriticalPath(("s", "slow", "t"), 12.0, 3)
    assert graph.critical_path(remaining=True) == CriticalPath(("q1", "q2", "t"), 5.0, 3)


def test_unmeasured_task_counts_as_its_kind_then_as_all_then_as_one_second():
    graph = TaskGraph(
        [
            node("a", kind="fast", duration=1.0),
            node("b", kind="fast", duration=3.0),
            node("c", kind="slow", duration=11.0),
            node("d", kind="fast"),
            node("e", kind="new"),
        ]
    )

    assert [graph.weight(task_id) for task_id in "abcde"] == [1.0, 3.0, 11.0, 2.0, 5.0]
    assert TaskGraph([node("a")]).weight("a") == 1.0


def test_remaining_path_leaves_out_what_can_never_run():
    graph = TaskGraph(
        [
            node("failed", status="failed"),
            node("dead", "failed", duration=100.0),
            node("alive", duration=1.0),
        ]
    )

    assert graph.critical_path(remaining=True).ids == ("alive",)
    assert graph.slack(remaining=True) == {"alive": 0.0}


def test_tasks_of_no_duration_still_belong_to_the_path():
    graph = TaskGraph([node("a", duration=0.0), node("b", "a", duration=0.0)])

    assert graph.critical_path() == CriticalPath(("a", "b"), 0.0, 2)


def test_empty_graph_has_answers():
    graph = TaskGraph([])

    assert graph.critical_path() == CriticalPath((), 0.0, 0)
    assert (graph.slack(), graph.unblocks(), graph.ready()) == ({}, (), ())
    assert graph.find_cycle() is None


def test_slack_is_how_late_a_task_may_be():
    graph = TaskGraph(
        [
            node("s", duration=1.0),
            node("slow", "s", duration=10.0),
            node("quick", "s", duration=4.0),
            node("t", "slow", "quick", duration=1.0),
            node("alone", duration=2.0),
        ]
    )

    assert graph.slack() == {"s": 0.0, "slow": 0.0, "quick": 6.0, "t": 0.0, "alone": 10.0}


# What unblocks most


def test_unblocks_counts_each_task_behind_once():
    graph = TaskGraph([node("d", "b", "c"), node("b", "a"), node("c", "a"), node("a")])

    assert graph.unblocks() == (
        Unblocks("d", 0),
        Unblocks("b", 1),
        Unblocks("c", 1),
        Unblocks("a", 3),
    )


def test_unblocks_most_ranks_only_what_can_move_now():
    graph = TaskGraph(
        [
            node("lonely"),
            node("small", status="scheduled"),
            node("small2", "small", status="blocked"),
            node("big", status="in_progress"),
            node("mid", "big", status="blocked"),
            node("end1", "mid", status="blocked"),
            node("end2", "mid", status="blocked"),
            node("parent", status="blocked"),
            node("after_parent", "parent", status="blocked"),
            node("finished", status="done"),
            node("after_finished", "finished"),
        ]
    )

    assert graph.unblocks_most() == (Unblocks("big", 3), Unblocks("small", 1))
    assert graph.unblocks_most(1) == (Unblocks("big", 3),)


def test_over_its_bound_the_count_is_a_lower_bound_and_says_so(monkeypatch):
    monkeypatch.setattr(graph_module, "UNBLOCKS_TASKS_MAX", 3)
    graph = TaskGraph([node("a"), node("b", "a"), node("c", "a"), node("d", "b", "c")])

    assert graph.unblocks_most() == (Unblocks("a", 2, exact=False),)


# Out


def test_dot_shows_state_and_critical_path():
    graph = TaskGraph(
        [
            node("a", status="done", title="First"),
            node("b", "a", status="in_progress", duration=9.0),
            node("c", "a"),
            node("d", "b", "c", "ghost", status="blocked"),
            node("e", status="failed"),
            node("f", "e", status="blocked"),
        ]
    )

    lines = graph.to_dot().splitlines()

    assert lines[:2] == ['digraph "tasks" {', "  rankdir=LR;"]
    assert lines[-1] == "}"
    bold = ', style="filled,bold", penwidth=2.5'
    for line in (
        f'  "a" [label="a\\nFirst", fillcolor=green{bold}];',
        f'  "b" [label="b", fillcolor=yellow{bold}];',
        '  "c" [label="c", fillcolor=lightgreen];',
        f'  "d" [label="d", fillcolor=white{bold}];',
        '  "e" [label="e", fillcolor=red];',
        '  "f" [label="f", fillcolor=lightgrey];',
        '  "ghost" [style=dashed, color=grey];',
        '  "a" -> "b" [style=bold, penwidth=2.5];',
        '  "a" -> "c";',
        '  "b" -> "d" [style=bold, penwidth=2.5];',
        '  "ghost" -> "d";',
    ):
        assert line in lines


def test_dot_escapes_what_would_break_out_of_a_string():
    nasty = 'a"]; evil [x="\\'
    graph = TaskGraph([node(nasty, title='say "hi" & <b>\nbye\\N \x00\ud800')])

    dot = graph.to_dot(name='x"')

    assert 'digraph "x\\"" {' in dot
    assert '  "a\\"]; evil [x=\\"\\\\" [label="a\\"]; evil [x=\\"\\\\\\n' in dot
    assert 'say \\"hi\\" &amp; <b> bye\\\\N   ", fillcolor' in dot
    assert dot.count("\n") == 5
    dot.encode()


def test_dot_keeps_ids_apart_that_differ_in_a_control_character():
    dot = TaskGraph([node("a\n"), node("a\t"), node("a\\x0a")]).to_dot()

    assert [line.split(" [")[0] for line in dot.splitlines()[3:-1]] == [
        '  "a\\x0a"',
        '  "a\\x09"',
        '  "a\\\\x0a"',
    ]


def test_data_form_is_plain_json():
    graph = TaskGraph([node("b", "a", "ghost", kind="k"), node("a", duration=2.0, title="A")])

    assert json.loads(json.dumps(graph.to_data())) == {
        "nodes": [
            {
                "id": "b",
                "title": "",
                "kind": "k",
                "status": "pending",
                "depends_on": ["a", "ghost"],
                "duration": None,
                "weight": 2.0,
            },
            {
                "id": "a",
                "title": "A",
                "kind": "",
                "status": "pending",
                "depends_on": [],
                "duration": 2.0,
                "weight": 2.0,
            },
        ],
        "edges": [
            {"from": "a", "to": "b", "known": True},
            {"from": "ghost", "to": "b", "known": False},
        ],
        "order": ["a", "b"],
        "cycle": None,
        "ready": ["a"],
        "critical_path": {"ids": ["a", "b"], "seconds": 4.0, "measured": 1},
        "remaining_path": {"ids": ["a", "b"], "seconds": 4.0, "measured": 1},
        "unblocks": [{"id": "a", "tasks": 1, "exact": True}],
        "unresolved": {"b": ["ghost"]},
        "unreachable": {},
    }


# Size


def test_chain_of_10_000_is_answered_whole():
    graph = TaskGraph(chain(10_000))

    assert graph.topological_order() == tuple(f"t{i}" for i in range(10_000))
    assert len(graph.critical_path().ids) == 10_000
    assert graph.unblocks_most() == (Unblocks("t0", 9_999),)
    assert len(graph.transitive_dependents("t0")) == 9_999
    assert set(graph.slack().values()) == {0.0}
    assert [item.id for item in sort_batch(chain(10_000))][:2] == ["t0", "t1"]


def test_failure_reaches_the_end_of_a_chain_of_10_000():
    graph = TaskGraph([*chain(10_000)[:-1], node("t0", status="failed")])

    assert len(graph.unreachable()) == 9_999


def test_fans_of_10_000_are_answered_whole():
    leaves = [node(f"leaf{i}", "root") for i in range(10_000)]
    end = node("end", *(leaf.id for leaf in leaves))
    graph = TaskGraph([node("root"), *leaves, end])

    assert graph.unblocks_most() == (Unblocks("root", 10_001),)
    assert graph.critical_path().ids == ("root", "leaf0", "end")
    assert len(graph.dependents("root")) == 10_000


def test_layers_of_10_000_tasks_have_an_exact_answer():
    layers = [[f"l{level}_{i}" for i in range(50)] for level in range(200)]
    nodes = [
        node(task_id, *(layers[level - 1] if level else ()))
        for level, layer in enumerate(layers)
        for task_id in layer
    ]

    # Half a million dependencies: a search path by path would never end.
    graph = TaskGraph(nodes)

    assert len(graph.critical_path().ids) == 200
    assert graph.unblocks_most(1) == (Unblocks("l0_0", 9_950),)


# Against brute force on small graphs


STATUSES = ("pending", "blocked", "in_progress", "done", "failed", "cancelled", "scheduled")


@st.composite
def graphs(draw, *, acyclic: bool = True) -> list[GraphNode]:
    size = draw(st.integers(1, 7))
    pairs = [
        (before, after)
        for before in range(size)
        for after in range(size)
        if before < after or not acyclic
    ]
    edges = draw(st.sets(st.sampled_from(pairs), max_size=16)) if pairs else set()
    nodes = [
        GraphNode(
            id=f"t{index}",
            status=draw(st.sampled_from(STATUSES)),
            depends_on=tuple(f"t{before}" for before, after in sorted(edges) if after == index),
            duration=draw(st.none() | st.integers(0, 8).map(float)),
            kind=draw(st.sampled_from("xy")),
            on_dependency_failure=draw(st.sampled_from(("fail", "skip", "run"))),
        )
        for index in range(size)
    ]
    return draw(st.permutations(nodes))


def all_paths(nodes: list[GraphNode], chosen: set[str]) -> list[tuple[str, ...]]:
    by_id = {item.id: item for item in nodes}
    found: list[tuple[str, ...]] = []

    def extend(path: tuple[str, ...]) -> None:
        found.append(path)
        for need in by_id[path[0]].depends_on:
            if need in chosen:
                extend((need, *path))

    for task_id in chosen:
        extend((task_id,))
    return found


def runnable(nodes: list[GraphNode]) -> set[str]:
    """Unfinished tasks that no failure keeps from running, by repeating the rule."""
    by_id = {item.id: item for item in nodes}
    lost = {item.id for item in nodes if item.status in ("failed", "cancelled")}
    while True:
        more = {
            item.id
            for item in nodes
            if item.status in ("pending", "blocked", "scheduled")
            and item.on_dependency_failure != "run"
            and lost.intersection(item.depends_on)
        } - lost
        if not more:
            break
        lost |= more
    return {task_id for task_id in by_id if task_id not in lost and by_id[task_id].status != "done"}


@given(graphs(), st.booleans())
def test_critical_path_and_slack_agree_with_every_path_tried(nodes, remaining):
    graph = TaskGraph(nodes)
    chosen = runnable(nodes) if remaining else {item.id for item in nodes}
    paths = all_paths(nodes, chosen)
    seconds = {path: sum(map(graph.weight, path)) for path in paths}

    path = graph.critical_path(remaining=remaining)
    slack = graph.slack(remaining=remaining)

    longest = max(seconds.values(), default=0.0)
    assert path.seconds == pytest.approx(longest)
    if paths:
        assert path.ids in paths
        assert path.seconds == pytest.approx(seconds[path.ids])
    assert slack.keys() == chosen
    for task_id in chosen:
        through = max(seconds[path] for path in paths if task_id in path)
        assert slack[task_id] == pytest.approx(longest - through, abs=1e-9)


@given(graphs())
def test_unblocks_agrees_with_the_transitive_closure(nodes):
    chosen = runnable(nodes)
    behind: dict[str, set[str]] = {task_id: set() for task_id in chosen}
    for path in all_paths(nodes, chosen):
        behind[path[0]].update(path[1:])

    counted = TaskGraph(nodes).unblocks()

    assert {item.id: item.tasks for item in counted} == {
        task_id: len(tasks) for task_id, tasks in behind.items()
    }


@given(graphs())
def test_lower_bound_of_what_is_unblocked_is_never_too_high(nodes):
    exact = {item.id: item.tasks for item in TaskGraph(nodes).unblocks()}

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(graph_module, "UNBLOCKS_TASKS_MAX", -1)
        bounds = TaskGraph(nodes).unblocks()

    assert not any(item.exact for item in bounds)
    assert all(item.tasks <= exact[item.id] for item in bounds)
    assert all((item.tasks > 0) == (exact[item.id] > 0) for item in bounds)


@given(graphs())
def test_transitive_dependents_agree_with_every_path_tried(nodes):
    graph = TaskGraph(nodes)
    paths = all_paths(nodes, {item.id for item in nodes})

    for item in nodes:
        behind = {path[-1] for path in paths if path[0] == item.id} - {item.id}
        found = graph.transitive_dependents(item.id)
        assert set(found) == behind
        assert len(found) == len(behind)


@given(graphs(acyclic=False))
def test_cycle_is_found_exactly_where_no_order_exists(nodes):
    by_id = {item.id: item for item in nodes}
    orders = (
        order
        for order in itertools.permutations(by_id)
        if all(
            order.index(need) < order.index(item.id) for item in nodes for need in item.depends_on
        )
    )
    has_order = next(orders, None) is not None

    cycle = TaskGraph(nodes).find_cycle()

    if has_order:
        assert cycle is None
        placed: set[str] = set()
        for item in sort_batch(nodes):
            assert placed.issuperset(item.depends_on)
            placed.add(item.id)
        assert placed == set(by_id)
    else:
        assert cycle is not None
        assert len(set(cycle)) == len(cycle)
        for task_id, need in zip(cycle, [*cycle[1:], cycle[0]], strict=True):
            assert need in by_id[task_id].depends_on
        with pytest.raises(DependencyCycle):
            sort_batch(nodes)


@given(st.lists(st.tuples(st.text(max_size=6), st.text(max_size=100)), max_size=4))
def test_dot_strings_always_close(texts):
    nodes = {f"n{task_id}": title for task_id, title in texts}
    dot = TaskGraph([node(task_id, title=title) for task_id, title in nodes.items()]).to_dot()

    lines = dot.splitlines()

    assert len(lines) == 4 + len(nodes)
    for line in lines:
        unescaped = line.replace("\\\\", "").replace('\\"', "")
        assert unescaped.count('"') % 2 == 0
