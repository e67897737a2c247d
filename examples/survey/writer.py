"""The synthesizer: a page in Markdown of what the survey found."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Sequence
from typing import Any

from callboard.teams.requests import Outcome, SynthesisRequest

SHOWN = 10


def write(request: SynthesisRequest) -> str:
    """Write what to look at first, then the packages, then what is missing."""
    packages = results_of(request.tasks, "summarise.")
    looks = results_of(request.tasks, "look.")
    sections = [
        head(packages),
        closer(looks),
        long_functions(packages),
        look_alikes(packages),
        table_of(packages),
        missing(request.tasks, packages),
    ]
    return "\n\n".join(section for section in sections if section)


def results_of(tasks: Iterable[Outcome], prefix: str) -> list[dict[str, Any]]:
    """The results of the tasks of one sort, but for those that were too large to be handed on."""
    return [
        task.result
        for task in tasks
        if task.id.startswith(prefix) and task.status == "done" and not task.is_truncated
    ]


def head(packages: Iterable[dict[str, Any]]) -> str:
    """The totals."""
    total: Counter[str] = Counter()
    for package in packages:
        total.update(package.get("sums", {}))
    documented = total["documented"] / max(1, total["documentable"])
    return (
        f"# Survey of {total['modules']:,} Python modules\n\n"
        f"{total['lines']:,} lines, {total['code']:,} of them code, with {total['functions']:,} "
        f"functions and {total['classes']:,} classes.\n"
        f"A function has a mean complexity of "
        f"{total['complexity'] / max(1, total['functions']):.1f} (McCabe's count), and "
        f"{documented:.0%} of what is public has a docstring."
    )


def closer(looks: Sequence[dict[str, Any]]) -> str:
    """What the planner's further rounds brought."""
    return section(
        "Where to look first",
        [
            f"- `{look['name']}` in `{look['where']}`: {look['lines']} lines with "
            f"{look['branches']} branches, {look['loops']} loops, {look['returns']} returns and "
            f"{look['inner']} functions inside; nested most deeply, {look['depth']} levels, in "
            f"line {look['deepest']}."
            for look in sorted(looks, key=lambda look: -look["lines"])[:SHOWN]
        ],
    )


def long_functions(packages: Iterable[dict[str, Any]]) -> str:
    """The longest functions of all packages."""
    functions = [function for package in packages for function in package.get("long", ())]
    functions.sort(key=lambda function: -function["lines"])
    return section(
        "The longest functions",
        [
            f"- `{function['name']}` in `{function['where']}`: {function['lines']} lines, "
            f"complexity {function['complexity']}"
            for function in functions[:SHOWN]
        ],
    )


def look_alikes(packages: Iterable[dict[str, Any]]) -> str:
    """The pairs of functions that share the most lines."""
    pairs = [pair for package in packages for pair in package.get("closest", ())]
    pairs.sort(key=lambda pair: -pair["ratio"])
    return section(
        "Look-alikes",
        [
            f"- {pair['ratio']:.0%} of the lines: `{pair['first']}` and `{pair['second']}`"
            for pair in pairs[:SHOWN]
        ],
    )


def table_of(packages: Sequence[dict[str, Any]]) -> str:
    """A row for each package, the largest first."""
    rows = []
    for package in sorted(packages, key=lambda p: -p.get("sums", {}).get("lines", 0)):
        sums = Counter(package.get("sums", {}))
        names = ", ".join(f"`{name}`" for name in package.get("names", ()))
        rows.append(
            f"| `{package['package']}` | {sums['modules']:,} | {sums['lines']:,} "
            f"| {sums['functions']:,} | {package.get('bytecode', 0) / 1000:,.1f} | {names} |"
        )
    columns = [
        "| package | modules | lines | functions | kB of bytecode | uses most |",
        "| --- | ---: | ---: | ---: | ---: | --- |",
    ]
    return section("Packages", [*columns, *rows])


def missing(tasks: Iterable[Outcome], packages: Iterable[dict[str, Any]]) -> str:
    """What does not compile, and what could not be done."""
    lines = [
        f"- {line}"
        for package in packages
        for line in (*package.get("broken", ()), *package["missing"])
    ]
    lines += (f"- {task.title}: {task.error}" for task in tasks if task.status != "done")
    return section("What is missing", list(dict.fromkeys(lines)))


def section(title: str, lines: Sequence[str]) -> str:
    """A heading with what stands below it; nothing where that is nothing."""
    return "\n".join([f"## {title}", "", *lines]) if lines else ""
