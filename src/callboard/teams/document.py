"""A team's file: YAML that people write, read with the line of whatever is wrong in it."""

from __future__ import annotations

import os
import re
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

from callboard.config import redis_environment
from callboard.domain.placeholders import expand, expand_team, lookup_in, variables_of
from callboard.domain.reading import (
    KeyPath,
    Reader,
    invalid,
    read_as_is,
    read_fields,
    read_mapping,
    shorten,
)
from callboard.domain.team import TeamSpec, parse_agent, parse_team
from callboard.exceptions import InvalidTeam
from callboard.teams.engine_wish import TEMPORARY, EngineWish, Temporary, read_wish

__all__ = [
    "TEMPORARY",
    "EngineWish",
    "TeamDocument",
    "Temporary",
    "choose_url",
    "expand",
    "read_document",
    "team_of",
    "variables_of",
]

FILE_BYTES_MAX: Final = 256 << 10
"""Some five thousand lines; reading them takes seconds."""

VALUES_MAX: Final = 50_000
"""Keys and values after aliases are replaced by what they stand for; ten a line as above."""

CHARACTERS_MAX: Final = 1 << 20
DEPTH_MAX: Final = 32

Kinds = Mapping[str, frozenset[str]]

Node = Any
"""A node of PyYAML, which is loaded when a file is read, and whose types lack ``id``."""


@dataclass(frozen=True)
class TeamDocument:
    """What a team's file says.

    Attributes:
        path: As it was given.
        folder: Where modules, programs and relative paths are looked for.
        engine: Which engine it asks for.
        teams: Each team by name, as ``{"team": …, "agents": …}``: plain JSON values with
            their placeholders, sorted keys, and the agents of this team only.
        variables: All that its placeholders ask for.
    """

    path: Path
    folder: Path
    engine: EngineWish
    teams: dict[str, dict[str, Any]]
    variables: frozenset[str] = frozenset()


def read_document(
    path: str | Path,
    *,
    variables: Mapping[str, str] | None = None,
    environ: Mapping[str, str] | None = None,
    kinds: Kinds | None = None,
) -> TeamDocument:
    """Read a team's file and check all of it, with its placeholders replaced.

    Args:
        path: The file: UTF-8, at most 256 KiB.
        variables: Values for placeholders, before those of the environment.
        environ: Instead of the environment of the process.
        kinds: Kinds of agents; else the built-in ones and those of installed packages.

    Raises:
        InvalidTeam: The message begins with file and line and ends with the cure;
            ``details`` has ``file``, ``line`` and ``path``.
    """
    path = Path(path)
    kinds = _all_kinds() if kinds is None else kinds
    source = _Source(path)
    with source.located():
        source.read()
        sections = read_fields((), source.value, _SECTIONS, retired=_SECTIONS_RETIRED)
        if sections.get("teams") is None:
            raise invalid((), "has no teams", _TEAMS_CURE)
        teams = read_fields(("teams",), sections["teams"], _TEAMS, retired=_TEAMS_RETIRED)
        lookup = lookup_in(variables or {}, environ)
        engine = read_wish(sections.get("providers"), teams.get("store"), lookup, environ)
        specs = read_mapping(("teams", "specs"), teams.get("specs") or {})
        if not specs:
            raise invalid(("teams", "specs"), "names no team", _SPECS_CURE)
        agents = read_mapping(("agents",), sections.get("agents") or {})
        for name, definition in agents.items():
            parse_agent(name, expand(definition, lookup, ("agents", name)), kinds)
        for name, spec in specs.items():
            team_of(
                name,
                {"team": read_mapping(("teams", "specs", name), spec), "agents": agents},
                variables=variables,
                environ=environ,
                kinds=kinds,
            )
    return TeamDocument(
        path=path,
        folder=path.absolute().parent,
        engine=engine,
        teams={name: _document_of(spec, agents) for name, spec in specs.items()},
        variables=variables_of(sections),
    )


