"""The function library: one Lua file an operation, assembled, named by its content, called.

Each file under ``lua/`` is one function. Its header is its contract and is parsed here;
``-- include a, b`` names the files under ``lua/include/`` that it stands on. The names of
library and functions carry a hash of the whole text, so that two releases can share a
server, and a call that finds its function missing (a restart without persistence, a
failover, a flush) loads the library and repeats, as *function not found* means *not run*.
"""

from __future__ import annotations

import hashlib
import importlib.resources
import re
from collections.abc import Awaitable, Callable, Iterable, Iterator, Set
from dataclasses import dataclass
from functools import cache
from typing import TYPE_CHECKING, Any

from redis.exceptions import OutOfMemoryError, ResponseError

from callboard import exceptions

if TYPE_CHECKING:
    from callboard.engine.connection import Connection

LUA = importlib.resources.files("callboard.engine") / "lua"
_SECTION = re.compile(r"^-- (KEYS|ARGV|RETURNS|ITEMS|EVENTS|REPEAT|FLAGS|include)\s+(.*)$")
_CONSTANTS = re.compile(
    r"^local ([A-Z][A-Z0-9_]*(?:, [A-Z][A-Z0-9_]*)*) = (\d+(?:, \d+)*)(?=\s*(?:--.*)?$)",
    re.MULTILINE,
)
_TOP_LEVEL = re.compile(r"^local (function )?([A-Za-z]\w*(?:, [A-Za-z]\w*)*)( *$)?", re.M)
_LUA_CODE = re.compile(r"'(?:[^'\\]|\\.)*'|--[^\n]*|\b[A-Z][A-Z0-9_]*\b")
_WORD = re.compile(r"\w+")
PREFIX = "callboard_"
UNUSED_MS = 7 * 86_400_000

_MARK = "cb@"  # stands for the names' common part until the text is hashed
_TYPES = {"str": "{}", "int": "tonumber({})", "num": "tonumber({})"}


@dataclass(frozen=True, slots=True)
class Header:
    """What a function's file declares about itself."""

    name: str
    guarantee: str
    arguments: tuple[tuple[str, str], ...]
    statuses: tuple[str, ...]
    items: tuple[str, ...]
    events: tuple[str, ...]
    flags: tuple[str, ...]
    includes: tuple[str, ...]
    is_repeatable: bool

    @property
    def rows(self) -> str | None:
        """The name of the open-ended last argument, where there is one."""
        return next((name for name, kind in self.arguments if kind == "rows"), None)


def _words(text: str) -> tuple[str, ...]:
    return tuple(part.strip() for part in text.split(",") if part.strip())


def parse_header(name: str, text: str) -> Header:
    """Read the comment block at the top of a Lua file; ValueError names what is wrong."""
    lines: list[str] = []
    for line in text.splitlines():
        if not line.startswith("--"):
            break
        lines.append(line)
    found: dict[str, str] = {}
    for line in lines:
        match = _SECTION.match(line)
        if match:
            found[match[1]] = match[2].strip()
    arguments: list[tuple[str, str]] = []
    for part in _words(found.get("ARGV", "")):
        argument, _, kind = part.partition(":")
        if kind not in (*_TYPES, "rows"):
            raise ValueError(f"{name}.lua: argument {part!r} has no known type")
        arguments.append((argument, kind))
    if any(kind == "rows" for _, kind in arguments[:-1]):
        raise ValueError(f"{name}.lua: only the last argument may be rows")
    statuses = tuple(
        part.split()[0] for part in found.get("RETURNS", "").split("|") if part.strip()
    )
    items = tuple(part.split()[0] for part in found.get("ITEMS", "").split("|") if part.strip())
    events = () if found.get("EVENTS", "none").startswith("none") else _words(found["EVENTS"])
    return Header(
        name=name,
        guarantee=lines[0][3:].strip() if lines else "",
        arguments=tuple(arguments),
        statuses=statuses,
        items=items,
        events=events,
        flags=_words(found.get("FLAGS", "")),
        includes=_words(found.get("include", "")),
        is_repeatable="REPEAT" in found or "no-writes" in found.get("FLAGS", ""),
    )


@dataclass(frozen=True, slots=True)
class Library:
    """The assembled text of all functions, and the names it was given."""

    name: str
    text: bytes
    headers: dict[str, Header]
    function_names: dict[str, str]


