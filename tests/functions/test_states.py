"""Every state against every operation: the result, or the refusal that changes nothing."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping
from functools import partial
from typing import Any

import pytest

from callboard.domain.task import LETTERS, MOVES, Status, at_ms
from tests.functions.support import MIRA, NOOR, STALE, Stage, changed, spec

pytestmark = pytest.mark.every_engine

State = Callable[[Stage, str], Awaitable[int]]
Operation = Callable[[Stage, str, int], Awaitable[str]]


# How a task comes to stand in each state; the answer is the fence to present.


async def blocked(stage: Stage, task: str) -> int:
    await stage.submit(spec(task, f"{task}-dependency"))
    return STALE


async def scheduled(stage: Stage, task: str) -> int:
    await stage.submit(spec(task, delay=60))
    return STALE


async def pending(stage: Stage, task: str) -> int:
    await stage.submit(spec(task))
    return STALE


async def assigned(stage: Stage, task: str) -> int:
    await stage.submit(spec(task, suggested_worker=MIRA))
    return STALE


async def claimed(stage: Stage, task: str) -> int:
    await stage.submit(spec(task))
    return await stage.held(task)


async def claimed_ahead(stage: Stage, task: str) -> int:
    await stage.submit(spec(task))
    return (await stage.claim(started=0)).fences[0]


async def in_progress(stage: Stage, task: str) -> int:
    await stage.submit(spec(task))
    return await stage.started(task)


async def input_required(stage: Stage, task: str) -> int:
    fence = await claimed(stage, task)
    await stage.ask(task, fence)
    return fence


async def done(stage: Stage, task: str) -> int:
    fence = await claimed(stage, task)
    await stage.complete(task, fence)
    return fence


async def failed(stage: Stage, task: str) -> int:
    fence = await claimed(stage, task)
    await stage.fail(task, fence, retryable=False)
    return fence


async def cancelled(stage: Stage, task: str) -> int:
    await stage.submit(spec(task))
    await stage.cancel(task)
    return STALE


STATES: Mapping[str, State] = {
    "b": blocked,
    "s": scheduled,
    "p": pending,
    "a": assigned,
    "c": claimed,
    "k": claimed_ahead,
    "i": in_progress,
    "q": input_required,
    "d": done,
    "f": failed,
    "x": cancelled,
}


# The operations


async def claim(stage: Stage, task: str, fence: int) -> str:
    return (await stage.claim(MIRA)).status


async def claim_by_another(stage: Stage, task: str, fence: int) -> str:
    return (await stage.claim(NOOR)).status


async def take(stage: Stage, task: str, fence: int) -> str:
    return (await stage.take(task)).status


async def take_by_another(stage: Stage, task: str, fence: int) -> str:
    return (await stage.take(task, NOOR)).status


async def start(stage: Stage, task: str, fence: int) -> str:
    return await stage.start(task, fence)


async def complete(stage: Stage, task: str, fence: int) -> str:
    return await stage.complete(task, fence)


async def step(stage: Stage, task: str, fence: int) -> str:
    return (await stage.step(done=[(task, fence, "1")]))[0][0]


async def begin(stage: Stage, task: str, fence: int) -> str:
    return (await stage.step(begun=[(task, fence)]))[1][0]


async def fail(stage: Stage, task: str, fence: int) -> str:
    return await stage.fail(task, fence)


async def fail_for_good(stage: Stage, task: str, fence: int) -> str:
    return await stage.fail(task, fence, retryable=False)


async def renew(stage: Stage, task: str, fence: int) -> str:
    return await stage.renew(task, fence)


async def release(stage: Stage, task: str, fence: int) -> str:
    return await stage.release(task, fence)


async def defer(stage: Stage, task: str, fence: int) -> str:
    return await stage.release(task, fence, delay_ms=5_000)


async def handoff(stage: Stage, task: str, fence: int) -> str:
    return await stage.handoff(task, fence)


async def progress(stage: Stage, task: str, fence: int) -> str:
    return await stage.progress(task, fence)


async def split(stage: Stage, task: str, fence: int) -> str:
    return (await stage.split(task, fence, spec(f"{task}-child"))).status


async def ask(stage: Stage, task: str, fence: int) -> str:
    return await stage.ask(task, fence)


async def park(stage: Stage, task: str, fence: int) -> str:
    return await stage.park(task, fence)


async def answer(stage: Stage, task: str, fence: int) -> str:
    return await stage.answer(task)


async def cancel(stage: Stage, task: str, fence: int) -> str:
    return await stage.cancel(task)


async def confirm_cancel(stage: Stage, task: str, fence: int) -> str:
    return await stage.cancel(task, fence)


async def retry(stage: Stage, task: str, fence: int) -> str:
    return (await stage.retry(task))[0]


async def reprioritise(stage: Stage, task: str, fence: int) -> str:
    return await stage.reprioritise(task, 5)


async def purge(stage: Stage, task: str, fence: int) -> str:
    return (await stage.purge(task))[0]


async def note(stage: Stage, task: str, fence: int) -> str:
    return await stage.note(task)


async def sweep(stage: Stage, task: str, fence: int) -> str:
    return (await stage.call("board_sweep", "b", 200)).status


async def sweep_after_the_lease(stage: Stage, task: str, fence: int) -> str:
    await stage.after(31)
    return "ok"


async def sweep_after_the_wait(stage: Stage, task: str, fence: int) -> str:
    await stage.after(61)
    return "ok"


async def sweep_where_one_crash_is_poison(stage: Stage, task: str, fence: int) -> str:
    await stage.configure(poison=1)
    await stage.after(31)
    return "ok"


async def sweep_where_unknown_references_fail(stage: Stage, task: str, fence: int) -> str:
    await stage.configure(unresolved_after=1_000)
    await stage.after(2)
    return "ok"


SAME = "same"
HELD = "cki"
Outcomes = Mapping[str, tuple[str, str]]


def where(**letters: tuple[str, str]) -> Outcomes:
    """From letters of states to the word answered and the status after it."""
    return {letter: outcome for group, outcome in letters.items() for letter in group}


# By operation: what it answers and makes of a task in each state; the word answered in all
# other states, where nothing changes.
TABLE: Mapping[Operation, tuple[str, Outcomes]] = {
    claim: ("empty", where(pa=("ok", "claimed"))),
    claim_by_another: ("empty", where(p=("ok", "claimed"))),
    take: (
        "not_ready",
        where(pa=("ok", "claimed"), cki=("held", SAME), dfx=("illegal_state", SAME)),
    ),
    take_by_another: (
        "not_ready",
        where(p=("ok", "claimed"), acki=("held", SAME), dfx=("illegal_state", SAME)),
    ),
    start: ("lease_lost", where(cki=("ok", "in_progress"))),
    begin: ("lease_lost", where(cki=("ok", "in_progress"))),
    complete: ("lease_lost", where(cki=("ok", "done"), d=("replayed", SAME))),
    step: ("lease_lost", where(cki=("ok", "done"), d=("replayed", SAME))),
    fail: ("lease_lost", where(cki=("retry_scheduled", "scheduled"), qf=("replayed", SAME))),
    fail_for_good: ("lease_lost", where(cki=("failed", "failed"), qf=("replayed", SAME))),
    renew: ("lease_lost", where(cki=("ok", SAME))),
    release: ("lease_lost", where(cki=("ok", "pending"), qf=("replayed", SAME))),
    defer: ("lease_lost", where(cki=("ok", "scheduled"), qf=("replayed", SAME))),
    handoff: ("lease_lost", where(cki=("ok", "assigned"))),
    progress: ("lease_lost", where(cki=("ok", SAME))),
    split: ("lease_lost", where(cki=("ok", "blocked"), qf=("replayed", SAME))),
    ask: ("lease_lost", where(cki=("ok", "input_required"), qf=("replayed", SAME))),
    park: ("lease_lost", where(cki=("ok", SAME))),
    answer: ("illegal_state", where(q=("ok", "assigned"))),
    cancel: (
        "finished",
        where(bspaq=("cancelled", "cancelled"), cki=("requested", SAME), x=("cancelled", SAME)),
    ),
    confirm_cancel: ("lease_lost", where(cki=("cancelled", "cancelled"))),
    retry: ("illegal_state", where(fx=("ok", "pending"))),
    reprioritise: ("illegal_state", where(bspackiq=("ok", SAME))),
    purge: ("illegal_state", where(dfx=("ok", "gone"))),
    note: ("ok", where(bspackiqdfx=("ok", SAME))),
    sweep: ("ok", where(bspackiqdfx=("ok", SAME))),
    sweep_after_the_lease: ("ok", where(acki=("ok", "pending"), bspqdfx=("ok", SAME))),
    sweep_after_the_wait: ("ok", where(sacki=("ok", "pending"), bpqdfx=("ok", SAME))),
    sweep_where_one_crash_is_poison: (
        "ok",
        where(ci=("ok", "failed"), ak=("ok", "pending"), bspqdfx=("ok", SAME)),
    ),
    sweep_where_unknown_references_fail: (
        "ok",
        where(b=("ok", "failed"), spackiqdfx=("ok", SAME)),
    ),
}


@pytest.mark.parametrize("operation", TABLE, ids=lambda operation: operation.__name__)
@pytest.mark.parametrize("letter", STATES)
async def test_an_operation_moves_the_task_as_the_table_says_or_changes_nothing(
    stage: Stage, letter: str, operation: Operation
) -> None:
    refusal, outcomes = TABLE[operation]
    word, after = outcomes.get(letter, (refusal, SAME))
    fence = await STATES[letter](stage, "t")
    before = await stage.status("t")
    assert (await stage.record("t")).letter == letter
    dump = await stage.dump()

    answer = await operation(stage, "t", fence)

    status = await stage.status("t")
    assert (answer, status) == (word, before if after == SAME else after)
    if status not in (before, "gone"):
        assert Status(status) in MOVES[LETTERS[letter]]
    if letter not in outcomes:
        assert changed(dump, await stage.dump()) <= {"agents:heartbeats"}


# Every legal move, and who makes it


async def born(stage: Stage, word: str) -> None:
    """The first status of a task as its submit leaves it."""
    await failed(stage, "dead")
    specs = {
        "blocked": spec("t", "unknown"),
        "scheduled": spec("t", delay=1),
        "pending": spec("t"),
        "assigned": spec("t", suggested_worker=MIRA),
        "failed": spec("t", "dead"),
        "cancelled": spec("t", "dead", on_dependency_failure="skip"),
    }
    await stage.submit(specs[word])


async def unblock(stage: Stage, to: str) -> None:
    """The last dependency of a blocked task ends."""
    await stage.submit(
        "root",
        spec(
            "t",
            "root",
            delay=60 if to == "scheduled" else None,
            on_dependency_failure="skip" if to == "cancelled" else "fail",
        ),
    )
    fence = await stage.held("root")
    if to == "assigned":
        await stage.wait_as(NOOR)
    if to in ("failed", "cancelled"):
        await stage.fail("root", fence, retryable=False)
    else:
        await stage.complete("root", fence)


async def pass_deadline(stage: Stage, letter: str) -> None:
    fields: dict[str, Any] = {"deadline": at_ms(stage.now / 1_000 + 5_000)}
    if letter == "s":
        fields["delay"] = 60
    if letter == "a":
        fields["suggested_worker"] = MIRA
    await stage.submit(spec("t", *(["unknown"] if letter == "b" else []), **fields))
    if letter == "q":
        await stage.ask("t", await stage.held("t"))
    assert (await stage.record("t")).letter == letter
    await stage.after(6)


async def come_due(stage: Stage, to: str) -> None:
    await stage.submit(spec("t", delay=1))
    if to == "assigned":
        await stage.wait_as(NOOR)
    await stage.after(2)


async def lapse(stage: Stage, to: str) -> None:
    await assigned(stage, "t")
    if to == "assigned":
        await stage.wait_as(NOOR)
    await stage.after(11)


async def lose(stage: Stage, letter: str, to: str) -> None:
    """The holder's lease runs out."""
    if to == "failed":
        await stage.configure(poison=1)
    await stage.submit(spec("t", timeout=5 if to == "scheduled" else None))
    fence = await stage.held("t")
    if letter == "i":
        await stage.start("t", fence)
    if to == "assigned":
        await stage.wait_as(NOOR)
    if to == "cancelled":
        await stage.cancel("t")
    await stage.after(31 if to != "scheduled" else 6)


