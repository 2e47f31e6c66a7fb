"""API keys as texts: `ak_`, 43 characters of chance, and a checksum of these.

The checksum tells a key that was cut or mistyped, and lets scanners of source code tell a leaked key from
a text that only looks like one. It proves nothing: who makes up a key can make up its checksum.
"""

from __future__ import annotations

import zlib
from typing import NamedTuple

from datafly_lite.auth_people import User
from datafly_lite.clock import new_token

KIND = "ak"
RANDOM_LENGTH = 43
DIGITS = "0123456789abcdefghijklmnopqrstuvwxyz"
CHECKSUM_LENGTH = 7
"""Digits of base 36, which hold all 32 bits of a CRC-32."""

SHOWN_LENGTH = 7
"""`ak_` and four characters: enough to recognise a key by, and nothing to guess the rest from."""


class Bearer(NamedTuple):
    """Whom a request acts for, with the role that counts for it; and by which API key, if by one."""

    user: User
    key_id: str | None = None


def new_key() -> str:
    """A key that nobody has."""
    text = new_token(KIND, RANDOM_LENGTH)
    return text + checksum_of(text)


def is_key(token: str) -> bool:
    """Whether this is meant as an API key, and not as an access token."""
    return token.startswith(f"{KIND}_")


def is_whole(key: str) -> bool:
    """Whether the checksum is the text's own."""
    return checksum_of(key[:-CHECKSUM_LENGTH]) == key[-CHECKSUM_LENGTH:]


def prefix_of(key: str) -> str:
    """What is kept to recognise it by."""
    return key[:SHOWN_LENGTH]


def checksum_of(text: str) -> str:
    """CRC-32 in base 36."""
    left, digits = zlib.crc32(text.encode("utf-8", "surrogatepass")), ""
    for _ in range(CHECKSUM_LENGTH):
        left, digit = divmod(left, len(DIGITS))
        digits = DIGITS[digit] + digits
    return digits