def team_of(
    name: str,
    document: Mapping[str, Any],
    *,
    variables: Mapping[str, str] | None = None,
    environ: Mapping[str, str] | None = None,
    kinds: Kinds | None = None,
) -> TeamSpec:
    """The team of a document with placeholders, of a file or out of the engine.

    Args:
        name: The team's name.
        document: ``{"team": …, "agents": …}``.
        variables: Values for placeholders, before those of the environment.
        environ: Instead of the environment of the process.
        kinds: Kinds of agents; else the built-in ones and those of installed packages.

    Raises:
        InvalidTeam: ``details["path"]`` says where.
    """
    expanded = expand_team(name, document, lookup_in(variables or {}, environ))
    return parse_team(name, expanded, _all_kinds() if kinds is None else kinds)


def choose_url(
    document: TeamDocument | None,
    flag_url: str | None = None,
    environ: Mapping[str, str] | None = None,
    *,
    flag_data: str | os.PathLike[str] | None = None,
) -> str | Temporary | None:
    """The URL to connect to, None for the embedded engine, or TEMPORARY.

    The first that is given wins: the flags, ``CALLBOARD_URL``, ``CALLBOARD_DATA``, the file,
    ``REDIS_URL``, ``REDIS_HOST`` with its companions, the embedded engine. For None,
    ``callboard.connect(None, data=flag_data)`` finds the data directory.

    Raises:
        ConfigError: A variable of the environment cannot be used.
    """
    env = os.environ if environ is None else environ
    if flag_url is not None:
        return flag_url
    if flag_data is not None:
        return None
    if env.get("CALLBOARD_URL"):
        return env["CALLBOARD_URL"]
    if env.get("CALLBOARD_DATA"):
        return None
    wish = document.engine if document else EngineWish()
    if wish.kind == "default":
        choice = redis_environment(env)
        return choice.url if choice else None
    return TEMPORARY if wish.kind == "temporary" else wish.url


_SECTIONS: Final[Mapping[str, Reader]] = dict.fromkeys(("providers", "agents", "teams"), read_as_is)
_SECTIONS_RETIRED: Final = dict.fromkeys(
    ("planner", "synthesizer", "workers"),
    ("belongs to a team", "write it below teams:, specs: and the name of the team"),
)
_TEAMS: Final[Mapping[str, Reader]] = dict.fromkeys(("store", "specs"), read_as_is)
_TEAMS_RETIRED: Final = {
    "max_versions_per_identity": (
        "is not a setting",
        "remove it; the 50 newest versions of a team are kept",
    )
}
_TEAMS_CURE: Final = (
    "write teams: and below it specs: with a team; callboard init writes an example"
)
_SPECS_CURE: Final = (
    "write a team below it: survey: {planner: planner, synthesizer: writer, workers: [reader]}"
)


def _all_kinds() -> Kinds:
    # Who only reads a stored team by kinds of its own need not look for installed packages.
    from callboard.teams.agents import kinds

    return {name: kind.options for name, kind in kinds().items()}


def _document_of(spec: Mapping[str, Any], agents: Mapping[str, Any]) -> dict[str, Any]:
    named = [spec["planner"], spec["synthesizer"], *spec["workers"]]
    if any("$" in name for name in named):
        # Who they are is decided where the run is.
        named = list(agents)
    return {
        "team": _sorted(spec),
        "agents": {name: _sorted(agents[name]) for name in sorted(set(named))},
    }


def _sorted(value: Any) -> Any:
    if isinstance(value, Mapping):
        return {key: _sorted(value[key]) for key in sorted(value)}
    return [_sorted(item) for item in value] if isinstance(value, list) else value


# YAML


