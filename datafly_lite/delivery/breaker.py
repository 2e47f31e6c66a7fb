"""The circuit breaker of one integration, and its token bucket: state machines with the clock coming in.

Times are milliseconds of one clock, whichever the caller uses.
"""

from __future__ import annotations

import enum

FAILURES_TO_OPEN = 5
FIRST_PAUSE_MS = 2_000
LONGEST_PAUSE_MS = 60_000
LONGEST_HOLD_MS = 300_000
"""A vendor's Retry-After holds the whole integration no longer than this; then one probe goes."""


class State(enum.Enum):
    """CLOSED lets all through, OPEN none until a time, PROBING waits for the answer of one."""

    CLOSED = "closed"
    OPEN = "open"
    PROBING = "probing"


class Breaker:
    """Opens after FAILURES_TO_OPEN failures in a row; then one probe at a time, at doubling distances.

    While it is open deliveries wait untried, so an outage costs each of them few of its attempts.
    """

    def __init__(self) -> None:
        self.state = State.CLOSED
        self._failures = 0
        self._pause_ms = FIRST_PAUSE_MS
        self._until_ms = 0

    def wait_ms(self, now_ms: int) -> int | None:
        """0: may go; a number: come again then; None: wait for the probe's answer."""
        if self.state is State.PROBING:
            return None
        return max(self._until_ms - now_ms, 0) if self.state is State.OPEN else 0

    def take(self) -> None:
        """One request goes; after a pause it is the probe."""
        if self.state is State.OPEN:
            self.state = State.PROBING

    def give_back(self) -> None:
        """The request that went out said nothing about the vendor's health: let another one probe."""
        if self.state is State.PROBING:
            self.state = State.OPEN

    def succeeded(self) -> None:
        """The vendor answered as a healthy one does."""
        # An answer to an old request does not close what newer failures opened, unless it is the probe's.
        if self.state is not State.OPEN:
            self.state = State.CLOSED
            self._pause_ms = FIRST_PAUSE_MS
            self._failures = 0

    def failed(self, now_ms: int, retry_after_s: float | None = None) -> None:
        """No answer, or one that says try again."""
        self._failures += 1
        if self.state is State.PROBING:
            self._pause_ms = min(self._pause_ms * 2, LONGEST_PAUSE_MS)
            self._open(now_ms, self._pause_ms)
        elif self.state is State.CLOSED and self._failures >= FAILURES_TO_OPEN:
            self._open(now_ms, self._pause_ms)
        if retry_after_s:
            self._open(now_ms, min(round(retry_after_s * 1000), LONGEST_HOLD_MS))

    def _open(self, now_ms: int, pause_ms: int) -> None:
        self.state = State.OPEN
        self._until_ms = max(self._until_ms, now_ms + pause_ms)


class TokenBucket:
    """At most `rate` requests a second in the long run, `rate` at once."""

    def __init__(self, rate: int) -> None:
        self._rate = rate
        self._tokens = float(rate)
        self._filled_at_ms: int | None = None

    def wait_ms(self, now_ms: int) -> int:
        """How long until the next request may go."""
        since_ms = 0 if self._filled_at_ms is None else max(now_ms - self._filled_at_ms, 0)
        self._tokens = min(self._tokens + since_ms * self._rate / 1000, float(self._rate))
        self._filled_at_ms = now_ms
        return 0 if self._tokens >= 1 else round((1 - self._tokens) * 1000 / self._rate) + 1

    def take(self) -> None:
        """One request goes."""
        self._tokens -= 1
