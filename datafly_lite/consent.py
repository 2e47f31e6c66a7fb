"""What a visitor agreed to, in the product's own words (spec/datafly-signal.md, section 7)."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

CANONICAL = frozenset({"essential", "functional", "analytics", "marketing", "personalization"})
ALIASES = {
    "advertising": "marketing",
    "statistics": "analytics",
    "preferences": "functional",
    "necessary": "essential",
    "c0001": "essential",
    "c0002": "analytics",
    "c0003": "functional",
    "c0004": "marketing",
    **dict.fromkeys(("p2", "p3", "p4", "p7"), "marketing"),
    **dict.fromkeys(("p8", "p9"), "analytics"),
    "p1": "essential",
    "p5": "functional",
}
"""Names and codes of others, in small letters -> canonical ones (7.2; section 13, Consent keys)."""

WORDS = {"true": True, "granted": True, "false": False, "denied": False}
"""Choices as text: a query string has no booleans, and Google's Consent Mode has these two words."""


def canonical(context: Mapping[str, Any]) -> dict[str, bool]:
    """The choices on an event; a category that is not named is unknown, and so is absent.

    Reads `consent.canonical`, `consent.categories`, Segment's `consent.categoryPreferences`, flat
    choices, and RudderStack's `consentManagement`. Where two names mean one category, either grant is
    enough (7.2). Large and small letters are one.
    """
    if "consent" not in context and "consentManagement" not in context:
        return {}
    stated = context.get("consent")
    consent = stated if isinstance(stated, Mapping) else {}
    found: dict[str, bool] = {}
    for choices in (
        _choices(consent),
        _choices(consent.get("categoryPreferences")),
        _choices(consent.get("categories")),
        _listed(context.get("consentManagement")),
    ):
        for name, choice in choices.items():
            found[name] = choice or found.get(name, False)
    own = consent.get("canonical")
    exact = {name: own[name] for name in CANONICAL & own.keys()} if isinstance(own, Mapping) else {}
    return found | _choices(own) | _choices(exact)


def _choices(stated: Any) -> dict[str, bool]:
    """Category -> choice, of an object; whatever else stands there is no choice."""
    found: dict[str, bool] = {}
    for name, value in stated.items() if isinstance(stated, Mapping) else ():
        choice = WORDS.get(value.casefold()) if isinstance(value, str) else value
        if isinstance(choice, bool):
            category = category_of(str(name))
            found[category] = choice or found.get(category, False)
    return found


def _listed(stated: Any) -> dict[str, bool]:
    """`{"allowedConsentIds": [...], "deniedConsentIds": [...]}`, as RudderStack's SDKs send it."""
    if not isinstance(stated, Mapping):
        return {}
    lists = {name: stated.get(f"{name}ConsentIds") for name in ("denied", "allowed")}
    ids = {name: value if isinstance(value, list) else [] for name, value in lists.items()}
    denied = {category_of(one): False for one in ids["denied"] if isinstance(one, str)}
    return denied | {category_of(one): True for one in ids["allowed"] if isinstance(one, str)}


def category_of(name: str) -> str:
    """The canonical category of a name or code; a name of nobody's stays as it is."""
    small = name.casefold()
    return ALIASES.get(small) or (small if small in CANONICAL else name)


def is_refused(context: Mapping[str, Any], categories: Iterable[str]) -> bool:
    """Whether the visitor said no to any of the categories. Essential is always granted."""
    choices = canonical(context)
    return any(choices.get(name) is False for name in map(category_of, categories) if name != "essential")
