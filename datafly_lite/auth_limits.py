"""How often somebody may try: pure arithmetic and small bounded counters."""

from __future__ import annotations

import hashlib
import ipaddress
from collections.abc import Hashable
from typing import Any, NamedTuple, TypeVar

from datafly_lite.clock import Clock
from datafly_lite.errors import AdminError

FREE_FAILURES = 4
"""The fifth failure in a row is the first that makes its sender wait (spec/datafly-signal.md, 9.2)."""

LONGEST_DELAY_MS = 15 * 60_000
FREE_FAILURES_OF_ACCOUNT = 50
"""From all addresses together; beyond it each attempt is held for a moment, and then heard."""

LONGEST_HOLD_MS = 3000
MINUTE_MS = 60_000
KEPT_KEYS = 4096
"""Of each table, at some 300 bytes each."""


Key = TypeVar("Key")


class Sender(NamedTuple):
    """Who tries to come in where, as digests: strangers choose how long their texts are."""

    account: bytes
    network: bytes


def sender_of(account: str, address: str) -> Sender:
    """An account by its e-mail address (or the like), tried from an IP address."""
    return Sender(digest_of(account), digest_of(_network_of(address)))


def digest_of(text: str) -> bytes:
    """Sixteen bytes that stand for the text."""
    return hashlib.blake2b(text.encode("utf-8", "surrogatepass"), digest_size=16).digest()


def _network_of(address: str) -> str:
    """Who counts as one: an IPv4 address, and the /64 that one customer has of IPv6."""
    try:
        found = ipaddress.ip_address(address)
    except ValueError:
        return address
    if isinstance(found, ipaddress.IPv4Address):
        return str(found)
    return str(found.ipv4_mapped or ipaddress.IPv6Network((int(found), 64), strict=False))


def delay_ms(failures: int) -> int:
    """The wait of a sender after so many failures in a row: 0, then 1 s, doubling, up to 15 minutes."""
    beyond = failures - FREE_FAILURES
    return 0 if beyond <= 0 else min(1000 << min(beyond - 1, 20), LONGEST_DELAY_MS)


def hold_ms(failures: int) -> int:
    """How long an attempt on an account is held after so many failures in a row from anywhere.

    It never grows beyond this, or anybody could keep the owner out (reliability.md, C2).
    """
    beyond = failures - FREE_FAILURES_OF_ACCOUNT
    return 0 if beyond <= 0 else min(100 << min(beyond - 1, 20), LONGEST_HOLD_MS)


def seconds(wait_ms: int) -> int:
    """Milliseconds to wait -> whole seconds for Retry-After, at least one."""
    return max(1, -(-wait_ms // 1000))


class Ceiling:
    """At most so many a minute for each key, counted in fixed minutes from a key's first use."""

    def __init__(self, a_minute: int, clock: Clock) -> None:
        self._a_minute = a_minute
        self._clock = clock
        self._windows: dict[Hashable, tuple[int, int]] = {}

    def take(self, key: Hashable) -> None:
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
    """Failures in a row, of each sender and on each account, whether or not anybody has that account.

    They are kept in memory: counting a guess costs no write, and a known account takes no longer than an
    unknown one.
    """

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self._of_senders: dict[Sender, tuple[int, int]] = {}
        self._on_accounts: dict[bytes, int] = {}

    def check(self, sender: Sender) -> None:
        """Raises ACCOUNT_LOCKED while this sender has to wait."""
        failures, failed_at_ms = self._of_senders.get(sender, (0, 0))
        left_ms = failed_at_ms + delay_ms(failures) - self._clock()
        if 0 < left_ms <= delay_ms(failures):  # a clock that was set back locks nobody out
            message = f"too many failed attempts; try again in {seconds(left_ms)} seconds"
            raise AdminError("ACCOUNT_LOCKED", message, retry_after_s=seconds(left_ms))

    def hold_ms(self, sender: Sender) -> int:
        """How long to hold an attempt on the sender's account before it is heard."""
        return hold_ms(self._on_accounts.get(sender.account, 0))

    def add(self, sender: Sender) -> None:
        """One more."""
        failures = self._of_senders.get(sender, (0, 0))[0] + 1
        _bound(self._of_senders, sender)
        self._of_senders[sender] = (failures, self._clock())
        on_account = self._on_accounts.get(sender.account, 0) + 1
        _bound(self._on_accounts, sender.account)
        self._on_accounts[sender.account] = on_account

    def forgive(self, sender: Sender) -> None:
        """The password was right: sender and account begin anew. Other senders go on waiting."""
        self._of_senders.pop(sender, None)
        self._on_accounts.pop(sender.account, None)

    def forgive_all(self, account: str) -> None:
        """The account has a new password: nobody's failures count any more."""
        digest = digest_of(account)
        self._on_accounts.pop(digest, None)
        self._of_senders = {key: one for key, one in self._of_senders.items() if key.account != digest}


def rate_limited(retry_after_s: int) -> AdminError:
    """In the words of the product's documentation (spec/datafly-signal.md, 9.1)."""
    message = f"Rate limit exceeded. Retry after {retry_after_s} seconds."
    return AdminError("RATE_LIMITED", message, retry_after_s=retry_after_s)


def _bound(table: dict[Key, Any], key: Key) -> None:
    """Make room: move the key to the end, and let the one that was used longest ago go."""
    table.pop(key, None)
    if len(table) >= KEPT_KEYS:
        del table[next(iter(table))]
