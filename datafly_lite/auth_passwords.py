"""Passwords: their rules, and Argon2id in a bounded number of threads."""

from __future__ import annotations

import anyio
import argon2
from anyio.to_thread import run_sync

from datafly_lite.auth_limits import rate_limited
from datafly_lite.errors import AdminError

SHORTEST = 12
"""Of everybody's password: anybody may be made the owner one day."""
LONGEST = 1024
HASHES_AT_ONCE = 2
HASHES_WAITING = 32
"""Beyond this the next log-in is asked to come again, or a flood of them would queue for minutes."""

HASHER = argon2.PasswordHasher(time_cost=2, memory_cost=19_456, parallelism=1)
"""OWASP's least parameters for Argon2id (Password Storage Cheat Sheet)."""

NOBODYS_HASH = (
    "$argon2id$v=19$m=19456,t=2,p=1$DHHVucJGlbv/4P1v6zuHpw$+Nu1b2pVaIqX65Lxe5rTIrBHRobs0BaxGl4NsywjSZU"
)
"""Of a password that was thrown away: an unknown user costs the same work as a known one."""


def check_password(password: str, *, field: str = "password") -> str:
    """The password, where its length is allowed. Raises VALIDATION_ERROR."""
    if len(password) < SHORTEST:
        raise AdminError.invalid(field, f"must have at least {SHORTEST} characters")
    return check_longest(password, field=field)


def check_longest(password: str, *, field: str = "password") -> str:
    """Refuse before any hashing what nobody can have set. Raises VALIDATION_ERROR."""
    if len(password) > LONGEST:
        raise AdminError.invalid(field, f"must have at most {LONGEST:,} characters")
    return password


class Passwords:
    """Hashes and verifies in threads, two at once, so that logins never stall ingest."""

    def __init__(self) -> None:
        self._limiter = anyio.CapacityLimiter(HASHES_AT_ONCE)

    async def hash(self, password: str) -> str:
        """The PHC string to keep. Raises RATE_LIMITED when too many wait."""
        self._refuse_a_crowd()
        return await run_sync(HASHER.hash, _encoded(password), limiter=self._limiter)

    async def matches(self, password: str, kept: str | None) -> bool:
        """Whether the password is the one kept; None takes as long and is always false."""
        self._refuse_a_crowd()
        right = await run_sync(_matches, kept or NOBODYS_HASH, password, limiter=self._limiter)
        return right and kept is not None

    def _refuse_a_crowd(self) -> None:
        if self._limiter.statistics().tasks_waiting >= HASHES_WAITING:
            raise rate_limited(HASHES_WAITING)


def _matches(kept: str, password: str) -> bool:
    try:
        return HASHER.verify(kept, _encoded(password))
    except (argon2.exceptions.VerificationError, argon2.exceptions.InvalidHashError):
        return False


def _encoded(password: str) -> bytes:
    """A form can carry half a surrogate pair, which UTF-8 has no bytes for."""
    return password.encode("utf-8", "surrogatepass")
