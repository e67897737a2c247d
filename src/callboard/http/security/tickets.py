"""Tickets, for callers that can set no header: the EventSource of a browser."""

from __future__ import annotations

import msgspec

from callboard.exceptions import InvalidArgument
from callboard.http import errors
from callboard.http.route import Call, Reply, Route

_encode = msgspec.json.Encoder().encode


class TicketBody(msgspec.Struct, frozen=True, kw_only=True):
    """A ticket, which goes into the address: ``?ticket=…``.

    Attributes:
        expires_in: Seconds for which it holds, unless it is used before.
    """

    status: str
    ticket: str
    expires_in: float
    timestamp: str


async def issue(call: Call) -> Reply:
    """Answer a ticket that stands for the caller's key, once and for a minute."""
    if call.caller is None or call.caller.key_id is None:
        raise InvalidArgument(
            "A ticket stands for an API key, and none was shown. Where none is needed, ask "
            "without a ticket.",
            field="ticket",
        )
    ticket = await (await call.board()).access.ticket(call.caller.key_id)
    body = TicketBody(
        status="success",
        ticket=ticket.ticket,
        expires_in=ticket.expires_in,
        timestamp=errors.now(),
    )
    return Reply(_encode(body))


def routes() -> list[Route]:
    """The one route."""
    return [
        Route(
            verb="POST",
            path="/tickets",
            handle=issue,
            role="read",
            summary="Make a ticket that stands for the caller's key, once and for a minute.",
            description=(
                "For an EventSource or a WebSocket of a browser, which can set no header: "
                "`GET /events?ticket=…`. With it, `namespace=` stands for the header "
                "`X-Callboard-Namespace`. Neither gets into a log."
            ),
            tag="access",
            answers={200: TicketBody},
            needs_key=True,
        )
    ]
