"""From bytes on the wire to values: inflate, bound, decode, repair.

msgspec refuses bad input with three exceptions, DecodeError, UnicodeDecodeError and RecursionError
(reliability.md, JSON facts); all three become a refusal here and nowhere else.
"""

from __future__ import annotations

import asyncio
import re
import zlib
from collections.abc import Awaitable, Callable, Mapping, MutableMapping
from typing import Any, TypeVar

import msgspec

from datafly_lite.errors import Refused

T = TypeVar("T")
Receive = Callable[[], Awaitable[MutableMapping[str, Any]]]
"""ASGI's."""

GZIP_MAGIC = b"\x1f\x8b"
DRAINED_BYTES = 1_048_576
"""So much of a body that is too large is read and thrown away: a client that is cut off while it still
writes sees a broken connection instead of the 413, and sends it all again."""
MAX_GZIP_MEMBERS = 16
"""One after the other they are one file (RFC 1952, 2.2); each costs a copy of what follows it."""
UTF8_BOM = b"\xef\xbb\xbf"
SURROGATE = re.compile(rb"\\u[dD][89a-fA-F][0-9a-fA-F]{2}")
UP_TO_LONE = re.compile(
    rb"((?:[^\\]++|\\[^u]|\\u[dD][89abAB][0-9a-fA-F]{2}\\u[dD][c-fC-F][0-9a-fA-F]{2}"
    rb"|\\u(?![dD][89a-fA-F][0-9a-fA-F]{2})|\\\Z)*+)(\\u[dD][89a-fA-F][0-9a-fA-F]{2}|\Z)",
    re.DOTALL,
)
"""All up to half a surrogate pair that stands alone, or up to the end: one match for each, however long."""
MOST_MENDED = 10_000
# Possessive, and content with a string that never ends: else each quote would be scanned to the end again.
STRINGS = re.compile(rb'"(?:[^"\\]++|\\.)*+(?:"|\\?\Z)', re.DOTALL)
NO_BRACKETS = bytes(set(range(256)) - set(b"[]{}"))
CURLY_AS_SQUARE = bytes.maketrans(b"{}", b"[]")
REPLACEMENT = rb"\ufffd"
KNOWN_ENCODINGS = (b"", b"identity", b"gzip", b"x-gzip")
decode_nothing = msgspec.json.Decoder(msgspec.Raw).decode


async def receive(
    headers: Mapping[bytes, bytes], receive: Receive, limit_bytes: int, timeout_s: float
) -> bytes:
    """The body as it was sent, read not much further than the limit and no longer than the deadline."""
    length = headers.get(b"content-length", b"")
    declared = int(length) if length.isdigit() else None
    most_bytes = limit_bytes + DRAINED_BYTES
    if declared is not None and declared > most_bytes:
        raise too_large(limit_bytes)
    chunks: list[bytes] = []
    size_bytes, is_whole = 0, False
    try:
        async with asyncio.timeout(timeout_s):
            while not is_whole:
                message = await receive()
                if message["type"] != "http.request":
                    raise Refused("invalid_json", "the connection was closed before the body's end")
                chunk = message.get("body", b"")
                size_bytes += len(chunk)
                if size_bytes <= limit_bytes:
                    chunks.append(chunk)
                elif size_bytes > most_bytes:
                    break
                # Hypercorn says only with a further, empty message that the body is whole.
                is_whole = size_bytes == declared or not message.get("more_body", False)
    except TimeoutError:
        if size_bytes <= limit_bytes:
            raise Refused("request_timeout", f"the body did not arrive within {timeout_s:g} s") from None
    if size_bytes > limit_bytes:
        raise too_large(limit_bytes)
    return chunks[0] if len(chunks) == 1 else b"".join(chunks)


def inflate(body: bytes, limit_bytes: int) -> bytes:
    """Gunzip what starts as gzip does, whatever the headers say; never hold more than the limit."""
    if not body.startswith(GZIP_MAGIC):
        return body
    plain = b""
    for _ in range(MAX_GZIP_MEMBERS):
        part, body = _inflate_member(body, limit_bytes - len(plain))
        plain += part
        if len(plain) > limit_bytes:
            raise too_large(limit_bytes)
        if not body:
            return plain
    raise Refused("invalid_json", f"the gzip body has more than {MAX_GZIP_MEMBERS} members")


