"""Who comes in and who does not: links, passwords, waiting times, roles."""

from __future__ import annotations

import pickle
from collections.abc import Awaitable
from pathlib import Path

import anyio
import pytest

from auth_kit import (
    BASE,
    MINUTE_MS,
    Clock,
    OpenAuthority,
    open_authority,
    refused,
    signed_in,
    token_of,
)
from datafly_lite.auth import ROLES, User, require
from datafly_lite.auth_limits import KEPT_KEYS, LONGEST_DELAY_MS, Ceiling, Failures, delay_ms, sender_of
from datafly_lite.auth_passwords import HASHER, HASHES_WAITING, NOBODYS_HASH
from datafly_lite.errors import AdminError
from datafly_lite.store import accounts
from management_kit import PASSWORD, PASSWORD_HASH

pytestmark = pytest.mark.anyio


# ── Set-up and links ─────────────────────────────────────────────────────────────────────────


async def test_the_setup_link_makes_one_owner_once(data_dir: Path) -> None:
    async with open_authority(data_dir) as auth:
        link = await auth.new_setup_link(BASE)
        assert link is not None
        assert link.startswith(f"{BASE}/setup?token=st_")
        assert not await auth.has_owner()
        owner = await auth.set_up(token_of(link), " Ann@Example.COM ", PASSWORD, "Ann")
        assert (owner.email, owner.name, owner.role, owner.status) == (
            "ann@example.com",
            "Ann",
            "owner",
            "active",
        )
        assert await auth.has_owner()
        assert await refused(auth.set_up(token_of(link), "eve@example.com", PASSWORD)) == "GONE"
        assert await refused(auth.check_setup_token(token_of(link))) == "GONE"
        assert await auth.new_setup_link(BASE) is None
        assert (await auth.login("ann@example.com", PASSWORD, "::1")).id == owner.id


async def test_wrong_expired_and_replaced_setup_links_make_nobody(data_dir: Path) -> None:
    async with open_authority(data_dir) as auth:
        first = token_of(await auth.new_setup_link(BASE))
        for wrong in ("", "st_", "x" * 5000, first[:-1], first.upper(), "\x00"):
            assert await refused(auth.set_up(wrong, "eve@example.com", PASSWORD)) == "INVALID_TOKEN"
        second = token_of(await auth.new_setup_link(BASE))
        assert await refused(auth.set_up(first, "eve@example.com", PASSWORD)) == "INVALID_TOKEN"
        auth.clock.now_ms += 30 * MINUTE_MS
        assert await refused(auth.set_up(second, "eve@example.com", PASSWORD)) == "EXPIRED_TOKEN"
        assert not await auth.has_owner()


async def test_two_set_ups_at_once_make_one_owner(data_dir: Path) -> None:
    async with open_authority(data_dir) as auth:
        token = token_of(await auth.new_setup_link(BASE))
        outcomes: list[str] = []

        async def try_it(email: str) -> None:
            try:
                outcomes.append((await auth.set_up(token, email, PASSWORD)).email)
            except AdminError as error:
                outcomes.append(error.code)

        async with anyio.create_task_group() as tasks:
            for number in range(4):
                tasks.start_soon(try_it, f"{number}@example.com")
        owner = await auth.owner()
        assert owner is not None
        assert sorted(outcomes) == sorted([owner.email, "GONE", "GONE", "GONE"])


@pytest.mark.parametrize(
    ("email", "password", "field"),
    [
        ("no-address", PASSWORD, "email"),
        ("a@b\nc", PASSWORD, "email"),
        ("a b@c", PASSWORD, "email"),
        ("a@" + "b" * 300, PASSWORD, "email"),
        ("a@b.example", "x" * 11, "password"),
        ("a@b.example", "x" * 1025, "password"),
        ("a@b.example", "x" * 1_000_000, "password"),
    ],
)
async def test_a_bad_owner_is_refused_and_the_link_stays_good(
    data_dir: Path, email: str, password: str, field: str
) -> None:
    async with open_authority(data_dir) as auth:
        token = token_of(await auth.new_setup_link(BASE))
        with pytest.raises(AdminError) as caught:
            await auth.set_up(token, email, password)
        assert (caught.value.code, caught.value.details[0]["field"]) == ("VALIDATION_ERROR", field)
        assert (await auth.set_up(token, "a@b.example", "x" * 1024)).role == "owner"