@dataclass
class _Source:
    """A file's text as plain values, and the line of each."""

    path: Path
    value: Any = None
    lines: dict[KeyPath, int] = field(default_factory=dict)
    words: dict[KeyPath, str] = field(default_factory=dict)
    """As what a truth value or number was written."""
    values: int = 0
    characters: int = 0

    @contextmanager
    def located(self) -> Iterator[None]:
        """Add file and line to what is found wrong inside."""
        try:
            yield
        except InvalidTeam as error:
            raise self._at(error) from error.__cause__

    def read(self) -> None:
        """Read the file into ``value``."""
        node = _compose(_text_of(self.path))
        if node is None:
            raise invalid((), "is empty", "callboard init writes a file to start with")
        self.lines[()] = 1
        self.value = self._plain(node, ())

    def _at(self, error: InvalidTeam) -> InvalidTeam:
        details = dict(error.details)
        key: KeyPath = tuple(details.get("key", ()))
        message = error.message
        if details.get("expected") == "text" and key in self.words:
            message = message.replace(
                "put it in quotes", f'write "{shorten(self.words[key])}", in quotes'
            )
        line = details.pop("line", None)
        while line is None and key:
            line = self.lines.get(key)
            key = key[:-1]
        place = f"{self.path}:{line}" if line else str(self.path)
        return InvalidTeam(f"{place}: {message}", **details, file=str(self.path), line=line)

    def _plain(self, node: Node, path: KeyPath) -> Any:
        """A node as plain values; aliases are followed, so the same node may come again."""
        self._spend(node, path, len(node.value) if node.id == "scalar" else 0)
        self.lines.setdefault(path, _line_of(node))
        kind = node.tag.removeprefix(_TAG)
        if node.id == "mapping" and kind == "map":
            entries = self._entries(node, path, 0)
            for name, (line, _) in entries.items():
                self.lines[(*path, name)] = line
            return {name: self._plain(value, (*path, name)) for name, (_, value) in entries.items()}
        if node.id == "sequence" and kind == "seq":
            return [self._plain(item, (*path, place)) for place, item in enumerate(node.value)]
        if node.id == "scalar" and kind in _SCALARS:
            return self._scalar(node, kind, path)
        raise invalid(
            path,
            f"has the tag {shorten(node.tag.replace(_TAG, '!!'))}",
            "remove the tag; plain values are all there is",
        )

    def _entries(self, node: Node, path: KeyPath, depth: int) -> dict[str, tuple[int, Node]]:
        """The keys of a mapping with line and value, those that it merges at the end."""
        own: dict[str, tuple[int, Node]] = {}
        merged: list[Node] = []
        for key, value in node.value:
            name = str(key.value) if key.id == "scalar" else "?"
            here, line = (*path, name), _line_of(key)
            self._spend(key, here, len(name), depth)
            if key.tag == f"{_TAG}merge":
                if merged:
                    raise invalid(here, "stands here twice", "merge a list of aliases", line=line)
                merged = _merged(value, here, line)
            elif key.id != "scalar" or key.tag not in _KEY_TAGS:
                cure = f'write "{shorten(name)}", in quotes' if key.id == "scalar" else "write one"
                raise invalid(here, "is a key that YAML does not read as a text", cure, line=line)
            elif name in own:
                what = f"stands here a second time, after line {own[name][0]}"
                raise invalid(here, what, "keep one of them", line=line)
            else:
                own[name] = (line, value)
        # What stands in the mapping itself, and then what is merged first, is kept.
        for mapping in merged:
            own = self._entries(mapping, path, depth + 1) | own
        return own

    def _spend(self, node: Node, path: KeyPath, characters: int, depth: int = 0) -> None:
        """Count a value towards the bounds of the whole, which aliases could burst."""
        self.values += 1
        self.characters += characters
        if self.values > VALUES_MAX or self.characters > CHARACTERS_MAX:
            raise invalid(
                path,
                "is too much once all aliases are replaced",
                f"use fewer aliases; {VALUES_MAX:,} values and {CHARACTERS_MAX:,} characters fit",
                line=_line_of(node),
            )
        if len(path) + depth > DEPTH_MAX:
            raise invalid(
                path,
                "is nested too deeply, or contains itself by an alias",
                f"use at most {DEPTH_MAX} levels",
                line=_line_of(node),
            )

    def _scalar(self, node: Node, kind: str, path: KeyPath) -> Any:
        text: str = node.value
        if kind in ("bool", "int", "float"):
            self.words[path] = text
        if kind == "null":
            return None
        if kind == "bool":
            return text.lower() in ("yes", "true", "on")
        plain = text.replace("_", "").lower()
        if kind == "int" and _INT.fullmatch(plain):
            return int(plain, 16 if "0x" in plain else 10)
        if kind == "float" and _FLOAT.fullmatch(plain):
            return float(plain)
        if kind in ("int", "float"):
            raise invalid(
                path,
                f"{shorten(text)} is a number that people read in different ways",
                "write it in plain decimal digits, or in quotes if it is a text",
            )
        try:
            text.encode()
        except UnicodeEncodeError:
            raise invalid(path, "has half of a surrogate pair in it", "remove it") from None
        return text


