"""What a Commanders Act event means: one canonical event from either version and either dialect.

Facts from wire-formats.md, 1.5 to 1.9. Version 2 has the properties at the root, the rest in `context`
and `user`; version 1 has the properties, and the user, in `properties`, the rest at the root. The web
container writes `eventId` and `created` where the HTTP documentation writes `event_id` and
`event_timestamp`.

- `page_view` is a page, everything else a track under the name it came with. None is an identify:
  `login` and `sign_up` are things that happened, and the user's id goes with every event.
- Wrong types are left out of the canonical event, not refused: the vendor never refuses for them, and
  `original` has the whole body.
- `integrations` holds vendors' own ids here (`facebook.fbc`), so it goes to `context.integrations`. Only
  a boolean in it can switch an integration off.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from typing import Any, NamedTuple

from datafly_lite.clock import iso
from datafly_lite.errors import Refused
from datafly_lite.events import Envelope, Event
from datafly_lite.gateway.commanders_act_consent import consent_of
from datafly_lite.gateway.datafly import MAX_ID_CHARS, MAX_NAME_CHARS
from datafly_lite.gateway.timestamps import parse_ms, settled

PAGE_VIEW = "page_view"
IDS = ("event_id", "eventId")
IDS_AND_TIMES = (*IDS, "event_timestamp")
"""At the root in version 1, and of a batch's example in version 2 also `event_timestamp`."""
ROOT_OBJECTS = ("page", "device", "app")
ROOT_VERSIONS = ("version", "generatorVersion", "containerVersion")
OBJECTS = frozenset(
    {
        "campaign",
        "consent",
        "integrations",
        "library",
        "network",
        "os",
        "screen",
        "session",
        "traits",
    }
)
"""Parts of a context that are read by name further on: what is no object there is left out."""

DEVICE_NAMES = {
    "sdk_id": "id",
    "advertising_id": "advertisingId",
    "ad_tracking_enabled": "adTrackingEnabled",
}
TRAIT_NAMES = {"firstname": "firstName", "lastname": "lastName", "birthdate": "birthday"}
ADDRESS_NAMES = {
    "street": "street",
    "city": "city",
    "state": "state",
    "zipcode": "postalCode",
    "country": "country",
}
"""Commanders Act's names -> those of context.device, and of Segment's traits and address."""

NO_TRAITS = frozenset(
    {"consistent_anonymous_id", "consent_categories", "rejected_vendors", "refused_vendors"}
)
"""What has its own place on the event."""

DIGITS = re.compile(r"-?\d{1,17}", re.ASCII)


class Parts(NamedTuple):
    """An event's parts, from wherever its version has them. `context` has Commanders Act's names."""

    name: Any
    name_field: str
    properties: dict[str, Any]
    user: dict[str, Any]
    context: dict[str, Any]
    integrations: dict[str, Any]


def parts_of(body: Mapping[str, Any]) -> Parts:
    """Take an event apart. `properties` without a `context` is version 1 (1.7).

    Without a context its parts are looked for at the root in both versions. A key of `properties` wins
    over the same key at the root.
    """
    stated, inner = body.get("context"), body.get("properties")
    context = stated if isinstance(stated, dict) else {}
    first = inner if isinstance(inner, dict) and not isinstance(stated, dict) else None
    name_field = "event" if body.get("event_name") is None and "event" in body else "event_name"
    meta = _meta(body, has_context=isinstance(stated, dict), is_first=first is not None)
    taken = {name_field, "context", *meta, *(["properties"] if first is not None else [])}
    own = {**{name: value for name, value in body.items() if name not in taken}, **(first or {})}
    if first is not None and "created" in first:
        meta["created"] = first["created"]
    return Parts(
        name=body.get(name_field),
        name_field=name_field,
        properties={name: value for name, value in own.items() if name not in ("user", "integrations")},
        user=_object(own.get("user")),
        context={**meta, **{name: value for name, value in context.items() if value is not None}},
        integrations=_object(own.get("integrations")),
    )


