"""The house rules as functions: each takes the tree and returns its faults, in words.

The rules are those of STYLE.md and ARCHITECTURE.md that a program can decide.
"""

from __future__ import annotations

import ast
import re
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path, PurePosixPath

PACKAGE = "src/callboard/"
LUA = PACKAGE + "engine/lua/"
INCLUDES = LUA + "include/"
LUA_KEYS = INCLUDES + "keys.lua"
PYTHON_KEYS = PACKAGE + "engine/keys.py"

# Commands that change what is stored. Reads, pub/sub and administration are not here.
WRITE_COMMANDS = frozenset(
    """
    APPEND BITFIELD BITOP COPY DECR DECRBY DEL EXPIRE EXPIREAT FLUSHALL FLUSHDB GETDEL GETEX
    GETSET HDEL HINCRBY HINCRBYFLOAT HMSET HSET HSETNX INCR INCRBY INCRBYFLOAT LINSERT LMOVE
    LMPOP LPOP LPUSH LPUSHX LREM LSET LTRIM MIGRATE MOVE MSET MSETNX PERSIST PEXPIRE PEXPIREAT
    PFADD PFMERGE PSETEX RENAME RENAMENX RESTORE RPOP RPOPLPUSH RPUSH RPUSHX SADD SDIFFSTORE
    SET SETBIT SETEX SETNX SETRANGE SINTERSTORE SMOVE SORT SPOP SREM SUNIONSTORE SWAPDB UNLINK
    XACK XADD XAUTOCLAIM XCLAIM XDEL XGROUP XREADGROUP XSETID XTRIM ZADD ZDIFFSTORE ZINCRBY
    ZINTERSTORE ZMPOP ZPOPMAX ZPOPMIN ZRANGESTORE ZREM ZREMRANGEBYLEX ZREMRANGEBYRANK
    ZREMRANGEBYSCORE ZUNIONSTORE
    """.split()
)
# Methods by these names also belong to lists, events and paths; the reader judges them.
AMBIGUOUS_METHODS = frozenset(
    {"append", "copy", "expire", "migrate", "move", "persist", "rename", "restore", "set"}
    | {"sort", "unlink"}
)

# What the sizes of STYLE.md allow before they ask for a second room.
FUNCTION_LINES = 50
SERVICE_LINES = 300
MODULE_LINES = 500
LUA_LINES = 80


# Reading the tree


@dataclass(frozen=True)
class Header:
    """The parsed comment at the top of a Lua file."""

    sentence: str
    parts: Mapping[str, str]
    includes: tuple[str, ...]

    @property
    def arguments(self) -> list[str]:
        """The names in ARGV, in order."""
        given = self.parts.get("ARGV", "")
        return [] if given in ("", "none") else [a.split(":")[0].strip() for a in given.split(",")]

    @property
    def statuses(self) -> list[str]:
        """The first word of each alternative in RETURNS, then of each in ITEMS."""
        alternatives = [
            *self.parts.get("RETURNS", "").split("|"),
            *self.parts.get("ITEMS", "").split("|"),
        ]
        return [a.split()[0] for a in alternatives if a.strip()]

    @property
    def flags(self) -> list[str]:
        """The words in FLAGS."""
        return self.parts.get("FLAGS", "").replace(",", " ").split()


@dataclass(frozen=True)
class LuaFile:
    """One Lua file: its text, its header, and its code without comments."""

    path: str
    text: str

    @property
    def name(self) -> str:
        """The file's name without its ending."""
        return PurePosixPath(self.path).stem

    @cached_property
    def header(self) -> Header:
        """What the comment at the top says."""
        return parse_header(self.text)

    @cached_property
    def code(self) -> str:
        """The text with comments blanked, line by line as before."""
        return _LUA_TOKEN.sub(_blank_comment, self.text)

    @cached_property
    def bare_code(self) -> str:
        """The code with the contents of strings blanked too."""
        return _LUA_TOKEN.sub(lambda m: _spaces(m[0]), self.text)

    @cached_property
    def strings(self) -> list[tuple[int, str]]:
        """Each string literal with its line."""
        found = []
        for token in _LUA_TOKEN.finditer(self.text):
            if not token[0].startswith("--"):
                line = self.text.count("\n", 0, token.start()) + 1
                found.append((line, token[0].strip("'\"[]")))
        return found


