"""The only outgoing HTTP of the product.

TLS is always verified; no redirects, cookies, proxies or environment; one deadline over connection
and answer together; answers are read and inflated up to a limit and no further.
"""

from __future__ import annotations

import zlib
from collections.abc import AsyncIterator, Iterable, Mapping
from contextlib import asynccontextmanager
from typing import Self

import aiohttp
import yarl
from aiohttp.abc import AbstractResolver

from datafly_lite import __version__
from datafly_lite.addresses import Network, check_url
from datafly_lite.delivery.gate import GateClosed, connector
from datafly_lite.errors import AddressRefused, VendorUnreachable
from datafly_lite.vendors.declaration import Answer, Request

ANSWER_LIMIT_BYTES = 65_536
CHUNK_SIZE_BYTES = 16_384
CONNECTIONS = 256
USER_AGENT = f"datafly-lite/{__version__}"


class Sender:
    """Sends requests where the gate lets it. Open it with `Sender.open`."""

    def __init__(
        self, sessions: Mapping[str, aiohttp.ClientSession], allowed: tuple[Network, ...], *, dev: bool
    ) -> None:
        self._sessions = sessions
        self._allowed = allowed
        self._dev = dev

    @classmethod
    @asynccontextmanager
    async def open(
        cls, allowed: Iterable[Network], *, dev: bool, resolver: AbstractResolver | None = None
    ) -> AsyncIterator[Self]:
        """A sender for as long as the block runs. `resolver` is a seam for tests."""
        networks = tuple(allowed)
        # One session a scheme, because plain http has the stricter gate.
        async with (
            _session(networks, dev=dev, plain=False, resolver=resolver) as https,
            _session(networks, dev=dev, plain=True, resolver=resolver) as http,
        ):
            yield cls({"https": https, "http": http}, networks, dev=dev)

    async def send(self, request: Request, timeout_s: float) -> Answer:
        """One request and its whole answer, its body cut at ANSWER_LIMIT_BYTES.

        Raises AddressRefused before anything is sent, and VendorUnreachable where no answer came.
        """
        check_url(request.url, self._allowed, dev=self._dev)
        try:
            return await self._send(request, timeout_s)
        except aiohttp.ClientConnectorError as error:
            raise _from_connecting(error) from error
        except TimeoutError as error:
            raise VendorUnreachable("timeout", f"no whole answer within {timeout_s:g} s") from error
        except aiohttp.ClientPayloadError as error:
            raise VendorUnreachable("bad_answer", _words(error)) from error
        except (aiohttp.ClientResponseError, aiohttp.InvalidURL) as error:
            raise VendorUnreachable("bad_answer", _words(error)) from error
        except (aiohttp.ClientError, OSError) as error:
            raise VendorUnreachable("connection_failed", _words(error)) from error

    async def _send(self, request: Request, timeout_s: float) -> Answer:
        # encoded=True: what the vendor's file wrote goes out as it is, and is what the gate looked at.
        url = yarl.URL(request.url, encoded=True)
        async with self._sessions[url.scheme].request(
            request.method,
            url,
            headers=request.headers,
            data=request.body,
            timeout=aiohttp.ClientTimeout(total=timeout_s),
            allow_redirects=False,
        ) as response:
            headers = {name.lower(): _clean(value) for name, value in response.headers.items()}
            body = await _read(response, headers.get("content-encoding", ""))
            return Answer(response.status, headers, body)


def _session(
    allowed: tuple[Network, ...], *, dev: bool, plain: bool, resolver: AbstractResolver | None
) -> aiohttp.ClientSession:
    return aiohttp.ClientSession(
        connector=connector(allowed, dev=dev, plain=plain, limit=CONNECTIONS, resolver=resolver),
        cookie_jar=aiohttp.DummyCookieJar(),
        # A compressed answer is a way to fill our memory; one that comes all the same is inflated below.
        headers={"User-Agent": USER_AGENT, "Accept-Encoding": "identity"},
        skip_auto_headers=("Content-Type", "Accept"),
        auto_decompress=False,
        trust_env=False,
    )


def _clean(value: str) -> str:
    """aiohttp keeps bytes that are no UTF-8 as lone surrogates, which no JSON can hold."""
    return value.encode("utf-8", "surrogateescape").decode("utf-8", "replace")


async def _read(response: aiohttp.ClientResponse, encoding: str) -> bytes:
    """The body up to the limit; the connection is given up when there is more."""
    body = bytearray()
    async for chunk in response.content.iter_chunked(CHUNK_SIZE_BYTES):
        body += chunk
        if len(body) > ANSWER_LIMIT_BYTES:
            response.close()
            break
    return _inflated(bytes(body[:ANSWER_LIMIT_BYTES]), encoding)


def _inflated(body: bytes, encoding: str) -> bytes:
    """Undo gzip and deflate up to the limit; anything else, and what is damaged, stays as it came."""
    if encoding.strip().lower() not in ("gzip", "deflate"):
        return body
    try:
        # 32: gzip or zlib, by the header.
        return zlib.decompressobj(zlib.MAX_WBITS | 32).decompress(body, ANSWER_LIMIT_BYTES)
    except zlib.error:
        return body


def _from_connecting(error: aiohttp.ClientConnectorError) -> AddressRefused | VendorUnreachable:
    if isinstance(error.os_error, GateClosed):
        return error.os_error.refusal
    if isinstance(error, aiohttp.ClientConnectorDNSError):
        return VendorUnreachable("dns_failed", f"no address for {error.host}")
    if isinstance(error, aiohttp.ClientSSLError):
        return VendorUnreachable("tls_failed", _words(error))
    return VendorUnreachable("connection_failed", _words(error))


def _words(error: BaseException) -> str:
    return str(error) or type(error).__name__
