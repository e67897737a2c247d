"""Which engine is chosen, and what is refused with which cure."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from callboard import config
from callboard.config import (
    check_namespace,
    check_url,
    redact_url,
    redis_environment,
    resolve_engine,
    split_url,
)
from callboard.exceptions import ConfigError


def test_url_and_data_directory_together_are_refused(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="Give one"):
        resolve_engine("redis://localhost", tmp_path, environ={})


def test_an_argument_beats_every_variable(tmp_path: Path) -> None:
    environ = {"CALLBOARD_URL": "redis://env", "CALLBOARD_DATA": "/env", "REDIS_URL": "redis://r"}

    by_url = resolve_engine("redis://arg", environ=environ, honour_redis_env=True)
    by_data = resolve_engine(data_dir=tmp_path, environ=environ, honour_redis_env=True)

    assert (by_url.url, by_url.source) == ("redis://arg", "argument --url")
    assert (by_data.data_dir, by_data.source) == (tmp_path, "argument --data")
    assert by_data.is_embedded and not by_url.is_embedded


def test_the_url_variable_beats_the_data_variable_and_both_beat_redis_variables() -> None:
    environ = {"CALLBOARD_URL": "redis://env", "CALLBOARD_DATA": "/env", "REDIS_URL": "redis://r"}

    first = resolve_engine(environ=environ, honour_redis_env=True)
    second = resolve_engine(environ={**environ, "CALLBOARD_URL": ""}, honour_redis_env=True)

    assert first.url == "redis://env"
    assert first.source == "environment CALLBOARD_URL"
    assert second.data_dir == Path("/env")
    assert second.source == "environment CALLBOARD_DATA"


def test_redis_variables_count_only_where_they_are_asked_for(tmp_path: Path) -> None:
    environ = {"REDIS_URL": "redis://r:1"}

    without = resolve_engine(environ=environ, cwd=tmp_path)
    asked = resolve_engine(environ=environ, cwd=tmp_path, honour_redis_env=True)

    assert without.is_embedded
    assert asked.url == "redis://r:1"


@pytest.mark.parametrize(
    ("environ", "url"),
    [
        ({}, None),
        ({"REDIS_PASSWORD": "x"}, None),
        ({"REDIS_HOST": "h"}, "redis://h:6379/0"),
        ({"REDIS_PORT": "6380"}, "redis://localhost:6380/0"),
        ({"REDIS_HOST": "::1", "REDIS_PORT": "6380"}, "redis://[::1]:6380/0"),
        ({"REDIS_HOST": "h", "REDIS_PASSWORD": "p@s/s"}, "redis://:p%40s%2Fs@h:6379/0"),
        ({"REDIS_HOST": "h", "REDIS_PORT": "tcp://10.0.0.1:6390"}, "redis://h:6390/0"),
        ({"REDIS_PORT": "tcp://10.0.0.1:6390"}, None),
        ({"REDIS_URL": "redis://u:1/2", "REDIS_HOST": "h"}, "redis://u:1/2"),
    ],
)
def test_redis_variables_make_this_url(environ: dict[str, str], url: str | None) -> None:
    choice = redis_environment(environ)

    assert (choice.url if choice else None) == url


def test_a_redis_port_that_is_no_port_is_refused() -> None:
    with pytest.raises(ConfigError, match=r'REDIS_PORT is "http"'):
        redis_environment({"REDIS_HOST": "h", "REDIS_PORT": "http"})


def test_the_nearest_data_directory_upward_is_found(tmp_path: Path) -> None:
    inner = tmp_path / "a" / "b" / "c"
    inner.mkdir(parents=True)
    (tmp_path / ".callboard").mkdir()
    (tmp_path / "a" / ".callboard").mkdir()
    (inner / ".callboard").write_text("a file is no data directory")

    choice = resolve_engine(environ={}, cwd=inner)

    assert choice.data_dir == tmp_path / "a" / ".callboard"
    assert choice.source == f"found from {inner} upward"


def test_where_there_is_none_it_is_here_and_not_made_yet(tmp_path: Path) -> None:
    choice = resolve_engine(environ={}, cwd=tmp_path)

    assert choice.data_dir == tmp_path / ".callboard"
    assert list(tmp_path.iterdir()) == []


def test_a_found_directory_of_another_user_is_refused_unless_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    found = tmp_path / ".callboard"
    found.mkdir()
    other = os.getuid() + 1
    monkeypatch.setattr("callboard.config.os.geteuid", lambda: other)

    with pytest.raises(ConfigError, match="another user.*Give --data"):
        resolve_engine(environ={}, cwd=tmp_path)
    assert resolve_engine(data_dir=found, environ={}).data_dir == found


def test_a_relative_data_directory_is_taken_from_here(tmp_path: Path) -> None:
    choice = resolve_engine(data_dir="boards", environ={}, cwd=tmp_path)

    assert choice.data_dir == tmp_path / "boards"


@pytest.mark.parametrize(
    ("url", "message"),
    [
        ("localhost:6379", "it has no scheme.*redis://localhost:6379/0"),
        ("redi://h", "nearest is redis"),
        ("valkey://h", "nearest is redis"),
        ("valkeys://h", "nearest is rediss"),
        ("redis-sentinel://h/m", r"nearest is redis\+sentinel"),
        ("redis+clutser://h", r"nearest is redis\+cluster"),
        ("postgres://h", "nearest is redis"),
        ("redis://", "names no host"),
        ("redis://a,b", "takes one host"),
        ("redis://h:port", "not a host with an optional port"),
        ("redis://h:70000", "port 70000"),
        ("redis://h/zero", "not a database number"),
        ("redis://h/0/1", "not a database number"),
        ("redis://[::1", "not a well-formed URL"),
        ("unix://", "names no socket file"),
        ("redis+sentinel://h:26379", "name of the service"),
        ("redis+cluster://h/1", "no database but 0"),
    ],
)
def test_a_url_that_cannot_work_is_refused_with_its_fault_and_an_example(
    url: str, message: str
) -> None:
    with pytest.raises(ConfigError, match=message) as raised:
        check_url(url, "environment CALLBOARD_URL")

    assert "environment CALLBOARD_URL" in raised.value.message
    assert "Example: " in raised.value.message


@pytest.mark.parametrize(
    "url",
    [
        "redis://localhost",
        "REDIS://localhost",
        "redis://localhost:6379/0",
        "redis://:secret@[::1]:6379/3",
        "rediss://user:p%40ss@h:1/0?ssl_cert_reqs=none",
        "unix:///run/redis.sock?db=1",
        "unix://user:pw@/run/redis.sock",
        "redis+sentinel://a:26379,b:26379/mymaster",
        "rediss+sentinel://:pw@a,b/mymaster/2",
        "redis+cluster://a:7000,b:7001",
        "rediss+cluster://a/0",
    ],
)
def test_a_url_that_can_work_is_taken_as_it_is(url: str) -> None:
    assert check_url(f" {url}\n") == url


def test_where_a_coordinator_could_be_meant_its_schemes_are_named_too() -> None:
    with pytest.raises(ConfigError, match=r"https; the nearest is http. .*Example: http:"):
        resolve_engine("htp://localhost:9001", coordinators=True, environ={})
    with pytest.raises(ConfigError, match=r"none of redis, .*cluster; the nearest is redis"):
        resolve_engine("htp://localhost:9001", environ={})


def test_every_scheme_has_an_example_that_can_be_used() -> None:
    for scheme, example in config.URL_EXAMPLES.items():
        assert check_url(example).startswith(f"{scheme}://")


def test_a_password_is_in_no_message() -> None:
    url = "redis://me:hunter2@h:99999/0?sentinel_password=hunter2&x=1"

    with pytest.raises(ConfigError) as raised:
        check_url(url)

    assert "hunter2" not in raised.value.message
    assert redact_url(url) == "redis://me:***@h:99999/0?sentinel_password=***&x=1"
    assert "hunter2" not in str(resolve_engine(url.replace("99999", "1"), environ={}))


@pytest.mark.parametrize("name", ["a b", "a/b", "{a}", "é", "a" * 129, "a\n"])
def test_a_namespace_outside_the_alphabet_is_refused(name: str) -> None:
    with pytest.raises(ConfigError, match="letters"):
        check_namespace(name)


def test_callboards_own_namespace_is_nobody_elses() -> None:
    with pytest.raises(ConfigError, match="Callboard's own"):
        check_namespace("callboard-access")


def test_no_name_is_the_default_namespace() -> None:
    assert check_namespace(None) == ""
    assert check_namespace("") == ""
    assert check_namespace("Team-1_a.b") == "Team-1_a.b"


def test_brackets_behind_other_hosts_are_read_by_every_python() -> None:
    # Python's own splitter refuses them from 3.11.4 on, and in Debian's 3.11.2.
    parts = split_url("redis+sentinel://me:pw@a,b:7001,[::1]:7002/main/2?x=1#y")

    assert parts.netloc == "me:pw@a,b:7001,[::1]:7002"
    assert (parts.scheme, parts.path, parts.query) == ("redis+sentinel", "/main/2", "x=1")
    assert "pw" not in redact_url("redis+sentinel://me:pw@a,[::1]:7002/main")
