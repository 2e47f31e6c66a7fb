"""E-mail addresses, phone numbers and payment cards inside of any text, also percent-encoded ones.

What is taken for one, and what is not, because ids, times, prices and article numbers are digits too:

- **E-mail**: `name@host.tld`, except where the tld is a file's (`logo@2x.png`).
- **Phone**: `+` and 7 to 15 digits (E.164) with or without separators; three groups as in North America
  (`(650) 555-1212`, `650-555-1212`, `1.650.555.1212`); a 0 and 8 to 12 further digits in at least two groups
  (`020 7946 0958`, `0171/1234567`, `0049 171 1234567`), but no date. Digits with neither a `+` nor a
  separator are never a phone; an order id that is written like one is taken for it.
- **Card**: 13 to 19 digits, alone or in groups by spaces or hyphens, with a prefix and a length of a card
  network (ISO/IEC 7812) and the right Luhn digit; but no 13 digits that are a valid EAN.

Each expression looks at a bounded stretch from each place, so the time is in proportion to the text.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from urllib.parse import quote, unquote_plus

EMAIL = re.compile(
    r"[\w.%+'-]{1,64}@(?:[\w-]{1,63}\.){1,8}"
    r"(?!(?:png|jpe?g|gif|webp|svg|avif|css|js)\b)[^\W\d_]{2,24}(?![\w-])",
    re.IGNORECASE,
)
PHONE = re.compile(
    r"(?<![\w.+])\+\d(?:[ .\-/()+]{0,2}\d){6,14}(?!\d)"
    r"|(?<![\w.+\-/])(?:1[-. ])?(?:\(\d{3}\)[ +]?|\d{3}[-.])\d{3}[-.]\d{4}(?![\w-]|[.:]\d)"
    r"|(?<![\w.+\-/,])"
    r"(?:(?:\(0[1-9]\d{0,3}\) ?|0[1-9]\d{0,3}[ /-])\d{2,8}(?:[ /-]\d{2,8}){0,4}"
    r"|00[1-9]\d{0,2}(?: \d{2,8}){2,5})"
    r"(?![\w-]|[.:,/]\d)",
)
CARD = re.compile(r"(?<![\w.+-])\d(?:[ -]?\d){12,18}(?![\w-]|[.,]\d)")
NETWORKS = re.compile(
    r"4(?:\d{12}|\d{15}|\d{18})|5[1-5]\d{14}|2[2-7]\d{14}|3[47]\d{13}|35\d{14,17}"
    r"|3(?:0[0-5]|[689]\d)\d{11,16}|6\d{15,18}"
)
DATE = re.compile(r"\d{1,2}([ /-])\d{1,2}\1(?:(?:19|20)\d{2}|\d{2}(?!\1))\b")
NOT_DIGITS = re.compile(r"\D+")
SEGMENT = re.compile(r"[^?&=#;/\s]+")
ENCODED = re.compile(r"%[0-9a-fA-F]{2}|\+")
MAYBE = re.compile(r"@|%(?:25)*40|\d(?:\D{0,5}\d){6}", re.IGNORECASE)

DEEPEST_ENCODING = 3
"""A URL in a parameter of a URL in a parameter."""

Replace = Callable[[str], str]
"""What was found, as it stands there -> what stands there afterwards."""


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
