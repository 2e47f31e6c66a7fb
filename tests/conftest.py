"""Fixtures that all tests share; kit.py has what they are made of."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import pytest
from playwright.sync_api import Browser

from kit import Management, RecordingVendor, Server, recording_vendor
from ui_kit import chromium


@pytest.fixture(scope="session")
def anyio_backend() -> str:
    """The product runs on asyncio (Hypercorn, aiohttp, aiosqlite), so its tests do."""
    return "asyncio"


@pytest.fixture(autouse=True)
def _no_settings_from_outside(monkeypatch: pytest.MonkeyPatch) -> None:
    """What the person who runs the tests has set must not change them."""
    for name in [name for name in os.environ if name.startswith("DATAFLY_")]:
        monkeypatch.delenv(name)


@pytest.fixture
def data_dir(tmp_path: Path) -> Path:
    """A data folder that does not exist yet."""
    return tmp_path / "data"


@pytest.fixture
def vendor() -> Iterator[RecordingVendor]:
    """A webhook receiver on loopback."""
    with recording_vendor() as running:
        yield running


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    """A Chromium. While it runs no test may start an event loop of its own: so it ends with the module."""
    with chromium() as running:
        yield running


@pytest.fixture(scope="module")
def management(server: Server) -> Management:
    """The management API of the module's own `server`, as its owner."""
    return Management(server.base_url)
