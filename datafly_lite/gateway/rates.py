"""How many events a second a pipeline takes."""

from __future__ import annotations

from collections.abc import Callable

from datafly_lite.errors import Refused


class RateLimit:
    """A count a pipeline and second. Sustained, exactly the limit passes; across the edge of two
    seconds a burst of twice the limit can, which a small site will not notice.

    `monotonic` gives seconds that no change of the wall clock touches.
    """

    def __init__(self, monotonic: Callable[[], float]) -> None:
        self._monotonic = monotonic
        self._second = 0
        self._counts: dict[str, int] = {}

    def admit(self, pipeline_id: str, limit: int, events: int = 1) -> bool:
        """Count the events and say whether they may pass. All of a request pass, or none.

        A batch larger than the limit passes alone in its second: else it never could.
        """
        second = int(self._monotonic())
        if second != self._second:
            self._second = second
            self._counts.clear()
        count = self._counts.get(pipeline_id, 0)
        if count and count + events > limit:
            return False
        self._counts[pipeline_id] = count + events
        return limit > 0

    @staticmethod
    def refusal(limit: int) -> Refused:
        """What a client beyond the limit is told: the count begins anew with the next second."""
        return Refused("rate_limited", f"more than {limit} events a second", retry_after_s=1)
