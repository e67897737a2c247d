"""Strategies side by side, over seeds, in as many processes as there are cores."""

from __future__ import annotations

import multiprocessing
import os
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor, as_completed
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from statistics import median
from typing import Final

import msgspec

from callboard.domain.reading import nearest
from callboard.exceptions import InvalidArgument
from callboard.simulator.choosing import ORACLE, check_strategies, chooser_of
from callboard.simulator.loads import AGENTS, LOADS, TASKS, draw
from callboard.simulator.measures import Measures, measure
from callboard.simulator.recording import read_recording
from callboard.simulator.scenario import Scenario
from callboard.simulator.simulation import Simulation

SEEDS_MAX: Final = 100
AGENTS_MAX: Final = 1_000
TASKS_MAX: Final = 1_000_000
PREFETCH_MAX: Final = 1_000


class Settings(msgspec.Struct, frozen=True, kw_only=True):
    """How a comparison is made.

    Attributes:
        seeds: Draws of each load, 1 to 100. A recorded load is what it is: once.
        agents: Agents of made-up loads, 1 to 1,000.
        tasks: Tasks of made-up loads, 1 to 1,000,000.
        steals: Idle agents take over what is reserved for others.
        prefetch: Tasks that an agent has ahead, 0 to 1,000; None for as many as a worker
            finds worth it.
        processes: Processes to run in, 1 and more; None for one a core.
    """

    seeds: int = 6
    agents: int = AGENTS
    tasks: int = TASKS
    steals: bool = True
    prefetch: int | None = None
    processes: int | None = None


class Spread(msgspec.Struct, frozen=True):
    """A figure over the seeds."""

    median: float
    low: float
    high: float


class Row(msgspec.Struct, frozen=True, kw_only=True):
    """One strategy under one load.

    Attributes:
        ratio: Its p95 as a multiple of the oracle's, seed by seed.
        seeds: All figures of each seed.
    """

    strategy: str
    ratio: Spread
    mean: Spread
    p50: Spread
    p95: Spread
    p99: Spread
    max_wait: Spread
    fairness: Spread
    decisions: Spread
    seeds: tuple[Measures, ...]


class Table(msgspec.Struct, frozen=True, kw_only=True):
    """All strategies under one load, in the order asked for; the oracle stands first."""

    load: str
    summary: str
    agents: int
    tasks: int
    rows: tuple[Row, ...]


@dataclass(frozen=True, slots=True)
class _Trial:
    load: str
    strategy: str
    seed: int
    settings: Settings


def compare(
    loads: Sequence[str],
    strategies: Sequence[str],
    settings: Settings,
    progress: Callable[[int, int], None] | None = None,
) -> list[Table]:
    """Run each load under each strategy and under the oracle.

    *progress* is told how many courses are done, of how many. The same arguments have the
    same answer, whatever the number of processes.

    Args:
        loads: Names of ``LOADS``, or paths of recorded loads.
        strategies: Names that the engine knows, or ``module:attribute``.

    Raises:
        InvalidArgument: A load, a strategy or a setting is not one.
        StrategyFailed: One of your own threw, or answered nonsense.
        ConfigError: lupa is not installed.
    """
    _check(settings)
    scenarios = [(load, _scenario(load, 1, settings)) for load in loads]
    names = tuple(dict.fromkeys((ORACLE, *check_strategies(strategies))))
    trials = [
        _Trial(load, strategy, seed, settings)
        for load in loads
        for strategy in names
        for seed in range(1, (settings.seeds if load in LOADS else 1) + 1)
    ]
    found = _run_all(trials, settings.processes, progress)
    return [
        Table(
            load=load,
            summary=LOADS[load].summary if load in LOADS else "Recorded.",
            agents=len(scenario.agents),
            tasks=len(scenario.tasks),
            rows=tuple(_rows(load, names, found)),
        )
        for load, scenario in scenarios
    ]


