"""The roster as Python sees it, on a real engine."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from datetime import UTC, datetime
from typing import Any

import pytest

from callboard.domain.agent import AgentSpec, Instance, InstanceSpec, State
from callboard.domain.roster import Beat, Heard, Registration
from callboard.domain.task import Requirements, TaskSpec
from callboard.engine.codec import row_of
from callboard.engine.connection import Connection
from callboard.engine.functions import Functions
from callboard.engine.keys import Keys
from callboard.engine.namespace import Namespace
from callboard.exceptions import AgentNotFound, InvalidArgument, Refused, TooLarge
from callboard.services.agents import Agents
from callboard.services.claims import Holding

START_US = 1_700_000_000_000_000
START = datetime(2023, 11, 14, 22, 13, 20, tzinfo=UTC)


class Scene:
    """One namespace: its agents, the claiming side of a board, and a clock that tests move."""

    def __init__(self, connection: Connection, name: str) -> None:
        self.now_us = START_US
        self.keys = Keys(name)
        self.functions = Functions(connection, self.keys.format, clock=lambda: self.now_us)
        namespace = Namespace(name, connection, self.functions, self.keys)
        self.connection = connection
        self.agents = Agents(namespace)
        self.work = Holding(namespace, "default")

    async def pass_time(self, seconds: float) -> None:
        """Move the clock as if the namespace had been swept all the while."""
        self.now_us += round(seconds * 1e6)
        await self.functions.call("namespace_tick", 1000, 1)

    async def submit(self, *ids: str, **fields: Any) -> None:
        rows = [part for i in ids for part in row_of(TaskSpec(kind="work", id=i, **fields))]
        reply = await self.functions.call("task_submit", "default", len(ids), "", "", *rows)
        assert reply[0] == b"ok", reply


@pytest.fixture
async def scene(engine_url: str, namespace: str) -> AsyncIterator[Scene]:
    async with await Connection.open(engine_url) as connection:
        scene = Scene(connection, namespace)
        await scene.functions.call("namespace_open", "replication", "incarnation")
        yield scene


def process(name: str, slots: int = 1, prefetch: int = 0) -> InstanceSpec:
    return InstanceSpec(id=name, max_concurrent=slots, prefetch=prefetch)


# Registering


@pytest.mark.every_engine
async def test_an_agent_is_read_back_as_it_was_registered(scene: Scene) -> None:
    spec = AgentSpec(
        id="mira",
        agent_type="specialist",
        capabilities=("sql", "python"),
        services=("api",),
        labels={"zone": "eu"},
        kinds=("work",),
        tags=("blue",),
        endpoints={"http": "http://mira:1"},
        metadata={"team": ["a", 1, None], "empty": [], "big": 2**60},
        version="2.1",
        max_concurrent=7,
        heartbeat_interval=4.0,
    )

    registration = await scene.agents.register(spec)

    assert registration == Registration(
        agent="mira", instance="", is_new=True, revision=1, status="active", at=START
    )
    agent = await scene.agents.get("mira")
    for name in AgentSpec.__struct_fields__:
        if name != "status":
            assert getattr(agent, name) == getattr(spec, name), name
    assert (agent.status, agent.declared, agent.health, agent.instances) == (
        *("active", "active", 1.0),
        (),
    )
    assert (agent.capacity, agent.slots, agent.held, agent.reserved) == (7, 7, 0, 0)
    assert agent.registered_at == agent.last_heartbeat == agent.at == START


async def test_instances_are_read_back_oldest_first(scene: Scene) -> None:
    await scene.agents.register(
        "mira", instance=InstanceSpec(id="z", max_concurrent=4, prefetch=8, host="h1", pid=77)
    )
    await scene.pass_time(1)
    await scene.agents.register("mira", instance=process("a", 2))

    agent = await scene.agents.get("mira")

    assert [instance.id for instance in agent.instances] == ["z", "a"]
    assert agent.instances[0] == Instance(
        id="z",
        max_concurrent=4,
        prefetch=8,
        host="h1",
        pid=77,
        heartbeat_interval=10.0,
        registered_at=START,
        last_heartbeat=START,
    )
    assert (agent.capacity, agent.slots) == (14, 6)


async def test_registering_again_replaces_what_the_agent_can_serve(scene: Scene) -> None:
    await scene.agents.register("mira", capabilities=("old",))

    again = await scene.agents.register("mira", capabilities=("new",))

    assert (again.is_new, again.revision) == (False, 2)
    assert await scene.agents.discover(capabilities=["old"]) == ()
    assert [agent.id for agent in await scene.agents.discover(capabilities=["new"])] == ["mira"]


async def test_registering_again_serves_other_tasks_at_once(scene: Scene) -> None:
    await scene.submit("t1", requirements=Requirements(capabilities=("sql",)))
    await scene.agents.register("mira")
    before = await scene.work.claim("mira")

    await scene.agents.register("mira", capabilities=("sql",))

    assert before.status == "empty"
    assert [task.id for task in (await scene.work.claim("mira")).tasks] == ["t1"]


@pytest.mark.parametrize(
    ("fields", "said"),
    [
        ({"id": ""}, "agent '' is not a valid name. It is empty."),
        ({"id": "a/b"}, "agent 'a/b' is not a valid name"),
        ({"id": 5}, "agent must be a string, not int"),
        ({"agent_type": ""}, "agent_type is empty"),
        ({"capabilities": "python"}, "capabilities must be a list"),
        ({"labels": {"zone": ""}}, "Label zone"),
        ({"tags": ["a b"]}, "Tag 'a b'"),
        ({"endpoints": {"http": 1}}, "Endpoint http is 1"),
        ({"endpoints": {"http": "ftp://x"}}, "neither http:// nor https://"),
        ({"endpoints": {"http": "mira:9002"}}, "neither http:// nor https://"),
        ({"endpoints": {"http": "http://"}}, "must name a host"),
        ({"endpoints": {"https": "https://u:pw@mira"}}, "'https://***@mira'"),
        ({"endpoints": {"http": "http://mira:99999"}}, "its host or port is not valid"),
        ({"endpoints": {"http": "http://mira/\r\nx: y"}}, "control characters"),
        ({"endpoints": {"http": "http://mira/a b"}}, "spaces"),
        ({"endpoints": {"http": "http://mira/#a"}}, "fragment"),
        ({"endpoints": {"http": "http://" + "a" * 64}}, "its host is no name"),
        ({"endpoints": ["x"]}, "endpoints must be an object"),
        ({"metadata": [1]}, "metadata must be an object"),
        ({"metadata": {"a": object()}}, "metadata cannot be written as JSON"),
        ({"version": ""}, "version is ''"),
        ({"max_concurrent": 0}, "max_concurrent is 0"),
        ({"heartbeat_interval": 0}, "heartbeat_interval is 0"),
        ({"heartbeat_interval": -1.0}, "heartbeat_interval is -1.0"),
        ({"status": "lost"}, "Status 'lost' is none of"),
        ({"colour": "red"}, "An agent cannot be registered so"),
        ({"instance": InstanceSpec(id="")}, "instance '' is not a valid name"),
        ({"instance": InstanceSpec(id="i", max_concurrent=0)}, "instance.max_concurrent is 0"),
        ({"instance": InstanceSpec(id="i", prefetch=-1)}, "instance.prefetch is -1"),
        ({"instance": InstanceSpec(id="i", pid=-1)}, "pid is -1"),
        ({"instance": InstanceSpec(id="i", host="a|b")}, "host 'a|b'"),
    ],
)
async def test_a_bad_registration_names_the_thing_and_changes_nothing(
    scene: Scene, fields: dict[str, Any], said: str
) -> None:
    fields = dict(fields)
    with pytest.raises(InvalidArgument) as refused:
        await scene.agents.register(fields.pop("id", "mira"), **fields)

    assert said in str(refused.value)
    assert (await scene.agents.counts()).total == 0


async def test_metadata_is_bounded(scene: Scene) -> None:
    with pytest.raises(TooLarge, match="at most 65,536 are kept"):
        await scene.agents.register("mira", metadata={"a": "x" * 70_000})


async def test_too_many_instances_are_refused(scene: Scene) -> None:
    for number in range(1000):
        await scene.agents.register("mira", instance=process(f"i{number}"))

    with pytest.raises(Refused, match="too_many_instances|1,?000"):
        await scene.agents.register("mira", instance=process("one-more"))


# Heartbeats


async def test_a_heartbeat_says_whether_to_drain(scene: Scene) -> None:
    await scene.agents.register("mira", instance=process("i1"))

    before = await scene.agents.heartbeat("mira", "i1")
    assert await scene.agents.drain("mira", by="ops") == "active"
    after = await scene.agents.heartbeat("mira", "i1")

    assert (before.status, before.should_drain, before.at) == ("ok", False, START)
    assert (after.status, after.should_drain, after.is_ok) == ("drain", True, True)


async def test_a_heartbeat_of_nobody_is_an_error_with_the_cure(scene: Scene) -> None:
    await scene.agents.register("mira", instance=process("i1"))

    with pytest.raises(AgentNotFound, match="Register it first"):
        await scene.agents.heartbeat("nobody")
    with pytest.raises(AgentNotFound, match="Register it again"):
        await scene.agents.heartbeat("mira", "i2")


async def test_many_heartbeats_answer_each_for_itself(scene: Scene) -> None:
    await scene.agents.register("mira")

    heard = await scene.agents.heartbeat_many([Beat("mira"), Beat("nobody"), Beat("mira", "i9")])

    assert heard == (
        Heard("mira", "", "ok", START),
        Heard("nobody", "", "agent_not_found", START),
        Heard("mira", "i9", "instance_unknown", START),
    )
    assert await scene.agents.heartbeat_many([]) == ()
    with pytest.raises(TooLarge, match="At most 1,000 heartbeats"):
        await scene.agents.heartbeat_many([Beat("mira")] * 1001)


async def test_reported_load_is_merged_and_tells_on_health(scene: Scene) -> None:
    await scene.agents.register("mira")

    await scene.agents.report_load("mira", {"cpu": 0.95, "queue": 3})
    await scene.agents.report_load("mira", {"memory": 0.5})

    agent = await scene.agents.get("mira")
    assert agent.load == {"cpu": 0.95, "queue": 3.0, "memory": 0.5}
    assert agent.health == 0.7


# Going away


async def test_leaving_gives_work_back_without_a_crash(scene: Scene) -> None:
    await scene.agents.register("mira", instance=process("i1", 300))
    await scene.submit(*(f"t{number:03}" for number in range(300)))
    await scene.work.claim("mira", instance="i1", limit=300)

    given = await scene.agents.leave("mira", "i1")

    agent = await scene.agents.get("mira")
    assert given == 300
    assert (agent.held, agent.state, agent.gone, agent.gone_at) == (
        *(0, State.INACTIVE, "left"),
        START,
    )
    assert await scene.agents.leave("mira", "i1") == 0


async def test_a_process_that_dies_gives_its_work_to_another(scene: Scene) -> None:
    await scene.agents.register("mira", instance=process("i1"))
    await scene.agents.register("juno", instance=process("j1"))
    await scene.submit("t1")
    await scene.work.claim("mira", instance="i1", lease=3600)
    for _ in range(3):
        await scene.pass_time(10)
        await scene.agents.heartbeat("juno", "j1")

    assert await scene.agents.sweep() is False

    claims = await scene.work.claim("juno", instance="j1")
    mira = await scene.agents.get("mira")
    assert [(task.id, task.crashes) for task in claims.tasks] == [("t1", 1)]
    assert (mira.state, mira.status, mira.health) == (State.LOST, "inactive", 0.0)
    assert mira.reason == "mira was not heard for 30 s; what it held was given back."


async def test_deregistering_removes_the_agent(scene: Scene) -> None:
    await scene.agents.register("mira", instance=process("i1", 300))
    await scene.submit(*(f"t{number:03}" for number in range(300)))
    await scene.work.claim("mira", instance="i1", limit=300)

    assert await scene.agents.deregister("mira", by="ops") == 300

    with pytest.raises(AgentNotFound):
        await scene.agents.get("mira")
    with pytest.raises(AgentNotFound):
        await scene.agents.deregister("mira")
    with pytest.raises(AgentNotFound):
        await scene.agents.leave("mira", "i1")
    with pytest.raises(AgentNotFound):
        await scene.agents.set_status("mira", "active")


# Declaring


async def test_a_drained_agent_can_be_set_active_again(scene: Scene) -> None:
    await scene.agents.register("mira")
    await scene.submit(*(f"t{number:03}" for number in range(250)), suggested_worker="mira")
    assert (await scene.agents.get("mira")).reserved == 250

    await scene.agents.drain("mira")
    drained = await scene.agents.get("mira")
    previous = await scene.agents.set_status("mira", "active", load={"cpu": 0.5})

    active = await scene.agents.get("mira")
    assert (drained.reserved, drained.state, drained.takes_work) == (0, State.DRAINING, False)
    assert previous == "draining"
    assert (active.state, active.takes_work, active.load) == (State.STARTING, True, {"cpu": 0.5})


async def test_a_status_that_cannot_be_declared_is_refused(scene: Scene) -> None:
    await scene.agents.register("mira")

    with pytest.raises(InvalidArgument, match="none of active, inactive"):
        await scene.agents.set_status("mira", "suspect")


async def test_an_instances_bell_is_rung_when_it_should_drain(scene: Scene) -> None:
    await scene.agents.register("mira", instance=process("i1"))
    bell = scene.keys.agent_bell("mira", "i1")
    subscription = await scene.connection.subscribe(bell)

    await scene.agents.drain("mira")

    async with asyncio.timeout(10):
        while (rung := await subscription.get(10)) is None or not rung[1]:
            pass
    assert rung == (bell, b"draining")


# Finding


async def test_discovery_filters_and_orders(scene: Scene) -> None:
    await scene.agents.register("ada", capabilities=("python", "sql"), tags=("red",))
    await scene.agents.register("ben", capabilities=("python",), labels={"zone": "us"})
    await scene.agents.register("cyd", agent_type="monitor", services=("api",))
    await scene.agents.report_load("ada", {"cpu": 0.9})

    async def found(**query: Any) -> list[str]:
        return [agent.id for agent in await scene.agents.discover(**query)]

    assert await found() == ["ben", "cyd", "ada"]
    assert await found(capabilities=["python"]) == ["ben", "ada"]
    assert await found(capabilities=["sql", "python"], tags=["red"]) == ["ada"]
    assert await found(labels={"zone": "us"}, agent_type="worker", status="active") == ["ben"]
    assert await found(services=["api"]) == ["cyd"]
    assert await found(min_health=0.9, limit=1) == ["ben"]
    assert await found(agent_type="gateway") == []
    assert [agent.id for agent in await scene.agents.list()] == ["ben", "cyd", "ada"]
    counts = await scene.agents.counts()
    assert (counts.total, counts.active) == (3, 3)


@pytest.mark.parametrize(
    "query",
    [
        {"limit": 0},
        {"limit": 1001},
        {"limit": True},
        {"min_health": 1.1},
        {"min_health": "high"},
        {"status": "lost"},
        {"agent_type": "a b"},
        {"capabilities": "python"},
        {"tags": [""]},
        {"labels": []},
        {"labels": {"zone": 1}},
    ],
)
async def test_a_bad_query_is_refused(scene: Scene, query: dict[str, Any]) -> None:
    with pytest.raises(InvalidArgument):
        await scene.agents.discover(**query)


async def test_an_agent_that_somebody_wrote_by_hand_can_be_read(scene: Scene) -> None:
    await scene.agents.register("mira")
    key = f"{scene.keys.prefix}agent:mira"
    await scene.connection.call(
        *("HSET", key, "capabilities", "not json", "registration_time", "yesterday"),
        *("load_metrics", "[]", "metadata", "\xff", "interval_ms", "soon"),
        *("last_heartbeat", "2023-11-14"),
    )

    agent = await scene.agents.get("mira")

    assert (agent.capabilities, agent.load, agent.metadata) == ((), {}, {})
    assert agent.registered_at == agent.at
    assert [found.id for found in await scene.agents.list()] == ["mira"]


# States


async def test_an_agent_that_lets_reservations_lapse_is_not_consuming(scene: Scene) -> None:
    await scene.agents.register("mira", instance=process("i1"))
    await scene.pass_time(1)
    await scene.agents.heartbeat("mira", "i1")
    await scene.submit("t1", suggested_worker="mira")
    await scene.pass_time(10)
    await scene.agents.heartbeat("mira", "i1")
    await scene.functions.call("board_sweep", "default", 100)

    lapsed = await scene.agents.get("mira")
    await scene.work.claim("mira", instance="i1")
    claimed = await scene.agents.get("mira")

    assert (lapsed.state, lapsed.lapsed, lapsed.health) == (State.NOT_CONSUMING, 1, 0.9)
    assert (claimed.state, claimed.lapsed, claimed.held) == (State.BUSY, 0, 1)


async def test_the_ladder_follows_what_is_seen(scene: Scene) -> None:
    async def state() -> State:
        return (await scene.agents.get("mira")).state

    await scene.agents.register("mira", instance=process("i1", 2))
    starting = await state()
    await scene.pass_time(1)
    await scene.agents.heartbeat("mira", "i1")
    active = await state()
    await scene.pass_time(16)
    suspect = await state()
    silent_for = (await scene.agents.get("mira")).silent_for
    await scene.pass_time(14)
    await scene.agents.sweep()

    assert (starting, active, suspect) == (State.STARTING, State.ACTIVE, State.SUSPECT)
    assert silent_for == 16.0
    assert await state() is State.LOST
