"""What a user may write as a revision's config, what its parameters may make of it, and its secrets."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from typing import Any

from datafly_lite import scripting
from datafly_lite.engine import compile_engine
from datafly_lite.errors import AddressRefused, AdminError, MappingError, ScriptEngineUnavailable
from datafly_lite.vendors.declaration import (
    MASK,
    PARAMETER,
    RESERVED,
    Setting,
    SettingType,
    Vendor,
    with_defaults,
)

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
PLACEHOLDER = "0"
"""Stands for a pipeline parameter while an expression is checked: it reads as a number, a key and a text."""

RESERVED_KINDS: dict[str, tuple[type, str]] = {
    "consent_categories": (list, "must be a list of names"),
    "steps": (list, "must be a list of steps"),
    "events": (dict, "must be an object"),
    "endpoint": (str, "must be text"),
}


def check_config(vendor: Vendor, config: Mapping[str, Any], *, check_url: UrlCheck | None = None) -> None:
    """Raise AdminError VALIDATION_ERROR with every field that cannot be used, as `config.<name>`.

    A text or URL that holds `{{pipeline_param.KEY}}` passes: its value is known only on a pipeline. What
    it makes of an expression is seen there too. With `check_url`, each URL must be one that deliveries may
    call.
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
    problems.update(_engine_problems(config) if not {"steps", "events"} & set(problems) else {})
    if problems:
        details = [{"field": f"config.{name}", "message": text} for name, text in problems.items()]
        raise AdminError("VALIDATION_ERROR", "the configuration cannot be used", details=details)


def _engine_problems(config: Mapping[str, Any]) -> dict[str, str]:
    steps, events = (
        _with_placeholders(config.get("steps") or []),
        _with_placeholders(config.get("events") or {}),
    )
    try:
        with scripting.checking():
            compile_engine(steps, events)
    except ScriptEngineUnavailable as error:
        return {"steps": str(error)}
    except AdminError as error:
        return {detail["field"]: detail["message"] for detail in error.details}
    return {}


def _with_placeholders(value: Any) -> Any:
    if isinstance(value, str):
        return PARAMETER.sub(PLACEHOLDER, value)
    if isinstance(value, dict):
        return {name: _with_placeholders(one) for name, one in value.items()}
    return [_with_placeholders(one) for one in value] if isinstance(value, list) else value


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
    if isinstance(value, list) and name == "consent_categories" and not all(map(_is_fixed_name, value)):
        return f"{message}, without parameters"
    return None


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
