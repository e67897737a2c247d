"""How API keys and the audit log look to people."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Final

from rich.text import Text

from callboard.cli.failures import counted
from callboard.cli.render import Column, age, fields, heading, table, when
from callboard.domain.access import ALL_NAMESPACES, ApiKey, AuditPage, IssuedKey

_COLUMNS: Final = (
    Column("KEY"),
    Column("NAME", shrinks=True),
    Column("ROLE"),
    Column("NAMESPACES", drop=1, shrinks=True),
    Column("STATE", drop=4),
    Column("USED", drop=2, right=True),
    Column("EXPIRES", drop=3, right=True),
)
_AUDIT_COLUMNS: Final = (
    Column("WHEN"),
    Column("WHO", shrinks=True),
    Column("ROLE", drop=3),
    Column("OPERATION"),
    Column("TARGET", drop=1, shrinks=True),
    Column("OUTCOME"),
    Column("FROM", drop=2),
)


def issued(new: IssuedKey) -> Iterator[str | Text]:
    """A new key, this once, and how to use it."""
    yield from whole(new.key)
    yield ""
    yield new.secret
    yield ""
    yield "It is shown this once. A program shows it with each request:"
    yield Text("  Authorization: Bearer KEY, or X-API-Key: KEY", style="dim")
    yield Text("  CALLBOARD_API_KEY=KEY for Python and the command line", style="dim")


def listing(keys: Sequence[ApiKey], ended: int, width: int) -> Iterator[str | Text]:
    """Keys, a line each; *ended* are not among them."""
    if not keys:
        yield "No API keys. Make one: callboard keys create NAME --role work"
        if not ended:
            yield Text(
                "On this machine a coordinator needs none; beyond it, each caller shows one.",
                style="dim",
            )
    else:
        rows = (
            (
                key.id,
                key.name,
                key.role,
                scope(key),
                key.status,
                "never" if key.last_used_at is None else age(key.last_used_at),
                "never" if key.expires_at is None else when(key.expires_at),
            )
            for key in keys
        )
        yield from table(_COLUMNS, rows, width)
    if ended:
        yield Text(f"{counted(ended, 'key')} ended: callboard keys list --all", style="dim")


def whole(key: ApiKey) -> Iterator[str | Text]:
    """All that is known of a key."""
    yield heading(key.name, key.status)
    yield from fields(
        [
            ("id", key.id),
            ("role", key.role),
            ("namespaces", scope(key)),
            ("agent", key.agent),
            ("rate", None if key.rate is None else f"{key.rate:g} a second, {key.burst} at once"),
            ("created", when(key.created_at)),
            ("by", key.created_by),
            ("expires", None if key.expires_at is None else when(key.expires_at)),
            ("used", None if key.last_used_at is None else when(key.last_used_at)),
            ("revoked", None if key.revoked_at is None else when(key.revoked_at)),
            ("revoked by", key.revoked_by),
        ]
    )


def audit(page: AuditPage, width: int) -> Iterator[str | Text]:
    """Entries, a line each."""
    if not page.entries:
        yield "Nothing was written into the audit log, or nothing that fits."
        yield Text("What operators and administrators do through a coordinator is.", style="dim")
    rows = (
        (
            when(entry.at),
            entry.name,
            entry.role,
            entry.operation,
            entry.target,
            entry.outcome,
            entry.address,
        )
        for entry in page.entries
    )
    if page.entries:
        yield from table(_AUDIT_COLUMNS, rows, width)
    if page.cursor is not None:
        yield Text(f"Older ones: callboard audit --cursor {page.cursor}", style="dim")


def scope(key: ApiKey) -> str:
    """Where a key holds."""
    if ALL_NAMESPACES in key.namespaces:
        return "all"
    return ", ".join(name or "(default)" for name in key.namespaces)
