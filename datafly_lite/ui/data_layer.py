"""The data layer: the organisation's rules for every event, as forms."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from starlette.responses import Response

from datafly_lite.expressions_functions import FUNCTIONS
from datafly_lite.management.data_layer import RULES, check_expression
from datafly_lite.ui import versioned
from datafly_lite.ui.forms import Form, Problems
from datafly_lite.ui.refused_events import visible
from datafly_lite.ui.rows import Lists
from datafly_lite.ui.versioned import Kind, whole
from datafly_lite.ui.visit import Visit

KEYS, ROUTING = "deduplication.keys", "routing_rules"
CODE, DESCRIPTION = "custom_js.code", "custom_js.description"
TICKS = (
    *("bot_filtering.enabled", "bot_filtering.block_known_bots", "bot_filtering.block_empty_user_agent"),
    *("pii_rules.enabled", "session.track_session_start", "session.track_session_end"),
    *("deduplication.enabled", "custom_js.enabled"),
)
AREAS = ("bot_filtering.custom_patterns", "pii_rules.hash_fields", "pii_rules.redact_fields")
NUMBERS = ("session.timeout_minutes", "session.max_duration_hours", "deduplication.window_hours")
CHOICES = ("pii_rules.auto_detect", "pii_rules.ip_address", "custom_js.on_error")
PARTS = ("bot_filtering", "pii_rules", "session", "deduplication", "custom_js", ROUTING)
"""In the order of the page, which is that of the steps."""

LABELS = {
    "bot_filtering.custom_patterns": "User agents of your own",
    "pii_rules.hash_fields": "Fields to hash",
    "pii_rules.redact_fields": "Fields to remove",
    "pii_rules.auto_detect": "Personal data elsewhere",
    "pii_rules.ip_address": "IP address",
    "session.timeout_minutes": "Longest pause, in minutes",
    "session.max_duration_hours": "Longest session, in hours",
    "deduplication.window_hours": "Window, in hours",
    KEYS: "Keys",
    CODE: "Script",
    DESCRIPTION: "Description",
    ROUTING: "Routing rules",
}

SKELETON = """\
function process(event, context) {
  // Change the event and return it. Return null to drop it.
  return event;
}
"""

OPERATORS = (
    ("= != < <= > >=", "comparison; == is = and <> is !="),
    ("AND OR NOT ( )", "both, one of both, not; brackets go first"),
    ("IN ('a', 'b')", "one of a list; NOT IN is none of it"),
    ("BETWEEN 1 AND 9", "from one to the other, both included"),
    ("CONTAINS 'text'", "a text in a text, or a value in a list"),
    ("STARTS WITH, ENDS WITH", "how a text begins or ends"),
    ("LIKE 'a%_'", "the whole text: % is any characters, _ is one"),
    ("MATCHES 'a+'", "a regular expression, found anywhere"),
    ("IS NULL, IS MISSING", "not there or null; not there at all. Also IS NOT …"),
    ("+ - * / %", "arithmetic; || joins texts"),
)
EXAMPLES = (
    "event == 'Internal Test'",
    "context.page.url CONTAINS '/staging'",
    "properties.value > 1000 AND NOT properties.test = TRUE",
    "LOWER(context.page.search) LIKE '%debug%'",
)

WINDOW_CHARS = 60
"""So much of a line is shown around the place of a mistake."""


async def show(visit: Visit) -> Response:
    """The form."""
    return await versioned.show(visit, KIND)


async def save(visit: Visit) -> Response:
    """Save it, or add, remove or move a row."""
    return await versioned.save(visit, KIND)


async def show_versions(visit: Visit) -> Response:
    """Who changed what."""
    return await versioned.show_versions(visit, KIND)


async def check(visit: Visit) -> Response:
    """Whether a condition can be read, while it is being typed: with the line and a caret below it."""
    expression = (await visit.form()).text("expression")
    found = check_expression({"expression": expression})
    return visit.data({**found, "pointer": "" if found["valid"] else pointer(expression, found["position"])})


def pointer(text: str, position: int) -> str:
    """The line with that character, counted from 1, and a caret below it; a long line is cut around it.

    Empty where there is nothing to point at.
    """
    before, rest = text[: position - 1], text[position - 1 :]
    start, end = before.rpartition("\n")[2], rest.partition("\n")[0]
    if not (start + end).strip():
        return ""
    cut = start[-WINDOW_CHARS:] if len(start) > WINDOW_CHARS else start
    left = ("…" if cut != start else "") + visible(cut).replace("\t", " ")
    right = visible(end).replace("\t", " ")
    right = right if len(right) <= WINDOW_CHARS else f"{right[:WINDOW_CHARS]}…"
    return f"{left}{right}\n{' ' * len(left)}^"


# ── Between the configuration and its form ───────────────────────────────────────────────────


def form_of(config: Mapping[str, Any]) -> tuple[Form, Lists]:
    """The form as the configuration fills it, and its rows."""
    flat = {f"{part}.{name}": one for part in config if part != ROUTING for name, one in config[part].items()}
    pairs = [(name, "on") for name in TICKS if flat[name]]
    pairs += [(name, "\n".join(flat[name])) for name in AREAS]
    pairs += [(name, str(flat[name])) for name in (*NUMBERS, *CHOICES, DESCRIPTION)]
    pairs.append((CODE, flat[CODE] or SKELETON))
    return Form(pairs), {KEYS: [dict(one) for one in flat[KEYS]], ROUTING: [*config[ROUTING]]}


def config_of(form: Form, lists: Lists) -> dict[str, Any]:
    """All of the configuration as the form has it; what cannot be used is the API's to refuse."""
    flat: dict[str, Any] = {name: form.ticked(name) for name in TICKS}
    flat |= {name: form.lines(name) for name in AREAS}
    flat |= {name: whole(form, name) for name in NUMBERS}
    flat |= {name: form.word(name) for name in (*CHOICES, DESCRIPTION)}
    code = form.text(CODE)
    is_untouched = code.strip() == SKELETON.strip() and not flat["custom_js.enabled"]
    flat[CODE] = "" if is_untouched else code
    flat[KEYS] = [{name: one.strip() for name, one in row.items()} for row in lists[KEYS]]
    config: dict[str, Any] = {ROUTING: [dict(row) for row in lists[ROUTING]]}
    for path, value in flat.items():
        part, _, name = path.partition(".")
        config.setdefault(part, {})[name] = value
    return config


