"""What a visitor agreed to, in the product's own words (spec/datafly-signal.md, section 7)."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

ALIASES = {
    "advertising": "marketing",
    "statistics": "analytics",
    "preferences": "functional",
    "necessary": "essential",
}
"""Names of other vocabularies -> canonical ones (7.2, and section 13, Consent keys)."""


def canonical(context: Mapping[str, Any]) -> dict[str, bool]:
    """The choices on an event; a category that is not named is unknown, and so is absent.

    Reads `consent.canonical`, `consent.categories`, Segment's `consent.categoryPreferences`, and
    flat booleans. Where two names mean one category, either grant is enough (7.2).
    """
    consent = context.get("consent")
    if not isinstance(consent, Mapping):
        return {}
    found: dict[str, bool] = {}
    for stated in (consent, consent.get("categoryPreferences"), consent.get("categories")):
        for name, choice in _choices(stated).items():
            category = ALIASES.get(name, name)
            found[category] = choice or found.get(category, False)
    return found | _choices(consent.get("canonical"))


def _choices(stated: Any) -> dict[str, bool]:
    """The booleans of an object; whatever else stands there is no choice."""
    if not isinstance(stated, Mapping):
        return {}
    return {str(name): choice for name, choice in stated.items() if isinstance(choice, bool)}


def is_refused(context: Mapping[str, Any], categories: Iterable[str]) -> bool:
    """Whether the visitor said no to any of the categories. Essential is always granted."""
    choices = canonical(context)
    wanted = (ALIASES.get(name, name) for name in categories)
    return any(choices.get(name) is False for name in wanted if name != "essential")
