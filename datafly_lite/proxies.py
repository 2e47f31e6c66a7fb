"""Whose address a request comes from when a proxy stands between: pure rules."""

from __future__ import annotations

import ipaddress

Networks = tuple[ipaddress.IPv4Network | ipaddress.IPv6Network, ...]

MAX_HOPS = 20


def client_address(peer: str | None, forwarded_for: str, trusted: Networks) -> str | None:
    """The peer; behind a trusted proxy, the rightmost hop of X-Forwarded-For that is no proxy of ours.

    What stands left of that hop anyone can write.
    """
    if not trusted or peer is None or not is_within(peer, trusted):
        return peer
    for hop in reversed(forwarded_for.split(",")[-MAX_HOPS:]):
        address = hop.strip()
        if not is_address(address):
            return peer
        peer = address
        if not is_within(address, trusted):
            return address
    return peer


def is_address(text: str) -> bool:
    """Whether the text is an IPv4 or IPv6 address."""
    try:
        ipaddress.ip_address(text)
    except ValueError:
        return False
    return True


def is_within(address: str, networks: Networks) -> bool:
    """Whether the address lies in one of the networks."""
    return is_address(address) and any(ipaddress.ip_address(address) in network for network in networks)
