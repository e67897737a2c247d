"""Each word that a function can answer, really answered; a refusal leaves no trace."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Any

import pytest

from callboard.domain.retry import RetryPolicy
from callboard.domain.task import Requirements
from callboard.engine.functions import Functions
from callboard.engine.library import library
from tests.functions.lock_support import Table, claim
from tests.functions.support import BOARD, MIRA, NOOR, STALE, Reply, Stage, spec, values_of

pytestmark = pytest.mark.every_engine

Act = Callable[[], Awaitable[Any]]
Arrange = Callable[[Stage], Awaitable[Act]]

HEADERS = {
    name: header for name, header in library().headers.items() if not name.startswith("agent_")
}
ACT_BESIDE = {"run_reopen"}
"""What they refuse of an item leaves what else they do as it is."""

ANYWHERE = ("no_namespace", "newer_format")
CASES: dict[tuple[str, str], Arrange] = {}

# Answers that did something, or may have written something of their own.
NO_REFUSALS = frozenset(
    "ok due not_due cancelled requested retry_scheduled failed cancel blocked replayed empty "
    "agent_full rejected dead expired deadlock_victim waiting taken kept".split()
)


def case(function: str, *words: str) -> Callable[[Arrange], Arrange]:
    """The test arranges, and gives back what must answer the word."""

    def keep(arrange: Arrange) -> Arrange:
        for word in words:
            assert (function, word) not in CASES, (function, word)
            CASES[function, word] = arrange
        return arrange

    return keep


def declared() -> set[tuple[str, str]]:
    """All words of all headers: the items' where a function has them besides its own."""
    return {
        (name, word)
        for name, header in HEADERS.items()
        for word in (*header.statuses, *(f"item {item}" for item in header.items))
        if word not in ANYWHERE
    }


def test_every_word_of_every_header_has_a_case() -> None:
    assert set(CASES) == declared()


@pytest.mark.parametrize(("function", "word"), sorted(declared()))
async def test_a_function_answers_the_word(stage: Stage, function: str, word: str) -> None:
    act = await CASES[function, word](stage)
    before = await stage.dump()

    answer = await act()

    assert answer == word.removeprefix("item ")
    is_beside = function in ACT_BESIDE and word.startswith("item ")
    if answer not in NO_REFUSALS and not is_beside:
        assert await stage.dump() == before


def test_all_but_those_that_make_and_remove_a_namespace_need_one() -> None:
    without = {name for name, header in HEADERS.items() if "no_namespace" not in header.statuses}

    assert without == {"namespace_open", "namespace_remove"}


@pytest.mark.parametrize(
    ("function", "word"),
    [
        (name, word)
        for name in sorted(HEADERS)
        for word in ANYWHERE
        if word in HEADERS[name].statuses
    ],
)
async def test_without_a_namespace_of_this_format_nothing_is_touched(
    stage: Stage, function: str, word: str
) -> None:
    if word == "no_namespace":
        await stage.raw("DEL", "callboard:format")
    else:
        await stage.raw("HSET", "callboard:format", "major", 2)
    header = HEADERS[function]
    arguments = [1 if kind == "int" else "x" for _, kind in header.arguments if kind != "rows"]
    before = await stage.dump()

    reply = await stage.call(function, *arguments)

    assert reply.status == word
    assert await stage.dump() == before


# Boards and the namespace


@case("board_configure", "ok")
async def _(s: Stage) -> Act:
    return lambda: s.configure(limit=5)


@case("board_configure", "step_fixed")
async def _(s: Stage) -> Act:
    await s.submit("t")
    return lambda: s.configure(step=1)


@case("board_read", "ok")
async def _(s: Stage) -> Act:
    await s.submit("t")
    return lambda: status_of(s.call("board_read", BOARD))


@case("board_read", "board_not_found")
async def _(s: Stage) -> Act:
    return lambda: status_of(s.call("board_read", BOARD))


@case("board_remove", "ok")
async def _(s: Stage) -> Act:
    await s.complete("t", await claimed(s))
    return lambda: status_of(s.call("board_remove", BOARD, "ann", 10))


@case("board_remove", "unfinished")
async def _(s: Stage) -> Act:
    await s.submit("t")
    return lambda: status_of(s.call("board_remove", BOARD, "ann", 10))


@case("board_remove", "board_not_found")
async def _(s: Stage) -> Act:
    return lambda: status_of(s.call("board_remove", BOARD, "ann", 10))


@case("board_sweep", "ok")
async def _(s: Stage) -> Act:
    return lambda: status_of(s.call("board_sweep", BOARD, 10))


@case("namespace_configure", "ok")
async def _(s: Stage) -> Act:
    return lambda: status_of(s.call("namespace_configure", "paused", "1"))


@case("namespace_open", "ok")
async def _(s: Stage) -> Act:
    return lambda: status_of(s.call("namespace_open", "replication", "other"))


@case("namespace_remove", "ok")
async def _(s: Stage) -> Act:
    await s.submit("t")

    async def act() -> str:
        cursor = "0"
        for _ in range(10_000):
            reply = await s.call("namespace_remove", cursor, 1_000)
            cursor = reply.facts[0]
            if cursor == "0":
                break
        assert await s.key_names() == set()
        return reply.status

    return act


@case("namespace_remove", "default_namespace")
async def _(s: Stage) -> Act:
    functions = Functions(s.connection, "callboard:format")

    async def act() -> str:
        return (await functions.call("namespace_remove", "0", 10))[0].decode()

    return act


@case("namespace_libraries", "ok")
async def _(s: Stage) -> Act:
    return lambda: status_of(s.call("namespace_libraries", "callboard_own", 1_000, "callboard_own"))


@case("namespace_due", "ok")
async def _(s: Stage) -> Act:
    return lambda: status_of(s.call("namespace_due"))


@case("namespace_tick", "due")
async def _(s: Stage) -> Act:
    return lambda: status_of(s.call("namespace_tick", 1_000, 0))


@case("namespace_tick", "not_due")
async def _(s: Stage) -> Act:
    await s.call("namespace_tick", 1_000, 0)
    return lambda: status_of(s.call("namespace_tick", 1_000, 0))


async def status_of(call: Awaitable[Any]) -> str:
    return (await call).status


# Runs and teams


async def create_run(s: Stage, run: str = "r", request: str = "go") -> str:
    numbers = (60_000, 86_400_000, "", "", "runs")
    reply = await s.call(
        "run_create", run, "ann", "t", 1, request, "{}", "{}", "", "", *numbers, *lead_of(run)
    )
    return reply.status


def lead_of(task: str, kind: str = "run.t") -> list[Any]:
    return values_of([spec(task, kind=kind)])


async def move_run(s: Stage, to: str = "failed", from_: str = "planning", fence: int = 0) -> str:
    return (await s.call("run_move", "r", "ann", f"{to}{fence}", 1, fence, from_, to)).status


async def reopen_run(s: Stage) -> str:
    reply = await s.call("run_reopen", "r", "ann", "op", 1, 60_000, "runs", 0, *lead_of("r.2"))
    return reply.status


async def wind_up_run(s: Stage, *ids: str) -> Reply:
    return await s.call("run_wind_up", "r", "ann", 1, "over", len(ids), *ids)


RUN: dict[str, Callable[[Stage], Awaitable[str]]] = {
    "run_move": move_run,
    "run_pause": lambda s: status_of(s.call("run_pause", "r", "ann", 1)),
    "run_reopen": reopen_run,
    "run_tell": lambda s: status_of(s.call("run_tell", "r", "ann", "x", "key", "1")),
    "run_remove": lambda s: status_of(s.call("run_remove", "r", "ann")),
    "run_wind_up": lambda s: status_of(wind_up_run(s)),
}


def run_case(function: str, word: str, *before: Callable[[Stage], Awaitable[str]]) -> None:
    async def arranged(s: Stage) -> Act:
        for step in before:
            assert await step(s) == "ok"
        return lambda: RUN[function](s)

    case(function, word)(arranged)


for _name in RUN:
    run_case(_name, "run_not_found")
run_case("run_move", "ok", create_run)
run_case("run_move", "illegal_state", create_run, lambda s: move_run(s, "execution"))
run_case("run_pause", "ok", create_run)
run_case("run_pause", "illegal_state", create_run, move_run)
run_case("run_reopen", "ok", create_run, move_run)
run_case("run_reopen", "illegal_state", create_run)
run_case("run_tell", "ok", create_run)
run_case("run_tell", "replayed", create_run, RUN["run_tell"])
run_case("run_remove", "ok", create_run, move_run)
run_case("run_remove", "illegal_state", create_run)


run_case("run_wind_up", "ok", create_run, move_run)
run_case("run_wind_up", "illegal_state", create_run)


@case("run_move", "lease_lost")
async def _(s: Stage) -> Act:
    await create_run(s)
    await move_run(s, "execution", "planning", 9)
    return lambda: move_run(s, "replanning", "execution", 8)


@case("run_move", "unfinished")
async def _(s: Stage) -> Act:
    await create_run(s)
    await s.submit("t", board="r")
    return lambda: move_run(s, "synthesis")


async def ended_with(s: Stage, state: str) -> None:
    """A run that has ended, and of its task `t` what is given."""
    await create_run(s)
    await s.agent(MIRA)
    if state != "task_not_found":
        await s.submit("t", board="r")
    if state in ("requested", "finished"):
        (claimed,) = (await s.claim(board="r")).tasks
        if state == "finished":
            await s.step(done=[("t", claimed.fence, "1")], board="r")
    await move_run(s)


def item_of(word: str) -> Arrange:
    async def arranged(s: Stage) -> Act:
        await ended_with(s, word)

        async def act() -> str:
            return (await wind_up_run(s, "t")).words[0]

        return act

    return arranged


for _word in ("cancelled", "requested", "finished", "task_not_found"):
    case("run_wind_up", f"item {_word}")(item_of(_word))


