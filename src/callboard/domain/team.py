"""A team: who plans, works and answers, within which limits, and how its description is read.

What is read here is plain: mappings, lists, texts and numbers, with all placeholders replaced.
Placeholders are those of :mod:`callboard.domain.placeholders`, files those of
:mod:`callboard.teams.document`.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Mapping
from typing import Any, Final, Literal
from urllib.parse import urlsplit

import msgspec

from callboard.domain.names import LABEL_VALUE
from callboard.domain.reading import (
    KeyPath,
    Reader,
    invalid,
    listing,
    nearest,
    read_as_is,
    read_choice,
    read_fields,
    read_list,
    read_mapping,
    read_name,
    read_number,
    read_text,
    read_whole,
    shorten,
    unknown,
)
from callboard.domain.retry import (
    BASE_SECONDS_MAX,
    CAP_SECONDS_MAX,
    FACTOR_MAX,
    MAX_RETRIES_MAX,
    RetryPolicy,
)

BUILT_IN_KINDS: Final[Mapping[str, frozenset[str]]] = {
    "callable": frozenset(),
    "command": frozenset({"env", "env_from", "cwd", "output_bytes", "kill_after"}),
    "endpoint": frozenset({"headers", "connect_timeout", "output_bytes", "allow"}),
    "elsewhere": frozenset(),
}
"""The kinds of agent that are always there, with the keys that only this kind knows."""

WORKERS_MAX: Final = 1_000
OUTPUT_BYTES_MAX: Final = 16 << 20
SECONDS_MAX: Final = 31_536_000

KEEP_SECONDS_MIN: Final = 60
"""A run that has ended is still there for its hosts, which drain and then read its answer."""


class AgentDefinition(msgspec.Struct, frozen=True):
    """What an agent of a team is made of.

    Attributes:
        kind: ``callable``, ``command``, ``endpoint``, ``elsewhere``, or the name of one's own.
        settings: The value under the key that is the kind.
        options: The keys that only this kind knows, such as ``env`` of a command.
        max_concurrent: Tasks that it does at once in each process.
        timeout: Seconds that one attempt may run; None for no limit but the run's.
        retry: None for the default policy.
    """

    name: str
    kind: str
    settings: Any
    options: dict[str, Any] = {}
    description: str = ""
    capabilities: tuple[str, ...] = ()
    labels: dict[str, str] = {}
    max_concurrent: int = 1
    timeout: float | None = None
    retry: RetryPolicy | None = None


class TeamSpec(msgspec.Struct, frozen=True, kw_only=True):
    """A team whose description was found to be right; times are in seconds.

    Attributes:
        agents: The definitions of its members, and of nobody else.
        max_concurrent: Tasks at work at once in the whole run; None for no limit.
        max_tasks: Tasks that all plans of a run may add.
        max_rounds: How often the planner is asked, the first time included.
        global_max_turns: How often anyone of the team is set to work, retries included.
        global_timeout_seconds: How long a run may take; pauses do not count.
        replan: When the planner is asked again: as results arrive, when nothing is left to
            do, or never.
        on_failure: Whether a task that failed for good stops the run.
        result_bytes: How much of a result is passed to those who depend on it.
        keep: How long a run is kept after its end.
    """

    name: str
    planner: str
    synthesizer: str
    workers: tuple[str, ...]
    agents: dict[str, AgentDefinition]
    description: str = ""
    max_concurrent: int | None = None
    max_tasks: int = 1_000
    max_rounds: int = 10
    global_max_turns: int = 5_000
    global_timeout_seconds: float = 3_600.0
    replan: Literal["results", "idle", "never"] = "results"
    on_failure: Literal["continue", "stop"] = "continue"
    result_bytes: int = 262_144
    keep: float = 2_592_000.0


def parse_team(
    name: str, document: Mapping[str, Any], kinds: Mapping[str, frozenset[str]] | None = None
) -> TeamSpec:
    """Read a team of ``{"team": …, "agents": …}``; definitions of others are passed over.

    Args:
        name: The team's name, which stands above its description.
        document: Plain values; a key whose value is None counts as not there.
        kinds: Kinds of agents with the keys that only they know; else the built-in ones.

    Raises:
        InvalidTeam: ``details["path"]`` names the key; the message has the cure, and the
            nearest name where one was misspelt.
    """
    at: KeyPath = ("teams", "specs", name)
    read_name(at, name)
    given = read_fields(at, document.get("team"), _TEAM_KEYS, retired=_TEAM_RETIRED)
    for key in ("planner", "synthesizer", "workers"):
        if key not in given:
            raise invalid(at, f"has no {key}", _MISSING_CURES[key])
    given.pop("checkpointing_enabled", None)
    agents = read_mapping(("agents",), document.get("agents") or {})
    _refuse_undefined(at, given, agents)
    members = sorted({given["planner"], given["synthesizer"], *given["workers"]})
    known = BUILT_IN_KINDS if kinds is None else kinds
    return TeamSpec(
        name=name,
        agents={member: parse_agent(member, agents[member], known) for member in members},
        **given,
    )


def parse_agent(
    name: str, document: Any, kinds: Mapping[str, frozenset[str]] | None = None
) -> AgentDefinition:
    """Read the definition of one agent, as it stands below ``agents``.

    Raises:
        InvalidTeam: As :func:`parse_team` does.
    """
    known = BUILT_IN_KINDS if kinds is None else kinds
    at: KeyPath = ("agents", name)
    if name in _AGENTS_RETIRED:
        raise invalid(at, *_AGENTS_RETIRED[name])
    read_name(at, name)
    if isinstance(document, str):
        raise invalid(
            at,
            "is a text, and an agent is a mapping with its kind",
            f"write {{callable: {json.dumps(document)}}} if it is a function",
        )
    kind = _kind_of(at, read_mapping(at, document), known)
    own = kind in BUILT_IN_KINDS
    readers = {
        **_AGENT_KEYS,
        kind: _SETTINGS[kind] if own else read_as_is,
        **{key: _OPTIONS[key] if own else read_as_is for key in known[kind]},
    }
    others = {
        key: (f"belongs to the kind {other}, and this is a {kind}", "remove it")
        for other, keys in known.items()
        for key in keys
        if key not in readers
    }
    given = read_fields(at, document, readers, retired=others)
    if kind not in given:
        raise invalid((*at, kind), "is empty", _KIND_CURES.get(kind, "give what this kind needs"))
    return AgentDefinition(
        name=name,
        kind=kind,
        settings=given.pop(kind),
        options={key: given.pop(key) for key in sorted(known[kind]) if key in given},
        **given,
    )


# The keys of teams


def _read_workers(path: KeyPath, value: Any) -> tuple[str, ...]:
    workers: tuple[str, ...] = _read_members(path, value)
    if not 1 <= len(workers) <= WORKERS_MAX:
        raise invalid(path, f"has {len(workers):,} names", f"give 1 to {WORKERS_MAX:,}")
    for place, worker in enumerate(workers):
        if worker in workers[:place]:
            raise invalid(
                (*path, place),
                f"names {worker} a second time",
                f"remove it, and raise max_concurrent of agents.{worker} for more at once",
            )
    return workers


def _refuse_undefined(at: KeyPath, given: Mapping[str, Any], agents: Mapping[str, Any]) -> None:
    asked: list[tuple[KeyPath, str]] = [
        ((*at, "planner"), given["planner"]),
        ((*at, "synthesizer"), given["synthesizer"]),
        *(((*at, "workers", place), name) for place, name in enumerate(given["workers"])),
    ]
    places = {name: path for path, name in reversed(asked) if name not in agents}
    missing = [name for name in dict.fromkeys(name for _, name in asked) if name in places]
    if not missing:
        return
    if len(missing) == 1:
        path, what = places[missing[0]], f"the agent {missing[0]} is defined nowhere"
        close = nearest(missing[0], agents)
        if close:
            raise invalid(path, what, f"did you mean {close}?", agents=missing)
    else:
        path, what = at, f"the agents {listing(missing)} are defined nowhere"
    where = "below agents:" if agents else "to the file:"
    block = _block(missing, bool(agents))
    raise invalid(path, what, f"add {where}\n\n{block}", agents=missing, block=block)


def _block(names: Iterable[str], is_continued: bool) -> str:
    """Definitions that can be pasted into the file."""
    lines = [] if is_continued else ["agents:"]
    for name in names:
        key = name if re.fullmatch("[A-Za-z][A-Za-z0-9_-]+", name) else json.dumps(name)
        key = json.dumps(name) if name.lower() in _YAML_WORDS else key
        function = re.sub(r"[^A-Za-z0-9_]|^(?=\d)", "_", name)
        lines.append(f'  {key}: {{callable: "handlers:{function}"}}')
    return "\n".join(lines)


def _read_checkpointing(path: KeyPath, value: Any) -> bool:
    if value is not True:
        raise invalid(path, "cannot be switched off", "remove it; every run can be resumed")
    return value


_YAML_WORDS: Final = frozenset({"yes", "no", "on", "off", "true", "false", "null"})

_read_members: Final = read_list(read_name, "[researcher, coder]")

_MISSING_CURES: Final[Mapping[str, str]] = {
    "planner": "name the agent that turns a request into tasks: planner: planner",
    "synthesizer": "name the agent that writes the answer: synthesizer: writer",
    "workers": "name the agents that do the tasks: workers: [researcher, coder]",
}

_TEAM_KEYS: Final[Mapping[str, Reader]] = {
    "description": read_text,
    "planner": read_name,
    "synthesizer": read_name,
    "workers": _read_workers,
    "max_concurrent": read_whole(1, 100_000),
    "max_tasks": read_whole(1, 1_000_000),
    "max_rounds": read_whole(1, 10_000),
    "global_max_turns": read_whole(1, 100_000_000),
    "global_timeout_seconds": read_number(0.1, SECONDS_MAX, "number of seconds"),
    "replan": read_choice("results", "idle", "never"),
    "on_failure": read_choice("continue", "stop"),
    "result_bytes": read_whole(256, 1 << 20),
    "keep": read_number(KEEP_SECONDS_MIN, SECONDS_MAX, "number of seconds"),
    "checkpointing_enabled": _read_checkpointing,
}

_TEAM_RETIRED: Final[Mapping[str, tuple[str, str]]] = {
    "name": ("is not a key here", "the key above it is the team's name; remove this line"),
    "shared_memory_namespace": (
        "is not offered",
        "remove it; members pass results along the dependencies of their tasks",
    ),
    "owner_id": ("is not offered", "remove it; who may reach the engine may use its teams"),
    "shared_with": ("is not offered", "remove it; who may reach the engine may use its teams"),
}

_AGENTS_RETIRED: Final[Mapping[str, tuple[str, str]]] = dict.fromkeys(
    ("specs", "store", "default_model", "max_turns", "max_versions_per_identity"),
    (
        "is not the name of an agent",
        "write the agents right below agents:, each with its kind: "
        'reader: {callable: "handlers:read"}',
    ),
)


# The keys of agents


def _kind_of(at: KeyPath, given: Mapping[str, Any], kinds: Mapping[str, frozenset[str]]) -> str:
    found = [key for key in given if key in kinds]
    if len(found) == 1:
        return found[0]
    if found:
        raise invalid((*at, found[1]), f"is a second kind beside {found[0]}", "keep one of them")
    for key in given:
        if key in _AGENT_RETIRED:
            raise invalid((*at, key), *_AGENT_RETIRED[key])
        if key not in _AGENT_KEYS and nearest(key, kinds):
            raise unknown((*at, key), kinds)
    cure = f"add one of {', '.join(sorted(kinds))}, as in {_KIND_CURES['callable']}"
    raise invalid(at, "has no kind", cure)


def _read_labels(path: KeyPath, value: Any) -> dict[str, str]:
    labels: dict[str, str] = {}
    for key, given in read_mapping(path, value).items():
        read_name((*path, key), key, 128)
        text = read_text((*path, key), given)
        if not LABEL_VALUE.fullmatch(text):
            raise invalid(
                (*path, key),
                f"is {shorten(text)!r}",
                "use 1 to 128 letters, digits or any of . _ : / @ + -",
            )
        labels[key] = text
    return labels


def _read_capability(path: KeyPath, value: Any) -> str:
    return read_name(path, value, 128)


def _read_retry(path: KeyPath, value: Any) -> RetryPolicy:
    return RetryPolicy(**read_fields(path, value, _RETRY_KEYS))


def _read_callable(path: KeyPath, value: Any) -> str:
    text = read_text(path, value)
    if not _FUNCTION.fullmatch(text):
        raise invalid(
            path,
            f"{shorten(text)!r} names no function",
            'write module:function, as "handlers:plan"',
        )
    return text


def _read_command(path: KeyPath, value: Any) -> str | tuple[str, ...]:
    if isinstance(value, str):
        text = read_text(path, value)
        if not text.strip():
            raise invalid(path, "is empty", f"write {_KIND_CURES['command']}")
        return text
    words: tuple[str, ...] = _read_words(path, value)
    if not words or not words[0]:
        raise invalid(path, "names no program", f"write {_KIND_CURES['command']}")
    return words


def _read_endpoint(path: KeyPath, value: Any) -> str:
    text = read_text(path, value)
    try:
        parts = urlsplit(text)
        # Reading the port is what checks it.
        is_url = parts.scheme in ("http", "https") and bool(parts.hostname) and parts.port != 0
    except ValueError:
        is_url = False
    if not is_url or any(c.isspace() for c in text):
        raise invalid(path, "is not an http or https URL", f"write {_KIND_CURES['endpoint']}")
    return text


def _read_elsewhere(path: KeyPath, value: Any) -> dict[str, str]:
    given = read_fields(path, value, {"board": _read_capability, "kind": _read_capability})
    if "kind" not in given:
        raise invalid(path, "has no kind", f"write {_KIND_CURES['elsewhere']}")
    return {"board": given.get("board", "default"), "kind": given["kind"]}


def _read_env(path: KeyPath, value: Any) -> dict[str, str]:
    return {
        _read_variable((*path, key), key): read_text((*path, key), text)
        for key, text in read_mapping(path, value).items()
    }


def _read_variable(path: KeyPath, value: Any) -> str:
    name = read_text(path, value)
    if not name or "=" in name:
        raise invalid(path, f"{shorten(name)!r} names no variable", "write it as in PATH")
    return name


def _read_headers(path: KeyPath, value: Any) -> dict[str, str]:
    headers: dict[str, str] = {}
    for key, given in read_mapping(path, value).items():
        here = (*path, key)
        text = read_text(here, given)
        if not _HEADER.fullmatch(key):
            raise invalid(here, "is not the name of a header", 'write it as in "X-Team"')
        if "\r" in text or "\n" in text:
            raise invalid(here, "has a line break in its value", "remove it")
        headers[key] = text
    return headers


# Where a name of this form is imported from, and what is not a header's name, is told apart
# before any agent is made.
_FUNCTION: Final = re.compile(r"[^\W\d]\w*(?:\.[^\W\d]\w*)*:[^\W\d]\w*(?:\.[^\W\d]\w*)*")
_HEADER: Final = re.compile(r"[A-Za-z0-9!#$%&'*+.^_`|~-]{1,128}")

_read_words: Final = read_list(read_text, '["python", "reader.py"]')

_KIND_CURES: Final[Mapping[str, str]] = {
    "callable": 'callable: "handlers:plan"',
    "command": 'command: ["python", "reader.py"]',
    "endpoint": 'endpoint: "http://127.0.0.1:8800/judge"',
    "elsewhere": "elsewhere: {board: default, kind: research}",
}

_SETTINGS: Final[Mapping[str, Reader]] = {
    "callable": _read_callable,
    "command": _read_command,
    "endpoint": _read_endpoint,
    "elsewhere": _read_elsewhere,
}

_OPTIONS: Final[Mapping[str, Reader]] = {
    "env": _read_env,
    "env_from": read_list(_read_variable, "[API_KEY]"),
    "cwd": read_text,
    "output_bytes": read_whole(1, OUTPUT_BYTES_MAX),
    "kill_after": read_number(0, 300, "number of seconds"),
    "headers": _read_headers,
    "connect_timeout": read_number(0.01, 300, "number of seconds"),
    "allow": read_list(read_text, '["169.254.10.1"]'),
}

_AGENT_KEYS: Final[Mapping[str, Reader]] = {
    "description": read_text,
    "capabilities": read_list(_read_capability, "[csv, statistics]"),
    "labels": _read_labels,
    "max_concurrent": read_whole(1, 1_000),
    "timeout": read_number(0.01, SECONDS_MAX, "number of seconds"),
    "retry": _read_retry,
}

_AGENT_RETIRED: Final[Mapping[str, tuple[str, str]]] = dict.fromkeys(
    ("model", "system_prompt", "primitives", "tools", "provider_overrides"),
    (
        "belongs to an agent that is a language model, and none is built in",
        'call one from a function of yours: {callable: "handlers:ask"}',
    ),
)

_RETRY_KEYS: Final[Mapping[str, Reader]] = {
    "max_retries": read_whole(0, MAX_RETRIES_MAX),
    "base": read_number(0, BASE_SECONDS_MAX, "number of seconds"),
    "factor": read_number(1, FACTOR_MAX),
    "cap": read_number(0, CAP_SECONDS_MAX, "number of seconds"),
    "jitter": read_choice("full"),
}
