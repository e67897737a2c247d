"""The command line: ``callboard``. Each command parses, makes one call, and renders."""

from callboard.cli.program import main

__all__ = ["main"]
