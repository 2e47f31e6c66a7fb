"""One worker an attachment: its queue is the table, its clock the time of the next attempt.

A crash between sending and recording sends again, with the same id; that is "at least once".
"""

from __future__ import annotations

import time
from collections import deque

import anyio
import structlog

from datafly_lite.clock import Clock, iso_s
from datafly_lite.configuration import Attachment, LiveConfiguration
from datafly_lite.delivery.attempt import Attempts, Result
from datafly_lite.delivery.breaker import Breaker, TokenBucket
from datafly_lite.delivery.redaction import Redaction
from datafly_lite.errors import StorageUnavailable
from datafly_lite.events import DeliveryStatus, Verdict
from datafly_lite.settings import Settings
from datafly_lite.store import Store
from datafly_lite.store import deliveries as rows

PAGE_ROWS = 200
PAGE_BYTES = 2 * 1024 * 1024
UNRECORDED_LIMIT = 256
"""Outcomes that wait for their commit; beyond it nothing more is sent."""

LONGEST_SLEEP_MS = 60_000
"""The wall clock may be set while we sleep by another one."""

STORE_PAUSE_S = 1.0

log = structlog.get_logger(__name__)


def monotonic_ms() -> int:
    """Milliseconds of a clock that nobody sets."""
    return time.monotonic_ns() // 1_000_000


