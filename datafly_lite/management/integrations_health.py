"""How every attached integration does: what waits, since when, what the last attempt got (api.md, 2)."""

from __future__ import annotations

from typing import Any

import msgspec

from datafly_lite.clock import iso
from datafly_lite.events import Verdict
from datafly_lite.management.paging import check_limit, decode_key, page_by_key
from datafly_lite.services import Services
from datafly_lite.store.attachment_health import Attempt, Standing, standings

FAILURES = frozenset({Verdict.RETRY, Verdict.GIVE_UP, Verdict.PAUSE, Verdict.DISABLE})


class LastError(msgspec.Struct, kw_only=True, frozen=True):
    """What the last attempt got, where that was no success. `status` is null where no answer came."""

    at: str
    verdict: str
    status: int | None
    error: str | None


class IntegrationHealth(msgspec.Struct, kw_only=True, frozen=True):
    """`state` is the first of these that is true.

    `stopped`: delivery stopped it for what the vendor answered, and `trouble` says why; `disabled`; `paused`;
    `shadow`; `failing`: the last attempt failed and something waits; `giving_up`: the last attempt failed for
    good; `waiting`: something waits; `healthy`.
    """

    pipeline_id: str
    pipeline_name: str
    pipeline_integration_id: str
    integration_id: str
    integration_name: str
    vendor: str
    revision_number: int
    enabled: bool
    mode: str
    state: str
    trouble: str | None
    missing_parameters: list[str]
    delivered: int
    pending: int
    dead: int
    oldest_pending_at: str | None
    next_attempt_at: str | None
    last_success_at: str | None
    last_error: LastError | None


async def list_health(services: Services, *, cursor: str | None = None, limit: int = 50) -> dict[str, Any]:
    """`{"data", "next_cursor", "has_more"}`, in the order in which they were attached."""
    after, limit = decode_key(cursor), check_limit(limit)
    found = await services.store.read(standings, after, limit + 1)
    shown = [_shown(one, _missing(services, one.row["id"])) for one in found[:limit]]
    return page_by_key(shown, found[limit - 1].row["id"] if len(found) > limit else None)


def _missing(services: Services, attachment_id: str) -> list[str]:
    live = services.configuration.current.attachments.get(attachment_id)
    return list(live.missing_parameters) if live else []


def _shown(one: Standing, missing: list[str]) -> IntegrationHealth:
    row, failed = one.row, _failed(one)
    return IntegrationHealth(
        pipeline_id=row["pipeline_id"],
        pipeline_name=row["pipeline_name"],
        pipeline_integration_id=row["id"],
        integration_id=row["integration_id"],
        integration_name=row["integration_name"],
        vendor=row["vendor"],
        revision_number=row["revision_number"],
        enabled=bool(row["enabled"]),
        mode=row["mode"],
        state=_state(one, failed),
        trouble=row["trouble"],
        missing_parameters=missing,
        delivered=one.delivered,
        pending=one.pending,
        dead=one.dead,
        oldest_pending_at=_time(one.oldest_ms),
        next_attempt_at=_time(one.next_due_at_ms),
        last_success_at=_time(one.last_success_ms),
        last_error=None if failed is None else _error(failed),
    )


def _failed(one: Standing) -> Attempt | None:
    """The last attempt, where it failed; a success after it was found elsewhere makes it old news."""
    last = one.last
    if last is None or last.verdict not in FAILURES:
        return None
    return last if one.last_success_ms is None or last.at_ms >= one.last_success_ms else None


def _state(one: Standing, failed: Attempt | None) -> str:
    row = one.row
    checks = {
        "stopped": row["trouble"] is not None,
        "disabled": not row["enabled"],
        "paused": row["mode"] == "paused",
        "shadow": row["mode"] == "shadow",
        "failing": failed is not None and one.pending > 0,
        "giving_up": failed is not None,
        "waiting": one.pending > 0,
    }
    return next((state for state, is_true in checks.items() if is_true), "healthy")


def _error(failed: Attempt) -> LastError:
    return LastError(
        at=iso(failed.at_ms), verdict=failed.verdict, status=failed.http_status, error=failed.error
    )


def _time(at_ms: int | None) -> str | None:
    return None if at_ms is None else iso(at_ms)
