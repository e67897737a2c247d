"""The pages, and the blocks of code in them.

A block under `<!-- runnable -->` is run by a test, as the page's reader would; what it must
print stands in a block under `<!-- output -->` behind it. A block under `<!-- file: NAME -->`
is a file that the runnable blocks of its page find beside them.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Final

ROOT: Final = Path(__file__).resolve().parents[2]
_FENCE: Final = re.compile(
    r"(?:^<!-- (?P<mark>[^\n]*?) -->\n)?^```(?P<language>\w*)[^\n]*\n(?P<text>.*?)^```$",
    re.DOTALL | re.MULTILINE,
)


@dataclass(frozen=True)
class Block:
    """A fenced block: where it begins, its mark and language, its text."""

    page: Path
    line: int
    mark: str
    language: str
    text: str

    @property
    def name(self) -> str:
        return f"{self.page.relative_to(ROOT)}:{self.line}"

    @property
    def file(self) -> str | None:
        """The file's name, where the block is one."""
        return self.mark.partition("file: ")[2] or None


@dataclass(frozen=True)
class Example:
    """A block to run, the files of its page, and what it prints where the page says it."""

    block: Block
    files: tuple[Block, ...]
    output: str | None


def pages() -> list[Path]:
    """All that is written for readers."""
    top = [ROOT / name for name in ("README.md", "ARCHITECTURE.md", "CONTRIBUTING.md")]
    return [*top, *sorted((ROOT / "docs").rglob("*.md"))]


def blocks(page: Path) -> list[Block]:
    """The page's fenced blocks, in order."""
    text = page.read_text("utf-8")
    return [
        Block(
            page,
            text.count("\n", 0, match.start("language")) + 1,
            match["mark"] or "",
            match["language"],
            match["text"],
        )
        for match in _FENCE.finditer(text)
    ]


def examples(page: Path) -> Iterator[Example]:
    """The page's runnable blocks."""
    found = blocks(page)
    files = tuple(block for block in found if block.file)
    for block, following in zip(found, [*found, None][1:], strict=True):
        if block.mark == "runnable":
            shown = following is not None and following.mark == "output"
            yield Example(block, files, following.text if shown and following else None)


def prose(page: Path) -> str:
    """The page without its fenced blocks."""
    return _FENCE.sub("", page.read_text("utf-8"))


def rows(page: Path) -> dict[str, list[str]]:
    """The cells of each table row behind its first cell, by the code words of that cell."""
    found: dict[str, list[str]] = {}
    for line in page.read_text("utf-8").splitlines():
        if line.startswith("|"):
            first, *rest = (cell.strip() for cell in re.split(r"(?<!\\)\|", line.strip("|")))
            for word in re.findall(r"`([^`]+)`", first):
                found[word] = rest
    return found