@dataclass(frozen=True)
class PythonFile:
    """One Python file of the package, parsed."""

    path: str
    text: str

    @cached_property
    def tree(self) -> ast.Module:
        """The syntax tree."""
        return ast.parse(self.text, self.path)

    @cached_property
    def strings(self) -> list[tuple[int, str]]:
        """Each string literal that is no docstring, with its line; parts of f-strings too."""
        prose = {id(n.value) for n in ast.walk(self.tree) if isinstance(n, ast.Expr)}
        return [
            (node.lineno, value)
            for node in ast.walk(self.tree)
            if isinstance(node, ast.Constant) and id(node) not in prose
            for value in [_as_text(node)]
            if value is not None
        ]

    @cached_property
    def calls(self) -> list[ast.Call]:
        """Every call in the file."""
        return [node for node in ast.walk(self.tree) if isinstance(node, ast.Call)]


@dataclass(frozen=True)
class House:
    """The texts of the tree by path, as the checks see them."""

    files: Mapping[str, str] = field(repr=False)

    @classmethod
    def read(cls, root: Path) -> House:
        """Read the package, the tests, the reference pages and the pinned lists under *root*."""
        wanted = ("src/**/*.py", "src/**/*.lua", "tests/**/*.py", "docs/reference/**/*.md")
        paths = [p for pattern in (*wanted, "requirements/*.txt") for p in root.glob(pattern)]
        return cls({p.relative_to(root).as_posix(): p.read_text("utf-8") for p in sorted(paths)})

    @cached_property
    def python(self) -> list[PythonFile]:
        """The package's Python files."""
        return [PythonFile(p, t) for p, t in self._under(PACKAGE, ".py")]

    @cached_property
    def operations(self) -> list[LuaFile]:
        """The Lua files that are one function each."""
        found = self._under(LUA, ".lua")
        return [LuaFile(p, t) for p, t in found if not p.startswith(INCLUDES)]

    @cached_property
    def includes(self) -> list[LuaFile]:
        """The Lua files that functions include."""
        return [LuaFile(p, t) for p, t in self._under(INCLUDES, ".lua")]

    @cached_property
    def tests(self) -> str:
        """All tests but the house's own, as one text."""
        found = self._under("tests/", ".py")
        return "\n".join(t for p, t in found if not p.startswith("tests/house/"))

    @cached_property
    def reference(self) -> str:
        """All reference pages as one text."""
        return "\n".join(t for _, t in self._under("docs/reference/", ".md"))

    def _under(self, folder: str, ending: str) -> list[tuple[str, str]]:
        return [
            (p, t) for p, t in self.files.items() if p.startswith(folder) and p.endswith(ending)
        ]


Check = Callable[[House], list[str]]


# The checks


def state_changed_outside_lua(house: House) -> list[str]:
    """Every change of state is one server-side function; Python sends no write commands.

    The embedded engine and the connection, which speak to the server about itself, may.
    """
    exempt = {PACKAGE + "engine/embedded.py", PACKAGE + "engine/connection.py"}
    return [
        f"{file.path}:{call.lineno}: {command} is sent from Python; make it a Lua function"
        for file in house.python
        if file.path not in exempt
        for call in file.calls
        for command in [_write_command(call)]
        if command
    ]


def lua_in_python(house: House) -> list[str]:
    """Lua lives in .lua files, where it has a header, a name and a test."""
    return [
        f"{file.path}:{line}: Lua in a Python string; give it a file under engine/lua"
        for file in house.python
        for line, text in file.strings
        if re.search(r"redis\.p?call\s*\(", text)
    ]


