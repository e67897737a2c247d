"""The functions of the roster, each status that they can return, on a real engine."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator
from typing import Any

import pytest

from callboard.engine.connection import Connection
from callboard.engine.functions import Functions
from callboard.engine.keys import Keys

pytestmark = pytest.mark.every_engine

START_US = 1_700_000_000_000_000
INTERVAL_MS = 10_000
LOST_S = 30.0


class Roster:
    """The functions of one namespace, with a clock that tests move and replies as text."""

    def __init__(self, connection: Connection, namespace: str) -> None:
        self.connection = connection
        self.keys = Keys(namespace)
        self.now_us = START_US
        self.functions = Functions(connection, self.keys.format, clock=lambda: self.now_us)

    async def call(self, name: str, *arguments: Any) -> list[Any]:
        reply: list[Any] = plain(await self.functions.call(name, *arguments))
        return reply

    async def raw(self, *command: Any) -> Any:
        name, key, *rest = command
        return plain(await self.connection.call(name, self.keys.prefix + key, *rest))

    async def pass_time(self, seconds: float) -> None:
        """Move the clock as if the namespace had been swept all the while: no gap, no grace."""
        self.now_us += round(seconds * 1e6)
        await self.call("namespace_tick", 1000, 1)

    def skip_time(self, seconds: float) -> None:
        """Move the clock as if nothing had run meanwhile."""
        self.now_us += round(seconds * 1e6)

    async def register(
        self,
        agent: str = "mira",
        instance: str = "",
        *,
        profile: str = "worker;;;;",
        status: str = "",
        slots: int = 100,
        prefetch: int = 0,
        interval_ms: int = INTERVAL_MS,
        **fields: str,
    ) -> list[Any]:
        rows = [part for pair in fields.items() for part in pair]
        return await self.call(
            *("agent_register", agent, profile, status, 100, interval_ms),
            *(instance, slots, prefetch, "", "", *rows),
        )

    async def beat(self, agent: str = "mira", instance: str = "", load: str = "") -> str:
        reply = await self.call("agent_heartbeat", 1, agent, instance, load)
        assert reply[0] == "ok"
        return str(reply[2])

    async def read(self, agent: str = "", **filters: Any) -> dict[str, dict[str, Any]]:
        names = ("agent_type", "status", "capabilities", "services", "labels", "tags")
        values = [filters.get(name, "") for name in names]
        limits = (filters.get("min_health", 0), filters.get("limit", 100))
        reply = await self.call("agent_read", agent, *values, *limits)
        if reply[0] != "ok":
            return {"": {"status": reply[0]}}
        found = {}
        for i in range(0, len(reply[3]), 6):
            health, held, parked, reserved, flat, instances = reply[3][i : i + 6]
            fields = dict(zip(flat[::2], flat[1::2], strict=True))
            found[fields["agent_id"]] = fields | {
                "health": float(health),
                "held": held,
                "parked": parked,
                "reserved": reserved,
                "instances": sorted(instances[::3]),
            }
        return found

    async def submit(self, *ids: str, lane: str = "work;;;;", spec: str = "") -> None:
        rows = [part for i in ids for part in (i, '{"kind":"work"}', f"||{lane}|0||{spec}", "", "")]
        assert (await self.call("task_submit", "default", len(ids), "", "", *rows))[0] == "ok"

    async def reserve(self, agent: str, *ids: str) -> None:
        for task in ids:
            options = f"s={agent}|60000"
            row = (task, '{"kind":"work"}', "||work;;;;|0||", options, "")
            assert (await self.call("task_submit", "default", 1, "", "", *row))[0] == "ok"

    async def claim(
        self, agent: str, instance: str, limit: int, started: int | None = None
    ) -> list[str]:
        started = limit if started is None else started
        reply = await self.call(
            "task_claim", "default", agent, instance, "", limit, started, 0, 3_600_000
        )
        assert reply[0] in ("ok", "empty", "agent_full"), reply
        return [str(task) for task in reply[2::5]]

    async def record(self, task: str) -> list[str]:
        raw = await self.raw("HGET", "tasks:default:state", task)
        fields: list[str] = raw.split("|")
        return fields

    async def events(self, kind: str) -> list[str]:
        entries = await self.raw("XRANGE", "events", "-", "+")
        return [fields[9] for _, fields in entries if fields[1] == kind]


def plain(value: Any) -> Any:
    if isinstance(value, bytes):
        return value.decode()
    if isinstance(value, dict):
        return {plain(name): plain(part) for name, part in value.items()}
    return [plain(part) for part in value] if isinstance(value, list) else value


@pytest.fixture
async def roster(engine_url: str, namespace: str) -> AsyncIterator[Roster]:
    async with await Connection.open(engine_url) as connection:
        roster = Roster(connection, namespace)
        await roster.call("namespace_open", "replication", "incarnation")
        yield roster


# What others read with plain commands


async def test_a_registered_agent_is_a_hash_and_a_member_of_the_active_set(roster: Roster) -> None:
    await roster.register(
        agent_type="worker",
        capabilities='["python"]',
        services="[]",
        endpoints='{"http": "http://mira:1"}',
        metadata='{"a":[1]}',
        tags='["x"]',
        labels="{}",
        version="1.0.0",
    )

    assert await roster.raw("HGETALL", "agent:mira") == {
        "agent_id": "mira",
        "agent_type": "worker",
        "status": "active",
        "declared": "active",
        "alone": "1",
        "capabilities": '["python"]',
        "services": "[]",
        "endpoints": '{"http": "http://mira:1"}',
        "metadata": '{"a":[1]}',
        "tags": '["x"]',
        "labels": "{}",
        "version": "1.0.0",
        "last_heartbeat": "2023-11-14T22:13:20.000Z",
        "registration_time": "2023-11-14T22:13:20.000Z",
        "load_metrics": "{}",
        "health_score": "1.000",
        "max_concurrent": "100",
        "claim_limit": "100",
        "ready_limit": "100",
        "interval_ms": "10000",
        "profile": "worker;;;;",
        "indexed": "",
        "revision": "1",
    }
    assert await roster.raw("SISMEMBER", "agents:active", "mira") == 1
    assert await roster.raw("ZRANGE", "agents:known", 0, -1) == ["mira"]


@pytest.mark.parametrize(
    ("status", "is_active"),
    [
        ("active", 1),
        ("busy", 1),
        ("inactive", 0),
        ("maintenance", 0),
        ("error", 0),
        ("draining", 0),
    ],
)
async def test_the_active_set_has_those_that_may_claim(
    roster: Roster, status: str, is_active: int
) -> None:
    await roster.register()

    assert (await roster.call("agent_set_status", "mira", status, "", ""))[0] == "ok"

    assert await roster.raw("SISMEMBER", "agents:active", "mira") == is_active
    assert await roster.raw("HGET", "agent:mira", "status") == status


# Registering


async def test_registering_again_updates_and_keeps_the_first_registration_time(
    roster: Roster,
) -> None:
    created = await roster.register()
    await roster.pass_time(5)

    updated = await roster.register(profile="worker;python;;;")

    ms = START_US // 1000
    assert created == ["ok", ms, 1, "created", "active"]
    assert updated == ["ok", ms + 5_000, 2, "updated", "active"]
    assert (await roster.read("mira"))["mira"]["profile"] == "worker;python;;;"
    assert await roster.raw("HGET", "agent:mira", "registration_time") == "2023-11-14T22:13:20.000Z"
    assert await roster.raw("HGET", "agent:mira", "last_heartbeat") == "2023-11-14T22:13:25.000Z"


async def test_the_same_profile_again_is_the_same_revision(roster: Roster) -> None:
    await roster.register()

    assert (await roster.register())[2] == 1


@pytest.mark.parametrize(
    ("declared", "after"),
    [("draining", "draining"), ("maintenance", "maintenance"), ("error", "active")],
)
async def test_registering_again_keeps_what_an_operator_declared(
    roster: Roster, declared: str, after: str
) -> None:
    await roster.register()
    await roster.call("agent_set_status", "mira", declared, "", "")

    assert (await roster.register())[4] == after
    assert (await roster.register(status="active"))[4] == "active"


async def test_another_profile_beside_a_live_instance_is_a_conflict_and_the_last_wins(
    roster: Roster,
) -> None:
    await roster.register(instance="i1", profile="worker;a;;;")
    await roster.register(instance="i2", profile="worker;b;;;")

    assert await roster.events("agent:conflict") == [
        "mira|active|mira/i2|0|worker;a;;; worker;b;;;"
    ]
    assert (await roster.read("mira"))["mira"]["profile"] == "worker;b;;;"


async def test_another_profile_without_another_live_instance_is_no_conflict(
    roster: Roster,
) -> None:
    await roster.register(instance="i1", profile="worker;a;;;")
    await roster.register(instance="i1", profile="worker;b;;;")
    await roster.call("agent_leave", "mira", "i1")
    await roster.register(instance="i2", profile="worker;c;;;")

    assert await roster.events("agent:conflict") == []


async def test_capacity_is_the_sum_over_live_instances(roster: Roster) -> None:
    await roster.register(instance="i1", slots=4, prefetch=6)
    await roster.register(instance="i2", slots=1, prefetch=2)

    agent = (await roster.read("mira"))["mira"]
    assert (agent["claim_limit"], agent["ready_limit"]) == ("13", "5")
    await roster.submit(*(f"t{n}" for n in range(20)))
    assert len(await roster.claim("mira", "i1", 20)) == 13


async def test_capacity_shrinks_when_an_instance_leaves(roster: Roster) -> None:
    await roster.register(instance="i1", slots=4, prefetch=6)
    await roster.register(instance="i2", slots=1, prefetch=2)

    await roster.call("agent_leave", "mira", "i1")

    agent = (await roster.read("mira"))["mira"]
    assert (agent["claim_limit"], agent["ready_limit"]) == ("3", "1")


async def test_a_named_instance_takes_over_from_heartbeats_by_id(roster: Roster) -> None:
    await roster.register(slots=100)
    await roster.register(instance="i1", slots=2)

    agent = (await roster.read("mira"))["mira"]
    assert agent["instances"] == ["i1"]
    assert agent["claim_limit"] == "2"


async def test_an_agent_with_live_instances_gets_no_capacity_from_its_name(
    roster: Roster,
) -> None:
    await roster.register()
    await roster.submit(*(f"t{number:03}" for number in range(100)))
    await roster.claim("mira", "", 100)
    await roster.register(instance="i1", slots=2)
    await roster.register()

    agent = (await roster.read("mira"))["mira"]
    assert (agent["instances"], agent["claim_limit"], agent["held"]) == (["i1"], "2", 0)
    assert await roster.beat() == "ok"
    assert (await roster.read("mira"))["mira"]["instances"] == ["i1"]


async def test_an_agent_has_at_most_a_thousand_instances(roster: Roster) -> None:
    for number in range(1000):
        assert (await roster.register(instance=f"i{number}"))[0] == "ok"

    assert await roster.register(instance="one-more") == ["too_many_instances", 1000]
    assert (await roster.register(instance="i7"))[0] == "ok"


# Heartbeats


async def test_heartbeat_answers_each_for_itself(roster: Roster) -> None:
    await roster.register("mira", "i1")
    await roster.register("juno")
    await roster.call("agent_set_status", "juno", "draining", "", "")

    beats = [("mira", "i1"), ("mira", "i2"), ("juno", ""), ("nobody", "")]
    rows = [part for agent, instance in beats for part in (agent, instance, "")]
    reply = await roster.call("agent_heartbeat", len(beats), *rows)

    assert reply == ["ok", START_US // 1000, "ok,instance_unknown,drain,agent_not_found"]


@pytest.mark.parametrize("status", ["draining", "maintenance", "busy", "error", "inactive"])
async def test_a_heartbeat_never_overrides_what_was_declared(roster: Roster, status: str) -> None:
    await roster.register()
    await roster.call("agent_set_status", "mira", status, "", "")

    await roster.beat()

    assert await roster.raw("HGET", "agent:mira", "status") == status


async def test_reported_load_is_merged_by_name(roster: Roster) -> None:
    await roster.register()

    await roster.beat(load="cpu=0.5,queue=12")
    await roster.beat(load="cpu=0.25,memory=0.125")

    merged = await roster.raw("HGET", "agent:mira", "load_metrics")
    assert merged == '{"cpu":0.25,"queue":12,"memory":0.125}'


async def test_a_claim_and_a_renewal_are_heartbeats_of_the_instance(roster: Roster) -> None:
    await roster.register(instance="i1")
    for _ in range(4):
        await roster.pass_time(9)
        await roster.claim("mira", "i1", 1)
        await roster.call("agent_sweep", 100)
    for _ in range(4):
        await roster.pass_time(9)
        await roster.call("task_renew", "default", "mira", "i1", 30_000, 0)
        await roster.call("agent_sweep", 100)

    assert (await roster.read("mira"))["mira"]["instances"] == ["i1"]


async def test_a_claim_does_not_revive_a_swept_instance(roster: Roster) -> None:
    await roster.register(instance="i1")
    await roster.register(instance="i2")
    await roster.call("agent_leave", "mira", "i1")

    await roster.claim("mira", "i1", 1)

    assert await roster.beat(instance="i1") == "instance_unknown"
    assert await roster.raw("ZRANGE", "agents:heartbeats", 0, -1) == ["mira/i2"]


# Losing instances


async def lose_time(roster: Roster, *live: tuple[str, str], seconds: float = LOST_S) -> list[Any]:
    """Let time pass with only *live* heard, then sweep until nothing is left."""
    for _ in range(round(seconds / 5)):
        await roster.pass_time(5)
        for agent, instance in live:
            await roster.beat(agent, instance)
    reply = await roster.call("agent_sweep", 100)
    first = reply
    while reply[1]:
        reply = await roster.call("agent_sweep", 100)
    return first


async def test_an_instance_is_lost_after_three_intervals_and_not_before(roster: Roster) -> None:
    await roster.register(instance="i1")

    await roster.pass_time(29.999)
    early = await roster.call("agent_sweep", 100)
    await roster.pass_time(0.001)
    late = await roster.call("agent_sweep", 100)

    assert early == ["ok", "", 0, 0]
    assert late == ["ok", "", 1, 1]
    assert await roster.events("agent:instance_lost") == ["mira|lost|mira/i1|0"]
    assert await roster.events("agent:lost") == ["mira|inactive|mira|0"]
    assert await roster.raw("SISMEMBER", "agents:active", "mira") == 0
    assert (await roster.raw("HMGET", "agent:mira", "status", "health_score")) == [
        "inactive",
        "0.000",
    ]
    assert await roster.beat(instance="i1") == "instance_unknown"


async def test_a_lost_instance_gives_its_tasks_back_and_each_counts_a_crash(
    roster: Roster,
) -> None:
    await roster.register(instance="i1", slots=10)
    await roster.register(instance="i2", slots=10)
    await roster.submit("t1", "t2", "t3")
    assert await roster.claim("mira", "i1", 2, started=1) == ["t1", "t2"]
    assert await roster.claim("mira", "i2", 1) == ["t3"]

    await lose_time(roster, ("mira", "i2"))

    started, ahead, other = [await roster.record(task) for task in ("t1", "t2", "t3")]
    assert (started[0], started[11], started[12]) == ("p", "1", "i1")
    assert (ahead[0], ahead[11], ahead[13]) == ("p", "0", "ZV")
    assert (other[0], other[3]) == ("c", "mira/i2")
    assert await roster.events("task:lease_lost") == [
        f"t1|pending|mira/i1|{started[2]}|1\nt2|pending|mira/i1|{ahead[2]}|0"
    ]
    assert await roster.raw("ZRANGE", "held:mira", 0, -1) == ["default:t3"]
    assert await roster.raw("SISMEMBER", "agents:active", "mira") == 1
    assert (await roster.read("mira"))["mira"]["claim_limit"] == "10"


async def test_parked_tasks_of_a_lost_instance_are_given_back(roster: Roster) -> None:
    await roster.register(instance="i1")
    await roster.submit("t1")
    await roster.claim("mira", "i1", 1)
    fence = (await roster.record("t1"))[2]
    assert await roster.call("task_park", "default", "mira/i1", "t1", fence, 1) == ["ok"]

    await lose_time(roster)

    assert (await roster.record("t1"))[0] == "p"
    assert await roster.raw("ZCARD", "parked:mira") == 0


async def test_a_lost_agent_gives_its_reservations_back(roster: Roster) -> None:
    await roster.register(instance="i1")
    await roster.reserve("mira", "t1", "t2")
    assert (await roster.record("t1"))[0] == "a"

    await lose_time(roster)

    assert [(await roster.record(task))[0] for task in ("t1", "t2")] == ["p", "p"]
    assert await roster.raw("ZCARD", "reserved:mira") == 0
    assert await roster.raw("HGET", "agent:mira", "lapsed") is None


async def test_a_lost_agent_may_not_claim_until_it_registers_again(roster: Roster) -> None:
    await roster.register(instance="i1")
    await lose_time(roster)

    refused = await roster.call("task_claim", "default", "mira", "i1", "", 1, 1, 0, 30_000)
    again = await roster.register(instance="i1")

    assert refused == ["instance_unknown"]
    assert again[3:] == ["updated", "active"]
    assert await roster.claim("mira", "i1", 1) == []
    assert await roster.raw("SISMEMBER", "agents:active", "mira") == 1


async def test_what_is_held_goes_back_in_bounded_pieces(roster: Roster) -> None:
    await roster.register(instance="i1", slots=1_000)
    await roster.register(instance="i2", slots=1_000)
    tasks = [f"t{number:03}" for number in range(450)]
    await roster.submit(*tasks)
    await roster.claim("mira", "i1", 100)
    await roster.claim("mira", "i2", 100)
    await roster.claim("mira", "i1", 250)
    for _ in range(6):
        await roster.pass_time(5)
        await roster.beat(instance="i2")

    left = []
    for _ in range(3):
        reply = await roster.call("agent_sweep", 100)
        left.append((reply[1], await roster.raw("ZCARD", "held:mira")))

    assert left == [("more", 250), ("", 100), ("", 100)]
    assert (await roster.read("mira"))["mira"]["instances"] == ["i2"]
    assert await roster.events("agent:instance_lost") == ["mira|lost|mira/i1|0"]


async def test_more_than_a_page_of_others_tasks_does_not_hide_what_an_instance_held(
    roster: Roster,
) -> None:
    await roster.register(instance="i1", slots=2_000)
    await roster.register(instance="i2", slots=2_000)
    for start in range(0, 2_100, 700):
        await roster.submit(*(f"t{number:04}" for number in range(start, start + 700)))
    for _ in range(2):
        await roster.claim("mira", "i2", 1_000)
    assert len(await roster.claim("mira", "i1", 1_000)) == 100

    given = 0
    for _ in range(10):
        reply = await roster.call("agent_leave", "mira", "i1")
        given += reply[2]
        if not reply[1]:
            break

    assert given == 100
    assert await roster.raw("ZCARD", "held:mira") == 2_000


async def test_an_agent_by_its_id_alone_is_lost_and_comes_back_by_a_heartbeat(
    roster: Roster,
) -> None:
    await roster.register()
    await roster.submit("t1")
    await roster.claim("mira", "", 1)
    await lose_time(roster)
    assert (await roster.record("t1"))[0] == "p"
    assert (await roster.read("mira"))["mira"]["gone"] == "lost"

    assert await roster.beat() == "ok"

    agent = (await roster.read("mira"))["mira"]
    assert (agent["status"], agent.get("gone"), agent["claim_limit"]) == ("active", None, "100")
    assert await roster.raw("SISMEMBER", "agents:active", "mira") == 1
    assert await roster.events("agent:instance_lost") == []
    assert await roster.events("agent:lost") == ["mira|inactive|mira|0"]
    assert await roster.events("agent:status") == ["mira|active|mira|0|returned"]
    assert await roster.claim("mira", "", 1) == ["t1"]


async def test_a_draining_agent_that_was_lost_still_drains_when_it_returns(roster: Roster) -> None:
    await roster.register()
    await roster.call("agent_set_status", "mira", "draining", "", "")
    await lose_time(roster)

    assert await roster.beat() == "drain"
    assert await roster.raw("HGET", "agent:mira", "status") == "draining"


async def test_after_a_gap_nobody_is_lost_until_the_grace_has_passed(roster: Roster) -> None:
    await roster.register(instance="i1")
    await roster.register(instance="i2")
    await roster.pass_time(1)
    roster.skip_time(600)

    in_gap = await roster.call("agent_sweep", 100)
    # The grace of leases (10 s), and one interval more to be heard in.
    await roster.pass_time(19)
    await roster.beat(instance="i1")
    in_grace = await roster.call("agent_sweep", 100)
    await roster.pass_time(1)
    after = await roster.call("agent_sweep", 100)

    assert (in_gap, in_grace, after) == (["ok", "", 0, 0], ["ok", "", 0, 0], ["ok", "", 1, 0])
    assert (await roster.read("mira"))["mira"]["instances"] == ["i1"]


async def test_an_instance_overdue_before_the_gap_has_no_grace(roster: Roster) -> None:
    await roster.register(instance="i1")
    await roster.pass_time(40)
    roster.skip_time(600)

    assert await roster.call("agent_sweep", 100) == ["ok", "", 1, 1]


async def test_instances_of_one_agent_may_have_intervals_of_their_own(roster: Roster) -> None:
    await roster.register(instance="slow", interval_ms=60_000)
    await roster.register(instance="fast", interval_ms=1_000)

    await roster.pass_time(3)
    reply = await roster.call("agent_sweep", 100)

    assert reply == ["ok", "", 1, 0]
    assert (await roster.read("mira"))["mira"]["instances"] == ["slow"]


async def test_a_sweep_looks_at_a_bounded_number_of_agents(roster: Roster) -> None:
    for number in range(5):
        await roster.register(f"a{number}", "i1")
    await roster.pass_time(LOST_S)

    assert await roster.call("agent_sweep", 3) == ["ok", "more", 3, 3]
    assert await roster.call("agent_sweep", 3) == ["ok", "", 2, 2]


async def test_a_sweep_brings_health_up_to_date_within_an_interval(roster: Roster) -> None:
    await roster.register(instance="i1")
    await roster.pass_time(20)

    await roster.call("agent_sweep", 100)

    # Half of the two intervals after the first have passed: 1 - 0.5 * 0.5.
    assert await roster.raw("HGET", "agent:mira", "health_score") == "0.750"


async def test_a_lost_agent_is_forgotten_after_a_day(roster: Roster) -> None:
    await roster.register(instance="i1")
    await lose_time(roster)
    await roster.pass_time(86_399)
    assert await roster.call("agent_sweep", 100) == ["ok", "", 0, 0]
    assert "mira" in await roster.read("mira")

    await roster.pass_time(1)
    await roster.call("agent_sweep", 100)

    assert await roster.read("mira") == {"": {"status": "agent_not_found"}}
    assert await roster.events("agent:deregistered") == ["mira|deregistered|mira|0"]


async def test_a_foreign_value_under_an_agents_name_stops_no_sweep(roster: Roster) -> None:
    await roster.register("mira", "i1")
    await roster.register("juno", "i1")
    await roster.raw("DEL", "agent:mira")
    await roster.raw("SET", "agent:mira", "mine")
    await roster.pass_time(LOST_S)

    assert sorted(await roster.read()) == ["juno"]
    assert await roster.call("agent_sweep", 100) == ["ok", "", 1, 1]
    assert await roster.raw("GET", "agent:mira") == "mine"


# Leaving


async def test_leaving_releases_what_was_held_and_counts_no_crash(roster: Roster) -> None:
    await roster.register(instance="i1", slots=10)
    await roster.submit("t1", "t2")
    await roster.claim("mira", "i1", 2)

    reply = await roster.call("agent_leave", "mira", "i1")

    record = await roster.record("t1")
    assert reply == ["ok", "", 2]
    assert (record[0], record[1], record[10], record[11], record[12]) == ("p", "1", "0", "0", "")
    assert await roster.events("task:released") == [
        f"t1|pending|mira/i1|{record[2]}\nt2|pending|mira/i1|{int(record[2]) + 1}"
    ]
    assert await roster.events("task:lease_lost") == []
    assert await roster.events("agent:lost") == []
    assert await roster.events("agent:status") == ["mira|inactive|mira/i1|0|left"]
    assert await roster.raw("HGET", "agent:mira", "gone") == "left"


async def test_reservations_go_back_when_the_last_instance_leaves(roster: Roster) -> None:
    await roster.register(instance="i1")
    await roster.register(instance="i2")
    await roster.reserve("mira", "t1")

    await roster.call("agent_leave", "mira", "i1")
    with_another = (await roster.record("t1"))[0]
    reply = await roster.call("agent_leave", "mira", "i2")

    assert with_another == "a"
    assert reply == ["ok", "", 1]
    assert (await roster.record("t1"))[0] == "p"


async def test_released_work_goes_to_a_waiting_agent_and_not_to_the_one_that_leaves(
    roster: Roster,
) -> None:
    await roster.register("mira", "i1")
    await roster.register("juno", "j1")
    await roster.submit("t1")
    await roster.claim("mira", "i1", 1)
    for agent, instance in (("mira", "i1"), ("juno", "j1")):
        waiting = await roster.call(
            "task_claim", "default", agent, instance, "", 1, 1, 60_000, 30_000
        )
        assert waiting[0] == "empty"

    await roster.call("agent_leave", "mira", "i1")

    assert (await roster.record("t1"))[3] == "juno"


async def test_a_cancellation_asked_for_is_kept_when_the_holder_leaves(roster: Roster) -> None:
    await roster.register(instance="i1")
    await roster.submit("t1")
    await roster.claim("mira", "i1", 1)
    asked = await roster.call("task_cancel", "default", "ops", "no need", 1, "t1", "")
    assert asked == ["ok", "", "requested"]

    await roster.call("agent_leave", "mira", "i1")

    assert (await roster.record("t1"))[0] == "x"


async def test_an_instance_that_left_is_offered_nothing_more(roster: Roster) -> None:
    await roster.submit("t1", lane="other;nobody;;;")
    for instance in ("i1", "i2"):
        await roster.register(instance=instance)
        await roster.call("task_claim", "default", "mira", instance, "", 1, 1, 60_000, 30_000)

    await roster.call("agent_leave", "mira", "i1")

    assert await roster.raw("ZRANGE", "tasks:default:waiters", 0, -1) == ["mira/i2"]


async def test_leaving_twice_or_unknown_is_told(roster: Roster) -> None:
    await roster.register(instance="i1")
    await roster.call("agent_leave", "mira", "i1")

    assert await roster.call("agent_leave", "mira", "i1") == ["instance_unknown"]
    assert await roster.call("agent_leave", "nobody", "i1") == ["agent_not_found"]


async def test_a_leaving_cut_short_is_worked_off_by_the_sweep(roster: Roster) -> None:
    await roster.register(instance="i1", slots=1_000)
    await roster.submit(*(f"t{number:03}" for number in range(300)))
    await roster.claim("mira", "i1", 300)

    assert await roster.call("agent_leave", "mira", "i1") == ["ok", "more", 200]
    assert await roster.beat(instance="i1") == "instance_unknown"
    assert await roster.call("agent_sweep", 100) == ["ok", "", 0, 0]

    assert await roster.events("agent:status") == ["mira|inactive|mira/i1|0|left"]
    assert await roster.raw("ZCARD", "held:mira") == 0
    assert await roster.events("task:lease_lost") == []


async def test_a_leaving_in_pieces_is_one_event(roster: Roster) -> None:
    await roster.register(instance="i1", slots=1_000)
    await roster.submit(*(f"t{number:03}" for number in range(500)))
    await roster.claim("mira", "i1", 500)

    replies = [await roster.call("agent_leave", "mira", "i1") for _ in range(3)]

    assert replies == [["ok", "more", 200], ["ok", "more", 200], ["ok", "", 100]]
    assert await roster.events("agent:status") == ["mira|inactive|mira/i1|0|left"]


async def test_an_instance_that_is_leaving_is_no_party_to_a_conflict(
    roster: Roster,
) -> None:
    await roster.register(instance="i1", slots=1_000)
    await roster.submit(*(f"t{number:03}" for number in range(300)))
    await roster.claim("mira", "i1", 300)
    await roster.call("agent_leave", "mira", "i1")

    other = await roster.register(instance="i2", profile="worker;b;;;")

    assert other[4] == "active"
    assert await roster.events("agent:conflict") == []


async def test_an_instance_that_is_leaving_may_come_back_and_keeps_the_rest(
    roster: Roster,
) -> None:
    await roster.register(instance="i1", slots=1_000)
    await roster.submit(*(f"t{number:03}" for number in range(300)))
    await roster.claim("mira", "i1", 300)
    await roster.call("agent_leave", "mira", "i1")

    again = await roster.register(instance="i1", slots=7)

    agent = (await roster.read("mira"))["mira"]
    assert again[4] == "active"
    assert (agent["status"], agent["claim_limit"], agent["held"]) == ("active", "7", 100)
    assert await roster.raw("SISMEMBER", "agents:active", "mira") == 1


# Declaring a status


async def test_draining_gives_reservations_back_and_keeps_what_is_held(roster: Roster) -> None:
    await roster.register(instance="i1")
    await roster.submit("t1")
    await roster.claim("mira", "i1", 1)
    await roster.reserve("mira", "t2")

    reply = await roster.call("agent_set_status", "mira", "draining", "ops", "")

    assert reply == ["ok", START_US // 1000, "", "active"]
    assert (await roster.record("t1"))[0] == "c"
    # The suggestion is used up: it must not lead back to an agent that was asked to rest.
    given_back = await roster.record("t2")
    assert (given_back[0], "H" in given_back[13]) == ("p", False)
    assert await roster.beat(instance="i1") == "drain"
    assert await roster.events("agent:status") == ["mira|draining|mira|0|active"]
    refused = await roster.call("task_claim", "default", "mira", "i1", "", 1, 1, 0, 30_000)
    assert refused == ["agent_draining", "draining"]


async def test_what_a_waiting_agent_gives_back_is_not_reserved_for_it_again(
    roster: Roster,
) -> None:
    await roster.register(instance="i1")
    await roster.submit("t0")
    await roster.call("task_claim", "default", "mira", "i1", "", 5, 5, 60_000, 30_000)
    await roster.reserve("mira", "t1")
    assert await roster.raw("ZRANGE", "tasks:default:waiters", 0, -1) == ["mira/i1"]

    await roster.call("agent_set_status", "mira", "draining", "", "")

    assert (await roster.record("t1"))[0] == "p"


async def test_declaring_the_same_status_again_is_no_news(roster: Roster) -> None:
    await roster.register()

    assert (await roster.call("agent_set_status", "mira", "active", "", ""))[3] == "active"
    assert await roster.events("agent:status") == []


async def test_status_of_an_unknown_agent_is_refused(roster: Roster) -> None:
    assert await roster.call("agent_set_status", "nobody", "active", "", "") == ["agent_not_found"]


async def test_more_reservations_than_a_call_gives_back_take_another(roster: Roster) -> None:
    await roster.register()
    await roster.reserve("mira", *(f"t{number:03}" for number in range(250)))

    first = await roster.call("agent_set_status", "mira", "draining", "", "")
    second = await roster.call("agent_set_status", "mira", "draining", "", "")

    assert (first[2], second[2]) == ("more", "")
    assert await roster.raw("ZCARD", "reserved:mira") == 0


# Deregistering


async def test_deregistering_gives_everything_back_and_leaves_no_trace(roster: Roster) -> None:
    await roster.register(instance="i1", slots=10)
    await roster.register(instance="i2", slots=10)
    await roster.submit("t1", "t2")
    await roster.claim("mira", "i1", 1)
    await roster.claim("mira", "i2", 1)
    await roster.reserve("mira", "t3")

    reply = await roster.call("agent_deregister", "mira", "ops")

    assert reply == ["ok", "", 3]
    assert [(await roster.record(task))[0] for task in ("t1", "t2", "t3")] == ["p", "p", "p"]
    assert await roster.events("agent:deregistered") == ["mira|deregistered|mira|0"]
    found = plain(
        await roster.connection.call("KEYS", roster.keys.prefix.replace("{", "[{]") + "*")
    )
    assert not [key for key in found if "agent" in key or "held" in key or "reserved" in key]
    assert await roster.call("agent_deregister", "mira", "") == ["agent_not_found"]
    assert await roster.beat() == "agent_not_found"


async def test_a_deregistration_cut_short_is_worked_off_by_the_sweep(roster: Roster) -> None:
    await roster.register(instance="i1", slots=1_000)
    await roster.submit(*(f"t{number:03}" for number in range(300)))
    await roster.claim("mira", "i1", 300)

    assert await roster.call("agent_deregister", "mira", "") == ["ok", "more", 200]
    assert await roster.beat() == "agent_not_found"
    assert await roster.call("agent_set_status", "mira", "active", "", "") == ["agent_not_found"]
    await roster.call("agent_sweep", 100)

    assert await roster.raw("EXISTS", "agent:mira") == 0
    assert await roster.raw("ZCARD", "held:mira") == 0


async def test_registering_during_a_deregistration_keeps_the_agent(roster: Roster) -> None:
    await roster.register(instance="i1", slots=1_000)
    await roster.submit(*(f"t{number:03}" for number in range(300)))
    await roster.claim("mira", "i1", 300)
    await roster.call("agent_deregister", "mira", "")

    await roster.register(instance="i2")
    await roster.call("agent_sweep", 100)

    assert (await roster.read("mira"))["mira"]["instances"] == ["i2"]
    assert (await roster.read("mira"))["mira"]["status"] == "active"


# Reading


@pytest.fixture
async def team(roster: Roster) -> Roster:
    """Three agents: ada (python, sql; eu), ben (python; us; draining), cyd (a monitor)."""
    await roster.register("ada", profile="worker;python,sql;api;zone=eu;", tag_list="blue,red")
    await roster.pass_time(1)
    await roster.register("ben", profile="worker;python;;zone=us;", tag_list="red")
    await roster.pass_time(1)
    await roster.register("cyd", profile="monitor;;api;;")
    await roster.call("agent_set_status", "ben", "draining", "", "")
    await roster.beat("ada", load="cpu=0.9")
    return roster


@pytest.mark.parametrize(
    ("filters", "names"),
    [
        ({}, ["ben", "cyd", "ada"]),
        ({"agent_type": "worker"}, ["ben", "ada"]),
        ({"status": "draining"}, ["ben"]),
        ({"capabilities": "python"}, ["ben", "ada"]),
        ({"capabilities": "python,sql"}, ["ada"]),
        ({"capabilities": "pyth"}, []),
        ({"services": "api"}, ["cyd", "ada"]),
        ({"labels": "zone=eu"}, ["ada"]),
        ({"tags": "red"}, ["ben", "ada"]),
        ({"tags": "blue,red"}, ["ada"]),
        ({"min_health": 0.8}, ["ben", "cyd"]),
        ({"limit": 2}, ["ben", "cyd"]),
        ({"agent_type": "worker", "services": "api", "status": "active"}, ["ada"]),
        ({"status": "busy"}, []),
    ],
)
async def test_discovery_has_all_that_is_asked_for_healthiest_first(
    team: Roster, filters: dict[str, Any], names: list[str]
) -> None:
    assert list(await team.read(**filters)) == names


async def by_capability(roster: Roster) -> dict[str, list[str]]:
    """Which agents stand where discovery looks for a capability, and under "" all that do."""
    prefix = f"{roster.keys.prefix}agents:capability:"
    found = {"": await roster.raw("ZRANGE", "agents:capabilities", 0, -1)}
    for key in sorted(plain(await roster.connection.call("KEYS", prefix + "*"))):
        name = key.removeprefix(prefix)
        found[name] = await by_capability_of_one(roster, name)
    return found


async def test_agents_stand_with_their_capabilities_as_long_as_they_have_them(
    roster: Roster,
) -> None:
    await roster.register("ada", profile="worker;go,sql;;;")
    await roster.register("ben", profile="worker;sql;;;")
    await roster.register("cyd", profile="worker;;;;")
    everybody = ["ada", "ben", "cyd"]
    assert await by_capability(roster) == {"": everybody, "go": ["ada"], "sql": ["ada", "ben"]}

    await roster.register("ada", profile="worker;go,rust;;;")
    assert await by_capability(roster) == {
        "": everybody, "go": ["ada"], "rust": ["ada"], "sql": ["ben"]
    }  # fmt: skip

    await roster.call("agent_deregister", "ada", "ann")
    await roster.call("agent_deregister", "cyd", "ann")
    assert await by_capability(roster) == {"": ["ben"], "sql": ["ben"]}


async def test_where_not_all_agents_stand_with_their_capabilities_all_are_looked_at(
    roster: Roster,
) -> None:
    await roster.raw("SET", "agents:capability:sql", "somebody else's")
    await roster.register("ada", profile="worker;go,sql;;;")
    await roster.register("ben", profile="worker;go;;;")
    assert (await by_capability_of_one(roster, "go")) == ["ada", "ben"]

    assert list(await roster.read(capabilities="sql")) == ["ada"]
    assert list(await roster.read(capabilities="go")) == ["ada", "ben"]
    await roster.raw("DEL", "agents:capability:sql")
    await roster.register("ben", profile="worker;go,sql;;;")
    assert (await by_capability_of_one(roster, "sql")) == ["ben"]
    assert list(await roster.read(capabilities="sql")) == ["ada", "ben"]


async def by_capability_of_one(roster: Roster, name: str) -> list[str]:
    found: list[str] = await roster.raw("ZRANGE", f"agents:capability:{name}", 0, -1)
    return found


async def test_agents_that_came_before_capabilities_were_kept_are_found_and_kept_by_a_sweep(
    team: Roster,
) -> None:
    await team.raw("DEL", "agents:capabilities")
    for key in await team.connection.call("KEYS", f"{team.keys.prefix}agents:capability:*"):
        await team.connection.call("DEL", key)
    for name in ("ada", "ben", "cyd"):
        await team.raw("HDEL", f"agent:{name}", "indexed")
    assert list(await team.read(capabilities="python")) == ["ben", "ada"]

    await team.pass_time(25)
    await team.call("agent_sweep", 10)

    assert (await by_capability(team))[""] == ["ada", "ben", "cyd"]
    assert list(await team.read(capabilities="python")) == ["ben", "ada"]


async def test_shown_agents_are_those_that_are_read_in_their_order(team: Roster) -> None:
    reply = await team.call("agent_show", "", "worker", "", "", "", "", "", 0, 10)

    assert [json.loads(one)["agent_id"] for one in reply[2]] == ["ben", "ada"]
    assert reply[1] == START_US // 1000 + 2_000


async def test_a_shown_agent_has_the_documented_fields_as_of_now(roster: Roster) -> None:
    await roster.register(
        capabilities='["python"]',
        endpoints='{"http":"http://mira:1"}',
        metadata='{"a":[]}',
        tags='["x"]',
        version='1"0',
        agent_type="worker",
        services="[]",
    )
    await roster.pass_time(25)
    await roster.beat(load="cpu=0.9")

    reply = await roster.call("agent_show", "mira", "", "", "", "", "", "", 0, 1)

    assert json.loads(reply[2][0]) == {
        "agent_id": "mira",
        "agent_type": "worker",
        "status": "active",
        "capabilities": ["python"],
        "services": [],
        "endpoints": {"http": "http://mira:1"},
        "metadata": {"a": []},
        "last_heartbeat": "2023-11-14T22:13:45.000000+00:00",
        "registration_time": "2023-11-14T22:13:20.000000+00:00",
        "load_metrics": {"cpu": 0.9},
        "health_score": 0.7,
        "version": '1"0',
        "tags": ["x"],
    }


@pytest.mark.parametrize("count", [1, 249, 251, 600])
async def test_the_look_ends_with_the_last_of_those_wanted(roster: Roster, count: int) -> None:
    for n in range(600):
        await roster.register(f"a{n:03}", profile=f"worker;{'x' if n == count - 1 else 'y'};;;")

    assert list(await roster.read(capabilities="x")) == [f"a{count - 1:03}"]
    assert len(await roster.read(limit=count)) == count


async def test_counts_are_told_beside(team: Roster) -> None:
    reply = await team.call("agent_read", "", "worker", "", "", "", "", "", 0, 1)

    assert reply[1:3] == [START_US // 1000 + 2_000, ["total", 3, "active", 2]]
    assert len(reply[3]) == 6


async def test_reading_an_unknown_agent_is_told(roster: Roster) -> None:
    assert await roster.read("nobody") == {"": {"status": "agent_not_found"}}
    shown = await roster.call("agent_show", "nobody", "", "", "", "", "", "", 0, 1)
    assert shown == ["agent_not_found"]


async def test_health_is_computed_when_it_is_read(roster: Roster) -> None:
    await roster.register(instance="i1")
    await roster.register(instance="i2")

    await roster.pass_time(25)
    await roster.beat(instance="i2")

    # i1 has missed 15 of the 20 s that it may: the mean of 0.75 and 0, times a half.
    assert (await roster.read("mira"))["mira"]["health"] == 0.812


@pytest.mark.parametrize(
    ("status", "load", "health"),
    [
        ("active", "cpu=0.6", 1.0),
        ("active", "cpu=0.61,memory=0.2", 0.9),
        ("active", "cpu=0.1,load=0.81", 0.7),
        ("active", "connections=500,cpu_seconds=90", 1.0),
        ("active", "error_rate=0.5", 0.85),
        ("active", "error_rate=7", 0.7),
        ("busy", "", 0.9),
        ("maintenance", "", 0.8),
        ("error", "", 0.5),
        ("draining", "", 1.0),
        ("error", "cpu=1,error_rate=1", 0.0),
    ],
)
async def test_health_is_one_less_what_speaks_against_it(
    roster: Roster, status: str, load: str, health: float
) -> None:
    await roster.register()
    await roster.call("agent_set_status", "mira", status, "", load)

    assert (await roster.read("mira"))["mira"]["health"] == health


async def test_lapsed_reservations_tell_on_health_until_the_next_claim(roster: Roster) -> None:
    await roster.register(instance="i1")
    await roster.reserve("mira", "t1", "t2")
    for _ in range(7):
        await roster.pass_time(10)
        await roster.beat(instance="i1")
    assert (await roster.call("board_sweep", "default", 100))[0] == "ok"
    before = (await roster.read("mira"))["mira"]

    await roster.claim("mira", "i1", 1)

    after = (await roster.read("mira"))["mira"]
    assert (before["lapsed"], before["health"]) == ("2", 0.8)
    assert ("lapsed" in after, after["health"]) == (False, 1.0)


# The namespace


@pytest.mark.parametrize(
    ("name", "arguments"),
    [
        ("agent_register", ("mira", ";;;;", "", 1, 1000, "", 1, 0, "", "")),
        ("agent_heartbeat", (1, "mira", "", "")),
        ("agent_set_status", ("mira", "active", "", "")),
        ("agent_leave", ("mira", "")),
        ("agent_deregister", ("mira", "")),
        ("agent_sweep", (10,)),
        ("agent_read", ("mira", "", "", "", "", "", "", 0, 1)),
        ("agent_show", ("mira", "", "", "", "", "", "", 0, 1)),
    ],
)
async def test_a_namespace_that_cannot_be_used_is_refused(
    roster: Roster, name: str, arguments: tuple[Any, ...]
) -> None:
    await roster.raw("HSET", "callboard:format", "major", 99)
    newer = await roster.call(name, *arguments)
    await roster.raw("DEL", "callboard:format")
    missing = await roster.call(name, *arguments)

    assert newer == ["newer_format", "99"]
    assert missing == ["no_namespace"]
    assert await roster.raw("EXISTS", "agent:mira") == 0
