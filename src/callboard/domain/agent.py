"""An agent: what it can serve, what is read back of it, and how well it does.

A *profile* is what an agent can serve, as one line that the functions on the engine match
with a task's lane. An agent is logical; its *instances* are the processes that run it.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from datetime import datetime
from enum import StrEnum
from typing import Any, Final, Literal, get_args

import msgspec

from callboard.domain.names import LABEL_VALUE, check_label, check_name
from callboard.exceptions import InvalidArgument, TooLarge
from callboard.outgoing import fault_of, without_user

AGENT_TYPES: Final = (
    "coordinator", "worker", "specialist", "monitor", "gateway", "orchestrator",
)  # fmt: skip
"""The types that the REST reference documents; any other name will do here."""

DeclaredStatus = Literal["active", "inactive", "busy", "maintenance", "error", "draining"]
STATUSES: Final[tuple[str, ...]] = get_args(DeclaredStatus)

HEARTBEAT_DEFAULT: Final = 10.0
"""Seconds; an agent is lost after three of them, as long as the default lease."""

LOST_AFTER: Final = 3
"""Intervals without a heartbeat after which an instance counts as lost."""

SUSPECT_AFTER: Final = 1.5
CAPACITY_MAX: Final = 100_000
WEIGHT_MIN: Final = 0.001
WEIGHT_MAX: Final = 1_000
PRIORITY_MOST: Final = 1_000
PROFILE_MAX: Final = 4_000
JSON_MAX: Final = 65_536
METRICS_MAX: Final = 64
METRIC_MAX: Final = 1e15
_HOST = re.compile(r"[A-Za-z0-9._:-]{0,255}")


class State(StrEnum):
    """How an agent does, from what it declared and what is seen of it."""

    STARTING = "starting"
    ACTIVE = "active"
    BUSY = "busy"
    SUSPECT = "suspect"
    NOT_CONSUMING = "not_consuming"
    DRAINING = "draining"
    MAINTENANCE = "maintenance"
    ERROR = "error"
    INACTIVE = "inactive"
    LOST = "lost"


class AgentSpec(msgspec.Struct, frozen=True, kw_only=True):
    """An agent to register.

    Attributes:
        id: Its name: 1 to 128 letters, digits, ``.``, ``_``, ``-``.
        agent_type: A name; ``AGENT_TYPES`` are the documented ones.
        capabilities: What it can do; a task asks for all of some.
        services: What it offers, likewise.
        labels: Keys and values, likewise.
        kinds: The kinds of task it handles; all where empty.
        tags: For discovery only.
        endpoints: Addresses by protocol, stored as given.
        metadata: Free JSON object, stored as given; at most 64 KiB.
        version: Of the agent's own code.
        max_concurrent: Tasks it may hold where no instances say otherwise.
        heartbeat_interval: Seconds, 0.1 to 3,600.
        status: Declared; None keeps ``draining`` and ``maintenance``, else ``active``.
        weight: Its share of the work, beside others', where a strategy goes by weight; 0.001
            to 1,000.
        priority: −1000 to 1000; of equal agents the higher one is chosen first.
    """

    id: str
    agent_type: str = "worker"
    capabilities: tuple[str, ...] = ()
    services: tuple[str, ...] = ()
    labels: dict[str, str] = {}
    kinds: tuple[str, ...] = ()
    tags: tuple[str, ...] = ()
    endpoints: dict[str, str] = {}
    metadata: dict[str, Any] = {}
    version: str = "1.0.0"
    max_concurrent: int = 100
    heartbeat_interval: float = HEARTBEAT_DEFAULT
    status: DeclaredStatus | None = None
    weight: float = 1.0
    priority: int = 0

    @property
    def profile(self) -> str:
        """What the agent can serve, as the engine keeps it."""
        return profile_of(
            self.agent_type, self.capabilities, self.services, self.labels, self.kinds
        )


class InstanceSpec(msgspec.Struct, frozen=True, kw_only=True):
    """A process that runs an agent.

    Attributes:
        id: New at each process start, so that a crash is told from the next life.
        max_concurrent: Tasks it runs at once.
        prefetch: Tasks it may hold beyond those.
        host: Where it runs.
        pid: Its process number; 0 for none.
    """

    id: str
    max_concurrent: int = 1
    prefetch: int = 0
    host: str = ""
    pid: int = 0


class Instance(msgspec.Struct, frozen=True, kw_only=True):
    """A process that runs an agent, as it was last heard of.

    Attributes:
        registered_at: When it came, or last registered again.
        is_ending: It left or was lost, and what it held is being given back.
    """

    id: str
    max_concurrent: int
    prefetch: int
    host: str
    pid: int
    heartbeat_interval: float
    registered_at: datetime
    last_heartbeat: datetime
    is_ending: bool = False


class Agent(msgspec.Struct, frozen=True, kw_only=True):
    """An agent as it stood when it was read.

    Attributes:
        status: As documented: what was declared, or ``inactive`` where it is gone.
        declared: What was declared last.
        state: How it does, all told.
        reason: Why it is in that state, as a sentence.
        health: 0 to 1, computed when it was read.
        load: What it reported last.
        capacity: Tasks that it may hold, over all its instances.
        slots: Tasks that it runs at once.
        held: Tasks it holds now; *parked* ones, whose holder waits, not counted.
        reserved: Tasks reserved for it that it has not taken up.
        lapsed: Reservations that it let lapse since its last claim.
        undelivered: Deliveries to its address that failed, since the last that did not.
        rests_until: Until when nothing is delivered to it therefore; None where it does not rest.
        weight: As declared: its share where a strategy goes by weight.
        priority: As declared: of equal agents the higher one is chosen first.
        revision: Rises with each change of what it can serve.
        last_heartbeat: None where none was ever heard.
        instances: Its live processes, oldest first; empty where it runs without.
        gone: ``lost``, ``left`` or ``deregistered`` where no instance is live; else empty.
        gone_at: Since when.
        at: When this was read, by the engine's clock.
    """

    id: str
    agent_type: str
    status: str
    declared: str
    state: State
    reason: str
    health: float
    capabilities: tuple[str, ...] = ()
    services: tuple[str, ...] = ()
    labels: dict[str, str] = {}
    kinds: tuple[str, ...] = ()
    tags: tuple[str, ...] = ()
    endpoints: dict[str, str] = {}
    metadata: dict[str, Any] = {}
    version: str = ""
    load: dict[str, float] = {}
    max_concurrent: int = 0
    capacity: int = 0
    slots: int = 0
    held: int = 0
    parked: int = 0
    reserved: int = 0
    lapsed: int = 0
    undelivered: int = 0
    rests_until: datetime | None = None
    weight: float = 1.0
    priority: int = 0
    revision: int = 0
    heartbeat_interval: float = HEARTBEAT_DEFAULT
    registered_at: datetime
    last_heartbeat: datetime | None = None
    instances: tuple[Instance, ...] = ()
    gone: str = ""
    gone_at: datetime | None = None
    at: datetime

    @property
    def takes_work(self) -> bool:
        """Whether it may claim."""
        return self.status in ("active", "busy")

    @property
    def silent_for(self) -> float | None:
        """Seconds since its last heartbeat; None where none was ever heard."""
        if self.last_heartbeat is None:
            return None
        return max((self.at - self.last_heartbeat).total_seconds(), 0.0)


class Standing(msgspec.Struct, frozen=True, kw_only=True):
    """The facts by which an agent's state is judged; times in seconds."""

    declared: str
    gone: str = ""
    silent_for: float = 0.0
    interval: float = HEARTBEAT_DEFAULT
    heard: bool = True
    held: int = 0
    slots: int = 1
    lapsed: int = 0
    undelivered: int = 0
    rests_for: float = 0.0


