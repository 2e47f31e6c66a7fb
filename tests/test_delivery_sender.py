"""The only outgoing HTTP, against servers that behave badly."""

from __future__ import annotations

import asyncio
import contextlib
import gzip
import ssl
from collections.abc import AsyncIterator
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec

from datafly_lite.delivery.redaction import STORED_BODY_CHARACTERS, Redaction
from datafly_lite.delivery.sender import ANSWER_LIMIT_BYTES, Sender
from datafly_lite.errors import VendorUnreachable
from datafly_lite.vendors.declaration import Answer, Request
from kit import RecordingVendor, VendorAnswer, free_port

pytestmark = pytest.mark.anyio

HEAD = b"HTTP/1.1 200 OK\r\n"


@contextlib.asynccontextmanager
async def raw_server(*parts: bytes, hang: bool = False, drip_s: float = 0.0) -> AsyncIterator[str]:
    """A server that sends these bytes to each request, whatever HTTP says."""
    writers: list[asyncio.StreamWriter] = []

    async def connected(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writers.append(writer)
        with contextlib.suppress(ConnectionError, asyncio.IncompleteReadError):
            await reader.readuntil(b"\r\n\r\n")
            for part in parts:
                writer.write(part)
                await writer.drain()
                await asyncio.sleep(drip_s)
            if not hang:
                writer.close()

    server = await asyncio.start_server(connected, "127.0.0.1", 0)
    try:
        yield f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}/"
    finally:
        server.close()
        for writer in writers:
            writer.transport.abort()


def post(url: str, body: bytes = b"{}") -> Request:
    return Request("POST", url, {"content-type": "application/json"}, body)


async def sent(request: Request, timeout_s: float = 5.0) -> Answer:
    async with Sender.open((), dev=True) as sender:
        return await sender.send(request, timeout_s)


async def word(request: Request, timeout_s: float = 5.0) -> str:
    with pytest.raises(VendorUnreachable) as raised:
        await sent(request, timeout_s)
    return raised.value.word


async def test_what_goes_out_is_the_request_and_little_more(vendor: RecordingVendor) -> None:
    request = Request("PUT", f"{vendor.url}a%2Fb?c=%7e&d=%C3%A9", {"X-One": "1"}, b'{"a":1}')
    answer = await sent(request)
    received = vendor.received[0]
    assert (answer.status, received.path, received.body) == (200, "/a/b", b'{"a":1}')
    extra = {name.lower() for name in received.headers} - {"x-one"}
    assert extra == {"host", "user-agent", "accept-encoding", "content-length"}
    assert received.headers["Accept-Encoding"] == "identity"


async def test_cookies_are_not_kept_and_redirects_not_followed(vendor: RecordingVendor) -> None:
    vendor.answers = [
        VendorAnswer(302, b"", {"Location": "http://169.254.169.254/", "Set-Cookie": "a=b"}),
        VendorAnswer(),
    ]
    async with Sender.open((), dev=True) as sender:
        assert (await sender.send(post(vendor.url), 5.0)).status == 302
        assert (await sender.send(post(vendor.url), 5.0)).status == 200
    assert len(vendor.received) == 2
    assert "Cookie" not in vendor.received[1].headers


