"""The one table of what can be asked of a coordinator.

``http`` makes its routes and its OpenAPI document of it, ``/ws`` its frames, and the client
over HTTP its calls.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

from callboard.domain.reading import nearest
from callboard.exceptions import InvalidArgument
from callboard.operations import table
from callboard.operations.operation import Operation, Parameter, Wire
from callboard.operations.table import LOCAL

__all__ = ["LOCAL", "OPERATIONS", "Operation", "Parameter", "Wire", "find"]

OPERATIONS: Final[Mapping[str, Operation]] = {one.name: one for one in table.ALL}
"""By name: ``tasks.submit``, ``agents.register``, …"""


def find(name: str) -> Operation:
    """The operation of this name. Raises InvalidArgument with the nearest that there is."""
    found = OPERATIONS.get(name)
    if found is None:
        close = nearest(name, OPERATIONS)
        hint = f" Did you mean {close}?" if close else ""
        raise InvalidArgument(f"There is no operation {name!r}.{hint}", field="operation")
    return found
