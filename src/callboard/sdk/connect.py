"""The front door: ``connect`` to an engine, or over HTTP to a coordinator."""

from __future__ import annotations

import os
from collections.abc import Callable

from callboard import app
from callboard.app import Callboard
from callboard.config import EngineChoice, check_namespace, resolve_engine
from callboard.exceptions import ConfigError

API_KEY_VARIABLE = "CALLBOARD_API_KEY"


def connect(
    url: str | None = None,
    *,
    namespace: str | None = None,
    data: str | os.PathLike[str] | None = None,
    api_key: str | None = None,
    durable: bool = False,
    adopt: bool = False,
    call_timeout: float = 10.0,
    clock: Callable[[], int | None] | None = None,
) -> Callboard:
    """Choose the engine or the coordinator; ``async with`` connects and closes.

    Args:
        url: Of an engine: ``redis://``, ``rediss://``, ``unix://``, ``redis+sentinel://``,
            ``redis+cluster://``. Of a coordinator: ``http://``, ``https://``, several with
            commas, of which the first that answers is asked. Else ``CALLBOARD_URL``; else the
            embedded engine.
        namespace: Keeps groups of agents apart; the default one has no name.
        data: Data directory of the embedded engine; else ``CALLBOARD_DATA``, else the nearest
            ``.callboard/`` from here upward, else one made here.
        api_key: Shown to the coordinator; else ``CALLBOARD_API_KEY``. An engine takes none.
        durable: The embedded engine writes to disk before it answers.
        adopt: Use a database that holds other keys and none of ours.
        call_timeout: Seconds after which a call gives up.
        clock: Moves the engine's time in tests: returns µs, or None for the engine's own.

    Raises:
        ConfigError: The URL, name or directory cannot be used.

    On opening: EngineStartFailed, EngineUnavailable, EngineUnsuitable, ForeignDatabase,
    NewerFormat.
    """
    choice = resolve_engine(url, data, coordinators=True)
    if not choice.is_coordinator:
        if api_key is not None:
            raise ConfigError(
                f"An API key was given, and {choice} is an engine, which takes none. Leave it "
                "out, or give the URL of a coordinator: http://localhost:9001"
            )
        return app.connect(
            url,
            namespace=namespace,
            data=data,
            durable=durable,
            adopt=adopt,
            call_timeout=call_timeout,
            clock=clock,
        )
    _refuse_settings_of_engines(choice, durable=durable, adopt=adopt, clock=clock is not None)
    from callboard.sdk.remote.app import RemoteCallboard

    return RemoteCallboard(
        choice,
        check_namespace(namespace),
        api_key=_key(api_key),
        call_timeout=call_timeout,
    )


def _key(given: str | None) -> str | None:
    """The API key, without the end of line that files and shells leave on it."""
    name, key = "api_key", given
    if key is None:
        name, key = API_KEY_VARIABLE, os.environ.get(API_KEY_VARIABLE)
    key = key and key.strip()
    if key and not (key.isascii() and key.isprintable() and " " not in key):
        raise ConfigError(
            f"{name} is no API key: it holds a character that none has. Give it as "
            "`callboard keys create` has shown it."
        )
    return key


def _refuse_settings_of_engines(choice: EngineChoice, **given: bool) -> None:
    named = [name for name, is_given in given.items() if is_given]
    if named:
        raise ConfigError(
            f"Only an engine can be given {' and '.join(named)}, and {choice} is a coordinator: "
            "whoever runs it decides that. Leave it out."
        )