def simulate(
    scenario: Scenario,
    strategy: str,
    *,
    seed: int = 1,
    steals: bool = True,
    prefetch: int | None = None,
) -> Measures:
    """Run one scenario under one strategy."""
    chooser = chooser_of(strategy, stale=scenario.stale)
    simulation = Simulation(scenario, chooser, seed=seed, steals=steals, prefetch=prefetch)
    simulation.run()
    return measure(simulation)


def _scenario(load: str, seed: int, settings: Settings) -> Scenario:
    if load in LOADS:
        return draw(load, seed, agents=settings.agents, tasks=settings.tasks)
    path = Path(load)
    if not path.exists():
        close = nearest(load, LOADS)
        hint = f"did you mean {close}?" if close else f"there are {', '.join(LOADS)}."
        raise InvalidArgument(
            f"No load {load!r}, and no file of that name: {hint}", field="load", value=load
        )
    return read_recording(path)


def _trial(trial: _Trial) -> Measures:
    settings = trial.settings
    return simulate(
        _scenario(trial.load, trial.seed, settings),
        trial.strategy,
        seed=trial.seed,
        steals=settings.steals,
        prefetch=settings.prefetch,
    )


def _run_all(
    trials: Sequence[_Trial], processes: int | None, progress: Callable[[int, int], None] | None
) -> dict[tuple[str, str], list[Measures]]:
    count = min(len(trials), processes or os.cpu_count() or 1)
    results: dict[_Trial, Measures] = {}
    with _mapped(count, trials) as finished:
        for trial, measures in finished:
            results[trial] = measures
            if progress:
                progress(len(results), len(trials))
    found: dict[tuple[str, str], list[Measures]] = {}
    for trial in trials:
        found.setdefault((trial.load, trial.strategy), []).append(results[trial])
    return found


@contextmanager
def _mapped(count: int, trials: Sequence[_Trial]) -> Iterator[Iterator[tuple[_Trial, Measures]]]:
    """Each trial with its measures, as they come."""
    if count == 1:
        yield ((trial, _trial(trial)) for trial in trials)
        return
    # A forked child would inherit whatever threads the caller has.
    context = multiprocessing.get_context("spawn")
    with ProcessPoolExecutor(count, mp_context=context) as pool:
        futures = {pool.submit(_trial, trial): trial for trial in trials}
        try:
            yield ((futures[future], future.result()) for future in as_completed(futures))
        except BaseException:
            pool.shutdown(wait=False, cancel_futures=True)
            raise


def _rows(
    load: str, names: Sequence[str], found: dict[tuple[str, str], list[Measures]]
) -> Iterator[Row]:
    ideal = found[load, ORACLE]
    for name in names:
        seeds = found[load, name]
        pairs = zip(seeds, ideal, strict=True)
        ratios = [own.p95 / best.p95 if best.p95 else 1.0 for own, best in pairs]
        yield Row(
            strategy=name,
            ratio=_spread(ratios),
            mean=_spread([m.mean for m in seeds]),
            p50=_spread([m.p50 for m in seeds]),
            p95=_spread([m.p95 for m in seeds]),
            p99=_spread([m.p99 for m in seeds]),
            max_wait=_spread([m.max_wait for m in seeds]),
            fairness=_spread([m.fairness for m in seeds]),
            decisions=_spread([m.decisions for m in seeds]),
            seeds=tuple(seeds),
        )


def _spread(values: Sequence[float]) -> Spread:
    return Spread(median(values), min(values), max(values))


def _check(settings: Settings) -> None:
    bounds = (
        ("seeds", settings.seeds, 1, SEEDS_MAX),
        ("agents", settings.agents, 1, AGENTS_MAX),
        ("tasks", settings.tasks, 1, TASKS_MAX),
        ("prefetch", settings.prefetch, 0, PREFETCH_MAX),
        ("processes", settings.processes, 1, 1_024),
    )
    for name, value, low, high in bounds:
        if value is not None and not low <= value <= high:
            raise InvalidArgument(
                f"{name} is {value}; it must be {low} to {high}.", field=name, value=value
            )
