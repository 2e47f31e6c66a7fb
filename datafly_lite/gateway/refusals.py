"""What the door refused, on its way to the list that its owner sees (api.md, section 1: refused events).

A refusal costs a client nothing, so a flood of them must cost the appliance little: they are counted in
memory, a bounded number of them is kept with the beginning of the body, and one small transaction a second
writes both.
"""

from __future__ import annotations

import contextlib
import re
import zlib
from collections import Counter
from collections.abc import Awaitable, Callable, Sequence
from typing import Any, NamedTuple

import msgspec

from datafly_lite.clock import Clock
from datafly_lite.errors import StorageError
from datafly_lite.events import Refusal
from datafly_lite.gateway.bodies import GZIP_MAGIC
from datafly_lite.store import Store, refused_events
from datafly_lite.store.refused_events import RefusedEvent

FLUSH_EVERY_S = 1.0
TRIM_EVERY_MS = 60_000
"""So often old rows go also where nothing is refused."""

WAITING = 1_000
WAITING_A_PIPELINE = 100
"""Also of those without a pipeline: beyond it they are counted alone, and leave the others their room."""

KEPT_BODY_BYTES = 4_096
LOOKED_AT_BYTES = 16_384
"""Most of a body that is searched for the library's name."""

LONGEST_TEXT = 500

# At the end fewer characters are enough: where a body is cut off, half a secret may stand.
SECRET = re.compile(
    rb"(sk_(?:live_|test_)?|ct_|whsec_)(?:[A-Za-z0-9]{16,}|[A-Za-z0-9]+\Z)"
    rb'|("challenge_?[tT]oken"\s*+:\s*+")(?:[^"\\]|\\.)*+',
    re.DOTALL,
)
CONTEXT = re.compile(rb'"context"\s*+:\s*+\{')
LIBRARY = re.compile(rb'"library"\s*+:\s*+(\{[^{}]*+\})')


class Refusals:
    """What the door refused, kept for a day: bounded in memory, in number and in size."""

    def __init__(self, store: Store, clock: Clock) -> None:
        self._store = store
        self._clock = clock
        self._rows: list[RefusedEvent] = []
        self._rows_of: Counter[str | None] = Counter()
        self._counts: Counter[tuple[str, str]] = Counter()
        self._trimmed_at_ms: int | None = None

    def note(self, refusal: Refusal) -> None:
        """Count it, and keep its body while there is room. Never waits, never raises."""
        self._counts[_counted(refusal)] += 1
        if self._has_room(refusal.pipeline_id):
            self._wait(_row(refusal))

    async def keep(self, refusals: Sequence[Refusal]) -> None:
        """Keep them; done after the commit. Raises StorageError, and then none was kept or counted."""
        if refusals:
            await self._write([_row(one) for one in refusals], Counter(map(_counted, refusals)))

    async def run(self, sleep: Callable[[float], Awaitable[None]]) -> None:
        """Write what waits about once a second, for ever; what cannot be written waits on."""
        while True:
            await sleep(FLUSH_EVERY_S)
            with contextlib.suppress(StorageError):
                await self.flush()

    async def flush(self) -> None:
        """Write what waits. Raises StorageError, and then it waits on.

        Who is cancelled here has handed it over: the writer commits it all the same.
        """
        if not self._counts and not self._is_trim_due():
            return
        rows, counts = self._rows, self._counts
        self._rows, self._rows_of, self._counts = [], Counter(), Counter()
        try:
            await self._write(rows, counts)
        except StorageError:
            self._put_back(rows, counts)
            raise

    async def _write(self, rows: list[RefusedEvent], counts: dict[tuple[str, str], int]) -> None:
        now_ms = self._clock()
        given = refused_events.Refusals(rows, counts, now_ms)
        await self._store.writer.write_batched(refused_events.add, given, max(1, len(rows)))
        self._trimmed_at_ms = now_ms

    def _is_trim_due(self) -> bool:
        since_ms = None if self._trimmed_at_ms is None else self._clock() - self._trimmed_at_ms
        return since_ms is None or not 0 <= since_ms < TRIM_EVERY_MS

    def _has_room(self, pipeline_id: str | None) -> bool:
        return len(self._rows) < WAITING and self._rows_of[pipeline_id] < WAITING_A_PIPELINE

    def _wait(self, row: RefusedEvent) -> None:
        self._rows.append(row)
        self._rows_of[row.pipeline_id] += 1

    def _put_back(self, rows: list[RefusedEvent], counts: Counter[tuple[str, str]]) -> None:
        """Before those that came since, as far as there is room for these."""
        newer = self._rows
        self._rows, self._rows_of = [], Counter()
        for row in (*rows, *newer):
            if self._has_room(row.pipeline_id):
                self._wait(row)
        self._counts += counts


