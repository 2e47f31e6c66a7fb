"""When a delivery is tried again, or why it is not: arithmetic on numbers that come in."""

from __future__ import annotations

import enum

import msgspec

from datafly_lite.events import DeliveryStatus, Outcome, Verdict

MAX_EXPONENT = 64
"""Beyond it the power is over every cap; a larger one would only cost time."""


class DeadReason(enum.StrEnum):
    """Why a delivery lies in the dead letters: a closed list."""

    ATTEMPTS_EXHAUSTED = "attempts_exhausted"
    REFUSED_BY_VENDOR = "refused_by_vendor"
    MAPPING_FAILED = "mapping_failed"
    ADDRESS_REFUSED = "address_refused"


class RetryPolicy(msgspec.Struct, frozen=True, kw_only=True):
    """The settings RETRY_*: after attempt n the delay is min(base^n s, max_delay_s), with full jitter."""

    backoff_base: int = 4
    max_attempts: int = 10
    max_delay_s: int = 21_600


class Decision(msgspec.Struct, frozen=True):
    """What becomes of the delivery. `next_attempt_at_ms` counts only while it is pending."""

    status: DeliveryStatus
    next_attempt_at_ms: int
    reason: DeadReason | None = None


def decide(attempt: int, outcome: Outcome, now_ms: int, chance: float, policy: RetryPolicy) -> Decision:
    """What follows on the attempt's outcome. `attempt` is from 1, `chance` from 0 up to 1.

    PAUSE and DISABLE stop the integration, not the event: it stays pending and due, so that it goes as
    soon as the integration is put right.
    """
    if outcome.verdict is Verdict.DELIVERED:
        return Decision(DeliveryStatus.DELIVERED, now_ms)
    if outcome.verdict is Verdict.GIVE_UP:
        return Decision(DeliveryStatus.DEAD, now_ms, DeadReason.REFUSED_BY_VENDOR)
    if outcome.verdict in (Verdict.PAUSE, Verdict.DISABLE):
        return Decision(DeliveryStatus.PENDING, now_ms)
    if attempt >= policy.max_attempts:
        return Decision(DeliveryStatus.DEAD, now_ms, DeadReason.ATTEMPTS_EXHAUSTED)
    delay_s = max(chance * backoff_s(attempt, policy), asked_s(outcome, policy))
    return Decision(DeliveryStatus.PENDING, now_ms + round(delay_s * 1000))


def backoff_s(attempt: int, policy: RetryPolicy) -> float:
    """The longest delay after this attempt (api.md, section 2, Retry)."""
    return float(min(policy.backoff_base ** min(attempt, MAX_EXPONENT), policy.max_delay_s))


def asked_s(outcome: Outcome, policy: RetryPolicy) -> float:
    """What Retry-After asks for, as a floor under the delay: not below 0, not above the longest delay."""
    asked = outcome.retry_after_s or 0.0
    return min(max(asked, 0.0), float(policy.max_delay_s))