def headers_incomplete(house: House) -> list[str]:
    """Each function's header has its sentence and parts; its arguments are named once and used."""
    faults = []
    for file in house.operations:
        head = file.header
        if not head.sentence.endswith("."):
            faults.append(f"{file.path}: the header does not begin with one sentence")
        faults += [
            f"{file.path}: the header has no {part}"
            for part in ("KEYS", "ARGV", "RETURNS", "EVENTS")
            if part not in head.parts
        ]
        names = head.arguments
        faults += [
            f"{file.path}: ARGV names {n} twice" for n in sorted(set(names)) if names.count(n) > 1
        ]
        faults += [
            f"{file.path}: the argument {n} is never used"
            for n in names
            if not re.search(rf"\b{re.escape(n)}(_at)?\b", file.bare_code)
        ]
        faults += [
            f"{file.path}: {argument.strip()} in ARGV has no type"
            for argument in head.parts.get("ARGV", "").split(",")
            if names and not re.fullmatch(r"\s*[a-z_]+:[a-z_\[\]?]+\s*", argument)
        ]
        faults += [
            f"{file.path}: {flag} is no flag of a function; use no-writes or allow-oom"
            for flag in head.flags
            if flag not in ("no-writes", "allow-oom")
        ]
    return faults


def includes_astray(house: House) -> list[str]:
    """Every included file exists and every include file is included."""
    names = {file.name for file in house.includes}
    asked = {
        (file.path, include)
        for file in (*house.operations, *house.includes)
        for include in file.header.includes
    }
    missing = [
        f"{path}: includes {include}, which is not in {INCLUDES}"
        for path, include in sorted(asked)
        if include not in names
    ]
    used = {include for _, include in asked}
    return missing + [f"{INCLUDES}{n}.lua: nothing includes it" for n in sorted(names - used)]


def functions_astray(house: House) -> list[str]:
    """A function is called `<noun>_<verb>`, and files and the calls in Python match one to one."""
    faults = [
        f"{file.path}: the name is not <noun>_<verb>.lua"
        for file in house.operations
        if not re.fullmatch(r"[a-z]+(_[a-z]+)+", file.name)
    ]
    known = {file.name for file in house.operations}
    mentioned = {text for file in house.python for _, text in file.strings}
    faults += [
        f"{file.path}: no Python file calls it"
        for file in house.operations
        if file.name not in mentioned
    ]
    return faults + [
        f"{file.path}:{call.lineno}: there is no {LUA}{name}.lua"
        for file, call, name in _function_calls(house)
        if name not in known
    ]


def calls_unlike_headers(house: House) -> list[str]:
    """A call in Python gives as many values as the function's header has arguments.

    A call with `*values` gives what it gives: only the values before the star are counted.
    Arguments of type `rows` stand last and take any number.
    """
    headers = {file.name: file.header for file in house.operations}
    faults = []
    for file, call, name in _function_calls(house):
        if name not in headers:
            continue
        arguments = headers[name].arguments
        takes_rows = headers[name].parts["ARGV"].endswith(":rows") if arguments else False
        plain = [a for a in call.args[1:] if not isinstance(a, ast.Starred)]
        is_open = len(plain) < len(call.args) - 1
        fewest = 0 if is_open else len(arguments) - takes_rows
        most = float("inf") if takes_rows else len(arguments)
        if not fewest <= len(plain) <= most:
            faults.append(
                f"{file.path}:{call.lineno}: {name} is given {len(plain)} values"
                f" for {', '.join(arguments) or 'no arguments'}"
            )
        faults += [
            f"{file.path}:{call.lineno}: {name} is given {keyword.arg}= by name"
            for keyword in call.keywords
            if keyword.arg not in CALL_OPTIONS
        ]
    return faults


# What `functions.call` itself takes by name.
CALL_OPTIONS = frozenset({"timeout"})


