"""Processes that share a port tell each other what passed through them: any answers for all.

They meet in a folder of their parent's. Each listens there on a socket, and writes down what it
is about to tell before it tells it: what was once told of a process that died since, or that
does not answer, is still counted, and no sum ever falls. What the dead have counted is added up
by the parent, in one file.
"""

from __future__ import annotations

import asyncio
import logging
import os
from collections.abc import Callable, Iterable
from contextlib import suppress
from pathlib import Path
from typing import Final

import msgspec

from callboard.http.observing import Requests, Series

ANSWER_SECONDS: Final = 0.5
"""How long a process is waited for that does not answer, as one that hangs."""

BURIED_MAX: Final = 1_000
"""Names of dead processes that are kept: a reader needs those of the last moments."""

COUNTS: Final = ".counts"
SOCKET: Final = ".sock"
GONE: Final = "gone" + COUNTS

NOTHING: Final = msgspec.Raw(b"null")

_log = logging.getLogger("callboard.serve")


class Row(msgspec.Struct, frozen=True, array_like=True):
    """What one process knows of one verb on one route, as ``Series``."""

    verb: str
    path: str
    statuses: dict[str, int]
    buckets: list[int]
    seconds: float
    sent: int


class Told(msgspec.Struct, frozen=True):
    """What one process tells.

    Attributes:
        state: What it says of itself, as JSON; none of one that does not answer.
        buried: Of the file of the dead: whose counts are in it.
    """

    total: int = 0
    failures: int = 0
    in_flight: int = 0
    rows: list[Row] = []
    state: msgspec.Raw = NOTHING
    buried: list[str] = []


class Together(msgspec.Struct, frozen=True):
    """What all processes of a port tell.

    Attributes:
        requests: What passed through any of them, dead ones too.
        states: What each that answers says of itself, as JSON; the one asked first.
    """

    requests: Requests
    states: list[msgspec.Raw]


_decoder = msgspec.json.Decoder(Told)


class Siblings:
    """One of the processes that meet in a folder.

    Args:
        name: Its own; never given twice in a folder.
        describe: What it says of itself, as JSON.
    """

    def __init__(
        self, folder: Path, name: str, requests: Requests, describe: Callable[[], bytes]
    ) -> None:
        self._folder = folder
        self._name = name
        self._requests = requests
        self._describe = describe
        self._server: asyncio.Server | None = None

    async def start(self) -> None:
        """Listen to the others; where that cannot be, they do without, and the log says so."""
        try:
            path = str(self._folder / (self._name + SOCKET))
            self._server = await asyncio.start_unix_server(self._answer, path)
        except OSError as error:
            _log.warning("Metrics are without process %d: %s: %s", os.getpid(), self._folder, error)

    def stop(self) -> None:
        """Listen no more, and leave behind what was counted."""
        server, self._server = self._server, None
        if server is not None:
            server.close()
            self._tell()
            with suppress(OSError):
                (self._folder / (self._name + SOCKET)).unlink()

    async def together(self) -> Together:
        """Ask all others, at once."""
        own = self._tell()
        names = {path.stem for path in self._folder.glob("*" + SOCKET)} - {self._name}
        heard = dict(zip(names, await asyncio.gather(*map(self._ask, names)), strict=True))
        told = {name: answer for name, answer in heard.items() if answer is not None}
        for path in self._folder.glob("*" + COUNTS):
            if path.name != GONE and path.stem != self._name and path.stem not in told:
                left = _read(path)
                if left is not None:
                    told[path.stem] = msgspec.structs.replace(left, in_flight=0, state=NOTHING)
        # Last: who was buried meanwhile is in it, and counted once.
        gone = _read(self._folder / GONE) or Told()
        those = [answer for name, answer in told.items() if name not in gone.buried]
        states = [one.state for one in (own, *those) if one.state != NOTHING]
        return Together(_summed([own, *those, gone]), states)

    def _told(self) -> Told:
        requests = self._requests
        return Told(
            total=requests.total,
            failures=requests.failures,
            in_flight=requests.in_flight,
            rows=_rows(requests),
            state=msgspec.Raw(self._describe()),
        )

    def _tell(self) -> Told:
        """What this process tells, once it is written down."""
        told = self._told()
        with suppress(OSError):  # A full disk costs what is told of this process after its end.
            _write(self._folder / (self._name + COUNTS), told)
        return told

    async def _answer(self, _: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with suppress(OSError):
            writer.write(msgspec.json.encode(self._tell()))
            await writer.drain()
        writer.close()

    async def _ask(self, name: str) -> Told | None:
        """What another tells; None where it does not."""
        writer: asyncio.StreamWriter | None = None
        try:
            async with asyncio.timeout(ANSWER_SECONDS):
                path = str(self._folder / (name + SOCKET))
                reader, writer = await asyncio.open_unix_connection(path)
                return _decoder.decode(await reader.read(-1))
        except (OSError, TimeoutError, msgspec.MsgspecError):
            return None
        finally:
            if writer is not None:
                writer.close()


def bury(folder: Path, name: str) -> None:
    """Add what a process that ended has counted to what is kept of such; its parent does this."""
    own = folder / (name + COUNTS)
    left = _read(own)
    with suppress(OSError):
        if left is not None:
            gone = _read(folder / GONE) or Told()
            both = _summed([gone, left])
            buried = [*gone.buried, name][-BURIED_MAX:]
            _write(
                folder / GONE,
                Told(
                    total=both.total,
                    failures=both.failures,
                    rows=_rows(both),
                    buried=buried,
                ),
            )
            own.unlink()
    with suppress(OSError):
        (folder / (name + SOCKET)).unlink()


def _rows(requests: Requests) -> list[Row]:
    return [
        Row(verb, path, dict(one.statuses), list(one.buckets), one.seconds, one.sent)
        for (verb, path), one in requests.series.items()
    ]


def _summed(told: Iterable[Told]) -> Requests:
    found = Requests()
    for one in told:
        found.total += one.total
        found.failures += one.failures
        found.in_flight += one.in_flight
        for row in one.rows:
            _add(found.series.setdefault((row.verb, row.path), Series()), row)
    return found


def _add(series: Series, row: Row) -> None:
    for family, count in row.statuses.items():
        series.statuses[family] = series.statuses.get(family, 0) + count
    series.buckets = [mine + more for mine, more in zip(series.buckets, row.buckets, strict=True)]
    series.seconds += row.seconds
    series.sent += row.sent


def _read(path: Path) -> Told | None:
    try:
        return _decoder.decode(path.read_bytes())
    except (OSError, msgspec.MsgspecError):
        return None


def _write(path: Path, told: Told) -> None:
    """Replace the file in one step: who reads it finds the one or the other."""
    beside = path.with_suffix(f".{os.getpid()}")
    beside.write_bytes(msgspec.json.encode(told))
    beside.replace(path)