async def by_holder(stage: Stage, letter: str, operation: Operation) -> None:
    fence = await STATES[letter](stage, "t")
    await operation(stage, "t", fence)


async def answered_when_its_holder_is_gone(stage: Stage) -> None:
    await input_required(stage, "t")
    await stage.raw("HSET", "agent:mira", "status", "maintenance")
    await stage.answer("t")


async def put_back(stage: Stage, letter: str, to: str) -> None:
    """A failed or cancelled task is retried."""
    if to in ("pending", "assigned"):
        await STATES[letter](stage, "t")
        if to == "assigned":
            await stage.wait_as(NOOR)
    else:
        await stage.submit("root", spec("t", "root", delay=60 if to == "scheduled" else None))
        if letter == "x":
            await stage.cancel("t")
        fence = await stage.held("root")
        if to == "scheduled":
            await stage.complete("root", fence)
        elif letter == "f":
            await stage.fail("root", fence, retryable=False)
            await stage.retry("root")
    await stage.retry("t")


async def put_back_before_its_time(stage: Stage) -> None:
    """Its deadline passed while it was blocked; what blocked it is over."""
    deadline = at_ms(stage.now / 1_000 + 5_000)
    await stage.submit("root", spec("t", "root", delay=60, deadline=deadline))
    await stage.after(6)
    await stage.complete("root", await stage.held("root"))
    await stage.retry("t")


