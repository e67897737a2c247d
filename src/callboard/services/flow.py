"""Flow control: how many at once, how often, in which turns: by the keys of tasks."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Final

from callboard.domain.bounds import check_text, check_whole
from callboard.domain.flow import (
    FlowKey,
    check_key_or_pattern,
    encode_concurrency,
    encode_rate,
    encode_weight,
    flow_key_of,
)
from callboard.engine.answers import checked
from callboard.engine.namespace import Namespace
from callboard.exceptions import InvalidArgument

LIST_MAX: Final = 1_000
READ_MOST: Final = 200
"""Keys read in one call: each costs the engine a look at its lanes."""

SWEEP_LIMIT: Final = 500

FlowKeys = list[FlowKey]


class Flow:
    """What is set for the keys that tasks are submitted with, over all boards of a namespace.

    A key is any name. Nothing need be set for it: a task's ``concurrency_key`` and
    ``rate_key`` hold nothing back until there is a limit, and each ``fairness_key`` has the
    weight 1. A key that ends with ``*`` stands for all that begin so; where several fit, the
    key's own setting goes first, then that of the longest.
    """

    def __init__(self, namespace: Namespace) -> None:
        self._namespace = namespace
        self._functions = namespace.functions

    async def limit(
        self,
        key: str,
        *,
        concurrency: float | None = None,
        rate: float | None = None,
        per: float = 1.0,
        burst: int | None = None,
        by: str = "",
    ) -> FlowKey:
        """Set how many tasks with the key may be claimed at once, or how often; or both.

        What is None stays as it is. A lower limit takes nothing from who has it already: the
        next claim waits until there is room. Who waits for the key is woken at once, who waits
        for a key that a pattern stands for finds out within about a second. A corrected rate
        holds at once: nobody waits for what was claimed by the rate before.

        Args:
            key: As in the tasks' ``concurrency_key`` or ``rate_key``; with ``*`` behind it
                for all keys that begin so, each with a limit of its own.
            concurrency: 0 to 1,000,000; ``math.inf`` for no limit.
            rate: Claims in *per* seconds, at most 10,000 a second; ``math.inf`` for no limit.
            per: Seconds that *rate* is counted in.
            burst: Claims that may come at once after a quiet time, 1 unless given: then they
                come evenly, *per* / *rate* seconds apart.

        Raises:
            InvalidArgument: A value is out of its bounds, or nothing is given.
            TooLarge: 10,000 keys or 100 patterns have settings already.
        """
        interval, most = encode_rate(rate, per, burst)
        slots = encode_concurrency(concurrency)
        if not slots and not interval:
            raise InvalidArgument(
                "Give concurrency or rate. To take limits back: callboard flow remove "
                f"{check_key_or_pattern(key)}.",
                field="concurrency",
            )
        return await self._set(key, by, slots, interval, most, "", "")

    async def weight(self, key: str, weight: float, *, by: str = "") -> FlowKey:
        """Give tasks with this ``fairness_key`` a share of *weight* against 1 of others.

        Raises:
            InvalidArgument: It is not from 0.001 to 1,000.
            TooLarge: 10,000 keys or 100 patterns have settings already.
        """
        return await self._set(key, by, "", "", "", "", encode_weight(weight))

    async def pause(self, key: str, *, by: str = "") -> FlowKey:
        """Let no task with the key, of whichever kind, be claimed; held ones go on."""
        return await self._set(key, by, "", "", "", "1", "")

    async def resume(self, key: str, *, by: str = "") -> FlowKey:
        """Undo a pause, also one of a pattern that the key belongs to.

        Who waits for the key is woken. Where *key* is a pattern, those who wait for a key that
        it stands for find out within about a second.
        """
        return await self._set(key, by, "", "", "", "0", "")

    async def remove(self, key: str, *, by: str = "") -> None:
        """Take back all that was set for the key: limits, weight and pause.

        Raises:
            FlowKeyNotFound: Nothing is set for it.
        """
        reply = await self._functions.call(
            "flow_remove", check_key_or_pattern(key), check_text("by", by)
        )
        checked(reply, "ok", key=key)

    async def get(self, key: str) -> FlowKey:
        """What is set for a key, and what runs and waits with it; also where nothing is set."""
        return (await self.get_many([key]))[0]

    async def get_many(self, keys: Sequence[str]) -> FlowKeys:
        """The same for many keys, in their order; 200 are read at one moment."""
        if isinstance(keys, str) or not isinstance(keys, Sequence):
            raise InvalidArgument("keys must be a list of keys.", field="keys")
        wanted = [check_key_or_pattern(key) for key in keys]
        found: FlowKeys = []
        for start in range(0, len(wanted), READ_MOST):
            part = wanted[start : start + READ_MOST]
            reply = await self._functions.call("flow_read", len(part), *part)
            checked(reply, "ok")
            found += (flow_key_of(values) for values in reply[2:])
        return found

    async def list(self, *, limit: int = LIST_MAX, skip: int = 0) -> FlowKeys:
        """Keys and patterns that something is set for, by name: *limit*, 1 to 1,000, of them."""
        check_whole("limit", limit, 1, LIST_MAX)
        check_whole("skip", skip, 0, 10**9)
        keys = self._namespace.keys
        names: set[str] = set()
        for key in (keys.flow_limits, keys.flow_patterns):
            raw = await self._namespace.connection.call("HKEYS", key)
            names.update(name.decode() for name in raw)
        return await self.get_many(sorted(names)[skip : skip + limit])

    async def sweep(self) -> bool:
        """Wake those whose rate lets something through by now; whether there is more to do."""
        reply = await self._functions.call("flow_sweep", SWEEP_LIMIT)
        checked(reply, "ok")
        return bool(reply[1])

    async def _set(self, key: str, by: str, *values: Any) -> FlowKey:
        reply = await self._functions.call(
            "flow_set", check_key_or_pattern(key), check_text("by", by), *values
        )
        checked(reply, "ok", key=key)
        return await self.get(key)