def judge(agent: str, facts: Standing) -> tuple[State, str]:
    """The agent's state and a sentence with the reason; the first that holds, from the worst."""
    quiet = f"{facts.silent_for:.1f} s"
    if facts.gone == "lost":
        limit = f"{LOST_AFTER * facts.interval:g} s"
        return State.LOST, f"{agent} was not heard for {limit}; what it held was given back."
    if facts.gone:
        return State.INACTIVE, f"{agent} left: none of its processes is running."
    if facts.declared in _DECLARED:
        return _DECLARED[facts.declared][0], _DECLARED[facts.declared][1].format(agent=agent)
    if facts.silent_for > SUSPECT_AFTER * facts.interval:
        return (
            State.SUSPECT,
            f"{agent} was last heard {quiet} ago; it should be every {facts.interval:g} s.",
        )
    if facts.rests_for > 0 and not facts.undelivered:
        return (
            State.NOT_CONSUMING,
            f"{agent} is heard, but asked to be left alone: the next is delivered to it in "
            f"{facts.rests_for:.1f} s.",
        )
    if facts.rests_for > 0:
        count = facts.undelivered
        which = "last delivery" if count == 1 else f"last {count:,} deliveries"
        return (
            State.NOT_CONSUMING,
            f"{agent} is heard, but the {which} to its address failed: the next is tried in "
            f"{facts.rests_for:.1f} s.",
        )
    if facts.lapsed > 0:
        return (
            State.NOT_CONSUMING,
            f"{agent} is heard but takes no work: {facts.lapsed} tasks reserved for it lapsed "
            "since its last claim.",
        )
    if facts.declared == "busy":
        return State.BUSY, f"{agent} declared itself busy: it is offered nothing, but may claim."
    if not facts.heard:
        return State.STARTING, f"{agent} registered {quiet} ago and was not heard since."
    if facts.held >= facts.slots:
        return State.BUSY, f"All {facts.slots} slots of {agent} are taken."
    return State.ACTIVE, f"{agent} holds {facts.held} of the {facts.slots} tasks it runs at once."


