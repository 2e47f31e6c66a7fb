"""Retry is arithmetic: a table of numbers."""

from __future__ import annotations

import pytest

from datafly_lite.events import DeliveryStatus, Outcome, Verdict
from datafly_lite.retry import DeadReason, RetryPolicy, decide

NOW_MS = 1_000_000
POLICY = RetryPolicy()
PENDING, DEAD, DELIVERED = DeliveryStatus.PENDING, DeliveryStatus.DEAD, DeliveryStatus.DELIVERED


@pytest.mark.parametrize(
    ("attempt", "chance", "retry_after_s", "delay_ms"),
    [
        (1, 1.0, None, 4_000),
        (1, 0.5, None, 2_000),
        (1, 0.0, None, 0),
        (2, 1.0, None, 16_000),
        (3, 1.0, None, 64_000),
        (4, 1.0, None, 256_000),
        (5, 1.0, None, 1_024_000),
        (6, 1.0, None, 4_096_000),
        (7, 1.0, None, 16_384_000),
        (8, 1.0, None, 21_600_000),
        (9, 1.0, None, 21_600_000),
        (9, 0.25, None, 5_400_000),
        # Retry-After is a floor, within 0 and the longest delay
        (1, 0.5, 2.0, 2_000),
        (1, 0.5, 3.0, 3_000),
        (1, 0.5, 0.0, 2_000),
        (1, 0.5, -60.0, 2_000),
        (1, 0.0, 120.0, 120_000),
        (1, 0.0, 1e9, 21_600_000),
        (3, 1.0, 10.0, 64_000),
    ],
)
def test_the_delay_before_the_next_attempt(
    attempt: int, chance: float, retry_after_s: float | None, delay_ms: int
) -> None:
    decision = decide(
        attempt, Outcome(Verdict.RETRY, 503, retry_after_s=retry_after_s), NOW_MS, chance, POLICY
    )
    assert (decision.status, decision.reason) == (PENDING, None)
    assert decision.next_attempt_at_ms - NOW_MS == delay_ms


@pytest.mark.parametrize(
    ("attempt", "verdict", "status", "reason"),
    [
        (1, Verdict.DELIVERED, DELIVERED, None),
        (10, Verdict.DELIVERED, DELIVERED, None),
        (1, Verdict.GIVE_UP, DEAD, DeadReason.REFUSED_BY_VENDOR),
        (9, Verdict.RETRY, PENDING, None),
        (10, Verdict.RETRY, DEAD, DeadReason.ATTEMPTS_EXHAUSTED),
        (11, Verdict.RETRY, DEAD, DeadReason.ATTEMPTS_EXHAUSTED),
        (1, Verdict.PAUSE, PENDING, None),
        (10, Verdict.PAUSE, PENDING, None),
        (10, Verdict.DISABLE, PENDING, None),
    ],
)
def test_what_becomes_of_the_delivery(
    attempt: int, verdict: Verdict, status: DeliveryStatus, reason: DeadReason | None
) -> None:
    decision = decide(attempt, Outcome(verdict), NOW_MS, 1.0, POLICY)
    assert (decision.status, decision.reason) == (status, reason)


def test_an_integration_that_stopped_keeps_its_event_due() -> None:
    assert decide(3, Outcome(Verdict.PAUSE, 401), NOW_MS, 1.0, POLICY).next_attempt_at_ms == NOW_MS


def test_settings_that_make_numbers_huge_stay_within_the_cap() -> None:
    policy = RetryPolicy(backoff_base=1_000, max_attempts=10**9, max_delay_s=60)
    assert decide(10**6, Outcome(Verdict.RETRY), NOW_MS, 1.0, policy).next_attempt_at_ms == NOW_MS + 60_000


def test_all_attempts_together_last_about_eighteen_hours() -> None:
    longest_ms = sum(
        decide(attempt, Outcome(Verdict.RETRY), 0, 1.0, POLICY).next_attempt_at_ms for attempt in range(1, 10)
    )
    assert 17 * 3_600_000 < longest_ms < 19 * 3_600_000
