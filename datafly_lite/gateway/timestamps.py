"""Whose clock an event goes by (api.md, section 1, Timestamps)."""

from __future__ import annotations

import re
from datetime import UTC, datetime

from datafly_lite.clock import iso

SKEW_LEAST_MS = 60_000
SKEW_MOST_MS = 86_400_000
MILLISECONDS = re.compile(r"[0-9]{12,14}", re.ASCII)
"""From 1973 on. Fewer digits could be seconds, or a date without hyphens."""
DATE = re.compile(r"([0-9]{4})-([0-9]{1,2})-([0-9]{1,2})(?![0-9])", re.ASCII)
CANONICAL = re.compile(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z", re.ASCII)


def parse_ms(value: str | float | None) -> int | None:
    """ISO 8601 text, or milliseconds as a number or its digits, as milliseconds; None for what is neither.

    One digit for a month or a day is taken too: Segment's own documentation has such a time
    (wire-formats.md, 2.6).
    """
    if isinstance(value, str):
        if MILLISECONDS.fullmatch(value):
            return int(value)
        return _parse_iso_ms(value)
    if value is None or not -62_135_596_800_000 <= value < 253_402_300_800_000:
        return None
    return int(value)


def _parse_iso_ms(text: str) -> int | None:
    date = DATE.match(text)
    if date is None:
        return None
    year, month, day = date.groups()
    try:
        at = datetime.fromisoformat(f"{year}-{month:0>2}-{day:0>2}{text[date.end() :].upper()}")
        return int((at if at.tzinfo else at.replace(tzinfo=UTC)).timestamp() * 1000)
    except (ValueError, OverflowError):
        return None


def settled(original: str | float | None, sent_at: str | None, received_at_ms: int) -> str:
    """The time of the event: the client's, shifted by its clock's error where that is believable.

    Between a minute and a day of difference the client's clock is taken to be wrong; less is the
    network, more is a queue that was stored (spec/wire-formats.md, 2.6). What is no time at all
    gives the time of receipt.
    """
    original_ms = parse_ms(original)
    if original_ms is None:
        return iso(received_at_ms)
    skew_ms = _skew_ms(sent_at, received_at_ms)
    if not skew_ms and isinstance(original, str) and CANONICAL.fullmatch(original):
        return original
    shifted_ms = original_ms + skew_ms
    return iso(received_at_ms if parse_ms(shifted_ms) is None else shifted_ms)


def _skew_ms(sent_at: str | None, received_at_ms: int) -> int:
    sent_at_ms = parse_ms(sent_at)
    skew_ms = received_at_ms - sent_at_ms if sent_at_ms is not None else 0
    return skew_ms if SKEW_LEAST_MS <= abs(skew_ms) <= SKEW_MOST_MS else 0
