"""Agents that are Python functions: ``callable: "module:function"``."""

from __future__ import annotations

import asyncio
import concurrent.futures
import importlib
import inspect
import logging
import sys
import types
import typing
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import msgspec

from callboard.exceptions import Fatal
from callboard.sdk.context import TaskContext
from callboard.teams.agents import nearest, unusable
from callboard.teams.agents.threads import ended, in_own_thread
from callboard.teams.requests import PlanRequest, SynthesisRequest, WorkRequest

if TYPE_CHECKING:
    from callboard.domain.team import AgentDefinition
    from callboard.teams.agents import Invocation
    from callboard.teams.requests import Request

GRACE_SECONDS: Final = 5.0
"""How long a function in a thread may go on once its task is over."""

REQUESTS: Final = (PlanRequest, WorkRequest, SynthesisRequest)
EXAMPLE: Final = 'write it as "module:function", for example "handlers:plan"'

log = logging.getLogger("callboard.teams")


class CallableAgent:
    """Calls a function with the request, and with the task's context where it takes one.

    An ``async def`` runs on the loop. Any other function runs in a thread of its own and
    keeps its place until that has ended; it sees the end of its task in
    ``context.is_cancelled``. After five seconds without heeding it, its thread is left to
    itself, with a warning, and no longer keeps the place nor the process.

    The request comes as its annotation says: one of the structs of
    ``callboard.teams.requests`` (also where there is no annotation), ``dict``, or any type
    that can be read from the request's JSON. How many calls are under way at once is for
    the caller to limit.
    """

    def __init__(self, definition: AgentDefinition, folder: Path) -> None:
        self._name = definition.name
        self._where = _checked_path(definition)
        function = _found(definition, self._where, folder)
        if inspect.isclass(function):
            function = _instance(definition, self._where, function)
        self._function: Callable[..., Any] = function
        self._is_async = inspect.iscoroutinefunction(function) or inspect.iscoroutinefunction(
            type(function).__call__
        )
        annotation, self._context = _parameters(definition, self._where, function)
        self._converted = _converter(annotation)

    async def run(self, invocation: Invocation) -> Any:
        """Call the function.

        Raises:
            Fatal: The request cannot be read to the type that the function asks for.
        """
        context = invocation.context
        call = partial(self._function, self._given(invocation.request))
        if self._context == "":
            call = partial(call, context)
        elif self._context is not None:
            call = partial(call, **{self._context: context})
        if self._is_async:
            return await call()
        answer = await self._in_thread(call, context)
        return await answer if inspect.isawaitable(answer) else answer

    def _given(self, request: Request) -> Any:
        try:
            return self._converted(request)
        except (msgspec.ValidationError, ValueError, TypeError) as error:
            raise Fatal(
                f"The function {self._where} of agent {self._name!r} cannot be given a "
                f"{type(request).__name__}: {error}. Give the agent another part in the team, "
                "or annotate the parameter with what it is asked."
            ) from error

    async def _in_thread(self, call: Callable[[], Any], context: TaskContext) -> Any:
        future = in_own_thread(f"{self._name}:{context.id}", call)
        try:
            return await asyncio.shield(future)
        except concurrent.futures.CancelledError as error:
            # From `context.run`: the board said so to the thread before it said so here.
            if context.is_cancelled:
                raise asyncio.CancelledError from error
            raise
        except asyncio.CancelledError:
            context.is_cancelled = True  # All that the thread can see of it.
            if not await ended(future, GRACE_SECONDS):
                log.warning(
                    "The function %s of agent %r still runs %g s after the end of task %s; its "
                    "thread is left to itself. Let it look at context.is_cancelled.",
                    self._where,
                    self._name,
                    GRACE_SECONDS,
                    context.id,
                )
            raise


def _checked_path(definition: AgentDefinition) -> str:
    """The setting, if it names a module and something in it."""
    where = definition.settings
    module, _, name = where.partition(":") if isinstance(where, str) else ("", "", "")
    parts = [*module.split("."), *name.split(".")]
    if not all(part.isidentifier() for part in parts):
        raise unusable(definition, f"callable is {where!r:.100}; {EXAMPLE}.")
    return str(where)


def _found(definition: AgentDefinition, where: str, folder: Path) -> Any:
    module_name, _, path = where.partition(":")
    found: Any = _imported(definition, module_name, folder)
    for name in path.split("."):
        try:
            found = getattr(found, name)
        except AttributeError:
            public = [known for known in dir(found) if not known.startswith("_")]
            raise unusable(
                definition,
                f"there is no {path!r} in the module {module_name!r} "
                f"({getattr(found, '__file__', None) or found!r})"
                f"{nearest(name, public) or '. Define it there, or correct the name.'}",
            ) from None
    if not callable(found):
        raise unusable(
            definition, f"{where} is a {type(found).__name__}, not a function. Name a function."
        )
    return found


def _imported(definition: AgentDefinition, name: str, folder: Path) -> types.ModuleType:
    """Import a module, those in *folder* first; it stays on the path, for what it imports."""
    place = str(folder.resolve())
    if place not in sys.path:
        sys.path.insert(0, place)
    importlib.invalidate_caches()
    try:
        module = importlib.import_module(name)
    except ModuleNotFoundError as error:
        if error.name is not None and (name == error.name or name.startswith(f"{error.name}.")):
            reason = (
                f"there is no module {error.name!r}, neither in {place} nor installed here "
                f"({sys.executable}). Put it there, or correct the name."
            )
        else:
            reason = f"the module {name!r} cannot be imported: {error}. Install what it needs."
        raise unusable(definition, reason) from error
    except (Exception, SystemExit) as error:  # The module is the user's; it may do anything.
        raise unusable(
            definition,
            f"the module {name!r} cannot be imported: {type(error).__name__}: {error}. Mend it.",
        ) from error
    _check_origin(definition, module, Path(place))
    return module


