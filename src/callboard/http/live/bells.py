"""The bells of a namespace as one stream: for clients in which somebody waits."""

from __future__ import annotations

import re
from typing import Final

import msgspec

from callboard.domain.names import check_name
from callboard.engine.bells import Bells
from callboard.exceptions import InvalidArgument
from callboard.http.live.feeds import check_agent, hub_of, query_of
from callboard.http.live.frames import block, encode
from callboard.http.live.stream import Stream
from callboard.http.route import Call, Reply, Route
from callboard.services.events import POLL_SECONDS

BELLS_MAX: Final = 100
LISTENING: Final = "listening"
BELL: Final = "bell"

_BELL: Final = re.compile(r"(agent|inbox|broadcasts|reply|locks|events|board)(?:/(.+))?")


class BellsQuery(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Which bells.

    Attributes:
        on: 1 to 100 of ``agent/mira/instance``, ``inbox/mira``, ``broadcasts``, ``reply/id``,
            ``locks/client``, ``events``, ``board/name``.
    """

    on: list[str]


class Rung(msgspec.Struct, frozen=True):
    """A bell rang. An empty payload may mean that some were missed."""

    bell: str
    payload: str


async def bells(call: Call) -> Reply | None:
    """Stream these bells. The event ``listening`` says that what rings from now on is heard."""
    names = query_of(call, BellsQuery).on
    if not 1 <= len(names) <= BELLS_MAX:
        raise InvalidArgument(f"Listen to 1 to {BELLS_MAX} bells, not {len(names)}.", field="on")
    cb, hub = await call.board(), await hub_of(call)
    wanted = {_channel_of(call, cb.namespace.bells, name): name for name in names}
    with await cb.namespace.bells.listen(*wanted) as rung:

        async def feed(stream: Stream) -> None:
            await stream.tell(LISTENING, {"on": names})
            while True:
                heard = await rung.get(POLL_SECONDS)
                if heard is not None:
                    told = Rung(wanted[heard[0]], heard[1].decode("utf-8", "replace"))
                    await stream.write(block(BELL, encode(told)))

        stream = Stream(hub.outlets, call.scope, call.receive, call.send)
        return await stream.run(feed, retry=hub.settings.retry)


def _channel_of(call: Call, bells: Bells, name: str) -> str:
    """The channel of a bell that a client named."""
    found = _BELL.fullmatch(name)
    kind, of = (found[1], found[2] or "") if found else ("", "")
    if kind == "agent":
        agent, _, instance = of.partition("/")
        return bells.agent(check_agent(call, agent), instance and check_name("instance", instance))
    if kind == "inbox":
        return bells.inbox(check_agent(call, of))
    if kind == "reply":
        return bells.reply(check_name("message id", of))
    if kind == "locks":
        return bells.locks(check_name("client", of))
    if kind == "board":
        return bells.board(check_name("board", of))
    if kind and not of:
        return bells.events() if kind == "events" else bells.broadcasts()
    raise InvalidArgument(
        f"{name!r} is no bell: agent/NAME/INSTANCE, inbox/NAME, broadcasts, reply/ID, "
        "locks/CLIENT, events, board/NAME.",
        field="on",
    )


def routes() -> list[Route]:
    """The stream of bells."""
    return [
        Route(
            verb="GET",
            path="/bells",
            handle=bells,
            role="read",
            summary="Stream bells: hints that there is something to look for.",
            description="Server-sent events `bell`, with the bell's name and a payload that is "
            "empty where bells may have been missed. The first event is `listening`. A bell may "
            "be lost: who waits for one looks by itself too, once a second or so.",
            tag="live",
            query=BellsQuery,
            answers={200: None},
            content_type="text/event-stream",
            is_streaming=True,
        )
    ]
