"""The SSRF gate: aiohttp hooks that see each resolved address before a packet leaves.

`socket_factory` is called by aiohttp's connector for each address that it is about to connect to,
so a name that changes between check and connect meets it too. The resolver refuses a name as soon as
one of its addresses is refused: a name that is public and private at once is an attack.
"""

from __future__ import annotations

import socket
from collections.abc import Iterable
from typing import Any

import aiohttp
from aiohttp.abc import AbstractResolver, ResolveResult
from aiohttp.resolver import ThreadedResolver

from datafly_lite.addresses import Network, check_address, check_url, trusted_networks
from datafly_lite.errors import AddressRefused

__all__ = ["GateClosed", "check_url", "connector"]

AddressInfo = tuple[Any, Any, int, str, tuple[Any, ...]]
"""As `socket.getaddrinfo` gives it: family, type, protocol, canonical name, (address, port, …)."""

KEEPALIVE_S = 4.0
"""Many servers close an idle connection after 5 s; ours goes first, so that no request meets the closing."""


class GateClosed(OSError):
    """AddressRefused in the clothes that aiohttp's connector passes on."""

    def __init__(self, refusal: AddressRefused) -> None:
        super().__init__(str(refusal))
        self.refusal = refusal


class GatedResolver(AbstractResolver):
    """Resolves with another resolver and refuses the whole name for one refused address."""

    def __init__(self, inner: AbstractResolver, trusted: tuple[Network, ...], *, plain: bool) -> None:
        self._inner = inner
        self._trusted = trusted
        self._plain = plain

    async def resolve(
        self, host: str, port: int = 0, family: socket.AddressFamily = socket.AF_UNSPEC
    ) -> list[ResolveResult]:
        """Raises GateClosed."""
        found = await self._inner.resolve(host, port, family)
        for one in found:
            _check(one["host"], self._trusted, plain=self._plain)
        return found

    async def close(self) -> None:
        """Close the inner resolver."""
        await self._inner.close()


def connector(
    allowed: Iterable[Network],
    *,
    dev: bool,
    plain: bool,
    limit: int,
    resolver: AbstractResolver | None = None,
) -> aiohttp.TCPConnector:
    """A connector that only connects where it may. `plain` is for http: trusted networks only."""
    trusted = trusted_networks(allowed, dev=dev)

    def gated_socket(info: AddressInfo) -> socket.socket:
        family, kind, protocol, _, address = info
        _check(address[0], trusted, plain=plain)
        return socket.socket(family, kind, protocol)

    return aiohttp.TCPConnector(
        socket_factory=gated_socket,
        resolver=GatedResolver(resolver or ThreadedResolver(), trusted, plain=plain),
        limit=limit,
        keepalive_timeout=KEEPALIVE_S,
    )


def _check(address: str, trusted: tuple[Network, ...], *, plain: bool) -> None:
    try:
        check_address(address, trusted, plain=plain)
    except AddressRefused as refusal:
        raise GateClosed(refusal) from None
