"""Between contexts and the rows and replies of their functions."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from callboard.domain import context as contexts
from callboard.domain.context import Context, ContextSummary
from callboard.domain.names import check_name
from callboard.domain.task import at_ms
from callboard.engine.codec import encode_json
from callboard.exceptions import InvalidArgument, TooLarge

Row = tuple[str, str, str | bytes]
"""Name, type and value of one field: see ``context_save.lua``."""


def rows_of(
    fields: Mapping[str, Any], remove: Iterable[str], increment: Mapping[str, float]
) -> list[Row]:
    """Check a write and list what it changes, each field once.

    Raises:
        InvalidArgument: A name or value is wrong, or a field is named twice.
        TooLarge: A value is over 256 KiB, or there are more than 1,000 fields.
    """
    for what, given in (("fields", fields), ("increment", increment)):
        if not isinstance(given, Mapping):
            raise InvalidArgument(
                f"{what} must be a mapping of names to values, not {type(given).__name__}.",
                field=what,
            )
    if isinstance(remove, str | bytes) or not isinstance(remove, Iterable):
        raise InvalidArgument("remove must be a list of names.", field="remove")
    rows = [_row(name, value) for name, value in fields.items()]
    rows += [(check_name("field", name), "-", "") for name in remove]
    rows += [
        (check_name("field", name), "+", _amount(name, amount))
        for name, amount in increment.items()
    ]
    names = [row[0] for row in rows]
    if len(set(names)) < len(names):
        twice = next(name for name in names if names.count(name) > 1)
        raise InvalidArgument(f"Field {twice!r} is named twice in one write.", field=twice)
    if len(rows) > contexts.FIELDS_MAX:
        raise TooLarge(
            f"A write of {len(rows):,} fields; a context has at most {contexts.FIELDS_MAX:,}. "
            "Put several values into one field, as a mapping.",
            field="fields",
        )
    return rows


def _row(name: Any, value: Any) -> Row:
    return check_name("field", name), *row_of_value(name, value)


def row_of_value(name: str, value: Any) -> tuple[str, str | bytes]:
    """The type and the text of one value.

    Raises:
        InvalidArgument: It has no JSON form.
        TooLarge: It is over 256 KiB.
    """
    if isinstance(value, str):
        value = str(value)
    kind = contexts.LETTERS.get(type(value), "j")
    if isinstance(value, float) and not math.isfinite(value):
        raise InvalidArgument(
            f"Field {name} is {value}, which no reader could parse. Use None or a string.",
            field=name,
        )
    if kind == "j":
        return kind, encode_json(f"Field {name}", value, contexts.VALUE_BYTES_MAX)
    try:
        text = (contexts.spell(value) or "").encode()
    except UnicodeEncodeError as error:
        raise InvalidArgument(f"Field {name} is no valid text: {error}.", field=name) from error
    if len(text) > contexts.VALUE_BYTES_MAX:
        raise TooLarge(
            f"Field {name} has {len(text):,} bytes; at most {contexts.VALUE_BYTES_MAX:,} are kept. "
            "Store large data elsewhere and keep a reference.",
            field=name,
        )
    return kind, text


def _amount(name: str, amount: Any) -> str:
    is_number = isinstance(amount, int | float) and not isinstance(amount, bool)
    if not is_number or not math.isfinite(amount) or abs(amount) >= contexts.WHOLE_MAX:
        raise InvalidArgument(
            f"Field {name} cannot be incremented by {amount!r}; give a number below 2^53.",
            field=name,
        )
    return repr(amount)


def context_of(project: str, values: Sequence[Any]) -> Context | None:
    """A context from its part of a reply of ``context_read``; None where there is none."""
    if not values:
        return None
    rev, at, by, expires = values[:4]
    return Context(
        project=project,
        rev=int(rev),
        updated_at=at_ms(int(at)) if int(at) else None,
        updated_by=by.decode(),
        expires_at=at_ms(int(expires)) if expires else None,
        fields={
            values[i].decode(errors="replace"): contexts.read_value(
                values[i + 1].decode(), values[i + 2].decode(errors="replace")
            )
            for i in range(4, len(values), 3)
        },
    )


def summary_of(values: Sequence[Any]) -> ContextSummary:
    """A context without its values, from its part of a reply of ``context_list``."""
    name, rev, at, by, fields, size, expires = values
    return ContextSummary(
        project=name.decode(),
        rev=int(rev),
        updated_at=at_ms(int(at)),
        updated_by=by.decode(),
        fields=int(fields),
        bytes=int(size),
        expires_at=at_ms(int(expires)) if expires else None,
    )
