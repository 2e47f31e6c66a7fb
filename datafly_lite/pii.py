"""Personal data on an event: hashed, removed, cut short (spec/datafly-signal.md, 9.6 and 4.2).

- A hash is SHA-256 in hex of the value in one writing: e-mail trimmed and in small letters, phone numbers
  their digits with `+` where it was there (or written 00), all else trimmed. So Google Ads and others match
  them (developers.google.com/google-ads/api/docs/conversions/upload-online); Meta does for e-mail, while for
  phones it wants the digits without `+` (its customer information parameters): those are better left to
  the integration.
- What looks like a SHA-256 already stays. Numbers count as their text; lists and objects are gone through;
  true, false and null stay.
- The log keeps what came in, raw bytes and address: nothing of this touches it.
"""

from __future__ import annotations

import hashlib
import ipaddress
import math
import re
from typing import Any, Literal

import msgspec

from datafly_lite.errors import ExpressionError
from datafly_lite.events import Event
from datafly_lite.paths import ATTRIBUTES, FIELDS, Path, parse, put_event, remove_event
from datafly_lite.pii_detection import PHONE_VALUE, found, is_phone, is_phone_name
from datafly_lite.pii_walking import EVERY, GONE, Change, Part, Walk, parts_of

REDACTED = "[redacted]"
MOST_FIELDS = 100
LONGEST_PATH_CHARS = 300

KEPT_FIELDS = frozenset(
    {"type", "event", "messageId", "timestamp", "receivedAt", "originalTimestamp", "sentAt", "anonymousId"}
)
"""Without these as they came the product cannot find, order or join events."""

SCANNED = ("properties", "traits", "original", "name", "category", "context")
"""Where personal data is looked for. Not in userId and groupId: [redacted] as an id would make one person of
strangers; whoever has e-mail addresses there names the field. Not in the event's name: it is routed by it."""

TECHNICAL = frozenset(
    {
        *("ip", "userAgent", "userAgentData", "library", "app", "bot", "browser", "device", "os", "screen"),
        *("viewport", "network", "geo", "session", "timezone", "locale", "consent", "consentManagement"),
        *("direct", "channel", "groupId"),
    }
)
"""What of the context is not looked through: its digits are versions, sizes, times and ids. `groupId` is
an id as the event's own is."""

STRIPPED = (
    "userId",
    "groupId",
    "previousId",
    "traits",
    "vendorIds",
    "original",
    "context.traits",
    "context.ip",
    "context.externalIds",
    "context.groupId",
    "context.integrations",
    "context.device.id",
    "context.device.sdk_id",
    "context.device.advertisingId",
    "context.device.advertising_id",
    "context.device.idfa",
    "context.device.idfv",
    "context.device.token",
    "context.device.cookie",
    "context.advertising_id",
    "context.idfv",
)

PAGE: tuple[Part, ...] = ("context", "page")
HASHED = re.compile(r"[0-9a-fA-F]{64}")
PHONE_NAME = re.compile(r"phone|mobile|^tel$|^fax$|telephone", re.IGNORECASE)
CLICKS = re.compile(
    r"(?<=[?&])(?:gclid|gclsrc|gbraid|wbraid|dclid|fbclid|ttclid|epik|ScCid|li_fat_id|msclkid|twclid|rdt_cid)"
    r"=[^&#]*&?",
    re.IGNORECASE,
)


class PiiRules(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What is hashed and what is removed. Defaults: nothing, so that rules can be added one by one.

    Paths are `traits.email`, `properties.products[*].email` for each item of a list, or `userId`. A trait
    (`traits.email`) also means the same one under `context.traits`, where clients repeat what identify said.
    A path in both lists is removed. `auto_detect` also looks for e-mail addresses, phone numbers and payment
    cards in all texts, numbers and keys of SCANNED (pii_detection.py) but for what is TECHNICAL: `hash` puts
    the hash in their place, `redact` the word [redacted]. `ip_address`: `truncate` sets the last octet of
    IPv4 and the last 80 bits of IPv6 to zero, as Google Analytics does
    (support.google.com/analytics/answer/2763052), `drop` takes it away.
    """

    enabled: bool = True
    hash_fields: tuple[str, ...] = ()
    redact_fields: tuple[str, ...] = ()
    hash_algorithm: Literal["sha256"] = "sha256"
    auto_detect: Literal["off", "hash", "redact"] = "off"
    ip_address: Literal["keep", "truncate", "drop"] = "keep"


def protect(event: Event, rules: PiiRules) -> list[str]:
    """Apply the rules; nested values are replaced, not changed. Gives the paths that changed."""
    if not rules.enabled:
        return []
    changed: list[str] = []
    for text in rules.redact_fields:
        changed += _remove(event, text)
    for text in rules.hash_fields:
        changed += _hash(event, text)
    if rules.auto_detect != "off":
        changed += _detect(event, _with_hash if rules.auto_detect == "hash" else _with_word)
    if rules.ip_address != "keep" and "ip" in event.context:
        changed += _put_ip(event, _truncated(event.context["ip"]) if rules.ip_address == "truncate" else None)
    return changed


def strip(event: Event) -> list[str]:
    """Take away who it was and keep what happened: the consent outcome Strip. Gives the paths that changed.

    Gone are userId, groupId, previousId, traits, context.traits, the address, vendorIds, the ids of the
    device and of other products, click ids in the page's addresses (they name one person's click), and
    `original`, which repeats all this; e-mail, phones and cards elsewhere are redacted. anonymousId
    stays: no event is without.
    """
    changed = [path for one in STRIPPED for path in _remove(event, one)]
    changed += _apply(event, PAGE, _without_clicks)
    return changed + _detect(event, _with_word)


def hashed(value: str, name: str = "") -> str:
    """SHA-256 in hex of the value in its one writing; `name` is the field's, by which a phone is known."""
    if HASHED.fullmatch(value.strip()):
        return value
    return hashlib.sha256(_written(value.strip(), name).encode("utf-8", "replace")).hexdigest()


