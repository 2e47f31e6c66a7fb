"""A revision's `steps` and `events` as rows of a form, and back (docs/expressions.md, Steps of a revision).

A field is `config.steps[0].condition`, `config.steps[0].rows[1].to` or `config.events[0].name`; buttons named
`do` add, move and remove, as in rows.py. Who would rather write JSON has `config.steps` and `config.events`.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, NamedTuple

import msgspec

from datafly_lite.engine_steps import TYPES
from datafly_lite.ui.forms import MOST_FIELDS, Form, Problems
from datafly_lite.ui.rows import Press, Row, after, filled, focus_of, press_of, rows_of

STEPS, EVENTS = "config.steps", "config.events"
AS = "config.steps_as"
"""A hidden field: whether rows were sent, or JSON. Without it the form had neither, and nothing changes."""

ROWS, JSON = "rows", "json"
AS_ROWS, AS_JSON = "write as rows", "write as JSON"
"""Values of `do`."""

KEYS = {"map": "mappings", "transform": "fields", "enrich": "fields", "compute": "fields"}
"""Steps with rows -> where a step has them."""

STEP: Row = dict.fromkeys(("type", "condition", "code", "name", "on_error", "on_missing", "mode"), "")
SECTION: Row = {"name": "", "sent": "yes"}
ROW: Row = {"to": "", "from": "", "type": ""}
BLANKS = {STEPS: STEP, EVENTS: SECTION}

OPTIONS = {
    "filter": ("on_error",),
    "map": ("on_missing", "mode", "on_error"),
    "transform": ("on_missing", "on_error"),
    "enrich": ("on_error",),
    "compute": ("on_missing", "on_error"),
    "custom_js": ("on_error",),
}
DEFAULTS = {"on_error": "fail", "on_missing": "skip", "mode": "merge"}

MOST_OF_FORM = MOST_FIELDS - 300
"""More fields than so many are shown as JSON: a form holds only MOST_FIELDS, and the vendor has some, too."""

SKELETON = "function process(event, context) {\n  return event;\n}\n"


class Block(NamedTuple):
    """A step, or the parameters of one event: its own fields, and its rows."""

    own: Row
    rows: list[Row]


class Editor(NamedTuple):
    """What the form shows: blocks, or the texts of STEPS and EVENTS instead."""

    blocks: dict[str, list[Block]]
    texts: dict[str, str] | None = None


# ── From the configuration ───────────────────────────────────────────────────────────────────


def pairs_of(config: Mapping[str, Any]) -> list[tuple[str, str]]:
    """The fields of the form as a revision fills them; as JSON where there are too many for rows."""
    steps, events = config.get("steps") or [], config.get("events") or {}
    found = list(pairs_in(Editor(_blocks_of(steps, events)))) if is_simple(steps, events) else []
    if (steps or events) and not 0 < len(found) <= MOST_OF_FORM:
        return [(AS, JSON), (STEPS, as_text(steps)), (EVENTS, as_text(events))]
    return [(AS, ROWS), *found]


def as_text(value: Any) -> str:
    """JSON for people; nothing for nothing."""
    return json.dumps(value, indent=2, ensure_ascii=False) if value else ""


def pairs_in(editor: Editor) -> Iterator[tuple[str, str]]:
    """The names and texts of all fields of its blocks."""
    for name, all_ in editor.blocks.items():
        for number, block in enumerate(all_):
            at = f"{name}[{number}]"
            yield from ((f"{at}.{column}", value) for column, value in block.own.items())
            for place, row in enumerate(block.rows):
                yield from ((f"{at}.rows[{place}].{column}", value) for column, value in row.items())


def is_simple(steps: Any, events: Any) -> bool:
    """Whether rows can show it: what the API takes, they can."""
    if not isinstance(steps, list) or not isinstance(events, dict):
        return False
    return all(map(_is_simple_step, steps)) and all(
        one is False or (isinstance(one, dict) and all(map(_is_simple_value, one.values())))
        for one in events.values()
    )


def _is_simple_step(step: Any) -> bool:
    if not isinstance(step, dict) or step.get("type") not in TYPES:
        return False
    key = KEYS.get(step["type"])
    texts = [value for name, value in step.items() if name != key]
    own = key or _text_of(step["type"])
    allowed = {"type", "name", *OPTIONS[step["type"]], own}
    fields = step.get(key, {}) if key else {}
    if (
        own not in step
        or set(step) - allowed
        or not all(isinstance(one, str) for one in texts)
        or not isinstance(fields, dict)
    ):
        return False
    return step["type"] == "enrich" or all(map(_is_simple_value, fields.values()))


def _is_simple_value(value: Any) -> bool:
    if isinstance(value, dict):
        return set(value) <= {"expression", "type"} and all(isinstance(one, str) for one in value.values())
    return isinstance(value, str)


def _text_of(kind: str) -> str:
    return "condition" if kind == "filter" else "code"


def _blocks_of(steps: Sequence[Any], events: Mapping[str, Any]) -> dict[str, list[Block]]:
    return {
        STEPS: [_block_of(step) for step in steps],
        EVENTS: [
            Block({"name": name, "sent": "no" if one is False else "yes"}, _rows_of(one or {}, ""))
            for name, one in events.items()
        ],
    }


def _block_of(step: Mapping[str, Any]) -> Block:
    kind = step["type"]
    own = {column: step.get(column, "") for column in STEP}
    own |= {name: "" for name in OPTIONS[kind] if own[name] == default_of(kind, name)}
    return Block(own, _rows_of(step.get(KEYS[kind], {}), kind) if kind in KEYS else [])


def default_of(kind: str, option: str) -> str:
    """What an option is where a step does not say: a filter that cannot be worked out is passed over."""
    return "skip" if kind == "filter" else DEFAULTS[option]


def _rows_of(fields: Mapping[str, Any], kind: str) -> list[Row]:
    return [{"to": to, **_source_of(value, kind)} for to, value in fields.items()]


def _source_of(value: Any, kind: str) -> Row:
    if kind == "enrich":
        is_long = isinstance(value, dict | list) and len(str(value)) > 60
        return {"from": json.dumps(value, ensure_ascii=False, indent=2 if is_long else None), "type": ""}
    if isinstance(value, dict):
        return {"from": value.get("expression", ""), "type": value.get("type", "")}
    return {"from": value, "type": ""}


# ── From the form ────────────────────────────────────────────────────────────────────────────


def read(form: Form) -> Editor:
    """What was sent."""
    if form.word(AS) == JSON:
        return Editor({STEPS: [], EVENTS: []}, {name: form.text(name) for name in BLANKS})
    return Editor({name: _blocks(form, name) for name in BLANKS})


def _blocks(form: Form, name: str) -> list[Block]:
    own = rows_of(form, name, BLANKS[name])
    return [Block(row, rows_of(form, f"{name}[{number}].rows", ROW)) for number, row in enumerate(own)]


def steps_config(form: Form, problems: Problems, stored: Mapping[str, Any]) -> dict[str, Any]:
    """The `steps` and `events` to save; none where they are empty."""
    if not form.ticked(AS):
        return {name: stored[name] for name in ("steps", "events") if name in stored}
    editor = read(form)
    if editor.texts is not None:
        made = {
            name.removeprefix("config."): _json(name, text, problems) for name, text in editor.texts.items()
        }
    else:
        made = {
            "steps": _steps(editor.blocks[STEPS], problems),
            "events": _events(editor.blocks[EVENTS], problems),
        }
    return {name: value for name, value in made.items() if value is not None and value not in ([], {})}


def _steps(blocks: Sequence[Block], problems: Problems) -> list[dict[str, Any]]:
    made = []
    for number, (own, rows) in enumerate(blocks):
        kind, at = own["type"], f"{STEPS}[{number}]"
        step: dict[str, Any] = {
            "type": kind,
            **({"name": own["name"].strip()} if own["name"].strip() else {}),
        }
        if kind in KEYS:
            step[KEYS[kind]] = _fields(at, rows, kind, problems)
        elif kind in TYPES:
            step[_text_of(kind)] = own[_text_of(kind)]
        made.append({**step, **{name: own[name] for name in OPTIONS.get(kind, ()) if own[name]}})
    return made


def _events(blocks: Sequence[Block], problems: Problems) -> dict[str, Any]:
    made: dict[str, Any] = {}
    for number, (own, rows) in enumerate(blocks):
        at, name = f"{EVENTS}[{number}]", own["name"].strip()
        if not name and not filled(rows, ROW) and own["sent"] != "no":
            continue  # it was added and forgotten
        if not name:
            problems.add(f"{at}.name", "the event's name is missing; * stands for all events")
        elif name in made:
            problems.add(f"{at}.name", f"{name} stands above already")
        elif own["sent"] == "no" and filled(rows, ROW):
            problems.add(f"{at}.name", "what is not sent has no values: send it, or remove its rows")
        made.setdefault(name, False if own["sent"] == "no" else _fields(at, rows, "", problems))
    return made


def _fields(at: str, rows: Sequence[Row], kind: str, problems: Problems) -> dict[str, Any]:
    made: dict[str, Any] = {}
    for number, row in enumerate(rows):
        name, to = f"{at}.rows[{number}]", row["to"].strip()
        if not filled([row], ROW):
            continue
        if to in made:
            problems.add(f"{name}.to", f"{to} stands above already" if to else "must not be empty")
        if kind == "enrich":
            made[to] = _json(f"{name}.from", row["from"], problems, HINT)
        else:
            made[to] = {"expression": row["from"], "type": row["type"]} if row["type"] else row["from"]
    return made


HINT = '"text" in quotes, 5, true, null, a list or an object is needed'


def _json(name: str, text: str, problems: Problems, hint: str = "") -> Any:
    """What the text says; None, and a problem, for what is no JSON."""
    if not text.strip() and not hint:
        return None
    try:
        return msgspec.json.decode(text)
    except (msgspec.DecodeError, RecursionError) as error:
        problems.add(name, f"is not JSON{_place(text, str(error))}{f'; {hint}' if hint else ''}")
    return None


def _place(text: str, otherwise: str) -> str:
    try:
        json.loads(text)
    except json.JSONDecodeError as error:
        line = f" (line {error.lineno}, column {error.colno})" if "\n" in text else ""
        return f" at character {error.pos + 1}{line}: {error.msg[:1].lower()}{error.msg[1:]}"
    except RecursionError:
        return ": it is nested too deeply"
    return f": {otherwise}"


# ── Buttons ──────────────────────────────────────────────────────────────────────────────────


class Pressed(NamedTuple):
    """The editor once a button has done its work, the field to be in, and what to say of it."""

    editor: Editor
    focus: str
    note: str = ""


def pressed(form: Form, problems: Problems) -> Pressed | None:
    """None where the form was sent by no button of these."""
    if form.word("do") in (AS_JSON, AS_ROWS):
        return _switched(form, problems)
    blocks = read(form).blocks
    for name, all_ in blocks.items():
        if press := press_of(form, [name, *(f"{name}.{kind}" for kind in TYPES)]):
            blocks[name] = _after(all_, press, name)
            focus = focus_of([one.own for one in blocks[name]], press._replace(name=name), BLANKS[name])
            return _fitting(Pressed(Editor(blocks), _first_field(focus, blocks[name], name)))
        for number, block in enumerate(all_):
            if press := press_of(form, [f"{name}[{number}].rows"]):
                rows = after(block.rows, press, ROW)
                all_[number] = Block(block.own, rows)
                return _fitting(Pressed(Editor(blocks), focus_of(rows, press, ROW)))
    return None


def _after(blocks: Sequence[Block], press: Press, name: str) -> list[Block]:
    kind = press.name.removeprefix(name).removeprefix(".")
    first = [] if kind in ("filter", "custom_js") else [dict(ROW)]
    new = Block({**BLANKS[name], **({"type": kind, "code": SKELETON} if name == STEPS else {})}, first)
    order = after([{"at": str(number)} for number in range(len(blocks))], press, {"at": ""})
    return [blocks[int(row["at"])] if row["at"] else new for row in order]


def _first_field(focus: str, blocks: Sequence[Block], name: str) -> str:
    """Of the block that `focus` is in; the button that adds one where there are none."""
    at, _, _ = focus.rpartition(".")
    if at == name:
        return focus
    own, rows = blocks[int(at.removeprefix(f"{name}[").removesuffix("]"))]
    if name == EVENTS:
        return f"{at}.name"
    return f"{at}.rows[0].to" if rows else f"{at}.{_text_of(own['type'])}"


def _fitting(press: Pressed) -> Pressed:
    if len(list(pairs_in(press.editor))) <= MOST_OF_FORM:
        return press
    steps = _steps(press.editor.blocks[STEPS], Problems())
    events = _events(press.editor.blocks[EVENTS], Problems())
    note = "There are too many rows for a form, so they are JSON now."
    return Pressed(
        Editor({STEPS: [], EVENTS: []}, {STEPS: as_text(steps), EVENTS: as_text(events)}), STEPS, note
    )


def _switched(form: Form, problems: Problems) -> Pressed:
    """The other way to write it; the one that it was where the other cannot say the same."""
    config = steps_config(form, problems, {})
    steps, events = config.get("steps", []), config.get("events", {})
    if problems:
        return Pressed(read(form), "")
    if form.word("do") == AS_JSON:
        texts = {STEPS: as_text(steps), EVENTS: as_text(events)}
        return Pressed(Editor({STEPS: [], EVENTS: []}, texts), STEPS)
    if not is_simple(steps, events):
        problems.add(STEPS, "rows cannot show this yet: it has something that no step has")
        return Pressed(read(form), "")
    blocks = _blocks_of(steps, events)
    if len(list(pairs_in(Editor(blocks)))) > MOST_OF_FORM:
        problems.add(STEPS, "there is too much of it for rows")
        return Pressed(read(form), "")
    return Pressed(Editor(blocks), "")
