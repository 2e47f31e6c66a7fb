"""Fixtures that all tests share; kit.py has what they are made of."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from kit import RecordingVendor, recording_vendor


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
