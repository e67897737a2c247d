"""The demo's worker: six kinds of task that survey Python source.

    callboard worker callboard.demo.survey:worker --board BOARD

``names`` is made to fail its first attempt, so that a retry can be seen. All else is what
it seems: it fails when the module it works on gives it reason to.
"""

from __future__ import annotations

import asyncio
import importlib.util
import os
import shutil
import sys
import tempfile
from collections import Counter
from pathlib import Path
from typing import Final

import msgspec

from callboard.demo import alike, measure, report
from callboard.demo.plan import CommandWork, Module, PackageWork, ReportWork
from callboard.demo.report import CompileFacts, PackageFacts, summarise
from callboard.exceptions import Fatal, Retry
from callboard.sdk.context import TaskContext
from callboard.sdk.worker import Worker

LEASE_SECONDS: Final = 2.5
"""Short, so that the work of a killed worker comes back while one watches."""

worker = Worker(agent="surveyor", concurrency=2, lease=LEASE_SECONDS, drain=3.0)


@worker.handles("measure")
def measure_module(module: Module) -> measure.ModuleFacts:
    """Measure one module; what is not Python is a dead letter, as no retry can cure it."""
    try:
        return measure.measure_file(Path(module.path), module.name)
    except (measure.NotPython, FileNotFoundError) as error:
        raise Fatal(str(error)) from error


@worker.handles("compile")
async def compile_module(work: CommandWork) -> CompileFacts:
    """Compile a copy of one module at the three levels of optimisation, by a command."""
    name = work.module.name
    with _folder_in(work.scratch) as folder:
        copy = os.path.join(folder, os.path.basename(name))
        try:
            shutil.copyfile(work.module.path, copy)
        except FileNotFoundError as error:
            raise Fatal(str(error)) from error
        levels = ["-o", "0", "-o", "1", "-o", "2"]
        output = await _run(sys.executable, "-I", "-m", "compileall", "-q", "-f", *levels, copy)
        plain, no_asserts, no_docstrings = (_size(copy, level) for level in ("", 1, 2))
    if not no_docstrings:
        words = output.replace(copy, name).removeprefix(f"*** Error compiling '{name}'...")
        return CompileFacts(name, error=" ".join(words.split())[:500] or "no bytecode was written")
    return CompileFacts(name, plain, no_asserts, no_docstrings)


@worker.handles("compare")
def compare_package(work: PackageWork, ctx: TaskContext) -> alike.AlikeFacts:
    """Find functions of a package that are nearly the same."""

    def heed(_: float) -> None:
        if ctx.is_cancelled:
            raise Retry("The comparison was stopped.")

    return alike.compare([(Path(module.path), module.name) for module in work.modules], heed)


@worker.handles("names")
def count_names(work: PackageWork, ctx: TaskContext) -> list[tuple[str, int]]:
    """Count the names a package uses most; made to fail its first attempt."""
    if ctx.task.failures == 0:
        raise Retry("This kind is made to fail its first attempt, so that a retry can be seen.")
    names: Counter[str] = Counter()
    for module in work.modules:
        try:
            names += measure.names_in(Path(module.path).read_bytes())
        except (measure.NotPython, FileNotFoundError):
            continue
    return names.most_common(8)


@worker.handles("summarise")
async def summarise_package(work: PackageWork, ctx: TaskContext) -> PackageFacts:
    """Sum up what the other tasks found out about a package, and what they could not."""
    task = await ctx.tasks.get(ctx.id)
    found = await ctx.tasks.get_many(task.depends_on)
    present = [one for one in found if one is not None]
    return await asyncio.to_thread(summarise, work.package, present)


@worker.handles("report")
async def write_report(work: ReportWork, ctx: TaskContext) -> report.ReportFacts:
    """Write the report from the summaries, in one step: a reader never sees half of it."""
    task = await ctx.tasks.get(ctx.id)
    found = await ctx.tasks.get_many(task.depends_on)
    packages = [msgspec.convert(one.result, PackageFacts) for one in found if one and one.result]
    text = await asyncio.to_thread(report.markdown, work.title, packages)
    out = Path(work.out)
    out.parent.mkdir(parents=True, exist_ok=True)
    draft = out.with_name(f".{out.name}.{ctx.fence}")
    draft.write_text(text, encoding="utf-8")
    os.replace(draft, out)
    return report.ReportFacts(str(out), len(packages), len(text.splitlines()))


def _folder_in(scratch: str) -> tempfile.TemporaryDirectory[str]:
    parent = scratch if os.path.isdir(scratch) else None
    return tempfile.TemporaryDirectory(prefix="callboard-", dir=parent)


def _size(source: str, level: int | str) -> int:
    """Bytes of a file's bytecode at a level of optimisation; 0 where there is none."""
    cached = importlib.util.cache_from_source(source, optimization=level)
    # The command looks at no environment, so it writes beside the source, whatever we would do.
    compiled = os.path.join(os.path.dirname(source), "__pycache__", os.path.basename(cached))
    return os.path.getsize(compiled) if os.path.exists(compiled) else 0


async def _run(*command: str) -> str:
    """Run a command to its end and answer what it printed; it is killed where we are cancelled."""
    process = await asyncio.create_subprocess_exec(
        *command,
        stdin=asyncio.subprocess.DEVNULL,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.STDOUT,
    )
    try:
        output, _ = await process.communicate()
    except asyncio.CancelledError:
        process.kill()
        await process.wait()
        raise
    return output.decode(errors="replace")
