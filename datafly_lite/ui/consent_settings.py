"""Consent: which code is which category, what holds where nobody said anything, what must be agreed to."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from starlette.responses import Response

from datafly_lite.consent import ALIASES, ESSENTIAL, IGNORE, MAX_NAME_CHARS, REFUSABLE
from datafly_lite.management.consent_settings import RULES
from datafly_lite.ui import versioned
from datafly_lite.ui.forms import Form, Problems
from datafly_lite.ui.rows import Lists
from datafly_lite.ui.versioned import Kind
from datafly_lite.ui.visit import Visit

MAPPING, POLICY, REQUIRED, ON_REFUSED = "mapping", "default_policy", "required_categories", "on_refused"
TICKS = ("respect_gpc", "google_consent_mode")
STATES = {"unknown": None, "granted": True, "denied": False}
POLICIES = tuple(f"{POLICY}.{category}" for category in REFUSABLE)
CATEGORIES = (*REFUSABLE, ESSENTIAL, IGNORE)

MEANINGS = {
    "functional": "preferences and comfort",
    "analytics": "measurement and tests",
    "marketing": "advertising and retargeting",
    "personalization": "profiles across properties",
}
LABELS = {
    ON_REFUSED: "What happens to the event",
    REQUIRED: "Required categories",
    **{name: f"Unsaid, {name.partition('.')[2]}" for name in POLICIES},
}


async def show(visit: Visit) -> Response:
    """The form."""
    return await versioned.show(visit, KIND)


async def save(visit: Visit) -> Response:
    """Save it, or add or remove a row."""
    return await versioned.save(visit, KIND)


async def show_versions(visit: Visit) -> Response:
    """Who changed what."""
    return await versioned.show_versions(visit, KIND)


# ── Between the settings and their form ──────────────────────────────────────────────────────


def form_of(config: Mapping[str, Any]) -> tuple[Form, Lists]:
    """The form as the settings fill it, and its rows."""
    words = {state: word for word, state in STATES.items()}
    pairs = [(name, "on") for name in TICKS if config[name]]
    pairs += [(f"{POLICY}.{name}", words[config[POLICY].get(name)]) for name in REFUSABLE]
    pairs += [(REQUIRED, name) for name in config[REQUIRED]]
    pairs.append((ON_REFUSED, config[ON_REFUSED]))
    rows = [{"code": code, "category": category} for code, category in config[MAPPING].items()]
    return Form(pairs), {MAPPING: rows}


def config_of(form: Form, lists: Lists) -> dict[str, Any]:
    """All of the settings as the form has them. Of a code that stands there twice the last one counts:
    `wrong_rows` says so.
    """
    said = {name: STATES.get(form.word(f"{POLICY}.{name}")) for name in REFUSABLE}
    return {
        MAPPING: {row["code"].strip(): row["category"] for row in lists[MAPPING]},
        POLICY: {name: choice for name, choice in said.items() if choice is not None},
        REQUIRED: [name for name in REFUSABLE if name in form.every(REQUIRED)],
        ON_REFUSED: form.word(ON_REFUSED),
        **{name: form.ticked(name) for name in TICKS},
    }


def readable(config: Mapping[str, Any]) -> dict[str, Any]:
    """A code and its category on one line, and the policy in its words."""
    policy = {name: "granted" if choice else "denied" for name, choice in config[POLICY].items()}
    return {
        **config,
        MAPPING: [{"code": code, "category": category} for code, category in sorted(config[MAPPING].items())],
        POLICY: [{"category": name, "choice": policy.get(name, "unknown")} for name in REFUSABLE],
    }


def field_of(field: str, lists: Lists) -> str:
    """`mapping.C0001` -> the row that has it."""
    for number, row in enumerate(lists[MAPPING]):
        if field == f"{MAPPING}.{row['code'].strip()[:MAX_NAME_CHARS]}":
            return f"{MAPPING}[{number}].code"
    return field


def wrong_rows(lists: Lists) -> list[dict[str, str]]:
    """A code that stands above already: an object has each name once."""
    codes = [row["code"].strip() for row in lists[MAPPING]]
    return [
        {"field": f"{MAPPING}[{number}].code", "message": "stands above already"}
        for number, code in enumerate(codes)
        if code in codes[:number]
    ]


def labels_of(lists: Lists) -> dict[str, str]:
    """What each field is called where its problems are listed."""
    return {**LABELS, **{f"{MAPPING}[{n}].code": f"Code {n + 1}" for n in range(len(lists[MAPPING]))}}


def _around(form: Form, lists: Lists, problems: Problems) -> dict[str, Any]:
    del form, lists, problems
    known: dict[str, list[str]] = {}
    for code, category in ALIASES.items():
        known.setdefault(category, []).append(code)
    return {
        "categories": CATEGORIES,
        "refusable": REFUSABLE,
        "meanings": MEANINGS,
        "known": known,
        "states": tuple(STATES),
    }


KIND = Kind(
    path="/consent-settings",
    template="consent_settings.html",
    title="Consent",
    rules=RULES,
    fields=(MAPPING, *POLICIES, REQUIRED, ON_REFUSED, *TICKS),
    lists={MAPPING: {"code": "", "category": "marketing"}},
    config_of=config_of,
    form_of=form_of,
    labels_of=labels_of,
    around=_around,
    field_of=field_of,
    readable=readable,
    wrong_rows=wrong_rows,
)