async def cancel_on_run(s: Stage, task_id: str) -> None:
    await s.call("task_cancel", "r", "ann", "no more", 1, task_id, "")


async def to_put_back(s: Stage, word: str) -> None:
    """A run that has ended, whose task `t` answers the word when it is put back."""
    await create_run(s)
    await s.agent(MIRA)
    if word in ("blocked", "dependency_failed"):
        await s.submit("x", spec("t", "x"), board="r")
        await cancel_on_run(s, "t" if word == "blocked" else "x")
    elif word == "unique_conflict":
        await s.submit(spec("t", unique="u"), board="r")
        await cancel_on_run(s, "t")
        await s.submit(spec("other", unique="u"), board="r")
    elif word != "task_not_found":
        await s.submit("t", board="r")
        if word == "ok":
            await cancel_on_run(s, "t")
    await move_run(s)


def put_back_of(word: str) -> Arrange:
    async def arranged(s: Stage) -> Act:
        await to_put_back(s, word)

        async def act() -> str:
            rows = (*lead_of("r.2"), "t")
            return (await s.call("run_reopen", "r", "ann", "o", 1, 9_000, "runs", 1, *rows)).words[
                0
            ]

        return act

    return arranged


for _word in HEADERS["run_reopen"].items:
    case("run_reopen", f"item {_word}")(put_back_of(_word))


@case("run_due", "ok")
async def _(s: Stage) -> Act:
    return lambda: status_of(s.call("run_due", 10))


@case("run_create", "ok")
async def _(s: Stage) -> Act:
    return lambda: create_run(s)


@case("run_create", "exists")
async def _(s: Stage) -> Act:
    await create_run(s)
    return lambda: create_run(s)


@case("run_create", "run_conflict")
async def _(s: Stage) -> Act:
    await create_run(s)
    return lambda: create_run(s, request="other")


@case("run_create", "board_full")
async def _(s: Stage) -> Act:
    await s.configure("runs", limit=1)
    await create_run(s, "other")
    return lambda: create_run(s)


@case("run_create", "too_many_lanes")
async def _(s: Stage) -> Act:
    await many_kinds_of_leads(s)
    return lambda: create_run(s)


async def many_kinds_of_leads(s: Stage) -> None:
    await s.submit_all((spec(f"t{i}", kind=f"k{i}") for i in range(4_000)), board="runs")


@case("run_reopen", "run_conflict")
async def _(s: Stage) -> Act:
    await create_run(s)
    await move_run(s)
    await s.submit("r.2", board="runs")
    return lambda: reopen_run(s)


@case("run_reopen", "board_full")
async def _(s: Stage) -> Act:
    await create_run(s)
    await move_run(s)
    await s.configure("runs", limit=1)
    return lambda: reopen_run(s)


@case("run_reopen", "too_many_lanes")
async def _(s: Stage) -> Act:
    await create_run(s)
    await move_run(s)
    await s.call("task_cancel", "runs", "ann", "no more", 1, "r", "")
    await many_kinds_of_leads(s)
    return lambda: reopen_run(s)


def save_team(s: Stage) -> Act:
    return lambda: status_of(s.call("team_save", "t", "ann", '"ann"', '""', "{}"))


@case("team_save", "ok")
async def _(s: Stage) -> Act:
    return save_team(s)


@case("team_save", "same")
async def _(s: Stage) -> Act:
    await save_team(s)()
    return save_team(s)


@case("team_remove", "ok")
async def _(s: Stage) -> Act:
    await save_team(s)()
    return lambda: status_of(s.call("team_remove", "t", "ann"))


@case("team_remove", "team_not_found")
async def _(s: Stage) -> Act:
    return lambda: status_of(s.call("team_remove", "t", "ann"))


# What only reads


@case("task_list", "ok")
async def _(s: Stage) -> Act:
    return lambda: status_of(s.call("task_list", BOARD, "", "", "0", 10))


@case("task_queues", "ok")
async def _(s: Stage) -> Act:
    return lambda: status_of(s.call("task_queues", BOARD, 10))


async def cleared(s: Stage, task_id: str = "t") -> str:
    reply = await s.call("task_clear", BOARD, "ann", "why", 0, 9, 1, task_id)
    return str(reply.words[0])


@case("task_clear", "ok")
async def _(s: Stage) -> Act:
    return lambda: status_of(s.call("task_clear", BOARD, "ann", "why", 0, 9, 1, "t"))


@case("task_clear", "item cancelled")
async def _(s: Stage) -> Act:
    await s.submit(spec("t", priority=9))
    return lambda: cleared(s)


@case("task_clear", "item not_waiting")
async def _(s: Stage) -> Act:
    await s.submit(spec("t", priority=10))
    return lambda: cleared(s)


@case("task_clear", "item task_not_found")
async def _(s: Stage) -> Act:
    return lambda: cleared(s)


@case("task_next", "ok")
async def _(s: Stage) -> Act:
    return lambda: status_of(s.call("task_next", BOARD, 10, 10))


@case("task_read", "ok")
async def _(s: Stage) -> Act:
    return lambda: status_of(s.call("task_read", BOARD, 1, 1, "t"))


@case("task_why", "ok")
async def _(s: Stage) -> Act:
    await s.submit("t")
    return lambda: status_of(s.call("task_why", BOARD, "t"))


@case("task_why", "task_not_found")
async def _(s: Stage) -> Act:
    return lambda: status_of(s.call("task_why", BOARD, "t"))


# Submitting


@case("task_submit", "ok")
async def _(s: Stage) -> Act:
    return lambda: status_of(s.submit("t"))


@case("task_submit", "id_conflict")
async def _(s: Stage) -> Act:
    await s.submit("t")
    return lambda: status_of(s.submit("new", spec("t", payload=1)))


@case("task_submit", "unique_conflict")
async def _(s: Stage) -> Act:
    await s.submit(spec("t", unique="u"))
    return lambda: status_of(s.submit("new", spec("t2", unique="u")))


@case("task_submit", "board_full")
async def _(s: Stage) -> Act:
    await s.configure(limit=2)
    await s.submit("t")
    return lambda: status_of(s.submit("t2", "t3"))


@case("task_submit", "board_closed")
async def _(s: Stage) -> Act:
    await s.submit("t")
    await s.configure(closed=1)
    return lambda: status_of(s.submit("t2"))


@case("task_submit", "too_many_lanes")
async def _(s: Stage) -> Act:
    await s.submit_all(spec(f"t{i}", kind=f"k{i}") for i in range(4_000))
    return lambda: status_of(s.submit(spec("t", kind="k0"), spec("new", kind="another")))


@case("task_submit", "dependency_cycle")
async def _(s: Stage) -> Act:
    await s.submit(spec("a", "b"))
    return lambda: status_of(s.submit("new", spec("b", "a")))


@case("task_submit", "graph_too_large")
async def _(s: Stage) -> Act:
    await s.submit(spec("waits", "late"))
    await s.submit_all(dense_graph())
    return lambda: status_of(s.submit("new", spec("late", *(f"y{i}" for i in range(150)))))


def dense_graph() -> list[Any]:
    """Two layers with 22,500 dependencies between them: over the bound of the cycle check."""
    below = [f"x{i}" for i in range(150)]
    return [*map(spec, below), *(spec(f"y{i}", *below) for i in range(150))]


# Claiming


def claims(s: Stage, **options: Any) -> Callable[[], Awaitable[str]]:
    async def act() -> str:
        return (await s.claim(**options)).status

    return act


@case("task_claim", "ok")
async def _(s: Stage) -> Act:
    await s.submit("t")
    return claims(s)


@case("task_claim", "empty")
async def _(s: Stage) -> Act:
    return claims(s)


@case("task_claim", "replayed")
async def _(s: Stage) -> Act:
    await s.submit("t")
    await s.claim(request="r")
    return claims(s, request="r")


@case("task_claim", "request_conflict")
async def _(s: Stage) -> Act:
    await s.submit("t", "t2")
    await s.claim(request="r")
    return claims(s, agent=NOOR, request="r")


@case("task_claim", "agent_full")
async def _(s: Stage) -> Act:
    await s.agent(MIRA, limit=1)
    await s.submit("t", "t2")
    await s.claim()
    return claims(s)


@case("task_claim", "agent_not_found")
async def _(s: Stage) -> Act:
    await s.submit("t")
    return claims(s, agent="nobody")


@case("task_claim", "instance_unknown")
async def _(s: Stage) -> Act:
    await s.submit("t")
    await s.call("agent_leave", MIRA, "")
    return claims(s)


@case("task_claim", "agent_draining")
async def _(s: Stage) -> Act:
    await s.submit("t")
    await s.agent(MIRA, status="draining")
    return claims(s)


@case("task_claim", "paused")
async def _(s: Stage) -> Act:
    await s.submit("t")
    await s.configure(paused=1)
    return claims(s)


def takes(s: Stage, agent: str = MIRA) -> Act:
    return lambda: status_of(s.take("t", agent))


async def accepts(s: Stage, instance: str = "i1") -> str:
    reply = await s.call("task_accept", BOARD, MIRA, instance, 30_000, 0, 0, 0, 1, "t")
    return reply.status


@case("task_accept", "ok")
async def _(s: Stage) -> Act:
    await s.submit(spec("t", suggested_worker=MIRA))
    return lambda: accepts(s)


@case("task_accept", "empty")
async def _(s: Stage) -> Act:
    await s.submit(spec("t", suggested_worker=NOOR))
    return lambda: accepts(s)


@case("task_accept", "paused")
async def _(s: Stage) -> Act:
    await s.submit(spec("t", suggested_worker=MIRA))
    await s.configure(paused=1)
    return lambda: accepts(s)


@case("task_take", "ok")
async def _(s: Stage) -> Act:
    await s.submit("t")
    return takes(s)


@case("task_take", "replayed")
async def _(s: Stage) -> Act:
    await s.submit("t")
    await s.take("t", request="r")
    return lambda: status_of(s.take("t", request="r"))


