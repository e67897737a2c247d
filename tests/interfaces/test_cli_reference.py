"""The page on the command line says what the commands are."""

from __future__ import annotations

from callboard.cli import failures
from tests.interfaces.cli_reference import MARK, PAGE, reference


def test_the_page_lists_the_commands_as_they_are() -> None:
    _, mark, listed = PAGE.read_text("utf-8").partition(MARK)

    assert mark
    assert listed == "\n" + reference(), "run: python -m tests.interfaces.cli_reference"


def test_the_page_lists_the_exit_codes() -> None:
    page = PAGE.read_text("utf-8")

    for code in (
        failures.OK,
        failures.REFUSED,
        failures.USAGE,
        failures.ENGINE,
        failures.NOT_FOUND,
        failures.INTERRUPTED,
    ):
        assert f"\n| {code} | " in page