def statuses_untested(house: House) -> list[str]:
    """Each status that a function returns occurs in a test, as the word or as its exception."""
    exceptions = _exceptions_by_code(house)
    return [
        f"{file.path}: no test mentions its status {status}"
        for file in house.operations
        for status in file.header.statuses
        if not any(
            re.search(rf"\b{re.escape(word)}\b", house.tests)
            for word in (status, exceptions.get(status, status))
        )
    ]


def key_names_astray(house: House) -> list[str]:
    """Key names are written in `include/keys.lua` and mirrored in `engine/keys.py`, only there."""
    names = _key_names(house)
    # These also begin the names of events.
    events = ("agent:", "inbox:", "message:", "run:", "team:")
    prefixes = tuple(n for n in names if n.endswith(":") and n[0] != ":" and n not in events)
    where = "use engine/keys.py, or its Lua twin"
    texts: list[PythonFile | LuaFile] = [*house.python, *house.operations, *house.includes]
    return [
        f"{file.path}:{line}: the key name {text!r}; {where}"
        for file in texts
        if file.path not in (LUA_KEYS, PYTHON_KEYS)
        for line, text in file.strings
        if (text in names or (prefixes and text.startswith(prefixes)))
        and (file.path, text) not in KEY_NAMES_ALLOWED
    ]


# Where a key's name may stand besides, and why.
KEY_NAMES_ALLOWED = {
    # The default of the routing key: the connection knows no other key.
    (PACKAGE + "engine/connection.py", "callboard:format"),
    # Here it begins the names of events.
    (PACKAGE + "teams/lead.py", "run:"),
    # Here it begins the names of components.
    (INCLUDES + "breaker.lua", "agent:"),
}


def refusals_after_writes(house: House) -> list[str]:
    """A function refuses before it writes: the line `-- writes` divides the two.

    A failing function leaves its earlier writes, so none may come before the last refusal.
    A function flagged `no-writes` has neither line nor writes. A status that is not the
    first of RETURNS counts as a refusal, unless the line says `-- an outcome`.
    """
    shared = {name: body for file in house.includes for name, body in _lua_functions(file)}
    faults = []
    for file in house.operations:
        own = dict(_lua_functions(file))
        writes = _writes_pattern({**shared, **own})
        main = _outside_functions(file)
        marker = [n for n, line in enumerate(file.text.splitlines(), 1) if line == "-- writes"]
        if "no-writes" in file.header.flags:
            faults += [
                f"{file.path}:{n}: writes, but is flagged no-writes"
                for n, line in main
                if writes.search(line)
            ]
            continue
        if len(marker) != 1:
            faults.append(f"{file.path}: needs the line `-- writes` once, has it {len(marker)}×")
            continue
        faults += [
            f"{file.path}:{n}: writes before the line `-- writes`"
            for n, line in main
            if n < marker[0] and writes.search(line)
        ]
        faults += [
            f"{file.path}:{n}: refuses after the line `-- writes`"
            for n, line in main
            if n > marker[0] and _is_refusal(line, file.header.statuses)
            if "-- an outcome" not in file.text.splitlines()[n - 1]
        ]
    return faults


def loops_unbounded(house: House) -> list[str]:
    """A `while` or `repeat` in Lua says beside it, or on the line above, what bounds it."""
    faults = []
    for file in (*house.operations, *house.includes):
        lines = file.text.splitlines()
        for number, code in enumerate(file.bare_code.splitlines()):
            nearby = lines[max(number - 1, 0) : number + 1]
            if re.search(r"\b(while|repeat)\b", code) and not any(
                "-- bounded by" in line.lower() for line in nearby
            ):
                faults.append(f"{file.path}:{number + 1}: a loop without `-- bounded by …`")
    return faults


def services_undocumented(house: House) -> list[str]:
    """Each public method of a service is in a reference page, or its absence has a reason."""
    return [
        f"{path}:{line}: {owner}.{method} is in no page of docs/reference"
        for path, line, owner, method in _service_methods(house)
        if not re.search(rf"[.`]{method}\b", house.reference)
        and f"{owner}.{method}" not in UNDOCUMENTED
    ]


