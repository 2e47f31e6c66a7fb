"""The audit log: an entry goes with its change, never changes, tells no secret; who comes in and who not."""

from __future__ import annotations

import sqlite3
from pathlib import Path
from typing import Any

import anyio
import msgspec
import pytest

from auth_kit import (
    BASE,
    MINUTE_MS,
    START_MS,
    OpenAuthority,
    bytes_on_disk,
    open_authority,
    refused,
    token_of,
)
from datafly_lite import audit
from datafly_lite.audit import LARGEST_VALUE_BYTES, Actor, Audited, Changed, acting
from datafly_lite.auth_audit import FAILED_LOGINS_A_MINUTE, FAILED_LOGINS_OF_A_NETWORK_A_MINUTE, NO_EMAIL
from datafly_lite.errors import AdminError
from datafly_lite.store import Store, accounts, audit_logs
from datafly_lite.store.audit_logs import AGED_OUT_AT_ONCE, KEPT_FOR_MS
from kit import open_store
from management_kit import PASSWORD

pytestmark = pytest.mark.anyio

ANN = Actor("usr_ann", "ann@example.com", "10.0.0.1", "curl/8")
THING = Audited("thing.updated", "thing")
ADDRESS = "203.0.113.7"


def now() -> int:
    return START_MS


async def entries(store: Store, now_ms: int = START_MS, **filters: Any) -> list[dict[str, Any]]:
    """Newest first, `changes` as values."""
    found = await store.read(audit_logs.page, filters, None, now_ms, 1_000)
    return [{**dict(row), "changes": msgspec.json.decode(row["changes"])} for row in found]


async def told(store: Store, *names: str, now_ms: int = START_MS) -> list[tuple[Any, ...]]:
    """These columns of each entry, oldest first."""
    return [tuple(one[name] for name in names) for one in reversed(await entries(store, now_ms))]


def make_user(connection: sqlite3.Connection, id_: str, changes: Any = None) -> Changed[str]:
    """A change of the store with an entry that says `changes`."""
    fields = {"id": id_, "email": id_, "name": "", "role": "viewer", "password_hash": None, "now_ms": 0}
    accounts.insert_user(connection, fields)
    return Changed("done", id_, {} if changes is None else changes)


def make_user_in_vain(connection: sqlite3.Connection, id_: str) -> Changed[str]:
    make_user(connection, id_)
    raise AdminError("CONFLICT", "no")


# ── An entry and its change ──────────────────────────────────────────────────────────────────


async def test_an_entry_says_who_did_what_from_where(data_dir: Path) -> None:
    async with open_store(data_dir / "datafly.db") as store:
        changes = {"name": {"old": None, "new": "Bob"}}
        with acting(ANN):
            assert await audit.write(store, now, THING, make_user, "usr_bob", changes) == "done"
        (entry,) = await entries(store)
        assert entry.pop("id").startswith("log_")
        assert entry == {
            "number": 1,
            "action": "thing.updated",
            "user_id": "usr_ann",
            "user_email": "ann@example.com",
            "resource_type": "thing",
            "resource_id": "usr_bob",
            "changes": changes,
            "ip_address": "10.0.0.1",
            "user_agent": "curl/8",
            "at_ms": START_MS,
        }


async def test_a_change_that_fails_leaves_no_entry(data_dir: Path) -> None:
    async with open_store(data_dir / "datafly.db") as store:
        assert await refused(audit.write(store, now, THING, make_user_in_vain, "usr_bob")) == "CONFLICT"
        assert await store.read(accounts.user, "usr_bob") is None
        assert await entries(store) == []


async def test_an_entry_that_cannot_be_written_undoes_its_change(data_dir: Path) -> None:
    async with open_store(data_dir / "datafly.db") as store:
        with pytest.raises(sqlite3.IntegrityError):
            await audit.write(store, now, Audited("thing.updated", None), make_user, "usr_bob")  # type: ignore[arg-type]
        assert await store.read(accounts.user, "usr_bob") is None


