"""Messages on their way: sent, taken, acknowledged, given back, answered, broadcast."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Iterable, Sequence
from typing import Any, Final

from callboard.domain import message as messages
from callboard.domain.bounds import check_list, check_whole
from callboard.domain.lock import check_owner
from callboard.domain.message import (
    Address,
    BroadcastSent,
    Hearing,
    Message,
    MessageSpec,
    SentMessage,
    Topic,
)
from callboard.domain.names import check_name
from callboard.domain.repeats import operation_id
from callboard.domain.task import LEASE_MAX, LEASE_MIN, at_ms, check_seconds, new_id
from callboard.engine import message_codec
from callboard.engine.answers import checked
from callboard.engine.codec import in_batches
from callboard.engine.message_answers import MessageAnswer, answers_of
from callboard.engine.namespace import Namespace
from callboard.engine.replies import raise_refusal
from callboard.exceptions import InvalidArgument

SWEEP_INBOXES: Final = 50
Pairs = list[tuple[str, int]]

ROUNDS_MAX: Final = 20
"""Calls that one take may need to get past expired messages."""


class Post:
    """Sends messages, and hands them to their receivers."""

    def __init__(self, namespace: Namespace) -> None:
        self._namespace = namespace
        self._functions = namespace.functions

    # Sending

    async def send(self, to: Address, payload: Any = None, **fields: Any) -> SentMessage:
        """Put a message into the inboxes of those that it is for; durable when this returns.

        Receivers need not be there yet: it waits for them, a day where nobody of the name is
        registered. Membership of a role or topic is read in the same step.

        Args:
            to: An agent, a list of up to 1,000, a ``Role``, a ``Topic``, ``PEERS``,
                ``SUBORDINATES`` or ``REGISTERED``. Agents named must all have room; of the
                others, full inboxes are passed over and named in the answer.
            payload: Any JSON value of at most 256 KiB.
            fields: The other fields of ``MessageSpec``.

        Raises:
            InboxFull, IdConflict, NotAPeer, NotInHierarchy, TooManyRecipients: Nothing was sent.
            InvalidArgument, TooLarge: A field is wrong.
        """
        sent = (await self.send_many([_spec(to, payload, fields)]))[0]
        if not sent.is_ok:
            raise_refusal(sent.status, (b"", ",".join(sent.full)), message_id=sent.id)
        return sent

    async def send_many(self, specs: Iterable[MessageSpec]) -> list[SentMessage]:
        """Send messages in order, each answered by itself.

        One call to the engine carries at most 1,000 messages, 8 MiB and some 2,000
        deliveries; others come to the engine between two calls.
        """
        rows = [message_codec.row_of(spec) for spec in check_list("specs", specs)]
        found: list[SentMessage] = []
        for batch in in_batches(rows, message_codec.row_weight):
            found += await self._send(batch)
        return found

    async def publish(self, topic: str, payload: Any = None, **fields: Any) -> SentMessage:
        """Send to those who are subscribed to *topic* now, but for the sender; maybe nobody."""
        return await self.send(Topic(topic), payload, **fields)

    async def send_request(
        self, to: str, payload: Any = None, *, timeout: float, owner: Any = None, **fields: Any
    ) -> SentMessage:
        """Send a request, which expires after *timeout* seconds; ``wait_reply`` has its answer."""
        spec = _spec(check_name("to", to), payload, {**fields, "ttl": timeout})
        row = message_codec.row_of(spec, marks="q", owner=_owner(owner))
        sent = (await self._send([row]))[0]
        if not sent.is_ok:
            raise_refusal(sent.status, (b"", ",".join(sent.full)), message_id=sent.id)
        return sent

    async def broadcast(self, payload: Any = None, **fields: Any) -> BroadcastSent:
        """Put a message where every agent reads it once, in its own time, but for the sender.

        One copy is kept for all, of the 10,000 newest, for 7 days: who comes later than that
        is told what it missed.

        Args:
            payload: Any JSON value of at most 256 KiB.
            fields: ``type sender id thread in_reply_to metadata trace_context`` of
                ``MessageSpec``.

        Raises:
            IdConflict: Another message has this id.
        """
        spec = _spec("everybody", payload, {"type": "broadcast", **fields})
        unused = {"ttl": None, "priority": "normal", "max_deliveries": messages.DELIVERIES_DEFAULT}
        for name, default in unused.items():
            if getattr(spec, name) != default:
                raise InvalidArgument(f"A broadcast has no {name}.", field=name)
        line = messages.spec_line(spec).split("|")
        message_id = new_id() if spec.id is None else check_name("message id", spec.id)
        spec.protocol = "broadcast"
        reply = await self._functions.call(
            "message_broadcast",
            message_id,
            "|".join((line[0], line[1], line[6], line[7])),
            message_codec.encode_body(spec, "*"),
        )
        status = checked(reply, "ok", "replayed", message_id=message_id)
        count = int(reply[2]) if status == "ok" else 0
        return BroadcastSent(
            id=message_id, number=int(reply[1]), count=count, replayed=status == "replayed"
        )

    # Receiving

    async def take(
        self,
        agent: str,
        limit: int = 1,
        *,
        lease: float = messages.LEASE_DEFAULT,
        taker: str = "",
        owner: Any = None,
        request_id: str | None = None,
    ) -> list[Message]:
        """Take the first messages of an inbox, which nobody else is given for *lease* seconds.

        By priority, then in the order sent; at most 4 MiB of them. Acknowledge each; what is
        not comes back after the lease, up to its ``max_deliveries``, then is a dead letter.

        Args:
            limit: 1 to 1,000.
            taker: What takes them, as the process or instance; shown to who asks.
            owner: What works on them and may hold locks: a claimed task, or a token, as of
                ``cb.locks``. Who waits for an answer then waits for this owner.
            request_id: Makes the call repeatable for as long as the lease, ten minutes at
                most: the repeat answers what is held still of what the first one was given.

        Raises:
            IdConflict: The request id was used by another taker.
        """
        check_whole("limit", limit, 1, messages.BATCH_MAX)
        values = (
            check_name("agent", agent),
            taker and check_name("taker", taker),
            limit,
            check_seconds("lease", lease, LEASE_MIN, LEASE_MAX),
            _owner(owner),
            "" if request_id is None else operation_id(request_id, "take", agent, limit),
        )
        for _ in range(ROUNDS_MAX):
            reply = await self._functions.call("message_take", *values)
            checked(reply, "ok", "replayed")
            if reply[4] or not reply[3]:
                break
        return message_codec.taken_of(agent, taker, float(reply[2]), reply[4])

    async def acknowledge(self, message: Message) -> None:
        """End a taken message as read; again does nothing.

        Raises:
            LeaseLost: It went back to the inbox, or to another taker: it may be done twice.
            MessageNotFound: It is kept no more.
        """
        (await self.acknowledge_many([message]))[0].check(inbox=message.agent)

    async def acknowledge_many(self, taken: Iterable[Message]) -> list[MessageAnswer]:
        """End taken messages as read; each is answered by itself, in order."""
        return await self._each(taken, self.acknowledge_ids)

    async def acknowledge_ids(
        self, agent: str, taken: Iterable[tuple[str, int]]
    ) -> list[MessageAnswer]:
        """End messages as read by id and fence; 0 stands for one that nobody has taken."""
        return await self._each_id("message_acknowledge", agent, taken, lambda row: row, "")

    async def mark_read(self, agent: str, ids: str | Iterable[str]) -> list[MessageAnswer]:
        """End messages as read that nobody has taken, as one does who only looks at an inbox."""
        named = [ids] if isinstance(ids, str) else check_list("ids", ids)
        return await self.acknowledge_ids(agent, ((name, 0) for name in named))

    async def release(
        self, message: Message, *, delay: float = 0.0, unharmed: bool = False, reason: str = ""
    ) -> str:
        """Give a taken message back, to be taken again at once or after *delay* seconds.

        Args:
            unharmed: As if it had not been taken. Otherwise the delivery counts, and the last
                one that the message has makes it a dead letter.
            reason: Kept with it, up to 1,000 characters.

        Returns:
            ``ok``, ``dead`` or ``expired``.

        Raises:
            LeaseLost, MessageNotFound: It was not held any more.
        """
        answers = await self.release_many([message], delay=delay, unharmed=unharmed, reason=reason)
        return answers[0].check(inbox=message.agent).status

    async def release_many(
        self,
        taken: Iterable[Message],
        *,
        delay: float = 0.0,
        unharmed: bool = False,
        reason: str = "",
    ) -> list[MessageAnswer]:
        """Give taken messages back; each is answered by itself, in order."""
        return await self._each(
            taken,
            lambda agent, rows: self.release_ids(
                agent, rows, delay=delay, unharmed=unharmed, reason=reason
            ),
        )

    async def release_ids(
        self,
        agent: str,
        taken: Iterable[tuple[str, int]],
        *,
        delay: float = 0.0,
        unharmed: bool = False,
        reason: str = "",
    ) -> list[MessageAnswer]:
        """Give taken messages back by id and fence, as ``release_many`` does."""
        delay_ms = check_seconds("delay", delay, 0, messages.TTL_MAX)
        options = ("", int(not unharmed), messages.check_reason(reason))
        return await self._each_id(
            "message_release", agent, taken, lambda row: (*row, delay_ms), *options
        )

    async def renew(
        self, taken: Iterable[Message], *, lease: float = messages.LEASE_DEFAULT
    ) -> list[MessageAnswer]:
        """Push the deadlines of taken messages forward; they never move backwards."""
        return await self._each(taken, lambda agent, rows: self.renew_ids(agent, rows, lease=lease))

    async def renew_ids(
        self,
        agent: str,
        taken: Iterable[tuple[str, int]],
        *,
        lease: float = messages.LEASE_DEFAULT,
    ) -> list[MessageAnswer]:
        """Push the deadlines of taken messages forward by id and fence, as ``renew`` does."""
        lease_ms = check_seconds("lease", lease, LEASE_MIN, LEASE_MAX)
        return await self._each_id("message_renew", agent, taken, lambda row: row, lease_ms)

    async def reply(self, request: Message, payload: Any = None, *, id: str | None = None) -> str:
        """Answer a taken request, once, and acknowledge it in the same step.

        Args:
            id: Of the reply; the same id with the same payload again does nothing.

        Returns:
            The id of the reply.

        Raises:
            AlreadyAnswered, MessageExpired, NotARequest: Nobody waits for it (any more).
            LeaseLost: Another taker has the request by now.
        """
        return await self.reply_to(
            request.agent, request.id, payload, fence=request.fence, sender=request.sender, id=id
        )

    async def reply_to(
        self,
        agent: str,
        request_id: str,
        payload: Any = None,
        *,
        fence: int = 0,
        sender: str = "",
        id: str | None = None,
    ) -> str:
        """Answer a request by its id; *fence* 0 where nobody has taken it."""
        reply_id = new_id() if id is None else check_name("message id", id)
        spec = MessageSpec(
            to=sender, payload=payload, sender=check_name("agent", agent), in_reply_to=request_id
        )
        name = check_name("message id", request_id)
        reply = await self._functions.call(
            "message_reply",
            agent,
            name,
            check_whole("fence", fence, 0, 1 << 53),
            reply_id,
            message_codec.encode_body(spec, sender),
        )
        checked(reply, "ok", "replayed", message_id=name, inbox=agent)
        return reply_id

    async def hear(
        self, agent: str, limit: int = 100, *, lease: float = messages.LEASE_DEFAULT
    ) -> Hearing | None:
        """Read the broadcasts behind the agent's cursor, in order; None where another reads them.

        They come again after *lease* seconds unless ``heard`` acknowledges them; one that was
        given out five times is passed over. An agent that never read begins with what was
        sent since it registered, one that is not registered with the oldest kept.
        """
        check_whole("limit", limit, 1, messages.BATCH_MAX)
        lease_ms = check_seconds("lease", lease, LEASE_MIN, LEASE_MAX)
        reply = await self._functions.call(
            "message_hear", check_name("agent", agent), limit, lease_ms
        )
        if checked(reply, "ok", "held") == "held":
            return None
        until_ms, fence, upto, first, last = (int(float(value)) for value in reply[2:7])
        return Hearing(
            messages=tuple(message_codec.heard_of(until_ms, reply[7])),
            fence=fence,
            upto=upto,
            gap=(first, last) if last else None,
            until=at_ms(until_ms) if until_ms else None,
        )

    async def heard(
        self, agent: str, hearing: Hearing, *, upto: int | None = None, hold: float = 0.0
    ) -> None:
        """Acknowledge broadcasts up to a number, all of *hearing* where none is given.

        Args:
            hold: Seconds for which those behind are still not given to others; 0 gives them
                back.

        Raises:
            LeaseLost: They were given to another reader of this agent.
        """
        if not isinstance(hearing, Hearing):
            raise InvalidArgument(
                f"Give what hear answered, not {type(hearing).__name__}.", field="hearing"
            )
        number = hearing.upto if upto is None else check_whole("upto", upto, 0, 1 << 53)
        if not hearing.fence:
            return
        reply = await self._functions.call(
            "message_heard",
            check_name("agent", agent),
            hearing.fence,
            number,
            check_seconds("hold", hold, 0, LEASE_MAX),
        )
        checked(reply, "ok", message_id=f"broadcast {number}")

    async def sweep(self, *, limit: int = SWEEP_INBOXES) -> bool:
        """One bounded round of housekeeping; True where more is left for another call."""
        check_whole("limit", limit, 1, 1_000)
        reply = await self._functions.call("message_sweep", limit)
        checked(reply, "ok")
        return bool(reply[1])

    async def _send(self, rows: Sequence[message_codec.Row]) -> list[SentMessage]:
        """Send all rows, in as many calls as the engine wants."""
        found: list[SentMessage] = []
        size = len(rows)
        while len(found) < len(rows):
            part = rows[len(found) : len(found) + size]
            sent = await self._send_some(part)
            found += sent
            # What does not fit a call is not carried there again and again.
            size = 2 * size if len(sent) == len(part) else len(sent)
        return found

    async def _send_some(self, rows: Sequence[message_codec.Row]) -> list[SentMessage]:
        by = rows[0][2].partition("|")[0] if rows else ""
        flat = [value for row in rows for value in row]
        reply = await self._functions.call("message_send", by, len(rows), *flat)
        checked(reply, "ok")
        sent_at = at_ms(float(reply[1]))
        words = reply[2].decode().split(",")
        said = {int(reply[3][i]): reply[3][i + 1].decode() for i in range(0, len(reply[3]), 2)}
        return [
            _sent(row, word, said.get(place), sent_at)
            for place, (row, word) in enumerate(zip(rows, words, strict=False))
        ]

    async def _each(
        self,
        taken: Iterable[Message],
        end: Callable[[str, Pairs], Awaitable[list[MessageAnswer]]],
    ) -> list[MessageAnswer]:
        """Do something to taken messages, inbox by inbox; the answers in their order."""
        given = check_list("taken", taken)
        found: dict[int, MessageAnswer] = {}
        for agent, places in _by_agent(given):
            answers = await end(agent, [(given[i].id, given[i].fence) for i in places])
            found.update(zip(places, answers, strict=True))
        return [found[i] for i in range(len(given))]

    async def _each_id(
        self,
        function: str,
        agent: str,
        taken: Iterable[tuple[str, int]],
        row_of: Callable[[tuple[str, int]], Sequence[str | int]],
        *options: str | int,
    ) -> list[MessageAnswer]:
        """The same by id and fence, a thousand at a time."""
        owner = check_name("agent", agent)
        rows = [_id_and_fence(pair) for pair in check_list("taken", taken)]
        found: list[MessageAnswer] = []
        for start in range(0, len(rows), messages.BATCH_MAX):
            batch = rows[start : start + messages.BATCH_MAX]
            flat = [value for row in batch for value in row_of(row)]
            reply = await self._functions.call(function, owner, *options, len(batch), *flat)
            found += answers_of(reply, [row[0] for row in batch])
        return found


def _spec(to: Any, payload: Any, fields: dict[str, Any]) -> MessageSpec:
    try:
        return MessageSpec(to=to, payload=payload, **fields)
    except TypeError as error:
        raise InvalidArgument(
            f"A message cannot be sent so: {error}. Its fields are "
            f"{', '.join(MessageSpec.__struct_fields__)}.",
            field="fields",
        ) from error


def _id_and_fence(pair: Any) -> tuple[str, int]:
    if not isinstance(pair, tuple | list) or len(pair) != 2:
        raise InvalidArgument(f"{pair!r} is no pair of message id and fence.", field="taken")
    return check_name("message id", pair[0]), check_whole("fence", pair[1], 0, 1 << 53)


def _owner(owner: Any) -> str:
    return check_owner(owner) if owner else ""


def _sent(row: message_codec.Row, word: str, said: str | None, sent_at: Any) -> SentMessage:
    if word not in ("ok", "replayed"):
        full = tuple(name for name in (said or "").split(",") if name)
        return SentMessage(id=row[0], status=word, sent_at=sent_at, full=full)
    if said is None:
        return SentMessage(
            id=row[0], status=word, sent_at=sent_at, recipients=tuple(row[1].split(","))
        )
    put, _, full_names = said.partition(";")
    return SentMessage(
        id=row[0],
        status=word,
        sent_at=sent_at,
        recipients=tuple(name for name in put.split(",") if name),
        full=tuple(name for name in full_names.split(",") if name),
    )


def _by_agent(given: Sequence[Any]) -> list[tuple[str, list[int]]]:
    """The places of the messages by inbox."""
    places: dict[str, list[int]] = {}
    for place, message in enumerate(given):
        if not isinstance(message, Message) or not message.agent:
            raise InvalidArgument(
                "Give messages as take answers them; broadcasts are acknowledged by heard.",
                field="taken",
            )
        places.setdefault(message.agent, []).append(place)
    return list(places.items())
