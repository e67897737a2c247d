"""Install the peers on demand: Python ones in a venv of their own, BullMQ in an npm folder."""

from __future__ import annotations

import hashlib
import shutil
import subprocess
import sys
import venv
from pathlib import Path

HERE = Path(__file__).parent
PEERS = HERE / "peers"
VENV = HERE / ".venv-peers"
REQUIREMENTS = PEERS / "requirements.txt"
NODE_MODULES = PEERS / "node_modules"
PIP_INSTALL = ("-m", "pip", "install", "-q", "--disable-pip-version-check", "--require-hashes")
#: No lock file: it would carry the registry's addresses. No scripts: nothing is to be built.
NPM_INSTALL = ("install", "--no-package-lock", "--no-audit", "--no-fund", "--ignore-scripts")


class PeerMissing(Exception):
    """A peer that cannot run here; the message says what is missing."""


def python_peers() -> str:
    """The interpreter of the peers' venv, made from the pinned requirements where needed."""
    python = VENV / "bin" / "python"
    stamp = VENV / "installed-from"
    wanted = _digest(REQUIREMENTS)
    if python.exists() and stamp.exists() and stamp.read_text() == wanted:
        return str(python)
    _note("Installing the Python peers into benchmarks/.venv-peers ...")
    venv.create(VENV, with_pip=True, clear=True)
    _run(
        [str(python), *PIP_INSTALL, "-r", str(REQUIREMENTS)],
        "the Python peers",
    )
    stamp.write_text(wanted)
    return str(python)


def node_peers() -> str:
    """The node program, with the pinned packages of ``peers/package.json`` beside the driver."""
    node, npm = shutil.which("node"), shutil.which("npm")
    if node is None or npm is None:
        missing = "node" if node is None else "npm"
        raise PeerMissing(f"{missing} is not installed (Debian: `apt-get install nodejs npm`)")
    stamp = NODE_MODULES / ".installed-from"
    wanted = _digest(PEERS / "package.json")
    if stamp.exists() and stamp.read_text() == wanted:
        return node
    _note("Installing the Node peer into benchmarks/peers/node_modules ...")
    _run(
        [npm, *NPM_INSTALL, "--prefix", str(PEERS)],
        "the Node peer",
    )
    stamp.write_text(wanted)
    return node


def _digest(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()


def _run(command: list[str], what: str) -> None:
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode != 0:
        tail = "\n".join((done.stdout + done.stderr).strip().splitlines()[-5:])
        raise PeerMissing(f"{what} could not be installed:\n{tail}")


def _note(text: str) -> None:
    print(text, file=sys.stderr, flush=True)
