"""Requests in Datafly's and Segment's wire format and in Datafly's pixel, and what they say.

A generator makes a request, `meant` says what of it counts, `heard` reads that back out of the canonical
event: the two must be equal. They share nothing with the gateway but its names of fields and paths.
"""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterator, Mapping
from typing import Any, NamedTuple
from urllib.parse import urlencode
from uuid import uuid4

from hypothesis import strategies as st

from datafly_lite.gateway import BY_NAME
from datafly_lite.gateway.datafly import KNOWN
from datafly_lite.gateway.dialect import BATCH

Json = dict[str, Any]


# ── What clients say ─────────────────────────────────────────────────────────────────────────

ODD = [
    "",
    "__proto__",
    "constructor",
    "a.b",
    "a[0]",
    "$ref",
    "\0",
    "a\0b",
    "\u2028",
    "İ",
    "\ufeff",
    "👩‍👩‍👧",
    "1",
]
NAMES = st.sampled_from(ODD) | st.text(max_size=8)
NUMBERS = st.integers() | st.integers(-(10**60), 10**60) | st.floats(allow_nan=False, allow_infinity=False)
LEAVES = st.none() | st.booleans() | NUMBERS | st.sampled_from(ODD) | st.text(max_size=20)
FLAT = st.recursive(
    LEAVES,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(NAMES, inner, max_size=3),
    max_leaves=6,
)


def nested(value: Any, levels: int) -> Any:
    for level in range(levels):
        value = [value] if level % 2 else {"x": value}
    return value


VALUES = FLAT | st.builds(nested, FLAT, st.integers(0, 20))
OBJECTS = st.dictionaries(NAMES, VALUES, max_size=4)
CHOICES = st.dictionaries(st.sampled_from(["analytics", "advertising", "marketing"]), st.booleans())
CONTEXTS = st.fixed_dictionaries(
    {},
    optional={
        "page": st.fixed_dictionaries({"url": st.just("https://a.example/b?utm_source=c#d") | VALUES}),
        "consent": CHOICES | st.fixed_dictionaries({"canonical": CHOICES, "categories": VALUES}) | FLAT,
        "campaign": VALUES,
        "ip": VALUES,
    },
)
"""What the steps look at, and might replace."""

WORDS = st.text(min_size=1, max_size=50)
IDS = WORDS | st.integers(-(10**30), 10**30)
MESSAGE_IDS = st.builds(lambda tail: f"{uuid4().hex}{tail}", st.text(max_size=20)).filter(
    lambda message_id: "\n" not in message_id
)
"""Never twice. An id with a line feed has no address in the management API."""

CLAIMS = [
    "2026-02-25T12:00:00.000Z",
    "2026-02-25T12:00:00.123456789+01:00",
    "2015-2-02T00:30:08.276Z",
    "noon",
]
"""As usual, with nine digits and an offset, as Segment's own documentation has it, and nonsense."""

TIMES = (
    st.sampled_from(CLAIMS)
    | st.integers(-(10**15), 10**15)
    | st.floats(allow_nan=False, allow_infinity=False)
)


class Said(NamedTuple):
    """A request, and for each of its events what `heard` must find in the canonical one."""

    path: str
    kind: str | None
    events: list[Any]
    body: bytes = b""
    query: str = ""


def as_json(value: Any, is_ascii: bool) -> bytes:
    return json.dumps(value, ensure_ascii=is_ascii).encode()


# ── Datafly and Segment ──────────────────────────────────────────────────────────────────────

NEEDED: dict[str, Json] = {
    "track": {"event": WORDS},
    "identify": {"userId": IDS},
    "group": {"groupId": IDS},
    "alias": {"userId": IDS, "previousId": IDS},
    "page": {},
    "screen": {},
}
NAME_FIELDS = ("event", "name", "category")
ID_FIELDS = ("userId", "anonymousId", "groupId", "previousId")
TIME_FIELDS = ("timestamp", "originalTimestamp", "sentAt")
OBJECT_FIELDS = ("properties", "traits", "context", "integrations")
POSSIBLE = {
    **dict.fromkeys(NAME_FIELDS, st.none() | st.text(max_size=50)),
    **dict.fromkeys(ID_FIELDS, st.none() | st.just("") | IDS),
    **dict.fromkeys(OBJECT_FIELDS, st.none() | OBJECTS),
    "context": st.none() | CONTEXTS,
    **dict.fromkeys(TIME_FIELDS, st.none() | TIMES),
}
UNKNOWN = st.dictionaries(NAMES.filter(lambda name: name not in KNOWN), VALUES, max_size=3)


