"""Which engine a process uses, and where that was decided.

A leaf: it reads arguments, the environment and folder names, and writes nothing.
"""

from __future__ import annotations

import difflib
import os
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import SplitResult, quote, unquote, urlsplit, urlunsplit

from callboard.exceptions import ConfigError

DATA_DIR_NAME = ".callboard"

ACCESS_NAMESPACE = "callboard-access"
"""Where API keys and the audit log are, for all namespaces of an engine."""

RESERVED_NAMESPACES = frozenset({ACCESS_NAMESPACE})
"""Callboard's own: nobody connects to them."""

URL_EXAMPLES: Mapping[str, str] = {
    "redis": "redis://localhost:6379/0",
    "rediss": "rediss://user:password@redis.example.com:6380/0",
    "unix": "unix:///run/redis/redis.sock?db=0",
    "redis+sentinel": "redis+sentinel://sentinel-1:26379,sentinel-2:26379/mymaster/0",
    "rediss+sentinel": "rediss+sentinel://sentinel-1:26379,sentinel-2:26379/mymaster/0",
    "redis+cluster": "redis+cluster://node-1:6379,node-2:6379",
    "rediss+cluster": "rediss+cluster://node-1:6380,node-2:6380",
}
"""Each URL scheme of an engine, with an example for error messages."""

COORDINATOR_EXAMPLES: Mapping[str, str] = {
    "http": "http://localhost:9001",
    "https": "https://callboard.example.com",
}
"""The schemes of coordinators, which clients may use in place of an engine."""

# What people write for these schemes elsewhere. The spelling alone would suggest nothing, or
# the wrong one.
_SCHEMES_ELSEWHERE: Mapping[str, str] = {
    "valkey": "redis",
    "valkeys": "rediss",
    "tcp": "redis",
    "tls": "rediss",
    "redis+unix": "unix",
    "unix+redis": "unix",
    "sentinel": "redis+sentinel",
    "cluster": "redis+cluster",
}
_NAME = re.compile(r"[A-Za-z0-9._-]{1,128}")
_HOST = re.compile(r"(?P<name>\[[0-9A-Fa-f:.%]+\]|[^\[\]:]+)(?::(?P<port>[0-9]+))?")


@dataclass(frozen=True, slots=True)
class EngineChoice:
    """One engine: the address of a server, or the data directory of an embedded one.

    For clients also a coordinator's address. Exactly one of *url* and *data_dir* is set.
    *source* says in words where the choice came from, for ``doctor`` and for error messages.
    """

    url: str | None
    data_dir: Path | None
    source: str

    @property
    def is_embedded(self) -> bool:
        """True if the engine is run by us, in *data_dir*."""
        return self.data_dir is not None

    @property
    def is_coordinator(self) -> bool:
        """True if it is not an engine but a coordinator, to be asked over HTTP."""
        return self.url is not None and is_coordinator(self.url)

    def __str__(self) -> str:
        place = f"embedded in {self.data_dir}" if self.url is None else redact_url(self.url)
        return f"{place} ({self.source})"


def resolve_engine(
    url: str | None = None,
    data_dir: str | os.PathLike[str] | None = None,
    *,
    honour_redis_env: bool = False,
    coordinators: bool = False,
    environ: Mapping[str, str] | None = None,
    cwd: str | os.PathLike[str] | None = None,
) -> EngineChoice:
    """Choose the engine, and say where the choice came from; nothing is made or written.

    The first of these that is given wins: the arguments *url* or *data_dir*,
    ``CALLBOARD_URL``, ``CALLBOARD_DATA``, with *honour_redis_env* also
    ``REDIS_URL`` and then ``REDIS_HOST`` with ``REDIS_PORT`` and
    ``REDIS_PASSWORD``, the nearest ``.callboard`` folder from *cwd* upward, and
    at last a new one in *cwd*. An empty variable counts as not set. With *coordinators* the
    URL may be that of a coordinator, as clients take it.

    Raises:
        ConfigError: Both arguments were given, the URL cannot be used, or the
            folder that was found belongs to another user.
    """
    env = os.environ if environ is None else environ
    if url is not None and data_dir is not None:
        raise ConfigError(
            "Both a URL and a data directory were given. Give one: a URL for a server that "
            "runs already, a data directory for an embedded engine."
        )
    if url is not None:
        return _server(url, "argument --url", coordinators)
    if data_dir is not None:
        return _embedded(data_dir, "argument --data", cwd)
    if env.get("CALLBOARD_URL"):
        return _server(env["CALLBOARD_URL"], "environment CALLBOARD_URL", coordinators)
    if env.get("CALLBOARD_DATA"):
        return _embedded(env["CALLBOARD_DATA"], "environment CALLBOARD_DATA", cwd)
    if honour_redis_env and (choice := redis_environment(env)) is not None:
        return choice
    return _nearest_data_dir(cwd)


