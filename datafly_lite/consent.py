"""What a visitor agreed to, in the product's own words (spec/datafly-signal.md, section 7).

A category is in one of three states: granted (`true`), denied (`false`), and unknown, which is that it is
not among the choices. Only a denial holds anything back. Who needs an agreement first sets a default policy
of noes (ConsentSettings.default_policy): then nothing is unknown.

What an event says itself goes before what its visitor said in earlier events, and that before the default
policy; so an event that arrives late is judged by its own words. `Sec-GPC: 1` has the last word: the person
asks that nothing be sold to or shared with third parties, which is what marketing and personalization do.
1 is the header's only value, and its absence says nothing (w3.org/TR/gpc, The Sec-GPC Header Field).

Consent is read from `context.consent` flat, under `categories`, `canonical` and Segment's
`categoryPreferences`; from RudderStack's `context.consentManagement`; and from Commanders Act's
`user.consent_categories`, a list of what was agreed to (wire-formats.md, 1.5): a category that the
organisation maps and that no listed code means was refused, and an empty list refuses all. Vendors that
are refused one by one (`rejected_vendors`) and IAB's own strings are not read here.

Sources beside these: 4.2 step 2 (drop and strip), 7.2 and 13 (categories and codes);
support.google.com/analytics/answer/12334711 (Google's consent types).
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from functools import cached_property
from typing import Any, Literal

import msgspec

from datafly_lite.events import Event

ESSENTIAL = "essential"
CANONICAL = frozenset({ESSENTIAL, "functional", "analytics", "marketing", "personalization"})
REFUSABLE = ("functional", "analytics", "marketing", "personalization")
"""Essential is always granted (7.2)."""

ALIASES = {
    "advertising": "marketing",
    "statistics": "analytics",
    "preferences": "functional",
    "necessary": ESSENTIAL,
    "personalisation": "personalization",
    "c0001": ESSENTIAL,
    "c0002": "analytics",
    "c0003": "functional",
    "c0004": "marketing",
    **dict.fromkeys(("p2", "p3", "p4", "p7"), "marketing"),
    **dict.fromkeys(("p8", "p9"), "analytics"),
    "p1": ESSENTIAL,
    "p5": "functional",
    "ad_storage": "marketing",
    "analytics_storage": "analytics",
    "functionality_storage": "functional",
    "personalization_storage": "personalization",
    "security_storage": ESSENTIAL,
}
"""Names and codes of others, in small letters -> canonical ones."""

IGNORE = "ignore"
"""In place of a category: the code says nothing of consent here."""

WORDS = {"true": True, "granted": True, "false": False, "denied": False}
"""Choices as text: a query string has no booleans, and Google's Consent Mode has these two words."""

REFUSED_BY_GPC = {"marketing": False, "personalization": False}

SIGNALS = {
    "ad_storage": ("marketing",),
    "ad_user_data": ("marketing",),
    "ad_personalization": ("marketing", "personalization"),
    "analytics_storage": ("analytics",),
    "functionality_storage": ("functional",),
    "personalization_storage": ("personalization",),
}
"""Google's signal -> the categories it follows from, the first of which must be known."""

MAX_NAME_CHARS = 100
MAX_CODES = 500
MAX_FOREIGN = 20
"""So many categories of nobody's vocabulary are kept of a visitor: the first of the alphabet."""


class ConsentSettings(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True, dict=True):
    """`mapping`: a code, in any letters -> a canonical category, or `ignore`. It goes before what the product
    knows of codes itself; of several codes for one category either grant is enough.

    `default_policy`: category -> what holds where neither the event nor the visitor ever said. What is not
    in it stays unknown, and unknown is not a no. A site in the EU sets all four to false; what was asked
    before is then needed.

    `required_categories`: where the visitor refused any of them, the event is dropped, stripped of personal
    data or let through, for all integrations, as `on_refused` says.

    `respect_gpc`: `Sec-GPC: 1` is a no to marketing and personalization. `google_consent_mode`: events carry
    Google's signals.
    """

    mapping: dict[str, str] = {}
    default_policy: dict[str, bool] = {}
    required_categories: list[str] = []
    on_refused: Literal["drop", "strip", "allow"] = "drop"
    respect_gpc: bool = True
    google_consent_mode: bool = True

    @cached_property
    def codes(self) -> Mapping[str, str]:
        """Every code in small letters -> its category: the product's own under the organisation's."""
        return ALIASES | {folded(code): category for code, category in self.mapping.items()}

    def category_of(self, name: str) -> str:
        """The canonical category of a name or code, IGNORE, or the name itself where nobody knows it."""
        small = folded(name)
        return self.codes.get(small) or (small if small in CANONICAL else name)

    def category_meant(self, name: str) -> str:
        """As `category_of`, of a name that was written for this product: a canonical one is itself."""
        small = folded(name)
        return small if small in CANONICAL else self.category_of(name)


UNSET = ConsentSettings()
"""Where an organisation never said anything."""