@case("task_take", "request_conflict")
async def _(s: Stage) -> Act:
    await s.submit("t")
    await s.take("t", request="r")
    return lambda: status_of(s.take("t", NOOR, request="r"))


@case("task_take", "task_not_found")
async def _(s: Stage) -> Act:
    return takes(s)


@case("task_take", "not_ready")
async def _(s: Stage) -> Act:
    await s.submit(spec("t", "unknown"))
    return takes(s)


@case("task_take", "held")
async def _(s: Stage) -> Act:
    await claimed(s)
    return takes(s, NOOR)


@case("task_take", "illegal_state")
async def _(s: Stage) -> Act:
    await s.submit("t")
    await s.cancel("t")
    return takes(s)


@case("task_take", "does_not_fit")
async def _(s: Stage) -> Act:
    await s.agent(MIRA, kinds=["other"])
    await s.submit("t")
    return takes(s)


@case("task_take", "agent_full")
async def _(s: Stage) -> Act:
    await s.agent(MIRA, limit=1)
    await s.submit("t", "t2")
    await s.held("t2")
    return takes(s)


@case("task_take", "at_limit")
async def _(s: Stage) -> Act:
    await s.configure(concurrency=1)
    await s.submit("t", "t2")
    await s.held("t2", NOOR)
    return takes(s)


@case("task_take", "agent_not_found")
async def _(s: Stage) -> Act:
    await s.submit("t")
    return takes(s, "nobody")


@case("task_take", "instance_unknown")
async def _(s: Stage) -> Act:
    await s.submit("t")
    await s.call("agent_leave", MIRA, "")
    return takes(s)


@case("task_take", "agent_draining")
async def _(s: Stage) -> Act:
    await s.submit("t")
    await s.agent(MIRA, status="maintenance")
    return takes(s)


@case("task_take", "paused")
async def _(s: Stage) -> Act:
    await s.submit("t")
    await s.configure(paused_kinds="work")
    return takes(s)


# What the holder does: these words mean the same everywhere

HOLDER: dict[str, Callable[[Stage, str, int], Awaitable[Any]]] = {
    "task_ask": lambda s, t, f: s.ask(t, f),
    "task_complete": lambda s, t, f: s.complete(t, f),
    "task_complete_and_claim": lambda s, t, f: stepped(s, t, f),
    "task_deliver": lambda s, t, f: s.deliver(t, f),
    "task_undeliver": lambda s, t, f: s.undeliver(t, f),
    "task_fail": lambda s, t, f: s.fail(t, f),
    "task_handoff": lambda s, t, f: s.handoff(t, f),
    "task_park": lambda s, t, f: s.park(t, f),
    "task_progress": lambda s, t, f: s.progress(t, f),
    "task_release": lambda s, t, f: s.release(t, f),
    "task_renew": lambda s, t, f: s.renew(t, f),
    "task_split": lambda s, t, f: status_of(s.split(t, f, spec("child"))),
    "task_start": lambda s, t, f: s.start(t, f),
    "task_tell": lambda s, t, f: s.tell(t, f),
    "task_cancel": lambda s, t, f: s.cancel(t, f),
}
ANSWERS_PER_ITEM = frozenset(name for name, header in HEADERS.items() if header.items)


async def stepped(s: Stage, task: str, fence: int) -> str:
    return (await s.step(done=[(task, fence, "1")]))[0][0]


async def claimed(s: Stage, **fields: Any) -> int:
    await s.submit(spec("t", **fields))
    return await s.held("t")


def holder_case(function: str, word: str, arrange: Callable[[Stage], Awaitable[int]]) -> None:
    async def arranged(s: Stage) -> Act:
        fence = await arrange(s)
        return lambda: HOLDER[function](s, "t", fence)

    case(function, f"item {word}" if function in ANSWERS_PER_ITEM else word)(arranged)


async def unknown(s: Stage) -> int:
    return 1


async def lost(s: Stage) -> int:
    fence = await claimed(s)
    await s.release("t", fence)
    await s.held("t", NOOR)
    return fence


async def asked_to_stop(s: Stage) -> int:
    fence = await claimed(s)
    assert await s.cancel("t") == "requested"
    return fence


def repeated(function: str) -> Callable[[Stage], Awaitable[int]]:
    async def arrange(s: Stage) -> int:
        fence = await claimed(s)
        await HOLDER[function](s, "t", fence)
        return fence

    return arrange


for _function in HOLDER:
    holder_case(_function, "task_not_found", unknown)
    holder_case(_function, "lease_lost", lost)
for _function in (
    "task_ask task_complete task_complete_and_claim task_fail task_handoff task_release "
    "task_split task_undeliver".split()
):
    holder_case(_function, "replayed", repeated(_function))
for _function in (
    "task_ask task_complete task_complete_and_claim task_handoff task_park task_progress "
    "task_release task_renew task_split task_start task_tell task_deliver task_undeliver".split()
):
    holder_case(_function, "ok", claimed)
for _function, _word in [
    ("task_ask", "cancelled"),
    ("task_fail", "cancelled"),
    ("task_release", "cancelled"),
    ("task_undeliver", "cancelled"),
    ("task_cancel", "cancelled"),
    ("task_progress", "cancel"),
    ("task_tell", "cancel"),
    ("task_renew", "cancel"),
]:
    holder_case(_function, _word, asked_to_stop)
holder_case("task_fail", "retry_scheduled", claimed)


@case("task_undeliver", "item retry_scheduled")
async def _(s: Stage) -> Act:
    fence = await claimed(s)
    return lambda: s.undeliver("t", fence, most=1)


@case("task_undeliver", "item failed")
async def _(s: Stage) -> Act:
    fence = await claimed(s, retry=RetryPolicy(max_retries=0))
    return lambda: s.undeliver("t", fence, most=1)


@case("task_dispatch", "ok")
async def _(s: Stage) -> Act:
    await s.submit("t")
    return lambda: status_of(s.dispatch())


@case("task_dispatch", "board_not_found")
async def _(s: Stage) -> Act:
    return lambda: status_of(s.dispatch())


@case("task_dispatch", "paused")
async def _(s: Stage) -> Act:
    await s.submit("t")
    await s.configure(paused=1)
    return lambda: status_of(s.dispatch())


@case("task_distribution", "ok")
async def _(s: Stage) -> Act:
    return lambda: status_of(s.call("task_distribution", BOARD))


@case("task_fail", "item failed")
async def _(s: Stage) -> Act:
    fence = await claimed(s)
    return lambda: s.fail("t", fence, retryable=False)


@case("task_handoff", "agent_not_found")
async def _(s: Stage) -> Act:
    fence = await claimed(s)
    return lambda: s.handoff("t", fence, "nobody")


@case("task_handoff", "agent_draining")
async def _(s: Stage) -> Act:
    fence = await claimed(s)
    await s.agent(NOOR, status="draining")
    return lambda: s.handoff("t", fence)


@case("task_handoff", "does_not_fit")
async def _(s: Stage) -> Act:
    fence = await claimed(s)
    await s.agent(NOOR, kinds=["other"])
    return lambda: s.handoff("t", fence)


@case("task_handoff", "cancel_requested")
async def _(s: Stage) -> Act:
    fence = await claimed(s)
    await s.cancel("t")
    return lambda: s.handoff("t", fence)


def splits(*children: Any) -> Arrange:
    async def arrange(s: Stage) -> Act:
        fence = await claimed(s)
        return lambda: status_of(s.split("t", fence, spec("new"), *children))

    return arrange


case("task_split", "dependency_cycle")(splits(spec("child", "t")))


@case("task_split", "id_conflict")
async def _(s: Stage) -> Act:
    await s.submit(spec("child", payload=1))
    return await splits(spec("child"))(s)


@case("task_split", "unique_conflict")
async def _(s: Stage) -> Act:
    await s.submit(spec("other", unique="u"))
    return await splits(spec("child", unique="u"))(s)


@case("task_split", "board_full")
async def _(s: Stage) -> Act:
    await s.configure(limit=2)
    return await splits(spec("child"))(s)


@case("task_split", "board_closed")
async def _(s: Stage) -> Act:
    act = await splits(spec("child"))(s)
    await s.configure(closed=1)
    return act


@case("task_split", "too_many_lanes")
async def _(s: Stage) -> Act:
    act = await splits(spec("child", kind="another"))(s)
    await s.submit_all(spec(f"t{i}", kind=f"k{i}") for i in range(3_999))
    return act


@case("task_split", "graph_too_large")
async def _(s: Stage) -> Act:
    await s.submit_all(dense_graph())
    act = await splits(spec("child", *(f"y{i}" for i in range(150))))(s)
    await s.submit(spec("waits", "t"))
    return act


@case("task_split", "cancel_requested")
async def _(s: Stage) -> Act:
    act = await splits(spec("child"))(s)
    await s.cancel("t")
    return act


# What anyone does


@case("task_answer", "ok")
async def _(s: Stage) -> Act:
    await s.ask("t", await claimed(s))
    return lambda: s.answer("t")


@case("task_answer", "illegal_state")
async def _(s: Stage) -> Act:
    await claimed(s)
    return lambda: s.answer("t")


@case("task_answer", "task_not_found")
async def _(s: Stage) -> Act:
    return lambda: s.answer("t")


@case("task_cancel", "item requested")
async def _(s: Stage) -> Act:
    await claimed(s)
    return lambda: s.cancel("t")


@case("task_cancel", "item finished")
async def _(s: Stage) -> Act:
    await s.complete("t", await claimed(s))
    return lambda: s.cancel("t")


@case("task_note", "ok")
async def _(s: Stage) -> Act:
    await s.submit("t")
    return lambda: s.note("t")


@case("task_note", "replayed")
async def _(s: Stage) -> Act:
    await s.submit("t")
    await s.note("t", "op")
    return lambda: s.note("t", "op")


@case("task_note", "task_not_found")
async def _(s: Stage) -> Act:
    return lambda: s.note("t")


