"""Messages: sent, taken from inboxes, acknowledged, answered; topics, peers, hierarchies."""

from __future__ import annotations

from collections.abc import Iterable
from functools import partial
from typing import Any, Final

import msgspec

from callboard.domain.message import Hearing, MessageSpec
from callboard.messaging import Messages
from callboard.operations.operation import BOUNDED, Wire, operations_of
from callboard.operations.wires import ADDRESS, OWNER_OR_NONE, address_sent, address_taken


class HeardUpTo(msgspec.Struct, frozen=True):
    """How far broadcasts were read: what a hearing said of itself."""

    fence: int
    upto: int


def _heard(hearing: Any) -> Any:
    return HeardUpTo(hearing.fence, hearing.upto) if isinstance(hearing, Hearing) else hearing


def _hearing(heard: HeardUpTo) -> Hearing:
    return Hearing(messages=(), fence=heard.fence, upto=heard.upto)


def _specs_sent(specs: Iterable[Any]) -> list[Any]:
    return [
        msgspec.structs.replace(one, to=address_sent(one.to))
        if isinstance(one, MessageSpec)
        else one
        for one in specs
    ]


def _specs_taken(specs: list[MessageSpec]) -> list[MessageSpec]:
    return [
        msgspec.structs.replace(one, to=address_taken(msgspec.convert(one.to, ADDRESS.type)))
        for one in specs
    ]


_operation = operations_of("messages")
_read = partial(_operation, verb="GET", role="read", is_repeatable=True)
_work = partial(_operation, verb="POST", role="work")
_each = partial(_work, answers="answers", is_repeatable=True)
_steer = partial(_operation, verb="POST", role="operate", is_repeatable=True)

_INBOX: Final = "/inboxes/{agent}"
_TOPIC: Final = "/topics/{topic}"
_FIELDS: Final[Any] = {"fields": MessageSpec, "types": {"owner": OWNER_OR_NONE}}
_IDS: Final = {"ids": Wire(list[str], lambda ids: [ids] if isinstance(ids, str) else list(ids))}

OPERATIONS: Final = (
    _work(
        "send",
        Messages.send,
        path="/messages",
        answers="sent",
        fields=MessageSpec,
        types={"to": ADDRESS},
    ),
    _work(
        "send_many",
        Messages.send_many,
        path="/messages/batch",
        answers="sent",
        types={"specs": Wire(list[MessageSpec], _specs_sent, _specs_taken)},
    ),
    _work(
        "broadcast",
        Messages.broadcast,
        path="/broadcasts",
        answers="sent",
        fields=MessageSpec,
        hidden=frozenset({"to", "ttl", "priority", "max_deliveries", "protocol"}),
    ),
    _work(
        "publish",
        Messages.publish,
        path=f"{_TOPIC}/messages",
        answers="sent",
        fields=MessageSpec,
        hidden=frozenset({"to", "protocol"}),
    ),
    _work(
        "send_request",
        Messages.send_request,
        path="/requests",
        answers="sent",
        hidden=frozenset({"ttl"}),
        **_FIELDS,
    ),
    _work(
        "request",
        Messages.request,
        path="/requests/answered",
        answers="reply",
        hidden=frozenset({"ttl"}),
        is_waiting=True,
        **_FIELDS,
    ),
    _read("reply_of", Messages.reply_of, path="/requests/{request_id}/reply", answers="reply"),
    _read(
        "wait_reply",
        Messages.wait_reply,
        path="/requests/{request_id}/wait",
        answers="reply",
        is_waiting=True,
    ),
    _read("history", Messages.history, path="/messages", answers="page", hidden=BOUNDED),
    _read("get", Messages.get, path="/messages/{message_id}/state", answers="message"),
    _read("copies", Messages.copies, path="/messages/{message_id}/copies", answers="messages"),
    _read("why", Messages.why, path="/messages/{message_id}/why", answers="why"),
    # Inboxes
    _read("inboxes", Messages.inboxes, path="/inboxes", answers="inboxes"),
    _read("inbox", Messages.inbox, path=_INBOX, answers="page", hidden=BOUNDED),
    _read("counts", Messages.counts, path=f"{_INBOX}/counts", answers="counts"),
    _read("unread", Messages.unread, path=f"{_INBOX}/unread", answers="unread"),
    _work(
        "take",
        Messages.take,
        path=f"{_INBOX}/take",
        answers="messages",
        types={"owner": OWNER_OR_NONE},
        polls=True,
    ),
    _each("acknowledge_ids", Messages.acknowledge_ids, path=f"{_INBOX}/acknowledge"),
    _each("release_ids", Messages.release_ids, path=f"{_INBOX}/release"),
    _each("renew_ids", Messages.renew_ids, path=f"{_INBOX}/renew"),
    _each("mark_read", Messages.mark_read, path=f"{_INBOX}/read", types=_IDS),
    _work("reply_to", Messages.reply_to, path=f"{_INBOX}/reply", answers="reply_id"),
    _work("hear", Messages.hear, path=f"{_INBOX}/hear", answers="hearing"),
    _work(
        "heard",
        Messages.heard,
        path=f"{_INBOX}/heard",
        answers="",
        types={"hearing": Wire(HeardUpTo, _heard, _hearing)},
        is_repeatable=True,
    ),
    _steer("requeue", Messages.requeue, path=f"{_INBOX}/requeue", answers="answers", types=_IDS),
    _steer("purge", Messages.purge, path=f"{_INBOX}/purge", answers="answers", types=_IDS),
    _steer("set_limit", Messages.set_limit, verb="PUT", path=f"{_INBOX}/limit", answers=""),
    # Topics
    _work(
        "subscribe",
        Messages.subscribe,
        verb="PUT",
        path=f"{_TOPIC}/subscribers/{{agent}}",
        answers="is_new",
        is_repeatable=True,
    ),
    _work(
        "unsubscribe",
        Messages.unsubscribe,
        verb="DELETE",
        path=f"{_TOPIC}/subscribers/{{agent}}",
        answers="was_there",
        is_repeatable=True,
    ),
    _read("subscribers", Messages.subscribers, path=f"{_TOPIC}/subscribers", answers="subscribers"),
    _read("subscriptions", Messages.subscriptions, path="/subscriptions", answers="subscriptions"),
    # Who may write to whom
    _steer(
        "add_peer",
        Messages.add_peer,
        verb="PUT",
        path="/agents/{agent}/peers/{peer}",
        answers="is_new",
    ),
    _steer(
        "remove_peer",
        Messages.remove_peer,
        verb="DELETE",
        path="/agents/{agent}/peers/{peer}",
        answers="was_there",
    ),
    _read("peers", Messages.peers, path="/links/peers", answers="links"),
    _steer(
        "set_hierarchy",
        Messages.set_hierarchy,
        verb="PUT",
        path="/agents/{master}/subordinates",
        answers="count",
    ),
    _steer(
        "add_subordinate",
        Messages.add_subordinate,
        verb="PUT",
        path="/agents/{master}/subordinates/{agent}",
        answers="is_new",
    ),
    _steer(
        "remove_subordinate",
        Messages.remove_subordinate,
        verb="DELETE",
        path="/agents/{master}/subordinates/{agent}",
        answers="was_there",
    ),
    _read("subordinates", Messages.subordinates, path="/links/subordinates", answers="links"),
)
