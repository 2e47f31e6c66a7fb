"""What a pipeline's `js_builder_config` may say (seed 001), and the product's own keys beside it.

script_filename    last part of the script's address                       "d.js"
global_variable    name of the API on `window`                             "_df"
delivery_method    "cdn", "cluster" or "download"                          "cdn"
vendor_syncs       vendor-specific sync configuration                      {}
consent_config     consent management settings                             {}
cross_domain       cross-domain tracking                                   false
auto_page          page views without a call; false turns `spa` off too    true
spa                page views for navigation inside the page               true
batch_size         most events in one request, 1 to 100                    10
flush_interval_ms  longest wait of an event, 0 to 60,000 ms                1000
endpoint           where events go; empty = the origin of the script       ""
"""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Any
from urllib.parse import urlsplit

from datafly_lite.collector.names import RESERVED_WORDS, TAKEN_GLOBALS
from datafly_lite.errors import AdminError

FIELD = "js_builder_config"
FILENAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,63}\.js")
HASH_FILENAME = re.compile(r"[0-9a-f]{8}\.js")
IDENTIFIER = re.compile(r"[A-Za-z_$][A-Za-z0-9_$]{0,63}")
EVENT_HANDLER = re.compile(r"on[a-z]+")

DEFAULTS: dict[str, Any] = {
    "script_filename": "d.js",
    "global_variable": "_df",
    "delivery_method": "cdn",
    "vendor_syncs": {},
    "consent_config": {},
    "cross_domain": False,
}
"""Of seed 001."""

EXTRA_DEFAULTS: dict[str, Any] = {
    "auto_page": True,
    "spa": True,
    "batch_size": 10,
    "flush_interval_ms": 1000,
    "endpoint": "",
}
"""The product's own keys; the figures are the documented ones (spec/datafly-signal.md, 5.1)."""


def check_builder_config(config: object) -> dict[str, Any]:
    """The configuration with seed 001's defaults filled in; the product's own keys stay out where not given.

    Raises AdminError VALIDATION_ERROR with one detail a wrong field.
    """
    if not isinstance(config, dict):
        raise AdminError.invalid(FIELD, "must be an object")
    details = [
        {"field": f"{FIELD}.{name}", "message": message}
        for name, value in config.items()
        if (message := _complaint(name, value))
    ]
    if details:
        summary = "; ".join(f"{detail['field']}: {detail['message']}" for detail in details)
        raise AdminError("VALIDATION_ERROR", summary, details=details)
    return {**DEFAULTS, **config}


def build_options(config: object) -> dict[str, Any]:
    """As `check_builder_config`, with every key there is."""
    return {**EXTRA_DEFAULTS, **check_builder_config(config)}


def _complaint(name: object, value: object) -> str | None:
    check = CHECKS.get(name) if isinstance(name, str) else None
    return check(value) if check else f"there is no such key; there are {', '.join(sorted(CHECKS))}"


def _script_filename(value: object) -> str | None:
    if not isinstance(value, str) or not FILENAME.fullmatch(value):
        return "must be letters, digits, '.', '_' or '-', start with a letter or digit, and end in .js"
    if HASH_FILENAME.fullmatch(value):
        return "must not look like the hash of a build, such as a1b2c3d4.js"
    return None


def _global_variable(value: object) -> str | None:
    if not isinstance(value, str) or not IDENTIFIER.fullmatch(value):
        return "must be a JavaScript name of letters, digits, '_' or '$', at most 64, the first no digit"
    if value in RESERVED_WORDS:
        return "is a reserved word of JavaScript"
    if value in TAKEN_GLOBALS or EVENT_HANDLER.fullmatch(value):
        return "is a name of the browser's own; choose another"
    return None


def _delivery_method(value: object) -> str | None:
    return None if value in ("download", "cdn", "cluster") else "must be download, cdn or cluster"


def _object(value: object) -> str | None:
    return None if isinstance(value, dict) else "must be an object"


def _boolean(value: object) -> str | None:
    return None if isinstance(value, bool) else "must be true or false"


def _integer(least: int, most: int) -> Callable[[object], str | None]:
    def check(value: object) -> str | None:
        good = isinstance(value, int) and not isinstance(value, bool) and least <= value <= most
        return None if good else f"must be a whole number from {least} to {most}"

    return check


def _endpoint(value: object) -> str | None:
    if value == "":
        return None
    complaint = "must be empty or an address such as https://data.example.com"
    if not isinstance(value, str) or not value.isascii() or re.search(r"[\s\"'<>\\]", value):
        return complaint
    try:
        parts = urlsplit(value)
        good = parts.scheme in ("http", "https") and parts.hostname and parts.port != 0
    except ValueError:
        return complaint
    return None if good and not (parts.query or parts.fragment or parts.username) else complaint


CHECKS: dict[str, Callable[[object], str | None]] = {
    "script_filename": _script_filename,
    "global_variable": _global_variable,
    "delivery_method": _delivery_method,
    "vendor_syncs": _object,
    "consent_config": _object,
    "cross_domain": _boolean,
    "auto_page": _boolean,
    "spa": _boolean,
    "batch_size": _integer(1, 100),
    "flush_interval_ms": _integer(0, 60_000),
    "endpoint": _endpoint,
}
