"""The SSRF gate: what must not be called is not called, by a listener that would notice."""

from __future__ import annotations

import asyncio
import contextlib
import ipaddress
import socket
from collections.abc import AsyncIterator

import aiohttp
import pytest
from aiohttp.abc import AbstractResolver, ResolveResult
from aiohttp.resolver import ThreadedResolver

from datafly_lite.addresses import Network, check_url
from datafly_lite.delivery.gate import GateClosed, connector
from datafly_lite.delivery.sender import Sender
from datafly_lite.errors import AddressRefused, VendorUnreachable
from datafly_lite.vendors.declaration import Request

pytestmark = pytest.mark.anyio

LOOPBACK: tuple[Network, ...] = (ipaddress.ip_network("127.0.0.0/8"),)


class Listener:
    """Counts the connections that reach this machine's port, on IPv4 and IPv6."""

    def __init__(self) -> None:
        self.connections = 0
        self.port = 0

    async def connected(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.connections += 1
        await reader.readuntil(b"\r\n\r\n")
        writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\nConnection: close\r\n\r\nok")
        await writer.drain()
        writer.close()


@contextlib.asynccontextmanager
async def listening() -> AsyncIterator[Listener]:
    listener = Listener()
    with socket.create_server(("", 0), family=socket.AF_INET6, dualstack_ipv6=True) as bound:
        listener.port = bound.getsockname()[1]
        async with await asyncio.start_server(listener.connected, sock=bound):
            yield listener


class Names(AbstractResolver):
    """A resolver that says what the test wants, each time the next answer."""

    def __init__(self, *answers: list[str]) -> None:
        self.answers = list(answers)

    async def resolve(
        self, host: str, port: int = 0, family: socket.AddressFamily = socket.AF_UNSPEC
    ) -> list[ResolveResult]:
        inner = ThreadedResolver()
        addresses = self.answers.pop(0) if len(self.answers) > 1 else self.answers[0]
        return [one for address in addresses for one in await inner.resolve(address, port, socket.AF_UNSPEC)]

    async def close(self) -> None:
        pass


def post(url: str) -> Request:
    return Request("POST", url, {}, b"{}")


INSIDE = [
    "127.0.0.1",
    "127.0.0.2",
    "127.1",
    "127.0.1",
    "2130706433",
    "0x7f000001",
    "0x7f.0.0.1",
    "0177.0.0.1",
    "017700000001",
    "0",
    "0.0.0.0",
    "127.0.0.1.",
    "localhost",
    "LOCALHOST",
    "localhost.",
    "a.localhost",
    "[::1]",
    "[::]",
    "[0:0:0:0:0:0:0:1]",
    "[::ffff:127.0.0.1]",
    "[::ffff:7f00:1]",
    "[::127.0.0.1]",
    "[64:ff9b::7f00:1]",
    "[64:ff9b::127.0.0.1]",
    "[64:ff9b:1::7f00:1]",
    "[2002:7f00:1::]",
    "[2001:0:7f00:1::]",
    "[fd00::1]",
    "[fc00::1]",
    "[fe80::1]",
    "[fec0::1]",
    "[ff02::1]",
    "[2001:db8::1]",
    "[100::1]",
    "10.0.0.1",
    "172.16.0.1",
    "172.31.255.255",
    "192.168.1.1",
    "100.64.0.1",
    "100.127.255.255",
    "169.254.169.254",
    "192.0.0.1",
    "192.0.2.1",
    "198.18.0.1",
    "198.51.100.1",
    "203.0.113.1",
    "224.0.0.1",
    "239.255.255.255",
    "240.0.0.1",
    "255.255.255.255",
]


@pytest.mark.parametrize("host", INSIDE)
@pytest.mark.parametrize("scheme", ["https", "http"])
async def test_no_packet_goes_inside(host: str, scheme: str) -> None:
    async with listening() as listener, Sender.open((), dev=False) as sender:
        with pytest.raises(AddressRefused):
            await sender.send(post(f"{scheme}://{host}:{listener.port}/"), 5.0)
    assert listener.connections == 0


@pytest.mark.parametrize(
    "addresses",
    [["127.0.0.1"], ["::1"], ["127.0.0.1", "93.184.215.14"], ["93.184.215.14", "10.0.0.1"], ["fd00::1"]],
)
async def test_a_name_with_one_inside_address_is_refused(addresses: list[str]) -> None:
    async with listening() as listener, Sender.open((), dev=False, resolver=Names(addresses)) as sender:
        with pytest.raises(AddressRefused):
            await sender.send(post(f"https://vendor.example:{listener.port}/"), 5.0)
    assert listener.connections == 0


async def test_the_gate_stands_at_the_socket_too() -> None:
    """aiohttp asks no resolver for an address, so here nothing but the socket's hook can refuse."""
    async with listening() as listener:
        gated = connector((), dev=False, plain=False, limit=1)
        async with aiohttp.ClientSession(connector=gated) as session:
            with pytest.raises(aiohttp.ClientConnectorError) as raised:
                await session.post(f"http://127.0.0.1:{listener.port}/")
    assert isinstance(raised.value.os_error, GateClosed)
    assert listener.connections == 0


async def test_what_the_operator_allowed_is_reached_by_http() -> None:
    async with (
        listening() as listener,
        Sender.open(LOOPBACK, dev=False, resolver=Names(["127.0.0.1"])) as sender,
    ):
        by_address = await sender.send(post(f"http://127.0.0.1:{listener.port}/"), 5.0)
        by_name = await sender.send(post(f"http://vendor.internal:{listener.port}/"), 5.0)
    assert (by_address.status, by_name.status, listener.connections) == (200, 200, 2)


async def test_dev_mode_reaches_loopback_and_nothing_else_inside() -> None:
    async with listening() as listener, Sender.open((), dev=True) as sender:
        assert (await sender.send(post(f"http://localhost:{listener.port}/"), 5.0)).status == 200
        for url in ("http://169.254.169.254/", "https://10.0.0.1/", "http://93.184.215.14/"):
            with pytest.raises(AddressRefused):
                await sender.send(post(url), 5.0)


async def test_plain_http_stays_within_what_was_allowed_whatever_the_name_says() -> None:
    """Names are looked up only at the connection: http to a public address meets the gate there."""
    names = Names(["93.184.215.14"])
    async with Sender.open(LOOPBACK, dev=False, resolver=names) as sender:
        with pytest.raises(AddressRefused, match="http"):
            await sender.send(post("http://vendor.example/"), 5.0)


async def test_a_name_without_addresses_is_tried_again() -> None:
    class NoSuchName(Names):
        async def resolve(
            self, host: str, port: int = 0, family: socket.AddressFamily = socket.AF_UNSPEC
        ) -> list[ResolveResult]:
            raise OSError("no such name")

    async with Sender.open((), dev=False, resolver=NoSuchName([])) as sender:
        with pytest.raises(VendorUnreachable) as raised:
            await sender.send(post("https://vendor.example/"), 5.0)
    assert raised.value.word == "dns_failed"


@pytest.mark.parametrize(
    "url",
    [
        "",
        "vendor.example/x",
        "//vendor.example/x",
        "/x",
        "ftp://vendor.example/",
        "file:///etc/passwd",
        "unix:/var/run/docker.sock",
        "gopher://vendor.example/",
        "javascript:alert(1)",
        "https://",
        "https:///x",
        "https://user:secret@vendor.example/",
        "https://user@vendor.example/",
        "https://@vendor.example/",
        "https://vendor.example:22/",
        "https://vendor.example:25/",
        "https://vendor.example:0/",
        "https://vendor.example:6000/",
        "https://vendor.example:99999/",
        "https://vendor.example:port/",
        "https://vendor.example/a b",
        "https://vendor.example/\r\nX: y",
        "https://vendor.example/\t",
        "https://vendor.example\x00/",
        "https://vendor.example\\@10.0.0.1/",
        "https://vendor。example/",
        "https://vendor．example/",
        "https://①②⑦.0.0.1/",
        "https://bücher.example/",
        "http://vendor.example/",
        "http://93.184.215.14/",
    ],
)
def test_a_url_that_is_refused_at_save(url: str) -> None:
    with pytest.raises(AddressRefused):
        check_url(url, ())


@pytest.mark.parametrize(
    "url",
    [
        "https://vendor.example",
        "https://vendor.example/hooks?a=b%2Fc&d=[1]#x",
        "https://xn--bcher-kva.example:8443/",
        "https://vendor.example.:443/",
        "https://93.184.215.14/",
        "https://[2606:2800:21f:cb07:6820:80da:af6b:8b2c]/",
        "https://1.example/",
    ],
)
def test_a_url_that_may_be_saved(url: str) -> None:
    check_url(url, ())


@pytest.mark.parametrize(
    ("url", "dev", "allowed", "may"),
    [
        ("http://127.0.0.1:8085/mp/collect", True, (), True),
        ("http://localhost:8085/", True, (), True),
        ("http://127.0.0.1:8085/", False, LOOPBACK, True),
        ("http://10.0.0.1/", False, LOOPBACK, False),
        ("http://vendor.internal/", False, LOOPBACK, True),  # the connection decides
        ("http://[::ffff:127.0.0.1]/", True, (), False),
        ("https://10.0.0.1/", True, (), False),
        ("https://127.0.0.1:22/", True, (), False),
    ],
)
def test_networks_that_are_trusted(url: str, dev: bool, allowed: tuple[Network, ...], may: bool) -> None:
    with contextlib.nullcontext() if may else pytest.raises(AddressRefused):
        check_url(url, allowed, dev=dev)
