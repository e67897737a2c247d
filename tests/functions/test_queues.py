"""Waiting tasks by priority: counted, estimated, cleared; and the agents in numbers."""

from __future__ import annotations

import asyncio

import pytest

from callboard.domain.task import priorities_of
from callboard.exceptions import InvalidArgument
from callboard.services.agents import Agents
from callboard.services.tasks import Tasks
from tests.functions.support import BOARD, MIRA, Stage, spec

pytestmark = pytest.mark.every_engine


async def no_wait(board: str, task: str) -> None:
    raise AssertionError("nobody waits here")


def tasks_of(stage: Stage) -> Tasks:
    return Tasks(stage.namespace, BOARD, no_wait)


async def sizes(stage: Stage, most: int = 2_000) -> list[int]:
    """Whether it is an estimate, and the five sizes from urgent to low."""
    return [int(value) for value in (await stage.call("task_queues", BOARD, most)).facts]


@pytest.mark.parametrize(
    ("priority", "name"),
    [
        (1_000, "urgent"),
        (30, "urgent"),
        (29, "critical"),
        (20, "critical"),
        (19, "high"),
        (10, "high"),
        (9, "normal"),
        (0, "normal"),
        (-1, "low"),
        (-1_000, "low"),
    ],
)
async def test_a_number_counts_as_the_name_at_or_below_it(
    stage: Stage, priority: int, name: str
) -> None:
    await stage.submit(spec("t", priority=priority))

    found = await tasks_of(stage).queues()
    assert (getattr(found, name), found.total) == (1, 1)
    low, high = priorities_of(name)
    assert low <= priority <= high


async def test_only_what_waits_in_a_lane_is_counted(stage: Stage) -> None:
    await stage.submit(spec("held", priority=50))
    await stage.claim(MIRA)
    await stage.submit(
        spec("waits"),
        spec("blocked", "waits"),
        spec("later", delay=60),
        spec("urgent", priority=30, kind="other"),
        spec("gone"),
    )
    await stage.cancel("gone")

    assert await sizes(stage) == [0, 1, 0, 0, 1, 0]


async def test_more_than_are_counted_are_estimated_lane_by_lane(stage: Stage) -> None:
    await stage.submit(*(spec(f"u{n}", kind="a", priority=30) for n in range(600)))
    await stage.submit(*(spec(f"l{n}", kind="b", priority=-10) for n in range(200)))

    exact, estimated = await sizes(stage, 800), await sizes(stage, 100)

    assert exact == [0, 600, 0, 0, 0, 200]
    assert estimated == [1, 600, 0, 0, 0, 200], "each lane has one priority here"


async def test_clearing_takes_what_waits_with_that_priority_and_nothing_else(
    stage: Stage,
) -> None:
    await stage.submit(spec("held", priority=10))
    await stage.claim(MIRA)
    await stage.submit(
        *(spec(f"h{n}", priority=10 + n) for n in range(3)),
        spec("normal"),
        spec("after", "h0", on_dependency_failure="skip"),
    )

    cleared = await tasks_of(stage).clear("high")

    statuses = {
        name: record.status.value if record else None
        for name, record in zip(
            ("held", "h0", "h1", "h2", "normal", "after"),
            await stage.records("held", "h0", "h1", "h2", "normal", "after"),
            strict=True,
        )
    }
    assert cleared == 3
    assert statuses == {
        "held": "claimed",
        "h0": "cancelled",
        "h1": "cancelled",
        "h2": "cancelled",
        "normal": "pending",
        "after": "cancelled",
    }
    assert await tasks_of(stage).clear("high") == 0


async def test_a_task_that_was_claimed_meanwhile_is_not_asked_to_stop(stage: Stage) -> None:
    await stage.submit(spec("t"))
    fence = await stage.held("t")

    words = (await stage.call("task_clear", BOARD, "ann", "why", 0, 9, 1, "t")).words

    assert words == ["not_waiting"]
    assert await stage.complete("t", fence) == "ok"


async def test_claims_and_clearing_share_no_task(stage: Stage) -> None:
    await stage.submit(*(spec(f"t{n}") for n in range(300)))

    async def claim_all() -> int:
        count = 0
        while grant := (await stage.claim(MIRA, 10)).ids:
            count += len(grant)
        return count

    claimed, cleared = await asyncio.gather(claim_all(), tasks_of(stage).clear("normal"))

    assert claimed + cleared == 300


@pytest.mark.parametrize("name", ["", "asap", 7], ids=repr)
async def test_a_priority_without_a_name_clears_nothing(stage: Stage, name: object) -> None:
    await stage.submit(spec("t"))

    with pytest.raises(InvalidArgument):
        await tasks_of(stage).clear(name)  # type: ignore[arg-type]

    assert await sizes(stage) == [0, 0, 0, 0, 1, 0]


async def test_the_census_passes_over_somebody_elses_key(stage: Stage) -> None:
    agents = Agents(stage.namespace)
    await agents.register("able", capabilities=("x", "y"), services=("s",), agent_type="monitor")
    await agents.set_status("able", "maintenance")
    await agents.register("spoilt")
    await stage.connection.call("DEL", f"{{{stage.namespace.name}}}:agent:spoilt")
    await stage.connection.call("SET", f"{{{stage.namespace.name}}}:agent:spoilt", "x")

    found = await agents.census()

    assert found.total == 4
    assert found.statuses == {"active": 2, "maintenance": 1}
    assert found.types["monitor"] == 1
    assert (found.services, found.capabilities) == (1, 2)