@st.composite
def events(draw: st.DrawFn, kind: str | None) -> Json:
    """One event of the type that the path gives, or of any."""
    type_ = kind or draw(st.sampled_from([*NEEDED]))
    needed = {"type": st.just(type_), "messageId": MESSAGE_IDS, **NEEDED[type_]}
    possible = {name: value for name, value in POSSIBLE.items() if name not in needed}
    known: Json = draw(st.fixed_dictionaries(needed, optional=possible))
    return draw(UNKNOWN) | known


@st.composite
def singles(draw: st.DrawFn, dialect: str) -> Said:
    path, kind = draw(st.sampled_from([one for one in BY_NAME[dialect].paths.items() if one[1] != BATCH]))
    event = draw(events(kind))
    return Said(path, kind, [event], as_json(event, draw(st.booleans())))


@st.composite
def batches(draw: st.DrawFn, dialect: str) -> Said:
    """What the batch says for all is said by each event that does not say it for itself."""
    path = draw(st.sampled_from([path for path, kind in BY_NAME[dialect].paths.items() if kind == BATCH]))
    batch = draw(st.lists(events(None), min_size=1, max_size=4))
    shared = draw(st.fixed_dictionaries({}, optional=dict.fromkeys(OBJECT_FIELDS[2:], st.none() | OBJECTS)))
    inherited = [
        one | {name: {**(common or {}), **(one.get(name) or {})} for name, common in shared.items()}
        for one in batch
    ]
    return Said(path, BATCH, inherited, as_json({**shared, "batch": batch}, draw(st.booleans())))


def meant(said: Json) -> Json:
    """Without what says nothing: null and "" of an id or a name, null and {} of an object."""
    known = {name: value for name, value in said.items() if name in KNOWN and value not in (None, "", {})}
    texts = {name: str(known[name]) for name in ID_FIELDS if name in known}
    claimed = {name: known.pop(name) for name in TIME_FIELDS if name in known}
    unknown = {name: value for name, value in said.items() if name not in KNOWN}
    return {**known, **texts, "times": claimed, "unknown": unknown}


def heard(event: Json, said: Json) -> Json:
    """The event as its client would say it. A visitor that nobody named is the gateway's."""
    original = dict(event.get("original", {}))
    fields = {name: event[name] for name in ("type", "messageId", *NAME_FIELDS, *ID_FIELDS) if name in event}
    objects = {name: event[name] for name in OBJECT_FIELDS if name in event}
    if said.get("anonymousId") in (None, ""):
        fields.pop("anonymousId", None)
    for name in ("messageId", "anonymousId"):  # such as "undefined", for which the gateway takes another
        if name in original:
            fields[name] = str(original.pop(name))
    claimed = _claimed(event, original, said)
    return {**fields, **objects, "times": claimed, "unknown": original}


def _claimed(event: Json, original: Json, said: Json) -> Json:
    """The product goes by the first of two times that is one, and the other is displaced."""
    names = [one for one in ("timestamp", "originalTimestamp") if said.get(one) not in (None, "")]
    names.sort(key=lambda name: name in original)
    kept: Json = {"sentAt": event["sentAt"]} if "sentAt" in event else {}
    if "originalTimestamp" in event:
        kept[names[0] if names else "originalTimestamp"] = event["originalTimestamp"]
    if len(names) == 2:
        kept[names[1]] = original.pop(names[1], None)
    return {name: said[name] if is_same_time(said.get(name), one) else one for name, one in kept.items()}


def is_same_time(said: Any, kept: Any) -> bool:
    """A number of milliseconds is kept as its text."""
    return float(kept) == said if isinstance(said, int | float) and kept is not None else bool(kept == said)


# ── Datafly's pixel ──────────────────────────────────────────────────────────────────────────

PLAIN = st.text(
    st.characters(exclude_categories=["Cs", "Nd"], exclude_characters=".[]"), min_size=1, max_size=6
)
"""Names that are one level of a query's object, whatever notation it has."""