async def test_where_nothing_changed_there_is_no_entry(data_dir: Path) -> None:
    async with open_store(data_dir / "datafly.db") as store:
        await audit.write(store, now, THING, lambda _: Changed(None))
        same = {"id": "x", "name": "a", "updated_at": "1"}
        await audit.write(store, now, THING, lambda _: audit.updated(same, {**same, "updated_at": "2"}))
        assert await entries(store) == []


async def test_actors_at_once_do_not_mix(data_dir: Path) -> None:
    async def act(number: int) -> None:
        with acting(Actor(f"usr_{number}")):
            await anyio.lowlevel.checkpoint()
            await audit.write(store, now, THING, make_user, f"thing_{number}")

    async with open_store(data_dir / "datafly.db") as store:
        async with anyio.create_task_group() as tasks:
            for number in range(20):
                tasks.start_soon(act, number)
        await audit.write(store, now, THING, make_user, "thing_nobody")
        found = {one["resource_id"]: one["user_id"] for one in await entries(store)}
        assert found == {f"thing_{number}": f"usr_{number}" for number in range(20)} | {"thing_nobody": None}


async def test_what_strangers_send_is_bounded_and_kept_whatever_it_is(data_dir: Path) -> None:
    stranger = Actor(None, "\ud800@x" + "e" * 5_000, "a" * 5_000, "\x00\udc80" + "u" * 5_000)
    changes = {"small": {"old": "x" * 100, "new": 1}, "huge": {"old": None, "new": "y" * LARGEST_VALUE_BYTES}}
    async with open_store(data_dir / "datafly.db") as store:
        with acting(stranger):
            await audit.write(store, now, THING, make_user, "usr_bob", changes)
        (entry,) = await entries(store)
    assert entry["user_email"].startswith("?@xeee")
    assert entry["user_agent"].startswith("\x00?uuu")
    lengths = [len(entry[name]) for name in ("user_email", "ip_address", "user_agent")]
    assert lengths == [audit.LONGEST_EMAIL, audit.LONGEST_ADDRESS, audit.LONGEST_USER_AGENT]
    assert entry["changes"] == {
        "small": changes["small"],
        "huge": {"old": None, "new": "(65,538 bytes, too long to keep here)"},
    }


def test_only_what_is_different_is_told() -> None:
    before = {"id": "x", "org_id": "o", "name": "a", "labels": ["a"], "gone": 1, "created_at": "1"}
    after = {"id": "x", "org_id": "p", "name": "b", "labels": ["a"], "new": None, "created_at": "2"}
    assert audit.differences(before, after) == {
        "name": {"old": "a", "new": "b"},
        "gone": {"old": 1, "new": None},
    }
    masked = {"id": "x", "secret": "***"}
    assert audit.updated(masked, masked).changes is None
    assert audit.updated(masked, masked, ["secret"]).changes == {
        "secret": {"old": "***", "new": "*** (changed)"}
    }


# ── What stays and what goes ─────────────────────────────────────────────────────────────────


async def test_no_entry_can_be_changed(data_dir: Path) -> None:
    async with open_store(data_dir / "datafly.db") as store:
        await audit.write(store, now, THING, make_user, "usr_bob")
        with pytest.raises(sqlite3.IntegrityError, match="never changes"):
            await store.write(_forge)
        assert await told(store, "action") == [("thing.updated",)]


def _forge(connection: sqlite3.Connection) -> None:
    connection.execute("UPDATE audit_logs SET action = 'nothing'")


