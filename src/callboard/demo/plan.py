"""Which tasks survey a tree: modules first, then their packages, then the report."""

from __future__ import annotations

import os
import re
import sys
import sysconfig
from collections import defaultdict
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import msgspec

from callboard.domain.retry import RetryPolicy
from callboard.domain.task import TaskSpec
from callboard.exceptions import ConfigError

LIBRARY: Final = tuple(
    "asyncio collections concurrent ctypes email http importlib json logging multiprocessing"
    " unittest urllib xml".split()
)
"""Packages of the standard library that make the default tree: some 180 modules."""

MODULES_MAX: Final = 1_500
"""Larger trees are surveyed as far as this; the demo says so."""

MODULE_BYTES_MAX: Final = 1_000_000
"""A larger file is generated: parsing it holds the interpreter longer than a lease."""

PLANTED: Final = "planted"
PLANTED_NAME: Final = "not_python.py"
_PLANTED_SOURCE: Final = b"""\
# This file was made by the demo, and is not Python on purpose: the task that measures it
# cannot succeed however often it is tried. So it becomes a dead letter.
def greet(name:
    return "caf\xe9"
"""

_PASSED_OVER: Final = frozenset(
    {"__pycache__", "build", "dist", "node_modules", "site-packages", "venv"}
)
_NOT_IN_A_NAME: Final = re.compile(r"[^A-Za-z0-9_-]+")

PRIORITY: Final = {"compare": "normal", "names": "high", "summarise": "high", "report": "high"}
"""A task queues up when it becomes ready, so summaries would all come at the end."""

QUICK_RETRIES: Final = RetryPolicy(max_retries=3, base=0.8, factor=2.0, cap=3.0)


class Module(msgspec.Struct, frozen=True):
    """A file to survey: where it is, and how the report names it."""

    path: str
    name: str


class PackageWork(msgspec.Struct, frozen=True):
    """Payload of the tasks of a package."""

    package: str
    modules: tuple[Module, ...] = ()


class CommandWork(msgspec.Struct, frozen=True):
    """Payload of a task that runs a command on a module, with a folder to write into."""

    module: Module
    scratch: str


class ReportWork(msgspec.Struct, frozen=True):
    """Payload of the report: what was surveyed, and the file to write."""

    title: str
    out: str


@dataclass(frozen=True)
class Tree:
    """What is surveyed.

    Attributes:
        title: For people.
        name: For file names.
        packages: Modules by the folder they stand in, both in order of name.
        left_out: Why some files are not among them, a sentence each.
    """

    title: str
    name: str
    packages: dict[str, tuple[Module, ...]]
    left_out: tuple[str, ...] = ()

    @property
    def modules(self) -> int:
        """How many modules it has."""
        return sum(map(len, self.packages.values()))


def read_tree(folder: Path | None) -> Tree:
    """Find the modules below *folder*, or of some packages of the standard library.

    Hidden folders, virtual environments, caches and links to folders are passed over.

    Raises:
        ConfigError: There is no such folder, or no Python file in it.
    """
    if folder is None:
        root = Path(sysconfig.get_path("stdlib")).resolve()
        version = f"{sys.version_info.major}.{sys.version_info.minor}"
        roots = [root / name for name in LIBRARY if (root / name).is_dir()]
        files = (path for each in roots for path in _files(each) if not _is_test(path, root))
        return _tree(f"the Python {version} standard library", f"python-{version}", root, files)
    root = folder.resolve()
    if not root.is_dir():
        raise ConfigError(f"{folder} is not a folder. Give one with Python files in it.")
    name = _NOT_IN_A_NAME.sub("-", root.name).strip("-") or "tree"
    tree = _tree(str(folder), name, root, _files(root))
    if not tree.packages:
        raise ConfigError(f"There is no Python file in {folder}. Give a folder that has some.")
    return tree


def plant(folder: Path) -> Module:
    """Write the module that cannot be measured, and say where it is."""
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / PLANTED_NAME
    path.write_bytes(_PLANTED_SOURCE)
    return Module(str(path.resolve()), f"{PLANTED}/{PLANTED_NAME}")


def with_planted(tree: Tree, module: Module) -> Tree:
    """The tree with the planted module as a package of its own, behind the first package."""
    first, *rest = tree.packages.items()
    return Tree(tree.title, tree.name, dict([first, (PLANTED, (module,)), *rest]), tree.left_out)


