"""Requests to coordinators: one after another is tried, for as long as a call may take."""

from __future__ import annotations

import asyncio
import random
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from typing import Final

from callboard.dispatch.client import Client, HttpFailure, Response, Stream
from callboard.exceptions import (
    AlreadyAnswered,
    AlreadyResolved,
    AlreadyVoted,
    EngineUnavailable,
    IllegalState,
    NotFound,
    OutcomeUnknown,
    RateLimited,
)
from callboard.sdk.remote.errors import MAY_HAVE_RUN, error_of, failed

IDLE_SECONDS: Final = 4.0
"""Less than coordinators keep a connection, which would else be closed as it is used again."""

CONNECT_SECONDS: Final = 3.0
BODY_BYTES: Final = 64 << 20
"""A list of a thousand tasks, with results of many kilobytes each."""

STREAM_BYTES: Final = 65_536
"""Of the refusal of a stream."""

PAUSE_SECONDS: Final = 0.05
PAUSE_MAX: Final = 1.0
SILENCE_SECONDS: Final = 50.0
"""Streams say every 15 s that they live."""

SILENCE_OF_SEVERAL_SECONDS: Final = 20.0
"""Where there is another coordinator to go to."""

TRY_SECONDS: Final = 0.5
"""No further try is begun with less: its own end would hide what was clearly said before."""

SHARE_SECONDS: Final = 1.0
"""What a coordinator gets at least where there are others to ask."""

FRESH_SECONDS: Final = 1.0
"""How long one of several that answered is believed to be there, before what is sent once only."""

THERE: Final = "/health"
"""What is asked to see whether somebody is there: it takes no key and is not counted."""

DONE_BEFORE: Final = (NotFound, IllegalState, AlreadyAnswered, AlreadyResolved, AlreadyVoted)
"""What a repeated call is told where the first one was done."""


