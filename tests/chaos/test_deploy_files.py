"""The files of deploy/: what they name is there, and what they run runs."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
import tomllib
import zipfile
from pathlib import Path
from typing import Any

import pytest
import yaml

from tests.engine.connection_support import Engine
from tests.http.nodes import PROGRAM, Node
from tests.interfaces.cli_reference import commands

ROOT = Path(__file__).resolve().parents[2]
DEPLOY = ROOT / "deploy"
CONTAINERFILE = (DEPLOY / "Containerfile").read_text()
COMPOSE: dict[str, Any] = yaml.safe_load((DEPLOY / "compose.yaml").read_text())
UNIT = (DEPLOY / "callboard.service").read_text()


# systemd


@pytest.fixture
def analyze() -> str:
    found = shutil.which("systemd-analyze")
    if found is None:
        pytest.skip("systemd-analyze is not installed")
    return found


def of_instance() -> str:
    """The unit for several on one machine, changed as its own comment says."""
    text = UNIT
    changed = re.findall(r"^#   ((\w+)=.*%i.*)$", text, re.MULTILINE)
    assert len(changed) == 3
    for line, name in changed:
        text, count = re.subn(rf"^{name}=.*$", line, text, flags=re.MULTILINE)
        assert count == 1, name
    return text


@pytest.mark.parametrize(
    ("name", "text"),
    [("callboard.service", UNIT), ("callboard@a.service", of_instance())],
    ids=["one", "several"],
)
def test_systemd_finds_no_fault_with_the_unit(
    analyze: str, tmp_path: Path, name: str, text: str
) -> None:
    unit = tmp_path / name
    unit.write_text(text.replace("/opt/callboard/bin/callboard", sys.executable))

    verified = ran(analyze, "verify", str(unit))
    rated = ran(analyze, "security", "--offline=true", "--threshold=20", str(unit))

    assert verified.returncode == 0, verified.stderr
    assert "callboard" not in verified.stderr
    assert rated.returncode == 0, rated.stdout[-300:]


def test_the_unit_begins_what_there_is_and_waits_longer_than_an_end_takes() -> None:
    (command,) = re.findall(r"^ExecStart=/opt/callboard/bin/(.+)$", UNIT, re.MULTILINE)
    (patience,) = re.findall(r"^TimeoutStopSec=(\d+)$", UNIT, re.MULTILINE)

    assert command == "callboard serve"
    assert "/opt/callboard/bin/callboard" in UNIT
    assert int(patience) > 10 + 5, "what --drain is by default, and what the end itself may take"


def ran(*command: str, **rest: Any) -> subprocess.CompletedProcess[str]:
    return subprocess.run(command, capture_output=True, text=True, check=False, timeout=120, **rest)


# Settings


def test_the_files_name_settings_that_there_are() -> None:
    files = ["callboard.env.example", "compose.yaml", "Containerfile"]
    named_there = {
        name
        for file in files
        for name in re.findall(r"\bCALLBOARD_[A-Z_]+", (DEPLOY / file).read_text())
    }
    page = (ROOT / "docs" / "reference" / "configuration.md").read_text()

    assert named_there <= settings() | {"CALLBOARD_URL", "CALLBOARD_NAMESPACE"}
    assert all(f"`{name}`" in page for name in sorted(settings()))


def settings() -> set[str]:
    """The variables that stand for an option of ``callboard serve``."""
    served = dict(commands())["serve",]
    found = {param.envvar for param in served.params if param.envvar}
    assert len(found) > 15
    return found


# Compose


def test_compose_has_two_coordinators_on_one_engine_that_evicts_nothing() -> None:
    services = COMPOSE["services"]

    urls = {services[name]["environment"]["CALLBOARD_URL"] for name in ("a", "b")}
    assert urls == {"redis://engine:6379/0"}
    assert "--maxmemory-policy noeviction" in services["engine"]["command"]
    nginx = (DEPLOY / "nginx.conf").read_text()
    assert set(re.findall(r"server (\w+):9001", nginx)) == {"a", "b"}


def test_compose_names_services_files_and_volumes_that_there_are() -> None:
    services = COMPOSE["services"]
    built = [service["build"] for service in services.values() if "build" in service]
    mounts = [mount for service in services.values() for mount in service.get("volumes", [])]

    assert len(built) == 3
    for build in built:
        assert (DEPLOY / build["context"]).resolve() == ROOT
        assert (ROOT / build["dockerfile"]).is_file()
    for mount in mounts:
        source = mount.split(":")[0]
        assert (DEPLOY / source).is_file() if "/" in source else source in COMPOSE["volumes"], mount
    for name, service in services.items():
        assert set(service.get("depends_on", ())) <= services.keys(), name
        assert {"image", "build"} & service.keys(), name


def test_what_compose_runs_runs() -> None:
    """Its engine with these options, and the command that makes the first key, upon it."""
    services = COMPOSE["services"]
    program, *options = services["engine"]["command"].split()
    with Engine(*options) as engine:
        key = ran(*PROGRAM, *services["key"]["command"], env=os.environ | at(engine))
        with Node(env=at(engine) | {"CALLBOARD_LINGER": "3s"}) as node:
            found = node.ok("GET", "/keys")["keys"]
        policy = engine.admin.config_get("maxmemory-policy")

    assert program == "valkey-server"
    assert services["a"]["environment"]["CALLBOARD_LINGER"] == "3s"
    assert key.returncode == 0, key.stderr
    assert "cb_" in key.stdout
    assert [one["role"] for one in found] == ["admin"]
    assert policy == {"maxmemory-policy": "noeviction"}


def at(engine: Engine) -> dict[str, str]:
    return {"CALLBOARD_URL": engine.url}


# The container


def test_the_container_is_of_a_python_that_the_package_takes_and_runs_without_root() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    versions = re.findall(r"FROM python:(\S+)-slim", CONTAINERFILE)

    assert set(versions) == {project["requires-python"].removeprefix(">=")}
    assert CONTAINERFILE.index("USER callboard") < CONTAINERFILE.index("ENTRYPOINT")


def test_the_container_begins_a_command_that_there_is_and_asks_a_file_that_it_has() -> None:
    (entry,) = re.findall(r'^ENTRYPOINT \["(\w+)"\]$', CONTAINERFILE, re.MULTILINE)
    (command,) = re.findall(r'^CMD \["(\w+)"\]$', CONTAINERFILE, re.MULTILINE)
    copied = dict(re.findall(r"^COPY (deploy/\S+) (\S+)$", CONTAINERFILE, re.MULTILINE))
    (health,) = re.findall(r'CMD \["python", "(\S+)"\]', CONTAINERFILE)
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]

    assert entry in project["scripts"]
    assert (command,) in dict(commands())
    assert copied == {"deploy/health.py": health}


def test_what_is_copied_into_the_container_is_all_that_its_package_is_built_of(
    tmp_path: Path,
) -> None:
    source = tmp_path / "src"
    for names, to in re.findall(r"^COPY (?!--from|deploy)(.+) (\S+)$", CONTAINERFILE, re.MULTILINE):
        for name in names.split():
            into = source / to / ("" if (ROOT / name).is_dir() else Path(name).name)
            into.parent.mkdir(parents=True, exist_ok=True)
            if (ROOT / name).is_dir():
                shutil.copytree(ROOT / name, into, ignore=shutil.ignore_patterns("__pycache__"))
            else:
                shutil.copy(ROOT / name, into)

    wheel = ("wheel", "--no-deps", "--no-build-isolation", "--no-index", "-q", "-w")
    built = ran(sys.executable, "-m", "pip", *wheel, str(tmp_path), str(source))
    assert built.returncode == 0, built.stderr
    (package,) = tmp_path.glob("callboard-*.whl")
    with zipfile.ZipFile(package) as archive:
        held = set(archive.namelist())

    here = {
        str(path.relative_to(ROOT / "src"))
        for path in (ROOT / "src" / "callboard").rglob("*")
        if path.is_file() and "__pycache__" not in path.parts
    }
    assert here <= held
    assert "--hash=sha256:" in (source / "requirements" / "runtime.txt").read_text()
