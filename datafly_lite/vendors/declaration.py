"""What a vendor is: declared settings, one pure function to a request, one that reads the answer, examples.

The settings feed validation, the form in the UI and the documentation; the examples are its tests.
"""

from __future__ import annotations

import email.utils
import re
from collections.abc import Callable, Mapping, Sequence
from datetime import UTC, datetime
from typing import Any, Literal

import msgspec

from datafly_lite.errors import AddressRefused, AdminError, MappingError
from datafly_lite.events import Event, Outcome, Verdict

SettingType = Literal["string", "secret", "integer", "boolean", "choice", "url", "object"]

MASK = "***"
"""What a stored secret looks like from outside; writing it back keeps the stored value (api.md)."""

PARAMETER = re.compile(r"\{\{pipeline_param\.([A-Za-z0-9_.-]+)\}\}")
RESERVED = ("consent_categories", "steps", "events", "endpoint")
"""Names at a revision's root that are the product's, not the vendor's (api.md, section 2)."""


class Setting(msgspec.Struct, frozen=True, kw_only=True):
    """One value that the user gives.

    `pattern` is a regular expression for the whole value; of an object, for each `name: value`.
    `required_if` is another setting and the value of it that makes this one required.
    """

    name: str
    label: str
    type: SettingType = "string"
    required: bool = False
    required_if: tuple[str, str] | None = None
    default: Any = None
    placeholder: str = ""
    help: str = ""
    choices: tuple[str, ...] = ()
    pattern: str = ""


class Request(msgspec.Struct, frozen=True):
    """One HTTP request to a vendor. The sender adds nothing but its own User-Agent and Content-Length."""

    method: str
    url: str
    headers: dict[str, str]
    body: bytes


class Answer(msgspec.Struct, frozen=True):
    """What came back. Names of headers are in lower case; `body` is cut at the sender's limit."""

    status: int
    headers: dict[str, str]
    body: bytes


class Example(msgspec.Struct, frozen=True):
    """An event in, a request out: documentation and test at once. None: nothing is sent."""

    title: str
    settings: dict[str, Any]
    event: dict[str, Any]
    request: Request | None


class Vendor(msgspec.Struct, frozen=True, kw_only=True):
    """A destination. `request_for(events, settings, now_ms)` is pure and raises MappingError.

    An Event that the vendor has no word for gives None: nothing is sent and the delivery is dropped
    with the reason `filter`.

    Two settings mean the same wherever a vendor declares them, and the worker obeys them:
    `timeout_ms`, the longest attempt, and `max_retries`, attempts after the first.
    """

    name: str
    label: str
    description: str
    category: str
    documentation: str
    settings: tuple[Setting, ...]
    consent_categories: tuple[str, ...]
    request_for: Callable[[Sequence[Event], Mapping[str, Any], int], Request | None]
    read_answer: Callable[[Answer], Outcome]
    examples: tuple[Example, ...]


EXAMPLE_NOW_MS = 1_772_359_205_000
"""`now_ms` of all examples: 2026-03-01T10:00:05Z."""


def with_defaults(vendor: Vendor, config: Mapping[str, Any]) -> dict[str, Any]:
    """The config with the vendor's defaults where a setting is absent, None or empty text."""
    defaults = {setting.name: setting.default for setting in vendor.settings}
    given = {name: value for name, value in config.items() if value is not None and value != ""}
    return {**defaults, **given}


def with_query(url: str, query: str) -> str:
    """The URL with more query, after what it has of its own."""
    return f"{url}{'&' if '?' in url else '?'}{query}" if query else url


def outcome_of_status(answer: Answer) -> Outcome:
    """The rule for vendors without one of their own (api.md, section 2, Retry)."""
    verdict = _verdict(answer.status)
    retry_after_s = retry_after(answer.headers) if verdict is Verdict.RETRY else None
    return Outcome(verdict, answer.status, retry_after_s=retry_after_s)


def _verdict(status: int) -> Verdict:
    if 200 <= status < 300:
        return Verdict.DELIVERED
    if status in (408, 425, 429) or status >= 500:
        return Verdict.RETRY
    if status in (401, 403):
        return Verdict.PAUSE
    return Verdict.DISABLE if status == 410 else Verdict.GIVE_UP


def retry_after(headers: Mapping[str, str]) -> float | None:
    """Seconds that Retry-After asks for; a date counts from the answer's own Date (RFC 9110, 10.2.3).

    None where there is no such header, no Date to count from, or nothing that can be read.
    """
    value = headers.get("retry-after", "").strip()
    if value.isascii() and value.isdecimal():
        return float(value[:12])
    until, since = _http_date(value), _http_date(headers.get("date", ""))
    if until is None or since is None:
        return None
    return max((until - since).total_seconds(), 0.0)