async def test_the_owner_of_the_settings_is_made_once(data_dir: Path) -> None:
    async with open_authority(data_dir) as auth:
        made = await auth.ensure_owner("ann@example.com", PASSWORD)
        assert made is not None
        assert await auth.ensure_owner("eve@example.com", "another password!") is None
        assert await auth.owner() == made


async def test_a_sign_in_link_works_once_for_thirty_minutes(data_dir: Path) -> None:
    async with open_authority(data_dir) as auth:
        user_id = await auth.add("ann@example.com", "editor")
        first, second = [token_of(await auth.new_sign_in_link(BASE, user_id)) for _ in range(2)]
        assert (await auth.follow_sign_in_link(first)).id == user_id
        assert await refused(auth.follow_sign_in_link(first)) == "GONE"
        auth.clock.now_ms += 30 * MINUTE_MS
        assert await refused(auth.follow_sign_in_link(second)) == "EXPIRED_TOKEN"
        assert await refused(auth.follow_sign_in_link("li_unknown")) == "INVALID_TOKEN"


async def test_a_link_of_one_kind_is_no_link_of_another(data_dir: Path) -> None:
    async with open_authority(data_dir) as auth:
        setup = token_of(await auth.new_setup_link(BASE))
        signin = token_of(await auth.new_sign_in_link(BASE, await auth.add("ann@example.com")))
        assert await refused(auth.follow_sign_in_link(setup)) == "INVALID_TOKEN"
        assert await refused(auth.set_up(signin, "eve@example.com", PASSWORD)) == "INVALID_TOKEN"
        assert await refused(auth.user_of_bearer(signin)) == "INVALID_TOKEN"
        assert await auth.user_of_session(signin) is None


# ── Log-in ───────────────────────────────────────────────────────────────────────────────────


async def test_unknown_wrong_invited_and_disabled_look_alike(data_dir: Path) -> None:
    async with open_authority(data_dir) as auth:
        await auth.add("ann@example.com")
        await auth.add("gone@example.com", status="disabled")
        await auth.add("new@example.com", status="invited")
        errors = []
        for email, password in (
            ("ann@example.com", "wrong password"),
            ("nobody@example.com", PASSWORD),
            ("gone@example.com", PASSWORD),
            ("new@example.com", PASSWORD),
        ):
            with pytest.raises(AdminError) as caught:
                await auth.login(email, password, "10.0.0.1")
            errors.append((caught.value.code, caught.value.message, caught.value.retry_after_s))
        assert errors == [("INVALID_CREDENTIALS", errors[0][1], None)] * 4


def test_nobodys_hash_costs_what_a_real_one_does() -> None:
    assert NOBODYS_HASH.split("$")[:4] == PASSWORD_HASH.split("$")[:4]
    assert not HASHER.check_needs_rehash(NOBODYS_HASH)


@pytest.mark.parametrize("email", ["ann@example.com", "nobody@example.com"])
@pytest.mark.parametrize(
    "addresses", [("10.0.0.1",) * 2, ("2001:db8::1", "2001:db8::ffff:1"), ("10.0.0.1", "::ffff:10.0.0.1")]
)
async def test_failures_make_their_sender_wait_longer_and_longer(
    data_dir: Path, email: str, addresses: tuple[str, str]
) -> None:
    """Somebody who does not exist waits as somebody who does: the answer tells nothing."""
    async with open_authority(data_dir) as auth:
        await auth.add("ann@example.com")
        waits = []
        for _ in range(8):
            assert await refused(auth.login(email, "wrong password", addresses[0])) == "INVALID_CREDENTIALS"
            with pytest.raises(AdminError) as caught:
                await auth.login(email, "wrong password", addresses[1])
            waits.append(caught.value.retry_after_s if caught.value.code == "ACCOUNT_LOCKED" else None)
            auth.clock.now_ms += MINUTE_MS
        assert waits[:2] == [None, None]  # two guesses a round: the fifth is the first of the third round
        assert waits[2:] == [1, 2, 4, 8, 16, 32]


