"""Tokens that carry a visitor to another site, made and redeemed (spec/datafly-signal.md, 6.5, old flow).

AES-256-GCM under the appliance's key. A token names its visitor, the one host that it is for, its end, and
the browser by the digest of its User-Agent: who is sent a copied link is mostly another browser.
"""

from __future__ import annotations

import base64
import hashlib
import re
from collections.abc import Mapping
from typing import NamedTuple

import msgspec

from datafly_lite.clock import Clock
from datafly_lite.errors import StorageRefused
from datafly_lite.gateway import callers
from datafly_lite.keyring import Keyring
from datafly_lite.store import Store, handovers

PURPOSE = b"cross_domain"
TTL_MS = 120_000
"""At most two minutes (reliability.md, case 111): a link is followed at once."""
NO_POLICY: Mapping[str, bool] = {}
TOKEN = re.compile(r"[A-Za-z0-9_-]{40,700}")


class Sealed(msgspec.Struct, frozen=True, array_like=True):
    """What a token holds."""

    pipeline_id: str
    anonymous_id: str
    host: str
    browser: bytes
    expires_at_ms: int


class Handover(NamedTuple):
    """A token, and when it ends."""

    token: str
    expires_at_ms: int


class Claim(NamedTuple):
    """A token as a request brings it, from a page of `host`. `present` is the visitor whom a cookie names."""

    token: str
    host: str
    user_agent: str | None
    pipeline_id: str
    message_id: str | None
    present: str | None
    is_granted: bool
    """Whether the request itself agrees to functional cookies."""


class Redeemed(NamedTuple):
    """What came of a token: its `visitor`, or that it was one for this page and browser and is no more."""

    visitor: str | None = None
    is_used: bool = False
    is_expired: bool = False


class Handovers:
    """Gives tokens out and redeems them."""

    def __init__(self, store: Store, keyring: Keyring, clock: Clock) -> None:
        self._store = store
        self._keyring = keyring
        self._clock = clock

    async def issue(
        self,
        pipeline_id: str,
        anonymous_id: str,
        host: str,
        user_agent: str | None,
        default_policy: Mapping[str, bool] = NO_POLICY,
    ) -> Handover | None:
        """A token for one host; None where the visitor refused functional cookies. Raises StorageError.

        `default_policy` is what holds of a visitor who never said (consent.py).
        """
        choices = await self._store.read(handovers.choices_of, anonymous_id)
        if {**default_policy, **choices}.get("functional") is False:
            return None
        expires_at_ms = self._clock() + TTL_MS
        sealed = Sealed(pipeline_id, anonymous_id, host, _browser(user_agent), expires_at_ms)
        secret = self._keyring.encrypt(msgspec.msgpack.encode(sealed), PURPOSE)
        return Handover(base64.urlsafe_b64encode(secret).rstrip(b"=").decode(), expires_at_ms)

    async def redeem(self, claim: Claim) -> Redeemed:
        """The visitor of a good token, once and for a moment more (store/handovers.py). Raises StorageError.

        The store is asked only for a token that this appliance made, for this page and this browser.
        """
        secret = _bytes_of(claim.token)
        sealed = None if secret is None else self._opened(secret)
        if secret is None or sealed is None or not _is_for(sealed, claim):
            return Redeemed()
        now_ms = self._clock()
        if now_ms >= sealed.expires_at_ms:
            return Redeemed(is_expired=True)
        redemption = handovers.Redemption(
            digest=hashlib.sha256(secret).digest(),
            anonymous_id=sealed.anonymous_id,
            pipeline_id=claim.pipeline_id,
            message_id=claim.message_id,
            present=claim.present,
            is_granted=claim.is_granted,
            now_ms=now_ms,
            expires_at_ms=sealed.expires_at_ms,
        )
        outcome = await self._store.write(handovers.redeem, redemption)
        return Redeemed(sealed.anonymous_id if outcome == "holds" else None, outcome == "used")

    def _opened(self, secret: bytes) -> Sealed | None:
        try:
            return msgspec.msgpack.decode(self._keyring.decrypt(secret, PURPOSE), type=Sealed)
        except (StorageRefused, msgspec.MsgspecError):
            return None


def _is_for(sealed: Sealed, claim: Claim) -> bool:
    return (
        sealed.host == claim.host
        and sealed.browser == _browser(claim.user_agent)
        and sealed.anonymous_id != claim.present
        and callers.UUID4.fullmatch(sealed.anonymous_id) is not None
    )


def _bytes_of(token: str) -> bytes | None:
    """What a token stands for: two spellings of one are one."""
    if not TOKEN.fullmatch(token) or len(token) % 4 == 1:
        return None
    return base64.urlsafe_b64decode(token + "=" * (-len(token) % 4))


def _browser(user_agent: str | None) -> bytes:
    return hashlib.blake2b((user_agent or "").encode("utf-8", "replace"), digest_size=8).digest()