def _inflate_member(body: bytes, room_bytes: int) -> tuple[bytes, bytes]:
    """What the first member holds, as far as there is room and one byte more, and what follows it."""
    stream = zlib.decompressobj(wbits=31)
    try:
        plain = stream.decompress(body, room_bytes + 1)
    except zlib.error as error:
        raise Refused("invalid_json", f"the body starts like gzip but cannot be inflated: {error}") from None
    if not stream.eof and len(plain) <= room_bytes:
        raise Refused("invalid_json", "the gzip body is cut off before its end")
    return plain, stream.unused_data


def explained(refused: Refused, headers: Mapping[bytes, bytes]) -> Refused:
    """With the Content-Encoding named, where that is why the body is no JSON."""
    encoding = headers.get(b"content-encoding", b"").strip().lower()[:40]
    if refused.code != "invalid_json" or encoding in KNOWN_ENCODINGS:
        return refused
    named = f"Content-Encoding {encoding.decode('latin-1')} is not taken, only gzip is"
    return Refused(refused.code, f"{refused.message}; {named}")


def too_large(limit_bytes: int) -> Refused:
    """The refusal of a body beyond its limit."""
    return Refused(
        "body_too_large", f"the body is larger than {limit_bytes:,} bytes inflated: send fewer events"
    )


def decode(decoder: Callable[[bytes], T], body: bytes, max_depth: int | None) -> tuple[T, bool]:
    """The value, and whether lone surrogates had to be replaced by U+FFFD first.

    A title cut inside an emoji makes the decoder refuse the whole body, so that is mended and tried
    once more. `max_depth` None leaves the depth to who decodes the parts. Raises Refused
    `invalid_json` or `invalid_payload`.
    """
    body = body.removeprefix(UTF8_BOM)
    if max_depth is not None:
        _check_depth(body, max_depth)
    try:
        return _decode(decoder, body), False
    except Refused:
        if not SURROGATE.search(body):
            raise
    return _decode(decoder, mend_surrogates(body)), True


def _decode(decoder: Callable[[bytes], T], body: bytes) -> T:
    try:
        return decoder(body)
    except msgspec.ValidationError as error:
        _check_syntax(body)
        raise Refused("invalid_payload", str(error)) from None
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        raise Refused("invalid_json", f"the body is not JSON: {error}") from None
    except RecursionError:
        raise Refused("invalid_json", "the body is nested too deeply") from None


def _check_syntax(body: bytes) -> None:
    """A decoder stops at the first value of a wrong type, and what follows may be no JSON at all."""
    try:
        decode_nothing(body)
        body.decode()
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        raise Refused("invalid_json", f"the body is not JSON: {error}") from None


def mend_surrogates(body: bytes) -> bytes:
    """Replace each half of a surrogate pair that stands alone in an escape."""
    mended = 0

    def joined(found: re.Match[bytes]) -> bytes:
        nonlocal mended
        mended += 1
        if mended > MOST_MENDED:
            raise Refused("invalid_json", f"more than {MOST_MENDED:,} halves of surrogate pairs stand alone")
        return found[1] + (REPLACEMENT if found[2] else b"")

    return UP_TO_LONE.sub(joined, body)


def check_size(size_bytes: int, limit_bytes: int) -> None:
    """Before an event is decoded: what is too large anyway must not cost more than to be weighed."""
    if size_bytes > limit_bytes:
        raise Refused("event_too_large", f"the event has {size_bytes:,} bytes, {limit_bytes:,} are taken")


def _check_depth(body: bytes, max_depth: int) -> None:
    """Refuse deep nesting without recursion: what decodes at 990 levels breaks any recursion after it.

    Each round takes the innermost brackets away, in C: a loop over them would let a few kilobytes of
    gzip hold up everybody for seconds.
    """
    if body.count(b"{") + body.count(b"[") <= max_depth:
        return
    left = STRINGS.sub(b"", body).translate(CURLY_AS_SQUARE, NO_BRACKETS)
    for _ in range(max_depth):
        left = left.replace(b"[]", b"")
        if not left:
            return
    raise Refused(
        "invalid_json", f"the body is nested deeper than {max_depth} levels, or its brackets are odd"
    )


def text(value: Any) -> str | None:
    """An identifier as text: numbers as their digits, null and the empty string as absent."""
    return None if value is None or value == "" else str(value)
