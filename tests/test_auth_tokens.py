"""What stands for a user: access and refresh tokens, sessions of the UI."""

from __future__ import annotations

import contextlib
from pathlib import Path

import anyio
import pytest

from auth_kit import (
    BASE,
    MINUTE_MS,
    START_MS,
    bytes_on_disk,
    open_authority,
    refused,
    set_status,
    signed_in,
    token_of,
)
from datafly_lite.auth import SESSION_ABSOLUTE_MS, SESSION_IDLE_MS
from datafly_lite.errors import AdminError
from management_kit import PASSWORD

pytestmark = pytest.mark.anyio


async def test_tokens_have_the_documented_shape(data_dir: Path) -> None:
    async with open_authority(data_dir) as auth:
        user = await signed_in(auth)
        tokens = await auth.issue_tokens(user)
        assert list(tokens) == ["access_token", "refresh_token", "token_type", "expires_in"]
        assert (tokens["token_type"], tokens["expires_in"]) == ("Bearer", 900)
        assert await auth.user_of_bearer(tokens["access_token"]) == user
        assert await refused(auth.user_of_bearer(tokens["refresh_token"])) == "INVALID_TOKEN"


async def test_an_access_token_expires_after_fifteen_minutes(data_dir: Path) -> None:
    async with open_authority(data_dir) as auth:
        tokens = await auth.issue_tokens(await signed_in(auth))
        auth.clock.now_ms += 15 * MINUTE_MS - 1
        assert await auth.user_of_bearer(tokens["access_token"])
        auth.clock.now_ms += 1
        assert await refused(auth.user_of_bearer(tokens["access_token"])) == "EXPIRED_TOKEN"
        auth.clock.now_ms += 2 * 24 * 60 * MINUTE_MS
        tokens = await auth.refresh(tokens["refresh_token"])
        assert await auth.user_of_bearer(tokens["access_token"])


async def test_a_refresh_token_works_once_and_its_second_use_ends_everything(data_dir: Path) -> None:
    async with open_authority(data_dir) as auth:
        user = await signed_in(auth)
        first, other = await auth.issue_tokens(user), await auth.issue_tokens(user)
        session = await auth.open_session(user)
        second = await auth.refresh(first["refresh_token"])
        assert second["refresh_token"] != first["refresh_token"]
        assert await refused(auth.refresh(first["refresh_token"])) == "INVALID_REFRESH_TOKEN"
        for tokens in (first, second, other):
            assert await refused(auth.user_of_bearer(tokens["access_token"])) == "INVALID_TOKEN"
            assert await refused(auth.refresh(tokens["refresh_token"])) == "INVALID_REFRESH_TOKEN"
        assert await auth.user_of_session(session) is None


async def test_a_stolen_refresh_token_does_not_end_another_users_tokens(data_dir: Path) -> None:
    async with open_authority(data_dir) as auth:
        first = await auth.issue_tokens(await signed_in(auth))
        bob = await auth.issue_tokens(await signed_in(auth, "bob@example.com"))
        await auth.refresh(first["refresh_token"])
        assert await refused(auth.refresh(first["refresh_token"])) == "INVALID_REFRESH_TOKEN"
        assert (await auth.user_of_bearer(bob["access_token"])).email == "bob@example.com"


@pytest.mark.parametrize("token", ["", "rt_", "x" * 10_000, "\ud800", "é"])
async def test_garbage_is_no_token(data_dir: Path, token: str) -> None:
    async with open_authority(data_dir) as auth:
        assert await refused(auth.refresh(token)) == "INVALID_REFRESH_TOKEN"
        assert await refused(auth.user_of_bearer(token)) == "INVALID_TOKEN"
        assert await auth.user_of_session(token) is None
        await auth.logout(token)
        await auth.close_session(token)


async def test_a_refresh_token_expires_after_seven_days(data_dir: Path) -> None:
    async with open_authority(data_dir) as auth:
        tokens = await auth.issue_tokens(await signed_in(auth))
        auth.clock.now_ms += 7 * 24 * 60 * MINUTE_MS
        assert await refused(auth.refresh(tokens["refresh_token"])) == "INVALID_REFRESH_TOKEN"