def folded(name: str) -> str:
    """Large and small letters are one, and so are spaces around them."""
    return name.strip().casefold()


class State(msgspec.Struct, frozen=True, rename="camel", omit_defaults=True):
    """What a visitor said last of each category, and when: `at_ms`, or `older_ms` where it was before that.

    Times are those of the events.
    """

    choices: dict[str, bool] = {}
    at_ms: int = 0
    older_ms: dict[str, int] = {}

    def times(self) -> dict[str, int]:
        """Category -> when it was last said."""
        return dict.fromkeys(self.choices, self.at_ms) | self.older_ms


def canonical(context: Mapping[str, Any], settings: ConsentSettings = UNSET) -> dict[str, bool]:
    """The choices in an event's context; a category that is not named is unknown, and so is absent.

    `consent.canonical` goes before all else. Where several names mean one category, either grant is
    enough (7.2). A name that nobody knows is a category of its own.
    """
    if "consent" not in context and "consentManagement" not in context:
        return {}
    stated = context.get("consent")
    consent = stated if isinstance(stated, Mapping) else {}
    found: dict[str, bool] = {}
    for choices in (
        _choices(consent, settings),
        _choices(consent.get("categoryPreferences"), settings),
        _choices(consent.get("categories"), settings),
        _allowed_and_denied(context.get("consentManagement"), settings),
    ):
        for name, choice in choices.items():
            found[name] = choice or found.get(name, False)
    return found | _own(consent.get("canonical"))


def _own(stated: Any) -> dict[str, bool]:
    """`consent.canonical`, whose words are the product's; the organisation's codes have no say in it."""
    if not isinstance(stated, Mapping):
        return {}
    exact = {name: stated[name] for name in CANONICAL & stated.keys()}
    return _choices(stated, UNSET) | _choices(exact, UNSET)


def _choices(stated: Any, settings: ConsentSettings) -> dict[str, bool]:
    """Category -> choice, of an object; whatever else stands there is no choice."""
    found: dict[str, bool] = {}
    for name, value in stated.items() if isinstance(stated, Mapping) else ():
        choice = WORDS.get(value.casefold()) if isinstance(value, str) else value
        category = settings.category_of(str(name)) if isinstance(choice, bool) else IGNORE
        if category != IGNORE and len(category) <= MAX_NAME_CHARS:
            found[category] = choice or found.get(category, False)
    return found


def _allowed_and_denied(stated: Any, settings: ConsentSettings) -> dict[str, bool]:
    """`{"allowedConsentIds": [...], "deniedConsentIds": [...]}`, as RudderStack's SDKs send it."""
    if not isinstance(stated, Mapping):
        return {}
    lists = {name: stated.get(f"{name}ConsentIds") for name in ("denied", "allowed")}
    ids = {name: value if isinstance(value, list) else [] for name, value in lists.items()}
    denied = _choices({one: False for one in ids["denied"] if isinstance(one, str)}, settings)
    return denied | _choices({one: True for one in ids["allowed"] if isinstance(one, str)}, settings)


def stated(event: Event, settings: ConsentSettings) -> dict[str, bool]:
    """All that the event itself says. A word of its context goes before what a list leaves out."""
    found = canonical(event.context, settings)
    listed = _listed(event.original)
    return found if listed is None else _of_list(listed, settings) | found


def _of_list(listed: list[str], settings: ConsentSettings) -> dict[str, bool]:
    """A list of what was agreed to; what the organisation has a code for and is not in it, was not."""
    known = {*settings.mapping.values(), *(REFUSABLE if not listed else ())} & {*REFUSABLE}
    return dict.fromkeys(known, False) | _choices(dict.fromkeys(listed, True), settings)


def _listed(original: Mapping[str, Any]) -> list[str] | None:
    """Commanders Act's `user.consent_categories`; None where there is no list. Version 1, which has no
    context, has the user among the properties (wire-formats.md, 1.7).
    """
    user, inner = original.get("user"), original.get("properties")
    if isinstance(inner, Mapping) and "user" in inner and not isinstance(original.get("context"), Mapping):
        user = inner["user"]
    value = user.get("consent_categories") if isinstance(user, Mapping) else None
    if isinstance(value, str):
        value = value.split(",")  # a pixel may say `1,3`
    if isinstance(value, int) and not isinstance(value, bool):
        value = [value]
    if not isinstance(value, list):
        return None
    words = (str(one).strip() for one in value if isinstance(one, str | int) and not isinstance(one, bool))
    return [word for word in words if word]


def with_gpc(stated: dict[str, bool], settings: ConsentSettings, has_gpc: bool) -> dict[str, bool]:
    """What the event says, the browser's Global Privacy Control included: this is what is to be kept."""
    return stated | REFUSED_BY_GPC if has_gpc and settings.respect_gpc else stated


