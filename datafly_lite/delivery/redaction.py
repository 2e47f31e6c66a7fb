"""Requests and answers as they may be stored and shown: secrets out, size bounded, text only."""

from __future__ import annotations

import base64
import json
from collections.abc import Iterable, Mapping
from typing import Any
from urllib.parse import quote, quote_plus

from datafly_lite.vendors.declaration import MASK, Answer, Request

STORED_BODY_CHARACTERS = 16_384
STORED_HEADER_CHARACTERS = 1_024
STORED_HEADERS = 50

SECRET_HEADERS = frozenset(
    {"authorization", "proxy-authorization", "cookie", "set-cookie", "x-api-key", "api-key", "access-token"}
)
SECRET_PARAMETERS = frozenset({"api_secret", "access_token", "token", "api_key", "key", "secret", "password"})


class Redaction:
    """Takes the secrets of one integration out of text, in each form that HTTP and JSON give them."""

    def __init__(self, secrets: Iterable[str]) -> None:
        forms = {form for secret in secrets if secret for form in _forms(secret)}
        # The longest first: a short secret inside a long one must not leave the rest of it standing.
        self._forms = sorted(forms, key=len, reverse=True)

    def text(self, value: str) -> str:
        """The text without secrets and without NUL."""
        for form in self._forms:
            value = value.replace(form, MASK)
        return value.replace("\x00", "\ufffd")

    def request(self, request: Request) -> dict[str, Any]:
        """{"method", "url", "headers", "body"}."""
        return {
            "method": request.method,
            "url": self.text(_without_parameters(request.url)),
            "headers": self._headers(request.headers),
            "body": self._body(request.body),
        }

    def answer(self, request: Request, answer: Answer) -> dict[str, Any]:
        """{"headers", "body"}; a vendor that echoes what it was sent gives nothing away."""
        echoed = Redaction(_credentials(request.headers))
        return {
            "headers": {name: echoed.text(value) for name, value in self._headers(answer.headers).items()},
            "body": echoed.text(self._body(answer.body)),
        }

    def _headers(self, headers: Mapping[str, str]) -> dict[str, str]:
        kept = list(headers.items())[:STORED_HEADERS]
        return {self.text(name): self._header(name, value) for name, value in kept}

    def _header(self, name: str, value: str) -> str:
        return MASK if name.lower() in SECRET_HEADERS else self.text(value)[:STORED_HEADER_CHARACTERS]

    def _body(self, body: bytes) -> str:
        # Cut after redaction, or the cut could leave half a secret.
        text = self.text(body.decode("utf-8", "replace"))
        left_out = len(text) - STORED_BODY_CHARACTERS
        return text if left_out <= 0 else f"{text[:STORED_BODY_CHARACTERS]}… ({left_out} more characters)"


def _forms(secret: str) -> set[str]:
    encoded = {quote(secret, safe=""), quote(secret), quote_plus(secret)}
    escaped = {json.dumps(secret)[1:-1], json.dumps(secret, ensure_ascii=False)[1:-1]}
    lower = {_lower_escapes(form) for form in encoded}
    return {secret, base64.b64encode(secret.encode()).decode(), *encoded, *lower, *escaped}


def _lower_escapes(text: str) -> str:
    """`%2F` -> `%2f`, the letters beside it as they are."""
    parts = text.split("%")
    return "%".join([parts[0], *(part[:2].lower() + part[2:] for part in parts[1:])])


def _credentials(headers: Mapping[str, str]) -> list[str]:
    """`Bearer abc` -> `Bearer abc` and `abc`."""
    values = [value for name, value in headers.items() if name.lower() in SECRET_HEADERS]
    return [*values, *(value.partition(" ")[2] for value in values)]


def _without_parameters(url: str) -> str:
    """The URL with the values of query parameters that are named like secrets masked."""
    address, mark, query = url.partition("?")
    pairs = [pair.partition("=") for pair in query.split("&")]
    masked = [
        f"{name}={MASK}" if name.lower() in SECRET_PARAMETERS else f"{name}{sign}{value}"
        for name, sign, value in pairs
    ]
    return address + mark + "&".join(masked)