async def fail(auth: OpenAuthority, times: int, email: str, address: str) -> None:
    for _ in range(times):
        assert await refused(auth.login(email, "wrong", address)) == "INVALID_CREDENTIALS"


async def test_the_right_password_works_after_the_wait_and_others_never_wait(data_dir: Path) -> None:
    async with open_authority(data_dir) as auth:
        await auth.add("ann@example.com", "owner")
        await auth.add("bob@example.com")
        signed_in = await auth.open_session(await auth.login("ann@example.com", PASSWORD, "10.0.0.1"))
        await fail(auth, 5, "ann@example.com", "10.9.9.9")
        assert await refused(auth.login("ann@example.com", PASSWORD, "10.9.9.9")) == "ACCOUNT_LOCKED"
        assert (await auth.login("bob@example.com", PASSWORD, "10.9.9.9")).email == "bob@example.com"
        assert await auth.user_of_session(signed_in) is not None
        auth.clock.now_ms += MINUTE_MS
        assert (await auth.login("ann@example.com", PASSWORD, "10.9.9.9")).last_login_at is not None
        await fail(auth, 4, "ann@example.com", "10.9.9.9")  # forgiven: four more are free again
        assert (await auth.login("ann@example.com", PASSWORD, "10.9.9.9")).role == "owner"


async def test_nobody_can_lock_the_owner_out(data_dir: Path) -> None:
    async with open_authority(data_dir) as auth:
        await auth.add("ann@example.com", "owner")
        for number in range(12):
            await fail(auth, 5, "ann@example.com", f"10.9.9.{number}")
        auth.held_s.clear()
        assert (await auth.login("ann@example.com", PASSWORD, "10.0.0.1")).role == "owner"
        assert auth.held_s == [3]  # and heard after it
        assert await refused(auth.login("ann@example.com", PASSWORD, "10.9.9.1")) == "ACCOUNT_LOCKED"


@pytest.mark.parametrize("email", ["ann@example.com", "nobody@example.com"])
async def test_guesses_from_everywhere_are_held_ever_longer_up_to_three_seconds(
    data_dir: Path, email: str
) -> None:
    async with open_authority(data_dir) as auth:
        await auth.add("ann@example.com")
        for number in range(60):
            await fail(auth, 1, email, f"10.9.9.{number}")
        assert auth.held_s == [0] * 51 + [0.1, 0.2, 0.4, 0.8, 1.6] + [3] * 4


async def test_others_guesses_do_not_stop_a_change_of_the_password(data_dir: Path) -> None:
    async with open_authority(data_dir) as auth:
        await auth.add("ann@example.com")
        user = await auth.login("ann@example.com", PASSWORD, "10.0.0.1")
        await fail(auth, 5, "ann@example.com", "10.0.0.1")
        assert await refused(auth.login("ann@example.com", PASSWORD, "10.0.0.1")) == "ACCOUNT_LOCKED"
        await auth.change_password(user, PASSWORD, "a new password", "10.0.0.1")
        assert (await auth.login("ann@example.com", "a new password", "10.0.0.1")).id == user.id


async def test_guesses_in_a_stolen_session_wait_too(data_dir: Path) -> None:
    async with open_authority(data_dir) as auth:
        user = await signed_in(auth)
        for code in ["INVALID_CREDENTIALS"] * 5 + ["ACCOUNT_LOCKED"] * 5 + ["RATE_LIMITED"]:
            assert await refused(auth.change_password(user, "wrong", "a new password", "10.0.0.1")) == code