# `Class.method` of a service that the reference leaves out: why.
UNDOCUMENTED: dict[str, str] = {}


def lists_unpinned(house: House) -> list[str]:
    """The pinned lists carry a version and a hash for each package, and no registry's address."""
    faults = []
    for path, text in house.files.items():
        if not (path.startswith("requirements/") and path.endswith(".txt")):
            continue
        if "://" in text or re.search(r"^\s*-", re.sub(r"--hash=\S+", "", text), re.MULTILINE):
            faults.append(f"{path}: names a registry or sets an option")
        for entry in text.replace("\\\n", " ").splitlines():
            if entry.strip() and not entry.lstrip().startswith("#"):
                pinned = re.match(r"[\w.\[\]-]+==[\w.+!]+(\s|$)", entry)
                if not pinned or "--hash=sha256:" not in entry:
                    faults.append(f"{path}: {entry.split()[0]} lacks its version or hash")
    return faults


def oversized(house: House) -> list[str]:
    """What is larger than STYLE.md likes. Reported, never a failure."""
    found = [
        f"{file.path}: {lines} lines, beyond STYLE's {LUA_LINES}"
        for file in (*house.operations, *house.includes)
        for lines in [file.text.count("\n")]
        if lines > LUA_LINES
    ]
    for module in house.python:
        bound = SERVICE_LINES if "/services/" in module.path else MODULE_LINES
        lines = module.text.count("\n")
        if lines > bound:
            found.append(f"{module.path}: {lines} lines, beyond STYLE's {bound}")
        for node in ast.walk(module.tree):
            if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
                length = (node.end_lineno or node.lineno) - node.lineno + 1
                if length > FUNCTION_LINES:
                    found.append(
                        f"{module.path}:{node.lineno}: {node.name} has {length} lines, "
                        f"beyond STYLE's {FUNCTION_LINES}"
                    )
    return found


# Reading Lua

_LUA_TOKEN = re.compile(
    r"""--\[\[.*?\]\] | --[^\n]* | \[\[.*?\]\] | '(?:\\.|[^'\\\n])*' | "(?:\\.|[^"\\\n])*" """,
    re.DOTALL | re.VERBOSE,
)
_PART = re.compile(r"-- (KEYS|ARGV|RETURNS|ITEMS|EVENTS|REPEAT|FLAGS)\b\s*(.*)")


def parse_header(text: str) -> Header:
    """Parse the comment lines at the top of a Lua file."""
    sentence: list[str] = []
    parts: dict[str, str] = {}
    includes: list[str] = []
    last = ""
    for line in text.splitlines():
        if not line.startswith("--"):
            break
        if part := _PART.match(line):
            last = part[1]
            parts[last] = part[2].strip()
        elif include := re.match(r"-- include\s+(.*)", line):
            last = ""
            includes += [name.strip() for name in include[1].split(",")]
        elif last and line.startswith("--   "):
            parts[last] += " " + line[2:].strip()
        else:
            last = ""
            if not parts and not includes:
                sentence.append(line[2:].strip())
    return Header(" ".join(sentence).strip(), parts, tuple(includes))


def _blank_comment(token: re.Match[str]) -> str:
    return _spaces(token[0]) if token[0].startswith("--") else token[0]


def _spaces(text: str) -> str:
    return re.sub(r"[^\n]", " ", text)


def _lua_functions(file: LuaFile) -> Iterator[tuple[str, str]]:
    """The functions defined at the left margin: name and body."""
    for name, first, last in _function_spans(file):
        yield name, "\n".join(file.code.splitlines()[first:last])


def _function_spans(file: LuaFile) -> Iterator[tuple[str, int, int]]:
    lines = file.code.splitlines()
    number = 0
    while number < len(lines):
        start = re.match(r"local function (\w+)", lines[number])
        if start:
            first = number
            if not re.search(r"\bend\s*$", lines[number]):
                while number < len(lines) - 1 and not re.match(r"end\b", lines[number]):
                    number += 1
            yield start[1], first, number + 1
        number += 1


