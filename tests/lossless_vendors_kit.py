"""Requests of Commanders Act's clients and of webhooks, and what they say: see lossless_kit.py."""

from __future__ import annotations

from typing import Any
from urllib.parse import urlencode
from uuid import uuid4

from hypothesis import strategies as st

from datafly_lite.configuration import WebhookSource
from datafly_lite.gateway import BY_NAME
from datafly_lite.gateway.dialect import BATCH
from lossless_kit import (
    IDS,
    KEYS,
    LEAVES,
    MESSAGE_IDS,
    NAMES,
    OBJECTS,
    PLAIN,
    TEXTS,
    TIMES,
    VALUES,
    WORDS,
    Json,
    Said,
    as_json,
)

# ── Commanders Act ───────────────────────────────────────────────────────────────────────────

EVENT_IDS = st.none() | MESSAGE_IDS | st.builds(lambda: uuid4().int)
PARTS = st.fixed_dictionaries(
    {},
    optional={
        "event_id": EVENT_IDS,
        "eventId": EVENT_IDS,
        "event_timestamp": TIMES | st.none(),
        "created": TIMES,
        "page": OBJECTS,
        "device": OBJECTS | LEAVES,
        "app": OBJECTS,
        "version": LEAVES,
    },
)
USERS = st.fixed_dictionaries(
    {},
    optional={
        "id": IDS | st.none() | st.booleans() | OBJECTS,
        "consistent_anonymous_id": WORDS | st.none() | st.integers() | OBJECTS,
        "consent_categories": st.lists(st.integers(0, 9) | st.text(max_size=3)) | VALUES,
        "rejected_vendors": st.just("ALL") | VALUES,
        "email": LEAVES,
    },
)
META = ("event_id", "eventId", "event_timestamp", "page", "device", "app", "version", "created")
PLACES = ("event_name", "event", "properties", "context", "user", "integrations")
OWN = frozenset({*META, *PLACES, "generatorVersion", "containerVersion"})
PROPERTIES = st.dictionaries(NAMES.filter(lambda name: name not in OWN), VALUES, max_size=4)
EVENT_NAMES = st.sampled_from(["purchase", "page_view"]) | WORDS


@st.composite
def commanders_act_events(draw: st.DrawFn) -> Json:
    """Version 2, or version 1 under either name of the event."""
    name, user, parts, own = draw(EVENT_NAMES), draw(USERS | VALUES), draw(PARTS), draw(PROPERTIES)
    if draw(st.booleans()):
        integrations = draw(st.fixed_dictionaries({}, optional={"integrations": OBJECTS}))
        return {**own, **integrations, "event_name": name, "user": user, "context": parts}
    return {
        draw(st.sampled_from(["event", "event_name"])): name,
        "properties": {**own, "user": user},
        **parts,
    }


@st.composite
def commanders_act(draw: st.DrawFn, is_batch: bool) -> Said:
    paths = BY_NAME["commanders_act"].paths.items()
    path, kind = draw(st.sampled_from([one for one in paths if (one[1] == BATCH) == is_batch]))
    said = draw(st.lists(commanders_act_events(), min_size=1, max_size=4 if is_batch else 1))
    body = draw(st.sampled_from([said, {"batch": said}])) if is_batch else said[0]
    return Said(path, kind, said, as_json(body, draw(st.booleans())), query="tc_s=3311")


def meant_by_commanders_act(said: Json) -> Json:
    inner = said["properties"] if isinstance(said.get("properties"), dict) else said
    properties = {name: value for name, value in inner.items() if name not in OWN}
    return {"whole": said, "properties": properties}


def heard_of_commanders_act(event: Json, _: Json) -> Json:
    properties = event.get("properties", {})
    return {
        "whole": event["original"],
        "properties": {name: value for name, value in properties.items() if name not in OWN},
    }


BRANCHES = st.recursive(
    TEXTS,
    lambda inner: (
        st.lists(inner, min_size=1, max_size=3) | st.dictionaries(PLAIN, inner, min_size=1, max_size=3)
    ),
    max_leaves=5,
).filter(lambda tree: len(max(bracketed("", tree), key=lambda pair: pair[0].count("["))[0].split("[")) < 9)


def bracketed(head: str, tree: Any) -> list[tuple[str, str]]:
    """`{"items": [{"id": "A"}]}` -> `items[0][id]=A`, as PHP and `qs` write it."""
    if isinstance(tree, str):
        return [(head, tree)]
    inner = tree.items() if isinstance(tree, dict) else enumerate(tree)
    return [pair for name, one in inner for pair in bracketed(f"{head}[{name}]", one)]


@st.composite
def commanders_act_pixels(draw: st.DrawFn) -> Said:
    path, kind = draw(st.sampled_from([*BY_NAME["commanders_act_pixel"].paths.items()]))
    names = PLAIN.filter(lambda name: name not in KEYS | OWN)
    own = draw(st.dictionaries(names, BRANCHES, max_size=4))
    user = draw(st.dictionaries(PLAIN, BRANCHES, min_size=1, max_size=3))
    said = {**own, "event_name": draw(EVENT_NAMES), "user": user, "context": {"event_id": draw(MESSAGE_IDS)}}
    pairs = [pair for name, one in said.items() for pair in bracketed(name, one)]
    return Said(path, kind, [said], query=urlencode(pairs))


# ── Webhooks ─────────────────────────────────────────────────────────────────────────────────

MAPPINGS = {"event": "$.kind", "userId": "$.who", "properties.all": "$", "properties.some": "$..x"}
SOURCE = WebhookSource(
    id="wh_1",
    pipeline_id="pip_1",
    source_type="custom",
    enabled=True,
    secret="",
    signature_header="",
    signature_encoding="hex",
    event_type_path="$.kind",
    mappings=MAPPINGS,
)


@st.composite
def webhooks(draw: st.DrawFn) -> Said:
    some = st.builds(
        lambda one, other: {**one, **other},
        OBJECTS,
        st.dictionaries(st.sampled_from(["kind", "who"]), VALUES),
    )
    bodies = draw(st.lists(some, min_size=1, max_size=4))
    body = bodies[0] if len(bodies) == 1 else bodies
    return Said("/v1/webhook", None, bodies, as_json(body, draw(st.booleans())))


def the_original(event: Json, _: Json) -> Json:
    return event.get("original", {})  # type: ignore[no-any-return]