def _check_origin(definition: AgentDefinition, module: types.ModuleType, folder: Path) -> None:
    """Two folders with a module of one name: a process can only have one of them."""
    first = module.__name__.partition(".")[0]
    expected = [folder / f"{first}.py", folder / first / "__init__.py"]
    loaded = getattr(sys.modules[first], "__file__", None)
    there = [path for path in expected if path.exists()]
    if there and loaded is not None and Path(loaded).resolve() not in map(Path.resolve, there):
        raise unusable(
            definition,
            f"the module {first!r} of {folder} cannot be loaded beside the one of that name from "
            f"{loaded}. Rename it, or run this team in a process of its own.",
        )


def _instance(definition: AgentDefinition, where: str, kind: type[Any]) -> Any:
    """An object of a class whose objects can be called."""
    if "__call__" not in {name for base in kind.__mro__ for name in vars(base)}:
        raise unusable(
            definition, f"{where} is a class without __call__. Name a function, or define it."
        )
    try:
        return kind()
    except Exception as error:  # The class is the user's.
        raise unusable(
            definition,
            f"the class {where} cannot be made without arguments: {type(error).__name__}: "
            f"{error}. Name an object of it, made in the module.",
        ) from error


def _parameters(
    definition: AgentDefinition, where: str, function: Callable[..., Any]
) -> tuple[Any, str | None]:
    """The request's annotation, and how the context is given.

    None: not at all; the empty text: after the request; else by that name.
    """
    if inspect.isgeneratorfunction(function) or inspect.isasyncgenfunction(function):
        raise unusable(definition, f"{where} yields; let it return its answer instead.")
    try:
        parameters = list(inspect.signature(function).parameters.values())
    except (ValueError, TypeError):  # Some functions written in C do not say what they take.
        return Any, None
    positional = [p for p in parameters if p.kind in (p.POSITIONAL_ONLY, p.POSITIONAL_OR_KEYWORD)]
    others = [*positional[1:], *(p for p in parameters if p.kind is p.KEYWORD_ONLY)]
    second = [p for p in positional[1:2] if p.default is p.empty]
    context = next(iter([p for p in others if _is_context(p)] or second), None)
    lacking = [p for p in others if p is not context and p.default is p.empty]
    takes_any = any(p.kind is p.VAR_POSITIONAL for p in parameters)
    if lacking or not (positional or takes_any) or any(map(_is_context, positional[:1])):
        given = ", ".join(p.name for p in parameters)
        raise unusable(
            definition,
            f"{where} takes ({given}); an agent's function takes a request and, if it wants, "
            "the task's context: def work(request, context).",
        )
    annotation = _annotation(definition, where, function, positional[0]) if positional else Any
    if context is None:
        return annotation, None
    return annotation, "" if context in positional[1:2] else context.name


def _is_context(parameter: inspect.Parameter) -> bool:
    return parameter.name in ("ctx", "context") or parameter.annotation in (
        TaskContext,
        "TaskContext",
    )


def _annotation(
    definition: AgentDefinition,
    where: str,
    function: Any,
    parameter: inspect.Parameter,
) -> Any:
    """What the request's parameter is annotated with, also where that is written as text."""
    written = parameter.annotation
    if written is inspect.Parameter.empty or written is None:
        return Any
    if not isinstance(written, str):
        return written
    plain = inspect.unwrap(getattr(function, "func", function))
    names = getattr(plain, "__globals__", None)
    if names is None:
        names = getattr(type(plain).__call__, "__globals__", {})
    holder = types.SimpleNamespace(__annotations__={"it": written})
    try:
        return typing.get_type_hints(holder, names)["it"]
    except (NameError, TypeError, SyntaxError, AttributeError) as error:
        raise unusable(
            definition,
            f"the type of {parameter.name!r} in {where}, {written!r}, cannot be found ({error}). "
            "Import it at the top of the module, not only for type checkers.",
        ) from error


def _converter(annotation: Any) -> Callable[[Request], Any]:
    """How a request becomes what the function asks for."""
    is_union = typing.get_origin(annotation) in (typing.Union, types.UnionType)
    members = set(typing.get_args(annotation)) if is_union else {annotation}
    if annotation is Any or annotation is object or set(REQUESTS) <= members:
        return lambda request: request
    if members <= set(REQUESTS):
        return lambda request: _one_of(request, members)
    if annotation is dict or typing.get_origin(annotation) is dict:
        return msgspec.to_builtins
    validate = getattr(annotation, "model_validate", None)
    if validate is not None:
        return lambda request: validate(msgspec.to_builtins(request))
    return lambda request: msgspec.convert(msgspec.to_builtins(request), annotation)


def _one_of(request: Request, wanted: set[Any]) -> Request:
    if type(request) in wanted:
        return request
    names = " or ".join(sorted(kind.__name__ for kind in wanted))
    raise TypeError(f"it takes a {names}")
