"""Pages of lists: `{"data", "next_cursor", "has_more"}` (spec/datafly-signal.md, 9.1)."""

from __future__ import annotations

import base64
from collections.abc import Sequence
from typing import Any

import msgspec

from datafly_lite.errors import AdminError

LARGEST_PAGE = 100
LARGEST_OFFSET = 2**53


def check_limit(limit: int) -> int:
    """Raise VALIDATION_ERROR for a page that is empty or too large."""
    return _within("limit", limit, 1, LARGEST_PAGE)


def check_offset(offset: int) -> int:
    """Raise VALIDATION_ERROR for a negative or absurd offset."""
    return _within("offset", offset, 0, LARGEST_OFFSET)


def _within(name: str, value: int, least: int, most: int) -> int:
    if not least <= value <= most:
        raise AdminError.invalid(name, f"must be from {least:,} to {most:,}")
    return value


class _Cursor(msgspec.Struct):
    id: int


def encode_cursor(id_: int) -> str:
    """Opaque to clients: the last row that they have seen."""
    return base64.urlsafe_b64encode(msgspec.json.encode(_Cursor(id_))).decode()


def decode_cursor(cursor: str | None) -> int | None:
    """None without a cursor. Raises VALIDATION_ERROR for one that was not given out here."""
    if not cursor:
        return None
    try:
        found = msgspec.json.decode(base64.urlsafe_b64decode(cursor), type=_Cursor).id
    except (ValueError, RecursionError):
        raise AdminError.invalid("cursor", "is not a cursor of this list") from None
    return _within("cursor", found, 0, LARGEST_OFFSET)


def page(rows: Sequence[Any], next_id: int | None) -> dict[str, Any]:
    """`next_id` is where the next page begins, None after the last."""
    cursor = None if next_id is None else encode_cursor(next_id)
    return {"data": list(rows), "next_cursor": cursor, "has_more": next_id is not None}


def slice_page(rows: Sequence[Any], cursor: str | None, limit: int) -> dict[str, Any]:
    """A page of a list that is short enough to be read whole; its cursor counts rows."""
    start, end = decode_cursor(cursor) or 0, check_limit(limit)
    end += start
    return page(rows[start:end], end if end < len(rows) else None)