async def test_the_operators_new_password_lifts_the_lock(data_dir: Path) -> None:
    async with open_authority(data_dir) as auth:
        user = await signed_in(auth)
        for number in range(12):
            await fail(auth, 5, "ann@example.com", f"10.9.9.{number}")
        await auth.reset_password(user, "a new password")
        auth.held_s.clear()
        assert (await auth.login("ann@example.com", "a new password", "10.9.9.9")).id == user.id
        assert auth.held_s == [0]


async def side_by_side(auth: OpenAuthority, passwords: list[str]) -> list[str]:
    """The outcomes of as many log-ins at once, from one address."""
    outcomes: list[str] = []

    async def log_in(password: str) -> None:
        try:
            outcomes.append((await auth.login("ann@example.com", password, "10.0.0.1")).email)
        except AdminError as error:
            outcomes.append(error.code)

    async with anyio.create_task_group() as tasks:
        for password in passwords:
            tasks.start_soon(log_in, password)
    return sorted(outcomes)


async def test_guesses_side_by_side_count_each(data_dir: Path) -> None:
    async with open_authority(data_dir) as auth:
        await auth.add("ann@example.com")
        counted = ["ACCOUNT_LOCKED"] * 5 + ["INVALID_CREDENTIALS"] * 5 + ["RATE_LIMITED"] * 2
        assert await side_by_side(auth, ["wrong"] * 12) == counted


async def test_right_passwords_side_by_side_all_come_in(data_dir: Path) -> None:
    async with open_authority(data_dir) as auth:
        await auth.add("ann@example.com")
        assert await side_by_side(auth, [PASSWORD] * 7) == ["ann@example.com"] * 7


async def test_a_huge_email_is_a_wrong_one_and_is_kept_nowhere(data_dir: Path) -> None:
    async with open_authority(data_dir) as auth:
        for number in range(20):
            email = f"{number}@{'x' * 1_000_000}"
            assert await refused(auth.login(email, PASSWORD, "10.0.0.1")) == "INVALID_CREDENTIALS"
        assert (auth._ceiling._windows, auth._failures._of_senders, auth._failures._on_accounts) == ({},) * 3
        await fail(auth, 2, f"{'x' * 290}@b.example"[:300], "10.0.0.1")
        kept = pickle.dumps((auth._ceiling._windows, auth._failures._of_senders, auth._failures._on_accounts))
        assert len(kept) < 500  # digests only


async def test_ten_attempts_a_minute_from_one_address_for_one_email(data_dir: Path) -> None:
    async with open_authority(data_dir) as auth:
        await auth.add("ann@example.com")
        for _ in range(10):
            await auth.login("ann@example.com", PASSWORD, "10.0.0.1")
        with pytest.raises(AdminError) as caught:
            await auth.login("ANN@example.com", PASSWORD, "10.0.0.1")
        assert (caught.value.code, caught.value.retry_after_s) == ("RATE_LIMITED", 60)
        assert (await auth.login("ann@example.com", PASSWORD, "10.0.0.2")).email == "ann@example.com"
        auth.clock.now_ms += MINUTE_MS
        assert (await auth.login("ann@example.com", PASSWORD, "10.0.0.1")).email == "ann@example.com"


async def test_a_huge_password_is_refused_before_anything_is_hashed_or_counted(data_dir: Path) -> None:
    async with open_authority(data_dir) as auth:
        await auth.add("ann@example.com")
        for _ in range(20):
            assert (
                await refused(auth.login("ann@example.com", "x" * 1_000_000, "10.0.0.1"))
                == "VALIDATION_ERROR"
            )
        assert (await auth.login("ann@example.com", PASSWORD, "10.0.0.1")).email == "ann@example.com"


