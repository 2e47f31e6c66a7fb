"""What the form of steps and per-event parameters says: labels, help, and what is wrong where."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping
from typing import Any, NamedTuple

from datafly_lite.engine_fields import destination
from datafly_lite.errors import AdminError, ExpressionError
from datafly_lite.expressions_functions import FUNCTIONS
from datafly_lite.ui.data_layer import OPERATORS, pointer
from datafly_lite.ui.forms import Form, Problems
from datafly_lite.ui.steps_form import (
    EVENTS,
    KEYS,
    OPTIONS,
    STEPS,
    Block,
    Editor,
    default_of,
    pairs_in,
    pairs_of,
    read,
)
from datafly_lite.vendors.checking import PLACEHOLDER
from datafly_lite.vendors.declaration import PARAMETER

POSITION = re.compile(r"\bat character ([0-9,]{1,9})\b", re.IGNORECASE)

EXAMPLES = (
    "type = 'track' AND event NOT LIKE 'Internal%'",
    "COALESCE(properties.value, properties.revenue, 0)",
    "SHA256(LOWER(TRIM(traits.email)))",
    "ROUND(value * 100)",
    "MAP(properties.products, 'sku')",
)


class Kind(NamedTuple):
    """A type of step. `to` and `source` head its rows."""

    label: str
    help: str
    to: str = ""
    source: str = ""
    to_example: str = ""
    source_example: str = ""


KINDS = {
    "filter": Kind("Filter", "Only events for which the condition is true go on."),
    "map": Kind(
        "Map",
        "Writes values of the event to places of the vendor's body, or of the event.",
        *("Write to", "Value", "user_data.external_id", "userId"),
    ),
    "transform": Kind(
        "Transform",
        "Writes anew what is there; value in the expression is what is there.",
        *("Field", "Expression", "event.properties.revenue", "value / 100"),
    ),
    "enrich": Kind(
        "Enrich",
        "Adds fixed values.",
        *("Write to", "JSON value", "event.properties.site", '"uk"'),
    ),
    "compute": Kind(
        "Compute",
        "Works values out and makes them a type.",
        *("Write to", "Expression", "event.properties.items", "LENGTH(properties.products)"),
    ),
    "custom_js": Kind(
        "JavaScript",
        "The event that process returns goes on; null drops it. It has 50 ms and 8 MB, and no network.",
    ),
}
SECTION = Kind("Event", "", "Write to", "Value", "custom_data.coupon", "UPPER(properties.coupon)")

TYPES = (
    ("", "as it is"),
    *((one, one) for one in ("string", "number", "integer", "boolean", "array", "object")),
)
FAILS = {
    "fail": "stop it: see Dead letters",
    "drop": "drop the event",
    "skip": "go on as if the step were not there",
}
MISSING = {"skip": "leave the field out", "null": "write null", "drop": "drop the event", "fail": "fail"}
MODES = {"merge": "add to the vendor's own body", "replace": "send only what steps write"}
CHOICES = {"on_error": FAILS, "on_missing": MISSING, "mode": MODES}
LABELS = {"on_error": "When it fails", "on_missing": "When a value is missing", "mode": "The body"}


# ── Names ────────────────────────────────────────────────────────────────────────────────────


def names_of(editor: Editor) -> dict[str, str]:
    """The API's name of a field -> the form's, of a row without its last part."""
    return dict(_names(editor))


def _names(editor: Editor) -> Iterator[tuple[str, str]]:
    for number, block in enumerate(editor.blocks[STEPS]):
        at, key = f"{STEPS}[{number}]", KEYS.get(block.own["type"])
        yield at, at
        if key:
            yield f"{at}.{key}", f"{at}.rows"
            yield from _rows(f"{at}.{key}", at, block)
    for number, block in enumerate(editor.blocks[EVENTS]):
        at, theirs = f"{EVENTS}[{number}]", f'{EVENTS}["{without_parameters(block.own["name"].strip())}"]'
        yield theirs, f"{at}.name"
        yield from _rows(theirs, at, block)


def _rows(theirs: str, at: str, block: Block) -> Iterator[tuple[str, str]]:
    for number, row in enumerate(block.rows):
        yield f'{theirs}["{without_parameters(row["to"].strip())}"]', f"{at}.rows[{number}]"


def without_parameters(text: str) -> str:
    """As the check reads it (vendors/checking.py)."""
    return PARAMETER.sub(PLACEHOLDER, text)


def labels_of(editor: Editor) -> dict[str, str]:
    """What each field is called in the list of what is wrong."""
    found = {STEPS: "Steps", EVENTS: "Per-event parameters"}
    for name, blocks in editor.blocks.items():
        for number, block in enumerate(blocks):
            at, words = f"{name}[{number}]", _label(name, number, block)
            fields = {
                "": "",
                ".rows": "",
                ".condition": ", condition",
                ".code": ", script",
                ".name": ", name",
            }
            found |= {f"{at}{field}": f"{words}{more}" for field, more in fields.items()}
            found |= {f"{at}.{option}": f"{words}, {one.lower()}" for option, one in LABELS.items()}
            for row, each in enumerate(block.rows):
                kind = KINDS.get(block.own.get("type", ""), SECTION)
                which = each["to"].strip() or f"row {row + 1}"
                found |= {
                    f"{at}.rows[{row}].to": f"{words}, {which}, {kind.to.lower()}",
                    f"{at}.rows[{row}].from": f"{words}, {which}",
                }
    return found


def _label(name: str, number: int, block: Block) -> str:
    if name == EVENTS:
        return f"Event {block.own['name'].strip() or number + 1}"
    kind = KINDS.get(block.own["type"])
    return f"Step {number + 1} ({kind.label if kind else block.own['type']})"


# ── What is wrong ────────────────────────────────────────────────────────────────────────────


def placed(error: AdminError, form: Form) -> AdminError:
    """The same with the names of the form's fields; in JSON, with words for the place in it."""
    editor = read(form)
    if editor.texts is None:
        details = [{**one, "field": _field_of(one["field"], editor)} for one in error.details]
    else:
        details = [_told(one, as_rows(editor)) for one in error.details]
    return AdminError(error.code, error.message, details=details)