def _http_date(value: str) -> datetime | None:
    try:
        found = email.utils.parsedate_to_datetime(value)
    except (TypeError, ValueError):
        return None
    return found if found.tzinfo else found.replace(tzinfo=UTC)


# ── What a user may write ────────────────────────────────────────────────────────────────────

UrlCheck = Callable[[str], None]
"""Raises AddressRefused; `addresses.check_url` with the operator's networks."""

KINDS: dict[SettingType, tuple[type, str]] = {
    "string": (str, "must be text"),
    "secret": (str, "must be text"),
    "integer": (int, "must be a whole number"),
    "boolean": (bool, "must be true or false"),
    "choice": (str, "must be text"),
    "url": (str, "must be text"),
    "object": (dict, "must be an object of texts"),
}
PARAMETRIC = ("string", "secret", "url")
"""Settings that may hold a pipeline parameter, beside the values of an object. The others are known before
an event comes: a mistyped authentication would otherwise send without any."""

URL_CHARACTERS = re.compile(r"[!-\[\]-~]*")
URL_AUTHORITY = re.compile(r"https?://([^/?#]+)")
NOT_OFFERED = ("steps", "events")

RESERVED_KINDS: dict[str, tuple[type, str]] = {
    "consent_categories": (list, "must be a list of names"),
    "steps": (list, "must be a list of steps"),
    "events": (dict, "must be an object"),
    "endpoint": (str, "must be text"),
}


def check_config(vendor: Vendor, config: Mapping[str, Any], *, check_url: UrlCheck | None = None) -> None:
    """Raise AdminError VALIDATION_ERROR with every field that cannot be used, as `config.<name>`.

    A text or URL that holds `{{pipeline_param.KEY}}` passes: its value is known only on a pipeline.
    With `check_url`, each URL must be one that deliveries may call.
    """
    problems = {name: "is not a setting of this vendor" for name in config if not _is_known(vendor, name)}
    for name in RESERVED:
        if problem := _reserved_problem(name, config.get(name)):
            problems[name] = problem
    for setting in vendor.settings:
        if problem := _problem(setting, with_defaults(vendor, config)):
            problems[setting.name] = problem
    for name in _url_names(vendor):
        if name not in problems and (problem := _url_problem(config.get(name), check_url)):
            problems[name] = problem
        if name not in problems and _sends_secrets_anywhere(vendor, config, config.get(name)):
            problems[name] = "must name its host itself, not by a parameter: a secret is sent there"
    if problems:
        details = [{"field": f"config.{name}", "message": text} for name, text in problems.items()]
        raise AdminError("VALIDATION_ERROR", "the configuration cannot be used", details=details)


def _sends_secrets_anywhere(vendor: Vendor, config: Mapping[str, Any], url: Any) -> bool:
    """Who may edit a pipeline's parameters may not read the integration's secrets, nor have them sent.

    A secret that is a parameter itself is no secret to them.
    """
    secrets = [config.get(one.name) for one in vendor.settings if one.type == "secret"]
    if not isinstance(url, str) or not any(one and not PARAMETER.fullmatch(str(one)) for one in secrets):
        return False
    authority = URL_AUTHORITY.match(url)
    return PARAMETER.search(authority[0] if authority else url) is not None


def _url_names(vendor: Vendor) -> list[str]:
    return ["endpoint", *(setting.name for setting in vendor.settings if setting.type == "url")]


def _is_known(vendor: Vendor, name: str) -> bool:
    return name in RESERVED or any(setting.name == name for setting in vendor.settings)


def _reserved_problem(name: str, value: Any) -> str | None:
    kind, message = RESERVED_KINDS[name]
    if value is None:
        return None
    if not isinstance(value, kind):
        return message
    # A category that is filled in later could be one that nobody can refuse.
    if isinstance(value, list) and not all(map(_is_fixed_name, value)) and name not in NOT_OFFERED:
        return f"{message}, without parameters"
    return "is not offered yet" if name in NOT_OFFERED and value else None


def _is_fixed_name(value: Any) -> bool:
    return isinstance(value, str) and not PARAMETER.search(value)


def _problem(setting: Setting, config: Mapping[str, Any]) -> str | None:
    value = config.get(setting.name)
    if value is None:
        return "is required" if _is_required(setting, config) else None
    if setting.type == "secret" and value == MASK:
        return None
    if setting.type in PARAMETRIC and isinstance(value, str) and PARAMETER.search(value):
        return None
    return _kind_problem(setting, value) or _pattern_problem(setting, value)


