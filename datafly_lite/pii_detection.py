"""E-mail addresses, phone numbers and payment cards inside of any text, also percent-encoded ones.

What is taken for one, and what is not, because ids, times, prices and article numbers are digits too:

- **E-mail**: `name@host.tld`, also in other scripts and with an encoded tld (`xn--p1ai`), except where the
  tld is a file's (`logo@2x.png`).
- **Phone**: `+` and 7 to 15 digits (E.164) with or without separators; three groups as in North America
  (`(650) 555-1212`, `(650)555 1212`, `650-555-1212`, `1.650.555.1212`); a 0 and 8 to 12 further digits in at
  least two groups (`020 7946 0958`, `0171/1234567`, `0049 171 1234567`), but no date; with dots only as in
  France and Belgium (`06.12.34.56.78`, `0471.12.34.56`). Digits with neither a `+` nor a separator are never
  a phone, but in a field that is named as one; an order id that is written like one is taken for it.
- **Card**: 13 to 19 digits, alone or in groups by spaces or hyphens, with a prefix and a length of a card
  network (ISO/IEC 7812) and the right Luhn digit; but no 13 digits that are a valid EAN.
- **Numbers**: by the card's rule, but no 13 digits in a field that is named as an id; and 7 to 15 digits in a
  field that is named as a phone.

A space may be one that does not break, a hyphen any dash (Unicode's general categories Zs and Pd). Each
expression looks at a bounded stretch from each place, so the time is in proportion to the text.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from functools import lru_cache
from typing import Any
from urllib.parse import quote, unquote_plus

S = r" \u00a0\u2007\u2009\u202f"
H = r"\-\u2010-\u2015\u2212"
"""Inside of a class of characters: spaces and hyphens."""

EMAIL = re.compile(
    r"[\w.%+'-]{1,64}@(?:[\w-]{1,63}\.){1,8}"
    r"(?!(?:png|jpe?g|gif|webp|svg|avif|css|js)(?![^\W_]))"
    r"(?:xn--[a-z0-9-]{0,58}[a-z0-9]|[^\W\d_]{2,24})(?![^\W_])",
    re.IGNORECASE,
)
PHONE = re.compile(
    rf"(?<![\w.+])\+\d(?:[{S}{H}./()+]{{0,2}}\d){{6,14}}(?!\d)"
    rf"|(?<![\w.+/{H}])(?:1[{S}{H}.])?"
    rf"(?:\(\d{{3}}\)[{S}+]?\d{{3}}[{S}{H}.]|\d{{3}}[{H}.]\d{{3}}[{H}.])\d{{4}}(?![\w{H}]|[.:]\d)"
    rf"|(?<![\w.+/,{H}])"
    rf"(?:(?:\(0[1-9]\d{{0,3}}\)[{S}]?|0[1-9]\d{{0,3}}[{S}{H}/])\d{{2,8}}(?:[{S}{H}/]\d{{2,8}}){{0,4}}"
    rf"|00[1-9]\d{{0,2}}(?:[{S}]\d{{2,8}}){{2,5}}"
    rf"|0[1-9](?:\.\d{{2}}){{4}}|0[1-9]\d{{2}}(?:\.\d{{2}}){{3}})"
    rf"(?![\w{H}]|[.:,/]\d)",
)
CARD = re.compile(rf"(?<![\w.+{H}])\d(?:[{S}{H}]?\d){{12,18}}(?![\w{H}]|[.,]\d)")
PHONE_NAME = re.compile(
    r"(?i:phone)(?![ _-]?(?i:id|model|os|type|brand|version|price|sku|app|count|calls))"
    r"|(?i:mobile|msisdn|whatsapp)(?:[ _-]?(?i:number|num|no|nr))?[ _-]?\d?$"
    r"|(?:^|[ _.-])(?i:tel|fax|cell)(?:[ _-]?(?i:number|num|no|nr))?[ _-]?\d?$"
    r"|(?<=[a-z])(?:Tel|Fax|Cell)(?:Number|No)?$"
)
PHONE_VALUE = re.compile(rf"[+(]?\d[\d(){S}{H}./]{{5,24}}")
IP = re.compile(r"\d{1,3}(?:\.\d{1,3}){3}")
ID_NAME = re.compile(
    r"(?:^|[ _.-])(?i:id|ids|sku|ean|gtin|upc|isbn|time|timestamp|ts|at)$|(?<=[a-z])(?:I[dD]s?|At|Time)$"
)
NETWORKS = re.compile(
    r"4(?:\d{12}|\d{15}|\d{18})|5[1-5]\d{14}|2[2-7]\d{14}|3[47]\d{13}|35\d{14,17}"
    r"|3(?:0[0-5]|[689]\d)\d{11,16}|6\d{15,18}"
)
DATE = re.compile(rf"\d{{1,2}}([{S}{H}/])\d{{1,2}}\1(?:(?:19|20)\d{{2}}|\d{{2}}(?!\1))\b")
NOT_DIGITS = re.compile(r"\D+")
SEGMENT = re.compile(r"[^?&=#;/\s]+")
ENCODED = re.compile(r"%[0-9a-fA-F]{2}|\+")
MAYBE = re.compile(r"[@%]|\d(?:\D{0,5}\d){6}")

DEEPEST_ENCODING = 3
"""A URL in a parameter of a URL in a parameter."""

Replace = Callable[[str], str]
"""What was found, as it stands there -> what stands there afterwards."""


def found(value: str | float, name: str, replace: Callable[[str, str], str]) -> Any:
    """A text or number of a field with what is personal replaced by `replace(find, name of its field)`."""
    if isinstance(value, str):
        if not MAYBE.search(value):
            return value
        bare = value.strip()
        if is_phone_name(name) and PHONE_VALUE.fullmatch(bare) and _could_be_phone(bare):
            return replace(bare, name)
        return scrubbed(value, lambda find: replace(find, ""))
    if not 10**6 <= value < 10**19 or value != int(value):
        return value
    digits = str(int(value))
    is_phone = len(digits) <= 15 and is_phone_name(name)
    is_card = _is_card(digits) and not (len(digits) == 13 and ID_NAME.search(name))
    return replace(digits, name if is_phone else "") if is_phone or is_card else value


@lru_cache(maxsize=4096)
def is_phone_name(name: str) -> bool:
    """Whether a field of this name holds a phone number: `phone`, `mobile_number`, `workTel`."""
    return PHONE_NAME.search(name) is not None


def _could_be_phone(text: str) -> bool:
    digits = NOT_DIGITS.sub("", text)
    return 7 <= len(digits) <= 15 and not DATE.match(text) and not IP.fullmatch(text)


def scrubbed(text: str, replace: Replace) -> str:
    """The text with each find replaced; where it is nothing else, without the spaces around it."""
    return _scrubbed(text, replace, DEEPEST_ENCODING)


def is_phone(text: str) -> bool:
    """Whether the whole text is a phone number by the rule above."""
    return bool(PHONE.fullmatch(text)) and _is_phone(text)


def _scrubbed(text: str, replace: Replace, levels: int) -> str:
    if not MAYBE.search(text):
        return text
    bare = text.strip()
    if EMAIL.fullmatch(bare) or is_phone(bare) or (CARD.fullmatch(bare) and _is_card(bare)):
        return replace(bare)
    text = CARD.sub(lambda found: replace(found[0]) if _is_card(found[0]) else found[0], text)
    text = EMAIL.sub(lambda found: replace(found[0]), text)
    text = PHONE.sub(lambda found: replace(found[0]) if _is_phone(found[0]) else found[0], text)
    if levels and ENCODED.search(text):
        text = SEGMENT.sub(lambda found: _decoded(found[0], replace, levels - 1), text)
    return text


def _decoded(segment: str, replace: Replace, levels: int) -> str:
    """A part of a URL between its delimiters; what holds nothing keeps its own encoding."""
    plain = unquote_plus(segment) if ENCODED.search(segment) else segment
    if plain == segment:
        return segment
    made = _scrubbed(plain, replace, levels)
    return segment if made == plain else quote(made, safe="[]", errors="replace")


def _is_phone(found: str) -> bool:
    digits = NOT_DIGITS.sub("", found)
    if found.startswith("+") or not found.lstrip("(").startswith("0"):
        return True
    return 9 <= len(digits) <= (15 if found.startswith("00") else 13) and not DATE.match(found)


def _is_card(found: str) -> bool:
    digits = NOT_DIGITS.sub("", found)
    if not digits.isascii() or not NETWORKS.fullmatch(digits):
        return False
    return _luhn(digits) and not (len(digits) == 13 and _ean(digits))


def _luhn(digits: str) -> bool:
    """ISO/IEC 7812-1, annex B: every second digit from the right counts double, its own digits added."""
    return (
        sum(sum(divmod(int(one) * (1 + place % 2), 10)) for place, one in enumerate(digits[::-1])) % 10 == 0
    )


def _ean(digits: str) -> bool:
    """GS1's check digit: every second digit from the right counts three times."""
    return sum(int(one) * (3 if place % 2 else 1) for place, one in enumerate(digits[::-1])) % 10 == 0
