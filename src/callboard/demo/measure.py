"""What one Python module is made of: size, functions, complexity, documentation.

Pure but for reading the file; only the standard library is used.
"""

from __future__ import annotations

import ast
import hashlib
import io
import threading
import tokenize
import warnings
from collections import Counter
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Final

import msgspec

FUNCTIONS_KEPT: Final = 5
"""Functions a module reports by name: the most complex and the longest."""

CLONE_STATEMENTS: Final = 5
"""Smaller functions are alike by nature: a loop and a return say nothing."""


class NotPython(ValueError):
    """The file cannot be read as Python source; the message says where and why."""


class FunctionFacts(msgspec.Struct, frozen=True):
    """A function or method.

    Attributes:
        name: With the classes and functions around it.
        line: Where it begins.
        lines: From its ``def`` to its last line.
        complexity: McCabe's count: 1 and one more a decision.
        is_documented: It has a docstring.
        shape: Hash of its body without names, constants and docstring; empty where it is small.
    """

    name: str
    line: int
    lines: int
    complexity: int
    is_documented: bool
    shape: str = ""


class ModuleFacts(msgspec.Struct, frozen=True, kw_only=True):
    """A module, measured.

    Attributes:
        code, comments, blank: Lines with code, with nothing but a comment, with nothing.
            Lines inside docstrings and other long strings count as code.
        complexity: Over all functions.
        documentable: The module, its public classes and public functions.
        imports: Top-level names of the modules imported absolutely, sorted.
        notable: The most complex and the longest functions.
        shapes: Functions large enough to be told apart: shape, name, line.
    """

    path: str
    lines: int
    code: int
    comments: int
    blank: int
    functions: int
    classes: int
    complexity: int
    documentable: int
    documented: int
    imports: tuple[str, ...] = ()
    notable: tuple[FunctionFacts, ...] = ()
    shapes: tuple[tuple[str, str, int], ...] = ()


def measure_file(path: Path, name: str) -> ModuleFacts:
    """Read and measure a module; its encoding cookie is heeded.

    Raises:
        NotPython: It is not Python source of this interpreter's version.
        OSError: It cannot be read.
    """
    return measure(path.read_bytes(), name)


def measure(data: bytes, name: str) -> ModuleFacts:
    """Measure a module from its bytes. Raises NotPython."""
    source, tree = parse(data, name)
    try:
        kinds = _line_kinds(data)
    except (SyntaxError, tokenize.TokenError) as error:
        raise NotPython(f"{name} is not Python: {error}") from error
    return _facts(name, source, tree, kinds)


# Python 3.11 counts the depth of a tree for all threads at once, and fails with a SystemError
# where two of them build one. The warnings that are passed over belong to all threads too.
_parsing = threading.Lock()


def parse(data: bytes, name: str) -> tuple[str, ast.Module]:
    """The source as text, and its tree. Raises NotPython."""
    try:
        encoding, _ = tokenize.detect_encoding(io.BytesIO(data).readline)
        source = data.decode(encoding)
        with _parsing, warnings.catch_warnings():
            # What the source could be warned of is for its own tests to say.
            warnings.simplefilter("ignore")
            return source, ast.parse(source, name)
    except SyntaxError as error:
        where = f" in line {error.lineno}" if error.lineno else ""
        raise NotPython(f"{name} is not Python{where}: {error.msg}") from error
    except (ValueError, RecursionError, MemoryError) as error:
        raise NotPython(f"{name} is not Python: {error}") from error


def names_in(data: bytes) -> Counter[str]:
    """How often each name of four letters or more occurs. Raises NotPython."""
    try:
        tokens = tokenize.tokenize(io.BytesIO(data).readline)
        return Counter(
            token.string
            for token in tokens
            if token.type == tokenize.NAME and len(token.string) >= 4
        )
    except (SyntaxError, UnicodeDecodeError, tokenize.TokenError) as error:
        raise NotPython(f"It is not Python: {error}") from error


def _facts(name: str, source: str, tree: ast.Module, kinds: Counter[str]) -> ModuleFacts:
    functions = [_function(qualified, node) for qualified, node in functions_of(tree)]
    documentable, documented = _documentation(tree)
    by_complexity = sorted(functions, key=lambda f: (-f.complexity, f.line))[:FUNCTIONS_KEPT]
    by_length = sorted(functions, key=lambda f: (-f.lines, f.line))[:FUNCTIONS_KEPT]
    return ModuleFacts(
        path=name,
        lines=len(source.splitlines()),
        code=kinds["code"],
        comments=kinds["comment"],
        blank=len(source.splitlines()) - kinds["code"] - kinds["comment"],
        functions=len(functions),
        classes=sum(isinstance(node, ast.ClassDef) for node in ast.walk(tree)),
        complexity=sum(function.complexity for function in functions),
        documentable=documentable,
        documented=documented,
        imports=tuple(sorted(_imports(tree))),
        notable=tuple(dict.fromkeys([*by_complexity, *by_length])),
        shapes=tuple((f.shape, f.name, f.line) for f in functions if f.shape),
    )


