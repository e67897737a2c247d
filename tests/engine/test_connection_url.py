"""What an engine's URL may say, what is refused, and what is never shown."""

from __future__ import annotations

from pathlib import Path

import pytest

from callboard.engine.address import address_of
from callboard.engine.connection import redact_url
from callboard.engine.locator import parse_url
from callboard.engine.wire import SSLConnection, TcpConnection
from callboard.exceptions import ConfigError


@pytest.mark.parametrize(
    ("url", "reason"),
    [
        ("", "is not a scheme"),
        ("localhost:6379", "is not a scheme"),
        ("http://localhost", "is not a scheme"),
        ("redis://localhost:port", "Port"),
        ("redis://localhost:99999", "[Pp]ort"),
        ("redis://localhost/abc", 'database "abc" is not a number'),
        ("redis://localhost?db=x", 'database "x" is not a number'),
        ("redis://a,b", "several hosts"),
        ("redis://a,/0", "host is missing"),
        ("unix://", "no path"),
        ("redis://localhost?socket_timeout=5", 'option "socket_timeout"'),
        ("redis://localhost?sentinel_password=x", 'option "sentinel_password"'),
        ("redis://localhost?ssl_ca_certs=x", "need a rediss:// scheme"),
        ("rediss://localhost?ssl_ca_certs=/no/such/file", "does not exist"),
        ("rediss://localhost?ssl_cert_reqs=maybe", "maybe"),
        ("redis+sentinel://localhost", "service name"),
        ("redis+sentinel://localhost/a/b/c", "service name"),
        ("redis+sentinel://localhost/service/x", "not a number"),
        ("redis+cluster://localhost/1", "only database 0"),
        ("redis+cluster://localhost?db=1", "only database 0"),
    ],
)
def test_unusable_url_is_refused_with_its_reason_and_an_example(url: str, reason: str) -> None:
    with pytest.raises(ConfigError, match=reason) as caught:
        address_of(url, "route")

    assert "Write it like redis://host:6379/0" in str(caught.value)


def test_unusable_url_is_shown_without_its_password() -> None:
    with pytest.raises(ConfigError) as caught:
        address_of("redis://user:s3cret@localhost/abc?password=s3cret", "route")

    assert "s3cret" not in str(caught.value)
    assert "redis://user:***@localhost/abc" in str(caught.value)


@pytest.mark.parametrize(
    ("url", "shown"),
    [
        ("redis://localhost:6379/0", "redis://localhost:6379/0"),
        ("redis://:pw@localhost", "redis://:***@localhost"),
        ("redis://user:pw@localhost/1", "redis://user:***@localhost/1"),
        ("redis://user:p@w/x@localhost/1", "redis://user:***@localhost/1"),
        ("redis://pw@localhost", "redis://:***@localhost"),
        ("unix://user:pw@/run/a.sock", "unix://user:***@/run/a.sock"),
        ("unix:///home/me@work/a.sock", "unix:///home/me@work/a.sock"),
        ("unix:///a.sock?db=1&password=pw", "unix:///a.sock?db=1&password=***"),
        (
            "redis+sentinel://u:pw@a:1,b:2/svc?sentinel_password=pw&db=1",
            "redis+sentinel://u:***@a:1,b:2/svc?sentinel_password=***&db=1",
        ),
        ("rediss://h?ssl_password=pw", "rediss://h?ssl_password=***"),
        ("u:pw@h", "***"),
    ],
)
def test_passwords_are_not_shown(url: str, shown: str) -> None:
    assert redact_url(url) == shown


def test_single_server() -> None:
    location = parse_url("redis://us%40er:p%2Fw@example:7000/3")

    assert (location.kind, location.nodes) == ("single", (("example", 7000),))
    assert location.options == {
        "connection_class": TcpConnection,
        "username": "us@er",
        "password": "p/w",
        "host": "example",
        "port": 7000,
        "db": 3,
    }


def test_defaults_are_the_local_host_and_the_usual_port() -> None:
    options = parse_url("redis://").options

    assert (options["host"], options["port"]) == ("localhost", 6379)


def test_ipv6_address() -> None:
    options = parse_url("redis://[::1]:7000/0").options

    assert (options["host"], options["port"]) == ("::1", 7000)


def test_socket_path_may_hold_any_character() -> None:
    assert parse_url("unix:///tmp/a%20b%3Fc.sock?db=2").options["path"] == "/tmp/a b?c.sock"


def test_tls_options_reach_the_connection(tmp_path: Path) -> None:
    authority = tmp_path / "ca.pem"
    authority.touch()

    options = parse_url(f"rediss://h?ssl_ca_certs={authority}&ssl_check_hostname=no").options

    assert options["connection_class"] is SSLConnection
    assert options["ssl_ca_certs"] == str(authority)
    assert options["ssl_check_hostname"] is False


def test_sentinel() -> None:
    location = parse_url(
        "redis+sentinel://user:pw@a,b:7001,[::1]:7002/my%20service/2"
        "?sentinel_username=guard&sentinel_password=key"
    )

    assert location.kind == "sentinel"
    assert location.nodes == (("a", 26379), ("b", 7001), ("::1", 7002))
    assert location.service == "my service"
    assert (location.options["username"], location.options["password"]) == ("user", "pw")
    assert location.options["db"] == 2
    assert location.sentinel_options == {
        "connection_class": TcpConnection,
        "username": "guard",
        "password": "key",
    }


def test_cluster_over_tls() -> None:
    location = parse_url("rediss+cluster://:pw@a:7000,b:7001")

    assert location.kind == "cluster"
    assert location.nodes == (("a", 7000), ("b", 7001))
    assert location.options["connection_class"] is SSLConnection
    assert location.options["password"] == "pw"
    assert "pw" not in repr(location)


def test_cluster_channel_belongs_to_the_slot_of_its_braces() -> None:
    cluster = address_of("redis+cluster://a:7000", "{team}:callboard:format")

    assert cluster.owns("{team}:bell:agent:mira/1")
    assert not cluster.owns("bell:agent:mira/1")
    assert address_of("redis://a:7000", "route").owns("anything")
