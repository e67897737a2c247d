"""The worker that is a program: it reads one CSV file, whatever notation it was written in.

One line of JSON comes on standard input; what goes to standard output is the result. Exit
code 65 says that the input is at fault, so that trying again cannot help: the task becomes a
dead letter, with the end of standard error as its reason.
"""

from __future__ import annotations

import csv
import json
import math
import sys
from datetime import date, datetime
from pathlib import Path

INPUT_AT_FAULT = 65  # EX_DATAERR of sysexits.h


def main() -> int:
    """Answer one request."""
    file = Path(json.load(sys.stdin)["task"]["payload"]["file"])
    try:
        days = read(file)
    except ValueError as error:
        print(error, file=sys.stderr)
        return INPUT_AT_FAULT
    city = file.stem.replace("-", " ").title()
    json.dump({"city": city, "days": days}, sys.stdout)
    return 0


def read(file: Path) -> list[dict[str, object]]:
    """All rows but the first, as a date and a number of hours each.

    Raises:
        ValueError: A row is not that; the message says which.
    """
    days: list[dict[str, object]] = []
    with file.open(encoding="utf-8", newline="") as text:
        delimiter = ";" if ";" in text.readline() else ","
        for number, row in enumerate(csv.reader(text, delimiter=delimiter), 2):
            try:
                day, hours = (cell.strip() for cell in row)
                days.append({"date": date_in(day).isoformat(), "hours": hours_in(hours)})
            except ValueError as error:
                raise ValueError(f"{file}, line {number}: {error}") from error
    if not days:
        raise ValueError(f"{file} has no rows")
    return days


def date_in(text: str) -> date:
    """A date, written as 2025-01-31 or 31.01.2025."""
    return datetime.strptime(text, "%d.%m.%Y" if "." in text else "%Y-%m-%d").date()  # noqa: DTZ007


def hours_in(text: str) -> float:
    """Hours of a day, written as 8.25, 8,25 or 8:15."""
    whole, _, minutes = text.replace(",", ".").partition(":")
    try:
        hours = float(whole) + float(minutes or 0) / 60
    except ValueError:
        hours = math.nan
    if not 0 <= hours <= 24:
        raise ValueError(f"{text!r} is no number of hours of a day")
    return round(hours, 2)


if __name__ == "__main__":
    sys.exit(main())
