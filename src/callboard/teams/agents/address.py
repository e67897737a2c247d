"""Which addresses an endpoint may have: those of cloud metadata give away credentials."""

from __future__ import annotations

import asyncio
import ipaddress
import socket
from typing import TYPE_CHECKING, Final

from callboard.exceptions import Fatal
from callboard.teams.agents import unusable

if TYPE_CHECKING:
    from callboard.domain.team import AgentDefinition

Address = ipaddress.IPv4Address | ipaddress.IPv6Address
Network = ipaddress.IPv4Network | ipaddress.IPv6Network

REFUSED: Final = tuple(
    map(
        ipaddress.ip_network,
        (
            "169.254.0.0/16",  # Link-local; most clouds' metadata service is in it.
            "fe80::/10",
            "fd00:ec2::254/128",  # Metadata of AWS over IPv6,
            "fd20:ce::254/128",  # of Google Cloud over IPv6,
            "100.100.100.200/32",  # of Alibaba Cloud,
            "192.0.0.192/32",  # of Oracle Cloud,
            "168.63.129.16/32",  # and of Azure.
        ),
    )
)

NAT64: Final = ipaddress.IPv6Network("64:ff9b::/96")
"""The last 32 bits of such an address are the IPv4 address that is meant (RFC 6052)."""


class Addresses:
    """The addresses of one host, refused where they are not to be connected to.

    Raises:
        AgentUnusable: The host is written as an address that is refused, or *allow* is no
            list of hosts, addresses and networks.
    """

    def __init__(self, definition: AgentDefinition, host: str, allow: tuple[str, ...]) -> None:
        self._host = host
        self._is_allowed = host.lower() in {one.lower() for one in allow}
        self._allowed = [found for one in allow if (found := _network(one)) is not None]
        literal = _literal(host)
        if literal is not None and self._is_refused(literal):
            raise unusable(definition, f"the endpoint {_reason(host, literal)}")

    async def look_up(self, port: int) -> list[str]:
        """The host's addresses in the order in which to try them.

        Raises:
            Fatal: All of them are refused.
            OSError: The name is not known.
        """
        loop = asyncio.get_running_loop()
        if _literal(self._host) is not None:
            return [self._host]
        rows = await loop.getaddrinfo(self._host, port, type=socket.SOCK_STREAM)
        found = list(dict.fromkeys(str(row[4][0]) for row in rows))
        usable = [text for text in found if not self._is_refused(ipaddress.ip_address(text))]
        if not usable:
            raise Fatal(f"The endpoint {_reason(self._host, ipaddress.ip_address(found[0]))}")
        return usable

    def _is_refused(self, address: Address) -> bool:
        if self._is_allowed:
            return False
        meant = _meant(address)
        return any(meant in network for network in REFUSED) and not any(
            meant in network for network in self._allowed
        )


def _reason(host: str, address: Address) -> str:
    also = "" if host == str(address) else f", which is {address}"
    return (
        f"{host}{also}: addresses of the own link and of cloud metadata are refused. If it is "
        f"meant, name {host} under allow."
    )


def _meant(address: Address) -> Address:
    """The IPv4 address inside an IPv6 one, where there is one."""
    if isinstance(address, ipaddress.IPv4Address):
        return address
    if address.ipv4_mapped is not None:
        return address.ipv4_mapped
    if address.sixtofour is not None:
        return address.sixtofour
    if address in NAT64:
        return ipaddress.IPv4Address(int(address) & 0xFFFFFFFF)
    return address


def _literal(host: str) -> Address | None:
    try:
        return ipaddress.ip_address(host)
    except ValueError:
        return None


def _network(text: str) -> Network | None:
    """A network or an address; None for the name of a host."""
    try:
        return ipaddress.ip_network(text, strict=False)
    except ValueError:
        return None
