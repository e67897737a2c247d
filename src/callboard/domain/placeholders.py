"""Placeholders in a team's description: ``${NAME}``, ``${NAME:=default}``, ``${NAME:-default}``.

They are replaced in texts only, after the file has been read, and what was put in is not
looked at again: a value cannot add keys to the file, nor name further variables.
"""

from __future__ import annotations

import os
import re
from collections.abc import Callable, Iterator, Mapping
from typing import Any, Final

from callboard.domain.reading import KeyPath, invalid, shorten

Lookup = Callable[[str], str | None]
"""The value of a variable; None where it is not set."""

_MARK: Final = re.compile(
    r"\$(?:(?P<dollar>\$)"
    r"|\{(?P<inside>[^}]*)\}"
    r"|(?P<open>\{)"
    r"|(?P<bare>[A-Za-z_][A-Za-z0-9_]*))"
)
_INSIDE: Final = re.compile(r"(?P<name>[A-Za-z_][A-Za-z0-9_]*)(?::[-=](?P<default>.*))?", re.DOTALL)
_LIKE_SHELL: Final = re.compile(
    r"(?P<name>[A-Za-z_][A-Za-z0-9_]*)(?P<operator>:?[-=?+])(?P<rest>.*)", re.DOTALL
)


def lookup_in(variables: Mapping[str, str], environ: Mapping[str, str] | None = None) -> Lookup:
    """Looks a name up in *variables*, and then in the environment."""
    env = os.environ if environ is None else environ

    def look_up(name: str) -> str | None:
        return variables[name] if name in variables else env.get(name)

    return look_up


def expand(value: Any, lookup: Lookup, where: KeyPath = ()) -> Any:
    """A copy of *value* with the placeholders of its texts replaced; keys stay as they are.

    A variable that is not set, or empty, gives the default. The default is taken as it
    stands, may be empty, and ends at the first ``}``. ``$$`` is a dollar sign.

    Raises:
        InvalidTeam: A variable is neither set nor has a default, or the text has the form of
            some other placeholder; *where* is the path of *value*.
    """
    if isinstance(value, str):
        return _expand_text(value, lookup, where) if "$" in value else value
    if isinstance(value, Mapping):
        return {key: expand(item, lookup, (*where, key)) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [expand(item, lookup, (*where, place)) for place, item in enumerate(value)]
    return value


def expand_team(name: str, document: Mapping[str, Any], lookup: Lookup) -> dict[str, Any]:
    """A team's document, ``{"team": …, "agents": …}``, as ``parse_team`` takes it.

    Raises:
        InvalidTeam: As :func:`expand` does, with the path in the file.
    """
    return {
        "team": expand(document.get("team"), lookup, ("teams", "specs", name)),
        "agents": expand(document.get("agents"), lookup, ("agents",)),
    }


def variables_of(value: Any) -> frozenset[str]:
    """The names of all variables that *value* asks for, to tell a misspelt ``--var``."""
    return frozenset(_names(value))


def _names(value: Any) -> Iterator[str]:
    if isinstance(value, str):
        for mark in _MARK.finditer(value):
            inside = _INSIDE.fullmatch(mark["inside"] or "")
            if inside:
                yield inside["name"]
    elif isinstance(value, Mapping):
        for item in value.values():
            yield from _names(item)
    elif isinstance(value, list | tuple):
        for item in value:
            yield from _names(item)


def _expand_text(text: str, lookup: Lookup, where: KeyPath) -> str:
    def replace(mark: re.Match[str]) -> str:
        if mark["dollar"]:
            return "$"
        if mark["bare"]:
            name = mark["bare"]
            raise invalid(
                where,
                f"${name} is not replaced here",
                f"write ${{{name}}} for the variable's value, $${name} for the text itself",
            )
        if mark["open"]:
            raise invalid(
                where,
                "a placeholder is not closed",
                "add its }, and put the whole value in quotes",
            )
        return _value_of(mark["inside"], lookup, where)

    return _MARK.sub(replace, text)


def _value_of(inside: str, lookup: Lookup, where: KeyPath) -> str:
    form = _INSIDE.fullmatch(inside)
    if form is None:
        raise invalid(where, f"${{{shorten(inside)}}} is no placeholder", _cure_of(inside))
    name, default = form["name"], form["default"]
    fallback = None if default is None else _default_of(name, default, where)
    value = lookup(name)
    if value:
        return _checked(name, value, where)
    if fallback is None:
        fault = "is not set" if value is None else "is set to an empty text"
        cure = f"set it in the environment, give --var {name}=…, or write ${{{name}:=default}}"
        raise invalid(where, f"the variable {name} {fault}", cure, variable=name)
    return fallback


def _default_of(name: str, default: str, where: KeyPath) -> str:
    # The rule for dollar signs is the same as outside, so that nothing in a default looks
    # like a placeholder and is none.
    for mark in _MARK.finditer(default):
        if not mark["dollar"]:
            raise invalid(
                where,
                f"the default of {name} has a placeholder in it, and it would not be replaced",
                "write a plain default; $$ is a dollar sign",
            )
    return default.replace("$$", "$")


def _checked(name: str, value: str, where: KeyPath) -> str:
    try:
        value.encode()
    except UnicodeEncodeError:
        raise invalid(
            where, f"the value of {name} is not valid UTF-8", "set it to valid text"
        ) from None
    return value


def _cure_of(inside: str) -> str:
    bare = inside.strip()
    if _INSIDE.fullmatch(bare):
        return f"write ${{{shorten(bare)}}}, without spaces around the name"
    shell = _LIKE_SHELL.fullmatch(bare)
    if shell is None:
        return "write ${NAME}, ${NAME:=default}, or $${ for the text itself"
    name, operator, rest = shell.group("name", "operator", "rest")
    if operator in ("-", "="):
        return f"write ${{{name}:{operator}{shorten(rest)}}}; an empty variable gives the default"
    if operator in ("?", ":?"):
        return f"write ${{{name}}}; where it is not set, that is an error already"
    return f"write ${{{name}:=default}}; nothing else can be made of a variable"