def _kind_problem(setting: Setting, value: Any) -> str | None:
    kind, message = KINDS[setting.type]
    if not isinstance(value, kind) or (kind is int and isinstance(value, bool)):
        return message
    if setting.choices and value not in setting.choices:
        return f"must be one of {', '.join(setting.choices)}"
    return None


def check_filled(vendor: Vendor, settings: Mapping[str, Any]) -> None:
    """Raise MappingError where settings with their defaults and parameters cannot make a request.

    A revision can be older than today's rules: what they would refuse must not send as if it were absent.
    """
    for setting in vendor.settings:
        value = settings.get(setting.name)
        if value is not None:
            problem = _kind_problem(setting, value)
        else:
            problem = "is required" if _is_required(setting, settings) else None
        if problem:
            raise MappingError(f"the setting {setting.name} {problem}")


def _is_required(setting: Setting, config: Mapping[str, Any]) -> bool:
    if setting.required_if is None:
        return setting.required
    other, value = setting.required_if
    return config.get(other) == value


def _pattern_problem(setting: Setting, value: Any) -> str | None:
    if setting.type == "object":
        if not all(isinstance(one, str) for one in value.values()):
            return KINDS["object"][1]
        lines = [f"{name}: {PARAMETER.sub('', text)}" for name, text in value.items()]
    else:
        lines = [str(value)]
    if not setting.pattern or all(re.fullmatch(setting.pattern, line) for line in lines):
        return None
    return f"does not have the right form{f' ({setting.placeholder})' if setting.placeholder else ''}"


def _url_problem(value: Any, check_url: UrlCheck | None) -> str | None:
    if not isinstance(value, str) or not value:
        return None
    filled = PARAMETER.sub("x", value)
    if not URL_CHARACTERS.fullmatch(filled):
        return "must be printable ASCII without spaces or backslashes"
    authority = URL_AUTHORITY.match(filled)
    if authority is None and not PARAMETER.match(value):
        return "must be an absolute URL, such as https://example.com/path"
    if authority is not None and "@" in authority[1]:
        return "must not hold credentials; use the authentication setting"
    try:
        if check_url is not None and filled == value:
            check_url(value)
    except AddressRefused as refusal:
        return str(refusal)
    return None


def check_kept_secrets(vendor: Vendor, config: Mapping[str, Any], previous: Mapping[str, Any]) -> None:
    """Raise VALIDATION_ERROR where MASK would send a secret of the config `previous` to another address.

    Who may edit may not read: nobody gets a stored secret by naming a server of their own.
    """
    if not _has_moved(vendor, config, previous):
        return
    kept = [one.name for one in vendor.settings if one.type == "secret" and config.get(one.name) == MASK]
    if kept:
        message = "the address changed: type the secret again"
        details = [{"field": f"config.{name}", "message": message} for name in kept]
        raise AdminError("VALIDATION_ERROR", message, details=details)


def _has_moved(vendor: Vendor, config: Mapping[str, Any], previous: Mapping[str, Any]) -> bool:
    return any(_origin(config.get(name)) != _origin(previous.get(name)) for name in _url_names(vendor))


def _origin(url: Any) -> str:
    """Scheme, host and port as text; of what has none, such as a parameter, the whole of it."""
    text = str(url or "")
    found = URL_AUTHORITY.match(text)
    if found is None:
        return text
    # The names of parameters differ by case, those of hosts do not.
    origin = found[0] if PARAMETER.search(found[0]) else found[0].lower()
    return origin.removesuffix(":443" if origin.startswith("https:") else ":80")


def split_secrets(
    vendor: Vendor, config: Mapping[str, Any], previous: Mapping[str, str]
) -> tuple[dict[str, Any], dict[str, str]]:
    """(config with MASK in place of each secret, the secrets themselves).

    MASK in `config` keeps the value in `previous`. Raises AdminError where there is none to keep.
    """
    names = {setting.name for setting in vendor.settings if setting.type == "secret"}
    given = {name: config[name] for name in config if name in names and config[name] not in (None, "")}
    secrets = {name: previous.get(name, "") if value == MASK else value for name, value in given.items()}
    if missing := [name for name, value in secrets.items() if not value]:
        raise AdminError.invalid(f"config.{missing[0]}", "no value is stored to keep; write the value itself")
    public = {name: value for name, value in config.items() if name not in names or name in given}
    return {**public, **dict.fromkeys(secrets, MASK)}, secrets