async def test_a_proxy_in_the_environment_is_not_used(
    vendor: RecordingVendor, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("http_proxy", f"http://127.0.0.1:{free_port()}")
    assert (await sent(post(vendor.url))).status == 200


async def test_an_answer_is_read_up_to_the_limit() -> None:
    chunks = [b"x" * 65_536] * 64
    async with raw_server(HEAD + b"Content-Length: 1000000000\r\n\r\n", *chunks) as url:
        answer = await sent(post(url))
    assert (answer.status, len(answer.body)) == (200, ANSWER_LIMIT_BYTES)


async def test_a_compressed_answer_is_inflated_up_to_the_limit() -> None:
    bomb = gzip.compress(b"0" * 50_000_000)
    head = HEAD + b"Content-Encoding: gzip\r\nContent-Length: %d\r\n\r\n" % len(bomb)
    async with raw_server(head, bomb) as url:
        answer = await sent(post(url))
    assert answer.body == b"0" * ANSWER_LIMIT_BYTES


@pytest.mark.parametrize("encoding", [b"gzip", b"br"])
async def test_a_damaged_or_unknown_encoding_stays_as_it_came(encoding: bytes) -> None:
    head = HEAD + b"Content-Encoding: " + encoding + b"\r\nContent-Length: 4\r\n\r\nnope"
    async with raw_server(head) as url:
        assert (await sent(post(url))).body == b"nope"


@pytest.mark.parametrize(
    ("parts", "expected"),
    [
        ((b"",), "connection_failed"),
        ((b"nonsense\r\n\r\n",), "bad_answer"),
        ((b"HTTP/1.1 999999 OK\r\n\r\n",), "bad_answer"),
        ((HEAD + b"Transfer-Encoding: chunked\r\n\r\nzz\r\n",), "bad_answer"),
        ((HEAD + b"Content-Length: 10\r\n\r\nhalf",), "bad_answer"),
    ],
)
async def test_an_answer_that_is_none(parts: tuple[bytes, ...], expected: str) -> None:
    async with raw_server(*parts) as url:
        assert await word(post(url)) == expected


@pytest.mark.parametrize(
    "parts",
    [
        (),
        (HEAD,),
        (HEAD + b"Content-Length: 10\r\n\r\n", b"half"),
        (b"HTTP/1.1 100 Continue\r\n\r\n",) * 50,
    ],
    ids=["silent", "half a head", "half a body", "flood of 1xx"],
)
async def test_one_deadline_over_all(parts: tuple[bytes, ...]) -> None:
    async with raw_server(*parts, hang=True) as url:
        assert await word(post(url), timeout_s=0.2) == "timeout"


async def test_a_drip_does_not_extend_the_deadline() -> None:
    head = HEAD + b"Content-Length: 1000\r\n\r\n"
    async with raw_server(head, *[b"x"] * 1_000, drip_s=0.02) as url:
        assert await word(post(url), timeout_s=0.3) == "timeout"


async def test_nobody_listens() -> None:
    assert await word(post(f"http://127.0.0.1:{free_port()}/")) == "connection_failed"


async def test_a_certificate_that_nobody_vouches_for(tmp_path: Path) -> None:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(self_signed(tmp_path))
    server = await asyncio.start_server(lambda _, writer: writer.close(), "127.0.0.1", 0, ssl=context)
    async with server:
        port = server.sockets[0].getsockname()[1]
        assert await word(post(f"https://127.0.0.1:{port}/")) == "tls_failed"


def self_signed(folder: Path) -> Path:
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, "127.0.0.1")])
    now = datetime.now(UTC)
    certificate = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(1)
        .not_valid_before(now - timedelta(hours=1))
        .not_valid_after(now + timedelta(hours=1))
        .sign(key, hashes.SHA256())
    )
    path = folder / "vendor.pem"
    path.write_bytes(
        key.private_bytes(
            serialization.Encoding.PEM,
            serialization.PrivateFormat.PKCS8,
            serialization.NoEncryption(),
        )
        + certificate.public_bytes(serialization.Encoding.PEM)
    )
    return path


# ── What is stored of it ─────────────────────────────────────────────────────────────────────

SECRET = 'pa"ss/wörd+1'


@pytest.mark.parametrize(
    "form",
    [
        'pa"ss/wörd+1',
        "pa%22ss%2Fw%C3%B6rd%2B1",
        "pa%22ss%2fw%c3%b6rd%2b1",
        "pa%22ss/w%C3%B6rd%2B1",
        'pa\\"ss/wörd+1',
        'pa\\"ss/w\\u00f6rd+1',
        "cGEic3Mvd8O2cmQrMQ==",
    ],
)
def test_a_secret_is_taken_out_in_each_form(form: str) -> None:
    redaction = Redaction([SECRET, "pa"])
    request = Request("POST", f"https://v.example/?x={form}", {"x-key": form}, f"[{form}]".encode())
    asked = redaction.request(request)
    answered = redaction.answer(request, Answer(400, {"x": form}, form.encode()))
    shown = [
        asked["url"],
        asked["headers"]["x-key"],
        asked["body"],
        answered["headers"]["x"],
        answered["body"],
    ]
    assert shown == ["https://v.example/?x=***", "***", "[***]", "***", "***"]


def test_credentials_that_a_vendor_echoes_are_taken_out() -> None:
    request = Request("POST", "https://v.example/?api_secret=q&a=1", {"authorization": "Basic dTpw"}, b"")
    redaction = Redaction([])
    shown = redaction.request(request)
    answer = redaction.answer(
        request, Answer(400, {"x-echo": "Basic dTpw", "set-cookie": "s=1"}, b'{"auth":"dTpw"}')
    )
    assert shown["url"] == "https://v.example/?api_secret=***&a=1"
    assert shown["headers"] == {"authorization": "***"}
    assert answer == {"headers": {"x-echo": "***", "set-cookie": "***"}, "body": '{"auth":"***"}'}


def test_what_is_stored_is_bounded_text() -> None:
    request = Request("POST", "https://v.example/", {}, b"")
    body = b"\xff\x00" + b"s3cret" * 10_000
    shown = Redaction(["s3cret"]).answer(
        request, Answer(200, {f"h{i}": "v" * 5_000 for i in range(99)}, body)
    )
    assert shown["body"].startswith("\ufffd\ufffd***")
    assert "s3cr" not in shown["body"]
    assert len(shown["body"]) < STORED_BODY_CHARACTERS + 50
    assert len(str(shown["headers"])) < 60_000