async def test_logging_out_ends_one_log_in_and_no_other(data_dir: Path) -> None:
    async with open_authority(data_dir) as auth:
        user = await signed_in(auth)
        here, there = await auth.issue_tokens(user), await auth.issue_tokens(user)
        here = await auth.refresh(here["refresh_token"])
        await auth.logout(here["access_token"])
        assert await refused(auth.user_of_bearer(here["access_token"])) == "INVALID_TOKEN"
        assert await refused(auth.refresh(here["refresh_token"])) == "INVALID_REFRESH_TOKEN"
        assert await auth.user_of_bearer(there["access_token"]) == user


async def test_tokens_of_a_disabled_user_are_no_good(data_dir: Path) -> None:
    async with open_authority(data_dir) as auth:
        user = await signed_in(auth)
        tokens, session = await auth.issue_tokens(user), await auth.open_session(user)
        link = token_of(await auth.new_sign_in_link(BASE, user.id))
        await auth.store.write(set_status, user.id, "disabled")
        assert await refused(auth.user_of_bearer(tokens["access_token"])) == "INVALID_TOKEN"
        assert await refused(auth.refresh(tokens["refresh_token"])) == "INVALID_REFRESH_TOKEN"
        assert await refused(auth.follow_sign_in_link(link)) == "INVALID_TOKEN"
        assert await auth.user_of_session(session) is None


async def test_a_session_ends_when_idle_when_old_and_when_closed(data_dir: Path) -> None:
    async with open_authority(data_dir) as auth:
        user = await signed_in(auth)
        idle, used, watched, closed = [await auth.open_session(user) for _ in range(4)]
        assert len({idle, used, watched, closed}) == 4
        await auth.close_session(closed)
        assert await auth.user_of_session(closed) is None
        for _ in range(3):
            auth.clock.now_ms += SESSION_IDLE_MS // 2
            assert await auth.user_of_session(used) == user
            await auth.user_of_session(watched, touch=False)
        assert await auth.user_of_session(idle) is None
        assert await auth.user_of_session(watched) is None
        while auth.clock.now_ms < START_MS + SESSION_ABSOLUTE_MS - SESSION_IDLE_MS // 2:
            auth.clock.now_ms += SESSION_IDLE_MS // 2
            assert (await auth.user_of_session(used) is None) == (
                auth.clock.now_ms >= START_MS + SESSION_ABSOLUTE_MS
            )
        auth.clock.now_ms = START_MS + SESSION_ABSOLUTE_MS
        assert await auth.user_of_session(used) is None


async def test_nothing_secret_lies_in_the_data_folder(data_dir: Path) -> None:
    async with open_authority(data_dir) as auth:
        setup = token_of(await auth.new_setup_link(BASE))
        owner = await auth.set_up(setup, "ann@example.com", PASSWORD)
        link = token_of(await auth.new_sign_in_link(BASE, owner.id))
        tokens, session = await auth.issue_tokens(owner), await auth.open_session(owner)
        planted = [PASSWORD, setup, link, session, tokens["access_token"], tokens["refresh_token"]]
        found = bytes_on_disk(data_dir)
    found += bytes_on_disk(data_dir)
    assert b"ann@example.com" in found
    assert [secret for secret in planted if secret.encode() in found] == []


async def test_a_log_in_that_overlaps_a_new_password_gets_no_tokens(data_dir: Path) -> None:
    async with open_authority(data_dir) as auth:
        user = await signed_in(auth)
        auth.clock.now_ms += MINUTE_MS
        changed = await auth.change_password(user, PASSWORD, "a new password", "10.0.0.1")
        assert await refused(auth.issue_tokens(user)) == "INVALID_CREDENTIALS"
        assert await refused(auth.open_session(user)) == "INVALID_CREDENTIALS"
        assert (await auth.issue_tokens(changed))["token_type"] == "Bearer"


async def test_log_ins_beside_a_new_password_leave_nothing_of_the_old_one(data_dir: Path) -> None:
    async with open_authority(data_dir) as auth:
        user = await signed_in(auth)
        auth.clock.now_ms += MINUTE_MS
        tokens: list[str] = []

        async def come_in() -> None:
            with contextlib.suppress(AdminError):
                found = await auth.issue_tokens(await auth.login(user.email, PASSWORD, "10.0.0.2"))
                tokens.append(found["access_token"])

        async with anyio.create_task_group() as tasks:
            for _ in range(4):
                tasks.start_soon(come_in)
            tasks.start_soon(auth.change_password, user, PASSWORD, "a new password", "10.0.0.1")
        assert [await refused(auth.bearer(token)) for token in tokens] == ["INVALID_TOKEN"] * len(tokens)
