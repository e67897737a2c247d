"""``GET /agents/{agent}/tasks/stream``: work for an agent that only reads and posts."""

from __future__ import annotations

import asyncio

import callboard
from callboard.app import Callboard
from callboard.domain.task import Status, TaskSpec
from callboard.http.live.settings import LiveSettings
from tests.http.live_support import sse
from tests.http.support import Served, serving
from tests.waiting import until


async def board_of(served: Served) -> Callboard:
    return await served.coordinator.board(served.coordinator.settings.namespace)


async def complete(served: Served, task: dict, result: object = None) -> None:
    await served.ok(
        "POST", f"/tasks/{task['id']}/complete", {"fence": task["fence"], "result": result}
    )


async def standing(cb: Callboard, task_id: str, status: Status) -> None:
    async def is_there() -> bool:
        return (await cb.tasks.get(task_id)).status is status

    await until(is_there)


async def test_an_agent_reads_a_task_completes_it_and_reads_the_next(served: Served) -> None:
    cb = await board_of(served)
    await cb.agents.register("mira")
    await cb.tasks.submit_many([TaskSpec(kind="greet", id=f"t{i}", payload=i) for i in range(5)])

    async with sse(served.port, "/agents/mira/tasks/stream") as stream:
        payloads = []
        for _ in range(5):
            task = (await stream.until("task")).json
            payloads.append(task["payload"])
            await complete(served, task, "done")

    assert payloads == [0, 1, 2, 3, 4]
    assert (await cb.tasks.get("t4")).result == "done"


async def test_no_more_unfinished_tasks_are_sent_than_were_asked_for(served: Served) -> None:
    cb = await board_of(served)
    await cb.agents.register("mira")
    await cb.tasks.submit_many([TaskSpec(kind="greet", id=f"t{i}") for i in range(5)])

    async with sse(served.port, "/agents/mira/tasks/stream?limit=2") as stream:
        first = (await stream.until("task")).json
        await stream.until("task")
        counts = (await cb.boards.get("default")).counts
        assert (counts.held, counts.pending) == (2, 3)
        await complete(served, first)
        third = (await stream.until("task")).json

    assert third["id"] == "t2"


async def test_work_that_comes_later_is_sent_at_once(served: Served) -> None:
    cb = await board_of(served)
    await cb.agents.register("mira")

    async with sse(served.port, "/agents/mira/tasks/stream?limit=3") as stream:
        loop = asyncio.get_running_loop()
        delays = []
        for i in range(5):
            await until_waiting(cb)
            began = loop.time()
            await cb.tasks.submit("greet", id=f"t{i}")
            task = (await stream.until("task")).json
            delays.append(loop.time() - began)
            await complete(served, task)

    assert min(delays) < 0.5, "the bell woke the stream; its poll comes after more than a second"


async def test_nothing_is_kept_for_an_agent_whose_stream_has_ended(served: Served) -> None:
    cb = await board_of(served)
    await cb.agents.register("mira")
    await cb.agents.register("noor")
    async with sse(served.port, "/agents/mira/tasks/stream"):
        await until_waiting(cb)

    await until_waiting(cb, 0)
    await cb.tasks.submit("greet", id="a")
    assert [one.id for one in (await cb.tasks.claim("noor")).tasks] == ["a"]


async def until_waiting(cb: Callboard, count: int = 1) -> None:
    key = f"{cb.namespace.keys.prefix}tasks:default:waiters"

    async def are_waiting() -> bool:
        return bool(await cb.namespace.connection.call("ZCARD", key) == count)

    await until(are_waiting)


async def test_what_was_not_begun_goes_to_others_after_the_stream_broke_and_counts_no_crash(
    valkey_url: str, namespace: str
) -> None:
    live = LiveSettings(grace=0.2)
    async with serving(valkey_url, namespace=namespace, live=live) as served:
        cb = await board_of(served)
        await cb.agents.register("mira")
        await cb.tasks.submit_many([TaskSpec(kind="greet", id="a"), TaskSpec(kind="greet", id="b")])
        async with sse(served.port, "/agents/mira/tasks/stream?limit=2&lease=600") as stream:
            a = (await stream.until("task")).json
            b = (await stream.until("task")).json
            assert a["is_ahead"] and b["is_ahead"]
            await served.ok("POST", "/tasks/a/start", {"fence": a["fence"]})

        await standing(cb, "b", Status.PENDING)
        begun, given_back = await cb.tasks.get("a"), await cb.tasks.get("b")

    assert (begun.status, begun.fence) == (Status.IN_PROGRESS, a["fence"])
    assert (given_back.crashes, given_back.failures) == (0, 0)