@case("task_note", "too_many_notes")
async def _(s: Stage) -> Act:
    await s.submit("t")
    await s.raw("RPUSH", "tasks:b:notes:t", *range(1_000))
    return lambda: s.note("t")


async def first(words: Awaitable[list[str]]) -> str:
    return (await words)[0]


@case("task_purge", "item ok")
async def _(s: Stage) -> Act:
    await s.complete("t", await claimed(s))
    return lambda: first(s.purge("t"))


@case("task_purge", "item illegal_state")
async def _(s: Stage) -> Act:
    await claimed(s)
    return lambda: first(s.purge("t"))


@case("task_purge", "item task_not_found")
async def _(s: Stage) -> Act:
    return lambda: first(s.purge("t"))


@case("task_reprioritise", "item ok")
async def _(s: Stage) -> Act:
    await s.submit("t")
    return lambda: s.reprioritise("t", 3)


@case("task_reprioritise", "item illegal_state")
async def _(s: Stage) -> Act:
    await s.complete("t", await claimed(s))
    return lambda: s.reprioritise("t", 3)


@case("task_reprioritise", "item task_not_found")
async def _(s: Stage) -> Act:
    return lambda: s.reprioritise("t", 3)


@case("task_retry", "item ok")
async def _(s: Stage) -> Act:
    await s.submit("t")
    await s.cancel("t")
    return lambda: first(s.retry("t"))


@case("task_retry", "item blocked")
async def _(s: Stage) -> Act:
    await s.submit(spec("t", "unknown"))
    await s.cancel("t")
    return lambda: first(s.retry("t"))


@case("task_retry", "item illegal_state")
async def _(s: Stage) -> Act:
    await s.submit("t")
    return lambda: first(s.retry("t"))


@case("task_retry", "item task_not_found")
async def _(s: Stage) -> Act:
    return lambda: first(s.retry("t"))


@case("task_retry", "item unique_conflict")
async def _(s: Stage) -> Act:
    await s.submit(spec("t", unique="u"))
    await s.cancel("t")
    await s.submit(spec("t2", unique="u"))
    return lambda: first(s.retry("t"))


@case("task_retry", "item dependency_failed")
async def _(s: Stage) -> Act:
    await s.submit("root", spec("t", "root"))
    await s.cancel("root")
    return lambda: first(s.retry("t"))


# Breakers

BREAKER = "5:0:60000:20:60000:2:3:30000"


def asks_breaker(s: Stage, function: str, *arguments: Any) -> Act:
    return lambda: status_of(s.call(function, *arguments))


async def has_breaker(s: Stage, state: str = "closed", component: str = "api") -> None:
    gates = int(component != "api")
    await s.call("breaker_configure", component, "ann", BREAKER, gates)
    await s.call("breaker_set", component, "ann", state, "why", '"why"')


async def probes(s: Stage) -> int:
    await has_breaker(s, "half-open")
    return int((await s.call("breaker_admit", "api", "ann", 0, "")).raw[1])


@case("breaker_configure", "ok")
async def _(s: Stage) -> Act:
    return asks_breaker(s, "breaker_configure", "api", "ann", BREAKER, 0)


@case("breaker_admit", "ok")
async def _(s: Stage) -> Act:
    await has_breaker(s)
    return asks_breaker(s, "breaker_admit", "api", "ann", 0, "")


@case("breaker_admit", "rejected")
async def _(s: Stage) -> Act:
    await has_breaker(s, "open")
    return asks_breaker(s, "breaker_admit", "api", "ann", 0, "")


@case("breaker_admit", "off")
async def _(s: Stage) -> Act:
    return asks_breaker(s, "breaker_admit", "api", "ann", 0, "")


@case("breaker_record", "ok")
async def _(s: Stage) -> Act:
    return asks_breaker(s, "breaker_record", "api", "ann", await probes(s), "success")


@case("breaker_record", "stale")
async def _(s: Stage) -> Act:
    await has_breaker(s)
    return asks_breaker(s, "breaker_record", "api", "ann", STALE, "success")


@case("breaker_record", "off")
async def _(s: Stage) -> Act:
    return asks_breaker(s, "breaker_record", "api", "ann", STALE, "success")


@case("breaker_renew", "ok")
async def _(s: Stage) -> Act:
    return asks_breaker(s, "breaker_renew", "api", await probes(s), 0)


@case("breaker_renew", "lease_lost")
async def _(s: Stage) -> Act:
    await has_breaker(s)
    return asks_breaker(s, "breaker_renew", "api", STALE, 0)


@case("breaker_renew", "off")
async def _(s: Stage) -> Act:
    return asks_breaker(s, "breaker_renew", "api", STALE, 0)


@case("breaker_set", "ok")
async def _(s: Stage) -> Act:
    return asks_breaker(s, "breaker_set", "api", "ann", "isolated", "why", '"why"')


@case("breaker_set", "breaker_not_found")
async def _(s: Stage) -> Act:
    return asks_breaker(s, "breaker_set", "api", "ann", "reset", "why", '"why"')


@case("breaker_remove", "ok")
async def _(s: Stage) -> Act:
    await has_breaker(s)
    return asks_breaker(s, "breaker_remove", "api", "ann")


@case("breaker_remove", "breaker_not_found")
async def _(s: Stage) -> Act:
    return asks_breaker(s, "breaker_remove", "api", "ann")


@case("breaker_read", "ok")
async def _(s: Stage) -> Act:
    await has_breaker(s)
    return asks_breaker(s, "breaker_read", "api")


@case("breaker_read", "breaker_not_found")
async def _(s: Stage) -> Act:
    return asks_breaker(s, "breaker_read", "api")


@case("breaker_list", "ok")
async def _(s: Stage) -> Act:
    return asks_breaker(s, "breaker_list", 0, 10)


@case("breaker_sweep", "ok")
async def _(s: Stage) -> Act:
    return asks_breaker(s, "breaker_sweep", 10)


@case("task_claim", "breaker_open")
async def _(s: Stage) -> Act:
    await s.submit("t")
    await has_breaker(s, "open", "agent:mira")
    return claims(s)


@case("task_take", "breaker_open")
async def _(s: Stage) -> Act:
    await s.submit("t")
    await has_breaker(s, "open", "kind:work")
    return takes(s)


# Errors

PRINT = "ab12"
REPORT = (f'{PRINT}|low|1|E||"m"', "m", "p", "t", MIRA, "api", "", 0)


async def records_error(s: Stage) -> Reply:
    return await s.call("error_record", "", "ann", 1, *REPORT)


@case("error_record", "ok")
async def _(s: Stage) -> Act:
    return lambda: status_of(records_error(s))


@case("error_list", "ok")
async def _(s: Stage) -> Act:
    await records_error(s)
    return lambda: status_of(s.call("error_list", "", "+", 0, 10))


@case("error_groups", "ok")
async def _(s: Stage) -> Act:
    await records_error(s)
    return lambda: status_of(s.call("error_groups", 0, 10, ""))


@case("error_read", "ok")
async def _(s: Stage) -> Act:
    await records_error(s)
    return lambda: status_of(s.call("error_read", PRINT))


@case("error_mark", "ok")
async def _(s: Stage) -> Act:
    await records_error(s)
    return lambda: status_of(s.call("error_mark", PRINT, "ignored", "ann", ""))


@case("error_mark", "same")
async def _(s: Stage) -> Act:
    await records_error(s)
    return lambda: status_of(s.call("error_mark", PRINT, "open", "ann", ""))


@case("error_read", "error_not_found")
async def _(s: Stage) -> Act:
    return lambda: status_of(s.call("error_read", PRINT))


@case("error_mark", "error_not_found")
async def _(s: Stage) -> Act:
    return lambda: status_of(s.call("error_mark", PRINT, "open", "ann", ""))


@case("error_clear", "ok")
async def _(s: Stage) -> Act:
    await records_error(s)
    return lambda: status_of(s.call("error_clear", "", "ann", 100))


# Choosing agents


async def word_of_assign(s: Stage) -> str:
    reply = await s.call("task_assign", BOARD, "ann", "round_robin", 5_000, 0, 1, "t")
    assert reply.status == "ok", reply
    return reply.raw[3][1].decode()


async def word_of_candidates(s: Stage) -> str:
    return (await s.call("task_candidates", BOARD, "t")).raw[2].decode()


RESERVE = (BOARD, "ann", "mine", "t", MIRA, 5_000, "was chosen", 1, "")


async def word_of_reserve(s: Stage) -> str:
    return (await s.call("task_reserve", *RESERVE)).raw[2].decode()


WORDS_OF = {
    "task_assign": word_of_assign,
    "task_candidates": word_of_candidates,
    "task_reserve": word_of_reserve,
}
STANDINGS: dict[str, Callable[[Stage], Awaitable[Any]]] = {
    "reserved": lambda s: s.submit(spec("t", suggested_worker=MIRA)),
    "not_ready": claimed,
    "kind_paused": lambda s: paused_kind(s),
    "at_limit": lambda s: at_limit(s),
    "no_agent": lambda s: s.submit(spec("t", requirements=Requirements(agent_type="other"))),
    "task_not_found": lambda s: s.submit("other"),
    "ok": lambda s: s.submit("t"),
    "changed": lambda s: unwilling(s),
}


async def paused_kind(s: Stage) -> None:
    await s.submit("t")
    await s.configure(pause_kind="work")


async def at_limit(s: Stage) -> None:
    await s.submit("other", "t")
    await s.held("other")
    await s.configure(concurrency=1)


async def unwilling(s: Stage) -> None:
    await s.submit("t")
    await s.call("agent_set_status", MIRA, "draining", "ann", "")


for _function, _answer in WORDS_OF.items():
    for _word in HEADERS[_function].items:

        async def _stands(
            s: Stage,
            word: str = _word,
            answer: Callable[[Stage], Awaitable[str]] = _answer,
        ) -> Act:
            await STANDINGS[word](s)
            return lambda: answer(s)

        case(_function, f"item {_word}")(_stands)