class Worker:
    """Sends what is due for one attachment, a few at a time, the oldest first."""

    def __init__(
        self,
        attachment: Attachment,
        attempts: Attempts,
        store: Store,
        configuration: LiveConfiguration,
        settings: Settings,
        clock: Clock,
        monotonic: Clock,
    ) -> None:
        self._attachment = attachment
        self._redaction = Redaction(attachment.secrets)
        self._attempts = attempts
        self._store = store
        self._configuration = configuration
        self._concurrency = settings.delivery_concurrency
        self._longest_delay_ms = settings.retry_max_delay_s * 1000 + LONGEST_SLEEP_MS
        self._clock = clock
        self._monotonic = monotonic
        self._breaker = Breaker()
        self._bucket = TokenBucket(settings.delivery_rate_limit_rps)
        self._page: deque[rows.Due] = deque()
        self._under_way: set[int] = set()
        self._unrecorded: list[rows.Attempted] = []
        self._look_at_ms: int | None = 0
        self._cancellations = 0
        self._halt: tuple[Verdict, str, str] | None = None
        self._turn = anyio.Lock()
        self._changed = anyio.Event()
        self._to_record = anyio.Event()
        self._senders = anyio.CancelScope()
        self._stopping = False
        self._senders_done = False

    # ── What others ask for ──────────────────────────────────────────────────────────────────

    def wake(self) -> None:
        """There may be something new to send."""
        self._look_at(0)
        self._changed.set()

    def look_again(self) -> None:
        """Some of what waits was cancelled: what was read of it does not count any more."""
        self._cancellations += 1
        self._page.clear()
        self.wake()

    def update(self, attachment: Attachment) -> None:
        """Take up another state of the attachment; what is under way ends with the old one."""
        if attachment == self._attachment:
            return
        if attachment.revision_id != self._attachment.revision_id:
            self._breaker = Breaker()
        self._attachment = attachment
        self._redaction = Redaction(attachment.secrets)
        self._page.clear()  # its rows may be decided by somebody else while we do not send
        self.wake()

    def stop(self) -> None:
        """Begin nothing more; `run` returns when what is under way is recorded."""
        self._stopping = True
        self._changed.set()

    def cut_short(self) -> None:
        """Give up what is under way: it stays pending and is sent again after the next start."""
        self.stop()
        self._senders.cancel()

    async def run(self) -> None:
        """Work until `stop`. Raises StorageBroken."""
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(self._record)
            with self._senders:
                async with anyio.create_task_group() as senders:
                    for _ in range(self._concurrency):
                        senders.start_soon(self._send)
            self._senders_done = True
            self._to_record.set()

    # ── Sending ──────────────────────────────────────────────────────────────────────────────

    async def _send(self) -> None:
        while (due := await self._next()) is not None:
            attachment = self._attachment
            self._settle(attachment, await self._attempts.make(due, attachment, self._redaction))

    async def _next(self) -> rows.Due | None:
        """The next delivery, when its time has come; one task at a time waits for it. None at the end."""
        async with self._turn:
            while not self._stopping:
                wait_ms = self._wait_ms()
                if wait_ms != 0:
                    await self._sleep(wait_ms)
                elif self._page:
                    return self._take()
                else:
                    await self._fetch()
        return None

    def _wait_ms(self) -> int | None:
        """0: go on; a number: so long; None: until something changes."""
        if not self._may_send() or len(self._unrecorded) >= UNRECORDED_LIMIT:
            return None
        now_ms = self._clock()
        if not self._page and (self._look_at_ms is None or self._look_at_ms > now_ms):
            return None if self._look_at_ms is None else self._look_at_ms - now_ms
        monotonic = self._monotonic()
        wait_ms = self._breaker.wait_ms(monotonic)
        return self._bucket.wait_ms(monotonic) if wait_ms == 0 else wait_ms

    def _may_send(self) -> bool:
        return self._attachment.enabled and self._attachment.mode != "paused" and self._halt is None

    async def _sleep(self, wait_ms: int | None) -> None:
        self._changed = anyio.Event()
        longest_ms = LONGEST_SLEEP_MS if wait_ms is None else min(wait_ms, LONGEST_SLEEP_MS)
        with anyio.move_on_after(longest_ms / 1000):
            await self._changed.wait()

    def _take(self) -> rows.Due:
        due = self._page.popleft()
        self._under_way.add(due.id)
        self._breaker.take()
        self._bucket.take()
        return due

    async def _fetch(self) -> None:
        self._look_at_ms = None  # a wake during the read must not be lost
        cancellations = self._cancellations
        page = await self._store.read(
            rows.due, self._attachment.id, self._clock(), PAGE_ROWS, PAGE_BYTES, frozenset(self._under_way)
        )
        if cancellations != self._cancellations:  # some of it may have been cancelled during the read
            self._look_at(0)
            return
        self._page.extend(page.due)
        if page.next_due_at_ms is None:
            return
        latest_ms = self._clock() + self._longest_delay_ms
        if page.next_due_at_ms > latest_ms:
            # No delay is so long: the clock was ahead when it was set, and has been put right since.
            await self._store.write(rows.pull_back, self._attachment.id, latest_ms, self._clock())
            self._look_at(0)
        else:
            self._look_at(page.next_due_at_ms)

    def _look_at(self, at_ms: int) -> None:
        self._look_at_ms = at_ms if self._look_at_ms is None else min(self._look_at_ms, at_ms)

    def _settle(self, attachment: Attachment, result: Result) -> None:
        """Take note of one result: for the breaker, for the integration and for the recorder."""
        self._unrecorded.append(result.attempted)
        outcome = result.outcome
        if outcome is None or (outcome.status is None and outcome.verdict is Verdict.GIVE_UP):
            self._breaker.give_back()
        elif outcome.verdict is Verdict.RETRY:
            self._breaker.failed(self._monotonic(), outcome.retry_after_s)
        else:
            self._breaker.succeeded()
        if outcome is not None and outcome.verdict in (Verdict.PAUSE, Verdict.DISABLE):
            self._halt = (
                outcome.verdict,
                attachment.revision_id,
                self._trouble(outcome.verdict, outcome.status),
            )
        self._changed.set()
        self._to_record.set()

    def _trouble(self, verdict: Verdict, status: int | None) -> str:
        when = iso_s(self._clock())
        if verdict is Verdict.DISABLE:
            return f"The vendor answered {status} (gone) at {when}, so it was disabled. What waits is kept."
        return (
            f"The vendor refused the credentials with {status} at {when}, so it was paused. "
            "What waits is kept; correct the settings and set it live again."
        )

    # ── Recording ────────────────────────────────────────────────────────────────────────────

    async def _record(self) -> None:
        """Commit the outcomes; all that gather during one commit share the next."""
        while self._unrecorded or self._halt is not None or not self._senders_done:
            if self._unrecorded:
                await self._commit(list(self._unrecorded))
            elif self._halt is not None:
                await self._hold(*self._halt)
            else:
                self._to_record = anyio.Event()
                await self._to_record.wait()

    async def _commit(self, batch: list[rows.Attempted]) -> None:
        try:
            await self._store.write(rows.record_attempts, batch)
        except StorageUnavailable as error:
            await self._store_pause(error)
            return
        del self._unrecorded[: len(batch)]
        for one in batch:
            self._under_way.discard(one.delivery_id)
            if one.status == DeliveryStatus.PENDING:
                self._look_at(one.next_attempt_at_ms)
        self._changed.set()

    async def _hold(self, verdict: Verdict, revision_id: str, trouble: str) -> None:
        """Write down that the integration stops; until the configuration says so, `_halt` does."""
        stop = rows.disable_attachment if verdict is Verdict.DISABLE else rows.pause_attachment
        try:
            await self._store.write(stop, self._attachment.id, revision_id, trouble, self._clock())
        except StorageUnavailable as error:
            await self._store_pause(error)
            return
        log.warning("delivery stopped an integration", attachment=self._attachment.id, trouble=trouble)
        await self._configuration.reload()
        self._halt = None
        self._changed.set()

    async def _store_pause(self, error: StorageUnavailable) -> None:
        """The events are sent and must be noted, so wait and try again; at the end of all give them up."""
        if self._senders.cancel_called:
            log.warning("outcomes not recorded, their events will be sent again", count=len(self._unrecorded))
            self._unrecorded.clear()
            self._halt = None
            return
        log.warning("outcomes not recorded yet", error=str(error), count=len(self._unrecorded))
        await anyio.sleep(STORE_PAUSE_S)
