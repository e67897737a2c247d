"""The addresses of an agent's endpoint, by the rules for calls to the outside."""

from __future__ import annotations

import asyncio
import ipaddress
import socket
from typing import TYPE_CHECKING

from callboard.exceptions import Fatal
from callboard.outgoing import AddressRules, literal, refusal
from callboard.teams.agents import unusable

if TYPE_CHECKING:
    from callboard.domain.team import AgentDefinition


class Addresses:
    """The addresses of one host, refused where they are not to be connected to.

    Raises:
        AgentUnusable: The host is written as an address that is refused, or *allow* is no
            list of hosts, addresses and networks.
    """

    def __init__(self, definition: AgentDefinition, host: str, allow: tuple[str, ...]) -> None:
        self._host = host
        self._rules = AddressRules(allow)
        written = literal(host)
        if written is not None and self._rules.is_refused(host, written):
            raise unusable(definition, f"the endpoint {refusal(host, written)}")

    async def look_up(self, port: int) -> list[str]:
        """The host's addresses in the order in which to try them.

        Raises:
            Fatal: All of them are refused.
            OSError: The name is not known.
        """
        loop = asyncio.get_running_loop()
        if literal(self._host) is not None:
            return [self._host]
        rows = await loop.getaddrinfo(self._host, port, type=socket.SOCK_STREAM)
        found = list(dict.fromkeys(str(row[4][0]) for row in rows))
        usable = self._rules.usable(self._host, found)
        if not usable:
            raise Fatal(f"The endpoint {refusal(self._host, ipaddress.ip_address(found[0]))}")
        return usable
