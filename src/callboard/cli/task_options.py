"""The options that say what a task is, by what they are about."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Annotated, Any, Final

import typer

from callboard.cli import options, parse
from callboard.domain.retry import RetryPolicy
from callboard.domain.task import Requirements, TaskSpec

REQUIRES: Final = "What an agent must have"
TIMES: Final = "When, how long, how often"
KEYS: Final = "Keys, which callboard flow limits"
USUAL: Final = RetryPolicy()


@dataclass(frozen=True, slots=True)
class TaskOptions:
    """What it is."""

    task_id: Annotated[
        str | None,
        typer.Option("--id", metavar="NAME", help="Names it; adding it again changes nothing."),
    ] = None
    unique: Annotated[
        str | None,
        typer.Option("--unique", metavar="KEY", help="At most one unfinished task has this key."),
    ] = None
    title: options.Title = ""
    description: Annotated[
        str, typer.Option("--description", metavar="TEXT", help="For people.")
    ] = ""
    priority: Annotated[
        str,
        typer.Option(
            "--priority",
            "-p",
            metavar="N",
            help="-1000 to 1000, or low, normal, high, critical, urgent.",
        ),
    ] = "0"
    depends_on: Annotated[
        list[str] | None,
        typer.Option(
            "--depends-on", "-d", metavar="TASK", help="Must be done first. May be repeated."
        ),
    ] = None
    on_dependency_failure: Annotated[
        str,
        typer.Option(
            "--on-failure", metavar="POLICY", help="If one of these fails: fail, skip or run."
        ),
    ] = "fail"
    suggest: Annotated[
        str | None, typer.Option("--suggest", metavar="AGENT", help="May have it first.")
    ] = None
    metadata: Annotated[
        str | None, typer.Option("--metadata", metavar="JSON", help="An object kept with it.")
    ] = None
    created_by: Annotated[
        str, typer.Option("--created-by", metavar="NAME", help="Who adds it.")
    ] = ""
    trace: Annotated[
        str, typer.Option("--trace", metavar="TRACE", help="W3C trace context to carry.")
    ] = ""


@dataclass(frozen=True, slots=True)
class RequirementOptions:
    """What an agent must have to be given it."""

    require_type: Annotated[
        str,
        typer.Option("--require-type", metavar="NAME", help="Its type.", rich_help_panel=REQUIRES),
    ] = ""
    require_capability: Annotated[
        list[str] | None,
        typer.Option(
            "--require-capability",
            metavar="NAME",
            help="A capability. May be repeated.",
            rich_help_panel=REQUIRES,
        ),
    ] = None
    require_service: Annotated[
        list[str] | None,
        typer.Option(
            "--require-service",
            metavar="NAME",
            help="A service. May be repeated.",
            rich_help_panel=REQUIRES,
        ),
    ] = None
    require_label: Annotated[
        list[str] | None,
        typer.Option(
            "--require-label",
            metavar="KEY=VALUE",
            help="A label. May be repeated.",
            rich_help_panel=REQUIRES,
        ),
    ] = None
    require_health: Annotated[
        float,
        typer.Option(
            "--require-health", metavar="0…1", help="Its health.", rich_help_panel=REQUIRES
        ),
    ] = 0.0

    def requirements(self) -> Requirements:
        """What they say."""
        return Requirements(
            agent_type=self.require_type,
            capabilities=parse.names(self.require_capability),
            services=parse.names(self.require_service),
            labels=parse.labels(self.require_label),
            min_health_score=self.require_health,
        )


@dataclass(frozen=True, slots=True)
class TimeOptions:
    """When it may begin, how long it may take, how often it is tried."""

    delay: Annotated[
        str | None,
        typer.Option(
            "--delay", metavar="TIME", help="Not before so long from now.", rich_help_panel=TIMES
        ),
    ] = None
    not_before: Annotated[
        str | None,
        typer.Option(
            "--not-before", metavar="WHEN", help="Not before this time.", rich_help_panel=TIMES
        ),
    ] = None
    deadline: Annotated[
        str | None,
        typer.Option(
            "--deadline",
            metavar="WHEN",
            help="Fails if it still waits then: a time, or a span from now.",
            rich_help_panel=TIMES,
        ),
    ] = None
    timeout: Annotated[
        str | None,
        typer.Option(
            "--timeout", metavar="TIME", help="How long one attempt may run.", rich_help_panel=TIMES
        ),
    ] = None
    lease: Annotated[
        str | None,
        typer.Option(
            "--lease",
            metavar="TIME",
            help="How long its holder may be silent.",
            rich_help_panel=TIMES,
        ),
    ] = None
    retries: Annotated[
        int,
        typer.Option(
            "--retries", metavar="N", help="Tries after the first.", rich_help_panel=TIMES
        ),
    ] = USUAL.max_retries
    retry_base: Annotated[
        str,
        typer.Option(
            "--retry-base", metavar="TIME", help="Bound of the first wait.", rich_help_panel=TIMES
        ),
    ] = f"{USUAL.base:g}"
    retry_factor: Annotated[
        float,
        typer.Option(
            "--retry-factor",
            metavar="N",
            help="Each further failure multiplies it.",
            rich_help_panel=TIMES,
        ),
    ] = USUAL.factor
    retry_cap: Annotated[
        str,
        typer.Option(
            "--retry-cap", metavar="TIME", help="No wait is longer.", rich_help_panel=TIMES
        ),
    ] = f"{USUAL.cap:g}"

    def values(self) -> dict[str, Any]:
        """What they say, by the fields of a task."""
        return {
            "not_before": parse.moment("not_before", self.not_before),
            "delay": parse.seconds("delay", self.delay),
            "deadline": parse.moment("deadline", self.deadline),
            "timeout": parse.seconds("timeout", self.timeout),
            "lease": parse.seconds("lease", self.lease),
            "retry": self._retry(),
        }

    def _retry(self) -> RetryPolicy | None:
        policy = RetryPolicy(
            max_retries=self.retries,
            base=parse.seconds("retry-base", self.retry_base) or 0.0,
            factor=self.retry_factor,
            cap=parse.seconds("retry-cap", self.retry_cap) or 0.0,
        )
        return None if policy == USUAL else policy


@dataclass(frozen=True, slots=True)
class KeyOptions:
    """By what it is limited together with others."""

    concurrency_key: Annotated[
        str | None,
        typer.Option(
            "--concurrency-key",
            metavar="KEY",
            help="Counts against what the key allows at once.",
            rich_help_panel=KEYS,
        ),
    ] = None
    rate_key: Annotated[
        str | None,
        typer.Option(
            "--rate-key",
            metavar="KEY",
            help="Counts against the key's rate.",
            rich_help_panel=KEYS,
        ),
    ] = None
    fairness_key: Annotated[
        str | None,
        typer.Option(
            "--fairness-key",
            metavar="KEY",
            help="Takes turns with tasks of other keys.",
            rich_help_panel=KEYS,
        ),
    ] = None

    def values(self) -> dict[str, Any]:
        """What they say, by the fields of a task."""
        return asdict(self)


def spec_of(
    kind: str,
    payload: str | None,
    task: TaskOptions,
    requires: RequirementOptions,
    times: TimeOptions,
    keys: KeyOptions,
) -> TaskSpec:
    """The task that they say.

    Raises:
        InvalidArgument: One of them cannot be read.
    """
    return TaskSpec(
        kind=kind,
        payload=parse.json_value("payload", payload),
        id=task.task_id,
        unique=task.unique,
        title=task.title,
        description=task.description,
        priority=parse.priority(task.priority),
        requirements=requires.requirements(),
        depends_on=parse.names(task.depends_on),
        on_dependency_failure=task.on_dependency_failure,  # type: ignore[arg-type] # checked later
        suggested_worker=task.suggest,
        created_by=task.created_by,
        metadata=parse.json_object("metadata", task.metadata),
        trace_context=task.trace,
        **times.values(),
        **keys.values(),
    )