async def test_entries_go_after_ninety_days(data_dir: Path) -> None:
    async with open_store(data_dir / "datafly.db") as store:
        await store.write(_fill, START_MS, AGED_OUT_AT_ONCE + 5)
        await store.write(_fill, START_MS + MINUTE_MS, 1)
        end_ms = START_MS + KEPT_FOR_MS
        assert len(await entries(store, end_ms - 1)) == AGED_OUT_AT_ONCE + 6
        assert len(await entries(store, end_ms)) == 1, "shown though they are too old"
        await store.write(_fill, end_ms - 1, 1)
        assert await store.read(_count) == AGED_OUT_AT_ONCE + 7, "gone too early"
        await store.write(_fill, end_ms, 1)
        assert await store.read(_count) == 8
        await store.write(_fill, end_ms, 1)
        assert await store.read(_count) == 4
        assert len(await entries(store, end_ms)) == 4
        await store.write(_fill, end_ms + 2 * KEPT_FOR_MS, 1)
        assert await store.read(_count) == 1


def _fill(connection: sqlite3.Connection, at_ms: int, number: int) -> None:
    for index in range(number):
        audit_logs.insert(
            connection,
            audit_logs.Entry(
                id=f"log_{index}",
                action="thing.updated",
                user_id=None,
                user_email=None,
                resource_type="thing",
                resource_id=None,
                changes="{}",
                ip_address=None,
                user_agent=None,
                at_ms=at_ms,
            ),
        )


def _count(connection: sqlite3.Connection) -> int:
    return int(connection.execute("SELECT count(*) FROM audit_logs").fetchone()[0])


# ── Who comes in ─────────────────────────────────────────────────────────────────────────────


async def test_the_life_of_a_log_in_is_told(data_dir: Path) -> None:
    async with open_authority(data_dir) as auth:
        link = token_of(await auth.new_setup_link(BASE))
        with acting(Actor(ip_address=ADDRESS)):
            owner = await auth.set_up(link, "ann@example.com", PASSWORD, "Ann")
            tokens = await auth.issue_tokens(await auth.login("ann@example.com", PASSWORD, ADDRESS))
            await auth.refresh(tokens["refresh_token"])
            await auth.logout(tokens["access_token"])
            await auth.follow_sign_in_link(token_of(await auth.new_sign_in_link(BASE, owner.id)))
            await auth.close_session(await auth.open_session(owner))
        with acting(Actor(owner.id, owner.email, ADDRESS)):
            await auth.change_password(owner, PASSWORD, "another good password", ADDRESS)
        found = await told(auth.store, "action", "user_email", "ip_address", "resource_id")
        assert found == [
            (f"auth.{action}", "ann@example.com", ADDRESS, owner.id)
            for action in ("set_up", "login", "logout", "login", "logout", "password_changed")
        ]
        set_up, *_, changed = reversed(await entries(auth.store))
        assert set_up["changes"]["email"] == {"old": None, "new": "ann@example.com"}
        assert changed["changes"] == {"password": {"old": "***", "new": "*** (changed)"}}
    on_disk = bytes_on_disk(data_dir)
    assert b"auth.password_changed" in on_disk
    for secret in (PASSWORD, "another good password", link, tokens["access_token"], tokens["refresh_token"]):
        assert secret.encode() not in on_disk


async def test_what_the_program_does_itself_has_no_user(data_dir: Path) -> None:
    async with open_authority(data_dir) as auth:
        owner = await auth.ensure_owner("ann@example.com", PASSWORD)
        assert owner is not None
        assert await auth.ensure_owner("eve@example.com", PASSWORD) is None
        await auth.reset_password(owner, "another good password")
        assert await told(auth.store, "action", "user_id", "ip_address", "resource_id") == [
            ("auth.set_up", None, None, owner.id),
            ("auth.password_changed", None, None, owner.id),
        ]


async def test_a_refresh_token_that_comes_twice_is_told_once(data_dir: Path) -> None:
    async with open_authority(data_dir) as auth:
        ann = await auth.add("ann@example.com")
        old = (await auth.issue_tokens(await auth.login("ann@example.com", PASSWORD, ADDRESS)))[
            "refresh_token"
        ]
        await auth.refresh(old)
        for unusable in (old, old, "rt_unknown"):
            assert await refused(auth.refresh(unusable)) == "INVALID_REFRESH_TOKEN"
        found = await told(auth.store, "action", "user_id", "user_email")
        assert found[1:] == [("auth.refresh_reused", ann, "ann@example.com")]