def _meta(body: Mapping[str, Any], *, has_context: bool, is_first: bool) -> dict[str, Any]:
    """What stands at the root and belongs to the context."""
    names = [*IDS_AND_TIMES, *(ROOT_VERSIONS if is_first else ())]
    meta = {name: body[name] for name in names if name in body}
    objects = () if has_context else ROOT_OBJECTS
    return meta | {name: body[name] for name in objects if isinstance(body.get(name), dict)}


def message_id(body: Mapping[str, Any]) -> str | None:
    """The id that a retry carries again."""
    context = parts_of(body).context
    return next((found for name in IDS if (found := identifier(context.get(name)))), None)


def visitor(body: Mapping[str, Any]) -> str | None:
    """`user.consistent_anonymous_id`, or what mobile SDKs take for it where it is not set (1.8)."""
    parts = parts_of(body)
    given = identifier(parts.user.get("consistent_anonymous_id"))
    return given or identifier(_object(parts.context.get("device")).get("sdk_id"))


def is_cookieless(shared: Mapping[str, Any]) -> bool:
    """`tc_do_not_track`: the page wants no cookies to tell its visitors apart.

    It says nothing of vendors: in the container's code it follows from the domain's being cookieless.
    So it keeps the CAID from naming the visitor, and neither grants nor refuses a category.
    """
    return str(shared.get("tc_do_not_track", "")).lower() in ("true", "1")


def normalise(envelope: Envelope, wire: Mapping[str, Any], *, beside: Iterable[str] = ()) -> Event:
    """The canonical event. `beside` names root fields that are of the request, not of the event.

    Raises Refused `invalid_payload`, naming the field and what it needs.
    """
    parts = parts_of(wire)
    name = _name(parts)
    _check_lengths(parts)
    properties = {key: value for key, value in parts.properties.items() if key not in beside}
    at = _time(parts.context)
    is_page = name == PAGE_VIEW
    return Event(
        type="page" if is_page else "track",
        message_id=envelope.message_id,
        timestamp=settled(_milliseconds(at), None, envelope.received_at_ms),
        received_at=iso(envelope.received_at_ms),
        original_timestamp=identifier(at),
        event=None if is_page else name,
        name=_page_name(properties) if is_page else None,
        category=_text(properties.get("page_type")) if is_page else None,
        user_id=_user_id(parts.user),
        anonymous_id=envelope.anonymous_id,
        properties=properties,
        context=_context(parts, envelope.shared),
        integrations={key: value for key, value in parts.integrations.items() if isinstance(value, bool)},
        original=dict(wire),
    )


def _name(parts: Parts) -> str:
    name = parts.name
    if not isinstance(name, str) or not name:
        raise Refused(
            "invalid_payload", f"{parts.name_field} is required: the name of what happened, as text"
        )
    if len(name) > MAX_NAME_CHARS:
        raise Refused(
            "invalid_payload",
            f"{parts.name_field} has {len(name):,} characters, at most {MAX_NAME_CHARS} are taken",
        )
    return name


def _check_lengths(parts: Parts) -> None:
    for field, value in (
        *((name, parts.context.get(name)) for name in IDS),
        ("user.id", _user_id(parts.user)),
        ("user.consistent_anonymous_id", parts.user.get("consistent_anonymous_id")),
        ("device.sdk_id", _object(parts.context.get("device")).get("sdk_id")),
    ):
        length = len(identifier(value) or "")
        if length > MAX_ID_CHARS:
            raise Refused(
                "invalid_payload", f"{field} has {length:,} characters, at most {MAX_ID_CHARS} are taken"
            )


def _user_id(user: Mapping[str, Any]) -> str | None:
    """`ID` is what the mobile SDKs' documentation has (1.8)."""
    return identifier(user.get("id")) or identifier(user.get("ID"))


def _page_name(properties: Mapping[str, Any]) -> str | None:
    found = (_text(properties.get(name)) for name in ("page_name", "page_type", "title"))
    return next((name for name in found if name), None)


def _time(context: Mapping[str, Any]) -> Any:
    """The first time that is one, else the first that was meant as one."""
    given = [context.get(name) for name in ("event_timestamp", "created")]
    stated = [value for value in given if identifier(value)]
    return next(
        (value for value in stated if parse_ms(_milliseconds(value)) is not None), (stated or [None])[0]
    )


