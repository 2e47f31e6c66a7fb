"""An Authority on a real store, with a clock that stands until it is moved."""

from __future__ import annotations

import contextlib
from collections.abc import AsyncIterator, Awaitable
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, urlsplit

import pytest

from datafly_lite.auth import Authority, User
from datafly_lite.clock import new_id
from datafly_lite.errors import AdminError
from datafly_lite.settings import Settings
from datafly_lite.store import Store, accounts
from kit import open_store
from management_kit import PASSWORD, PASSWORD_HASH

MINUTE_MS = 60_000
BASE = "http://localhost:8084"
START_MS = 1_772_000_000_000


class Clock:
    """A clock that stands until it is moved."""

    def __init__(self) -> None:
        self.now_ms = START_MS

    def __call__(self) -> int:
        return self.now_ms


class OpenAuthority(Authority):
    """An Authority with its store and clock at hand."""

    store: Store
    clock: Clock
    held_s: list[float]

    async def add(self, email: str, role: str = "viewer", status: str = "active") -> str:
        """A user with PASSWORD, made without hashing it once more."""
        fields = {"id": new_id("usr"), "email": email, "name": "", "role": role, "now_ms": self.clock()}
        await self.store.write(accounts.insert_user, {**fields, "password_hash": PASSWORD_HASH})
        await self.store.write(set_status, fields["id"], status)
        return str(fields["id"])


def bytes_on_disk(data_dir: Path) -> bytes:
    """All that lies in the data folder."""
    return b"".join(one.read_bytes() for one in data_dir.iterdir() if one.is_file())


def set_status(connection: Any, user_id: str, status: str) -> None:
    """Work for the store."""
    connection.execute("UPDATE users SET status = ? WHERE id = ?", (status, user_id))


@contextlib.asynccontextmanager
async def open_authority(data_dir: Path) -> AsyncIterator[OpenAuthority]:
    async with open_store(data_dir / "datafly.db") as store:
        clock, held_s = Clock(), list[float]()

        async def hold(seconds: float) -> None:
            held_s.append(seconds)

        made = OpenAuthority(store, Settings(data_dir=data_dir), clock, hold)
        made.store, made.clock, made.held_s = store, clock, held_s
        yield made


async def refused(work: Awaitable[Any]) -> str:
    """The code of the error that this must raise."""
    with pytest.raises(AdminError) as caught:
        await work
    return caught.value.code


def token_of(link: str | None) -> str:
    assert link is not None
    return parse_qs(urlsplit(link).query)["token"][0]


async def signed_in(auth: OpenAuthority, email: str = "ann@example.com") -> User:
    await auth.add(email)
    return await auth.login(email, PASSWORD, "10.0.0.1")