def _included(name: str, texts: dict[str, str], order: list[str]) -> None:
    if name in order:
        return
    for other in parse_header(name, texts[name]).includes:
        _included(other, texts, order)
    order.append(name)


def _function(header: Header, body: str, function_name: str) -> str:
    names = ["format_key = KEYS[1]", "now = ARGV[1]"]
    for index, (argument, kind) in enumerate(header.arguments, start=2):
        if kind == "rows":
            names.append(f"{argument}_at = {index}")
        else:
            names.append(f"{argument} = {_TYPES[kind].format(f'ARGV[{index}]')}")
    prologue = "".join(f"local {name}\n" for name in names)
    flags = ", ".join(f"'{flag}'" for flag in header.flags)
    return (
        f"redis.register_function{{function_name='{function_name}', flags={{{flags}}}, "
        f"callback=function(KEYS, ARGV)\n{prologue}{body}\nend}}\n"
    )


def _constants(includes: Iterable[str]) -> dict[str, str]:
    values: dict[str, str] = {}
    for text in includes:
        for names, numbers in _CONSTANTS.findall(text):
            values.update(zip(names.split(", "), numbers.split(", "), strict=True))
    return values


def _inline(text: str, constants: dict[str, str], *, drop: bool = False) -> str:
    """Write the includes' numeric constants into the code that uses them.

    A function of Lua has at most 60 upvalues, and a number in place is what costs least.
    """
    if drop:
        text = _CONSTANTS.sub("", text)
    return _LUA_CODE.sub(lambda match: constants.get(match[0], match[0]), text)


@cache
def _mentioned(text: str) -> frozenset[str]:
    return frozenset(_WORD.findall(text))


def _sealed(text: str, mentioned: Set[str]) -> str:
    """The include in a block of its own, which shows only the names that are *mentioned*.

    A chunk of Lua has at most 200 local names.
    """
    shown: list[str] = []

    def shorten(statement: re.Match[str]) -> str:
        names = statement[2].split(", ")
        if mentioned.isdisjoint(names):
            return statement[0]
        shown.extend(names)
        is_bare = statement[3] is not None  # declared there, given a value elsewhere
        return "" if is_bare else f"{statement[1] or ''}{statement[2]}"

    body = _TOP_LEVEL.sub(shorten, text)
    return f"local {', '.join(shown)}\ndo\n{body}\nend\n" if shown else f"do\n{body}\nend\n"


@cache
def library() -> Library:
    """Assemble the library from the installed Lua files; the same text for all processes."""
    includes = {
        path.name[:-4]: path.read_text()
        for path in (LUA / "include").iterdir()
        if path.name.endswith(".lua")
    }
    operations = {
        path.name[:-4]: path.read_text() for path in LUA.iterdir() if path.name.endswith(".lua")
    }
    headers = {name: parse_header(name, text) for name, text in sorted(operations.items())}
    order: list[str] = []
    for header in headers.values():
        for name in header.includes:
            _included(name, includes, order)
    constants = _constants(includes.values())
    texts = {name: _inline(includes[name], constants, drop=True) for name in order}
    functions = "".join(
        _function(headers[name], _inline(operations[name], constants), f"{_MARK}{name}")
        for name in headers
    )
    used, words = _mentioned(functions), {name: _mentioned(texts[name]) for name in order}
    shared = "".join(
        _sealed(texts[name], used.union(*(words[other] for other in order if other != name)))
        for name in order
    )
    digest = hashlib.sha256((shared + functions).encode()).hexdigest()[:10]
    names = {name: f"cb_{digest}_{name}" for name in headers}
    text = f"#!lua name={PREFIX}{digest}\n{shared}\n{functions.replace(_MARK, f'cb_{digest}_')}"
    return Library(f"{PREFIX}{digest}", text.encode(), headers, names)


