"""How many events a second a pipeline takes."""

from __future__ import annotations

import math
from collections.abc import Callable

from datafly_lite.errors import Refused


class RateLimit:
    """A count for each pipeline that its limit pays off as time goes by.

    A request passes while the count is below the limit, whole: what its batch takes beyond the limit is
    owed, and the following seconds pay for it. So the limit holds in the long run, and a batch finds its
    place among single events, however large it is. Across the edge of two seconds a burst of twice the
    limit can pass, which a small site will not notice.

    `monotonic` gives seconds that no change of the wall clock touches.
    """

    def __init__(self, monotonic: Callable[[], float]) -> None:
        self._monotonic = monotonic
        self._counts: dict[str, tuple[int, int]] = {}

    def admit(self, name: str, limit: int, events: int = 1) -> None:
        """Count the events of a request. Raises Refused `rate_limited` with the seconds until one passes.

        `name` is a pipeline's id, or that of something else that it does and that has a count of its own.
        """
        second = int(self._monotonic())
        since, count = self._counts.get(name, (second, 0))
        count = max(0, count - limit * (second - since))
        if count >= limit:
            wait_s = math.ceil((count - limit + 1) / limit) if limit > 0 else 1
            raise Refused("rate_limited", f"more than {limit} a second", retry_after_s=wait_s)
        self._counts[name] = (second, count + events)
