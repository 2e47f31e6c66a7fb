"""What a page tells of two configurations, line by line, and that it ends soon whatever the lines are."""

from __future__ import annotations

import difflib
from collections import Counter
from collections.abc import Iterator
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from datafly_lite.ui.line_differences import (
    MOST_CHARACTERS,
    MOST_CHARACTERS_OF_PAGE,
    MOST_LINES,
    MOST_LINES_OF_PAGE,
    Comparison,
    Line,
)
from datafly_lite.ui.revisions import history
from kit import Management, Server
from ui_kit import Client, running_ui

LINES = st.lists(st.sampled_from(["a", "b", "}", ""]), max_size=30)
AROUND = 2


def told(old: list[str], new: list[str]) -> list[Line]:
    """The lines of the one field that differs; none where they are the same."""
    return [line for one in Comparison().differences({"x": old}, {"x": new}) for line in one.lines]


class Asked:
    """All that difflib was asked to compare."""

    def __init__(self) -> None:
        self.pairs: list[tuple[list[str], list[str]]] = []

    @property
    def lines(self) -> int:
        return sum(len(old) + len(new) for old, new in self.pairs)

    @property
    def characters(self) -> int:
        return sum(len(line) for pair in self.pairs for side in pair for line in side)


@pytest.fixture
def asked(monkeypatch: pytest.MonkeyPatch) -> Asked:
    """The real difflib, overheard."""
    made, real = Asked(), difflib.unified_diff

    def overheard(old: list[str], new: list[str], **options: Any) -> Iterator[str]:
        made.pairs.append((old, new))
        return real(old, new, **options)

    monkeypatch.setattr(difflib, "unified_diff", overheard)
    return made


@given(LINES, LINES)
def test_what_goes_and_what_comes_makes_the_one_text_of_the_other(old: list[str], new: list[str]) -> None:
    old, new = ([one or "-" for one in side] for side in (old, new))  # an empty entry is no line
    found = told(old, new)
    gone, come = (Counter(line.text for line in found if line.sign == sign) for sign in "-+")
    assert Counter(old) - gone + come == Counter(new)
    assert (found == []) is (old == new)


@given(LINES, LINES, st.integers(0, 20), st.integers(0, 20))
def test_equal_ends_are_shown_as_two_lines_of_each_and_cost_nothing(
    old: list[str], new: list[str], head: int, tail: int
) -> None:
    middle = ["first", *old, "x", *new, "last"], ["begin", *old, "y", *new, "end"]
    before, after = ([f"h{n}" for n in range(head)] + one + [f"t{n}" for n in range(tail)] for one in middle)
    same = {line.text for line in told(before, after) if line.sign == " "}
    assert {f"h{n}" for n in range(max(0, head - AROUND), head)} <= same
    assert {f"t{n}" for n in range(min(AROUND, tail))} <= same
    assert not {f"h{n}" for n in range(head - AROUND)} & same
    assert not {f"t{n}" for n in range(AROUND, tail)} & same


def test_a_small_change_of_a_huge_text_is_shown(asked: Asked) -> None:
    old = [f"line {number % 7}" for number in range(20_000)]
    new = [*old[:9_000], "mine", *old[9_000:]]
    assert Line("+", "mine") in told(old, new)
    assert asked.lines <= 4 * AROUND + 2


@pytest.mark.parametrize(
    ("old", "new"),
    [
        (["x"] * 5_000, [line for number in range(5_000) for line in ("x", f"u{number}")][::-1]),
        ([f"a{number % 9}" for number in range(4_000)], [f"a{number % 8}" for number in range(4_000)][::-1]),
        (["x" * MOST_CHARACTERS], ["y"]),
    ],
)
def test_what_is_too_much_to_compare_is_said_in_one_line(
    asked: Asked, old: list[str], new: list[str]
) -> None:
    [line] = told(old, new)
    assert line.sign == "…"
    assert line.text.endswith("after: too many to show line by line")
    assert asked.pairs == []


def test_the_bound_counts_what_changed() -> None:
    before, after = [f"a{n}" for n in range(MOST_LINES // 2)], [f"b{n}" for n in range(MOST_LINES // 2)]
    assert len(told(["same", *before, "same"], ["same", *after, "same"])) == MOST_LINES + 2
    [line] = told(before, [*after, "one more"])
    assert line.text == f"{len(before)} lines before, {len(after) + 1} after: too many to show line by line"


def scripts(number: int) -> dict[str, Any]:
    """A configuration of many texts, each of which another number changes as far as one may."""
    size = MOST_LINES // 2 - 1
    lines = "\n".join(f"{number % 2}-{(line * (number + 3)) % 5}" for line in range(size))
    return {f"text_{field}": lines for field in range(30)}


def test_a_page_compares_so_much_and_no_more(asked: Asked) -> None:
    revisions = [{"config": scripts(number)} for number in range(11)]
    shown = history(revisions)
    assert len(shown) == 10
    around = 2 * 2 * AROUND * len(asked.pairs)
    assert 0 < asked.lines <= MOST_LINES_OF_PAGE + around
    assert asked.characters <= MOST_CHARACTERS_OF_PAGE + 10 * around
    cut = [one for each in shown for one in each["differences"] if one.lines[0].sign == "…"]
    assert cut
    assert all("too many to show" in one.lines[0].text for one in cut)


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    with running_ui(tmp_path_factory.mktemp("ui") / "data") as running:
        yield running


def test_versions_that_differ_too_much_say_how_much(server: Server, management: Management) -> None:
    for name in "ab":
        body = "\n".join(f"// {name} {line}" for line in range(MOST_LINES))
        code = f"function process(event) {{\n{body}\nreturn event;\n}}"
        management.call("PUT", "data-layer", {"config": {"custom_js": {"enabled": False, "code": code}}})
    page = Client(server.base_url, "viewer").get("/data-layer/versions")
    assert page.status == 200
    assert (
        f"… {MOST_LINES} lines before, {MOST_LINES} after: too many to show line by line"
        in page.body.decode()
    )
