"""Each word that a function can answer, really answered; a refusal leaves no trace."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Any

import pytest

from callboard.engine.functions import Functions, library
from tests.functions.support import BOARD, MIRA, NOOR, Reply, Stage, spec, values_of

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
    "agent_full".split()
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
    "task_split".split()
):
    holder_case(_function, "replayed", repeated(_function))
for _function in (
    "task_ask task_complete task_complete_and_claim task_handoff task_park task_progress "
    "task_release task_renew task_split task_start task_tell".split()
):
    holder_case(_function, "ok", claimed)
for _function, _word in [
    ("task_ask", "cancelled"),
    ("task_fail", "cancelled"),
    ("task_release", "cancelled"),
    ("task_cancel", "cancelled"),
    ("task_progress", "cancel"),
    ("task_tell", "cancel"),
    ("task_renew", "cancel"),
]:
    holder_case(_function, _word, asked_to_stop)
holder_case("task_fail", "retry_scheduled", claimed)


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


# Functions that answer an item each say `ok` themselves, whatever the items say.
ROW_WIDTHS = {
    "task_cancel": ("ann", "why", 1, "t", ""),
    "task_cascade": (),
    "task_complete": ("i1", 1, "t", 1, ""),
    "task_complete_and_claim": (MIRA, "i1", "", 0, 0, 0, 30_000, 0, 0),
    "task_fail": ("i1", 1, "t", 1, "{}", 1, 0, ""),
    "task_purge": ("ann", 1, "t"),
    "task_release": ("i1", 1, "t", 1, 0),
    "task_renew": (MIRA, "i1", 30_000, 1, "t", 1),
    "task_reprioritise": ("ann", 1, "t", 1),
    "task_retry": ("ann", 1, "t", "", ""),
    "task_start": ("i1", 1, "t", 1),
}
for _function, _arguments in ROW_WIDTHS.items():

    async def _arranged(
        s: Stage, function: str = _function, arguments: tuple[Any, ...] = _arguments
    ) -> Act:
        board: tuple[Any, ...] = (BOARD, *arguments) if arguments else (10,)
        return lambda: status_of(s.call(function, *board))

    case(_function, "ok")(_arranged)
