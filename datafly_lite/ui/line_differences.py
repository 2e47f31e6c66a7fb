"""Two configurations side by side, line by line, with an end to the work that one page does.

difflib's time grows with the cube of the lines in the worst case (docs.python.org, difflib, SequenceMatcher:
quadratic in each of up to as many searches), and the lines are the users'. So what is equal at both ends is
cut off first, and what is left has bounds: the largest that it is given takes some 0.2 s.
"""

from __future__ import annotations

import difflib
from collections.abc import Iterable, Iterator, Mapping
from typing import Any, NamedTuple

from datafly_lite.management.typed import differing
from datafly_lite.ui.refused_events import visible

AROUND_LINES = 2
"""Unchanged lines shown before and after a changed one."""

MOST_LINES = 600
"""Of one field, before and after together: from its first changed line to its last one."""
MOST_CHARACTERS = 150_000

MOST_LINES_OF_PAGE = 3_000
MOST_CHARACTERS_OF_PAGE = 600_000


class Line(NamedTuple):
    """Of a difference: `sign` is -, +, or a space where it is the same on both sides, … where some are left
    out, which `text` may say more of.
    """

    sign: str
    text: str


class Difference(NamedTuple):
    """One field of the configuration, before and after."""

    field: str
    lines: list[Line]


class Comparison:
    """All that one page compares: what it has spent is not there for its next difference."""

    def __init__(self) -> None:
        self._left_lines = MOST_LINES_OF_PAGE
        self._left_characters = MOST_CHARACTERS_OF_PAGE

    def differences(self, old: Mapping[str, Any], new: Mapping[str, Any]) -> list[Difference]:
        """Each field that is another one, line by line."""
        return [
            Difference(visible(field), self._lines(list(lines_of(before)), list(lines_of(after))))
            for field, before, after in differing(old, new)
        ]

    def _lines(self, old: list[str], new: list[str]) -> list[Line]:
        head = _equal(old, new)
        tail = _equal(old[head:][::-1], new[head:][::-1])
        before, after = (side[head : len(side) - tail] for side in (old, new))
        if not self._takes(before, after):
            return [
                Line(
                    "…",
                    f"{_counted(before)} before, {len(after):,} after: too many to show line by line",
                )
            ]
        start = max(0, head - AROUND_LINES)
        old, new = (side[start : len(side) - max(0, tail - AROUND_LINES)] for side in (old, new))
        return list(_compared(old, new))

    def _takes(self, before: list[str], after: list[str]) -> bool:
        """Whether there is room for these; it is used up by them."""
        lines = len(before) + len(after)
        characters = sum(map(len, before)) + sum(map(len, after))
        if lines > min(MOST_LINES, self._left_lines):
            return False
        if characters > min(MOST_CHARACTERS, self._left_characters):
            return False
        self._left_lines -= lines
        self._left_characters -= characters
        return True


def _counted(lines: list[str]) -> str:
    return f"{len(lines):,} line{'' if len(lines) == 1 else 's'}"


def _equal(one: list[str], other: list[str]) -> int:
    """So many lines are the same from the first one on."""
    shorter = min(len(one), len(other))
    return next((place for place in range(shorter) if one[place] != other[place]), shorter)


def _compared(old: list[str], new: list[str]) -> Iterator[Line]:
    found = difflib.unified_diff(old, new, n=AROUND_LINES, lineterm="")
    for number, line in enumerate(list(found)[2:]):
        if not line.startswith("@@"):
            yield Line(line[0], visible(line[1:]))
        elif number:
            yield Line("…", "")


def lines_of(value: Any) -> Iterable[str]:
    """A value as lines: a list by its entries, a row as `event == 'x' → drop`, a switch as on or off."""
    if value is None or value in ("", []):
        return []
    if isinstance(value, bool):
        return ["on" if value else "off"]
    if isinstance(value, str):
        return value.splitlines()
    if isinstance(value, list):
        return [line for one in value for line in lines_of(one)]
    if isinstance(value, dict):
        return [" → ".join(line for one in value.values() for line in lines_of(one))]
    return [str(value)]