_DECLARED: Final[Mapping[str, tuple[State, str]]] = {
    "error": (State.ERROR, "{agent} declared an error and takes no work."),
    "maintenance": (State.MAINTENANCE, "{agent} is set aside for maintenance and takes no work."),
    "draining": (
        State.DRAINING,
        "{agent} drains: it finishes what it holds and takes no new work.",
    ),
    "inactive": (State.INACTIVE, "{agent} was declared inactive and takes no work."),
}


def profile_of(
    agent_type: str = "",
    capabilities: Iterable[str] = (),
    services: Iterable[str] = (),
    labels: Mapping[str, str] | None = None,
    kinds: Iterable[str] = (),
) -> str:
    """What an agent can serve: ``type;capabilities;services;labels;kinds``, each list sorted.

    Raises:
        InvalidArgument: A name is not one.
        TooLarge: The profile has over 4,000 characters.
    """
    profile = ";".join(
        (
            agent_type and check_name("agent_type", agent_type),
            names_of("capabilities", capabilities),
            names_of("services", services),
            labels_of(labels or {}),
            names_of("kinds", kinds),
        )
    )
    if len(profile) > PROFILE_MAX:
        raise TooLarge(
            f"What the agent can serve takes {len(profile):,} characters; at most {PROFILE_MAX:,} "
            "are kept. Use fewer or shorter capabilities, services, labels and kinds.",
            field="capabilities",
        )
    return profile


def names_of(what: str, names: Iterable[str]) -> str:
    """Distinct names, sorted and joined by commas, as profiles and lanes have them."""
    return ",".join(sorted({check_name(_SINGULAR[what], name) for name in _listed(what, names)}))


_SINGULAR: Final[Mapping[str, str]] = {
    "capabilities": "capability",
    "services": "service",
    "kinds": "kind",
}


def labels_of(labels: Mapping[str, str]) -> str:
    """Labels as ``key=value``, sorted and joined by commas."""
    given = _mapping("labels", labels, '{"zone": "eu"}')
    return ",".join(sorted(check_label(key, value) for key, value in given.items()))


def tags_of(tags: Iterable[str]) -> str:
    """Distinct tags, sorted and joined by commas; they may have what values of labels have."""
    given = _listed("tags", tags)
    for tag in given:
        if not LABEL_VALUE.fullmatch(tag):
            raise InvalidArgument(
                f"Tag {tag!r} is not valid; use 1 to 128 letters, digits or any of . _ : / @ + -",
                field="tags",
            )
    return ",".join(sorted(set(given)))


def _listed(what: str, names: object) -> list[str]:
    if isinstance(names, str) or not isinstance(names, Iterable):
        raise InvalidArgument(f"{what} must be a list of names, as in [{names!r}].", field=what)
    listed = list(names)
    for name in listed:
        if not isinstance(name, str):
            raise InvalidArgument(
                f"{what} must be names, and {name!r} is {type(name).__name__}.", field=what
            )
    return listed


def _mapping(what: str, value: object, example: str) -> Mapping[str, Any]:
    if not isinstance(value, Mapping) or not all(isinstance(key, str) for key in value):
        raise InvalidArgument(f"{what} must be an object, as in {example}.", field=what)
    return value


def check_status(status: str) -> str:
    """Return *status* if it can be declared, else InvalidArgument with those that can."""
    if status not in STATUSES:
        raise InvalidArgument(
            f"Status {status!r} is none of {', '.join(STATUSES)}.", field="status"
        )
    return status


