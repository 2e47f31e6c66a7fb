"""How often somebody may try: pure arithmetic and small bounded counters."""

from __future__ import annotations

from datafly_lite.clock import Clock
from datafly_lite.errors import AdminError

FREE_FAILURES = 4
"""The fifth failure in a row is the first that makes its account wait (spec/datafly-signal.md, 9.2)."""

LONGEST_DELAY_MS = 15 * 60_000
MINUTE_MS = 60_000
KEPT_KEYS = 10_000


def delay_ms(failures: int) -> int:
    """The wait after so many failures in a row: 0, then 1 s, doubling, up to 15 minutes.

    It grows instead of locking for good, or anybody could lock the owner out (reliability.md, C2).
    """
    beyond = failures - FREE_FAILURES
    return 0 if beyond <= 0 else min(1000 << min(beyond - 1, 20), LONGEST_DELAY_MS)


def seconds(wait_ms: int) -> int:
    """Milliseconds to wait -> whole seconds for Retry-After, at least one."""
    return max(1, -(-wait_ms // 1000))


class Ceiling:
    """At most so many a minute for each key, counted in fixed minutes from a key's first use."""

    def __init__(self, a_minute: int, clock: Clock) -> None:
        self._a_minute = a_minute
        self._clock = clock
        self._windows: dict[str, tuple[int, int]] = {}

    def take(self, key: str) -> None:
        """Count one. Raises RATE_LIMITED."""
        now_ms = self._clock()
        started_ms, count = self._windows.get(key, (now_ms, 0))
        if not 0 <= now_ms - started_ms < MINUTE_MS:  # also when the clock was set back
            started_ms, count = now_ms, 0
        if count >= self._a_minute:
            raise rate_limited(seconds(started_ms + MINUTE_MS - now_ms))
        _bound(self._windows, key)
        self._windows[key] = (started_ms, count + 1)


class Failures:
    """Failed log-ins of e-mail addresses that nobody has, so that they answer as real ones do."""

    def __init__(self) -> None:
        self._found: dict[str, tuple[int, int]] = {}

    def locked_until_ms(self, email: str) -> int:
        """When the next attempt is heard."""
        return self._found.get(email, (0, 0))[1]

    def add(self, email: str, now_ms: int) -> None:
        """One more failure."""
        failures = self._found.get(email, (0, 0))[0] + 1
        _bound(self._found, email)
        self._found[email] = (failures, now_ms + delay_ms(failures))


def rate_limited(retry_after_s: int) -> AdminError:
    """In the words of the product's documentation (spec/datafly-signal.md, 9.1)."""
    message = f"Rate limit exceeded. Retry after {retry_after_s} seconds."
    return AdminError("RATE_LIMITED", message, retry_after_s=retry_after_s)


def _bound(table: dict[str, tuple[int, int]], key: str) -> None:
    """Make room: move the key to the end, and let the one that was used longest ago go."""
    table.pop(key, None)
    if len(table) >= KEPT_KEYS:
        del table[next(iter(table))]