async def test_an_agent_that_comes_back_is_sent_what_it_holds_under_the_same_fence(
    valkey_url: str, namespace: str
) -> None:
    live = LiveSettings(grace=0.5)
    async with serving(valkey_url, namespace=namespace, live=live) as served:
        cb = await board_of(served)
        hub = (await served.coordinator.served(namespace)).hub
        await cb.agents.register("mira")
        await cb.tasks.submit("greet", id="a")
        async with sse(served.port, "/agents/mira/tasks/stream") as stream:
            block = await stream.until("task")
        await until(lambda: hub.leaving)

        async with sse(served.port, "/agents/mira/tasks/stream", last_event_id=block.id) as again:
            task = (await again.until("task")).json
            await until(lambda: not hub.leaving)
            await complete(served, task)

    assert (task["id"], task["fence"]) == ("a", block.json["fence"])


async def test_two_coordinators_one_takes_over_what_the_other_had_sent(
    valkey_url: str, namespace: str
) -> None:
    live = LiveSettings(grace=0.3)
    async with (
        serving(valkey_url, namespace=namespace, live=live) as one,
        serving(valkey_url, namespace=namespace, live=live) as other,
    ):
        cb = await board_of(one)
        hub = (await one.coordinator.served(namespace)).hub
        await cb.agents.register("mira")
        await cb.tasks.submit("greet", id="a")
        async with sse(one.port, "/agents/mira/tasks/stream") as stream:
            first = (await stream.until("task")).json
        await until(lambda: hub.leaving)
        async with sse(other.port, "/agents/mira/tasks/stream?resume=true") as again:
            second = (await again.until("task")).json
            await until(lambda: not hub.leaving and not hub._chores)
            await complete(other, second)

    assert second["fence"] == first["fence"]


async def test_a_cancellation_is_told_and_a_task_that_ended_elsewhere_makes_room(
    served: Served,
) -> None:
    cb = await board_of(served)
    await cb.agents.register("mira")
    await cb.tasks.submit("greet", id="a")

    async with sse(served.port, "/agents/mira/tasks/stream") as stream:
        task = (await stream.until("task")).json
        await cb.tasks.cancel("a")
        told = (await stream.until("cancel")).json
        await cb.tasks.confirm_cancel("a", fence=task["fence"])
        await cb.tasks.submit("greet", id="b")
        following = (await stream.until("task")).json

    assert told == {"id": "a", "fence": task["fence"]}
    assert following["id"] == "b"


async def test_an_agent_that_reads_nothing_new_still_counts_as_there(served: Served) -> None:
    cb = await board_of(served)
    await cb.agents.register("mira", heartbeat_interval=0.2)

    async with sse(served.port, "/agents/mira/tasks/stream"):
        first = (await cb.agents.get("mira")).last_heartbeat

        async def is_heard() -> bool:
            return (await cb.agents.get("mira")).last_heartbeat != first

        await until(is_heard)


async def test_an_agent_that_nobody_knows_is_told_so_before_the_stream_begins(
    served: Served,
) -> None:
    response = await served.client.get("/agents/nobody/tasks/stream")

    assert response.status_code == 404


async def test_with_renewals_a_lease_outlives_its_time_while_the_stream_is_open(
    served: Served,
) -> None:
    cb = await board_of(served)
    await cb.agents.register("mira")
    await cb.tasks.submit("greet", id="a")

    async with sse(served.port, "/agents/mira/tasks/stream?lease=0.6&renew=true") as stream:
        task = (await stream.until("task")).json
        began = (await cb.tasks.get("a")).until

        async def is_renewed() -> bool:
            return (await cb.tasks.get("a")).until != began

        await until(is_renewed)
        await complete(served, task)


async def test_an_agent_that_reads_its_work_is_brought_what_a_dispatcher_chose_for_it(
    valkey_url: str, namespace: str
) -> None:
    async with serving(valkey_url, namespace=namespace, dispatches=True) as served:
        cb = await board_of(served)
        await cb.agents.register("mira")
        await cb.tasks.submit_many([TaskSpec(kind="greet", id=f"t{i}") for i in range(20)])
        async with sse(served.port, "/agents/mira/tasks/stream?limit=2") as stream:
            for _ in range(20):
                await complete(served, (await stream.until("task")).json)

        counts = (await cb.boards.get("default")).counts
        agent = await cb.agents.get("mira")

    assert (counts.done, counts.unfinished) == (20, 0)
    assert agent.status == "active"


async def test_a_coordinator_that_stops_gives_back_at_once_what_was_not_begun(
    valkey_url: str, namespace: str
) -> None:
    async with callboard.connect(valkey_url, namespace=namespace, adopt=True) as cb:
        async with serving(valkey_url, namespace=namespace) as served:
            await cb.agents.register("mira")
            await cb.tasks.submit("greet", id="a")
            async with sse(served.port, "/agents/mira/tasks/stream?lease=600") as stream:
                await stream.until("task")
                served.coordinator.is_stopping.set()
                assert await stream.next_or_end() is None

        found = await cb.tasks.get("a")

    assert (found.status, found.crashes) == (Status.PENDING, 0)
