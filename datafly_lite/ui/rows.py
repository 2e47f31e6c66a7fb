"""Lists of rows in a form: `name[2].column` is a field, and buttons named `do` add a row, take one away or
move one, without a script: the page comes back as it was typed, with that one row other.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from typing import NamedTuple

from datafly_lite.ui.forms import Form

MOST_ROWS = 500

Row = dict[str, str]
Lists = dict[str, list[Row]]
"""The rows of each list, by its name."""

PRESSED = re.compile(r"(\S+) (?:(add)|(up|down|remove) ([0-9]{1,3}))")


class Press(NamedTuple):
    """Which button of which list, and of which row."""

    name: str
    verb: str
    number: int = 0


def rows_of(form: Form, name: str, blank: Row) -> list[Row]:
    """The rows that were sent; `blank` names the columns."""
    first, rows = next(iter(blank)), list[Row]()
    while form.ticked(f"{name}[{len(rows)}].{first}") and len(rows) < MOST_ROWS:
        rows.append({column: form.text(f"{name}[{len(rows)}].{column}") for column in blank})
    return rows


def filled(rows: Iterable[Row], blank: Row) -> list[Row]:
    """Those in which anything was typed: an empty row was added and forgotten."""
    typed = [column for column, value in blank.items() if not value]
    return [row for row in rows if any(row[column].strip() for column in typed)]


def press_of(form: Form, names: Iterable[str]) -> Press | None:
    """The button that sent the form; None where it was none of these."""
    found = PRESSED.fullmatch(form.word("do"))
    if found is None or found[1] not in names:
        return None
    return Press(found[1], found[2] or found[3], int(found[4] or 0))


def after(rows: Sequence[Row], press: Press, blank: Row) -> list[Row]:
    """The rows once the button has done its work; a row that is not there stays so."""
    made, number = list(rows), press.number
    if press.verb == "add":
        return [*made, dict(blank)]
    if not number < len(made):
        return made
    row = made.pop(number)
    if press.verb == "remove":
        return made
    made.insert(max(number + (-1 if press.verb == "up" else 1), 0), row)
    return made


def focus_of(rows: Sequence[Row], press: Press, blank: Row) -> str:
    """The field to be in when the page comes back: the new row, the moved one, or the neighbour's."""
    moved = {"add": len(rows) - 1, "up": press.number - 1, "down": press.number + 1}
    number = min(max(moved.get(press.verb, press.number), 0), len(rows) - 1)
    return f"{press.name}[{number}].{next(iter(blank))}" if rows else f"{press.name}.add"


def columns_of(lists: Mapping[str, Sequence[Row]]) -> list[str]:
    """The names of all fields of all rows."""
    return [
        f"{name}[{number}].{column}"
        for name, rows in lists.items()
        for number, row in enumerate(rows)
        for column in row
    ]
