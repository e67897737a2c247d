"""A task's life, whichever way it is asked for."""

from __future__ import annotations

import pytest

from tests.scenarios.desks import Desk, Refusal


async def test_a_task_is_done_once_and_its_result_read(desk: Desk) -> None:
    task = await desk.add("greet", {"name": "Ada"})
    claimed = await desk.claim("mira")
    assert claimed is not None

    first = await desk.complete(*claimed, {"hello": "Ada"})
    again = await desk.complete(*claimed, {"hello": "Ada"})

    shown = await desk.show(task)
    assert claimed[0] == task
    assert (first, again) == ("ok", "replayed")
    assert (shown["status"], shown["payload"]) == ("done", {"name": "Ada"})
    assert shown["result"] == {"hello": "Ada"}


async def test_a_stale_fence_is_refused(desk: Desk) -> None:
    await desk.add("greet")
    task, fence = await desk.claim("mira") or ("", 0)
    await desk.release(task, fence)
    _, newer = await desk.claim("noor") or ("", 0)

    with pytest.raises(Refusal) as refusal:
        await desk.complete(task, fence, "late")

    assert refusal.value.code == "lease_lost"
    assert newer > fence


async def test_the_same_id_with_the_same_body_is_the_same_task(desk: Desk) -> None:
    first = await desk.add("greet", 1, id="t-1")
    again = await desk.add("greet", 1, id="t-1")

    assert first == again == "t-1"
    with pytest.raises(Refusal) as refusal:
        await desk.add("greet", 2, id="t-1")
    assert refusal.value.code == "id_conflict"


async def test_a_higher_priority_goes_first(desk: Desk) -> None:
    await desk.add("greet", id="low", priority="low")
    await desk.add("greet", id="urgent", priority="urgent")

    claimed = await desk.claim("mira")

    assert claimed is not None
    assert claimed[0] == "urgent"


async def test_nothing_to_claim_is_no_error(desk: Desk) -> None:
    assert await desk.claim("mira") is None


async def test_a_failure_that_no_retry_cures_is_a_dead_letter_which_can_be_put_back(
    desk: Desk,
) -> None:
    task = await desk.add("greet")
    claimed = await desk.claim("mira")
    assert claimed is not None

    status = await desk.fail(*claimed, "no such page", retry=False)

    assert status == "failed"
    assert await desk.dead_letters() == [task]
    await desk.retry(task)
    assert await desk.dead_letters() == []
    assert (await desk.show(task))["status"] == "pending"


async def test_a_failure_that_may_pass_is_tried_again_later(desk: Desk) -> None:
    task = await desk.add("greet")
    claimed = await desk.claim("mira")
    assert claimed is not None

    status = await desk.fail(*claimed, "busy", retry=True)

    shown = await desk.show(task)
    assert status == "retry_scheduled"
    assert (shown["status"], shown["failures"]) == ("scheduled", 1)
    assert shown["error"]["message"] == "busy"


async def test_a_waiting_task_is_cancelled_at_once_and_a_held_one_by_its_holder(
    desk: Desk,
) -> None:
    waiting = await desk.add("greet", id="waiting")
    assert await desk.cancel(waiting) == "cancelled"
    held = await desk.add("greet", id="held")
    claimed = await desk.claim("mira")
    assert await desk.cancel(held) == "requested"

    assert (await desk.show(waiting))["status"] == "cancelled"
    assert (await desk.show(held))["cancel_requested"] is True
    assert claimed is not None
    await desk.complete(*claimed, "done all the same")
    with pytest.raises(Refusal) as refusal:
        await desk.cancel(held)
    assert refusal.value.code in ("illegal_state", "finished")


async def test_a_paused_board_gives_nothing_until_it_is_resumed(desk: Desk) -> None:
    await desk.add("greet", id="t")
    await desk.pause()
    with pytest.raises(Refusal) as refusal:
        await desk.claim("mira")
    assert refusal.value.code == "paused"

    await desk.resume()

    assert (await desk.claim("mira") or ("",))[0] == "t"


async def test_why_names_what_is_missing(desk: Desk) -> None:
    first = await desk.add("greet", id="first")
    await desk.add("greet", id="second", depends_on=_one(desk, first))

    assert "first" in await desk.why("second")
    assert await desk.waiting() == ["first"]


async def test_notes_stay_with_the_task(desk: Desk) -> None:
    task = await desk.add("greet")

    await desk.note(task, "looked at it")
    await desk.note(task, "näher hingesehen")

    assert (await desk.show(task))["notes"] == ["looked at it", "näher hingesehen"]


async def test_what_is_not_there_is_not_found(desk: Desk) -> None:
    with pytest.raises(Refusal) as refusal:
        await desk.show("nothing")

    assert refusal.value.code == "task_not_found"


async def test_fields_of_a_context_are_written_and_read(desk: Desk) -> None:
    first = await desk.set_fields("plan", goal="ship it", count=3)
    second = await desk.set_fields("plan", count=4)

    assert second > first
    assert await desk.fields("plan") == {"goal": "ship it", "count": 4}
    with pytest.raises(Refusal) as refusal:
        await desk.fields("nothing")
    assert refusal.value.code == "context_not_found"


async def test_a_message_is_taken_once_and_acknowledged(desk: Desk) -> None:
    sent = await desk.send("noor", {"question": "ready?"})

    taken = await desk.take("noor")
    assert await desk.take("noor") == []
    status = await desk.acknowledge("noor", taken[0][0], taken[0][1])

    assert [(one[0], one[2]) for one in taken] == [(sent, {"question": "ready?"})]
    assert status == "ok"


async def test_a_lock_has_one_holder(desk: Desk) -> None:
    fence = await desk.lock("file:src/a.py", "one")
    with pytest.raises(Refusal) as refusal:
        await desk.lock("file:src/a.py", "two")
    await desk.unlock("file:src/a.py", "one")

    assert refusal.value.code == "lock_held"
    assert await desk.lock("file:src/a.py", "two") > fence


def _one(desk: Desk, name: str) -> object:
    """A list of one, as the library takes it; the command takes the name."""
    from tests.scenarios.desks import CommandDesk

    return name if isinstance(desk, CommandDesk) else (name,)