def _outside_functions(file: LuaFile) -> list[tuple[int, str]]:
    """The numbered lines of code that run when the function is called."""
    inside = {n for _, first, last in _function_spans(file) for n in range(first, last)}
    lines = enumerate(file.code.splitlines())
    return [(n + 1, line) for n, line in lines if n not in inside]


def _writes_pattern(functions: Mapping[str, str]) -> re.Pattern[str]:
    """What a line that writes looks like: a write command, or a function that leads to one."""
    command = rf"\b(?:call|send)\s*\(\s*['\"](?:{'|'.join(sorted(WRITE_COMMANDS))})['\"]"
    writers: set[str] = set()
    while True:
        names = rf"|\b(?:{'|'.join(sorted(writers))})\s*\(" if writers else ""
        pattern = re.compile(command + names)
        more = {n for n, body in functions.items() if pattern.search(_after_name(body))}
        if more <= writers:
            return pattern
        writers |= more


def _after_name(body: str) -> str:
    return body.partition("(")[2]


def _is_refusal(line: str, statuses: list[str]) -> bool:
    if re.search(r"\breturn\s+refuse\b|\berror\s*\(", line):
        return True
    returned = re.search(r"\breturn\s*\{\s*['\"](\w+)['\"]", line)
    return bool(returned and statuses and returned[1] != statuses[0])


# Reading Python


def _as_text(node: ast.Constant) -> str | None:
    if isinstance(node.value, bytes):
        return node.value.decode("utf-8", "replace")
    return node.value if isinstance(node.value, str) else None


def _write_command(call: ast.Call) -> str | None:
    """The write command that this call sends to the server, if it does."""
    if not isinstance(call.func, ast.Attribute):
        return None
    method = call.func.attr
    if method in ("call", "execute", "execute_command", "send_command", "pack_command"):
        first = call.args[0] if call.args else None
        word = _as_text(first) if isinstance(first, ast.Constant) else None
        return word if word and word.upper() in WRITE_COMMANDS else None
    is_sent = method.islower() and method.upper() in WRITE_COMMANDS
    return method.upper() if is_sent and method not in AMBIGUOUS_METHODS else None


def _function_calls(house: House) -> Iterator[tuple[PythonFile, ast.Call, str]]:
    """The calls `functions.call("noun_verb", …)`, on whatever object of that name."""
    for file in house.python:
        for call in file.calls:
            if not (isinstance(call.func, ast.Attribute) and call.args):
                continue
            owner = ast.unparse(call.func.value).rpartition(".")[2].lstrip("_")
            first = call.args[0]
            if owner == "functions" and isinstance(first, ast.Constant):
                name = _as_text(first)
                if name is not None:
                    yield file, call, name


def _exceptions_by_code(house: House) -> dict[str, str]:
    codes = {}
    for file in house.python:
        for node in ast.walk(file.tree):
            if isinstance(node, ast.ClassDef):
                for line in node.body:
                    if (
                        isinstance(line, ast.Assign | ast.AnnAssign)
                        and ast.unparse(line).startswith("code")
                        and isinstance(line.value, ast.Constant)
                    ):
                        codes[str(line.value.value)] = node.name
    return codes


def _key_names(house: House) -> frozenset[str]:
    """The literals of `keys.lua` that look like names: those with a colon and a word."""
    texts = [text for file in house.includes if file.path == LUA_KEYS for _, text in file.strings]
    return frozenset(t for t in texts if ":" in t and t != ":")


def _service_methods(house: House) -> Iterator[tuple[str, int, str, str]]:
    for file in house.python:
        if not file.path.startswith(PACKAGE + "services/"):
            continue
        for owner in file.tree.body:
            if not isinstance(owner, ast.ClassDef) or owner.name.startswith("_"):
                continue
            for node in owner.body:
                if isinstance(
                    node, ast.FunctionDef | ast.AsyncFunctionDef
                ) and not node.name.startswith("_"):
                    yield file.path, node.lineno, owner.name, node.name