def _line_kinds(data: bytes) -> Counter[str]:
    """Lines that hold code, and lines that hold a comment alone."""
    code: set[int] = set()
    comments: set[int] = set()
    for token in tokenize.tokenize(io.BytesIO(data).readline):
        if token.type == tokenize.COMMENT:
            comments.add(token.start[0])
        elif token.type not in _LAYOUT:
            code.update(range(token.start[0], token.end[0] + 1))
    return Counter(code=len(code), comment=len(comments - code))


_LAYOUT: Final = frozenset(
    {
        tokenize.ENCODING,
        tokenize.NL,
        tokenize.NEWLINE,
        tokenize.INDENT,
        tokenize.DEDENT,
        tokenize.ENDMARKER,
    }
)

Function = ast.FunctionDef | ast.AsyncFunctionDef


def functions_of(node: ast.AST, prefix: str = "") -> Iterator[tuple[str, Function]]:
    """All functions below a node, with their qualified names."""
    for child in ast.iter_child_nodes(node):
        if isinstance(child, Function):
            yield prefix + child.name, child
        inner = f"{prefix}{child.name}." if isinstance(child, Function | ast.ClassDef) else prefix
        yield from functions_of(child, inner)


def _function(name: str, node: Function) -> FunctionFacts:
    own = list(_own_nodes(node))
    statements = sum(isinstance(inner, ast.stmt) for inner in own)
    return FunctionFacts(
        name=name,
        line=node.lineno,
        lines=(node.end_lineno or node.lineno) - node.lineno + 1,
        complexity=1 + sum(_decisions(inner) for inner in own),
        is_documented=ast.get_docstring(node, clean=False) is not None,
        shape=_shape(node) if statements >= CLONE_STATEMENTS else "",
    )


def _own_nodes(node: Function) -> Iterator[ast.AST]:
    """The nodes of a function's body without those of functions and classes inside it."""
    waiting: list[ast.AST] = [*node.body]
    while waiting:
        inner = waiting.pop()
        yield inner
        if not isinstance(inner, Function | ast.ClassDef):
            waiting += ast.iter_child_nodes(inner)


def _decisions(node: ast.AST) -> int:
    """Ways through a function that a node adds.

    T. McCabe, "A Complexity Measure", 1976, with ``and``, ``or``, conditional expressions,
    comprehensions and ``case`` counted as the decisions they are.
    """
    if isinstance(node, _BRANCHES):
        return 1
    if isinstance(node, ast.BoolOp):
        return len(node.values) - 1
    if isinstance(node, ast.comprehension):
        return 1 + len(node.ifs)
    if isinstance(node, ast.match_case):
        return int(not (isinstance(node.pattern, ast.MatchAs) and node.pattern.pattern is None))
    return 0


_BRANCHES: Final = (ast.If, ast.IfExp, ast.For, ast.AsyncFor, ast.While, ast.ExceptHandler)


def _shape(node: Function) -> str:
    """A hash that two functions share when they differ only in names and constants."""
    digest = hashlib.blake2b(digest_size=8)
    for statement in without_docstring(node):
        for inner in ast.walk(statement):
            digest.update(type(inner).__name__.encode() + b" ")
        digest.update(b"\n")
    return digest.hexdigest()


def without_docstring(node: Function) -> Sequence[ast.stmt]:
    """The statements of a function but for its docstring."""
    return node.body[1:] if ast.get_docstring(node, clean=False) is not None else node.body


def _documentation(tree: ast.Module) -> tuple[int, int]:
    """How many places call for a docstring, and how many have one."""
    places: list[ast.Module | ast.ClassDef | Function] = [tree] if tree.body else []
    waiting: list[ast.AST] = [tree]
    while waiting:
        for child in ast.iter_child_nodes(waiting.pop()):
            if isinstance(child, ast.ClassDef | Function):
                if child.name.startswith("_"):
                    continue
                places.append(child)
            if not isinstance(child, Function):
                waiting.append(child)
    return len(places), sum(ast.get_docstring(place, clean=False) is not None for place in places)


def _imports(tree: ast.Module) -> set[str]:
    found: set[str] = set()
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            found.update(alias.name.partition(".")[0] for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and not node.level and node.module:
            found.add(node.module.partition(".")[0])
    return found
