"""A URL, and how to reach the node behind it that takes our calls: single, Sentinel or Cluster."""

from __future__ import annotations

import asyncio
from collections.abc import Iterable
from typing import Any, Protocol

from redis.crc import key_slot
from redis.exceptions import ConnectionError as RedisConnectionError
from redis.exceptions import MovedError, NoPermissionError, RedisError, ResponseError

from callboard.engine.locator import Location, Node, parse_url, redact_url
from callboard.engine.wire import Wire, ask, open_wire
from callboard.exceptions import ConfigError

__all__ = ["Address", "address_of", "redact_url"]


class Address(Protocol):
    """Where the engine is; it may be asked again after every loss."""

    is_cluster: bool
    can_move: bool

    def __str__(self) -> str:
        """The URL without passwords."""
        ...

    async def connect(self, name: str, time_limit: float) -> Wire:
        """Connect to the node that takes our calls at this moment."""
        ...

    def owns(self, name: str) -> bool:
        """Whether this key or sharded channel lives where our calls go."""
        ...

    def heed(self, refusal: Exception) -> None:
        """Learn from an answer like MOVED where to look next."""
        ...


def address_of(url: str, route: str) -> Address:
    """Read *url*; on a Cluster all calls go to the node that owns the slot of *route*.

    Raises:
        ConfigError: The URL cannot be used; the message says what to write instead.
    """
    location = parse_url(url)
    if location.kind == "cluster":
        return Cluster(location, route)
    return Sentinel(location) if location.kind == "sentinel" else Single(location)


class _Located:
    def __init__(self, location: Location) -> None:
        self._location = location

    def __str__(self) -> str:
        return self._location.display_url


class Single(_Located):
    """One server at a fixed address, or whatever a name service puts behind it."""

    is_cluster = False
    can_move = False

    async def connect(self, name: str, time_limit: float) -> Wire:
        """Connect to the server."""
        return await open_wire({**self._location.options, "client_name": name}, time_limit)

    def owns(self, name: str) -> bool:
        """Yes: it owns everything."""
        return True

    def heed(self, refusal: Exception) -> None:
        """Nothing to learn: the address is fixed."""


class Sentinel(_Located):
    """The master of a service, asked from the Sentinels before every connection.

    Follows "Guidelines for Redis clients with support for Sentinel": ask, connect,
    and check with ROLE that it still is the master.
    """

    is_cluster = False
    can_move = True

    def __init__(self, location: Location) -> None:
        super().__init__(location)
        self._sentinels = list(location.nodes)

    async def connect(self, name: str, time_limit: float) -> Wire:
        """Connect to the master that the first answering Sentinel names."""
        host, port = await self._master(name, time_limit / (len(self._sentinels) + 1))
        options = {**self._location.options, "host": host, "port": port, "client_name": name}
        wire = await open_wire(options, time_limit)
        try:
            role = await ask(wire, "ROLE")
            if role[0] != b"master":
                raise RedisConnectionError(f"{host}:{port} is not the master any more")
        except NoPermissionError:
            return wire  # The user may not ask; writes will tell.
        except BaseException:
            await wire.connection.disconnect(nowait=True)
            raise
        return wire

    def owns(self, name: str) -> bool:
        """Yes: the master owns everything."""
        return True

    def heed(self, refusal: Exception) -> None:
        """Nothing to learn: the Sentinels are asked each time."""

    async def _master(self, name: str, time_limit: float) -> Node:
        failures: list[str] = []
        unknown = 0
        for sentinel in tuple(self._sentinels):
            options = {**self._location.sentinel_options, "client_name": name}
            try:
                answer = await _ask_node(
                    sentinel,
                    options,
                    time_limit,
                    "SENTINEL",
                    "GET-MASTER-ADDR-BY-NAME",
                    self._location.service,
                )
            except (RedisError, OSError) as error:
                failures.append(f"{sentinel[0]}:{sentinel[1]}: {error!r}")
                continue
            if answer is None:
                unknown += 1
                continue
            # The one that answered is asked first next time.
            self._sentinels.remove(sentinel)
            self._sentinels.insert(0, sentinel)
            return answer[0].decode(), int(answer[1])
        if unknown == len(self._sentinels):
            raise ConfigError(
                f'No Sentinel knows a service "{self._location.service}". Put its name into the '
                "URL: redis+sentinel://host1:26379,host2:26379/SERVICE/0."
            )
        raise RedisConnectionError(
            f'no Sentinel names a master for "{self._location.service}" ({"; ".join(failures)})'
        )


