"""Challenge tokens: short-lived proof that a client was let in by the pipeline's owner (seed 001)."""

from __future__ import annotations

import re

from datafly_lite.clock import Clock
from datafly_lite.errors import Refused
from datafly_lite.store import Store, challenges

REMEMBERED = 10_000
TOKEN = re.compile(r"ct_[a-z0-9]{20,100}")


class Challenges:
    """Checks tokens, remembering the good ones until they expire so that few requests ask the store."""

    def __init__(self, store: Store, clock: Clock) -> None:
        self._store = store
        self._clock = clock
        self._known: dict[tuple[str, str], int] = {}

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