TEXTS = st.text(max_size=20) | st.sampled_from(ODD)
TREES = st.dictionaries(
    PLAIN,
    st.recursive(TEXTS, lambda inner: st.dictionaries(PLAIN, inner, min_size=1, max_size=3), max_leaves=5),
    max_size=3,
)
PIXEL_FIELDS = {"e": "event", "n": "name", "uid": "userId", "aid": "anonymousId", "gid": "groupId"}
PIXEL_NEEDS = {"track": "e", "identify": "uid", "group": "gid"}
KEYS = frozenset({"wk", "writeKey", "token", "tc_skey", "cb", "ts", "mid", "source", *PIXEL_FIELDS})
OTHERS = st.dictionaries(PLAIN.filter(lambda name: name not in KEYS), TEXTS, max_size=3)


@st.composite
def pixels(draw: st.DrawFn) -> Said:
    path, kind = draw(st.sampled_from([*BY_NAME["datafly_pixel"].paths.items()]))
    needed = {PIXEL_NEEDS[kind]: WORDS} if kind in PIXEL_NEEDS else {}
    known = {**dict.fromkeys(PIXEL_FIELDS, TEXTS), "ts": st.integers(0, 10**15).map(str), **needed}
    fields: Json = draw(
        st.fixed_dictionaries(
            {"mid": MESSAGE_IDS, **needed},
            optional={name: value for name, value in known.items() if name not in needed},
        )
    )
    said: Json = {"fields": fields, "p": draw(TREES), "t": draw(TREES), "others": draw(OTHERS)}
    pairs = [*fields.items(), *dotted("p", said["p"]), *dotted("t", said["t"]), *said["others"].items()]
    return Said(path, kind, [said], query=urlencode([*draw(st.permutations(pairs)), ("cb", "1")]))


def dotted(head: str, tree: Mapping[str, Any]) -> Iterator[tuple[str, str]]:
    for name, value in tree.items():
        if isinstance(value, dict):
            yield from dotted(f"{head}.{name}", value)
        else:
            yield f"{head}.{name}", value


def meant_by_pixel(said: Json) -> Json:
    return {**said, "fields": {name: value for name, value in said["fields"].items() if value}}


def heard_of_pixel(event: Json, said: Json) -> Json:
    names = {**PIXEL_FIELDS, "mid": "messageId", "ts": "originalTimestamp"}
    fields = {name: event[field] for name, field in names.items() if field in event}
    if not said["fields"].get("aid"):
        fields.pop("aid", None)
    others = dict(event.get("original", {}))
    fields |= {name: others.pop(field) for name, field in names.items() if field in others}
    trees = {"p": event.get("properties", {}), "t": event.get("traits", {})}
    return {"fields": fields, **trees, "others": others}


@st.composite
def odd_pixels(draw: st.DrawFn) -> Said:
    """Names that stand twice, that lead into one another, that are no names."""
    names = st.builds("".join, st.tuples(st.sampled_from(["p.", "t.", "p", "", "uid", "x"]), NAMES))
    taken = names.filter(lambda name: name not in KEYS - {"uid"})
    pairs = draw(st.lists(st.tuples(taken, TEXTS), max_size=8))
    needed = [("e", draw(WORDS)), ("mid", draw(MESSAGE_IDS))]
    return Said("/v1/pixel/track", "track", [[*needed, *pairs]], query=urlencode([*needed, *pairs]))


def texts_in(value: Any) -> Iterator[str]:
    if isinstance(value, dict | list):
        for one in value.values() if isinstance(value, dict) else value:
            yield from texts_in(one)
    else:
        yield value


def values_of(pairs: list[tuple[str, str]]) -> Json:
    return dict(Counter(value for _, value in pairs if value))


def values_heard(event: Json, said: list[tuple[str, str]]) -> Json:
    """Each text as often as it was said; a parameter that stands twice is in its field and in `original`."""
    original = event.get("original", {})
    fields = [event[name] for name in ("event", "messageId")]
    fields += [event["userId"]] if "userId" in event and "uid" not in original else []
    found = [*fields, *texts_in([original, event.get("properties", {}), event.get("traits", {})])]
    return dict(Counter(one for one in found if one))
