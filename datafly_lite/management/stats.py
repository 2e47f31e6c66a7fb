"""Figures: how often things happened, by the bucket, and the ledger, which says whether they add up."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

import msgspec

from datafly_lite.clock import iso, iso_s
from datafly_lite.errors import AdminError
from datafly_lite.events import DeliveryStatus
from datafly_lite.management import fields as f
from datafly_lite.management.events import instant
from datafly_lite.services import Services
from datafly_lite.store import tallies
from datafly_lite.store.ledger import AttachmentCounts, Counted, counted
from datafly_lite.store.tallies import DAY_MS, HOUR_MS, KEPT_MS, MINUTE_MS

SPANS = {"minute": MINUTE_MS, "hour": HOUR_MS, "day": DAY_MS}
SHOWN_BUCKETS = {"minute": 60, "hour": 24, "day": 30}
"""How many are shown where no `from` is given."""

MOST_BUCKETS = 1_500
"""A day of minutes, two months of hours: an answer reads a few rows for each."""

TOO_LATE_MS = 253_402_300_800_000
"""The year 10000: it cannot be written down."""

REFUSED, EVENT_DROPPED = "refused", "event_dropped"
BY_REASON = {REFUSED: "rejected", EVENT_DROPPED: "events_dropped", "dropped": "dropped", "dead": "dead"}
"""The first word of a tally's name -> the field that has a number for each reason."""

UNKNOWN = "unknown"
"""Where no reason was written down."""

STATS_CHECKS: dict[str, f.Check] = {
    "from": instant,
    "to": instant,
    "bucket": f.one_of(*SPANS),
    "pipeline_id": f.text(200),
}


class Bucket(msgspec.Struct, kw_only=True):
    """What happened in a span of time, at the time that it happened; nothing is taken back later.

    `received` = `stored` + `duplicates` + `rejected`. `dropped` and `dead` count deliveries, `events_dropped`
    events that went to no integration at all. A delivery that was dead and then delivered is in both.
    """

    start: str
    received: int = 0
    stored: int = 0
    duplicates: int = 0
    rejected: dict[str, int] = {}
    processed: int = 0
    events_dropped: dict[str, int] = {}
    delivered: int = 0
    dropped: dict[str, int] = {}
    dead: dict[str, int] = {}


class Stats(msgspec.Struct, kw_only=True):
    """`buckets` are without gaps, oldest first; `to` is the first moment after the last."""

    bucket: str
    from_: str = msgspec.field(name="from")
    to: str
    pipeline_id: str | None
    totals: Bucket
    buckets: list[Bucket]


async def stats(services: Services, *, filters: Mapping[str, Any]) -> Stats:
    """From `from`, `to` (not included), `bucket` (minute, hour, day; UTC) and `pipeline_id`, all optional.

    Raises VALIDATION_ERROR, also for more than 1,500 buckets and for minutes or hours that are kept no more.
    """
    given = f.checked(f.given(filters), STATS_CHECKS)
    now_ms, pipeline_id = services.clock(), given.get("pipeline_id")
    bucket = given.get("bucket", "hour")
    from_ms, to_ms = _bounds(bucket, given.get("from"), given.get("to"), now_ms)
    rows = await services.store.read(tallies.buckets, SPANS[bucket], from_ms, to_ms, pipeline_id)
    found = {start: Bucket(start=iso_s(start)) for start in range(from_ms, to_ms, SPANS[bucket])}
    totals = Bucket(start=iso_s(from_ms))
    for row in rows:
        _take(found[row.start_ms], row.name, row.number)
        _take(totals, row.name, row.number)
    return Stats(
        bucket=bucket,
        from_=iso_s(from_ms),
        to=iso_s(to_ms),
        pipeline_id=pipeline_id,
        totals=totals,
        buckets=list(found.values()),
    )


