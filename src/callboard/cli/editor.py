"""Text changed by a person in the editor of their choice."""

from __future__ import annotations

import os
import shlex
import subprocess
import tempfile
from pathlib import Path

from callboard.exceptions import ConfigError, InvalidArgument


def edited(text: str, *, suffix: str) -> str:
    """Let ``$VISUAL``, ``$EDITOR`` or vi change the text; return what was saved.

    Raises:
        ConfigError: The editor cannot be run, or failed.
        InvalidArgument: Nothing was changed.
    """
    editor = os.environ.get("VISUAL") or os.environ.get("EDITOR") or "vi"
    with tempfile.TemporaryDirectory(prefix="callboard-") as folder:
        file = Path(folder, f"payload{suffix}")
        file.write_text(text + "\n")
        try:
            subprocess.run([*shlex.split(editor), str(file)], check=True)
        except (OSError, subprocess.CalledProcessError, ValueError) as error:
            raise ConfigError(f"Editor {editor!r} did not work: {error}. Set EDITOR.") from error
        after = file.read_text().strip()
    if after == text.strip():
        raise InvalidArgument("The payload was not changed, so the task was left as it is.")
    return after