def problems(rules: PiiRules) -> list[tuple[str, str]]:
    """(field, message) for each path that cannot be used."""
    found: list[tuple[str, str]] = []
    for field, paths in (("hash_fields", rules.hash_fields), ("redact_fields", rules.redact_fields)):
        if len(paths) > MOST_FIELDS:
            found.append((field, f"at most {MOST_FIELDS} paths are taken"))
        for index, text in enumerate(paths):
            message = _problem(text)
            if message:
                found.append((f"{field}[{index}]", message))
    return found


def _problem(text: str) -> str | None:
    if len(text) > LONGEST_PATH_CHARS:
        return f"must have at most {LONGEST_PATH_CHARS} characters"
    try:
        root = str(parse(text.replace(EVERY, "[0]")).parts[0])
    except ExpressionError as error:
        return f"{error} (character {error.position})"
    if root not in FIELDS:
        return f"an event has no field {root}: begin with properties, traits, context or userId"
    if root in KEPT_FIELDS:
        return f"{root} cannot be changed: the product finds and joins events by it"
    if text in ("properties", "context", "integrations"):
        return f"{text} is too much: name a field below it"
    return None


# ── Fields that are named ────────────────────────────────────────────────────────────────────


def _remove(event: Event, text: str) -> list[str]:
    return [path for parts in _places(text) for path in _apply(event, parts, None)]


def _hash(event: Event, text: str) -> list[str]:
    return [path for parts in _places(text) for path in _apply(event, parts, _hashed)]


def _places(text: str) -> tuple[tuple[Part, ...], ...]:
    """Where a path of the rules leads."""
    if text.startswith(("traits.", "traits[")):
        return parts_of(text), parts_of(f"context.{text}")
    return (parts_of(text),)


def _apply(event: Event, parts: tuple[Part, ...], change: Change | None) -> list[str]:
    """Change what is at and below the path, or take it away; gives the paths that changed."""
    root = str(parts[0]) if parts else ""
    attribute = ATTRIBUTES.get(root)
    value = None if attribute is None else getattr(event, attribute)
    if attribute is None or value is None:
        return []
    walk = Walk(change)
    made = walk.at(value, parts, root)
    if made is GONE:
        remove_event(event, Path(root, (root,)))
    elif made is not value:
        setattr(event, attribute, made)
    return walk.changed


def _hashed(value: str | float, name: str) -> str:
    if isinstance(value, str):
        return hashed(value, name)
    is_whole = math.isfinite(value) and value == int(value)
    return hashed(str(int(value) if is_whole else value), name)


# ── Personal data that is found ──────────────────────────────────────────────────────────────


def _detect(event: Event, change: Change) -> list[str]:
    walk = Walk(change)
    for root in SCANNED:
        value = getattr(event, root)
        if not value:
            continue
        if root == "context":
            value = {name: one for name, one in value.items() if name not in TECHNICAL}
        made = walk.all_of(value, root)
        if made is value:
            continue
        if root == "context":
            made = {**{name: one for name, one in event.context.items() if name in TECHNICAL}, **made}
        setattr(event, root, made)
    return walk.changed


def _with_hash(value: str | float, name: str) -> Any:
    return found(value, name, hashed)


def _with_word(value: str | float, name: str) -> Any:
    return found(value, name, _word)


def _word(_: str, __: str) -> str:
    return REDACTED


def _without_clicks(value: str | float, _: str) -> Any:
    if not isinstance(value, str):
        return value
    cleaned = CLICKS.sub("", value)
    return value if cleaned == value else re.sub(r"[?&]+(?=#|$)", "", cleaned)


# ── One value ────────────────────────────────────────────────────────────────────────────────


def _written(text: str, name: str) -> str:
    """The one writing of a value, so that the same person has the same hash."""
    if "@" in text:
        return text.lower()
    is_named = PHONE_NAME.search(name) or is_phone_name(name)
    if not (is_phone(text) or (is_named and PHONE_VALUE.fullmatch(text))):
        return text
    digits = re.sub(r"\D", "", text)
    if text.startswith("+"):
        return f"+{digits}"
    return f"+{digits[2:]}" if digits.startswith("00") else digits


def _put_ip(event: Event, ip: str | None) -> list[str]:
    path = Path("context.ip", ("context", "ip"))
    if event.context["ip"] == ip:
        return []
    if ip is None:
        remove_event(event, path)
    else:
        put_event(event, path, ip)
    return [path.text]


def _truncated(ip: Any) -> str | None:
    """None for what is no address: nobody knows what it says."""
    try:
        address = ipaddress.ip_address(ip) if isinstance(ip, str) else None
    except ValueError:
        return None
    if address is None:
        return None
    if isinstance(address, ipaddress.IPv6Address) and address.ipv4_mapped:
        address = address.ipv4_mapped
    kept_bits = 24 if address.version == 4 else 48
    number = int(address) >> (address.max_prefixlen - kept_bits) << (address.max_prefixlen - kept_bits)
    return str(type(address)(number))
