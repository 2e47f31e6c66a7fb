"""Who somebody is and what they may do: users, passwords, sessions, tokens, roles.

Tokens are opaque values of more than 220 bits, kept as SHA-256, so they can be revoked at once and a stolen
database logs nobody in (design.md, 4.9). What they look like on the wire is the product's
(spec/datafly-signal.md, 9.2).
"""

from __future__ import annotations

import sqlite3
from collections.abc import Awaitable, Callable, Mapping
from typing import Any, TypeVar

import anyio
import msgspec
import structlog

from datafly_lite import audit
from datafly_lite import auth_audit as audited
from datafly_lite import auth_transactions as transactions
from datafly_lite.audit import Audited, Changed
from datafly_lite.auth_keys import Bearer, is_key, is_whole
from datafly_lite.auth_limits import Ceiling, Failures, Sender, sender_of
from datafly_lite.auth_passwords import Passwords, check_longest, check_password
from datafly_lite.auth_people import (
    EMAIL,
    LONGEST_EMAIL,
    ROLES,
    User,
    checked_email,
    checked_name,
    lesser,
    require,
    user_of,
)
from datafly_lite.clock import Clock, new_id, new_token
from datafly_lite.errors import AdminError
from datafly_lite.settings import Settings
from datafly_lite.store import Store, accounts, api_keys

__all__ = [
    "EMAIL",
    "INVITATION_TTL_MS",
    "ROLES",
    "SECURE_SESSION_COOKIE",
    "SESSION_ABSOLUTE_MS",
    "SESSION_COOKIE",
    "SESSION_IDLE_MS",
    "SESSION_TOUCH_MS",
    "Authority",
    "Bearer",
    "User",
    "require",
    "session_cookie",
    "session_token_of",
]

LINK_TTL_MS = 30 * 60_000
INVITATION_TTL_MS = 72 * 3_600_000
SESSION_IDLE_MS = 2 * 3_600_000
SESSION_ABSOLUTE_MS = 12 * 3_600_000
SESSION_TOUCH_MS = 60_000
"""The last use of a session or a key is written down at most this often: ten requests are one change."""

LOGINS_A_MINUTE = 10
"""For one e-mail address from one network address (spec/datafly-signal.md, 9.2)."""

SECURE_SESSION_COOKIE = "__Host-datafly_session"
SESSION_COOKIE = "datafly_session"
"""The first over https, where browsers let no other site or page set it; the second over plain http."""

TOKEN_LENGTH = 50
"""Characters of 36: 258 bits."""

T = TypeVar("T")

log = structlog.get_logger(__name__)


def session_cookie(base_url: str) -> str:
    """The name of the cookie that the UI's session has under this address."""
    return SECURE_SESSION_COOKIE if base_url.startswith("https:") else SESSION_COOKIE


def session_token_of(cookies: Mapping[str, str], base_url: str) -> str | None:
    """The token of the UI's session, where the browser sent one. Over https the plain cookie is none: a
    neighbouring site or a plain page of the same host could have set it.
    """
    return cookies.get(session_cookie(base_url))


