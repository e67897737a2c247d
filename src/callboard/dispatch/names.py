"""Names of hosts, looked up apart from the loop: those that take long hold up no others."""

from __future__ import annotations

import asyncio
import socket
from concurrent.futures import ThreadPoolExecutor
from typing import Final

from callboard.dispatch.wire import HttpFailure

FRESH_SECONDS: Final = 5.0
"""For how long an answer serves without a question."""

KEPT_SECONDS: Final = 3_600.0
"""For how long the last answer stands in where the next one fails, or takes long."""

SLOW_SECONDS: Final = 1.0
"""From when on a look-up takes long."""

LANES: Final = {"known": 16, "new": 48, "slow": 16}
"""Look-ups at once: of names whose last answer was good, of those not known, and of those
whose last one took long. A name takes one place, whoever asks for it."""

NAMES_MAX: Final = 4_096

LOOPBACK: Final = ("127.0.0.1", "::1")


class _Name:
    """What is known of one name."""

    __slots__ = ("asking", "at", "found", "has_begun", "is_slow", "waiting")

    def __init__(self) -> None:
        self.found: tuple[str, ...] = ()
        self.at = 0.0
        self.asking: asyncio.Task[tuple[str, ...]] | None = None
        self.has_begun = False
        self.is_slow = False
        self.waiting = 0


class Names:
    """Looks names up, for one event loop; ``close`` leaves what is under way."""

    def __init__(self) -> None:
        self._names: dict[str, _Name] = {}
        self._lanes = {lane: asyncio.Semaphore(most) for lane, most in LANES.items()}
        self._pool: ThreadPoolExecutor | None = None

    async def look_up(self, host: str) -> tuple[str, ...]:
        """The addresses of a name, as it was looked up within the last 5 seconds.

        Where that takes over a second, or fails for the moment, they are those of the last
        hour.

        Raises:
            HttpFailure: There is no such name, or it cannot be looked up.
        """
        if host.rstrip(".").lower() == "localhost":
            return LOOPBACK
        loop = asyncio.get_running_loop()
        name = self._name(host)
        age = loop.time() - name.at
        if name.found and age < FRESH_SECONDS:
            return name.found
        if name.asking is None:
            name.has_begun = False
            name.asking = asyncio.create_task(self._ask(host, name))
            name.asking.add_done_callback(_seen)
        stand_in = name.found if age < KEPT_SECONDS else ()
        name.waiting += 1
        asking = name.asking
        try:
            async with asyncio.timeout(SLOW_SECONDS if stand_in else None):
                return await asyncio.shield(asking)
        except TimeoutError:
            return stand_in
        except asyncio.CancelledError:
            if asking.cancelled():  # not whoever asks, but the look-up: by close
                raise HttpFailure("connect", "the client is closed", is_sent=False) from None
            raise
        except HttpFailure as failure:
            is_gone = isinstance(failure.__cause__, socket.gaierror) and (
                failure.__cause__.errno == socket.EAI_NONAME
            )
            if stand_in and not is_gone:
                return stand_in
            raise
        finally:
            name.waiting -= 1
            if not name.waiting and not name.has_begun and name.asking is not None:
                name.asking.cancel()  # nobody wants it any more
                name.asking = None

    def close(self) -> None:
        """Look up no more."""
        for name in self._names.values():
            if name.asking is not None:
                name.asking.cancel()
        self._names.clear()
        if self._pool is not None:
            self._pool.shutdown(wait=False, cancel_futures=True)
            self._pool = None

    def _name(self, host: str) -> _Name:
        name = self._names.get(host)
        if name is None:
            if len(self._names) >= NAMES_MAX:
                idle = next((key for key, one in self._names.items() if not one.waiting), None)
                self._names.pop(idle or host, None)
            name = self._names[host] = _Name()
        return name

    async def _ask(self, host: str, name: _Name) -> tuple[str, ...]:
        loop = asyncio.get_running_loop()
        lane = "slow" if name.is_slow else "known" if name.found else "new"
        async with self._lanes[lane]:
            name.has_begun = True
            if self._pool is None:
                self._pool = ThreadPoolExecutor(sum(LANES.values()), "callboard-names")
            began = loop.time()
            try:
                found = await loop.run_in_executor(self._pool, addresses_of, host)
            except UnicodeError as error:
                raise HttpFailure("unusable", f"{host} is no name of a host", is_sent=False) from (
                    error
                )
            except OSError as error:
                why = error.strerror or str(error)
                raise HttpFailure(
                    "connect", f"the name {host} cannot be looked up: {why}", is_sent=False
                ) from error
            finally:
                name.asking = None
                name.is_slow = loop.time() - began >= SLOW_SECONDS
        name.found, name.at = tuple(found), loop.time()
        return name.found


def addresses_of(host: str) -> list[str]:
    """Ask the system; it may take as long as it likes."""
    rows = socket.getaddrinfo(host, None, type=socket.SOCK_STREAM)
    return list(dict.fromkeys(str(row[4][0]) for row in rows))


def _seen(task: asyncio.Task[tuple[str, ...]]) -> None:
    """Take note of a failure that nobody waits for any more."""
    if not task.cancelled():
        task.exception()
