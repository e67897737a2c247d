"""What a failure means: was the call run, can it be repeated, and what should the user do?"""

from __future__ import annotations

import ssl
from collections.abc import Iterator

from redis.exceptions import (
    AskError,
    AuthenticationError,
    AuthenticationWrongNumberOfArgsError,
    BusyLoadingError,
    ClusterDownError,
    MovedError,
    ReadOnlyError,
    RedisError,
    ResponseError,
    TryAgainError,
)

from callboard.exceptions import CallboardError, ConfigError, EngineUnavailable

# Another node is to be asked, rather than the same one again.
_ELSEWHERE = (MovedError, ReadOnlyError)
# MasterDownError is a ClusterDownError, MovedError an AskError.
_NOT_RUN = (AskError, BusyLoadingError, ClusterDownError, ReadOnlyError, TryAgainError)


def is_reply(error: RedisError) -> bool:
    """Tell an error that the engine sent from a failure of the connection.

    redis-py raises both from the same call, and some replies (LOADING, NOAUTH)
    as subclasses of its ConnectionError; only replies carry a status code.
    """
    return isinstance(error, ResponseError) or error.status_code is not None


def is_not_run(error: Exception) -> bool:
    """Whether this reply promises that the command had no effect and may be sent again."""
    if isinstance(error, _NOT_RUN):
        return True
    # BUSY: a script runs for too long, and everything else is refused meanwhile.
    return not isinstance(error, ResponseError) or str(error).startswith("BUSY ")


def is_elsewhere(error: Exception) -> bool:
    """Whether the reply says that another node has to be asked."""
    return isinstance(error, _ELSEWHERE)


def diagnose(error: BaseException, engine: str) -> CallboardError:
    """Turn a failed attempt to connect into an error with a cure.

    A ``ConfigError`` will not go away by itself; an ``EngineUnavailable`` may.
    redis-py wraps what happened, sometimes twice, so the causes are searched.
    """
    causes = list(_causes(error))
    for cause in causes:
        if isinstance(cause, CallboardError):
            return cause
    for cause in causes:
        verdict = _config_fault(cause, engine)
        if verdict is not None:
            return verdict
    reason = "it did not answer in time" if isinstance(error, TimeoutError) else _sentence(error)
    tls = ", and that this port speaks TLS" if engine.startswith("rediss") else ""
    return EngineUnavailable(
        f"The engine at {engine} cannot be reached: {reason}. "
        f"Check that it runs and that the URL is right{tls}. Nothing was run.",
        engine=engine,
    )


def _config_fault(cause: BaseException, engine: str) -> ConfigError | None:
    if isinstance(cause, AuthenticationError | AuthenticationWrongNumberOfArgsError):
        return ConfigError(
            f"The engine at {engine} refused the login: {cause}. "
            "Give the right user and password in the URL: redis://user:password@host:port/0.",
            engine=engine,
        )
    if isinstance(cause, ssl.SSLCertVerificationError):
        return ConfigError(
            f"The certificate of the engine at {engine} is not trusted: {cause.verify_message}. "
            "Name the authority's file in the URL with ?ssl_ca_certs=/path/ca.pem, "
            "and use the host name that the certificate is for.",
            engine=engine,
        )
    if isinstance(cause, ssl.SSLError):
        return ConfigError(
            f"No TLS connection to the engine at {engine}: {cause.reason or cause}. "
            "Check that this port speaks TLS (else use redis:// instead of rediss://), "
            "and the certificate and key if it asks for one.",
            engine=engine,
        )
    if isinstance(cause, BusyLoadingError | ClusterDownError | ReadOnlyError):
        return None
    if isinstance(cause, ResponseError):
        return ConfigError(
            f"The engine at {engine} refused the connection: {cause}. "
            "Callboard needs Redis 7.0 or Valkey 7.2 or later, and a database "
            "and user that this URL may use.",
            engine=engine,
        )
    return None


def _causes(error: BaseException | None) -> Iterator[BaseException]:
    seen: set[int] = set()
    while error is not None and id(error) not in seen:
        seen.add(id(error))
        yield error
        error = error.__cause__ or error.__context__


def _sentence(error: BaseException) -> str:
    return (str(error) or type(error).__name__).rstrip(". ")