for _function, _arguments in {
    "task_assign": (BOARD, "ann", "", 5_000, 10, 0),
    "task_candidates": (BOARD, "t"),
    "task_reserve": RESERVE,
}.items():

    async def _chooses(
        s: Stage, function: str = _function, arguments: tuple[Any, ...] = _arguments
    ) -> Act:
        return lambda: status_of(s.call(function, *arguments))

    async def _is_paused(
        s: Stage, function: str = _function, arguments: tuple[Any, ...] = _arguments
    ) -> Act:
        await s.submit("t")
        await s.configure(paused=1)
        return lambda: status_of(s.call(function, *arguments))

    case(_function, "ok")(_chooses)
    case(_function, "paused")(_is_paused)


# Flow control and recurring tasks


def set_flow(s: Stage, key: str = "k") -> Act:
    return lambda: status_of(s.call("flow_set", key, "ann", "1", "", "", "", ""))


@case("flow_set", "ok")
async def _(s: Stage) -> Act:
    return set_flow(s)


@case("flow_set", "too_many_keys")
async def _(s: Stage) -> Act:
    await s.raw(
        "HSET", "flow:patterns", *(part for i in range(100) for part in (f"n{i}*", "1||||"))
    )
    return set_flow(s, "another*")


@case("flow_read", "ok")
async def _(s: Stage) -> Act:
    return lambda: status_of(s.call("flow_read", 1, "k"))


@case("flow_remove", "ok")
async def _(s: Stage) -> Act:
    await set_flow(s)()
    return lambda: status_of(s.call("flow_remove", "k", "ann"))


@case("flow_remove", "flow_key_not_found")
async def _(s: Stage) -> Act:
    return lambda: status_of(s.call("flow_remove", "k", "ann"))


@case("flow_sweep", "ok")
async def _(s: Stage) -> Act:
    return lambda: status_of(s.call("flow_sweep", 10))


# API keys and the audit log

API_KEY = "abcdefghijkl"


def make_key(s: Stage, record: str = '{"name":"ci"}') -> Act:
    return lambda: status_of(s.call("access_create", API_KEY, record, 0, "ann", "", "", "ci"))


@case("access_create", "ok")
async def _(s: Stage) -> Act:
    return make_key(s)


@case("access_create", "id_conflict")
async def _(s: Stage) -> Act:
    await make_key(s)()
    return make_key(s, '{"name":"another"}')


@case("access_create", "too_many_api_keys")
async def _(s: Stage) -> Act:
    await s.raw("HSET", "access:keys", *(part for i in range(1_000) for part in (f"k{i}", "0||")))
    return make_key(s)


def of_key(function: str, *arguments: Any) -> None:
    """What is done to a key, or refused where there is none."""

    @case(function, "ok")
    async def _(s: Stage) -> Act:
        await make_key(s)()
        return lambda: status_of(s.call(function, *arguments))

    @case(function, "api_key_not_found")
    async def _(s: Stage) -> Act:
        return lambda: status_of(s.call(function, *arguments))


of_key("access_read", API_KEY)
of_key("access_use", API_KEY)
of_key("access_revoke", API_KEY, "ann", "", "")
of_key("access_grant", "hash", API_KEY, 60_000)


@case("access_redeem", "ok")
async def _(s: Stage) -> Act:
    await make_key(s)()
    await s.call("access_grant", "hash", API_KEY, 60_000)
    return lambda: status_of(s.call("access_redeem", "hash"))


@case("access_redeem", "ticket_not_found")
async def _(s: Stage) -> Act:
    return lambda: status_of(s.call("access_redeem", "hash"))


@case("access_list", "ok")
async def _(s: Stage) -> Act:
    await make_key(s)()
    return lambda: status_of(s.call("access_list"))


@case("access_take", "ok")
async def _(s: Stage) -> Act:
    return lambda: status_of(s.call("access_take", "k", 1_000, 1))


@case("access_serve", "ok")
async def _(s: Stage) -> Act:
    return lambda: status_of(s.call("access_serve", 60_000, 10, 0, "team"))


@case("access_note", "ok")
async def _(s: Stage) -> Act:
    return lambda: status_of(s.call("access_note", "operation", "boards.pause"))


RECURRING_MS = 1_800_000_060_000


def save_recurring(s: Stage, definition: str = "{}", name: str = "n") -> Act:
    arguments = (name, "ann", definition, RECURRING_MS, 0)
    return lambda: status_of(s.call("recurring_save", *arguments))


def fire_recurring(s: Stage, *, expected: int = RECURRING_MS, kind: str = "work") -> Act:
    tick = ("1", expected, RECURRING_MS, RECURRING_MS + 60_000, 0, BOARD, 1)
    return lambda: status_of(
        s.call("recurring_fire", "n", "ann", *tick, *values_of([spec("n-1", kind=kind)]))
    )


@case("recurring_save", "ok")
async def _(s: Stage) -> Act:
    return save_recurring(s)


@case("recurring_save", "same")
async def _(s: Stage) -> Act:
    await save_recurring(s)()
    return save_recurring(s)


@case("recurring_save", "recurring_conflict")
async def _(s: Stage) -> Act:
    await save_recurring(s)()
    return save_recurring(s, '{"kind":"other"}')


@case("recurring_save", "too_many_recurring")
async def _(s: Stage) -> Act:
    for start in range(0, 10_000, 1_000):
        names = range(start, start + 1_000)
        await s.raw("ZADD", "recurring", *(part for i in names for part in (1, f"n{i}")))
    return save_recurring(s)


@case("recurring_set", "ok")
async def _(s: Stage) -> Act:
    await save_recurring(s)()
    return lambda: status_of(s.call("recurring_set", "n", "ann", 1, 0, ""))


@case("recurring_set", "moved")
async def _(s: Stage) -> Act:
    await save_recurring(s)()
    return lambda: status_of(s.call("recurring_set", "n", "ann", 0, 9, "7"))


@case("recurring_note", "ok")
async def _(s: Stage) -> Act:
    await save_recurring(s)()
    return lambda: status_of(s.call("recurring_note", "n", "board_full", "full"))


@case("recurring_note", "recurring_not_found")
async def _(s: Stage) -> Act:
    return lambda: status_of(s.call("recurring_note", "n", "board_full", "full"))


@case("recurring_note", "same")
async def _(s: Stage) -> Act:
    await save_recurring(s)()
    await s.call("recurring_note", "n", "board_full", "before")
    return lambda: status_of(s.call("recurring_note", "n", "board_full", "full"))


@case("recurring_remove", "ok")
async def _(s: Stage) -> Act:
    await save_recurring(s)()
    return lambda: status_of(s.call("recurring_remove", "n", "ann"))


@case("recurring_read", "ok")
async def _(s: Stage) -> Act:
    return lambda: status_of(s.call("recurring_read", 0, 10, 1, "n"))


@case("recurring_set", "recurring_not_found")
async def _(s: Stage) -> Act:
    return lambda: status_of(s.call("recurring_set", "n", "ann", 1, 0, ""))


@case("recurring_remove", "recurring_not_found")
async def _(s: Stage) -> Act:
    return lambda: status_of(s.call("recurring_remove", "n", "ann"))


@case("recurring_fire", "recurring_not_found")
async def _(s: Stage) -> Act:
    return fire_recurring(s)


@case("recurring_fire", "ok")
async def _(s: Stage) -> Act:
    await save_recurring(s)()
    return fire_recurring(s)


@case("recurring_fire", "moved")
async def _(s: Stage) -> Act:
    await save_recurring(s)()
    return fire_recurring(s, expected=RECURRING_MS - 1)


@case("recurring_fire", "board_full")
async def _(s: Stage) -> Act:
    await save_recurring(s)()
    await s.submit("t")
    await s.configure(limit=1)
    return fire_recurring(s)


@case("recurring_fire", "board_closed")
async def _(s: Stage) -> Act:
    await save_recurring(s)()
    await s.submit("t")
    await s.configure(closed=1)
    return fire_recurring(s)


@case("recurring_fire", "too_many_lanes")
async def _(s: Stage) -> Act:
    await save_recurring(s)()
    await s.submit_all(spec(f"t{i}", kind=f"k{i}") for i in range(4_000))
    return fire_recurring(s, kind="another")


# Messages


def post(s: Stage, id: str = "m", **fields: Any) -> Awaitable[Reply]:
    """Send a message to noor; fields are those of the line that the engine knows."""
    line = {
        "sender": MIRA,
        "type": "direct",
        "priority": 0,
        "ttl": "",
        "deliveries": 5,
        "protocol": "direct",
        "thread": "",
        "parent": "",
        "marks": "",
        "owner": "",
        **{name: value for name, value in fields.items() if name not in ("to", "body")},
    }
    text = "|".join(str(value) for value in line.values())
    body = fields.get("body", "{}")
    return s.call("message_send", MIRA, 1, id, fields.get("to", NOOR), text, body)


async def taken(s: Stage, lease_ms: int = 30_000, **fields: Any) -> str:
    """A message that noor has taken; answers its fence."""
    await post(s, **fields)
    reply = await s.call("message_take", NOOR, "i1", 1, lease_ms, "", "r")
    return reply.raw[4][1].decode().partition("|")[0]


def takes_again(s: Stage, taker: str) -> Act:
    return lambda: status_of(s.call("message_take", NOOR, taker, 1, 30_000, "", "r"))


@case("message_take", "replayed")
async def _(s: Stage) -> Act:
    await taken(s)
    return takes_again(s, "i1")


@case("message_take", "request_conflict")
async def _(s: Stage) -> Act:
    await taken(s)
    return takes_again(s, "i2")


async def dead(s: Stage) -> None:
    fence = await taken(s, deliveries=1)
    await s.call("message_release", NOOR, "", 1, "", 1, "m", fence, 0)