def _line_of(node: Node) -> int:
    return int(node.start_mark.line) + 1


def _merged(value: Node, path: KeyPath, line: int) -> list[Node]:
    nodes = value.value if value.id == "sequence" else [value]
    if not nodes or any(node.id != "mapping" for node in nodes):
        cure = "give an alias of a mapping, or a list of such"
        raise invalid(path, "merges what is not a mapping", cure, line=line)
    return list(nodes)


_TAG: Final = "tag:yaml.org,2002:"
_SCALARS: Final = frozenset({"str", "null", "bool", "int", "float", "timestamp", "value", "merge"})

_KEY_TAGS: Final = frozenset({f"{_TAG}str", f"{_TAG}value"})

# YAML 1.1 also has 1:30 for ninety, 010 for eight, and infinity. Longer ones are no numbers
# that JSON readers agree about.
_INT: Final = re.compile(r"[-+]?(?:0|[1-9][0-9]{0,17}|0x[0-9a-f]{1,15})")
_FLOAT: Final = re.compile(r"[-+]?(?:[0-9]{1,18}\.[0-9]{0,40}|\.[0-9]{1,40})(?:e[-+]?[0-9]{1,2})?")


def _text_of(path: Path) -> str:
    try:
        with path.open("rb") as file:
            raw = file.read(FILE_BYTES_MAX + 1)
    except FileNotFoundError as error:
        raise invalid((), "there is no such file", "callboard init writes one") from error
    except IsADirectoryError as error:
        raise invalid((), "is a folder", "give the file in it, such as team.yaml") from error
    except OSError as error:
        raise invalid((), f"cannot be read: {error.strerror}", "look at its rights") from error
    if len(raw) > FILE_BYTES_MAX:
        raise invalid(
            (), f"has more than {FILE_BYTES_MAX:,} bytes", "a team's file names data, not holds it"
        )
    try:
        return raw.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        line = raw.count(b"\n", 0, error.start) + 1
        raise invalid((), "is not UTF-8", "save the file as UTF-8", line=line) from error


def _compose(text: str) -> Node | None:
    # Takes some 20 ms, which commands without a team's file need not pay.
    import yaml

    try:
        return yaml.compose(text, Loader=yaml.SafeLoader)
    except yaml.MarkedYAMLError as error:
        mark = error.problem_mark or error.context_mark
        what = " ".join(part for part in (error.context, error.problem) if part)
        line = mark.line + 1 if mark else None
        raise invalid((), f"is not YAML: {what}", _cure_of(what), line=line) from error
    except yaml.reader.ReaderError as error:
        line = text.count("\n", 0, error.position) + 1
        what = f"has the character {chr(error.character)!r}"
        raise invalid((), what, "remove it", line=line) from error
    except RecursionError as error:
        raise invalid((), "is nested too deeply", f"use at most {DEPTH_MAX} levels") from error


def _cure_of(what: str) -> str:
    if r"\t" in what:
        return "indent with spaces"
    if "single document" in what:
        return "keep one document a file, without a second ---"
    if "undefined alias" in what:
        return "name an anchor that stands above it, or put the * in quotes"
    return "look at the indentation, and put values with : # { } [ ] or * in quotes"
