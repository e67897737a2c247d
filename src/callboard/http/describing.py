"""Docstrings as documentation: what each part of one says, in Markdown."""

from __future__ import annotations

import inspect
import re
from collections.abc import Mapping
from functools import cache
from typing import Any

import msgspec

from callboard import exceptions
from callboard.exceptions import CallboardError

_SECTION = re.compile(r"^(Args|Attributes|Returns|Raises|Yields):$", re.MULTILINE)
_INLINE = re.compile(r"Raises ([A-Z]\w+(?:(?:, | and | or )[A-Z]\w+)*)")
_SENTENCE = re.compile(r" ?\bRaises (?:`[^`]*`|[^.`])*\.?")
_WORD = re.compile(r"[A-Z]\w+")
_PYTHON = re.compile(r"\b(?:None(?! of)|True|False)\b")
_AS_JSON = {"None": "null", "True": "true", "False": "false"}
_CODE = re.compile(r"``([^`]*)``")


class Doc(msgspec.Struct, frozen=True):
    """What a docstring says.

    Attributes:
        summary: Its first line.
        text: What follows, in Markdown.
        names: Of each argument or attribute what is said of it.
        returns: What is said of the answer.
        raises: The names of the exceptions, with what is said of them together.
    """

    summary: str
    text: str
    names: Mapping[str, str]
    returns: str
    raises: tuple[tuple[tuple[str, ...], str], ...]


@cache
def doc_of(thing: Any) -> Doc:
    """The docstring of a function or class, in parts."""
    return parsed(inspect.getdoc(thing) or "")


def parsed(text: str) -> Doc:
    """A docstring, in parts."""
    summary, _, rest = text.partition("\n")
    parts = _SECTION.split(rest)
    sections = dict(zip(parts[1::2], parts[2::2], strict=True))
    names: dict[str, str] = {}
    for section in ("Args", "Attributes"):
        for given, said in _entries(sections.get(section, "")):
            names |= dict.fromkeys(given, said)
    return Doc(
        markdown(summary),
        markdown(parts[0]),
        names,
        markdown(sections.get("Returns", "")),
        tuple(_entries(sections.get("Raises", ""))),
    )


def without_codes(text: str) -> str:
    """The text without ``Raises X, Y.``, which HTTP tells in another way."""
    return _SENTENCE.sub("", text).strip()


def codes_of(doc: Doc) -> list[tuple[type[CallboardError], str]]:
    """The errors that a docstring names, each with what is said of it."""
    found: dict[type[CallboardError], str] = {}
    inline = [
        (tuple(_WORD.findall(said)), "") for said in _INLINE.findall(f"{doc.summary} {doc.text}")
    ]
    for names, said in (*doc.raises, *inline):
        for name in names:
            kind = getattr(exceptions, name, None)
            if isinstance(kind, type) and issubclass(kind, CallboardError):
                found.setdefault(kind, said)
    return list(found.items())


def markdown(text: str) -> str:
    """Text of a docstring as Markdown: code in one backtick, a paragraph a line, JSON's words."""
    plain = _CODE.sub(r"`\1`", inspect.cleandoc(text))
    plain = _PYTHON.sub(lambda found: _AS_JSON[found[0]], plain)
    paragraphs = re.split(r"\n\s*\n", plain)
    return "\n\n".join(
        one if one.startswith("    ") else " ".join(one.split()) for one in paragraphs
    ).strip()


def _entries(section: str) -> list[tuple[tuple[str, ...], str]]:
    """``a, b: what is said`` of each entry of a section; those without a name are left out."""
    text = inspect.cleandoc(section)
    parts = re.split(r"(?m)^(?=\S)", text)
    found = []
    for part in parts:
        head, colon, said = part.partition(":")
        names = [name.strip() for name in head.split(",")]
        if colon and all(re.fullmatch(r"\*{0,2}\w+", name) for name in names):
            found.append((tuple(name.lstrip("*") for name in names), markdown(said)))
    return found
