"""From bytes on the wire to values: inflate, bound, decode, repair.

msgspec refuses bad input with three exceptions, DecodeError, UnicodeDecodeError and RecursionError
(reliability.md, JSON facts); all three become a refusal here and nowhere else.
"""

from __future__ import annotations

import re
import zlib
from collections.abc import Callable
from typing import Any, TypeVar

import msgspec

from datafly_lite.errors import Refused

T = TypeVar("T")

GZIP_MAGIC = b"\x1f\x8b"
UTF8_BOM = b"\xef\xbb\xbf"
SURROGATE = re.compile(rb"\\u[dD][89a-fA-F][0-9a-fA-F]{2}")
ESCAPES = re.compile(
    rb"\\(?:u[dD][89abAB][0-9a-fA-F]{2}\\u[dD][c-fC-F][0-9a-fA-F]{2}|u[0-9a-fA-F]{4}|.)", re.DOTALL
)
# Possessive, and content with a string that never ends: else each quote would be scanned to the end again.
TOKENS = re.compile(rb'"(?:[^"\\]|\\.)*+(?:"|\\?\Z)|[\[{\]}]', re.DOTALL)
REPLACEMENT = rb"\ufffd"


def inflate(body: bytes, limit_bytes: int) -> bytes:
    """Gunzip what starts as gzip does, whatever the headers say; never hold more than the limit."""
    if not body.startswith(GZIP_MAGIC):
        return body
    stream = zlib.decompressobj(wbits=31)
    try:
        plain = stream.decompress(body, limit_bytes + 1)
    except zlib.error as error:
        raise Refused("invalid_json", f"the body starts like gzip but cannot be inflated: {error}") from None
    if len(plain) > limit_bytes:
        raise too_large(limit_bytes)
    if not stream.eof:
        raise Refused("invalid_json", "the gzip body is cut off before its end")
    return plain


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
        raise Refused("invalid_payload", str(error)) from None
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        raise Refused("invalid_json", f"the body is not JSON: {error}") from None
    except RecursionError:
        raise Refused("invalid_json", "the body is nested too deeply") from None


def mend_surrogates(body: bytes) -> bytes:
    """Replace each half of a surrogate pair that stands alone in an escape."""

    def mended(found: re.Match[bytes]) -> bytes:
        escape = found[0]
        return REPLACEMENT if SURROGATE.fullmatch(escape) else escape

    return ESCAPES.sub(mended, body)


def _check_depth(body: bytes, max_depth: int) -> None:
    """Refuse deep nesting with a loop: what decodes at 990 levels breaks any recursion after it."""
    if body.count(b"{") + body.count(b"[") <= max_depth:
        return
    depth = deepest = 0
    for bracket in TOKENS.finditer(body):
        kind = bracket[0][:1]
        depth += (kind in b"[{") - (kind in b"]}")
        deepest = max(deepest, depth)
        if deepest > max_depth:
            raise Refused("invalid_json", f"the body is nested deeper than {max_depth} levels")


def text(value: Any) -> str | None:
    """An identifier as text: numbers as their digits, null and the empty string as absent."""
    return None if value is None or value == "" else str(value)
