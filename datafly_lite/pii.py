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
import json
import math
import re
from collections.abc import Callable, Iterator
from functools import lru_cache
from typing import Any, Literal, NamedTuple

import msgspec

from datafly_lite.errors import ExpressionError
from datafly_lite.events import Event
from datafly_lite.paths import FIELDS, MISSING, Path, parse, put_event, read_event, remove_event
from datafly_lite.pii_detection import is_phone, scrubbed

REDACTED = "[redacted]"
MOST_FIELDS = 100
MOST_ITEMS = 1000
LONGEST_PATH_CHARS = 300
EVERY = "[*]"

KEPT_FIELDS = frozenset(
    {"type", "event", "messageId", "timestamp", "receivedAt", "originalTimestamp", "sentAt", "anonymousId"}
)
"""Without these as they came the product cannot find, order or join events."""

SCANNED = tuple(
    map(
        parse,
        (
            "properties",
            "traits",
            "original",
            "name",
            "context.page",
            "context.traits",
            "context.campaign",
        ),
    )
)
"""Where personal data is looked for. Not in userId and groupId: [redacted] as an id would make one person of
strangers; whoever has e-mail addresses there names the field. Not in the event's name: it is routed by it."""

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

HASHED = re.compile(r"[0-9a-fA-F]{64}")
PLAIN_NAME = re.compile(r"[\w$]+")
PHONE_NAME = re.compile(r"phone|mobile|^tel$|^fax$|telephone", re.IGNORECASE)
PHONE_VALUE = re.compile(r"[+(]?\d[\d ().\-/]{5,24}")
CLICKS = re.compile(
    r"(?<=[?&])(?:gclid|gclsrc|gbraid|wbraid|dclid|fbclid|ttclid|epik|ScCid|li_fat_id|msclkid|twclid|rdt_cid)"
    r"=[^&#]*&?",
    re.IGNORECASE,
)

Change = Callable[[str, str], str]
"""(text, name of its field) -> what it becomes."""


class PiiRules(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What is hashed and what is removed. Defaults: nothing, so that rules can be added one by one.

    Paths are `traits.email`, `properties.products[*].email` for each item of a list, or `userId`. A trait
    (`traits.email`) also means the same one under `context.traits`, where clients repeat what identify said.
    A path in both lists is removed. `auto_detect` also looks for e-mail addresses, phone numbers and payment
    cards in all texts of SCANNED (pii_detection.py): `hash` puts the hash in their place, `redact` the
    word [redacted]. `ip_address`: `truncate` sets the last octet of IPv4 and the last 80 bits of IPv6 to
    zero, as Google Analytics does (support.google.com/analytics/answer/2763052), `drop` takes it away.
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
        changed += _detect(event, _found_hash if rules.auto_detect == "hash" else _found_redacted)
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
    changed += _change(event, parse("context.page"), _without_clicks)
    return changed + _detect(event, _found_redacted)


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
    changed: list[str] = []
    # From the last item to the first, so that those before it keep their places.
    for path in reversed([*_places(event, text)]):
        if read_event(event, path) not in (MISSING, {}):
            remove_event(event, path)
            changed.append(path.text)
    return changed[::-1]


def _hash(event: Event, text: str) -> list[str]:
    changed: list[str] = []
    for path in _places(event, text):
        changed += _change(event, path, hashed, with_numbers=True)
    return changed


def _places(event: Event, text: str) -> Iterator[Path]:
    """Where on this event a path of the rules leads."""
    yield from _expanded(event, text)
    if text.startswith("traits.") or text.startswith("traits["):
        yield from _expanded(event, f"context.{text}")


def _expanded(event: Event, text: str) -> Iterator[Path]:
    head, every, rest = text.partition(EVERY)
    path = _path(head)
    if path is None:
        return
    if not every:
        yield path
        return
    items = read_event(event, path)
    for index in range(min(len(items), MOST_ITEMS) if isinstance(items, list) else 0):
        yield from _expanded(event, f"{head}[{index}]{rest}")


@lru_cache(maxsize=4096)
def _path(text: str) -> Path | None:
    """None for what is no path: `problems` tells the user."""
    try:
        return parse(text)
    except ExpressionError:
        return None


# ── Personal data that is found ──────────────────────────────────────────────────────────────


def _detect(event: Event, change: Change) -> list[str]:
    return [changed for path in SCANNED for changed in _change(event, path, change)]


def _found_hash(text: str, _: str) -> str:
    return scrubbed(text, hashed)


def _found_redacted(text: str, _: str) -> str:
    return scrubbed(text, lambda __: REDACTED)


def _without_clicks(text: str, _: str) -> str:
    cleaned = CLICKS.sub("", text)
    return text if cleaned == text else re.sub(r"[?&]+(?=#|$)", "", cleaned)


# ── One value ────────────────────────────────────────────────────────────────────────────────


def _change(event: Event, path: Path, change: Change, *, with_numbers: bool = False) -> list[str]:
    """Change each text at and below the path; gives the paths of those that are no longer the same."""
    name = next((str(part) for part in reversed(path.parts) if isinstance(part, str)), "")
    changed: list[str] = []
    made = _each(_Leaf(read_event(event, path), name, path.text), change, changed, with_numbers)
    if changed:
        put_event(event, path, made)
    return changed


class _Leaf(NamedTuple):
    """A value, the name of its field, and where it stands."""

    value: Any
    name: str
    place: str


def _each(leaf: _Leaf, change: Change, changed: list[str], with_numbers: bool) -> Any:
    value, name, place = leaf
    if isinstance(value, dict):
        inner = ((key, _Leaf(one, key, _below(place, key))) for key, one in value.items())
        return {key: _each(one, change, changed, with_numbers) for key, one in inner}
    if isinstance(value, list):
        items = (_Leaf(one, name, f"{place}[{index}]") for index, one in enumerate(value))
        return [_each(one, change, changed, with_numbers) for one in items]
    if with_numbers and isinstance(value, int | float) and not isinstance(value, bool):
        value = str(int(value) if value == int(value) else value) if math.isfinite(value) else str(value)
    made = change(value, name) if isinstance(value, str) else value
    if made is not leaf.value and made != leaf.value:
        changed.append(place)
    return made


def _below(place: str, key: str) -> str:
    return f"{place}.{key}" if PLAIN_NAME.fullmatch(key) else f"{place}[{json.dumps(key)}]"


def _written(text: str, name: str) -> str:
    """The one writing of a value, so that the same person has the same hash."""
    if "@" in text:
        return text.lower()
    if not (is_phone(text) or (PHONE_NAME.search(name) and PHONE_VALUE.fullmatch(text))):
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