async def word_in(call: Awaitable[Reply], place: int = 2) -> str:
    """The word of the first item."""
    raw = (await call).raw
    assert raw[0] == b"ok", raw
    return raw[place].decode()


def acknowledge(s: Stage, fence: Any) -> Act:
    return lambda: word_in(s.call("message_acknowledge", NOOR, "", 1, "m", fence))


def give_back(s: Stage, fence: Any) -> Act:
    return lambda: word_in(s.call("message_release", NOOR, "", 1, "", 1, "m", fence, 0))


def keep_on(s: Stage, fence: Any) -> Act:
    return lambda: word_in(s.call("message_renew", NOOR, 30_000, 1, "m", fence))


def answer_request(s: Stage, fence: Any = 0, reply: str = "r", body: str = "{}") -> Act:
    return lambda: status_of(s.call("message_reply", NOOR, "m", fence, reply, body))


@case("message_send", "item ok")
async def _(s: Stage) -> Act:
    return lambda: word_in(post(s))


@case("message_send", "item replayed")
async def _(s: Stage) -> Act:
    await post(s)
    return lambda: word_in(post(s))


@case("message_send", "item id_conflict")
async def _(s: Stage) -> Act:
    await post(s)
    return lambda: word_in(post(s, body='{"other":1}'))


@case("message_send", "item inbox_full")
async def _(s: Stage) -> Act:
    await s.call("message_configure", NOOR, "ann", 1)
    await post(s)
    return lambda: word_in(post(s, "m2"))


@case("message_send", "item not_a_peer")
async def _(s: Stage) -> Act:
    return lambda: word_in(post(s, protocol="peer_to_peer"))


@case("message_send", "item not_in_hierarchy")
async def _(s: Stage) -> Act:
    return lambda: word_in(post(s, protocol="hierarchical"))


@case("message_send", "item too_many_recipients")
async def _(s: Stage) -> Act:
    names = [f"a{n}" for n in range(1_001)]
    await s.raw("ZADD", "agents:known", *(part for name in names for part in (0, name)))
    for name in names:
        await s.raw("HSET", f"agent:{name}", "profile", "ant;;;;")
    return lambda: word_in(post(s, to="?ant;;;"))


@case("message_send", "item deadlock_victim")
async def _(s: Stage) -> Act:
    # Noor, who does one task at a time, waits with it for the lock of who asks.
    await s.agent(NOOR, limit=1)
    await s.submit("t")
    claim = f"claim:{BOARD}:t:{await s.held('t', NOOR)}"
    for owner, wait_ms, priority in (("asker", 0, 0), (claim, 60_000, 50)):
        options = ("x", "", wait_ms, 60_000, priority, "bell", owner[:8], 1, "r")
        await s.call("lock_acquire", owner, "", *options)
    return lambda: word_in(post(s, owner="asker", ttl=60_000, marks="q"))


@case("message_acknowledge", "item ok")
async def _(s: Stage) -> Act:
    return acknowledge(s, await taken(s))


@case("message_acknowledge", "item replayed")
async def _(s: Stage) -> Act:
    act = acknowledge(s, await taken(s))
    await act()
    return act


@case("message_acknowledge", "item lease_lost")
async def _(s: Stage) -> Act:
    await taken(s)
    return acknowledge(s, STALE)


@case("message_acknowledge", "item held")
async def _(s: Stage) -> Act:
    await taken(s)
    return acknowledge(s, 0)


@case("message_acknowledge", "item message_not_found")
async def _(s: Stage) -> Act:
    return acknowledge(s, 0)


@case("message_acknowledge", "item illegal_state")
async def _(s: Stage) -> Act:
    await dead(s)
    return acknowledge(s, 0)


@case("message_release", "item ok")
async def _(s: Stage) -> Act:
    return give_back(s, await taken(s))


@case("message_release", "item dead")
async def _(s: Stage) -> Act:
    return give_back(s, await taken(s, deliveries=1))


@case("message_release", "item expired")
async def _(s: Stage) -> Act:
    fence = await taken(s, ttl=1_000)
    await s.advance(2)
    return give_back(s, fence)


@case("message_release", "item lease_lost")
async def _(s: Stage) -> Act:
    await taken(s)
    return give_back(s, STALE)


@case("message_release", "item message_not_found")
async def _(s: Stage) -> Act:
    return give_back(s, STALE)


@case("message_renew", "item ok")
async def _(s: Stage) -> Act:
    return keep_on(s, await taken(s))


@case("message_renew", "item lease_lost")
async def _(s: Stage) -> Act:
    await taken(s)
    return keep_on(s, STALE)


@case("message_renew", "item message_not_found")
async def _(s: Stage) -> Act:
    return keep_on(s, STALE)


@case("message_reply", "ok")
async def _(s: Stage) -> Act:
    return answer_request(s, await taken(s, marks="q", ttl=60_000))


@case("message_reply", "replayed")
async def _(s: Stage) -> Act:
    act = answer_request(s, await taken(s, marks="q", ttl=60_000))
    await act()
    return act


@case("message_reply", "already_answered")
async def _(s: Stage) -> Act:
    fence = await taken(s, marks="q", ttl=60_000)
    await answer_request(s, fence)()
    return answer_request(s, fence, "other")


@case("message_reply", "expired")
async def _(s: Stage) -> Act:
    fence = await taken(s, marks="q", ttl=1_000)
    await s.advance(2)
    return answer_request(s, fence)


@case("message_reply", "not_a_request")
async def _(s: Stage) -> Act:
    return answer_request(s, await taken(s))


@case("message_reply", "lease_lost")
async def _(s: Stage) -> Act:
    await taken(s, marks="q", ttl=60_000)
    return answer_request(s, STALE)


@case("message_reply", "held")
async def _(s: Stage) -> Act:
    await taken(s, marks="q", ttl=60_000)
    return answer_request(s)


@case("message_reply", "illegal_state")
async def _(s: Stage) -> Act:
    fence = await taken(s, marks="q", ttl=60_000, deliveries=1)
    await give_back(s, fence)()
    return answer_request(s)


@case("message_reply", "id_conflict")
async def _(s: Stage) -> Act:
    fence = await taken(s, marks="q", ttl=60_000)
    await post(s, "r")
    return answer_request(s, fence)


@case("message_reply", "message_not_found")
async def _(s: Stage) -> Act:
    return answer_request(s)


@case("message_await", "ok")
async def _(s: Stage) -> Act:
    await post(s, marks="q", ttl=60_000)
    return lambda: status_of(s.call("message_await", "m", 0))


@case("message_await", "deadlock_victim")
async def _(s: Stage) -> Act:
    await post(s, marks="q", ttl=60_000, owner="asker")
    await s.raw("HSET", "locks:waits", "asker\nv", "7")
    return lambda: status_of(s.call("message_await", "m", 0))


@case("message_await", "not_a_request")
async def _(s: Stage) -> Act:
    await post(s)
    return lambda: status_of(s.call("message_await", "m", 0))


@case("message_await", "message_not_found")
async def _(s: Stage) -> Act:
    return lambda: status_of(s.call("message_await", "m", 0))


@case("message_why", "ok")
async def _(s: Stage) -> Act:
    await post(s)
    return lambda: status_of(s.call("message_why", "m", ""))


@case("message_why", "message_not_found")
async def _(s: Stage) -> Act:
    return lambda: status_of(s.call("message_why", "m", ""))


@case("message_requeue", "item ok")
async def _(s: Stage) -> Act:
    await dead(s)
    return lambda: word_in(s.call("message_requeue", NOOR, "ann", 1, "m"))


@case("message_requeue", "item illegal_state")
async def _(s: Stage) -> Act:
    await post(s)
    return lambda: word_in(s.call("message_requeue", NOOR, "ann", 1, "m"))


@case("message_requeue", "item message_not_found")
async def _(s: Stage) -> Act:
    return lambda: word_in(s.call("message_requeue", NOOR, "ann", 1, "m"))


@case("message_purge", "item ok")
async def _(s: Stage) -> Act:
    await post(s)
    return lambda: word_in(s.call("message_purge", NOOR, "ann", 1, "m"))


@case("message_purge", "item held")
async def _(s: Stage) -> Act:
    await taken(s)
    return lambda: word_in(s.call("message_purge", NOOR, "ann", 1, "m"))


@case("message_purge", "item message_not_found")
async def _(s: Stage) -> Act:
    return lambda: word_in(s.call("message_purge", NOOR, "ann", 1, "m"))


@case("message_subscribe", "ok")
async def _(s: Stage) -> Act:
    return lambda: status_of(s.call("message_subscribe", NOOR, "topic", "add", ""))


@case("message_subscribe", "too_many")
async def _(s: Stage) -> Act:
    fields = [part for n in range(1_000) for part in (f"a{n}", "0|")]
    await s.raw("HSET", "subscriptions:topic:topic", *fields)
    return lambda: status_of(s.call("message_subscribe", NOOR, "topic", "add", ""))


@case("message_link", "ok")
async def _(s: Stage) -> Act:
    return lambda: status_of(s.call("message_link", "peers", MIRA, "add", "ann", 1, NOOR))


@case("message_link", "too_many")
async def _(s: Stage) -> Act:
    await s.raw("ZADD", "peers:mira", *(part for n in range(1_000) for part in (0, f"a{n}")))
    return lambda: status_of(s.call("message_link", "peers", MIRA, "add", "ann", 1, NOOR))


@case("message_broadcast", "ok")
async def _(s: Stage) -> Act:
    return lambda: status_of(s.call("message_broadcast", "m", "mira|direct||", "{}"))


@case("message_broadcast", "replayed")
async def _(s: Stage) -> Act:
    await s.call("message_broadcast", "m", "mira|direct||", "{}")
    return lambda: status_of(s.call("message_broadcast", "m", "mira|direct||", "{}"))


@case("message_broadcast", "id_conflict")
async def _(s: Stage) -> Act:
    await post(s)
    return lambda: status_of(s.call("message_broadcast", "m", "mira|direct||", "[]"))


