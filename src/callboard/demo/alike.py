"""Which functions of a package are nearly the same, line by line."""

from __future__ import annotations

import ast
import difflib
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import Final, NamedTuple

import msgspec

from callboard.demo.measure import NotPython, functions_of, parse, without_docstring

LINES_MIN: Final = 5
"""Shorter functions are alike by nature."""

RATIO_MIN: Final = 0.7
FUNCTIONS_MAX: Final = 1_200
"""Functions of a package compared with each other, the longest first: 719,400 pairs."""

KEPT: Final = 10


class Alike(msgspec.Struct, frozen=True):
    """Two functions whose lines are mostly the same, docstrings and comments aside."""

    first: str
    second: str
    ratio: float


class AlikeFacts(msgspec.Struct, frozen=True):
    """What a comparison found: all pairs counted, the most alike kept."""

    functions: int
    pairs: int
    alike: int
    kept: tuple[Alike, ...] = ()


class _Body(NamedTuple):
    where: str
    module: str
    first: int
    last: int
    lines: Sequence[str]

    def holds(self, other: _Body) -> bool:
        """The other function stands inside this one."""
        return self.module == other.module and self.first <= other.first and other.last <= self.last


def compare(
    files: Iterable[tuple[Path, str]], heed: Callable[[float], None] = lambda share: None
) -> AlikeFacts:
    """Compare all functions of these files with each other; files that are not Python are passed.

    Args:
        files: Path and name of each.
        heed: Called now and then with the share that is done; it may raise to stop the work.
    """
    bodies = [body for path, name in files for body in _bodies(path, name)]
    bodies.sort(key=lambda body: (-len(body.lines), body.where))
    del bodies[FUNCTIONS_MAX:]
    matcher = difflib.SequenceMatcher(autojunk=False)
    found: list[Alike] = []
    pairs = 0
    for i, first in enumerate(bodies):
        heed(i / len(bodies))
        # The matcher remembers most about its second sequence, so that one stays.
        matcher.set_seq2(first.lines)
        for second in bodies[i + 1 :]:
            if _ratio_max(first.lines, second.lines) < RATIO_MIN:
                break  # The rest is shorter still.
            pairs += 1
            matcher.set_seq1(second.lines)
            if matcher.quick_ratio() >= RATIO_MIN and not first.holds(second):
                ratio = matcher.ratio()
                if ratio >= RATIO_MIN:
                    found.append(Alike(first.where, second.where, round(ratio, 3)))
    return AlikeFacts(len(bodies), pairs, len(found), _closest(found))


def _closest(found: Iterable[Alike]) -> tuple[Alike, ...]:
    """The most alike pairs, each function in one of them: seven copies are not 21 news."""
    kept: list[Alike] = []
    taken: set[str] = set()
    for pair in sorted(found, key=lambda pair: (-pair.ratio, pair.first)):
        if len(kept) < KEPT and taken.isdisjoint((pair.first, pair.second)):
            kept.append(pair)
            taken |= {pair.first, pair.second}
    return tuple(kept)


def _ratio_max(longer: Sequence[str], shorter: Sequence[str]) -> float:
    return 2 * len(shorter) / (len(longer) + len(shorter))


def _bodies(path: Path, name: str) -> Iterable[_Body]:
    try:
        _, tree = parse(path.read_bytes(), name)
    except NotPython:
        return
    for qualified, node in functions_of(tree):
        body = ast.Module(body=list(without_docstring(node)), type_ignores=[])
        lines = ast.unparse(body).splitlines()
        if len(lines) >= LINES_MIN:
            where = f"{name}:{node.lineno} {qualified}"
            yield _Body(where, name, node.lineno, node.end_lineno or node.lineno, lines)