def check_capacity(what: str, value: object, low: int = 1) -> int:
    """Return *value* if it is a number of tasks from *low* to 100,000."""
    if isinstance(value, bool) or not isinstance(value, int) or not low <= value <= CAPACITY_MAX:
        raise InvalidArgument(
            f"{what} is {value!r}; it must be a whole number from {low} to {CAPACITY_MAX:,}.",
            field=what,
        )
    return value


def check_weight(weight: object) -> float:
    """Return *weight* if it is a number from 0.001 to 1,000."""
    if isinstance(weight, bool) or not isinstance(weight, int | float):
        fits = False
    else:
        fits = WEIGHT_MIN <= weight <= WEIGHT_MAX
    if not fits:
        raise InvalidArgument(
            f"weight is {weight!r}; it must be a number from {WEIGHT_MIN} to {WEIGHT_MAX:,}.",
            field="weight",
        )
    return float(weight)  # type: ignore[arg-type] # a number: seen above


def check_host(host: object) -> str:
    """Return *host* if it looks like the name or address of one."""
    if not isinstance(host, str) or not _HOST.fullmatch(host):
        raise InvalidArgument(
            f"host {host!r} is not valid; use at most 255 letters, digits, '.', '_', ':' or '-'.",
            field="host",
        )
    return host


def check_endpoints(endpoints: Mapping[str, str]) -> Mapping[str, str]:
    """Return *endpoints* if they are addresses, as text, by protocol.

    Those of ``http`` and ``https`` are URLs that can be called, or empty.
    """
    for name, address in _mapping("endpoints", endpoints, '{"http": "http://host:1"}').items():
        if not isinstance(address, str):
            raise InvalidArgument(
                f"Endpoint {name} is {address!r}; an address is text.", field="endpoints"
            )
        if name.lower() in ("http", "https") and address:
            why = fault_of(address) or ("it has a fragment" if "#" in address else "")
            if why:
                raise InvalidArgument(
                    f"Endpoint {name} is {without_user(address)!r}, to which nothing can be "
                    f"pushed: {why}. Give a URL, as http://host:9002.",
                    field="endpoints",
                )
    return endpoints


def push_address(endpoints: Mapping[str, str]) -> str:
    """Where tasks are pushed to: the endpoint ``http`` if it is a URL; empty for nowhere."""
    address = endpoints.get("http", "").strip()
    return address if address.lower().startswith(("http://", "https://")) else ""


def check_metadata(metadata: Mapping[str, Any]) -> Mapping[str, Any]:
    """Return *metadata* if it is an object."""
    return _mapping("metadata", metadata, '{"owner": "mira"}')


def check_version(version: object) -> str:
    """Return *version* if it is 1 to 128 characters."""
    if not isinstance(version, str) or not 1 <= len(version) <= 128:
        raise InvalidArgument(
            f"version is {version!r}; it must be 1 to 128 characters.", field="version"
        )
    return version


def encode_load(load: Mapping[str, float] | None) -> str:
    """Reported load as ``name=value`` pairs; empty for none.

    Raises:
        InvalidArgument: A name is not one, or a value is no number from -1e15 to 1e15.
        TooLarge: There are more than 64.
    """
    if load is None:
        return ""
    given = _mapping("load", load, '{"cpu": 0.4}')
    if len(given) > METRICS_MAX:
        raise TooLarge(
            f"An agent reports at most {METRICS_MAX} metrics, not {len(given)}.", field="load"
        )
    for name, value in given.items():
        check_name("metric", name)
        is_number = isinstance(value, int | float) and not isinstance(value, bool)
        if not is_number or not -METRIC_MAX <= value <= METRIC_MAX:
            raise InvalidArgument(
                f"Metric {name} is {value!r}; it must be a number from -1e15 to 1e15.", field="load"
            )
    return ",".join(f"{name}={float(value):.15g}" for name, value in given.items())


def spec_of(agent: str | AgentSpec, fields: dict[str, Any]) -> AgentSpec:
    """The specification of *agent*, a name or one already, with these fields.

    Raises:
        InvalidArgument: There is no such field.
    """
    try:
        if isinstance(agent, AgentSpec):
            return msgspec.structs.replace(agent, **fields)
        return AgentSpec(id=agent, **fields)
    except TypeError as error:
        raise InvalidArgument(
            f"An agent cannot be registered so: {error}. Its fields are "
            f"{', '.join(AgentSpec.__struct_fields__)}.",
            field="agent",
        ) from error
