"""The agents of team.yaml that are Python functions: they plan, bring together and write."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import Any

from callboard.teams.requests import Outcome, PlanRequest, SynthesisRequest, WorkRequest

FOLDER = Path(__file__).parent


def plan(request: PlanRequest) -> dict[str, Any]:
    """Plan two tasks for each file of a region, one after the other, and one for the region.

    The regions are those that the request names, or all.
    """
    regions = sorted(path for path in FOLDER.glob("data/*") if path.is_dir())
    named = [region for region in regions if region.name in request.request.lower()]
    return {"tasks": [task for region in named or regions for task in tasks_of(region)]}


def tasks_of(region: Path) -> list[dict[str, Any]]:
    """``clean`` and ``describe`` for each file, all of which ``summarise`` waits for."""
    tasks: list[dict[str, Any]] = []
    cities: list[str] = []
    for file in sorted(region.glob("*.csv")):
        city = file.stem
        cities.append(city)
        tasks += [
            {
                "id": f"clean.{city}",
                "title": f"Clean {file.name}",
                "worker": "cleaner",
                "payload": {"file": file.relative_to(FOLDER).as_posix()},
            },
            {
                "id": f"describe.{city}",
                "title": f"Describe {city.replace('-', ' ').title()}",
                "worker": "describer",
                "depends_on": [f"clean.{city}"],
            },
        ]
    return [
        *tasks,
        {
            "id": f"summarise.{region.name}",
            "title": f"Summarise the region {region.name}",
            "worker": "summariser",
            "payload": {"region": region.name},
            # Half a region would be another one, so this waits for all of its cities.
            "depends_on": [f"describe.{city}" for city in cities],
        },
    ]


def summarise(request: WorkRequest) -> dict[str, Any]:
    """Bring together what was found about the cities of one region."""
    cities = [outcome.result for outcome in request.results.values()]
    longest = max(cities, key=lambda city: city["longest"]["hours"])
    shortest = min(cities, key=lambda city: city["shortest"]["hours"])
    return {
        "region": request.task.payload["region"],
        "cities": sorted(city["city"] for city in cities),
        "mean": round(sum(city["mean"] for city in cities) / len(cities), 2),
        "longest": {"city": longest["city"], **longest["longest"]},
        "shortest": {"city": shortest["city"], **shortest["shortest"]},
    }


def write(request: SynthesisRequest) -> str:
    """Write the answer: the regions, and what is missing with its cure."""
    regions = [
        task.result
        for task in request.tasks
        if task.id.startswith("summarise.") and task.status == "done"
    ]
    lines = [f"# {request.request}", ""]
    for region in regions:
        longest, shortest = region["longest"], region["shortest"]
        lines.append(
            f"- {region['region']} ({', '.join(region['cities'])}): {region['mean']:.2f} hours in "
            f"the mean; from {shortest['hours']:.2f} on {shortest['date']} in {shortest['city']} "
            f"to {longest['hours']:.2f} on {longest['date']} in {longest['city']}."
        )
    return "\n".join([*lines, *missing(request.run, request.tasks)])


def missing(run: str, tasks: Iterable[Outcome]) -> list[str]:
    """What failed, what could not be done because of it, and how to have it done after all."""
    not_done = [task for task in tasks if task.status != "done"]
    if not not_done:
        return []
    lines = ["", "## What is missing", ""]
    for task in not_done:
        if task.worker:  # Somebody tried; nobody begins a task whose dependency has failed.
            lines += [
                f"- {task.title}: {task.error}",
                f"  Once that is put right: `callboard runs retry {run} {task.id}`",
            ]
    waiting = [task.title for task in not_done if not task.worker]
    if waiting:
        lines += ["", f"So these were not done: {', '.join(waiting)}."]
    return lines
