"""The agents of a namespace: registered, heard, drained, found, swept."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any, Final

import msgspec

from callboard.domain import agent as agents
from callboard.domain.agent import Agent, AgentSpec, InstanceSpec
from callboard.domain.names import check_name
from callboard.domain.roster import AgentCounts, Beat, Census, Heard, HeldTask, Registration
from callboard.domain.task import BATCH_MAX, at_ms, check_seconds
from callboard.engine.agent_codec import agent_of, fields_of
from callboard.engine.answers import checked
from callboard.engine.namespace import Namespace
from callboard.engine.replies import raise_refusal
from callboard.exceptions import InvalidArgument, TooLarge

SWEEP_AGENTS: Final = 200
DISCOVER_MAX: Final = 1_000
ROUNDS_MAX: Final = 1_000
"""Calls of 200 tasks each that one leaving or deregistering may take."""


class Agents:
    """The roster of a namespace.

    Each method checks its input and makes one call, repeated where more is left to give back.
    """

    def __init__(self, namespace: Namespace) -> None:
        self._namespace = namespace
        self._functions = namespace.functions

    async def register(
        self, agent: str | AgentSpec, *, instance: InstanceSpec | None = None, **fields: Any
    ) -> Registration:
        """Enter an agent, or a process that runs it; again is an update, the last wins.

        What the agent can serve is replaced as a whole. The time of its first registration,
        the load it reported, and a declared ``draining`` or ``maintenance`` stay. Where
        another process of the agent is live and had registered another profile, the event
        ``agent:conflict`` says so.

        Args:
            agent: A spec, or an id with the *fields* of ``AgentSpec``.
            instance: The process; none for an agent that heartbeats by its id alone. The
                agent's capacity is the sum over its live instances.

        Raises:
            InvalidArgument, TooLarge: Nothing was changed.
            Refused: The agent has 1,000 instances already.
        """
        spec = agents.spec_of(agent, fields)
        process = instance or InstanceSpec(
            id="", max_concurrent=agents.check_capacity("max_concurrent", spec.max_concurrent)
        )
        reply = await self._functions.call(
            "agent_register",
            check_name("agent", spec.id),
            spec.profile,
            "" if spec.status is None else agents.check_status(spec.status),
            agents.check_capacity("max_concurrent", spec.max_concurrent),
            check_seconds("heartbeat_interval", spec.heartbeat_interval, 0.1, 3_600),
            check_name("instance", process.id) if instance else "",
            agents.check_capacity("instance.max_concurrent", process.max_concurrent),
            agents.check_capacity("instance.prefetch", process.prefetch, 0),
            _pid(process.pid),
            agents.check_host(process.host),
            *fields_of(spec),
        )
        checked(reply, "ok", agent=spec.id)
        now_ms, revision, outcome, status = reply[1:5]
        return Registration(
            agent=spec.id,
            instance=process.id,
            is_new=outcome == b"created",
            revision=int(revision),
            status=status.decode(),
            at=at_ms(float(now_ms)),
        )

    async def heartbeat(
        self, agent: str, instance: str = "", *, load: Mapping[str, float] | None = None
    ) -> Heard:
        """Say that an instance lives; what was declared stays as it is.

        Claiming and renewing say so too.

        Raises:
            AgentNotFound: The agent is not known, or the instance was swept: register again.
        """
        heard = (await self.heartbeat_many([Beat(agent, instance, load)]))[0]
        if not heard.is_ok:
            raise_refusal(heard.status, (), agent=agent, instance=instance)
        return heard

    async def heartbeat_many(self, beats: Iterable[Beat]) -> tuple[Heard, ...]:
        """Say that many instances live, at most 1,000; each is answered, in order."""
        given = list(beats)
        if len(given) > BATCH_MAX:
            raise TooLarge(
                f"At most {BATCH_MAX:,} heartbeats in one call, not {len(given):,}.", field="beats"
            )
        rows: list[str] = []
        for beat in given:
            rows += (
                check_name("agent", beat.agent),
                beat.instance and check_name("instance", beat.instance),
                agents.encode_load(beat.load),
            )
        reply = await self._functions.call("agent_heartbeat", len(given), *rows)
        checked(reply, "ok")
        words = reply[2].decode().split(",") if given else []
        at = at_ms(float(reply[1]))
        return tuple(Heard(b.agent, b.instance, w, at) for b, w in zip(given, words, strict=True))

    async def report_load(
        self, agent: str, load: Mapping[str, float], *, instance: str = ""
    ) -> Heard:
        """Merge metrics into the agent's reported load; it counts as a heartbeat.

        ``cpu``, ``memory``, ``load`` and ``error_rate``, each a share from 0 to 1, bear on
        its health; others are kept as they are.

        Raises:
            AgentNotFound: The agent is not known, or the instance was swept.
        """
        return await self.heartbeat(agent, instance, load=load)

    async def drain(self, agent: str, *, by: str = "") -> str:
        """Let the agent finish what it holds and take no new work, until it is set active.

        Returns:
            The status that was declared before.
        """
        return await self.set_status(agent, "draining", by=by)

    async def set_status(
        self, agent: str, status: str, *, by: str = "", load: Mapping[str, float] | None = None
    ) -> str:
        """Declare ``active inactive busy maintenance error`` or ``draining``.

        Under ``active`` an agent is offered work; under ``busy`` it may claim; under the
        others it takes none, and its reservations go back to their lanes.

        Returns:
            The status that was declared before.

        Raises:
            AgentNotFound: The agent is not known.
            InvalidArgument: The status is none of these.
        """
        values = (
            check_name("agent", agent),
            agents.check_status(status),
            by,
            agents.encode_load(load),
        )
        reply = await self._functions.call("agent_set_status", *values)
        checked(reply, "ok", agent=agent)
        previous: str = reply[3].decode()
        for _ in range(ROUNDS_MAX):
            if not reply[2]:
                break
            reply = await self._functions.call("agent_set_status", *values)
            checked(reply, "ok", agent=agent)
        return previous

    async def leave(self, agent: str, instance: str = "") -> int:
        """End an instance in good order: its tasks are released, and no crash is counted.

        With the last one the agent's reservations go back too. An instance that is gone
        already is no error.

        Returns:
            How many tasks and reservations were given back.

        Raises:
            AgentNotFound: The agent is not known.
        """
        values = (check_name("agent", agent), instance and check_name("instance", instance))
        return await self._give_back("agent_leave", agent, *values)

    async def deregister(self, agent: str, *, by: str = "") -> int:
        """Take the agent off the roster; what it held or was reserved goes back, unharmed.

        Returns:
            How many tasks and reservations were given back.

        Raises:
            AgentNotFound: The agent is not known.
        """
        return await self._give_back("agent_deregister", agent, check_name("agent", agent), by)

    async def get(self, agent: str) -> Agent:
        """Read one agent. Raises AgentNotFound."""
        found = await self._read(check_name("agent", agent), limit=1)
        return found[0]

    async def discover(
        self,
        *,
        agent_type: str = "",
        status: str = "",
        capabilities: Iterable[str] = (),
        services: Iterable[str] = (),
        labels: Mapping[str, str] | None = None,
        tags: Iterable[str] = (),
        min_health: float = 0.0,
        limit: int = 100,
    ) -> tuple[Agent, ...]:
        """Find the agents that have all of what is asked for, healthiest first.

        Among equals the one registered first. At most 10,000 agents are looked at: of those
        that have the rarest of the capabilities, else of all.

        Args:
            status: As declared, or ``inactive`` for those that are gone too.
            min_health: 0 to 1, held against the health as it is now.
            limit: 1 to 1,000.
        """
        asked = _asked(agent_type, status, capabilities, services, labels, tags, min_health)
        _check_range("limit", limit, int, 1, DISCOVER_MAX)
        return await self._read("", *asked, limit=limit)

    async def documents(
        self,
        agent: str = "",
        *,
        agent_type: str = "",
        status: str = "",
        capabilities: Iterable[str] = (),
        services: Iterable[str] = (),
        labels: Mapping[str, str] | None = None,
        tags: Iterable[str] = (),
        min_health: float = 0.0,
        limit: int = 100,
    ) -> tuple[msgspec.Raw, ...]:
        """Find agents as ``discover`` does, each as a JSON object of the documented fields.

        The objects are made in the engine of the JSON that it keeps, so that hundreds cost
        little. With an *agent*, that one. One whose fields somebody else's writes have
        spoilt beyond reading is left out.

        Raises:
            AgentNotFound: The *agent* that was named is not known.
        """
        asked = _asked(agent_type, status, capabilities, services, labels, tags, min_health)
        _check_range("limit", limit, int, 1, DISCOVER_MAX)
        agent = agent and check_name("agent", agent)
        reply = await self._functions.call("agent_show", agent, *asked, limit)
        checked(reply, "ok", agent=agent)
        return tuple(msgspec.Raw(one) for one in reply[2] if _is_json(one))

    async def list(self, *, limit: int = DISCOVER_MAX) -> tuple[Agent, ...]:
        """All agents, at most *limit*, healthiest first."""
        return await self.discover(limit=limit)

    async def tasks(self, agent: str, *, limit: int = DISCOVER_MAX) -> tuple[HeldTask, ...]:
        """The tasks of all boards that an agent holds now, in the order it claimed them.

        Parked ones, whose holder waits, are not among them. At most *limit*, 1 to 1,000.

        Raises:
            AgentNotFound: The agent is not known.
        """
        _check_range("limit", limit, int, 1, DISCOVER_MAX)
        key = self._namespace.keys.held(check_name("agent", agent))
        found = await self._namespace.connection.call("ZRANGE", key, 0, limit - 1, "WITHSCORES")
        if not found:
            await self.get(agent)
            return ()
        if not isinstance(found[0], list):
            found = zip(found[::2], found[1::2], strict=True)
        return tuple(_held(member, score) for member, score in found)

    async def counts(self) -> AgentCounts:
        """How many agents are known, and how many of them may claim."""
        reply = await self._functions.call("agent_read", "", "", "", "", "", "", "", 0, 0)
        checked(reply, "ok")
        return AgentCounts(total=int(reply[2][1]), active=int(reply[2][3]))

    async def census(self) -> Census:
        """Count the agents by status and type; of more than 10,000 those registered first."""
        reply = await self._functions.call("agent_census", DISCOVER_MAX)
        checked(reply, "ok")
        return Census(
            total=int(reply[1]),
            statuses=_numbers(reply[2]),
            types=_numbers(reply[3]),
            services=int(reply[4]),
            capabilities=int(reply[5]),
        )

    async def sweep(self, *, limit: int = SWEEP_AGENTS) -> bool:
        """Give back what silent instances held, and bring health and the active set up to date.

        Returns:
            Whether more is left for another call.
        """
        _check_range("limit", limit, int, 1, DISCOVER_MAX)
        reply = await self._functions.call("agent_sweep", limit)
        checked(reply, "ok")
        return bool(reply[1])

    async def _read(self, agent: str, *filters: Any, limit: int) -> tuple[Agent, ...]:
        asked = filters or ("", "", "", "", "", "", 0)
        reply = await self._functions.call("agent_read", agent, *asked, limit)
        checked(reply, "ok", agent=agent)
        now_ms, values = reply[1], reply[3]
        return tuple(agent_of(float(now_ms), values[i : i + 6]) for i in range(0, len(values), 6))

    async def _give_back(self, function: str, agent: str, *values: str) -> int:
        given = 0
        for _ in range(ROUNDS_MAX):
            reply = await self._functions.call(function, *values)
            # A repeat after a lost reply, or after a sweep, finds nothing more to end.
            ended = ("instance_unknown", "agent_not_found") if given else ("instance_unknown",)
            if checked(reply, "ok", *ended, agent=agent) != "ok":
                break
            given += int(reply[2])
            if not reply[1]:
                break
        return given


def _is_json(text: bytes) -> bool:
    """Whether it can be read; somebody else's writes into a hash may have spoilt a field."""
    try:
        _any_json.decode(text)
    except msgspec.DecodeError:
        return False
    return True