@case("message_hear", "ok")
async def _(s: Stage) -> Act:
    return lambda: status_of(s.call("message_hear", NOOR, 10, 30_000))


@case("message_hear", "held")
async def _(s: Stage) -> Act:
    await s.call("message_broadcast", "m", "mira|direct||", "{}")
    await s.call("message_hear", NOOR, 10, 30_000)
    return lambda: status_of(s.call("message_hear", NOOR, 10, 30_000))


@case("message_heard", "ok")
async def _(s: Stage) -> Act:
    await s.call("message_broadcast", "m", "mira|direct||", "{}")
    fence = (await s.call("message_hear", NOOR, 10, 30_000)).raw[3]
    return lambda: status_of(s.call("message_heard", NOOR, fence, 1, 0))


@case("message_heard", "lease_lost")
async def _(s: Stage) -> Act:
    return lambda: status_of(s.call("message_heard", NOOR, STALE, 1, 0))


for _function, _arguments in {
    "message_send": (MIRA, 0),
    "message_take": (NOOR, "i1", 1, 30_000, "", ""),
    "message_acknowledge": (NOOR, "", 0),
    "message_release": (NOOR, "", 1, "", 0),
    "message_renew": (NOOR, 30_000, 0),
    "message_requeue": (NOOR, "ann", 0),
    "message_purge": (NOOR, "ann", 0),
    "message_configure": (NOOR, "ann", 5),
    "message_read": (1, "m"),
    "message_list": ("unread", NOOR, 0, 1, 0, 10),
    "message_counts": (NOOR,),
    "message_inboxes": (0, 10),
    "message_links": ("peers", "", 10),
    "message_sweep": (10,),
}.items():

    async def _posted(
        s: Stage, function: str = _function, arguments: tuple[Any, ...] = _arguments
    ) -> Act:
        return lambda: status_of(s.call(function, *arguments))

    case(_function, "ok")(_posted)


# Metrics

POINTS = ("m", "1", "")
METRIC_CALLS: dict[str, tuple[Any, ...]] = {
    "metric_record": (1, *POINTS),
    "metric_train": ("p", 1, 1, "0.1", "0.5", "null", 1, "loss", "0.5"),
    "metric_configure": ("m", 10, 1_000),
    "metric_clear": (1, "m"),
    "metric_list": (0, 0, 10),
    "metric_read": ("", "m", 0, "+", 0, 10),
    "metric_sample": ("{}", 1, *POINTS),
    "metric_namespace": (10,),
    "metric_board": (BOARD,),
}
for _function, _arguments in METRIC_CALLS.items():

    async def _measured(
        s: Stage, function: str = _function, arguments: tuple[Any, ...] = _arguments
    ) -> Act:
        await s.submit("t")
        return lambda: status_of(s.call(function, *arguments))

    case(_function, "ok")(_measured)


@case("metric_board", "board_not_found")
async def _(s: Stage) -> Act:
    return lambda: status_of(s.call("metric_board", "nowhere"))


@case("metric_configure", "too_many_series")
async def _(s: Stage) -> Act:
    for i in range(1_000):
        await s.call("metric_configure", f"m{i}", 10, 1_000)
    return lambda: status_of(s.call("metric_configure", "one-more", 10, 1_000))


@case("metric_tick", "due")
async def _(s: Stage) -> Act:
    await s.submit("t")
    return lambda: status_of(s.call("metric_tick"))


@case("metric_tick", "not_due")
async def _(s: Stage) -> Act:
    return lambda: status_of(s.call("metric_tick"))


# Functions that answer an item each say `ok` themselves, whatever the items say.
ROW_WIDTHS = {
    "task_cancel": ("ann", "why", 1, "t", ""),
    "task_cascade": (),
    "task_complete": ("i1", 1, "t", 1, ""),
    "task_complete_and_claim": (MIRA, "i1", "", 0, 0, 0, 30_000, 0, 0),
    "task_deliver": ("node", 30_000, "", 1, "t", 1),
    "task_fail": ("i1", 1, "t", 1, "{}", 1, 0, "", "", ""),
    "task_purge": ("ann", 1, "t"),
    "task_release": ("i1", 1, "t", 1, 0),
    "task_renew": (MIRA, "i1", 30_000, 1, "t", 1),
    "task_reprioritise": ("ann", 1, "t", 1),
    "task_retry": ("ann", 1, "t", "", ""),
    "task_start": ("i1", 1, "t", 1),
    "task_undeliver": ("node", 3, 1_000, 30_000, 3, 2_000, 60_000, 1, "t", 1, "{}", 1, 0, "", ""),
}
for _function, _arguments in ROW_WIDTHS.items():

    async def _arranged(
        s: Stage, function: str = _function, arguments: tuple[Any, ...] = _arguments
    ) -> Act:
        board: tuple[Any, ...] = (BOARD, *arguments) if arguments else (10,)
        return lambda: status_of(s.call(function, *board))

    case(_function, "ok")(_arranged)


# Contexts

CONTEXT_ROWS: dict[str, tuple[Any, ...]] = {
    "ok": ("", 0, "", 0, "", 1, "n", "i", "1"),
    "replayed": ("", 0, "", 0, "", 1, "n", "i", "1"),
    "rev_conflict": ("7", 0, "", 0, "", 1, "n", "i", "1"),
    "lock_lost": ("", 0, "", 0, "7 db", 1, "n", "i", "1"),
    "context_not_found": ("", 0, "", 0, "", 0),
    "context_full": ("", 0, "", 0, "", 1, "n", "s", "x" * 4_194_304),
    "not_a_number": ("", 0, "", 0, "", 1, "text", "+", "1"),
}


async def save_context(s: Stage, word: str, operation: str = "op", project: str = "p") -> str:
    return await status_of(s.call("context_save", project, "", operation, *CONTEXT_ROWS[word]))


def context_case(function: str, word: str, *arguments: Any) -> None:
    async def arranged(s: Stage) -> Act:
        text = ("", 0, "", 0, "", 1, "text", "s", "x")
        await s.call("context_save", "p", "", "first", *text)
        if word == "replayed":
            await save_context(s, "ok")
        if function == "context_save":
            project = "new" if word == "context_not_found" else "p"
            return lambda: save_context(s, word, project=project)
        return lambda: status_of(s.call(function, *arguments))

    case(function, word)(arranged)


for _word in CONTEXT_ROWS:
    context_case("context_save", _word)
context_case("context_read", "ok", "", 1, "p")
context_case("context_list", "ok", 0, 10)
context_case("context_remove", "ok", "p", "ann", "")
context_case("context_remove", "rev_conflict", "p", "ann", "7")
context_case("context_remove", "context_not_found", "gone", "ann", "")
context_case("context_sweep", "ok", 10)


# Conflicts

RESOLVE = ("c", "ann", "op", "own", "a", "why", "", 0)
POLL = ("c", "ann", "op", "vote", 0.5, 0.6, "undecided", 0, 60_000, 2, "m1", "m2")
REFER = ("c", "ann", "op", "eve", 60_000, "", "")


async def report(s: Stage, *more: Any, kind: str = "resource", subject: str = "db") -> str:
    about = {"context": "n", "task": more[0] if more else "assignment"}.get(kind, "")
    board = BOARD if kind == "task" else ""
    row = ("c", kind, board, subject, about, "ann", 1, "", "body", 1)
    return await status_of(s.call("conflict_report", *row, "a", 1, "", "", "", *more[1:]))


async def plain_conflict(s: Stage) -> None:
    await report(s, "", "", "")


async def decided(s: Stage) -> None:
    await plain_conflict(s)
    assert await status_of(s.call("conflict_resolve", *RESOLVE)) == "ok"


async def polled(s: Stage) -> None:
    await plain_conflict(s)
    assert await status_of(s.call("conflict_poll", *POLL)) == "ok"


async def referred(s: Stage) -> None:
    await plain_conflict(s)
    assert await status_of(s.call("conflict_refer", *REFER)) == "ok"


async def nothing(s: Stage) -> None:
    pass


async def voted(s: Stage) -> None:
    await polled(s)
    await s.call("conflict_vote", "c", "m1", "a", "1")


async def fought_over(s: Stage, about: str = "assignment", value: str = "") -> None:
    await report(s, about, "j" if value else "", value, kind="task", subject="t")


async def fought_over_by(s: Stage, **agent: Any) -> None:
    if agent:
        await s.agent("a", **agent)
    await s.submit("t")
    await fought_over(s)


async def fought_over_result(s: Stage) -> None:
    await s.submit("t")
    await s.cancel("t")
    await fought_over(s, "output", "1")


async def fought_over_gone(s: Stage) -> None:
    await fought_over_result(s)
    await s.purge("t")


async def fought_over_context(s: Stage, *value: Any) -> None:
    await report(s, "", *value, kind="context", subject="p")


async def crowded(s: Stage) -> None:
    await plain_conflict(s)
    await s.raw("SADD", "agents:active", *(f"x{i}" for i in range(1_001)))


async def deserted(s: Stage) -> None:
    await plain_conflict(s)
    await s.raw("DEL", "agents:active")


async def too_broad_conflict(s: Stage) -> None:
    await report(s, "", "", "", subject="y*")
    await s.raw("ZADD", "locks", *(part for i in range(1_001) for part in (0, f"y{i}")))


async def full_of_conflicts(s: Stage) -> None:
    members = [part for i in range(10_000) for part in (i, f"x{i}")]
    await s.raw("ZADD", "conflicts:open", *members)