class Cluster(_Located):
    """The node of a Redis Cluster that owns the slot of the routing key."""

    is_cluster = True
    can_move = True

    def __init__(self, location: Location, route: str) -> None:
        super().__init__(location)
        self._slot = key_slot(route.encode())
        self._known: list[Node] = []
        self._hint: Node | None = None
        self._connected: Node | None = None

    async def connect(self, name: str, time_limit: float) -> Wire:
        """Ask node after node for the slot map, until the owner it names can be connected to."""
        failure: Exception = RedisConnectionError("no node of the cluster could be asked")
        nodes = self._candidates()
        share = time_limit / min(len(nodes) + 1, 4)
        for node in nodes:
            try:
                return await self._connect_through(node, name, share)
            except (RedisError, OSError) as error:
                failure = error
        raise failure

    def owns(self, name: str) -> bool:
        """Whether the name hashes to the slot of the routing key."""
        return key_slot(name.encode()) == self._slot

    def heed(self, refusal: Exception) -> None:
        """Ask the node first that a MOVED names."""
        if isinstance(refusal, MovedError):
            host = refusal.host or (self._connected[0] if self._connected else "")
            self._hint = (host, refusal.port) if host else None

    def _candidates(self) -> list[Node]:
        first = [self._hint] if self._hint is not None else []
        self._hint = None
        return list(dict.fromkeys([*first, *self._known, *self._location.nodes]))

    async def _connect_through(self, node: Node, name: str, time_limit: float) -> Wire:
        options = {**self._location.options, "client_name": name}
        wire = await open_wire({**options, "host": node[0], "port": node[1]}, time_limit)
        try:
            async with asyncio.timeout(time_limit):
                ranges = await ask(wire, "CLUSTER", "SLOTS")
            owner = self._owner(ranges, node)
        except ResponseError as error:
            await wire.connection.disconnect(nowait=True)
            if "cluster support disabled" in str(error):
                raise ConfigError(
                    f"{node[0]}:{node[1]} is not part of a Cluster. "
                    "Use a redis:// or rediss:// URL for a single server."
                ) from error
            raise
        except BaseException:
            await wire.connection.disconnect(nowait=True)
            raise
        if owner != node:
            await wire.connection.disconnect(nowait=True)
            wire = await open_wire({**options, "host": owner[0], "port": owner[1]}, time_limit)
        self._connected = owner
        return wire

    def _owner(self, ranges: Iterable[Any], asked: Node) -> Node:
        """Find the owner of our slot, and remember all nodes for the next time."""
        owner: Node | None = None
        known: list[Node] = []
        for first, last, *nodes in ranges:
            members = [_advertised(node, asked) for node in nodes]
            if first <= self._slot <= last:
                owner = members[0]
                known[:0] = members
            else:
                known.extend(members)
        if owner is None:
            raise RedisConnectionError(f"no node of the cluster owns slot {self._slot}")
        self._known = list(dict.fromkeys(known))
        return owner


def _advertised(node: Any, asked: Node) -> Node:
    """Read a node of CLUSTER SLOTS; a nameless one is reached as the node that was asked."""
    host = node[0].decode() if node[0] else ""
    return (asked[0] if host in ("", "?") else host), int(node[1])


async def _ask_node(node: Node, options: dict[str, Any], time_limit: float, *command: str) -> Any:
    """Connect to *node*, ask one thing, and hang up."""
    wire = await open_wire({**options, "host": node[0], "port": node[1]}, time_limit)
    try:
        async with asyncio.timeout(time_limit):
            return await ask(wire, *command)
    finally:
        await wire.connection.disconnect(nowait=True)
