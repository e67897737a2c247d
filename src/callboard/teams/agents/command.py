"""Agents that are commands: the request on standard input, the answer on standard output."""

from __future__ import annotations

import asyncio
import logging
import os
import re
import shlex
import shutil
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import msgspec

from callboard.exceptions import Fatal, Retry
from callboard.teams.agents import unusable
from callboard.teams.agents.child import Child, Ending
from callboard.teams.agents.options import number, output_bytes, pairs, texts
from callboard.teams.agents.threads import ended, in_own_thread

if TYPE_CHECKING:
    from callboard.domain.team import AgentDefinition
    from callboard.teams.agents import Invocation

ENVIRONMENT: Final = tuple("HOME LANG LC_ALL LC_CTYPE PATH TMPDIR TZ USER VIRTUAL_ENV".split())
"""What a command sees of this process's environment unless the definition lets more through."""

KILL_AFTER_SECONDS: Final = 2.0
KILL_AFTER_SECONDS_MAX: Final = 300.0

DATA_ERROR: Final = 65
"""``EX_DATAERR`` of sysexits.h: the input was at fault, so that no retry helps."""

STDERR_LINES: Final = 5
STDERR_CHARACTERS: Final = 1_000
SHOWN_CHARACTERS: Final = 200

log = logging.getLogger("callboard.teams")


class CommandAgent:
    """Starts a command for each request and takes what it writes for the answer.

    The request is one line of JSON on standard input, which ends with it. Standard output is
    the answer: JSON if it is that, nothing for none, else text in UTF-8 without its last line
    breaks. It is complete when the command itself has exited, whoever still holds its end of
    the pipe. Exit code 65 is a failure that no retry cures; any other but 0 one that is
    retried. The last lines of standard error tell why.

    The command sees only some of the environment (``ENVIRONMENT``), what ``env_from`` lets
    through and ``env`` sets, and ``CALLBOARD_RUN``, ``CALLBOARD_TASK`` and
    ``CALLBOARD_FENCE``. It leads a session and process group of its own. When it has exited,
    was cancelled, or wrote too much, the whole group is ended: by SIGTERM, and *kill_after*
    seconds later by SIGKILL. Only a process that moves to another session escapes that, or
    one whose host was itself killed by SIGKILL; that one gets no more input.

    Options:
        env, env_from: Variables to set, and names of those to let through.
        cwd: Working directory, relative to the team's folder, which is the default.
        output_bytes: The longest answer, 1 MiB by default; more ends the command at once.
        kill_after: Seconds from SIGTERM to SIGKILL, 0 to 300; 2 by default.
    """

    def __init__(self, definition: AgentDefinition, folder: Path) -> None:
        self._name = definition.name
        self._arguments = _arguments(definition)
        self._env = pairs(definition, "env")
        self._env_from = texts(definition, "env_from")
        for name in (*self._env, *self._env_from):
            if not name or "=" in name or "\0" in name + self._env.get(name, ""):
                raise unusable(
                    definition, f"the variable {name!r:.60} cannot be set; correct its name."
                )
        self._output_bytes = output_bytes(definition)
        self._kill_after = number(
            definition, "kill_after", KILL_AFTER_SECONDS, 0, KILL_AFTER_SECONDS_MAX
        )
        self._cwd = _folder(definition, folder)
        self._program = _program(
            definition, self._arguments[0], self._cwd, self._environment().get("PATH")
        )

    async def run(self, invocation: Invocation) -> Any:
        """Run the command.

        Raises:
            Retry: It could not be started just now, failed, or its answer cannot be read.
            Fatal: It exited with 65, or is no longer there.
        """
        request, context = invocation.request, invocation.context
        child = Child(
            self._arguments,
            program=self._program,
            cwd=self._cwd,
            environment=self._environment()
            | {
                "CALLBOARD_RUN": request.run,
                "CALLBOARD_TASK": context.id,
                "CALLBOARD_FENCE": str(context.fence),
            },
            message=msgspec.json.encode(request) + b"\n",
            output_bytes=self._output_bytes,
            kill_after=self._kill_after,
        )
        future = in_own_thread(f"{self._name}:{context.id}", child.run)
        try:
            ending = await asyncio.shield(future)
        except asyncio.CancelledError:
            child.stop()
            await ended(future)
            raise
        except (FileNotFoundError, NotADirectoryError, PermissionError) as error:
            raise Fatal(f'The command "{self._shown}" cannot be started: {_why(error)}.') from error
        except OSError as error:
            raise Retry(
                f'The command "{self._shown}" cannot be started now: {_why(error)}.'
            ) from error
        return self._answer(ending)

    @property
    def _shown(self) -> str:
        """The command for messages: the program and its script, as other words may be secret."""
        words = self._arguments[:1]
        if len(self._arguments) > 1 and _is_script(self._arguments[1], self._cwd):
            words = self._arguments[:2]
        more = " …" if len(words) < len(self._arguments) else ""
        return shlex.join(words)[:SHOWN_CHARACTERS] + more

    def _environment(self) -> dict[str, str]:
        names = (*ENVIRONMENT, *self._env_from)
        return {name: os.environ[name] for name in names if name in os.environ} | self._env

    def _answer(self, ending: Ending) -> Any:
        command = f'The command "{self._shown}"'
        if ending.is_left_over:
            log.warning(
                "Processes of the command of agent %r do not end, not even when killed; "
                "process group %d.",
                self._name,
                ending.group,
            )
        if ending.is_too_long:
            raise Retry(
                f"{command} was stopped: it wrote more than {self._output_bytes:,} bytes. Let it "
                "write less, or raise output_bytes.",
                output_bytes=self._output_bytes,
            )
        if ending.code != 0:
            how = f"exited with {ending.code}" if ending.code > 0 else _signal(-ending.code)
            why = _last_lines(ending.errors) or "it wrote nothing to standard error"
            failure = Fatal if ending.code == DATA_ERROR else Retry
            raise failure(f"{command} {how}: {why}", exit_code=ending.code)
        return _read(command, ending.output)