class Functions:
    """Calls operations by name on one namespace, loading the library where it is missing.

    Args:
        connection: The way to the engine.
        format_key: The namespace's routing key.
        clock: Where tests move time: returns the *now* to pass, in µs; None for the engine's own.

    Attributes:
        reopen: Awaited where the namespace is gone from the engine (flushed), before the call
            is repeated; what was lost with it is not brought back.
    """

    def __init__(
        self,
        connection: Connection,
        format_key: str,
        clock: Callable[[], int | None] | None = None,
    ) -> None:
        self.reopen: Callable[[], Awaitable[None]] | None = None
        self._connection = connection
        self._format_key = format_key.encode()
        self._clock = clock
        self._library = library()
        self._names = {name: full.encode() for name, full in self._library.function_names.items()}

    async def load(self, call: Callable[..., Awaitable[Any]] | None = None) -> None:
        """Load the library unless the engine has it; *call* is of a link still being opened."""
        try:
            await (call or self._connection.call)("FUNCTION", "LOAD", self._library.text)
        except ResponseError as error:
            if "already exists" not in str(error):
                raise

    async def tidy(self) -> list[str]:
        """Delete libraries of other releases that nobody used here for seven days; name them."""
        try:
            listed = await self._connection.call("FUNCTION", "LIST", "LIBRARYNAME", f"{PREFIX}*")
        except ResponseError:
            return []  # an operator may forbid it, and looks after the libraries then
        names = [name.decode() for name in _library_names(listed)]
        reply = await self.call("namespace_libraries", self._library.name, UNUSED_MS, *names)
        unused = [name.decode() for name in reply[1:]]
        for name in unused:
            try:
                await self._connection.call("FUNCTION", "DELETE", name)
            except ResponseError:
                continue  # another janitor was quicker
        return unused

    async def call_on(
        self, call: Callable[..., Awaitable[Any]], name: str, *arguments: Any
    ) -> list[Any]:
        """Load the library and run one operation through *call*, a link still being opened."""
        await self.load(call)
        reply: list[Any] = await call(
            "FCALL", self._names[name], 1, self._format_key, b"", *arguments
        )
        return reply

    async def call(self, name: str, *arguments: Any, timeout: float | None = None) -> list[Any]:
        """Run one operation and return its reply, the status first, as bytes.

        Where the outcome is unknown, an operation whose header says ``REPEAT`` is run once
        more: ids, fences or the state itself make it have its effect once.

        Raises:
            EngineFull: The engine is at its memory limit and the operation would add work.
            EngineUnavailable: Certainly not run.
            OutcomeUnknown: Sent, and the reply was lost.
        """
        now = self._clock() if self._clock else None
        command = (
            b"FCALL",
            self._names[name],
            1,
            self._format_key,
            b"" if now is None else now,
            *arguments,
        )
        try:
            try:
                reply: list[Any] = await self._run(command, timeout)
            except exceptions.OutcomeUnknown:
                if not self._library.headers[name].is_repeatable:
                    raise
                reply = await self._run(command, timeout)
            if reply[0] == b"no_namespace" and self.reopen is not None:
                await self.reopen()
                reply = await self._run(command, timeout)
        except ResponseError as error:
            raise translated(name, error) from error
        return reply

    async def _run(self, command: Iterable[Any], timeout: float | None) -> Any:
        try:
            return await self._connection.call(*command, timeout=timeout)
        except ResponseError as error:
            if "unction not found" not in str(error):
                raise
        await self.load()
        return await self._connection.call(*command, timeout=timeout)


def _library_names(listed: Iterable[Any]) -> Iterator[bytes]:
    """The names in a reply of FUNCTION LIST, in either protocol's shape."""
    for entry in listed:
        fields = (
            entry if isinstance(entry, dict) else dict(zip(entry[::2], entry[1::2], strict=True))
        )
        yield fields[b"library_name"]


def translated(name: str, error: ResponseError) -> exceptions.EngineError:
    """The engine's error reply to an operation, with the cure."""
    text = str(error)
    if isinstance(error, OutOfMemoryError) or "OOM" in text or "used memory > 'maxmemory'" in text:
        return exceptions.EngineFull(
            "The engine is at its maxmemory limit, so new work is refused; finishing, failing, "
            "releasing and purging still work. Raise maxmemory or purge finished tasks."
        )
    if "WRONGTYPE" in text:
        return exceptions.EngineError(
            f"Operation {name} found a key of the wrong type: something else writes to this "
            "database under Callboard's names. Use another database or a namespace of its own."
        )
    return exceptions.EngineError(f"Operation {name} failed on the engine: {text}")