def plan(tree: Tree, *, out: Path, scratch: Path) -> list[TaskSpec]:
    """The tasks of a survey, those of a package together; the report is the last.

    A module is measured (in Python) and compiled (by a command). A package's functions are
    compared, its names counted, and all of it summed up even where some of it failed.
    """
    ids = _Ids()
    specs: list[TaskSpec] = []
    summaries: list[str] = []
    for package, modules in tree.packages.items():
        needed = [spec for module in modules for spec in _of_module(ids, module, scratch)]
        work = PackageWork(package, modules)
        needed += (
            TaskSpec(
                id=ids.new(kind, _named(package)),
                kind=kind,
                title=package,
                payload=work,
                priority=PRIORITY[kind],
                retry=QUICK_RETRIES,
            )
            for kind in ("compare", "names")
        )
        summary = TaskSpec(
            id=ids.new("summarise", _named(package)),
            kind="summarise",
            title=package,
            payload=PackageWork(package),
            priority=PRIORITY["summarise"],
            depends_on=[spec.id for spec in needed if spec.id],
            on_dependency_failure="run",
        )
        specs += (*needed, summary)
        summaries.append(summary.id or "")
    specs.append(
        TaskSpec(
            id="report",
            kind="report",
            title=f"report on {tree.title}",
            payload=ReportWork(tree.title, os.path.abspath(out)),
            priority=PRIORITY["report"],
            depends_on=summaries,
            on_dependency_failure="run",
        )
    )
    return specs


def _of_module(ids: _Ids, module: Module, scratch: Path) -> Iterator[TaskSpec]:
    yield TaskSpec(
        id=ids.new("measure", module.name), kind="measure", title=module.name, payload=module
    )
    yield TaskSpec(
        id=ids.new("compile", module.name),
        kind="compile",
        title=module.name,
        payload=CommandWork(module, str(scratch)),
        timeout=60.0,
    )


def _named(package: str) -> str:
    return "top" if package == "." else package


class _Ids:
    """Readable task ids, each given once."""

    def __init__(self) -> None:
        self._given: set[str] = set()

    def new(self, kind: str, name: str) -> str:
        """As ``measure.json.decoder`` for ``json/decoder.py``."""
        dotted = name.removesuffix(".py").removesuffix("/__init__").replace("/", ".")
        plain = ".".join(_NOT_IN_A_NAME.sub("-", part) for part in dotted.split(".") if part)
        base = f"{kind}.{plain[-100:]}".rstrip(".")
        given, number = base, 2
        while given in self._given:
            given, number = f"{base}-{number}", number + 1
        self._given.add(given)
        return given


def _tree(title: str, name: str, root: Path, files: Iterable[Path]) -> Tree:
    packages: defaultdict[str, list[Module]] = defaultdict(list)
    large = 0
    found = 0
    for path in files:
        if _size(path) > MODULE_BYTES_MAX:
            large += 1
            continue
        found += 1
        if found <= MODULES_MAX:
            relative = path.relative_to(root)
            package = "." if relative.parent == Path() else relative.parent.as_posix()
            packages[package].append(Module(str(path), relative.as_posix()))
    left_out = []
    if large:
        left_out.append(f"{large} files of over {MODULE_BYTES_MAX:,} bytes are left out.")
    if found > MODULES_MAX:
        left_out.append(
            f"{found - MODULES_MAX:,} files behind the first {MODULES_MAX:,} are left out."
        )
    if title == "." or title == str(root):
        title = root.name or title
    return Tree(
        title, name, {key: tuple(value) for key, value in packages.items()}, tuple(left_out)
    )


def _files(root: Path) -> Iterator[Path]:
    """Python files below *root*, folder by folder in order of name."""
    for folder, inner, names in os.walk(root):
        inner[:] = sorted(name for name in inner if _is_walked(Path(folder, name)))
        for name in sorted(names):
            if name.endswith(".py") and Path(folder, name).is_file():
                yield Path(folder, name)


def _is_walked(folder: Path) -> bool:
    return not (
        folder.name.startswith(".")
        or folder.name in _PASSED_OVER
        or folder.is_symlink()
        or (folder / "pyvenv.cfg").exists()
    )


def _is_test(path: Path, root: Path) -> bool:
    return not {"test", "tests"}.isdisjoint(path.relative_to(root).parts)


def _size(path: Path) -> int:
    try:
        return path.stat().st_size
    except OSError:
        return 0


def in_words(names: Sequence[str]) -> str:
    """``a``, ``a and b``, ``a, b and c``."""
    return " and ".join(filter(None, [", ".join(names[:-1]), *names[-1:]]))