def redis_environment(environ: Mapping[str, str] | None = None) -> EngineChoice | None:
    """The engine that ``REDIS_URL``, else ``REDIS_HOST`` and its companions, name, if any.

    ``REDIS_PORT`` defaults to 6379, and with it alone the host is ``localhost``.
    Kubernetes sets ``REDIS_PORT=tcp://10.0.0.1:6379`` for any service called
    *redis*: of such a value the port is taken where ``REDIS_HOST`` is set, and
    it is ignored elsewhere.

    Raises:
        ConfigError: The URL or the port cannot be used.
    """
    env = os.environ if environ is None else environ
    if env.get("REDIS_URL"):
        return _server(env["REDIS_URL"], "environment REDIS_URL")
    host, port = env.get("REDIS_HOST", ""), env.get("REDIS_PORT", "")
    if port.startswith("tcp://"):
        port = port.rpartition(":")[2] if host else ""
    if not host and not port:
        return None
    if not _is_port(port or "6379"):
        raise ConfigError(f'REDIS_PORT is "{port}". Set it to a number from 1 to 65535.')
    password = env.get("REDIS_PASSWORD", "")
    credentials = f":{quote(password, safe='')}@" if password else ""
    host = f"[{host}]" if ":" in host and not host.startswith("[") else host or "localhost"
    source = "environment " + ("REDIS_HOST" if env.get("REDIS_HOST") else "REDIS_PORT")
    return _server(f"redis://{credentials}{host}:{port or '6379'}/0", source)


def check_url(url: str, source: str = "the URL", *, coordinators: bool = False) -> str:
    """Return *url* without surrounding space if an engine could be reached by it.

    Only its form is checked: scheme, hosts, ports, database number, the socket's
    path, the name of the Sentinel service. *source* names it in the message, and
    with *coordinators* it says that their schemes could have been meant too.

    Raises:
        ConfigError: With the nearest scheme that exists and an example. No
            password is ever part of the message.
    """
    url = url.strip()
    scheme, separator, _ = url.partition("://")
    scheme = scheme.lower()
    if not separator:
        raise _unusable(url, source, "it has no scheme", "redis")
    if scheme in COORDINATOR_EXAMPLES:
        raise _unusable(
            url,
            source,
            "it is the address of a coordinator, and this needs the engine itself",
            "redis" if scheme == "http" else "rediss",
        )
    if scheme not in URL_EXAMPLES:
        schemes = (*URL_EXAMPLES, *(COORDINATOR_EXAMPLES if coordinators else ()))
        nearest = _nearest_scheme(scheme, schemes)
        known = ", ".join(schemes)
        raise _unusable(
            url,
            source,
            f'its scheme "{scheme}" is none of {known}; the nearest is {nearest}',
            nearest,
        )
    fault = _fault_of(url, scheme)
    if fault is not None:
        raise _unusable(url, source, fault, scheme)
    return url


def is_coordinator(url: str) -> bool:
    """Whether a URL is meant for a coordinator, by its scheme."""
    return url.strip().partition("://")[0].lower() in COORDINATOR_EXAMPLES


def check_coordinators(url: str, source: str = "the URL") -> tuple[str, ...]:
    """The addresses of the coordinators that a URL names, one or several with commas.

    Each may have a path, behind which a proxy serves it.

    Raises:
        ConfigError: With what is wrong and an example. No password is part of the message.
    """
    scheme = url.strip().partition("://")[0].lower()
    example = scheme if scheme in COORDINATOR_EXAMPLES else "http"
    found: list[str] = []
    for part in (one.strip() for one in url.split(",")):
        written = part if "://" in part else f"{scheme}://{part}"
        fault = _fault_of_coordinator(written)
        if fault is not None:
            raise _unusable(written, source, fault, example)
        found.append(written.rstrip("/"))
    return tuple(dict.fromkeys(found))


def _fault_of_coordinator(url: str) -> str | None:
    try:
        parts = urlsplit(url)
    except ValueError:
        return "it is not a well-formed URL"
    if parts.scheme.lower() not in COORDINATOR_EXAMPLES:
        return f'its scheme "{parts.scheme}" is not http or https'
    if "@" in parts.netloc:
        return "it has a user; an API key goes into CALLBOARD_API_KEY"
    if parts.query or parts.fragment:
        return "it has a query or a fragment"
    if re.search(r"[\x00-\x20\x7f]", url):
        return "it contains spaces or control characters"
    return _fault_of_host(parts.netloc)


def split_url(url: str) -> SplitResult:
    """The parts of a URL with any number of hosts.

    Newer releases of Python's own splitter refuse brackets behind other hosts, so the hosts
    are split off before; each is read by itself later.
    """
    scheme, mark, rest = url.partition("://")
    hosts = re.split("[/?#]", rest, maxsplit=1)[0]
    if not mark or "," not in hosts:
        return urlsplit(url)
    return urlsplit(f"{scheme}://{rest[len(hosts) :]}")._replace(netloc=hosts)


def redact_url(url: str) -> str:
    """The URL with its password replaced by ``***``, for messages and logs."""
    try:
        parts = split_url(url)
    except ValueError:
        return f"{url.partition('://')[0]}://…"
    credentials, at, hosts = parts.netloc.rpartition("@")
    user, colon, _ = credentials.partition(":")
    netloc = f"{user}:***@{hosts}" if colon else f"{credentials}{at}{hosts}"
    query = re.sub(r"(?i)((?:^|&)[^=&]*password=)[^&]*", r"\1***", parts.query)
    return urlunsplit(parts._replace(netloc=netloc, query=query))


