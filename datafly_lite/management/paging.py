"""Pages of lists: `{"data", "next_cursor", "has_more"}` (spec/datafly-signal.md, 9.1).

A cursor holds the key of the last row seen, so a page stays where it is while rows come and go: none is
skipped, none comes twice.
"""

from __future__ import annotations

import base64
from collections.abc import Mapping, Sequence
from typing import Any, TypeVar

import msgspec

from datafly_lite.errors import AdminError

T = TypeVar("T")

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


class _KeyCursor(msgspec.Struct):
    id: str


def encode_cursor(id_: int | str) -> str:
    """Opaque to clients: the last row that they have seen."""
    return base64.urlsafe_b64encode(msgspec.json.encode({"id": id_})).decode()


def decode_cursor(cursor: str | None) -> int | None:
    """None without a cursor. Raises VALIDATION_ERROR for one that was not given out here."""
    return _within("cursor", _decoded(cursor, _Cursor).id, 0, LARGEST_OFFSET) if cursor else None


def decode_key(cursor: str | None) -> str:
    """As `decode_cursor`, of a list whose keys are texts; "" without a cursor."""
    return _decoded(cursor, _KeyCursor).id if cursor else ""


def _decoded(cursor: str, kind: type[T]) -> T:
    try:
        return msgspec.json.decode(base64.urlsafe_b64decode(cursor), type=kind)
    except (ValueError, RecursionError):
        raise AdminError.invalid("cursor", "is not a cursor of this list") from None


def page(rows: Sequence[Any], next_id: int | None) -> dict[str, Any]:
    """`next_id` is where the next page begins, None after the last."""
    return page_by_key(rows, next_id)


def page_by_key(rows: Sequence[Any], last: int | str | None) -> dict[str, Any]:
    """`last` is the key of the page's last row, None where none follows."""
    cursor = None if last is None else encode_cursor(last)
    return {"data": list(rows), "next_cursor": cursor, "has_more": last is not None}


def slice_page(
    rows: Sequence[Mapping[str, Any]], cursor: str | None, limit: int, key: str = "id"
) -> dict[str, Any]:
    """A page of a list that is short enough to be read whole, in the order of its texts `key`, rising.

    The cursor names the last row seen, not its place: rows that come and go meanwhile move no other.
    """
    after, limit = decode_key(cursor), check_limit(limit)
    left = [row for row in rows if row[key] > after]
    return page_by_key(left[:limit], left[limit - 1][key] if len(left) > limit else None)


def slice_page_down(
    rows: Sequence[Mapping[str, Any]], cursor: str | None, limit: int, key: str
) -> dict[str, Any]:
    """As `slice_page`, of a list in the order of its numbers `key`, falling."""
    before, limit = decode_cursor(cursor), check_limit(limit)
    left = [row for row in rows if before is None or row[key] < before]
    return page_by_key(left[:limit], left[limit - 1][key] if len(left) > limit else None)