def labels_of(lists: Lists) -> dict[str, str]:
    """What each field is called where its problems are listed."""
    rules = {f"{ROUTING}[{n}].condition": f"Rule {n + 1}" for n in range(len(lists[ROUTING]))}
    keys = {
        f"{KEYS}[{n}].{column}": f"Key {n + 1}, {column}"
        for n, row in enumerate(lists[KEYS])
        for column in row
    }
    return {**LABELS, **rules, **keys}


def _around(form: Form, lists: Lists, problems: Problems) -> dict[str, Any]:
    del form
    carets: dict[str, str] = {}
    for number, row in enumerate(lists[ROUTING]):
        name = f"{ROUTING}[{number}].condition"
        if problems.of(name):
            found = check_expression({"expression": row["condition"]})
            carets[name] = "" if found["valid"] else pointer(row["condition"], found["position"])
    return {"carets": carets, "operators": OPERATORS, "functions": FUNCTIONS.values(), "examples": EXAMPLES}


def _part_of(field: str) -> int:
    return PARTS.index(field.partition(".")[0])


KIND = Kind(
    path="/data-layer",
    template="data_layer.html",
    title="Data layer",
    rules=RULES,
    fields=tuple(
        sorted((*TICKS, *AREAS, *NUMBERS, DESCRIPTION, CODE, *CHOICES, KEYS, ROUTING), key=_part_of)
    ),
    lists={KEYS: {"event": "", "path": ""}, ROUTING: {"condition": "", "action": "drop"}},
    config_of=config_of,
    form_of=form_of,
    labels_of=labels_of,
    around=_around,
)