def _read(command: str, output: bytes) -> Any:
    """The answer in what a command wrote."""
    output = output.removeprefix(b"\xef\xbb\xbf")
    if not output.strip():
        return None
    try:
        return msgspec.json.decode(output)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        pass  # Then it is text.
    try:
        if b"\0" in output:
            raise ValueError("A text has no zero bytes.")
        return output.decode().rstrip("\r\n")
    except ValueError as error:
        raise Retry(
            f"{command} wrote {len(output):,} bytes that are neither JSON nor text in UTF-8; they "
            f"begin with {output[:8].hex(' ')}. Let it write JSON, or the name of a file.",
            begins_with=output[:8].hex(" "),
        ) from error


def _arguments(definition: AgentDefinition) -> list[str]:
    given = definition.settings
    if isinstance(given, str):
        try:
            given = shlex.split(given)
        except ValueError as error:
            raise unusable(
                definition, f"command cannot be split into words: {error}. Write it as a list."
            ) from error
    if not isinstance(given, list | tuple) or not given:
        raise unusable(
            definition, 'command is no list of words, for example ["python", "reader.py"].'
        )
    for number_, word in enumerate(given, 1):
        if not isinstance(word, str) or "\0" in word:
            raise unusable(definition, f"word {number_} of command is no text; put it into quotes.")
    if not given[0]:
        raise unusable(definition, "command has an empty first word; name a program.")
    return list(given)


def _folder(definition: AgentDefinition, folder: Path) -> Path:
    given = definition.options.get("cwd", ".")
    if not isinstance(given, str | os.PathLike):
        raise unusable(definition, f"cwd is {given!r:.60}; name a folder.")
    cwd = (folder / Path(given).expanduser()).resolve()
    if not cwd.is_dir():
        raise unusable(definition, f"cwd {cwd} is no folder. Make it, or correct the path.")
    return cwd


def _program(definition: AgentDefinition, word: str, cwd: Path, search: str | None) -> str:
    """The file to run: a path is meant from the working directory, a name is looked up."""
    if os.sep in word:
        path = (cwd / Path(word).expanduser()).resolve()
        if not path.is_file():
            raise unusable(definition, f"there is no program {path}. Correct the path.")
        if not os.access(path, os.X_OK):
            raise unusable(definition, f"{path} may not be run: chmod +x {shlex.quote(str(path))}.")
        return str(path)
    found = shutil.which(word, path=search)
    if found is None and word in ("python", "python3"):
        found = sys.executable  # A system without one of that name still has the one running this.
    if not found:
        beside = f" To run the one in {cwd}, write ./{word}." if (cwd / word).exists() else ""
        raise unusable(
            definition,
            f"the program {word!r} was not found on PATH. Install it, or give its path.{beside}",
        )
    return os.path.abspath(found)


def _is_script(word: str, cwd: Path) -> bool:
    """Whether it is a file in the command's folder."""
    path = os.path.realpath(cwd / word)
    return os.path.isfile(path) and Path(path).is_relative_to(cwd)


def _why(error: OSError) -> str:
    return error.strerror or str(error)


def _signal(number_: int) -> str:
    import signal

    try:
        name = signal.Signals(number_).name
    except ValueError:
        name = str(number_)
    return f"was ended by signal {name}"


def _last_lines(errors: bytes) -> str:
    """The end of what was written to standard error, fit for a terminal."""
    text = re.sub(r"\x1b\[[0-9;?]*[ -/]*[@-~]", "", errors.decode("utf-8", "replace"))
    text = "".join(c if c.isprintable() or c == "\n" else "�" for c in text.replace("\r", "\n"))
    lines = [line.rstrip() for line in text.splitlines() if line.strip()]
    return "\n".join(lines[-STDERR_LINES:])[-STDERR_CHARACTERS:].strip()