def _counted(refusal: Refusal) -> tuple[str, str]:
    return refusal.pipeline_id or "", refusal.code


def _row(refusal: Refusal) -> RefusedEvent:
    """What is kept of it: the beginning of its body and of its texts, without secrets."""
    head = _head(refusal.body, refusal.body_size_bytes)
    return RefusedEvent(
        pipeline_id=refusal.pipeline_id,
        code=refusal.code,
        message=_text(refusal.message) or "",
        dialect=refusal.dialect,
        path=_text(refusal.path) or "",
        library=_text(library(head.plain)),
        user_agent=_text(refusal.user_agent),
        origin=_text(refusal.origin),
        ip=_text(refusal.ip),
        request_id=_text(refusal.request_id),
        refused_at_ms=refusal.refused_at_ms,
        body=_without_secrets(head.plain[:KEPT_BODY_BYTES]),
        body_size_bytes=head.size_bytes,
    )


class _Head(NamedTuple):
    """The beginning of a body, inflated, and the size of all of it as far as that is known."""

    plain: bytes
    size_bytes: int


def _head(body: bytes, size_bytes: int) -> _Head:
    """Of gzip that cannot be inflated nothing but the size is kept: it could hold a secret all the same."""
    came_bytes = max(size_bytes, len(body))
    if not body.startswith(GZIP_MAGIC):
        return _Head(body[:LOOKED_AT_BYTES], came_bytes)
    stream, plain = zlib.decompressobj(wbits=31), b""
    with contextlib.suppress(zlib.error):
        for start in range(0, min(len(body), LOOKED_AT_BYTES), 512):  # bit by bit, up to where it is broken
            plain += stream.decompress(body[start : start + 512], LOOKED_AT_BYTES - len(plain))
            if stream.eof or len(plain) >= LOOKED_AT_BYTES:
                break
    return _Head(plain, len(plain) if stream.eof else max(came_bytes, len(plain)))


def _text(value: str | None) -> str | None:
    """A short text that the store can take: half a character is none."""
    if value is None:
        return None
    return _without_secrets(value[:LONGEST_TEXT].encode("utf-8", "replace")).decode("utf-8", "replace")


def _without_secrets(plain: bytes) -> bytes:
    """Stars over what looks like a secret or a challenge token: as long as it was, so the size stays true."""
    return SECRET.sub(_starred, plain)


def _starred(found: re.Match[bytes]) -> bytes:
    begin: bytes = found[1] or found[2]
    return begin + b"*" * (len(found[0]) - len(begin))


# ── The library ──────────────────────────────────────────────────────────────────────────────


def library(body: bytes) -> str | None:
    """`name/version` of `context.library`: of the event, of the batch, else of the batch's first event.

    A body that is cut off or no JSON is searched for it: a library that sends such is worth knowing.
    """
    try:
        value = msgspec.json.decode(body)
    except (ValueError, RecursionError):
        return _searched(body)
    first = value.get("batch") if isinstance(value, dict) else None
    return _said(value) or _said(first[0] if isinstance(first, list) and first else None)


def _searched(body: bytes) -> str | None:
    context = CONTEXT.search(body)
    found = LIBRARY.search(body, context.end()) if context else None
    if found is None:
        return None
    with contextlib.suppress(ValueError):
        return _named(msgspec.json.decode(found[1]))
    return None


def _said(event: Any) -> str | None:
    context = event.get("context") if isinstance(event, dict) else None
    return _named(context.get("library")) if isinstance(context, dict) else None


def _named(value: Any) -> str | None:
    """Some SDKs name no version, and some people write their own."""
    parts = [value.get(name) for name in ("name", "version")] if isinstance(value, dict) else []
    return "/".join(part for part in parts if isinstance(part, str) and part) or None
