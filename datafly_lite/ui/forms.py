"""What a form sent, and what is wrong with it."""

from __future__ import annotations

import re
from collections.abc import Iterable
from urllib.parse import parse_qsl

from starlette.requests import Request

from datafly_lite.errors import AdminError

LARGEST_FORM_BYTES = 1024 * 1024
MOST_FIELDS = 1_000
MEDIA_TYPE = "application/x-www-form-urlencoded"

ON_THE_FORM = frozenset(
    {"VALIDATION_ERROR", "CONFLICT", "INVALID_CREDENTIALS", "ACCOUNT_LOCKED", "RATE_LIMITED"}
)
"""Codes that the person who filled in the form can do something about, beside its fields."""

INSIDE = re.compile(r"\[(\d+)\]|\.(.+)")


class Form:
    """The fields of a form, each as often as it was sent."""

    def __init__(self, pairs: Iterable[tuple[str, str]] = ()) -> None:
        self._values: dict[str, list[str]] = {}
        for name, value in pairs:
            self._values.setdefault(name, []).append(value.replace("\r\n", "\n"))

    def text(self, name: str) -> str:
        """The value as it was typed; empty where there is none."""
        return self._values.get(name, [""])[-1]

    def word(self, name: str) -> str:
        """The value without white space around it."""
        return self.text(name).strip()

    def lines(self, name: str) -> list[str]:
        """The lines of a text area that are not empty."""
        return [line.strip() for line in self.text(name).splitlines() if line.strip()]

    def ticked(self, name: str) -> bool:
        """Whether a check box was set."""
        return name in self._values

    def every(self, name: str) -> list[str]:
        """All values of the name, as check boxes in a list send them."""
        return self._values.get(name, [])


async def read_form(request: Request) -> Form:
    """The body of a POST. Raises PAYLOAD_TOO_LARGE, and VALIDATION_ERROR for what is no form."""
    if request.headers.get("content-type", "").partition(";")[0].strip().lower() != MEDIA_TYPE:
        raise AdminError("VALIDATION_ERROR", "this is not what a browser's form sends")
    body = bytearray()
    async for chunk in request.stream():
        body += chunk
        if len(body) > LARGEST_FORM_BYTES:
            raise AdminError("PAYLOAD_TOO_LARGE", f"the form is larger than {LARGEST_FORM_BYTES:,} bytes")
    try:
        text = body.decode("ascii")
        return Form(parse_qsl(text, keep_blank_values=True, max_num_fields=MOST_FIELDS))
    except ValueError:
        raise AdminError("VALIDATION_ERROR", "this is not what a browser's form sends") from None


class Problems:
    """Messages beside fields, and those that belong to no field."""

    def __init__(self) -> None:
        self.general: list[str] = []
        self._by_field: dict[str, list[str]] = {}

    def __bool__(self) -> bool:
        return bool(self.general or self._by_field)

    def of(self, name: str) -> list[str]:
        """The messages of one field."""
        return self._by_field.get(name, [])

    def items(self) -> Iterable[tuple[str, list[str]]]:
        """Each field that has messages, with them."""
        return self._by_field.items()

    def add(self, name: str, message: str) -> None:
        """One more message for a field."""
        self._by_field.setdefault(name, []).append(message[:1].upper() + message[1:])


def problems_of(error: AdminError, names: Iterable[str]) -> Problems:
    """The error's details, each at the form field of `names` that its path begins with.

    `domain_allowlist[2]` belongs to the field `domain_allowlist`, as its third line. Raises the error
    itself where its reader can do nothing about it in the form.
    """
    if error.code not in ON_THE_FORM:
        raise error
    found = Problems()
    longest_first = sorted(names, key=len, reverse=True)
    for detail in error.details:
        path, message = detail["field"], detail["message"]
        name = next((one for one in longest_first if _is_within(path, one)), None)
        if name is None:
            found.general.append(f"{path}: {message}")
        else:
            found.add(name, _placed(path[len(name) :], message))
    if not error.details:
        found.general.append(error.message[:1].upper() + error.message[1:] + ".")
    return found


def _is_within(path: str, name: str) -> bool:
    return path == name or path.startswith((f"{name}.", f"{name}["))


def _placed(inside: str, message: str) -> str:
    where = INSIDE.match(inside)
    if where is None:
        return message
    return f"line {int(where[1]) + 1}: {message}" if where[1] else f"{where[2]}: {message}"