async def test_log_ins_do_not_hold_up_the_store_and_a_flood_is_told_to_come_again(data_dir: Path) -> None:
    async with open_authority(data_dir) as auth:
        await auth.add("ann@example.com")
        order: list[str] = []

        async def log_in(number: int) -> None:
            try:
                await auth.login("ann@example.com" if number < 8 else "nobody", "wrong", f"10.0.{number}.1")
            except AdminError as error:
                order.append(error.code)

        async def write() -> None:
            await auth.store.write(accounts.delete_tokens_of_kind, "setup")
            order.append("written")

        async with anyio.create_task_group() as tasks:
            for number in range(HASHES_WAITING + 20):
                tasks.start_soon(log_in, number)
            tasks.start_soon(write)
        assert "written" in order[:-2]
        assert len(order) == HASHES_WAITING + 21


async def test_a_new_password_ends_everything_and_needs_the_old_one(data_dir: Path) -> None:
    async with open_authority(data_dir) as auth:
        await auth.add("ann@example.com")
        user = await auth.login("ann@example.com", PASSWORD, "10.0.0.1")
        session, tokens = await auth.open_session(user), await auth.issue_tokens(user)

        def change(old: str, new: str) -> Awaitable[object]:
            return auth.change_password(user, old, new, "10.0.0.1")

        assert await refused(change("wrong", "a new password")) == "INVALID_CREDENTIALS"
        assert await refused(change(PASSWORD, "short")) == "VALIDATION_ERROR"
        assert await auth.user_of_session(session) == await auth.user_of_bearer(tokens["access_token"])
        await change(PASSWORD, "a new password")
        assert await auth.user_of_session(session) is None
        assert await refused(auth.user_of_bearer(tokens["access_token"])) == "INVALID_TOKEN"
        assert await refused(auth.refresh(tokens["refresh_token"])) == "INVALID_REFRESH_TOKEN"
        assert await refused(auth.login("ann@example.com", PASSWORD, "10.0.0.1")) == "INVALID_CREDENTIALS"
        assert (await auth.login("ann@example.com", "a new password", "10.0.0.1")).id == user.id


# ── Arithmetic ───────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize(
    ("failures", "seconds"),
    [(0, 0), (1, 0), (4, 0), (5, 1), (6, 2), (7, 4), (14, 512), (15, 900), (16, 900), (10_000, 900)],
)
def test_the_delay_doubles_up_to_a_quarter_of_an_hour(failures: int, seconds: int) -> None:
    assert delay_ms(failures) == seconds * 1000
    assert LONGEST_DELAY_MS == 900_000


def test_the_ceiling_survives_a_clock_that_jumps_and_many_keys() -> None:
    clock = Clock()
    ceiling = Ceiling(2, clock)
    ceiling.take("a")
    ceiling.take("a")
    for jump_ms in (-3_600_000, 3_600_000):
        clock.now_ms += jump_ms
        ceiling.take("a")
        ceiling.take("a")
        with pytest.raises(AdminError, match="Retry after 60 seconds"):
            ceiling.take("a")
    for number in range(20_000):
        ceiling.take(f"key {number}")
    assert len(ceiling._windows) <= KEPT_KEYS


def test_failures_of_many_strangers_and_of_a_clock_set_back_are_forgotten() -> None:
    clock = Clock()
    failures = Failures(clock)
    ann = sender_of("ann@example.com", "10.0.0.1")
    for _ in range(20):
        failures.add(ann)
    with pytest.raises(AdminError):
        failures.check(ann)
    clock.now_ms -= 3_600_000
    failures.check(ann)
    for number in range(20_000):
        failures.add(sender_of(f"{number}@example.com", "not an address"))
    assert len(failures._of_senders) == len(failures._on_accounts) == KEPT_KEYS


@pytest.mark.parametrize("role", ROLES)
@pytest.mark.parametrize("needed", ROLES)
def test_a_role_includes_those_below_it(role: str, needed: str) -> None:
    user = User(
        id="", email="", name="", role=role, status="active", last_login_at=None, created_at="", updated_at=""
    )
    if ROLES.index(role) >= ROLES.index(needed):
        require(user, needed)
    else:
        with pytest.raises(AdminError) as caught:
            require(user, needed)
        assert caught.value.code == "FORBIDDEN"
