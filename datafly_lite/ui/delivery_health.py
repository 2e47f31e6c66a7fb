"""How each integration of a pipeline does, in the words of its card."""

from __future__ import annotations

from collections.abc import Iterable

import msgspec

from datafly_lite.clock import iso
from datafly_lite.events import Verdict
from datafly_lite.store.attachment_health import MOST_COUNTED, AttachmentHealth, Attempt, health
from datafly_lite.ui.visit import Visit

FAILURES = frozenset({Verdict.RETRY, Verdict.GIVE_UP, Verdict.PAUSE, Verdict.DISABLE})


class CardHealth(msgspec.Struct, frozen=True, kw_only=True):
    """`failure` is what the last attempt got, empty where it went well; times are ISO 8601 or None."""

    pending: str
    dead: str
    failure: str
    failed_at: str | None
    next_attempt_at: str | None


async def health_of(visit: Visit, attachment_ids: Iterable[str]) -> dict[str, CardHealth]:
    """By the attachment's id."""
    store, now_ms = visit.services.store, visit.services.clock()
    return {one: _card(await store.read(health, one), now_ms) for one in attachment_ids}


def _card(found: AttachmentHealth, now_ms: int) -> CardHealth:
    failed = found.last if found.last is not None and found.last.verdict in FAILURES else None
    is_ahead = found.next_due_at_ms is not None and found.next_due_at_ms > now_ms
    return CardHealth(
        pending=_figure(found.pending),
        dead=_figure(found.dead),
        failure="" if failed is None else _answer(failed),
        failed_at=None if failed is None else iso(failed.at_ms),
        next_attempt_at=iso(found.next_due_at_ms) if is_ahead and found.next_due_at_ms else None,
    )


def _figure(count: int) -> str:
    return f"{count:,}" if count <= MOST_COUNTED else f"{MOST_COUNTED:,}+"


def _answer(attempt: Attempt) -> str:
    status = "" if attempt.http_status is None else f"HTTP {attempt.http_status}"
    return " ".join(part for part in (status, attempt.error or "") if part) or "no answer"
