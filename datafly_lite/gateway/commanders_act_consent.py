"""What a Commanders Act user object says of consent (wire-formats.md, 1.5 and 1.6).

`consent_categories` lists what the visitor agreed to, as numbers whose meaning each customer sets, so it
goes to `context.consent.categories` as `{"1": true}`. What it leaves out was not agreed to:

- an empty list is a no to everything: the container sends one where all was refused, and also where the
  page has no banner, and an agreement must never be made up;
- a list of the product's own names is a no to the others;
- where numbers are listed, what they leave out is unknown until somebody says what they mean.

`rejected_vendors` (web) or `refused_vendors` (mobile) of `"ALL"` is a no to everything too, whatever is
listed, as every integration is such a vendor. These noes go to `context.consent.canonical`.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

CATEGORIES = ("functional", "analytics", "marketing", "personalization")
"""The canonical ones that can be refused (spec/datafly-signal.md, 7.2)."""
ESSENTIAL = "essential"

VENDORS = ("rejected_vendors", "refused_vendors")
KEPT = (*VENDORS, "consent_vendors", "external_consent", "consentID")
ALL = "ALL"


def consent_of(user: Mapping[str, Any]) -> dict[str, Any]:
    """`{"consent_categories": [1], "rejected_vendors": []}` -> `{"categories": {"1": true}, …}`, or `{}`."""
    found: dict[str, Any] = {name: user[name] for name in KEPT if isinstance(user.get(name), list | str)}
    stated = user.get("consent_categories")
    if isinstance(stated, dict):
        found["categories"] = {name: choice for name, choice in stated.items() if isinstance(choice, bool)}
    granted = _granted(stated)
    if granted is not None:
        found["categories"] = dict.fromkeys(granted, True)
    if any(ALL in _words(user.get(name)) for name in VENDORS):
        found["canonical"] = dict.fromkeys(CATEGORIES, False)
    elif granted is not None and {*granted} <= {*CATEGORIES, ESSENTIAL}:
        found["canonical"] = {name: name in granted for name in CATEGORIES}
    return found


def _granted(stated: Any) -> list[str] | None:
    """The listed categories as text; None where there is no list. A pixel may say `1,3`."""
    return _words(stated) if isinstance(stated, list | str | int) and not isinstance(stated, bool) else None


def _words(stated: Any) -> list[str]:
    if isinstance(stated, str):
        stated = stated.split(",")
    listed: Iterable[Any] = stated if isinstance(stated, list) else [stated]
    words = (str(one).strip() for one in listed if isinstance(one, str | int) and not isinstance(one, bool))
    return [word for word in words if word]