def _field_of(field: str, editor: Editor) -> str:
    ours = names_of(editor).get(field)
    if ours is None or not ours.endswith("]") or ".rows[" not in ours:
        return ours or field
    try:
        destination(without_parameters(text_at(editor, f"{ours}.to").strip()))
    except ExpressionError:
        return f"{ours}.to"
    return f"{ours}.from"


def _told(detail: Mapping[str, str], editor: Editor) -> dict[str, str]:
    name = next((one for one in (STEPS, EVENTS) if detail["field"].startswith((f"{one}[", f"{one}."))), None)
    if name is None:
        return dict(detail)
    field = _field_of(detail["field"], editor)
    words = labels_of(editor).get(field, field.removeprefix("config."))
    return {"field": name, "message": f"{words}: {detail['message']}"}


def as_rows(editor: Editor) -> Editor:
    """Of texts what they would be as rows, as far as they can be read."""
    try:
        config = {
            name.removeprefix("config."): json.loads(text or "null")
            for name, text in (editor.texts or {}).items()
        }
        return read(Form(pairs_of(config)))
    except (ValueError, RecursionError):
        return Editor({STEPS: [], EVENTS: []})


def text_at(editor: Editor, name: str) -> str:
    """What stands in a field."""
    return dict(pairs_in(editor)).get(name, "")


def carets_of(editor: Editor, problems: Problems) -> dict[str, str]:
    """For each message that names a character: its line, with a caret below the character."""
    carets: dict[str, str] = {}
    for name, messages in problems.items():
        for message in messages:
            found = POSITION.search(message)
            if found and name.startswith((STEPS, EVENTS)):
                text = _text_of(editor, name, message)
                carets[message] = pointer(text, int(found[1].replace(",", ""))) if text else ""
    return carets


def _text_of(editor: Editor, name: str, message: str) -> str:
    """The text that the message counts characters of."""
    if editor.texts is None:
        return _read_text(editor, name)
    rows = as_rows(editor)
    for field, words in labels_of(rows).items():
        if message.startswith(f"{words}: ") and field not in (STEPS, EVENTS):
            return _read_text(rows, field)
    return editor.texts.get(name, "") if message.startswith("Is not JSON") else ""


def _read_text(editor: Editor, name: str) -> str:
    """As it was read: without white space around a path, and with a digit for each parameter."""
    text = text_at(editor, name)
    if name.endswith(".to"):
        return without_parameters(text.strip())
    kind = next((one for one in _kinds(editor) if name.startswith(one[0])), ("", ""))[1]
    return text if kind == "enrich" else without_parameters(text)


def _kinds(editor: Editor) -> list[tuple[str, str]]:
    return [(f"{STEPS}[{number}].", block.own["type"]) for number, block in enumerate(editor.blocks[STEPS])]


# ── For the template ─────────────────────────────────────────────────────────────────────────


def around(editor: Editor, problems: Problems) -> dict[str, Any]:
    """What steps_form.html draws from, beside the problems."""
    return {
        "editor": editor,
        "step_kinds": KINDS,
        "section_kind": SECTION,
        "step_options": OPTIONS,
        "step_choices": choices(),
        "step_labels": LABELS,
        "value_types": TYPES,
        "carets": carets_of(editor, problems),
        "operators": OPERATORS,
        "functions": FUNCTIONS.values(),
        "examples": EXAMPLES,
    }


def choices() -> dict[str, dict[str, list[tuple[str, str]]]]:
    """kind -> option -> (value, words); the default comes first, with no value."""
    return {kind: {option: _choices(kind, option) for option in options} for kind, options in OPTIONS.items()}


def _choices(kind: str, option: str) -> list[tuple[str, str]]:
    default = default_of(kind, option)
    others = [(value, words) for value, words in CHOICES[option].items() if value != default]
    return [("", f"{CHOICES[option][default]} (default)"), *others]