def after(state: State, stated: Mapping[str, bool], at_ms: int) -> State:
    """What is known of the visitor once an event of that time was seen; the same object if nothing is new.

    Of each category the newest word stands, whatever the order of arrival; of two of the same time the
    one that came later. That a visitor says the same again is new too: an older no cannot undo it.
    """
    times = state.times()
    newer = {name: choice for name, choice in stated.items() if at_ms >= times.get(name, at_ms)}
    if not newer:
        return state
    choices = _bounded(state.choices | newer)
    times = {name: time for name, time in (times | dict.fromkeys(newer, at_ms)).items() if name in choices}
    newest = max(times.values(), default=0)
    older = {name: times[name] for name in choices if times[name] != newest}
    found = State(choices, newest, older)
    return state if found == state else found


def _bounded(choices: Mapping[str, bool]) -> dict[str, bool]:
    """By name, so that the order of arrival leaves no trace."""
    foreign = sorted(choices.keys() - CANONICAL)[:MAX_FOREIGN]
    return {name: choices[name] for name in sorted({*foreign, *(CANONICAL & choices.keys())})}


def effective(
    stated: Mapping[str, bool], state: State, settings: ConsentSettings, has_gpc: bool
) -> dict[str, bool]:
    """The choices that hold for an event: its own words, what is kept, the default policy, and last GPC."""
    choices = {**settings.default_policy, **state.choices, **stated}
    if ESSENTIAL in choices:
        choices[ESSENTIAL] = True
    return with_gpc(choices, settings, has_gpc)


def withdrawn(before: State, after: State) -> frozenset[str]:
    """Categories that are refused now and were not: what still waits for them must not be sent."""
    return frozenset(
        name
        for name, choice in after.choices.items()
        if not choice and before.choices.get(name) is not False and name != ESSENTIAL
    )


def refused(
    choices: Mapping[str, bool], categories: Iterable[str], settings: ConsentSettings = UNSET
) -> tuple[str, ...]:
    """Which of an integration's categories the visitor said no to, in the integration's own words.

    They may be canonical, or codes of the organisation's. Essential is never refused.
    """
    return tuple(name for name in categories if _is_no(choices, name, settings))


def _is_no(choices: Mapping[str, bool], name: str, settings: ConsentSettings) -> bool:
    category = settings.category_meant(name)
    return category != ESSENTIAL and False in (choices.get(category), choices.get(name))


def is_refused(context: Mapping[str, Any], categories: Iterable[str]) -> bool:
    """Whether an event's context says no to any of the categories."""
    return bool(refused(canonical(context), categories))


def outcome(choices: Mapping[str, bool], settings: ConsentSettings) -> tuple[str, str]:
    """(`allow`, `drop` or `strip`, why) for all integrations alike (4.2, step 2)."""
    missing = refused(choices, settings.required_categories, settings)
    return (settings.on_refused, f"refused: {', '.join(missing)}") if missing else ("allow", "")


def google_consent_mode(choices: Mapping[str, bool]) -> dict[str, str]:
    """Google's consent signals, `granted` or `denied`, of the categories that are known (7.1).

    `ad_personalization` is marketing's, and denied where personalization is.
    """
    found: dict[str, str] = {}
    for signal, names in SIGNALS.items():
        if False in (said := [choices.get(name) for name in names]):
            found[signal] = "denied"
        elif said[0] is not None:
            found[signal] = "granted"
    return found


def problems(settings: ConsentSettings) -> list[tuple[str, str]]:
    """(field, message) of each value that cannot be used; types are msgspec's to check."""
    return [
        *_problems_of_mapping(settings.mapping),
        *_problems_of_categories("default_policy", settings.default_policy),
        *_problems_of_categories("required_categories", settings.required_categories),
    ]


def _problems_of_mapping(mapping: Mapping[str, str]) -> Iterator[tuple[str, str]]:
    if len(mapping) > MAX_CODES:
        yield "mapping", f"has {len(mapping):,} codes, at most {MAX_CODES} are taken"
    seen: dict[str, str] = {}
    for code, category in mapping.items():
        field = f"mapping.{code[:MAX_NAME_CHARS]}"
        if not 0 < len(folded(code)) <= MAX_NAME_CHARS:
            yield field, f"a code needs 1 to {MAX_NAME_CHARS} characters"
        if category not in CANONICAL and category != IGNORE:
            yield field, f"must be {_words(sorted(CANONICAL))}, or {IGNORE}"
        if (first := seen.setdefault(folded(code), code)) != code:
            yield field, f"is the same code as {first!r}: large and small letters are one"


def _problems_of_categories(
    field: str, categories: Mapping[str, bool] | list[str]
) -> Iterator[tuple[str, str]]:
    names = [(f"{field}.{name}", name) for name in categories]
    if isinstance(categories, list):
        names = [(f"{field}[{place}]", name) for place, name in enumerate(categories)]
    for place, name in names:
        if name == ESSENTIAL:
            yield place, "essential is always granted, so there is nothing to say of it"
        elif name not in CANONICAL:
            yield place, f"must be {_words(REFUSABLE)}"


def _words(names: list[str] | tuple[str, ...]) -> str:
    return f"{', '.join(names[:-1])} or {names[-1]}"
