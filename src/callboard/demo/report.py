"""What a survey found, summed up by package and written for people."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterable, Sequence
from datetime import UTC, datetime
from typing import Any, Final

import msgspec

from callboard.demo.alike import RATIO_MIN, Alike, AlikeFacts
from callboard.demo.measure import ModuleFacts
from callboard.domain.task import Status, Task

HOT_SPOTS: Final = 20
KEPT: Final = 10
"""How many a package hands up of each ranking."""


class CompileFacts(msgspec.Struct, frozen=True):
    """Bytes of bytecode as it is, without asserts, and without docstrings too; or the error."""

    path: str
    plain: int = 0
    no_asserts: int = 0
    no_docstrings: int = 0
    error: str = ""


class HotSpot(msgspec.Struct, frozen=True):
    """A function worth a look."""

    where: str
    name: str
    complexity: int
    lines: int


class Missing(msgspec.Struct, frozen=True):
    """A part of the survey that could not be done."""

    task: str
    what: str
    why: str


class PackageFacts(msgspec.Struct, kw_only=True):
    """A package, summed up; the sequences hold the first of their rankings."""

    package: str
    modules: int = 0
    lines: int = 0
    code: int = 0
    comments: int = 0
    functions: int = 0
    classes: int = 0
    complexity: int = 0
    documentable: int = 0
    documented: int = 0
    plain: int = 0
    no_asserts: int = 0
    no_docstrings: int = 0
    largest: Sequence[tuple[str, int]] = ()
    bare: Sequence[tuple[str, int, int]] = ()
    hot: Sequence[HotSpot] = ()
    alike: Sequence[Alike] = ()
    alike_pairs: int = 0
    clones: Sequence[tuple[str, ...]] = ()
    imports: Sequence[tuple[str, int]] = ()
    names: Sequence[tuple[str, int]] = ()
    broken: Sequence[tuple[str, str]] = ()
    missing: Sequence[Missing] = ()


class ReportFacts(msgspec.Struct, frozen=True):
    """Where the report is and how much it holds."""

    path: str
    packages: int
    lines: int


def summarise(package: str, tasks: Iterable[Task]) -> PackageFacts:
    """Sum up the finished tasks of a package; those without a result are listed as missing."""
    by_kind: defaultdict[str, list[Any]] = defaultdict(list)
    missing: list[Missing] = []
    for task in tasks:
        if task.status is Status.DONE:
            by_kind[task.kind].append(task.result)
        else:
            why = (task.error or {}).get("message") or task.reason or str(task.status)
            missing.append(Missing(task.id, f"{task.kind} {task.title}", str(why)))
    facts = PackageFacts(package=package, missing=missing)
    _sum_modules(facts, msgspec.convert(by_kind["measure"], list[ModuleFacts]))
    _sum_compiled(facts, msgspec.convert(by_kind["compile"], list[CompileFacts]))
    for found in msgspec.convert(by_kind["compare"], list[AlikeFacts]):
        facts.alike, facts.alike_pairs = found.kept, found.alike
    for names in by_kind["names"]:
        facts.names = names
    return facts


def _sum_modules(facts: PackageFacts, modules: list[ModuleFacts]) -> None:
    facts.modules = len(modules)
    for field in (
        *("lines", "code", "comments", "functions", "classes", "complexity"),
        *("documentable", "documented"),
    ):
        setattr(facts, field, sum(getattr(module, field) for module in modules))
    facts.largest = _top(((module.path, module.lines) for module in modules), lambda row: row[1])
    facts.bare = _top(
        (
            (module.path, module.documentable - module.documented, module.documentable)
            for module in modules
            if module.documented < module.documentable
        ),
        lambda row: row[1],
    )
    facts.hot = _top(
        (
            HotSpot(
                f"{module.path}:{function.line}", function.name, function.complexity, function.lines
            )
            for module in modules
            for function in module.notable
        ),
        lambda spot: (spot.complexity, spot.lines),
    )
    facts.imports = Counter(name for module in modules for name in module.imports).most_common(KEPT)
    facts.clones = _clones(modules)


def _clones(modules: Iterable[ModuleFacts]) -> Sequence[tuple[str, ...]]:
    """Groups of functions that differ only in names and constants, the largest first."""
    places: defaultdict[str, list[str]] = defaultdict(list)
    for module in modules:
        for shape, name, line in module.shapes:
            places[shape].append(f"{module.path}:{line} {name}")
    return _top((tuple(where) for where in places.values() if len(where) > 1), len)


def _sum_compiled(facts: PackageFacts, compiled: list[CompileFacts]) -> None:
    for field in ("plain", "no_asserts", "no_docstrings"):
        setattr(facts, field, sum(getattr(module, field) for module in compiled))
    facts.broken = [(module.path, module.error) for module in compiled if module.error]


def _top(rows: Iterable[Any], key: Any, count: int = KEPT) -> list[Any]:
    return sorted(rows, key=key, reverse=True)[:count]


# The page


def markdown(title: str, packages: Sequence[PackageFacts]) -> str:
    """The report as Markdown: what to look at first, then the packages, then what is missing."""
    sections = [
        _head(title, packages),
        _hot_spots(packages),
        _look_alikes(packages),
        _packages(packages),
        _modules(packages),
        _undocumented(packages),
        _bytecode(packages),
        _words(packages),
        _missing(packages),
    ]
    return "\n\n".join(section for section in sections if section) + "\n"


def _head(title: str, packages: Sequence[PackageFacts]) -> str:
    total = {
        field: sum(getattr(package, field) for package in packages)
        for field in ("modules", "lines", "code", "functions", "classes", "complexity")
    }
    documented = _share(
        sum(package.documented for package in packages),
        sum(package.documentable for package in packages),
    )
    mean = total["complexity"] / max(total["functions"], 1)
    return (
        f"# Survey of {title}\n\n"
        f"{total['modules']:,} {'module' if total['modules'] == 1 else 'modules'} "
        f"in {len(packages)} packages, {total['lines']:,} lines, "
        f"{total['code']:,} of them code.\n"
        f"{total['functions']:,} functions and {total['classes']:,} classes; "
        f"a function has a mean complexity of {mean:.1f}.\n"
        f"{documented} of modules, public classes and public functions have a docstring.\n\n"
        f"Written {datetime.now(UTC):%Y-%m-%d %H:%M} UTC by `callboard demo`."
    )


def _hot_spots(packages: Sequence[PackageFacts]) -> str:
    spots: list[HotSpot] = _top(
        (spot for package in packages for spot in package.hot),
        lambda spot: (spot.complexity, spot.lines),
        HOT_SPOTS,
    )
    return _section(
        "Where to look first",
        "The functions with the most decisions in them (McCabe's count, with `and`, `or`, "
        "comprehensions and `case` counted).",
        ["function", "where", "complexity", "lines"],
        [(f"`{s.name}`", f"`{s.where}`", s.complexity, s.lines) for s in spots],
    )


def _look_alikes(packages: Sequence[PackageFacts]) -> str:
    pairs: list[Alike] = _top(
        (pair for package in packages for pair in package.alike), lambda pair: pair.ratio
    )
    found = sum(package.alike_pairs for package in packages)
    groups = _top((group for package in packages for group in package.clones), len)
    text = _section(
        "Look-alikes",
        f"{found:,} pairs of functions in one package share at least {RATIO_MIN:.0%} of their "
        "lines. The closest, each function once:",
        ["function", "and", "alike"],
        [(f"`{p.first}`", f"`{p.second}`", f"{p.ratio:.0%}") for p in pairs],
    )
    if groups:
        listed = "\n".join(
            f"- {len(group)}: "
            + ", ".join(f"`{place}`" for place in group[:4])
            + (", …" if len(group) > 4 else "")
            for group in groups
        )
        text += f"\n\nThe same but for names and constants:\n\n{listed}"
    return text.strip()


def _packages(packages: Sequence[PackageFacts]) -> str:
    ranked = sorted(packages, key=lambda package: -package.lines)
    return _section(
        "Packages",
        "By size; complexity is the mean of a function.",
        ["package", "modules", "lines", "functions", "classes", "complexity", "documented"],
        [
            (
                f"`{p.package}`",
                p.modules,
                p.lines,
                p.functions,
                p.classes,
                f"{p.complexity / max(p.functions, 1):.1f}",
                _share(p.documented, p.documentable),
            )
            for p in ranked
        ],
    )


def _modules(packages: Sequence[PackageFacts]) -> str:
    rows = _top((row for package in packages for row in package.largest), lambda row: row[1])
    return _section(
        "Largest modules", "", ["module", "lines"], [(f"`{path}`", lines) for path, lines in rows]
    )


def _undocumented(packages: Sequence[PackageFacts]) -> str:
    rows = _top((row for package in packages for row in package.bare), lambda row: row[1])
    return _section(
        "Least documented",
        "Public classes and functions, and the modules themselves, without a docstring.",
        ["module", "without", "of"],
        [(f"`{path}`", without, of) for path, without, of in rows],
    )


def _bytecode(packages: Sequence[PackageFacts]) -> str:
    rows = sorted((p for p in packages if p.plain), key=lambda p: -p.plain)[:KEPT]
    return _section(
        "Bytecode",
        "What each package compiles to, and what leaving out asserts (`-O`) and docstrings "
        "(`-OO`) saves.",
        ["package", "kB", "asserts", "asserts and docstrings"],
        [
            (
                f"`{p.package}`",
                f"{p.plain / 1000:.1f}",
                _share(p.plain - p.no_asserts, p.plain),
                _share(p.plain - p.no_docstrings, p.plain),
            )
            for p in rows
        ],
    )


def _words(packages: Sequence[PackageFacts]) -> str:
    imports: Counter[str] = Counter()
    for package in packages:
        imports.update(dict(package.imports))
    most = ", ".join(f"`{name}` ({count})" for name, count in imports.most_common(12))
    rows = [
        (f"`{package.package}`", ", ".join(f"`{name}`" for name, _ in package.names[:6]))
        for package in sorted(packages, key=lambda package: -package.lines)[:KEPT]
        if package.names
    ]
    lead = f"Imported by the most modules: {most}." if most else ""
    return _section("Names", lead, ["package", "uses most"], rows)


def _missing(packages: Sequence[PackageFacts]) -> str:
    rows = [(m.what, f"`{m.task}`", m.why) for package in packages for m in package.missing]
    text = _section(
        "What is missing",
        "These tasks ended without a result; their packages were summed up without them.",
        ["what", "task", "why"],
        rows,
    )
    broken = [row for package in packages for row in package.broken]
    if broken:
        listed = "\n".join(f"- `{path}`: {_cell(error)}" for path, error in broken)
        text += f"\n\nThese do not compile:\n\n{listed}"
    return text.strip()


def _section(
    title: str, lead: str, columns: Sequence[str], rows: Sequence[Sequence[object]]
) -> str:
    """A heading, a sentence and a table, numbers to the right; nothing where there are no rows."""
    if not rows:
        return ""
    numbers = [all(_is_number(row[i]) for row in rows) for i in range(len(columns))]
    lines = [
        "| " + " | ".join(columns) + " |",
        "|" + "|".join(" ---: " if number else " --- " for number in numbers) + "|",
        *("| " + " | ".join(_cell(value) for value in row) + " |" for row in rows),
    ]
    return "\n\n".join(part for part in (f"## {title}", lead, "\n".join(lines)) if part)


def _is_number(value: object) -> bool:
    return (
        isinstance(value, int)
        or str(value).strip("-%–").replace(".", "", 1).isdigit()
        or value == "–"
    )


def _cell(value: object) -> str:
    if isinstance(value, int):
        return f"{value:,}"
    return " ".join(str(value).split()).replace("|", "\\|")


def _share(part: int, whole: int) -> str:
    return f"{part / whole:.0%}" if whole else "–"
