"""Calls to the outside: which addresses may be called, and when to call again.

Addresses of cloud metadata are refused, since they give away credentials.
"""

from __future__ import annotations

import ipaddress
import re
from collections.abc import Iterable
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from typing import Final
from urllib.parse import urlsplit

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


_UNSAFE = re.compile(r"[\x00-\x20\x7f]")


def fault_of(url: str) -> str:
    """Why a URL cannot be called, as the end of a sentence; empty where it can be."""
    if _UNSAFE.search(url):
        return "it contains spaces or control characters"
    try:
        parts = urlsplit(url)
        host, port = parts.hostname or "", parts.port
    except ValueError:
        return "its host or port is not valid"
    if parts.scheme not in ("http", "https"):
        return "it begins with neither http:// nor https://"
    if not host or "@" in parts.netloc:
        return "it must name a host, and no user"
    if port == 0:
        return "its port is 0"
    try:
        host.encode("idna")
    except UnicodeError:
        return "its host is no name"
    return ""


def without_user(url: str) -> str:
    """The URL for messages: its start, and ``***`` for a user and password in it."""
    return re.sub(r"(?s)//.*@", "//***@", url)[:200]


class AddressRules:
    """Says which addresses are refused; *allow* names hosts, addresses and networks that are not.

    A name says nothing of where it leads, so what it was looked up to is asked about, and
    exactly that is to be connected to.
    """

    def __init__(self, allow: Iterable[str] = ()) -> None:
        given = tuple(allow)
        self._hosts = {one.lower() for one in given}
        self._networks = [found for one in given if (found := _network(one)) is not None]

    def is_refused(self, host: str, address: Address) -> bool:
        """Whether *address*, which is what *host* leads to, is not to be connected to."""
        if host.lower() in self._hosts:
            return False
        meant = _meant(address)
        return any(meant in network for network in REFUSED) and not any(
            meant in network for network in self._networks
        )

    def usable(self, host: str, found: Iterable[str]) -> list[str]:
        """Of the addresses that a name was looked up to those that may be connected to."""
        return [one for one in found if not self.is_refused(host, ipaddress.ip_address(one))]


def refusal(host: str, address: Address) -> str:
    """Why an address is refused, as the end of a sentence, and what to do if it is meant."""
    also = "" if host == str(address) else f", which is {address}"
    return (
        f"{host}{also}: addresses of the own link and of cloud metadata are refused. If it is "
        f"meant, name {host} under allow."
    )


def retry_after(value: str, most: float) -> float | None:
    """Seconds to wait by a header ``Retry-After``, at most *most*; None where it is unreadable.

    It gives them as such, or as a date.
    """
    value = value.strip()
    if re.fullmatch(r"\d{1,12}(\.\d{1,9})?", value):
        seconds = float(value)
    else:
        try:
            until = parsedate_to_datetime(value)
        except (ValueError, TypeError, IndexError):
            return None
        until = until if until.tzinfo else until.replace(tzinfo=UTC)
        seconds = (until - datetime.now(UTC)).total_seconds()
    return min(max(seconds, 0.0), most)


def literal(host: str) -> Address | None:
    """The address that a host is written as; None for a name."""
    try:
        return ipaddress.ip_address(host)
    except ValueError:
        return None


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


def _network(text: str) -> Network | None:
    """A network or an address; None for the name of a host."""
    try:
        return ipaddress.ip_network(text, strict=False)
    except ValueError:
        return None
