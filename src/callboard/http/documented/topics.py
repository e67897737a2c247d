"""Topics over the documented routes of the source's later release."""

from __future__ import annotations

from typing import Any

import msgspec

from callboard.http import errors
from callboard.http.documented.inbox import BASE
from callboard.http.documented.message_shapes import check_type
from callboard.http.documented.shapes import (
    BAD_NAME,
    Done,
    act_as,
    answer,
    documented,
    iso,
    sent,
    unusable,
)
from callboard.http.route import Call, Reply, Route


class Subscribe(msgspec.Struct, kw_only=True):
    """An agent and a topic.

    Attributes:
        filter: ``message_types``, a list: only messages of these types.
    """

    agent_id: str
    topic: str
    filter: dict[str, Any] | None = None


class Subscribed(Done, frozen=True, kw_only=True):
    """Whether the agent gets what is published on the topic."""

    message: str
    agent_id: str
    topic: str
    timestamp: str


class SubscriptionShape(msgspec.Struct, frozen=True, kw_only=True):
    """That an agent is subscribed to a topic."""

    agent_id: str
    topic: str
    filter: dict[str, Any]
    created_at: str


class Subscriptions(Done, frozen=True, kw_only=True):
    """The topics of an agent."""

    agent_id: str
    subscriptions: list[SubscriptionShape]
    count: int
    timestamp: str


_subscribe = msgspec.json.Decoder(Subscribe)


async def subscribe(call: Call) -> Reply:
    """Have an agent get what is published on a topic from now on."""
    given = await sent(call, _subscribe)
    act_as(call, given.agent_id)
    await (await call.board()).messages.subscribe(
        given.agent_id, given.topic, types=_types_of(given.filter or {})
    )
    return _subscribed(given, "subscribed to")


async def unsubscribe(call: Call) -> Reply:
    """End a subscription; what was sent stays in the inbox."""
    given = await sent(call, _subscribe)
    act_as(call, given.agent_id)
    await (await call.board()).messages.unsubscribe(given.agent_id, given.topic)
    return _subscribed(given, "unsubscribed from")


async def subscriptions(call: Call) -> Reply:
    """The topics of an agent."""
    agent_id = call.path["agent_id"]
    found = [
        SubscriptionShape(
            agent_id=one.agent,
            topic=one.topic,
            filter={"message_types": list(one.types)} if one.types else {},
            created_at=iso(one.since),
        )
        for one in await (await call.board()).messages.subscriptions(agent_id)
    ]
    return answer(
        Subscriptions(
            agent_id=agent_id, subscriptions=found, count=len(found), timestamp=errors.now()
        )
    )


def _types_of(given: dict[str, Any]) -> list[str]:
    types = given.get("message_types", [])
    if not isinstance(types, list) or not all(isinstance(one, str) for one in types):
        raise unusable("filter", "message_types is a list of types")
    return [check_type(one) for one in types]


def _subscribed(given: Subscribe, what: str) -> Reply:
    return answer(
        Subscribed(
            message=f"Agent {given.agent_id} {what} {given.topic}",
            agent_id=given.agent_id,
            topic=given.topic,
            timestamp=errors.now(),
        )
    )


def routes() -> list[Route]:
    """The documented routes of topics."""
    tag = "messages"
    return [
        documented(
            *("POST", f"{BASE}/subscribe", subscribe, Subscribed),
            role="work",
            summary="Have an agent get what is published on a topic.",
            tag=tag,
            body=Subscribe,
            others=BAD_NAME,
        ),
        documented(
            *("POST", f"{BASE}/unsubscribe", unsubscribe, Subscribed),
            role="work",
            summary="End a subscription; what was sent stays in the inbox.",
            tag=tag,
            body=Subscribe,
        ),
        documented(
            *("GET", f"{BASE}/subscriptions/{{agent_id}}", subscriptions, Subscriptions),
            role="read",
            summary="The topics of an agent.",
            tag=tag,
        ),
    ]