def _milliseconds(value: Any) -> str | float | None:
    """Milliseconds come as a number or as its digits, and the container writes ISO 8601 (1.5, 1.6)."""
    if isinstance(value, str):
        return int(value) if DIGITS.fullmatch(value) else value
    return value if isinstance(value, int | float) and not isinstance(value, bool) else None


def _context(parts: Parts, shared: Mapping[str, Any]) -> dict[str, Any]:
    """The context under the names that vendors' mappings read; what has no such name stays as it came."""
    given = parts.context
    page, device, app = (_object(given.get(name)) for name in ROOT_OBJECTS)
    elsewhere = {*IDS_AND_TIMES, "created", *ROOT_OBJECTS}
    kept = {
        name: value
        for name, value in given.items()
        if name not in elsewhere and (name not in OBJECTS or isinstance(value, dict))
    }
    found = {
        "page": _page(page),
        "device": _device(device),
        "app": app,
        "ip": _text(device.get("ip")),
        "userAgent": _text(device.get("user_agent")),
        "locale": _text(device.get("lang")) or _text(device.get("language")) or _text(page.get("lang")),
        "timezone": _text(device.get("timezone")),
        **{name: _object(device.get(name)) for name in ("screen", "os", "network")},
        "library": _library(given, device, app),
        "traits": {**_object(given.get("traits")), **_traits(parts.user)},
        "consent": {**_object(given.get("consent")), **consent_of(parts.user)},
        "integrations": parts.integrations,
        "commandersAct": _request(shared),
    }
    return kept | {name: value for name, value in found.items() if value}


def _page(page: dict[str, Any]) -> dict[str, Any]:
    """Version 1 has the address under `location`."""
    return {**page, "url": page["location"]} if "location" in page and "url" not in page else page


def _device(device: dict[str, Any]) -> dict[str, Any]:
    """Without the address and the user agent, which have a place of their own and are looked for there."""
    moved = [name for name in ("ip", "user_agent") if _text(device.get(name))]
    kept = {name: value for name, value in device.items() if name not in moved}
    return _renamed(device, DEVICE_NAMES) | kept


def _traits(user: Mapping[str, Any]) -> dict[str, Any]:
    """The user under Commanders Act's own names, and under Segment's where there is one."""
    own = {name: value for name, value in user.items() if name not in NO_TRAITS}
    address = _renamed(user, ADDRESS_NAMES)
    return _renamed(user, TRAIT_NAMES) | ({"address": address} if address else {}) | own


def _renamed(values: Mapping[str, Any], names: Mapping[str, str]) -> dict[str, Any]:
    return {name: values[given] for given, name in names.items() if values.get(given) is not None}


def _library(
    context: Mapping[str, Any], device: Mapping[str, Any], app: Mapping[str, Any]
) -> dict[str, Any] | None:
    """Which of the vendor's clients sent it: only the container and the SDKs write these (1.6, 1.8)."""
    if "containerVersion" in context or "generatorVersion" in context:
        version = identifier(context.get("containerVersion")) or identifier(context.get("generatorVersion"))
        return {"name": "commandersact-web-container", "version": version}
    if "sdk_id" in device or "core_version" in app:
        return {"name": "commandersact-mobile-sdk", "version": identifier(app.get("core_version"))}
    return None


def _request(shared: Mapping[str, Any]) -> dict[str, Any]:
    """What the request said beside the event."""
    flags = {"doNotTrack": True} if is_cookieless(shared) else {}
    return {**_renamed(shared, {"tc_s": "siteId", "caid": "caid"}), **flags}


def identifier(value: Any) -> str | None:
    """An id as text: numbers as their digits, what is neither text nor a number as absent."""
    if isinstance(value, float) and value.is_integer():
        value = int(value)
    is_id = isinstance(value, str | int | float) and not isinstance(value, bool)
    return str(value) or None if is_id else None


def _text(value: Any) -> str | None:
    return value if isinstance(value, str) and value else None


def _object(value: Any) -> dict[str, Any]:
    return value if isinstance(value, dict) else {}