def _bounds(bucket: str, from_ms: int | None, to_ms: int | None, now_ms: int) -> tuple[int, int]:
    """Moved out to whole buckets."""
    span_ms = SPANS[bucket]
    end_ms = -(-(now_ms + 1 if to_ms is None else to_ms) // span_ms) * span_ms
    start_ms = end_ms - SHOWN_BUCKETS[bucket] * span_ms if from_ms is None else from_ms // span_ms * span_ms
    if not 0 <= end_ms < TOO_LATE_MS:
        raise AdminError.invalid("to", "is beyond all calendars")
    if not 0 <= start_ms < end_ms:
        raise AdminError.invalid("from", "must be before `to`")
    if (end_ms - start_ms) // span_ms > MOST_BUCKETS:
        raise AdminError.invalid("from", f"gives more than {MOST_BUCKETS:,} buckets: ask for longer ones")
    if start_ms < now_ms - KEPT_MS.get(span_ms, now_ms):
        days = KEPT_MS[span_ms] // DAY_MS
        raise AdminError.invalid("from", f"{bucket}s are kept for {days} days: ask for longer ones")
    return start_ms, end_ms


def _take(bucket: Bucket, name: str, number: int) -> None:
    """Put a tally where it belongs; its name is one of schema.sql's, with a reason after a colon."""
    kind, _, reason = name.partition(":")
    if kind in BY_REASON:
        reasons: dict[str, int] = getattr(bucket, BY_REASON[kind])
        reasons[reason or UNKNOWN] = reasons.get(reason or UNKNOWN, 0) + number
    else:
        setattr(bucket, kind, getattr(bucket, kind) + number)
    if kind in ("stored", "duplicates", "refused"):
        bucket.received += number


# ── The ledger ───────────────────────────────────────────────────────────────────────────────


class Received(msgspec.Struct, kw_only=True, frozen=True):
    """received = stored + rejected + duplicates.

    `received` is what the door counted, `stored` what the log holds. What was refused in the last second
    may be in neither yet.
    """

    received: int
    stored: int
    rejected: int
    rejected_by_reason: dict[str, int]
    duplicates: int
    difference: int
    balanced: bool


class Processed(msgspec.Struct, kw_only=True, frozen=True):
    """stored = processed + waiting. `dropped` are processed, and went to no integration at all."""

    stored: int
    processed: int
    waiting: int
    dropped: int
    dropped_by_reason: dict[str, int]
    difference: int
    balanced: bool


class Delivered(msgspec.Struct, kw_only=True, frozen=True):
    """matched = delivered + pending + dead + dropped. `matched`: an event and an integration it was for."""

    matched: int
    delivered: int
    pending: int
    dead: int
    dropped: int
    dropped_by_reason: dict[str, int]
    difference: int
    balanced: bool


class DeliveredBy(msgspec.Struct, kw_only=True, frozen=True):
    """One integration on one pipeline, also one that was detached; names are null where they are gone."""

    pipeline_integration_id: str
    pipeline_id: str | None
    integration_id: str | None
    integration_name: str | None
    deliveries: Delivered


class Ledger(msgspec.Struct, kw_only=True, frozen=True):
    """The sums of this moment. `balanced` is False where any of them does not come out."""

    at: str
    balanced: bool
    received: Received
    events: Processed
    deliveries: Delivered
    integrations: list[DeliveredBy]


async def ledger(services: Services) -> Ledger:
    """All since the store was made."""
    return ledger_of(await services.store.read(counted), services.clock())


def ledger_of(found: Counted, now_ms: int) -> Ledger:
    """The sums, from one snapshot of their parts."""
    received, events = _received(found), _processed(found)
    by_integration = [_delivered_by(one) for one in found.attachments]
    deliveries = _delivered(_summed(one.counts for one in found.attachments))
    balanced = received.balanced and events.balanced and deliveries.balanced
    return Ledger(
        at=iso(now_ms),
        balanced=balanced and all(one.deliveries.balanced for one in by_integration),
        received=received,
        events=events,
        deliveries=deliveries,
        integrations=by_integration,
    )


def _received(found: Counted) -> Received:
    rejected, duplicates = _by_reason(found.counters, REFUSED), found.counters.get("duplicates", 0)
    refused = sum(rejected.values())
    received = found.counters.get("stored", 0) + refused + duplicates
    difference = received - (found.log_end + refused + duplicates)
    return Received(
        received=received,
        stored=found.log_end,
        rejected=refused,
        rejected_by_reason=rejected,
        duplicates=duplicates,
        difference=difference,
        balanced=difference == 0,
    )


def _processed(found: Counted) -> Processed:
    processed, waiting = found.counters.get("processed", 0), found.log_end - found.position
    dropped = _by_reason(found.counters, EVENT_DROPPED)
    difference = found.log_end - (processed + waiting)
    return Processed(
        stored=found.log_end,
        processed=processed,
        waiting=waiting,
        dropped=sum(dropped.values()),
        dropped_by_reason=dropped,
        difference=difference,
        balanced=difference == 0,
    )


def _delivered(counts: Mapping[str, int]) -> Delivered:
    matched, delivered = counts.get("matched", 0), counts.get(DeliveryStatus.DELIVERED, 0)
    pending, dropped = counts.get(DeliveryStatus.PENDING, 0), _by_reason(counts, DeliveryStatus.DROPPED)
    dead = sum(_by_reason(counts, DeliveryStatus.DEAD).values())
    difference = matched - (delivered + pending + dead + sum(dropped.values()))
    return Delivered(
        matched=matched,
        delivered=delivered,
        pending=pending,
        dead=dead,
        dropped=sum(dropped.values()),
        dropped_by_reason=dropped,
        difference=difference,
        balanced=difference == 0,
    )


def _delivered_by(one: AttachmentCounts) -> DeliveredBy:
    return DeliveredBy(
        pipeline_integration_id=one.pipeline_integration_id,
        pipeline_id=one.pipeline_id,
        integration_id=one.integration_id,
        integration_name=one.integration_name,
        deliveries=_delivered(one.counts),
    )


def _summed(counts: Iterable[Mapping[str, int]]) -> dict[str, int]:
    total: dict[str, int] = {}
    for one in counts:
        for name, number in one.items():
            total[name] = total.get(name, 0) + number
    return total


def _by_reason(counts: Mapping[str, int], kind: str) -> dict[str, int]:
    """Reason -> number, the greatest first, of what is named `kind`, or `kind:reason`."""
    parts = [(*name.partition(":")[::2], number) for name, number in counts.items()]
    found = {reason or UNKNOWN: number for one, reason, number in parts if one == kind and number}
    return {name: found[name] for name in sorted(found, key=lambda reason: (-found[reason], reason))}