class Authority:
    """Decides who comes in. Every method raises AdminError with a code of api.md, section 2."""

    def __init__(
        self,
        store: Store,
        settings: Settings,
        clock: Clock,
        sleep: Callable[[float], Awaitable[None]] = anyio.sleep,
    ) -> None:
        self._store = store
        self._settings = settings
        self._clock = clock
        self._sleep = sleep
        self._passwords = Passwords()
        self._ceiling = Ceiling(LOGINS_A_MINUTE, clock)
        self._failures = Failures(clock)
        self._next_end = anyio.Event()
        self._failed_logins = audited.FailedLogins(store, clock)

    # ── The first owner, and one-time links ──────────────────────────────────────────────────

    async def has_owner(self) -> bool:
        """Whether the store has been set up."""
        return await self.owner() is not None

    async def owner(self) -> User | None:
        """The one owner."""
        row = await self._store.read(accounts.owner)
        return user_of(row) if row else None

    async def new_setup_link(self, base_url: str) -> str | None:
        """`{base}/setup?token=...` for 30 minutes and one use; None where there is an owner.

        A new one ends the one before.
        """
        text, token = self._new_token("st", "setup", None, LINK_TTL_MS)
        made = await self._store.write(transactions.replace_setup_token, token)
        return f"{base_url}/setup?token={text}" if made else None

    async def check_setup_token(self, token: str) -> None:
        """Raise GONE where there is an owner, INVALID_TOKEN or EXPIRED_TOKEN where the link is no good."""
        await self._store.read(transactions.check_setup, accounts.digest_of(token), self._clock())

    async def set_up(self, token: str, email: str, password: str, name: str = "") -> User:
        """Make the owner. Of two at once one wins, the other gets GONE."""
        await self.check_setup_token(token)
        fields, digest = await self._new_user(email, password, name, "owner"), accounts.digest_of(token)
        return user_of(await self._audited(audited.SET_UP, audited.set_up, digest, fields, self._clock()))

    async def ensure_owner(self, email: str, password: str, name: str = "") -> User | None:
        """Make the owner of an empty store; None, and nothing changed, where there is one."""
        if await self.has_owner():
            return None
        fields = await self._new_user(email, password, name, "owner")
        row = await self._audited(audited.SET_UP, audited.insert_first_owner, fields)
        return user_of(row) if row else None

    async def new_sign_in_link(self, base_url: str, user_id: str) -> str:
        """`{base}/sign-in?token=...`: signs this user in once within 30 minutes."""
        text, token = self._new_token("li", "signin", user_id, LINK_TTL_MS)
        await self._store.write(accounts.insert_tokens, [token])
        return f"{base_url}/sign-in?token={text}"

    async def follow_sign_in_link(self, token: str) -> User:
        """The link's user; GONE the second time."""
        digest = accounts.digest_of(token)
        row = await self._audited(audited.LOGIN, audited.follow_sign_in_link, digest, self._clock())
        return user_of(row)

    def new_invitation(self, user_id: str) -> tuple[str, accounts.Token]:
        """What the link of an invited user says, and the row to keep: good for INVITATION_TTL_MS."""
        return self._new_token("iv", "invite", user_id, INVITATION_TTL_MS)

    async def check_invitation(self, token: str) -> User:
        """Who was invited by it. Raises GONE, INVALID_TOKEN or EXPIRED_TOKEN."""
        digest = accounts.digest_of(token)
        return user_of(await self._store.read(transactions.check_invitation, digest, self._clock()))

    async def accept_invitation(self, token: str, password: str, name: str = "") -> User:
        """Who was invited, with this password from now on; an empty name leaves theirs."""
        await self.check_invitation(token)
        fields = {"name": checked_name(name.strip()) or None}
        check_password(password)
        fields["password_hash"] = await self._passwords.hash(password)
        digest, now_ms = accounts.digest_of(token), self._clock()
        row = await self._audited(audited.JOINED, audited.accept_invitation, digest, fields, now_ms)
        self._failures.forgive_all(row["email"])
        return user_of(row)

    # ── Log-in ───────────────────────────────────────────────────────────────────────────────

    async def login(self, email: str, password: str, address: str) -> User:
        """Who has this password. INVALID_CREDENTIALS for an unknown user and a wrong password alike,
        ACCOUNT_LOCKED while this address waits after failures, RATE_LIMITED above the ceiling.

        Others' failures only hold the attempt for a moment: nobody can lock the owner out.
        """
        check_longest(password)
        if len(email) > LONGEST_EMAIL:
            raise transactions.wrong_credentials()
        email = email.strip().lower()
        sender = sender_of(email, address)
        self._ceiling.take(sender)
        self._failures.check(sender)
        await self._sleep(self._failures.hold_ms(sender) / 1000)
        row = await self._store.read(accounts.user_by_email, email)
        try:
            known = await self._known(sender, row, password, address)
        except AdminError as error:
            if error.code == "INVALID_CREDENTIALS":
                await self._failed_logins.note(sender, row["id"] if row else None, email)
            raise
        seen = known["id"], known["password_hash"]
        return user_of(await self._audited(audited.LOGIN, audited.come_in, *seen, self._clock()))

    async def _known(
        self, sender: Sender, row: sqlite3.Row | None, password: str, address: str
    ) -> sqlite3.Row:
        """The row, if this is its password. An attempt has failed only then, so right ones side by side do
        not count; the second look makes guesses side by side count each.
        """
        kept = row["password_hash"] if row and row["status"] == "active" else None
        is_right = await self._passwords.matches(password, kept)
        self._failures.check(sender)
        if row is None or not is_right:
            self._failures.add(sender)
            log.warning("login refused", address=address)
            raise transactions.wrong_credentials()
        self._failures.forgive(sender)
        return row

    async def change_password(self, user: User, current: str, new: str, address: str) -> User:
        """Set a new password, which ends all of the user's sessions and tokens; the user after it."""
        check_password(new, field="new_password")
        # Under a name of its own: others' guesses at the log-in do not stand in a signed-in user's way.
        sender = sender_of(f"password of {user.id}", address)
        self._ceiling.take(sender)
        self._failures.check(sender)
        await self._known(sender, await self._store.read(accounts.user, user.id), current, address)
        return await self._set_password(user, new)

    async def reset_password(self, user: User, new: str) -> None:
        """Set a password without the old one, for the operator at the machine; ends all sessions."""
        check_password(new)
        await self._set_password(user, new)

    async def _set_password(self, user: User, new: str) -> User:
        hashed = await self._passwords.hash(new)
        change = audited.set_password_hash
        row = await self._audited(audited.PASSWORD_CHANGED, change, user.id, hashed, self._clock())
        self._failures.forgive_all(user.email)
        self.announce_end()
        return user_of(row)

    # ── Access and refresh tokens ────────────────────────────────────────────────────────────

    async def issue_tokens(self, user: User) -> dict[str, Any]:
        """`{"access_token", "refresh_token", "token_type": "Bearer", "expires_in": seconds}`."""
        answer, tokens = self._new_pair(user.id, new_id("fam"))
        await self._store.write(transactions.insert_tokens_of, user, tokens)
        return answer

    async def refresh(self, refresh_token: str) -> dict[str, Any]:
        """A new pair for a refresh token, once: a second use revokes all that its user has."""
        digest = accounts.digest_of(refresh_token)
        found = await self._store.read(accounts.token_with_user, digest, "refresh")
        family = found[0]["family"] if found else ""
        answer, tokens = self._new_pair(found[0]["subject"] if found else "", family)
        is_new = await self._audited(audited.REFRESH_REUSED, audited.rotate, digest, tokens, self._clock())
        if not is_new:
            self.announce_end()
            raise AdminError(
                "INVALID_REFRESH_TOKEN", "the refresh token is unknown, expired or was used before"
            )
        return answer

    async def logout(self, token: str) -> None:
        """End the log-in that this access token came from: its refresh tokens too."""
        await self._audited(audited.LOGOUT, audited.log_out, accounts.digest_of(token), "access")
        self.announce_end()

    async def bearer(self, token: str) -> Bearer:
        """Whom an access token or an API key stands for. INVALID_TOKEN, or EXPIRED_TOKEN: for an access
        token for a day after its end.
        """
        if is_key(token):
            return await self._bearer_of_key(token)
        found = await self._store.read(accounts.token_with_user, accounts.digest_of(token), "access")
        if found is None:
            raise AdminError("INVALID_TOKEN", "the access token is unknown or was revoked")
        if found[0]["expires_at_ms"] <= self._clock():
            raise AdminError("EXPIRED_TOKEN", "the access token has expired; refresh it")
        return Bearer(user_of(found[1]))

    async def user_of_bearer(self, token: str) -> User:
        """As `bearer`, where it does not matter by what."""
        return (await self.bearer(token)).user

    async def _bearer_of_key(self, key: str) -> Bearer:
        """Its maker, with the key's role or the maker's present one, whichever is less."""
        if not is_whole(key):
            raise AdminError("INVALID_TOKEN", "this is not a whole API key: its checksum is wrong")
        now_ms = self._clock()
        found = await self._store.read(transactions.key_with_user, accounts.digest_of(key))
        if found is None:
            raise AdminError("INVALID_TOKEN", "the API key is unknown or was deleted")
        row, user = found[0], user_of(found[1])
        if row["expires_at_ms"] is not None and row["expires_at_ms"] <= now_ms:
            raise AdminError("EXPIRED_TOKEN", "the API key has expired; make a new one")
        if now_ms - (row["last_used_at_ms"] or 0) >= SESSION_TOUCH_MS:
            await self._store.write(api_keys.touch, row["id"], now_ms)
        return Bearer(msgspec.structs.replace(user, role=lesser(row["role"], user.role)), row["id"])

    # ── Sessions of the UI ───────────────────────────────────────────────────────────────────

    async def open_session(self, user: User) -> str:
        """A session's token, for a cookie: it ends after 2 h without use, and after 12 h."""
        text, token = self._new_token("se", "session", user.id, SESSION_ABSOLUTE_MS)
        await self._store.write(transactions.insert_tokens_of, user, [token])
        return text

    async def user_of_session(self, token: str, *, touch: bool = True) -> User | None:
        """Whose session it is, if it still stands. Without `touch` this look does not count as use."""
        now_ms = self._clock()
        digest = accounts.digest_of(token)
        found = await self._store.read(accounts.token_with_user, digest, "session")
        if found is None or _has_ended(found[0], now_ms):
            return None
        if touch and now_ms - found[0]["last_used_at_ms"] >= SESSION_TOUCH_MS:
            await self._store.write(accounts.touch, digest, now_ms)
        return user_of(found[1])

    async def close_session(self, token: str) -> None:
        """End it on the server."""
        await self._audited(audited.LOGOUT, audited.log_out, accounts.digest_of(token), "session")
        self.announce_end()

    # ── Ends ─────────────────────────────────────────────────────────────────────────────────

    @property
    def next_end(self) -> anyio.Event:
        """Is set when a session, token or key is next ended: whoever looks on is to be asked for again."""
        return self._next_end

    def announce_end(self) -> None:
        """One was ended."""
        self._next_end.set()
        self._next_end = anyio.Event()

    # ── Parts ────────────────────────────────────────────────────────────────────────────────

    async def _audited(self, action: Audited, change: Callable[..., Changed[T]], *args: Any) -> T:
        return await audit.write(self._store, self._clock, action, change, *args)

    def _new_token(
        self, prefix: str, kind: str, subject: str | None, ttl_ms: int, family: str | None = None
    ) -> tuple[str, accounts.Token]:
        text, now_ms = new_token(prefix, TOKEN_LENGTH), self._clock()
        return text, accounts.Token(accounts.digest_of(text), kind, subject, family, now_ms, now_ms + ttl_ms)

    def _new_pair(self, user_id: str, family: str) -> tuple[dict[str, Any], list[accounts.Token]]:
        ttl_s, refresh_ttl_s = self._settings.access_token_ttl_s, self._settings.refresh_token_ttl_s
        access, access_row = self._new_token("at", "access", user_id, ttl_s * 1000, family)
        refresh, refresh_row = self._new_token("rt", "refresh", user_id, refresh_ttl_s * 1000, family)
        answer = {
            "access_token": access,
            "refresh_token": refresh,
            "token_type": "Bearer",
            "expires_in": ttl_s,
        }
        return answer, [access_row, refresh_row]

    async def _new_user(self, email: str, password: str, name: str, role: str) -> dict[str, Any]:
        fields = {
            "id": new_id("usr"),
            "email": checked_email(email),
            "name": checked_name(name),
            "role": role,
            "now_ms": self._clock(),
        }
        check_password(password)
        return {**fields, "password_hash": await self._passwords.hash(password)}


def _has_ended(session: sqlite3.Row, now_ms: int) -> bool:
    ends_at_ms: int = min(session["last_used_at_ms"] + SESSION_IDLE_MS, session["expires_at_ms"])
    return ends_at_ms <= now_ms
