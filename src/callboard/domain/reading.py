"""What a description written by people is read with: each reader takes a path and a value.

A description is a tree of mappings, lists, texts, numbers and truth values. What is wrong is
said with its path and a cure, so that who reads a file can add the line.
"""

from __future__ import annotations

import difflib
from collections.abc import Callable, Iterable, Mapping
from typing import Any, Final

from callboard.domain.names import NAME
from callboard.exceptions import InvalidTeam

KeyPath = tuple[str | int, ...]
"""Where something stands in a description: keys, and places in lists, from the outside in."""

Reader = Callable[[KeyPath, Any], Any]
"""Returns the value at this path as the program wants it, or raises InvalidTeam."""

NAME_CHARACTERS_MAX: Final = 64
"""Names of teams and members become parts of longer names, which have at most 128."""

TEXT_CHARACTERS_MAX: Final = 100_000


def invalid(path: KeyPath, what: str, cure: str = "", **details: Any) -> InvalidTeam:
    """The error that says where something is wrong, what, and what to do instead."""
    place = spell(path)
    said = f"{what}; {cure}" if cure else what
    message = f"{place}: {said}" if place else said
    return InvalidTeam(message, path=place, key=list(path), what=what, cure=cure, **details)


def spell(path: KeyPath) -> str:
    """A path as people write it: ``teams.specs.survey.workers[1]``."""
    text = ""
    for key in path:
        text += f"[{key}]" if isinstance(key, int) else f".{shorten(key)}"
    return text.removeprefix(".")


def shorten(text: str) -> str:
    """At most 60 characters of *text*, on one line, for messages."""
    line = " ".join(text.split()) if any(c in text for c in "\r\n\t") else text
    return line if len(line) <= 60 else line[:57] + "..."


def nearest(word: str, names: Iterable[str]) -> str | None:
    """The one of *names* that *word* most likely stands for, if any is like it."""
    known = list(names)
    close = difflib.get_close_matches(word.lower(), known, n=1, cutoff=0.6)
    if close:
        return close[0]
    # Someone remembered a part of it: timeout for global_timeout_seconds.
    longer = [name for name in known if word.lower() in name.split("_")]
    return longer[0] if len(longer) == 1 else None


def unknown(path: KeyPath, names: Iterable[str]) -> InvalidTeam:
    """The error for a key that is none of *names*; it says the nearest, or else all."""
    return invalid(path, "is not a known key", which_of(str(path[-1]), names))


def which_of(word: str, names: Iterable[str]) -> str:
    """The cure for a word that is none of *names*: the nearest, or else all."""
    known = sorted(names)
    close = nearest(word, known)
    return f"did you mean {close}?" if close else f"known: {listing(known)}"


def listing(names: Iterable[str]) -> str:
    """``a, b and c``."""
    *first, last = list(names) or [""]
    return f"{', '.join(first)} and {last}" if first else last


def read_fields(
    path: KeyPath,
    value: Any,
    readers: Mapping[str, Reader],
    *,
    retired: Mapping[str, tuple[str, str]] | None = None,
) -> dict[str, Any]:
    """Read a mapping with these keys and no others; keys without a value are left out.

    Args:
        path: Where it stands.
        value: What was given.
        readers: What reads the value of each key.
        retired: Keys that are known and refused, with what is wrong and the cure.
    """
    fields: dict[str, Any] = {}
    for key, field in read_mapping(path, value).items():
        here = (*path, key)
        if key in readers:
            if field is not None:
                fields[key] = readers[key](here, field)
        elif retired and key in retired:
            raise invalid(here, *retired[key])
        else:
            raise unknown(here, readers)
    return fields


def read_mapping(path: KeyPath, value: Any) -> Mapping[str, Any]:
    """A mapping whose keys are texts."""
    if value is None:
        raise invalid(path, "is empty", "give its keys below it, indented")
    if not isinstance(value, Mapping):
        raise invalid(path, f"is {_sort(value)}", "give keys with values below it, indented")
    for key in value:
        if not isinstance(key, str):
            raise invalid((*path, str(key)), f"is {_sort(key)} as a key", "put it in quotes")
    return value


