"""Which engine a team's file asks for, in ``providers.tasks`` and ``teams.store``."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import Enum
from typing import Any, Final, Literal

from callboard.config import check_url, redact_url, redis_environment, split_url
from callboard.domain.placeholders import Lookup, expand
from callboard.domain.reading import (
    KeyPath,
    Reader,
    invalid,
    read_as_is,
    read_fields,
    read_mapping,
    read_text,
    shorten,
    which_of,
)
from callboard.exceptions import ConfigError

URL_DEFAULT: Final = "redis://localhost:6379/0"
"""Where Redis is for a file that asks for it and does not say where."""

WishKind = Literal["default", "embedded", "url", "temporary"]


@dataclass(frozen=True, slots=True)
class EngineWish:
    """The engine that a file asks for.

    Attributes:
        kind: ``default``, where the file leaves it open; ``embedded``, the one in the data
            directory; ``url``; ``temporary``, an embedded one that ends with the process.
        url: Of ``url`` only. It may hold a password, so it is not shown.
        source: The key that asked.
    """

    kind: WishKind = "default"
    url: str | None = field(default=None, repr=False)
    source: str = ""

    def __str__(self) -> str:
        return redact_url(self.url) if self.url else f"the {self.kind} engine"


class Temporary(Enum):
    """The type of :data:`TEMPORARY`."""

    ENGINE = "temporary"


TEMPORARY: Final = Temporary.ENGINE
"""An embedded engine in a folder that is removed when the process ends."""


def read_wish(
    providers: Any, store: Any, lookup: Lookup, environ: Mapping[str, str] | None = None
) -> EngineWish:
    """Read the two sections, whose placeholders are not replaced yet; None where one is absent.

    Raises:
        InvalidTeam: A section cannot be used, or they name two engines: runs and the teams
            that they are of are kept together.
    """
    known: dict[str, Reader] = {"tasks": read_as_is}
    tasks = read_fields(_PROVIDERS, {} if providers is None else providers, known).get("tasks")
    wish = _tasks_wish(tasks, lookup, environ) if tasks is not None else EngineWish()
    if store is None:
        return wish
    there = _backend_wish(_STORE, store, _STORES, lookup, environ)
    if tasks is None:
        return there
    if not _is_same(wish, there):
        raise invalid(
            _STORE,
            f"asks for {there}, and {wish.source} for {wish}",
            "remove teams.store; teams are kept where their runs are",
        )
    return wish


_PROVIDERS: Final[KeyPath] = ("providers",)
_TASKS: Final[KeyPath] = ("providers", "tasks")
_STORE: Final[KeyPath] = ("teams", "store")

_BACKENDS: Final[Mapping[str, WishKind]] = {
    "redis": "url",
    "in_memory": "temporary",
    "callboard": "default",
    "embedded": "embedded",
}
_STORES: Final[Mapping[str, WishKind]] = {**_BACKENDS, "file": "embedded"}

# Classes by which files for other programs name these backends, whatever package they are in.
_CLASSES: Final[Mapping[str, str]] = {
    "RedisTasksProvider": "tasks.redis.RedisTasksProvider",
    "InMemoryTasksProvider": "tasks.in_memory.InMemoryTasksProvider",
    "RedisTeamStore": "redis_store.RedisTeamStore",
    "FileTeamStore": "file_store.FileTeamStore",
}
_CLASS_KINDS: Final[Mapping[str, str]] = {
    "RedisTasksProvider": "redis",
    "InMemoryTasksProvider": "in_memory",
    "RedisTeamStore": "redis",
    "FileTeamStore": "file",
}
_BACKEND_KEYS: Final[Mapping[str, Reader]] = {"backend": read_as_is, "config": read_as_is}
_TASKS_KEYS: Final[Mapping[str, Reader]] = {
    **_BACKEND_KEYS,
    "default": read_as_is,
    "backends": read_as_is,
}


def _tasks_wish(tasks: Any, lookup: Lookup, environ: Mapping[str, str] | None) -> EngineWish:
    given = read_fields(_TASKS, tasks, _TASKS_KEYS)
    if "backends" not in given and "default" not in given:
        return _backend_wish(_TASKS, tasks, _BACKENDS, lookup, environ)
    for key in ("backend", "config"):
        if key in given:
            raise invalid(
                (*_TASKS, key),
                "stands beside default or backends",
                "give either backend and config, or default and backends",
            )
    at = (*_TASKS, "backends")
    backends = read_mapping(at, given.get("backends"))
    for name, backend in backends.items():
        read_fields((*at, name), backend, _BACKEND_KEYS)
    if "default" not in given and len(backends) == 1:
        name = next(iter(backends))
    elif "default" not in given:
        raise invalid(_TASKS, "has no default", f"name one of {', '.join(backends)}")
    else:
        here = (*_TASKS, "default")
        name = read_text(here, expand(given["default"], lookup, here))
        if name not in backends:
            what = f"{shorten(name)!r} is none of the backends"
            raise invalid(here, what, which_of(name, backends))
    return _backend_wish((*at, name), backends[name], _BACKENDS, lookup, environ)


def _backend_wish(
    at: KeyPath,
    section: Any,
    kinds: Mapping[str, WishKind],
    lookup: Lookup,
    environ: Mapping[str, str] | None,
) -> EngineWish:
    given = expand(read_fields(at, section, _BACKEND_KEYS), lookup, at)
    if "backend" not in given:
        raise invalid(at, "has no backend", f"add backend: and one of {', '.join(kinds)}")
    name = _short_name((*at, "backend"), given["backend"], kinds)
    here = (*at, "config")
    config = given.get("config") or {}
    if kinds[name] != "url":
        for key in read_mapping(here, config):
            raise invalid((*here, key), f"is not a setting of {name}", "remove it; it takes none")
        return EngineWish(kinds[name], None, ".".join(map(str, at)))
    fields = read_fields(here, config, {"redis_url": read_text})
    url = fields.get("redis_url")
    if url is None:
        choice = redis_environment(environ)
        url = choice.url if choice and choice.url else URL_DEFAULT
    try:
        checked = check_url(url, "redis_url")
    except ConfigError as error:
        raise invalid((*here, "redis_url"), error.message.rstrip(".")) from error
    return EngineWish("url", checked, ".".join(map(str, at)))


def _short_name(at: KeyPath, value: Any, kinds: Mapping[str, WishKind]) -> str:
    name = read_text(at, value)
    last = name.rpartition(".")[2]
    if last in _CLASSES and f".{name}".endswith(f".{_CLASSES[last]}"):
        name = _CLASS_KINDS[last]
    if name in kinds:
        return name
    if "noop" in name.lower():
        cure = f"give one of {', '.join(kinds)}; in_memory is forgotten when the process ends"
        raise invalid(at, "names a board that keeps nothing, and no run could end on it", cure)
    if "." in name:
        cure = f"give one of {', '.join(kinds)}"
        raise invalid(at, f"{shorten(name)!r} is not a backend that is known here", cure)
    raise invalid(at, f"{shorten(name)!r} is not a known backend", which_of(name, kinds))


def _is_same(one: EngineWish, other: EngineWish) -> bool:
    if one.kind != other.kind:
        return {one.kind, other.kind} == {"default", "embedded"}
    return one.kind != "url" or _address(one.url or "") == _address(other.url or "")


def _address(url: str) -> tuple[str, str, str, str]:
    """What of a URL says which engine it is: neither its user nor how one omits a default."""
    parts = split_url(url)
    hosts = parts.netloc.rpartition("@")[2].lower().removesuffix(":6379")
    path = parts.path if parts.scheme == "unix" else parts.path.strip("/") or "0"
    return parts.scheme.lower(), hosts, path, parts.query
