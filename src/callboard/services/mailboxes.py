"""Inboxes and what is around them: read, counted, bounded; topics, peers, hierarchies."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from datetime import datetime
from typing import Any, Final

from callboard.domain import message as messages
from callboard.domain.bounds import check_list, check_text, check_whole
from callboard.domain.message import (
    InboxCounts,
    Link,
    Message,
    MessagePage,
    MessageWhy,
    Subscription,
)
from callboard.domain.names import check_name
from callboard.domain.task import at_ms, to_ms
from callboard.engine import message_codec
from callboard.engine.answers import checked
from callboard.engine.message_answers import MessageAnswer, answers_of
from callboard.engine.namespace import Namespace
from callboard.engine.replies import raise_refusal
from callboard.exceptions import InvalidArgument, TooLarge

PAGE_MAX: Final = 1_000
PAGE_BYTES_MAX: Final = 16 << 20
"""Of a page that has a bound: a thousand of the largest messages would take 256 MiB."""

OFFSET_MAX: Final = 1_000_000
FOREVER_MS: Final = 1 << 52
STATES: Final = ("unread", "waiting", "delayed", "taken", "dead", "finished")


class Mailboxes:
    """Reads inboxes and the history, and keeps who is subscribed and linked to whom."""

    def __init__(self, namespace: Namespace) -> None:
        self._functions = namespace.functions

    # Reading

    async def get(self, message_id: str, *, agent: str = "") -> Message:
        """A message; of several inboxes that have it the first by name, or *agent*'s.

        Raises:
            MessageNotFound: There is none, or it is kept no more.
        """
        found = await self.copies(message_id)
        for message in sorted(found, key=lambda one: one.agent):
            if agent in ("", message.agent):
                return message
        raise_refusal("message_not_found", (), message_id=message_id, inbox=agent)

    async def copies(self, message_id: str) -> list[Message]:
        """A message as it stands in each inbox that has it. Raises MessageNotFound."""
        name = check_name("message id", message_id)
        reply = await self._functions.call("message_read", 1, name)
        checked(reply, "ok")
        found = message_codec.messages_of(reply[2])
        if not found:
            raise_refusal("message_not_found", (), message_id=name)
        return found

    async def why(self, message_id: str, *, agent: str = "") -> MessageWhy:
        """Why a message is where it is, in one inbox that has it, or in none.

        A broadcast lies in no inbox, but *agent* has acknowledged it or not; a reply is with
        who waits for it.

        Raises:
            MessageNotFound: There is none, or it is kept no more.
        """
        name = check_name("message id", message_id)
        reply = await self._functions.call(
            "message_why", name, agent and check_name("agent", agent)
        )
        checked(reply, "ok", message_id=name, inbox=agent)
        message = message_codec.messages_of([name.encode(), reply[2], reply[3]])[0]
        if not reply[3]:
            return messages.explain_unboxed(message, agent=agent, upto=int(reply[4]))
        return messages.explain(
            message, before=int(reply[4]), taken=int(reply[6]), agent_status=reply[7].decode()
        )

    async def inbox(
        self,
        agent: str,
        *,
        state: str = "unread",
        limit: int = 100,
        offset: int = 0,
        bytes_max: int | None = None,
    ) -> MessagePage:
        """Look into an inbox without taking anything.

        Args:
            state: ``unread`` (waiting in the order they are taken in, then delayed, then taken
                ones), one of these, ``dead`` or ``finished`` (read and expired ones of the last
                day).
            limit: 1 to 1,000; what is more than 4 MiB is read in several calls.
            bytes_max: After how many the page ends before *limit*, at most 16 MiB; its
                ``limit`` then says how many it looked at, so the next one begins at
                ``offset + limit``. None for no bound; a coordinator always gives one.
        """
        if state not in STATES:
            raise InvalidArgument(f"state {state!r} is none of {', '.join(STATES)}.", field="state")
        asked = state, check_name("agent", agent)
        return await self._page(*asked, limit, offset, bytes_max=bytes_max)

    async def history(
        self,
        *,
        sender: str = "",
        receiver: str = "",
        thread: str = "",
        since: datetime | None = None,
        until: datetime | None = None,
        limit: int = 100,
        offset: int = 0,
        bytes_max: int | None = None,
    ) -> MessagePage:
        """The messages kept of one sender, receiver or thread, or all, the newest first.

        ``total`` is how many there are behind the same question. Read and expired messages are
        kept for a day, 10,000 an inbox; dead letters for 30 days. *bytes_max* is as of *inbox*.
        """
        asked = [(which, name) for which, name in _by(sender, receiver, thread) if name]
        if len(asked) > 1:
            raise InvalidArgument("Ask by one of sender, receiver or thread.", field="sender")
        which, name = asked[0] if asked else ("all", "")
        bounds = (
            0 if since is None else to_ms(since, "since"),
            FOREVER_MS if until is None else to_ms(until, "until"),
        )
        whose = name and check_name(which, name)
        return await self._page(which, whose, limit, offset, bounds, bytes_max=bytes_max)

    async def unread(self, agent: str) -> int:
        """How many messages of an inbox are neither acknowledged nor over."""
        return (await self.counts(agent)).unread

    async def counts(self, agent: str) -> InboxCounts:
        """How many messages of an inbox are in each state, and how many broadcasts unread."""
        reply = await self._functions.call("message_counts", check_name("agent", agent))
        checked(reply, "ok")
        return InboxCounts(agent, *map(int, reply[2]))

    async def inboxes(self, *, limit: int = PAGE_MAX, offset: int = 0) -> list[InboxCounts]:
        """The inboxes that hold something, or are linked or bounded, by name within the page."""
        check_whole("limit", limit, 1, PAGE_MAX)
        check_whole("offset", offset, 0, OFFSET_MAX)
        reply = await self._functions.call("message_inboxes", offset, limit)
        checked(reply, "ok")
        flat: Sequence[Any] = reply[3]
        rows = (flat[i : i + 7] for i in range(0, len(flat), 7))
        found = [InboxCounts(row[0].decode(), *map(int, row[1:])) for row in rows]
        return sorted(found, key=lambda one: one.agent)

    # Dead letters, and what an operator does

    async def requeue(
        self, agent: str, ids: str | Iterable[str], *, by: str = ""
    ) -> list[MessageAnswer]:
        """Put dead letters of an inbox back, with all their deliveries before them."""
        return await self._steer("message_requeue", agent, ids, by)

    async def purge(
        self, agent: str, ids: str | Iterable[str], *, by: str = ""
    ) -> list[MessageAnswer]:
        """Remove messages from an inbox, whatever their state, but for taken ones."""
        return await self._steer("message_purge", agent, ids, by)

    async def set_limit(self, agent: str, limit: int, *, by: str = "") -> None:
        """Set how many unfinished messages an inbox holds, 1 to 1,000,000; 10,000 at first."""
        reply = await self._functions.call(
            "message_configure",
            check_name("agent", agent),
            check_text("by", by),
            check_whole("limit", limit, 1, 1_000_000),
        )
        checked(reply, "ok")

    # Topics

    async def subscribe(self, agent: str, topic: str, *, types: Iterable[str] = ()) -> bool:
        """Have an agent get what is published on a topic from now on; False where it did.

        It stands until it is ended, or the agent's name was not registered for a day.

        Args:
            types: Only messages of these types; none for all.

        Raises:
            TooLarge: The agent has 1,000 topics, or the topic 1,000 subscribers.
        """
        wanted = ",".join(sorted({check_name("type", kind) for kind in types}))
        return await self._subscribe(agent, topic, "add", wanted)

    async def unsubscribe(self, agent: str, topic: str) -> bool:
        """End a subscription; False where there was none. What was sent stays in the inbox."""
        return await self._subscribe(agent, topic, "remove", "")

    async def subscriptions(self, agent: str = "", *, limit: int = PAGE_MAX) -> list[Subscription]:
        """The topics of an agent, or of all agents."""
        rows = await self._links("topics", agent and check_name("agent", agent), limit)
        return [
            Subscription(agent=row[0], topic=row[1], since=row[2], types=_types(row[3]))
            for row in rows
        ]

    async def subscribers(self, topic: str, *, limit: int = PAGE_MAX) -> list[Subscription]:
        """The agents that are subscribed to a topic."""
        rows = await self._links("subscribers", check_name("topic", topic), limit)
        return [
            Subscription(agent=row[1], topic=row[0], since=row[2], types=_types(row[3]))
            for row in rows
        ]

    # Protocols

    async def add_peer(self, agent: str, peer: str, *, by: str = "") -> bool:
        """Let *agent* write to *peer* by ``peer_to_peer``; False where it may already.

        It is one way: the peer answers by the same protocol once it has added the agent.
        """
        return await self._link("peers", agent, "add", [peer], by) > 0

    async def remove_peer(self, agent: str, peer: str, *, by: str = "") -> bool:
        """Undo ``add_peer``; False where it was none."""
        return await self._link("peers", agent, "remove", [peer], by) > 0

    async def peers(self, agent: str = "", *, limit: int = PAGE_MAX) -> list[Link]:
        """The peers of an agent, or of all agents."""
        rows = await self._links("peers", agent and check_name("agent", agent), limit)
        return [Link(agent=row[0], name=row[1], since=row[2]) for row in rows]

    async def set_hierarchy(self, master: str, subordinates: Iterable[str], *, by: str = "") -> int:
        """Make these and no others the subordinates of *master*; answers how many changed."""
        return await self._link("subordinates", master, "set", subordinates, by)

    async def add_subordinate(self, master: str, agent: str, *, by: str = "") -> bool:
        """Let *master* and *agent* write to each other by ``hierarchical``; False if so."""
        return await self._link("subordinates", master, "add", [agent], by) > 0

    async def remove_subordinate(self, master: str, agent: str, *, by: str = "") -> bool:
        """Undo ``add_subordinate``; False where it was none."""
        return await self._link("subordinates", master, "remove", [agent], by) > 0

    async def subordinates(self, master: str = "", *, limit: int = PAGE_MAX) -> list[Link]:
        """The subordinates of an agent, or of all agents."""
        rows = await self._links("subordinates", master and check_name("agent", master), limit)
        return [Link(agent=row[0], name=row[1], since=row[2]) for row in rows]

    async def _page(
        self,
        which: str,
        name: str,
        limit: int,
        offset: int,
        bounds: tuple[int, int] = (0, FOREVER_MS),
        *,
        bytes_max: int | None = None,
    ) -> MessagePage:
        check_whole("limit", limit, 1, PAGE_MAX)
        check_whole("offset", offset, 0, OFFSET_MAX)
        values: list[Any] = []
        left = math.inf if bytes_max is None else min(bytes_max, PAGE_BYTES_MAX)
        more = True
        while more:  # a reply is bounded by bytes too
            got = len(values) // 3
            reply = await self._functions.call(
                "message_list", which, name, *bounds, offset + got, limit - got
            )
            checked(reply, "ok")
            values += reply[3]
            left -= sum(sum(map(len, fields)) for fields in reply[3][1::3])
            more = bool(reply[4]) and len(values) // 3 < limit and left > 0
        looked_at = limit if len(values) // 3 >= limit or not reply[4] else len(values) // 3
        found = message_codec.messages_of(values)
        if which == "receiver":
            found = [message for message in found if message.agent == name]
        total = int(reply[2])
        return MessagePage(messages=tuple(found), total=total, limit=looked_at, offset=offset)

    async def _steer(
        self, function: str, agent: str, ids: str | Iterable[str], by: str
    ) -> list[MessageAnswer]:
        named = [ids] if isinstance(ids, str) else check_list("ids", ids)
        wanted = [check_name("message id", message_id) for message_id in named]
        if len(wanted) > messages.BATCH_MAX:
            raise TooLarge(
                f"At most {messages.BATCH_MAX:,} messages in one call, not {len(wanted):,}.",
                field="ids",
            )
        if not wanted:
            return []
        reply = await self._functions.call(
            function, check_name("agent", agent), check_text("by", by), len(wanted), *wanted
        )
        return answers_of(reply, wanted)

    async def _subscribe(self, agent: str, topic: str, verb: str, types: str) -> bool:
        name = check_name("agent", agent)
        reply = await self._functions.call(
            "message_subscribe", name, check_name("topic", topic), verb, types
        )
        checked(reply, "ok", inbox=name)
        return bool(reply[1])

    async def _link(
        self, relation: str, agent: str, verb: str, names: Iterable[str], by: str
    ) -> int:
        owner = check_name("agent", agent)
        if isinstance(names, str):
            raise InvalidArgument("Give a list of agents, not one string.", field=relation)
        wanted = [check_name("agent", name) for name in names]
        if owner in wanted:
            raise InvalidArgument(f"Agent {owner!r} cannot be linked with itself.", field=relation)
        reply = await self._functions.call(
            "message_link", relation, owner, verb, check_text("by", by), len(wanted), *wanted
        )
        checked(reply, "ok", inbox=owner)
        return int(reply[1])

    async def _links(
        self, relation: str, name: str, limit: int
    ) -> list[tuple[str, str, datetime, str]]:
        check_whole("limit", limit, 1, 10_000)
        reply = await self._functions.call("message_links", relation, name, limit)
        checked(reply, "ok")
        flat: Sequence[Any] = reply[2]
        return [
            (
                flat[i].decode(),
                flat[i + 1].decode(),
                at_ms(float(flat[i + 2])),
                flat[i + 3].decode(),
            )
            for i in range(0, len(flat), 4)
        ]


def _by(sender: str, receiver: str, thread: str) -> list[tuple[str, str]]:
    return [("sender", sender), ("receiver", receiver), ("thread", thread)]


def _types(text: str) -> tuple[str, ...]:
    return tuple(text.split(",")) if text else ()