def check_namespace(name: str | None) -> str:
    """Return the namespace's name, ``""`` for the default one.

    Raises:
        ConfigError: The name is not 1 to 128 letters, digits, ``.``, ``_`` and ``-``, or is
            one of Callboard's own.
    """
    if not name:
        return ""
    if _NAME.fullmatch(name) is None:
        raise ConfigError(
            f"Namespace {name[:140]!r} cannot be used. "
            "Take 1 to 128 of the letters A-Z and a-z, digits, dot, underscore and hyphen.",
            namespace=name[:140],
        )
    if name in RESERVED_NAMESPACES:
        raise ConfigError(
            f"Namespace {name!r} is Callboard's own: API keys and the audit log are in it. "
            "Take another name.",
            namespace=name,
        )
    return name


def _server(url: str, source: str, coordinators: bool = False) -> EngineChoice:
    if coordinators and is_coordinator(url):
        return EngineChoice(",".join(check_coordinators(url, source)), None, source)
    return EngineChoice(check_url(url, source, coordinators=coordinators), None, source)


def _embedded(
    data_dir: str | os.PathLike[str], source: str, cwd: str | os.PathLike[str] | None
) -> EngineChoice:
    if not os.fspath(data_dir):
        raise ConfigError(f"The data directory ({source}) is an empty name. Give a folder.")
    path = Path(data_dir).expanduser()
    return EngineChoice(None, path if path.is_absolute() else _here(cwd) / path, source)


def _nearest_data_dir(cwd: str | os.PathLike[str] | None) -> EngineChoice:
    here = _here(cwd)
    for folder in (here, *here.parents):
        found = folder / DATA_DIR_NAME
        if found.is_dir():
            _refuse_other_users(found)
            return EngineChoice(None, found, f"found from {here} upward")
    return EngineChoice(None, here / DATA_DIR_NAME, f"no {DATA_DIR_NAME} from {here} upward")


def _refuse_other_users(found: Path) -> None:
    # In a shared place such as /tmp anyone could put a folder that others would then trust.
    owner = found.stat().st_uid
    if owner != os.geteuid():
        raise ConfigError(
            f"{found} belongs to another user (uid {owner}). "
            f"Give --data {found} to use it all the same, or --data with a folder of your own.",
            data_dir=str(found),
        )


def _here(cwd: str | os.PathLike[str] | None) -> Path:
    try:
        return Path.cwd() if cwd is None else Path(cwd).absolute()
    except FileNotFoundError as error:
        raise ConfigError(
            "The current folder no longer exists. Change to another, or give --data or --url."
        ) from error


def _nearest_scheme(scheme: str, schemes: Sequence[str]) -> str:
    if scheme in _SCHEMES_ELSEWHERE:
        return _SCHEMES_ELSEWHERE[scheme]
    close = difflib.get_close_matches(scheme, schemes, n=1, cutoff=0.5)
    return close[0] if close else "redis"


def _unusable(url: str, source: str, fault: str, scheme: str) -> ConfigError:
    shown = redact_url(url) if "://" in url else "the value"
    example = URL_EXAMPLES.get(scheme) or COORDINATOR_EXAMPLES[scheme]
    return ConfigError(
        f"Cannot use {shown} ({source}): {fault}. Example: {example}",
        scheme=scheme,
    )


def _fault_of(url: str, scheme: str) -> str | None:
    try:
        parts = split_url(url)
    except ValueError:
        return "it is not a well-formed URL"
    if scheme == "unix":
        return None if parts.path.strip("/") else "it names no socket file"
    hosts = parts.netloc.rpartition("@")[2].split(",")
    if len(hosts) > 1 and scheme in ("redis", "rediss"):
        return f"{scheme} takes one host"
    for host in hosts:
        fault = _fault_of_host(host)
        if fault is not None:
            return fault
    return _fault_of_path([unquote(part) for part in parts.path.split("/") if part], scheme)


def _fault_of_host(host: str) -> str | None:
    match = _HOST.fullmatch(host)
    if match is None:
        return f'"{host}" is not a host with an optional port' if host else "it names no host"
    if match["port"] is not None and not _is_port(match["port"]):
        return f"port {match['port']} is not from 1 to 65535"
    return None


def _fault_of_path(parts: list[str], scheme: str) -> str | None:
    if scheme.endswith("+sentinel"):
        if not parts:
            return "it lacks the name of the service that the Sentinels watch"
        parts = parts[1:]
    if len(parts) > 1 or (parts and not parts[0].isdecimal()):
        return f'"{"/".join(parts)}" is not a database number'
    if parts and int(parts[0]) != 0 and scheme.endswith("+cluster"):
        return "a cluster has no database but 0"
    return None


def _is_port(text: str) -> bool:
    return text.isascii() and text.isdecimal() and 1 <= int(text) <= 65535