async def test_ends_and_refusals_that_change_nothing_are_not_told(data_dir: Path) -> None:
    async with open_authority(data_dir) as auth:
        ann = await auth.add("ann@example.com")
        token = await auth.open_session(await auth.login("ann@example.com", PASSWORD, ADDRESS))
        for _ in range(2):
            await auth.close_session(token)
        await auth.logout("at_unknown")
        assert await refused(auth.follow_sign_in_link("li_unknown")) == "INVALID_TOKEN"
        assert await refused(auth.set_up("st_unknown", "eve@example.com", PASSWORD)) == "INVALID_TOKEN"
        assert await told(auth.store, "action", "resource_id") == [("auth.login", ann), ("auth.logout", ann)]


# ── Who does not come in ─────────────────────────────────────────────────────────────────────


async def fail(auth: OpenAuthority, email: str, address: str, password: str = "a wrong password") -> None:
    assert await refused(auth.login(email, password, address)) == "INVALID_CREDENTIALS"


async def test_a_failed_log_in_is_told_with_the_address_that_was_tried(data_dir: Path) -> None:
    async with open_authority(data_dir) as auth:
        ann = await auth.add("ann@example.com")
        with acting(Actor(ip_address=ADDRESS, user_agent="curl/8")):
            await fail(auth, " Ann@Example.com ", ADDRESS)
            await fail(auth, "nobody@example.com", ADDRESS)
            await fail(auth, "my secret passphrase", ADDRESS)
        found = await told(auth.store, "user_id", "user_email", "resource_id", "ip_address", "changes")
        assert found == [
            (None, "ann@example.com", ann, ADDRESS, {}),
            (None, "nobody@example.com", None, ADDRESS, {}),
            (None, NO_EMAIL, None, ADDRESS, {}),
        ]
    assert b"my secret passphrase" not in bytes_on_disk(data_dir)


async def test_guesses_do_not_flood_the_log_and_those_left_out_are_counted(data_dir: Path) -> None:
    async with open_authority(data_dir) as auth:
        for number in range(FAILED_LOGINS_OF_A_NETWORK_A_MINUTE + 3):
            await fail(auth, f"user-{number}@example.com", ADDRESS)
        assert len(await entries(auth.store)) == FAILED_LOGINS_OF_A_NETWORK_A_MINUTE
        await fail(auth, "ann@example.com", "198.51.100.1")
        newest = (await entries(auth.store))[0]
        assert newest["user_email"] == "ann@example.com"
        assert newest["changes"] == {"left_out_before": {"old": None, "new": 3}}
        for number in range(2 * FAILED_LOGINS_A_MINUTE):
            await fail(auth, "bob@example.com", f"198.51.100.{number + 2}")
        assert len(await entries(auth.store)) == FAILED_LOGINS_A_MINUTE
        auth.clock.now_ms += MINUTE_MS
        await fail(auth, "ann@example.com", "198.51.100.200")
        newest = (await entries(auth.store, auth.clock()))[0]
        left_out = 2 * FAILED_LOGINS_A_MINUTE - (
            FAILED_LOGINS_A_MINUTE - FAILED_LOGINS_OF_A_NETWORK_A_MINUTE - 1
        )
        assert newest["changes"] == {"left_out_before": {"old": None, "new": left_out}}


async def test_a_waiting_sender_adds_nothing(data_dir: Path) -> None:
    async with open_authority(data_dir) as auth:
        await auth.add("ann@example.com")
        for _ in range(5):
            await fail(auth, "ann@example.com", ADDRESS)
        assert await refused(auth.login("ann@example.com", PASSWORD, ADDRESS)) == "ACCOUNT_LOCKED"
        assert await told(auth.store, "action") == [("auth.login_failed",)] * 5
