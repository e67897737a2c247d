"""The function library: one Lua file an operation, assembled, and named by what it is made of.

Each file under ``lua/`` is one function. Its header is its contract and is parsed here;
``-- include a, b`` names the files under ``lua/include/`` that it stands on. The names of
library and functions carry a hash of all of them, so that two releases can share a server.
"""

from __future__ import annotations

import hashlib
import importlib.resources
import re
from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from functools import cache, cached_property
from importlib.resources.abc import Traversable

LUA = importlib.resources.files("callboard.engine") / "lua"
_TOP = re.compile(r"(?:--.*\n?)*")
_SECTION = re.compile(r"^-- (KEYS|ARGV|RETURNS|ITEMS|EVENTS|REPEAT|FLAGS|include)\s+(.*)$")
_CONSTANTS = re.compile(
    r"^local ([A-Z][A-Z0-9_]*(?:, [A-Z][A-Z0-9_]*)*) = (\d+(?:, \d+)*)(?=\s*(?:--.*)?$)",
    re.MULTILINE,
)
_TOP_LEVEL = re.compile(r"^local (function )?([A-Za-z]\w*(?:, [A-Za-z]\w*)*)( *$)?", re.M)
_LUA_CODE = re.compile(r"'(?:[^'\\]|\\.)*'|--[^\n]*|\b[A-Z][A-Z0-9_]*\b")
_WORD = re.compile(r"\w+")
PREFIX = "callboard_"

_FIRST = "if not call then alias() end\n"  # what is hidden while a library loads: open.lua
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
    def writes(self) -> bool:
        """It changes something."""
        return "no-writes" not in self.flags

    @property
    def rows(self) -> str | None:
        """The name of the open-ended last argument, where there is one."""
        return next((name for name, kind in self.arguments if kind == "rows"), None)


def _words(text: str) -> tuple[str, ...]:
    return tuple(part.strip() for part in text.split(",") if part.strip())


def parse_header(name: str, text: str) -> Header:
    """Read the comment block at the top of a Lua file; ValueError names what is wrong."""
    top = _TOP.match(text)
    lines = top[0].splitlines() if top else []
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


class Library:
    """All functions, and the names they have on an engine.

    Args:
        name: The library's own.
        text: What is loaded, or what makes it: few processes meet an engine that lacks it.
        headers: By operation.
        function_names: By operation.
    """

    def __init__(
        self,
        name: str,
        text: bytes | Callable[[], bytes],
        headers: dict[str, Header],
        function_names: dict[str, str],
    ) -> None:
        self.name = name
        self.headers = headers
        self.function_names = function_names
        self._text = text

    @cached_property
    def text(self) -> bytes:
        """The assembled text."""
        return self._text() if callable(self._text) else self._text


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
        f"callback=function(KEYS, ARGV)\n{_FIRST}{prologue}{body}\nend}}\n"
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


def _mentioned(text: str) -> frozenset[str]:
    return frozenset(_WORD.findall(text))


def _sealed(text: str, is_mentioned: Callable[[str], bool]) -> str:
    """The include in a block of its own, which shows only the names that others mention.

    A chunk of Lua has at most 200 local names.
    """
    shown: list[str] = []

    def shorten(statement: re.Match[str]) -> str:
        names = statement[2].split(", ")
        if not any(map(is_mentioned, names)):
            return statement[0]
        shown.extend(names)
        is_bare = statement[3] is not None  # declared there, given a value elsewhere
        return "" if is_bare else f"{statement[1] or ''}{statement[2]}"

    body = _TOP_LEVEL.sub(shorten, text)
    return f"local {', '.join(shown)}\ndo\n{body}\nend\n" if shown else f"do\n{body}\nend\n"


@cache
def library() -> Library:
    """The library of the installed Lua files; the same for all processes."""
    includes, operations = _texts(LUA / "include"), _texts(LUA)
    headers = {name: parse_header(name, text) for name, text in operations.items()}
    digest = _digest(includes, operations)
    names = {name: f"cb_{digest}_{name}" for name in headers}

    def text() -> bytes:
        return _assembled(f"{PREFIX}{digest}", includes, operations, headers, names).encode()

    return Library(f"{PREFIX}{digest}", text, headers, names)


def _texts(folder: Traversable) -> dict[str, str]:
    files = sorted(folder.iterdir(), key=lambda path: path.name)
    return {path.name[:-4]: path.read_text() for path in files if path.name.endswith(".lua")}


def _digest(includes: dict[str, str], operations: dict[str, str]) -> str:
    """Of all that the text is made from: the files, and how they are put together, here."""
    own = importlib.resources.files("callboard.engine") / "library.py"
    found = hashlib.sha256(own.read_bytes())
    for name, text in (*includes.items(), *operations.items()):
        found.update(f"{name}\0{text}\0".encode())
    return found.hexdigest()[:10]


def _assembled(
    library_name: str,
    includes: dict[str, str],
    operations: dict[str, str],
    headers: dict[str, Header],
    function_names: dict[str, str],
) -> str:
    order: list[str] = []
    for header in headers.values():
        for name in header.includes:
            _included(name, includes, order)
    constants = _constants(includes.values())
    texts = {name: _inline(includes[name], constants, drop=True) for name in order}
    functions = "".join(
        _function(headers[name], _inline(operations[name], constants), function_names[name])
        for name in headers
    )
    used, words = _mentioned(functions), {name: _mentioned(texts[name]) for name in order}
    mentions = Counter(word for found in words.values() for word in found)
    mentions.update(used)

    def shared() -> Iterator[str]:
        for name in order:
            own = words[name]
            yield _sealed(texts[name], lambda word: mentions[word] > (word in own))  # noqa: B023

    return f"#!lua name={library_name}\n{''.join(shared())}\n{functions}"
