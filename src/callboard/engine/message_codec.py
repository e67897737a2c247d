"""Between messages and the rows and replies of the functions on them."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Final

import msgspec

from callboard.domain import message as messages
from callboard.domain.bounds import check_text
from callboard.domain.message import Body, Message, MessageSpec, MessageStatus
from callboard.domain.names import check_name
from callboard.domain.task import at_ms, check_priority, new_id
from callboard.engine.codec import decode_json, encode_json
from callboard.exceptions import InvalidArgument

Row = tuple[str, str, str, bytes]
"""Id, address, spec and body of one message: see ``message_send.lua``."""

METADATA_MAX: Final = 16_384
_encoder: Final = msgspec.json.Encoder()
_decoder: Final = msgspec.json.Decoder(Body)


def row_of(spec: MessageSpec, *, marks: str = "", owner: str = "") -> Row:
    """Check a message and write it as the four values that the engine takes.

    Raises:
        InvalidArgument, TooLarge: A field is wrong; the message names it.
    """
    if not isinstance(spec, MessageSpec):
        raise InvalidArgument(
            f"A message to send is a MessageSpec, not {type(spec).__name__}.", field="specs"
        )
    address = messages.address_of(spec.to)
    if spec.protocol != "direct" and address[0] in "?#":
        raise InvalidArgument(
            f"Protocol {spec.protocol} goes to agents by name, to PEERS or to SUBORDINATES.",
            field="to",
        )
    if address[0] == "@" and not spec.sender:
        raise InvalidArgument(f"{address} needs a sender, whose they are.", field="sender")
    line = messages.spec_line(spec, marks=marks, owner=owner)
    message_id = new_id() if spec.id is None else check_name("message id", spec.id)
    return message_id, address, line, encode_body(spec, address)


def encode_body(spec: MessageSpec, address: str) -> bytes:
    """The JSON of what never changes; InvalidArgument or TooLarge where it cannot be."""
    metadata: msgspec.Raw | msgspec.UnsetType = msgspec.UNSET
    if spec.metadata is not None:
        encoded = encode_json("metadata", spec.metadata, METADATA_MAX)
        if encoded[:1] != b"{":
            raise InvalidArgument("metadata must be an object.", field="metadata")
        metadata = msgspec.Raw(encoded)
    return _encoder.encode(
        Body(
            sender=spec.sender,
            to=address,
            type=messages.type_of(spec),
            payload=msgspec.Raw(encode_json("payload", spec.payload, messages.PAYLOAD_MAX)),
            priority=check_priority(spec.priority),
            protocol=spec.protocol,
            in_reply_to=spec.in_reply_to,
            metadata=metadata,
            trace_context=check_text("trace_context", spec.trace_context)[:1_000],
        )
    )


def row_weight(row: Row) -> int:
    """What a row takes of a call's 8 MiB: its bytes, and 4,000 for each delivery after the first.

    So some 2,000 deliveries fill a call, as they do for the engine.
    """
    return len(row[1]) + len(row[3]) + 200 + 4_000 * row[1].count(",")


def taken_of(agent: str, taker: str, until_ms: float, values: Sequence[bytes]) -> list[Message]:
    """The messages of a take's reply, three values each."""
    until = at_ms(until_ms)
    found = []
    for place in range(0, len(values), 3):
        fence, deliveries, at, expires, marks, thread, most = values[place + 1].decode().split("|")
        found.append(
            _message(
                values[place].decode(),
                _decoder.decode(values[place + 2]),
                agent=agent,
                status=MessageStatus.DELIVERED,
                sent_at=at_ms(float(at)),
                thread=thread,
                expires_at=messages.moment(expires),
                until=until,
                deliveries=int(deliveries),
                max_deliveries=int(most),
                fence=int(fence),
                taker=taker,
                is_request="q" in marks,
            )
        )
    return found


def heard_of(until_ms: float, values: Sequence[bytes]) -> list[Message]:
    """The broadcasts of a reply, three values each."""
    until = at_ms(until_ms)
    found = []
    for place in range(0, len(values), 3):
        number, at, _, thread = values[place + 1].decode().split("|")
        found.append(
            _message(
                values[place].decode(),
                _decoder.decode(values[place + 2]),
                agent="",
                status=MessageStatus.DELIVERED,
                sent_at=at_ms(float(at)),
                thread=thread,
                until=until,
                fence=int(number),
                number=int(number),
            )
        )
    return found


def messages_of(values: Sequence[Any]) -> list[Message]:
    """Messages as readers get them, one for each inbox that has it: id, fields, lines."""
    found = []
    for place in range(0, len(values), 3):
        found += _copies(values[place].decode(), values[place + 1], values[place + 2].decode())
    return found


def reply_of(reply_id: bytes, fields: Sequence[bytes]) -> Message | None:
    """The reply to a request, from the fields of its hash; None where it is gone."""
    found = _copies(reply_id.decode(), fields, "")
    return found[0] if found else None


def _copies(message_id: str, flat: Sequence[bytes], lines: str) -> list[Message]:
    fields = {flat[i].decode(): flat[i + 1] for i in range(0, len(flat), 2)}
    if "body" not in fields:
        return []
    body = _decoder.decode(fields["body"])
    common: dict[str, Any] = {
        "sent_at": at_ms(float(fields["at"])),
        "thread": fields.get("thread", b"").decode(),
        "reply": fields.get("reply", b"").decode(),
        "number": int(fields.get("n", 0)),
    }
    if not lines:
        # A broadcast, or a reply, which went to who waited for it.
        agent = body.to if "re" in fields else ""
        status = MessageStatus.DELIVERED if "re" in fields else MessageStatus.PENDING
        return [_message(message_id, body, agent=agent, status=status, **common)]
    found = []
    for line in lines.split("\n"):
        agent, until, letter, _, count, fence, since, expires, most, marks, _, taker = line.split(
            "|", 11
        )
        found.append(
            _message(
                message_id,
                body,
                agent=agent,
                status=messages.LETTERS[letter],
                since=messages.moment(since),
                until=messages.moment(until),
                expires_at=messages.moment(expires),
                deliveries=int(count),
                max_deliveries=int(most),
                fence=int(fence),
                taker=taker.partition("|")[0],
                error=fields.get(f"!{agent}", b"").decode("utf-8", "replace"),
                is_request="q" in marks,
                **common,
            )
        )
    return found


def _message(message_id: str, body: Body, **fields: Any) -> Message:
    return Message(
        id=message_id,
        sender=body.sender,
        to=body.to,
        type=body.type,
        payload=body.payload,
        priority=body.priority,
        protocol=body.protocol,
        in_reply_to=body.in_reply_to,
        metadata=None if body.metadata is msgspec.UNSET else decode_json(bytes(body.metadata)),
        trace_context=body.trace_context,
        **fields,
    )
