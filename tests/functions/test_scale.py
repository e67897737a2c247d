"""Large graphs: chains, fans, and the bound of the check for cycles."""

from __future__ import annotations

from typing import Any

import pytest

from tests.functions.support import Stage, spec


async def test_a_fan_of_10000_and_in_again(stage: Stage) -> None:
    names = [f"t{i}" for i in range(10_000)]
    await stage.submit_all([spec("root"), *(spec(name, "root") for name in names)])
    await stage.submit(spec("end", *names))
    await stage.complete("root", await stage.held("root"))
    await stage.cascade()

    while (grant := await stage.claim(limit=1_000)).tasks:
        rows = [(task.id, task.fence, "1") for task in grant.tasks]
        assert {*await stage.each("task_complete", *rows)} == {"ok"}
        await stage.cascade()
        if grant.ids == ["end"]:
            break

    assert grant.ids == ["end"]


@pytest.mark.parametrize("how", ["done", "failed"])
async def test_a_chain_of_10000_ends(stage: Stage, how: str) -> None:
    size = 10_000
    await stage.submit_all(spec(f"t{i}", *([f"t{i - 1}"] if i else [])) for i in range(size))

    if how == "failed":
        await stage.fail("t0", await stage.held("t0"), retryable=False)
        await stage.cascade()
    else:
        done: list[tuple[str, int, Any]] = []
        for i in range(size):
            stage.now += 1
            _, _, grant = await stage.step(done=done, limit=1)
            assert grant.ids == [f"t{i}"]
            done = [(grant.ids[0], grant.fences[0], "1")]
        await stage.step(done=done)

    counts = await stage.counts()
    assert counts[how] == counts["total"] == size


async def test_submit_answers_when_the_check_for_cycles_gets_too_large(stage: Stage) -> None:
    await stage.submit(spec("waits", "t20001"))
    await stage.submit_all(spec(f"t{i}", *([f"t{i - 1}"] if i else [])) for i in range(20_001))

    reply = await stage.submit(spec("t20001", "t20000"))

    assert (reply.status, reply.facts) == ("graph_too_large", ["20000"])
    assert await stage.status("t20001") == "gone"
