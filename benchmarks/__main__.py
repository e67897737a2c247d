"""``python -m benchmarks``: measure Callboard and its peers, print tables and ratios."""

from __future__ import annotations

import argparse
import importlib
import json
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

from benchmarks import machine, report
from benchmarks.drivers import CONTENDERS, PEERS, Contender, DriverError
from benchmarks.engine import EngineOptions, resolve_binary, running_engine
from benchmarks.peer_setup import PeerMissing
from benchmarks.results import Results
from benchmarks.workloads import QUICK, WORKLOADS, Bench, Sizes

OURS = "callboard"
#: Workloads that are Callboard's alone, or that call a peer as a library: each a module with
#: ``measure`` and ``render``.
ALONE = {
    "W6": "claim_cost",
    "W7": "team_runs",
    "W8": "primitives.locks",
    "W9": "primitives.deadlocks",
    "W10": "primitives.messages",
    "W11": "primitives.assignments",
    "W12": "simulated",
    "W13": "primitives.breakers",
    "W14": "primitives.conflicts",
    "W15": "primitives.promises",
    "W16": "coordinator.requests",
    "W17": "coordinator.deliveries",
    "W18": "coordinator.fanout",
}


def main() -> int:
    """Run what the command line asks for; 1 if a contender failed, else 0."""
    options = _arguments()
    results = Results()
    bench = Bench(
        EngineOptions(resolve_binary(options.server), options.persistence, options.transport),
        QUICK if options.quick else Sizes(),
        results,
    )
    _describe(bench, options)
    contenders = list(_contenders(options, results))
    failed = _measure(bench, contenders, options)
    is_measured = any(contender.name == OURS for contender in contenders)
    alone = [key for key in options.only if key in ALONE] if is_measured else []
    for key in alone:
        failed |= _alone(bench, options, key)
    _progress("")
    names = [contender.name for contender in contenders]
    tables = [_module(key).render for key in alone]
    print(report.render(results, names, options.only, tables))
    if options.json is not None:
        options.json.write_text(json.dumps(results.as_json(), indent=2) + "\n")
    return 1 if failed else 0


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m benchmarks", description=__doc__)
    parser.add_argument(
        "--quick", action="store_true", help="a tenth of the work, one run: tries the harness"
    )
    parser.add_argument("--runs", type=int, default=None, help="runs of each workload (default 3)")
    parser.add_argument(
        "--peers", type=_names(PEERS), default=list(PEERS), help=f"of {','.join(PEERS)}; or none"
    )
    parser.add_argument("--without-callboard", action="store_true", help="measure the peers alone")
    workloads = [*WORKLOADS, *ALONE]
    parser.add_argument(
        "--only", type=_names(workloads), default=workloads, help=f"of {','.join(workloads)}"
    )
    parser.add_argument("--json", type=Path, default=None, metavar="FILE", help="keep every figure")
    parser.add_argument("--transport", choices=["unix", "tcp"], default="unix")
    parser.add_argument("--persistence", choices=["everysec", "always", "none"], default="everysec")
    parser.add_argument(
        "--server", default=None, metavar="PROGRAM", help="a server other than the embedded engine"
    )
    options = parser.parse_args()
    if options.runs is None:
        options.runs = 1 if options.quick else 3
    return options


def _names(known: Sequence[str]) -> Callable[[str], list[str]]:
    def parse(text: str) -> list[str]:
        wanted = [] if text == "none" else text.split(",")
        for name in wanted:
            if name not in known:
                raise argparse.ArgumentTypeError(f"unknown {name!r}; known: {', '.join(known)}")
        return [name for name in known if name in wanted]

    return parse


def _describe(bench: Bench, options: argparse.Namespace) -> None:
    with running_engine(bench.engine) as engine:
        version = engine.version()
    bench.results.facts.update(machine.describe())
    bench.results.facts["engine"] = (
        f"{version}, persistence {options.persistence}, over {options.transport}; "
        "a fresh one for each measurement"
    )
    bench.results.facts["runs"] = f"{options.runs}, interleaved; median (least–greatest)"
    if options.quick:
        bench.results.facts["size"] = "QUICK: for trying the harness, not for figures"


def _contenders(options: argparse.Namespace, results: Results) -> Iterator[Contender]:
    wanted = [] if options.without_callboard else [OURS]
    for name in [*wanted, *options.peers]:
        try:
            yield CONTENDERS[name]()
        except PeerMissing as missing:
            results.note(f"{name} was skipped: {missing}.")
            _progress(f"{name} is skipped: {missing}.\n")


def _measure(bench: Bench, contenders: list[Contender], options: argparse.Namespace) -> bool:
    """Runs on the outside, so that a noisy minute touches every contender's figures alike."""
    failed: set[tuple[str, str]] = set()
    for run in range(1, options.runs + 1):
        for key in (key for key in options.only if key in WORKLOADS):
            for contender in contenders:
                if (key, contender.name) in failed:
                    continue
                _progress(f"run {run}/{options.runs}  {key}  {contender.name}")
                try:
                    WORKLOADS[key](bench, contender)
                except DriverError as error:
                    failed.add((key, contender.name))
                    bench.results.note(f"{key}: {contender.name} FAILED.")
                    _progress(f"{key} {contender.name} failed:\n{error}\n")
    return bool(failed)


def _alone(bench: Bench, options: argparse.Namespace, key: str) -> bool:
    """Measure a workload that is Callboard's alone; answers whether it failed."""
    _progress(f"{key}  callboard")
    try:
        _module(key).measure(bench.engine, bench.results, quick=options.quick, runs=options.runs)
    except Exception as error:
        bench.results.note(f"{key}: callboard FAILED.")
        _progress(f"{key} callboard failed: {type(error).__name__}: {error}\n")
        return True
    return False


def _module(key: str) -> Any:
    """Imported late: these need the package itself, which the peers' part does not."""
    return importlib.import_module(f"benchmarks.{ALONE[key]}")


_started = time.monotonic()


def _progress(text: str) -> None:
    if sys.stderr.isatty():
        sys.stderr.write(f"\r\x1b[K{text}")
    elif text:
        sys.stderr.write(f"{time.monotonic() - _started:6.1f} s  {text}\n")
    sys.stderr.flush()


if __name__ == "__main__":
    raise SystemExit(main())