class Transport:
    """Coordinators that stand for one another, and how they are asked.

    Args:
        places: Their addresses; the one that answered last is asked first.
        call_timeout: Seconds after which a call gives up.

    Attributes:
        is_reachable: The last request was answered.
        is_closed: Nothing more is asked.
    """

    def __init__(
        self,
        places: tuple[str, ...],
        *,
        api_key: str | None,
        namespace: str,
        call_timeout: float,
    ) -> None:
        self._places = places
        self._at = 0
        self._call_timeout = call_timeout
        self._client = Client(idle=IDLE_SECONDS, connect_timeout=min(CONNECT_SECONDS, call_timeout))
        self._headers = {"accept": "application/json"}
        if api_key:
            self._headers["authorization"] = f"Bearer {api_key}"
        if namespace:
            self._headers["x-callboard-namespace"] = namespace
        self._heard_at: dict[str, float] = {}
        self.is_reachable = False
        self.is_closed = False

    @property
    def patience(self) -> float:
        """Seconds for which a call is tried."""
        return self._call_timeout

    @property
    def place(self) -> str:
        """The address that is asked first."""
        return self._places[self._at % len(self._places)]

    async def ask(
        self,
        verb: str,
        path: str,
        body: bytes = b"",
        *,
        asked: str = "",
        is_repeatable: bool = False,
        done_before: tuple[type[Exception], ...] = DONE_BEFORE,
    ) -> Response:
        """Send a request until it is answered, for as long as a call may take.

        What certainly was not done is sent again, to the next coordinator; what perhaps was,
        only if it *is_repeatable*; then no coordinator has more than its share of the time, so
        that one that hangs is not all that is asked. What may be sent once only goes to one of
        several that has shown just now that it is there. A coordinator without its engine is
        asked again, since it comes back; so is one that says how long to wait.

        Args:
            done_before: What a repetition is refused with where the first try was done.

        Raises:
            EngineUnavailable: Nothing was changed: nobody could be asked in time, or nothing
                came back to what only reads.
            OutcomeUnknown: Sent, and no answer came; or the repetition was refused as it is
                where the first try was done.
            CallboardError: The refusal that came back.
        """
        loop = asyncio.get_running_loop()
        give_up_at = loop.time() + self._call_timeout
        asked = asked or path
        pause = PAUSE_SECONDS
        is_doubtful = False
        while True:
            place, left = self.place, give_up_at - loop.time()
            if is_repeatable:
                left = min(left, self._share)
            try:
                if not is_repeatable:
                    await self._find(place)
                    left = give_up_at - loop.time()
                response = await self._send(place, verb, path, body, left)
                if response.status < 300:
                    return response
                fault = error_of(response, asked, place)
            except HttpFailure as failure:
                fault = failed(failure, asked, place)
                if failure.word != "stale":
                    self._turn(place)
            if isinstance(fault, OutcomeUnknown) and verb == "GET":
                fault = _unread(fault)
            if self.is_closed and isinstance(fault, EngineUnavailable):
                fault = EngineUnavailable(
                    f"The connection to {place} is closed. Open a new one.", coordinator=place
                )
            if is_doubtful and isinstance(fault, done_before) and verb != "GET":
                raise _doubtful(fault) from fault
            if not isinstance(fault, EngineUnavailable | OutcomeUnknown | RateLimited):
                raise fault
            if isinstance(fault, OutcomeUnknown):
                if not is_repeatable:
                    raise fault
                is_doubtful = True
            wait = _wait_of(fault, pause)
            if self.is_closed or loop.time() + wait + self._least >= give_up_at:
                raise _doubtful(fault) if is_doubtful else fault
            await asyncio.sleep(wait)
            pause = min(pause * 2, PAUSE_MAX)

    @asynccontextmanager
    async def stream(
        self, path: str, headers: Mapping[str, str] | None = None
    ) -> AsyncIterator[Stream]:
        """Open one stream at one coordinator.

        Raises:
            CallboardError: It was refused.
            HttpFailure: It could not be had, or broke while it was read.
        """
        place = self.place
        sent = {**self._headers, "accept": "text/event-stream", **(headers or {})}
        try:
            async with self._client.stream(
                "GET",
                place + path,
                sent,
                timeout=self._share,
                silence=SILENCE_SECONDS if len(self._places) == 1 else SILENCE_OF_SEVERAL_SECONDS,
            ) as stream:
                if stream.status >= 300:
                    told = await stream.read(STREAM_BYTES)
                    raise error_of(Response(stream.status, stream.headers, told), path, place)
                self.is_reachable = True
                yield stream
        except HttpFailure:
            self._turn(place)
            raise

    async def close(self) -> None:
        """Close all connections."""
        self.is_closed = True
        self.is_reachable = False
        await self._client.aclose()

    @property
    def _share(self) -> float:
        """Seconds for one try, where there are others to ask."""
        return min(self._call_timeout, max(self._call_timeout / len(self._places), SHARE_SECONDS))

    @property
    def _least(self) -> float:
        """Seconds that a further try needs to be worth it."""
        return min(TRY_SECONDS, self._call_timeout / 10)

    async def _send(self, place: str, verb: str, path: str, body: bytes, left: float) -> Response:
        if self.is_closed:
            raise HttpFailure("connect", "the connection is closed", is_sent=False)
        headers = {**self._headers, "content-type": "application/json"} if body else self._headers
        response = await self._client.request(
            verb,
            place + path,
            headers,
            body,
            timeout=max(left, 0.001),
            until_sent=self._share,
            repeat=verb == "GET",  # A change is repeated by who knows that it is doubtful.
            body_bytes=BODY_BYTES,
        )
        self._hear(place)
        return response

    async def _find(self, place: str) -> None:
        """See that one of several is there, before it is sent what may be sent once only.

        One that hangs takes what it is sent as any other does, and nobody knows then whether
        it will do it.

        Raises:
            HttpFailure: It is not; nothing was sent.
        """
        now = asyncio.get_running_loop().time()
        heard_at = self._heard_at.get(place)
        if len(self._places) == 1 or self.is_closed:
            return
        if heard_at is not None and now - heard_at < FRESH_SECONDS:
            return
        try:
            await self._client.request("GET", place + THERE, timeout=self._share)
        except HttpFailure as failure:
            raise HttpFailure(failure.word, str(failure), is_sent=False) from failure
        self._hear(place)

    def _hear(self, place: str) -> None:
        self.is_reachable = True
        self._heard_at[place] = asyncio.get_running_loop().time()

    def _turn(self, place: str) -> None:
        """Ask another first from now on, unless somebody turned already."""
        self.is_reachable = False
        if place == self.place:
            self._at += 1


def _wait_of(fault: Exception, pause: float) -> float:
    """Seconds until it is worth asking again."""
    if isinstance(fault, RateLimited):
        after = fault.details.get("retry_after")
        return float(after) if isinstance(after, int | float) else PAUSE_MAX
    return pause * (0.5 + random.random())


def _unread(fault: OutcomeUnknown) -> EngineUnavailable:
    """What only reads changed nothing, whether it ran or not."""
    said = fault.message.removesuffix(MAY_HAVE_RUN)
    return EngineUnavailable(f"{said} Nothing was changed: ask again.", **fault.details)


def _doubtful(fault: Exception) -> Exception:
    """One try may have run, whatever became of the last."""
    if isinstance(fault, OutcomeUnknown):
        return fault
    return OutcomeUnknown(f"{fault} An earlier try may have run.")