Scenario = Callable[[Stage], Awaitable[None]]
BORN = ["blocked", "scheduled", "pending", "assigned", "failed", "cancelled"]
HOLDER_MOVES: Mapping[str, Operation] = {
    "pending": release,
    "scheduled": fail,
    "assigned": handoff,
    "failed": fail_for_good,
    "cancelled": confirm_cancel,
    "input_required": ask,
    "blocked": split,
    "done": complete,
}


def scenarios() -> dict[tuple[str | None, str], Scenario]:
    """By move (from, to): what makes it."""
    found: dict[tuple[str | None, str], Scenario] = {
        ("failed", "scheduled"): put_back_before_its_time,
        ("cancelled", "scheduled"): partial(put_back, letter="x", to="scheduled"),
        ("claimed", "in_progress"): partial(by_holder, letter="c", operation=start),
        ("input_required", "assigned"): partial(by_holder, letter="q", operation=answer),
        ("input_required", "pending"): answered_when_its_holder_is_gone,
    }
    for word in BORN:
        found[None, word] = partial(born, word=word)
    for word in ("pending", "assigned", "scheduled", "failed", "cancelled"):
        found["blocked", word] = partial(unblock, to=word)
    for word in ("pending", "assigned"):
        found["scheduled", word] = partial(come_due, to=word)
        found["assigned", word] = partial(lapse, to=word)
    for letter in "fx":
        for word in ("pending", "assigned", "blocked"):
            found[LETTERS[letter].value, word] = partial(put_back, letter=letter, to=word)
    for letter in "spaq":
        found[LETTERS[letter].value, "failed"] = partial(pass_deadline, letter=letter)
        found[LETTERS[letter].value, "cancelled"] = partial(
            by_holder, letter=letter, operation=cancel
        )
    for letter in "pa":
        found[LETTERS[letter].value, "claimed"] = partial(by_holder, letter=letter, operation=claim)
    for letter in "ci":
        for word, operation in HOLDER_MOVES.items():
            found[LETTERS[letter].value, word] = partial(
                by_holder, letter=letter, operation=operation
            )
    return found


SCENARIOS = scenarios()


@pytest.mark.parametrize(
    ("before", "after"), SCENARIOS, ids=[f"{move[0]}-{move[1]}" for move in SCENARIOS]
)
async def test_a_move_is_made_and_told_as_an_event(
    stage: Stage, before: str | None, after: str
) -> None:
    cursor = await stage.events.cursor()
    await SCENARIOS[before, after](stage)

    assert await stage.status("t") == after
    events = await stage.news(cursor)
    told = [fact.state for event in events for fact in event.facts if fact.id == "t"]
    assert told[-1] == after


def test_the_moves_of_the_table_are_exactly_those_that_are_made() -> None:
    legal = {
        (before.value if before else None, after.value)
        for before, moves in MOVES.items()
        for after in moves
    }

    assert set(SCENARIOS) == legal


@pytest.mark.parametrize("letter", "ci")
@pytest.mark.parametrize("to", ["pending", "assigned", "scheduled", "failed", "cancelled"])
async def test_a_lost_lease_moves_the_task_within_the_table(
    stage: Stage, letter: str, to: str
) -> None:
    await lose(stage, letter, to)

    assert await stage.status("t") == to
    assert Status(to) in MOVES[LETTERS[letter]]
