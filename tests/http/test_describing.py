"""Docstrings as documentation: what of them is told over HTTP, and in which words."""

from __future__ import annotations

from callboard.exceptions import LeaseLost, TaskNotFound, TooLarge
from callboard.http.describing import codes_of, doc_of, markdown, parsed, without_codes


def _documented() -> None:
    """Take ``it``, once: None where there is none. Raises TaskNotFound.

    A paragraph
    of two lines.

    Another. Raises TooLarge or LeaseLost: no more of it.

    Args:
        name: What it is called,
            over two lines.
        first, second: Both of them: with a colon.
        **options: As for a task.

    Returns:
        True where it was there.

    Raises:
        LeaseLost: Somebody else has it.
        ValueError: None of ours.
    """


def test_each_part_of_a_docstring_is_found() -> None:
    doc = doc_of(_documented)

    assert doc.summary == "Take `it`, once: null where there is none. Raises TaskNotFound."
    assert doc.text.split("\n\n")[0] == "A paragraph of two lines."
    assert doc.names == {
        "name": "What it is called, over two lines.",
        "first": "Both of them: with a colon.",
        "second": "Both of them: with a colon.",
        "options": "As for a task.",
    }
    assert doc.returns == "true where it was there."


def test_errors_are_those_of_the_section_and_those_in_the_text_each_once() -> None:
    found = dict(codes_of(doc_of(_documented)))

    assert found == {LeaseLost: "Somebody else has it.", TaskNotFound: "", TooLarge: ""}


def test_what_it_raises_is_not_told_twice() -> None:
    doc = doc_of(_documented)

    assert without_codes(doc.summary) == "Take `it`, once: null where there is none."
    assert without_codes("Read it. Raises as `tasks.get`.") == "Read it."


def test_the_words_of_python_become_those_of_json() -> None:
    assert markdown("None for ever; None of them, True or False") == (
        "null for ever; None of them, true or false"
    )


def test_a_thing_without_a_docstring_says_nothing() -> None:
    doc = parsed("")

    assert (doc.summary, doc.text, doc.names, doc.raises) == ("", "", {}, ())