_any_json: Final = msgspec.json.Decoder(msgspec.Raw)


def _numbers(flat: Sequence[Any]) -> dict[str, int]:
    return {flat[i].decode(): int(flat[i + 1]) for i in range(0, len(flat), 2)}


def _asked(
    agent_type: str,
    status: str,
    capabilities: Iterable[str],
    services: Iterable[str],
    labels: Mapping[str, str] | None,
    tags: Iterable[str],
    min_health: float,
) -> tuple[Any, ...]:
    _check_range("min_health", min_health, int | float, 0, 1)
    return (
        agent_type and check_name("agent_type", agent_type),
        status and agents.check_status(status),
        agents.names_of("capabilities", capabilities),
        agents.names_of("services", services),
        agents.labels_of({} if labels is None else labels),
        agents.tags_of(tags),
        min_health,
    )


def _held(member: bytes, score: Any) -> HeldTask:
    board, _, task = member.decode().partition(":")
    return HeldTask(board=board, id=task, fence=int(float(score)))


def _check_range(what: str, value: Any, kind: Any, low: int, high: int) -> None:
    if isinstance(value, bool) or not isinstance(value, kind) or not low <= value <= high:
        raise InvalidArgument(
            f"{what} is {value!r}; it must be a number from {low} to {high:,}.", field=what
        )


def _pid(pid: object) -> str:
    if isinstance(pid, bool) or not isinstance(pid, int) or not 0 <= pid < 1 << 32:
        raise InvalidArgument(f"pid is {pid!r}; it must be a process number, or 0.", field="pid")
    return str(pid) if pid else ""
