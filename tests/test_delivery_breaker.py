"""The circuit breaker and the token bucket: states with the clock coming in."""

from __future__ import annotations

from datafly_lite.delivery.breaker import (
    FAILURES_TO_OPEN,
    FIRST_PAUSE_MS,
    LONGEST_HOLD_MS,
    LONGEST_PAUSE_MS,
    Breaker,
    State,
    TokenBucket,
)


def opened(now_ms: int = 0) -> Breaker:
    breaker = Breaker()
    for _ in range(FAILURES_TO_OPEN):
        breaker.take()
        breaker.failed(now_ms)
    return breaker


def test_it_opens_after_failures_in_a_row() -> None:
    breaker = Breaker()
    for _ in range(FAILURES_TO_OPEN - 1):
        breaker.failed(0)
    assert breaker.wait_ms(0) == 0
    breaker.failed(0)
    assert breaker.wait_ms(0) == FIRST_PAUSE_MS


def test_a_success_between_failures_keeps_it_closed() -> None:
    breaker = Breaker()
    for _ in range(10):
        for _ in range(FAILURES_TO_OPEN - 1):
            breaker.failed(0)
        breaker.succeeded()
    assert breaker.state is State.CLOSED


def test_one_probe_goes_when_the_pause_is_over() -> None:
    breaker = opened()
    assert breaker.wait_ms(FIRST_PAUSE_MS - 1) == 1
    assert breaker.wait_ms(FIRST_PAUSE_MS) == 0
    breaker.take()
    assert breaker.wait_ms(FIRST_PAUSE_MS) is None
    breaker.succeeded()
    assert (breaker.wait_ms(FIRST_PAUSE_MS), breaker.state) == (0, State.CLOSED)


def test_a_probe_that_fails_doubles_the_pause_up_to_a_limit() -> None:
    breaker, now_ms, pauses = opened(), 0, []
    for _ in range(8):
        wait_ms = breaker.wait_ms(now_ms)
        assert wait_ms is not None
        pauses.append(wait_ms)
        now_ms += wait_ms
        breaker.take()
        breaker.failed(now_ms)
    assert pauses[:3] == [FIRST_PAUSE_MS, FIRST_PAUSE_MS * 2, FIRST_PAUSE_MS * 4]
    assert pauses[-1] == LONGEST_PAUSE_MS


def test_a_probe_that_was_never_sent_leaves_the_place_to_another() -> None:
    breaker = opened()
    breaker.take()
    breaker.give_back()
    assert breaker.wait_ms(FIRST_PAUSE_MS) == 0


def test_late_answers_do_not_close_it() -> None:
    breaker = opened()
    breaker.succeeded()
    assert breaker.state is State.OPEN


def test_retry_after_holds_the_integration_within_bounds() -> None:
    breaker = Breaker()
    breaker.failed(0, retry_after_s=30)
    assert breaker.wait_ms(0) == 30_000
    breaker.failed(0, retry_after_s=86_400)
    assert breaker.wait_ms(0) == LONGEST_HOLD_MS


def test_the_bucket_gives_its_rate() -> None:
    bucket, now_ms, gone = TokenBucket(10), 0, 0
    while now_ms <= 2_000:
        if wait_ms := bucket.wait_ms(now_ms):
            now_ms += wait_ms
        else:
            bucket.take()
            gone += 1
    assert 28 <= gone <= 30  # ten at once, then ten a second


def test_a_clock_that_goes_back_does_not_fill_or_block_the_bucket() -> None:
    bucket = TokenBucket(1)
    assert bucket.wait_ms(10_000) == 0
    bucket.take()
    assert bucket.wait_ms(0) == 1_001
    assert bucket.wait_ms(1_001) == 0