def read_as_is(path: KeyPath, value: Any) -> Any:
    """Whatever it is."""
    return value


def read_text(path: KeyPath, value: Any) -> str:
    """A text; what only looks like one, such as 1.10 or ``on``, is to be put in quotes."""
    if not isinstance(value, str):
        cure = "put it in quotes" if isinstance(value, bool | int | float) else "give a text"
        raise invalid(path, f"is {_sort(value)}, where a text is expected", cure, expected="text")
    if "\0" in value:
        raise invalid(path, "has a NUL character in it", "remove it")
    if len(value) > TEXT_CHARACTERS_MAX:
        raise invalid(
            path,
            f"has {len(value):,} characters",
            f"give at most {TEXT_CHARACTERS_MAX:,}, and keep the rest in a file of its own",
        )
    return value


def read_name(path: KeyPath, value: Any, characters_max: int = NAME_CHARACTERS_MAX) -> str:
    """A name: letters, digits, ``.``, ``_`` and ``-``."""
    name = read_text(path, value)
    if not NAME.fullmatch(name) or len(name) > characters_max:
        raise invalid(
            path,
            f"{shorten(name)!r} is not a name" if name else "is an empty name",
            f"use 1 to {characters_max} letters, digits, '.', '_' or '-'",
        )
    return name


def read_list(of: Reader, example: str) -> Reader:
    """A reader of lists; *example* shows the shape in its message."""

    def read(path: KeyPath, value: Any) -> tuple[Any, ...]:
        if not isinstance(value, list | tuple):
            raise invalid(path, f"is {_sort(value)}, where a list is expected", f"write {example}")
        return tuple(of((*path, place), item) for place, item in enumerate(value))

    return read


def read_number(low: float, high: float, what: str = "number") -> Reader:
    """A reader of numbers within bounds, also of those that came as text."""

    def read(path: KeyPath, value: Any) -> float:
        number = _number(value)
        if number is None or not low <= number <= high:
            raise invalid(
                path, f"is {_shown(value)}", f"give a {what} from {low:,.12g} to {high:,.12g}"
            )
        return float(number)

    return read


def read_whole(low: int, high: int) -> Reader:
    """A reader of whole numbers within bounds, also of those that came as text."""

    def read(path: KeyPath, value: Any) -> int:
        number = _number(value)
        if number is None or not low <= number <= high or number != int(number):
            raise invalid(
                path, f"is {_shown(value)}", f"give a whole number from {low:,} to {high:,}"
            )
        return int(number)

    return read


def read_choice(*choices: str) -> Reader:
    """A reader of one of a few words."""

    def read(path: KeyPath, value: Any) -> str:
        if not isinstance(value, str) or value not in choices:
            word = value if isinstance(value, str) else ""
            raise invalid(path, f"is {_shown(value)}", which_of(word, choices))
        return value

    return read


def _sort(value: Any) -> str:
    if isinstance(value, bool):
        return f"read as the truth value {str(value).lower()}"
    if isinstance(value, int | float):
        return f"read as the number {_shown(value)}"
    if value is None:
        return "empty"
    if isinstance(value, Mapping):
        return "a mapping"
    return "a list" if isinstance(value, list | tuple) else "a text"


def _shown(value: Any) -> str:
    if isinstance(value, str):
        return repr(shorten(value))
    if isinstance(value, bool | Mapping | list | tuple) or value is None:
        return _sort(value)
    return shorten(f"{value:g}" if isinstance(value, float) else f"{value:,}")


def _number(value: Any) -> float | None:
    if isinstance(value, bool) or not isinstance(value, str | int | float):
        return None
    try:
        return int(value) if isinstance(value, str) and value.isdecimal() else float(value)
    except (ValueError, OverflowError):
        return None
