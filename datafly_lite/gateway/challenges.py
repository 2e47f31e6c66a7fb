"""Challenge tokens: short-lived proof that a client was let in by the pipeline's owner (seed 001)."""

from __future__ import annotations

import re
from typing import NamedTuple

from datafly_lite.clock import Clock, new_token
from datafly_lite.errors import Refused
from datafly_lite.store import Store, accounts, challenges

REMEMBERED = 10_000
TTL_MS = 15 * 60_000
SHARED_FOR_MS = 60_000
"""So long everyone who asks is given the same token: a flood of requests must not become a flood of rows."""
TOKEN = re.compile(r"ct_[a-z0-9]{20,100}")


class Challenge(NamedTuple):
    """A token, and when it ends."""

    token: str
    expires_at_ms: int


class Challenges:
    """Gives tokens out and checks them, remembering good ones so that few requests ask the store."""

    def __init__(self, store: Store, clock: Clock) -> None:
        self._store = store
        self._clock = clock
        self._known: dict[tuple[str, str], int] = {}
        self._newest: dict[str, Challenge] = {}

    async def issue(self, pipeline_id: str) -> Challenge:
        """A token for whoever the pipeline's origin rule lets in. Raises StorageError."""
        now_ms = self._clock()
        newest = self._newest.get(pipeline_id)
        if (
            newest is not None
            and 0 <= newest.expires_at_ms - TTL_MS + SHARED_FOR_MS - now_ms <= SHARED_FOR_MS
        ):
            return newest
        made = Challenge(new_token("ct"), now_ms + TTL_MS)
        row = accounts.Token(
            accounts.digest_of(made.token), "challenge", pipeline_id, None, now_ms, made.expires_at_ms
        )
        await self._store.write(accounts.insert_tokens, [row])
        self._newest[pipeline_id] = made
        return made

    def knows(self, pipeline_id: str, token: str | None) -> bool:
        """Whether the token can be checked without asking the store."""
        return (pipeline_id, token) in self._known

    async def check(self, pipeline_id: str, token: str | None) -> None:
        """Raise Refused `challenge_required` unless the token was made for this pipeline and still holds."""
        if not token or not TOKEN.fullmatch(token):
            raise Refused(
                "challenge_required", "this pipeline takes events only with a token in X-Challenge-Token"
            )
        expires_at_ms = self._known.get((pipeline_id, token))
        if expires_at_ms is None:
            expires_at_ms = await self._store.read(challenges.expiry, pipeline_id, token)
        if expires_at_ms <= self._clock():
            raise Refused(
                "challenge_required", "the challenge token is unknown or expired: ask for a new one"
            )
        if len(self._known) >= REMEMBERED:
            self._known.clear()
        self._known[pipeline_id, token] = expires_at_ms
