"""Whose clock an event goes by (api.md, section 1, Timestamps)."""

from __future__ import annotations

from datetime import UTC, datetime

from datafly_lite.clock import iso

SKEW_LEAST_MS = 60_000
SKEW_MOST_MS = 86_400_000


def parse_ms(value: str | float | None) -> int | None:
    """ISO 8601 text, or a number of milliseconds, as milliseconds; None for what is neither."""
    if isinstance(value, str):
        try:
            at = datetime.fromisoformat(value)
            return int((at if at.tzinfo else at.replace(tzinfo=UTC)).timestamp() * 1000)
        except (ValueError, OverflowError):
            return None
    if value is None or not -62_135_596_800_000 <= value < 253_402_300_800_000:
        return None
    return int(value)


def settled(original_ms: int | None, sent_at_ms: int | None, received_at_ms: int) -> str:
    """The time of the event: the client's, shifted by its clock's error where that is believable.

    Between a minute and a day of difference the client's clock is taken to be wrong; less is the
    network, more is a queue that was stored (spec/wire-formats.md, 2.6).
    """
    if original_ms is None:
        return iso(received_at_ms)
    skew_ms = received_at_ms - sent_at_ms if sent_at_ms is not None else 0
    is_skewed = SKEW_LEAST_MS <= abs(skew_ms) <= SKEW_MOST_MS
    shifted_ms = original_ms + (skew_ms if is_skewed else 0)
    return iso(shifted_ms) if parse_ms(shifted_ms) is not None else iso(received_at_ms)