CONFLICTS: dict[tuple[str, str], tuple[Callable[[Stage], Awaitable[None]], tuple[Any, ...]]] = {
    ("conflict_resolve", "ok"): (plain_conflict, RESOLVE),
    ("conflict_resolve", "replayed"): (decided, RESOLVE),
    ("conflict_resolve", "already_resolved"): (decided, ("c", "ann", "op2", *RESOLVE[3:])),
    ("conflict_resolve", "conflict_not_found"): (nothing, RESOLVE),
    ("conflict_resolve", "conflict_busy"): (polled, RESOLVE),
    ("conflict_resolve", "not_arbiter"): (referred, RESOLVE),
    ("conflict_resolve", "not_a_party"): (plain_conflict, (*RESOLVE[:4], "b", "", "", 0)),
    ("conflict_resolve", "nobody_is_current"): (
        plain_conflict,
        ("c", "ann", "op", "optimistic", "", "", "", 0),
    ),
    ("conflict_resolve", "no_value"): (lambda s: fought_over_context(s, "", ""), RESOLVE),
    ("conflict_resolve", "context_full"): (
        lambda s: fought_over_context(s, "s", "x" * 4_194_304),
        RESOLVE,
    ),
    ("conflict_resolve", "task_not_found"): (fought_over_gone, RESOLVE),
    ("conflict_resolve", "illegal_state"): (fought_over_result, RESOLVE),
    ("conflict_resolve", "agent_not_found"): (fought_over_by, RESOLVE),
    ("conflict_resolve", "agent_draining"): (
        lambda s: fought_over_by(s, status="draining"),
        RESOLVE,
    ),
    ("conflict_resolve", "too_many_locks"): (too_broad_conflict, RESOLVE),
    ("conflict_resolve", "does_not_fit"): (lambda s: fought_over_by(s, kinds=["x"]), RESOLVE),
    ("conflict_poll", "ok"): (plain_conflict, POLL),
    ("conflict_poll", "replayed"): (polled, POLL),
    ("conflict_poll", "conflict_not_found"): (nothing, POLL),
    ("conflict_poll", "already_resolved"): (decided, POLL),
    ("conflict_poll", "conflict_busy"): (referred, POLL),
    ("conflict_poll", "no_electorate"): (deserted, (*POLL[:9], 0)),
    ("conflict_poll", "electorate_too_large"): (crowded, (*POLL[:9], 0)),
    ("conflict_vote", "ok"): (polled, ("c", "m1", "a", "1")),
    ("conflict_vote", "replayed"): (voted, ("c", "m1", "a", "1")),
    ("conflict_vote", "conflict_not_found"): (nothing, ("c", "m1", "a", "1")),
    ("conflict_vote", "already_resolved"): (decided, ("c", "m1", "a", "1")),
    ("conflict_vote", "vote_closed"): (plain_conflict, ("c", "m1", "a", "1")),
    ("conflict_vote", "not_a_member"): (polled, ("c", "m9", "a", "1")),
    ("conflict_vote", "not_a_party"): (polled, ("c", "m1", "b", "1")),
    ("conflict_vote", "already_voted"): (voted, ("c", "m1", "", "1")),
    ("conflict_refer", "ok"): (plain_conflict, REFER),
    ("conflict_refer", "replayed"): (referred, REFER),
    ("conflict_refer", "conflict_not_found"): (nothing, REFER),
    ("conflict_refer", "already_resolved"): (decided, REFER),
    ("conflict_refer", "conflict_busy"): (polled, REFER),
    ("conflict_refer", "not_a_party"): (plain_conflict, (*REFER[:5], "b", "")),
    ("conflict_read", "ok"): (plain_conflict, ("open", 0, 10, 0, 0)),
    ("conflict_stats", "ok"): (plain_conflict, (10,)),
    ("conflict_sweep", "ok"): (plain_conflict, (10,)),
    ("conflict_clean", "ok"): (decided, ("ann", 0, 10)),
}


def conflict_case(
    function: str, word: str, before: Callable[[Stage], Awaitable[None]], arguments: Any
) -> None:
    async def arranged(s: Stage) -> Act:
        await before(s)
        return lambda: status_of(s.call(function, *arguments))

    case(function, word)(arranged)


for (_function, _word), (_before, _given) in CONFLICTS.items():
    conflict_case(_function, _word, _before, _given)


@case("conflict_report", "ok")
async def _(s: Stage) -> Act:
    return lambda: report(s, "", "", "")


@case("conflict_report", "exists")
async def _(s: Stage) -> Act:
    await plain_conflict(s)
    return lambda: report(s, "", "", "")


@case("conflict_report", "conflict_id_taken")
async def _(s: Stage) -> Act:
    await plain_conflict(s)
    row = ("c", "resource", "", "db", "", "ann", 1, "", "another body", 0)
    return lambda: status_of(s.call("conflict_report", *row))


@case("conflict_report", "task_not_found")
async def _(s: Stage) -> Act:
    return lambda: report(s, "assignment", "", "", kind="task", subject="gone")


@case("conflict_report", "too_many_conflicts")
async def _(s: Stage) -> Act:
    await full_of_conflicts(s)
    return lambda: report(s, "", "", "")


# Locks


LockCase = Callable[[Table], Awaitable[Any]]


async def held_lock(t: Table) -> None:
    await t.take("one", "r", agent="mira")


async def queued(t: Table) -> None:
    await held_lock(t)
    await t.queue("two", "r")


async def handed(t: Table) -> None:
    await queued(t)
    await t.release("one", "r")


async def half_a_cycle(t: Table) -> None:
    await t.take("two", "q")
    await queued(t)


async def a_victim_untold(t: Table) -> None:
    await t.take("two", "q")
    await held_lock(t)
    await t.queue("two", "r", priority=-9)
    await t.queue("one", "q")


async def nearly_full(t: Table) -> None:
    for start in range(0, 950, 50):
        await t.take("one", *(f"x{start + i}" for i in range(50)))


async def shared_lock(t: Table) -> None:
    await t.take("one", "r", mode="s")


async def nothing_locked(_: Table) -> None:
    return


def ask(name: str, *arguments: Any) -> LockCase:
    return lambda t: t.stage.call(name, *arguments)


LOCKS: dict[tuple[str, str], tuple[LockCase, LockCase]] = {
    ("lock_acquire", "ok"): (nothing_locked, lambda t: t.acquire("one", "r")),
    ("lock_acquire", "waiting"): (held_lock, lambda t: t.acquire("two", "r", wait=5)),
    ("lock_acquire", "deadlock_victim"): (
        half_a_cycle,
        lambda t: t.acquire("one", "q", wait=5, priority=-9),
    ),
    ("lock_acquire", "lock_held"): (held_lock, lambda t: t.acquire("two", "r")),
    ("lock_acquire", "lease_lost"): (nothing_locked, lambda t: t.acquire(claim("t", 7), "r")),
    ("lock_acquire", "lock_mismatch"): (
        shared_lock,
        lambda t: t.acquire("one", "r", mode="p", limit=2),
    ),
    ("lock_acquire", "too_many_locks"): (
        nearly_full,
        lambda t: t.acquire("one", *(f"y{i}" for i in range(51))),
    ),
    ("lock_acquire", "already_waiting"): (queued, lambda t: t.acquire("two", "p", wait=5)),
    ("lock_await", "ok"): (nothing_locked, ask("lock_await", 1, "x", "op")),
    ("lock_await", "item waiting"): (queued, lambda t: t.heard("two")),
    ("lock_await", "item ok"): (handed, lambda t: t.heard("two")),
    ("lock_await", "item deadlock_victim"): (a_victim_untold, lambda t: t.heard("two")),
    ("lock_await", "item gone"): (held_lock, lambda t: t.heard("one")),
    ("lock_withdraw", "ok"): (queued, lambda t: t.withdraw("two", "r")),
    ("lock_withdraw", "taken"): (handed, lambda t: t.withdraw("two", "r")),
    ("lock_withdraw", "gone"): (nothing_locked, ask("lock_withdraw", "two", "op", 1, 1, "r")),
    ("lock_renew", "ok"): (held_lock, ask("lock_renew", "one", 9, 1, "r", 0)),
    ("lock_renew", "item ok"): (held_lock, lambda t: t.renew("one", "r")),
    ("lock_renew", "item lock_lost"): (held_lock, lambda t: t.renew("two", "r")),
    ("lock_release", "ok"): (held_lock, ask("lock_release", "one", "op", 1, "r", 0)),
    ("lock_release", "item ok"): (held_lock, lambda t: t.release("one", "r")),
    ("lock_release", "item lock_lost"): (held_lock, lambda t: t.release("one", "r", fence=7)),
    ("lock_leave", "ok"): (held_lock, ask("lock_leave", "one")),
    ("lock_force", "ok"): (held_lock, ask("lock_force", "r", "", "ann", "why")),
    ("lock_force", "lock_not_found"): (nothing_locked, ask("lock_force", "r", "", "ann", "")),
    ("lock_read", "ok"): (held_lock, ask("lock_read", 1, "r")),
    ("lock_graph", "ok"): (queued, ask("lock_graph", "", 100)),
    ("lock_sweep", "ok"): (queued, ask("lock_sweep", 100)),
}


def lock_case(function: str, word: str, before: LockCase, act: LockCase) -> None:
    async def arranged(s: Stage) -> Act:
        table = Table(s)
        await before(table)

        async def answered() -> Any:
            answer = await act(table)
            return answer[0] if isinstance(answer, list) else getattr(answer, "status", answer)

        return answered

    case(function, word)(arranged)


for (_function, _word), (_before_lock, _act_lock) in LOCKS.items():
    lock_case(_function, _word, _before_lock, _act_lock)


@case("lock_release", "item kept")
async def _(s: Stage) -> Act:
    table = Table(s)
    await held_lock(table)
    await held_lock(table)

    async def act() -> str:
        return (await table.release("one", "r"))[0]

    return act


@case("task_park", "deadlock_victim")
async def _(s: Stage) -> Act:
    await s.submit(spec("parent", priority=-5), "child")
    parent, child = await s.held("parent"), await s.held("child", NOOR)
    table = Table(s)
    await table.take(claim("parent", parent), "r")
    await table.queue(claim("child", child), "r")
    return lambda: status_of(
        s.call("task_park", BOARD, "i1", "parent", parent, 1, BOARD, "child", "bell")
    )
