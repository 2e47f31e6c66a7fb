"""A power loss loses nothing acknowledged; the last test shows that the simulation would see it."""

from __future__ import annotations

import random
import re
import sqlite3
import sys
from contextlib import closing
from pathlib import Path

import pytest

from acknowledge import TEXT
from power_loss import Loss, Said, after_loss, record

ACKNOWLEDGE = Path(__file__).parent / "acknowledge.py"
NOTES = 120
CUTS = 200
SEED = 20_260_225


def losses(folder: Path, synchronous: str) -> list[Loss]:
    """One recorded run, and the power cut at random places of it."""
    path = folder / "datafly.db"
    command = [sys.executable, str(ACKNOWLEDGE), str(path), "0", synchronous]
    record(command, folder / "first-trace")  # so that the file is there: its making is not what is tested
    before = {str(path): path.read_bytes()}
    command[3] = str(NOTES)
    operations = record(command, folder / "trace")
    promises = [place for place, one in enumerate(operations) if isinstance(one, Said)]
    assert len(promises) == NOTES
    chance = random.Random(SEED)
    cuts = [chance.randint(promises[0], promises[-1] + 1) for _ in range(CUTS)]
    return [after_loss(before, operations, cut, chance) for cut in cuts]


def lost(loss: Loss, folder: Path) -> int:
    """How many acknowledged notes are gone after the restart; fails when the file is damaged."""
    for one in folder.iterdir():
        one.unlink()
    for path, data in loss.files.items():
        (folder / Path(path).name).write_bytes(data)
    with closing(sqlite3.connect(folder / "datafly.db")) as connection:
        assert connection.execute("PRAGMA integrity_check").fetchone() == ("ok",)
        stored = {number for number, text in connection.execute("SELECT id, text FROM notes") if text == TEXT}
    acknowledged = {int(number) for number in re.findall(r"^acknowledged (\d+)$", loss.said, re.MULTILINE)}
    return len(acknowledged - stored)


@pytest.fixture
def folders(tmp_path: Path) -> tuple[Path, Path]:
    """Where the run writes, and where the state after a loss is opened."""
    made = tmp_path / "run", tmp_path / "after"
    for one in made:
        one.mkdir()
    return made


def test_no_acknowledged_change_is_lost_when_the_power_goes(folders: tuple[Path, Path]) -> None:
    run, after = folders
    assert [lost(loss, after) for loss in losses(run, "FULL")] == [0] * CUTS


def test_without_a_sync_for_each_commit_the_simulation_sees_losses(folders: tuple[Path, Path]) -> None:
    run, after = folders
    assert sum(lost(loss, after) > 0 for loss in losses(run, "NORMAL")) > CUTS / 2
