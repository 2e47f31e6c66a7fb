"""Which addresses the product may call on its users' behalf (SSRF policy): pure rules, no network.

An address must be public, or inside a network that the operator allowed; in dev mode the loopback
is allowed too. Plain http goes to those trusted networks only. `ipaddress.is_global` is no help: it
is True for 2002::/16, 64:ff9b::/96, ::a.b.c.d and multicast (reliability.md, 92), so the public
space is spelled out from the IANA special-purpose registries.
"""

from __future__ import annotations

import ipaddress
import re
from collections.abc import Iterable

import yarl

from datafly_lite.errors import AddressRefused

Address = ipaddress.IPv4Address | ipaddress.IPv6Address
Network = ipaddress.IPv4Network | ipaddress.IPv6Network

LOOPBACK: tuple[Network, ...] = (ipaddress.ip_network("127.0.0.0/8"), ipaddress.ip_network("::1/128"))

SPECIAL_IPV4 = tuple(
    ipaddress.IPv4Network(network)
    for network in (
        "0.0.0.0/8",
        "10.0.0.0/8",
        "100.64.0.0/10",
        "127.0.0.0/8",
        "169.254.0.0/16",
        "172.16.0.0/12",
        "192.0.0.0/24",
        "192.0.2.0/24",
        "192.88.99.0/24",
        "192.168.0.0/16",
        "198.18.0.0/15",
        "198.51.100.0/24",
        "203.0.113.0/24",
        "224.0.0.0/3",  # multicast, reserved, broadcast
    )
)
GLOBAL_IPV6 = ipaddress.IPv6Network("2000::/3")
"""All of the global unicast space; whatever lies outside is special."""

SPECIAL_IPV6 = tuple(
    ipaddress.IPv6Network(network) for network in ("2001::/23", "2001:db8::/32", "2002::/16", "3fff::/20")
)

REFUSED_PORTS = frozenset(
    {1719, 1720, 1723, 2049, 3659, 4045, 4190, 5060, 5061, 6000, 6566, 6679, 6697, 10080, *range(6665, 6670)}
)
"""Above 1023, what the Fetch standard blocks (fetch.spec.whatwg.org/#port-blocking)."""

PRINTABLE = re.compile(r"[!-~]+")
NUMERIC_LABEL = re.compile(r"(0[xX][0-9a-fA-F]*|[0-9]+)")


def is_public(address: Address) -> bool:
    """Whether the address is one of the open internet."""
    if isinstance(address, ipaddress.IPv4Address):
        return not any(address in network for network in SPECIAL_IPV4)
    return address in GLOBAL_IPV6 and not any(address in network for network in SPECIAL_IPV6)


def trusted_networks(allowed: Iterable[Network], *, dev: bool) -> tuple[Network, ...]:
    """Where deliveries may go by plain http and though not public."""
    return (*allowed, *(LOOPBACK if dev else ()))


def check_address(text: str, trusted: Iterable[Network], *, plain: bool) -> None:
    """Raise AddressRefused unless a connection may be made to this IP address. `plain` is http."""
    try:
        address = ipaddress.ip_address(text)
    except ValueError:
        raise AddressRefused(f"{text} is not an IP address") from None
    if any(address in network for network in trusted):
        return
    if plain:
        raise AddressRefused(
            f"http to {address} is refused: use https, or let the operator allow its network"
        )
    if not is_public(address):
        raise AddressRefused(f"{address} is not a public address")


def check_url(text: str, allowed: Iterable[Network], *, dev: bool = False) -> None:
    """Raise AddressRefused, with what to do instead, where the URL could never be called.

    It looks nothing up: the address behind a name is checked when the connection is made.
    """
    url = _parsed(text)
    if url.scheme not in ("https", "http"):
        raise AddressRefused("the URL must begin with https://")
    if url.user is not None or url.password is not None or "@" in url.raw_authority:
        raise AddressRefused("the URL must not hold credentials; use the authentication setting")
    trusted = trusted_networks(allowed, dev=dev)
    if url.scheme == "http" and not trusted:
        raise AddressRefused("the URL must begin with https://")
    _check_port(url.port)
    _check_host(url.raw_host or "", trusted, plain=url.scheme == "http")


def _parsed(text: str) -> yarl.URL:
    # ASCII only: a look-alike dot or an international name is for the user to write as punycode.
    if not PRINTABLE.fullmatch(text) or "\\" in text:
        raise AddressRefused("the URL must be printable ASCII without spaces or backslashes")
    try:
        url = yarl.URL(text, encoded=True)
        known = url.port is not None or url.scheme not in ("http", "https")
    except ValueError:
        raise AddressRefused("this is not a URL") from None
    if not url.raw_host or not known:
        raise AddressRefused("the URL must be absolute, such as https://example.com/path")
    return url


def _check_port(port: int | None) -> None:
    if port is None or (port < 1024 and port not in (80, 443)) or port in REFUSED_PORTS:
        raise AddressRefused(f"port {port} is not one for HTTP")


def _check_host(host: str, trusted: tuple[Network, ...], *, plain: bool) -> None:
    name = host.rstrip(".").rpartition(".")[2]
    if ":" in host or NUMERIC_LABEL.fullmatch(name):
        # Resolvers read 127.1, 2130706433 and 0x7f000001 as addresses too; only the full form passes.
        check_address(host, trusted, plain=plain)
    elif name.lower() == "localhost":
        check_address("127.0.0.1", trusted, plain=plain)
