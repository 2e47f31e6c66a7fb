"""Between a pipeline's settings and the fields of its form, whose names are the API's own paths."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from datafly_lite.ui.forms import Form, Problems

BUILDER = "js_builder_config"
SCRIPT_FILENAME = f"{BUILDER}.script_filename"
GLOBAL_VARIABLE = f"{BUILDER}.global_variable"
AUTO_PAGE = f"{BUILDER}.auto_page"
SPA = f"{BUILDER}.spa"
TICKS = ("enabled", AUTO_PAGE, SPA)
AREAS = ("domain_allowlist", "labels", "parameters")
FIELDS = (
    "name",
    "slug",
    "type",
    "domain_allowlist",
    "labels",
    "rate_limit_rps",
    "parameters",
    "enabled",
    SCRIPT_FILENAME,
    GLOBAL_VARIABLE,
    AUTO_PAGE,
    SPA,
)


def fields_of(form: Form, problems: Problems) -> dict[str, Any]:
    """The fields to create a pipeline with; what cannot be read at all is added to `problems`."""
    fields: dict[str, Any] = {
        "name": form.word("name"),
        "domain_allowlist": form.lines("domain_allowlist"),
        "labels": form.lines("labels"),
        "rate_limit_rps": whole(form, "rate_limit_rps", problems),
        "parameters": pairs(form, "parameters", "=", problems),
    }
    if form.word("slug"):
        fields["slug"] = form.word("slug")
    return fields


def all_fields_of(form: Form, problems: Problems) -> dict[str, Any]:
    """The fields to change a pipeline with."""
    return {
        **fields_of(form, problems),
        "enabled": form.ticked("enabled"),
        BUILDER: {
            "script_filename": form.word(SCRIPT_FILENAME),
            "global_variable": form.word(GLOBAL_VARIABLE),
            "auto_page": form.ticked(AUTO_PAGE),
            "spa": form.ticked(SPA),
        },
    }


def changed_fields(form: Form, pipeline: Mapping[str, Any], problems: Problems) -> dict[str, Any]:
    """Those fields of `all_fields_of` whose text is another than the pipeline fills in.

    The API takes more than the form can show, such as a label of two lines: what nobody touched stays.
    """
    shown, found = form_of(pipeline), Problems()
    touched = {name for name in FIELDS if _sent(form, name) != _sent(shown, name)}
    given = all_fields_of(form, found)
    for name, messages in found.items():
        for message in messages if name in touched else ():
            problems.add(name, message)
    builder = {name: one for name, one in given.pop(BUILDER).items() if f"{BUILDER}.{name}" in touched}
    changed = {name: one for name, one in given.items() if name in touched}
    return {**changed, BUILDER: builder} if builder else changed


def _sent(form: Form, name: str) -> tuple[str, bool]:
    """As a browser sends it: it writes every line end alike, and knows none in a field of one line."""
    text = form.text(name).replace("\r", "\n")
    return (text if name in AREAS else text.replace("\n", "")), form.ticked(name) and name in TICKS


def form_of(pipeline: Mapping[str, Any]) -> Form:
    """The form as the pipeline fills it."""
    builder = {"auto_page": True, "spa": True, **pipeline[BUILDER]}
    values = {
        "name": pipeline["name"],
        "slug": pipeline["slug"],
        "domain_allowlist": "\n".join(pipeline["domain_allowlist"]),
        "labels": "\n".join(pipeline["labels"]),
        "rate_limit_rps": str(pipeline["rate_limit_rps"]),
        "parameters": "\n".join(f"{name}={value}" for name, value in pipeline["parameters"].items()),
        SCRIPT_FILENAME: builder["script_filename"],
        GLOBAL_VARIABLE: builder["global_variable"],
    }
    ticked = {"enabled": pipeline["enabled"], AUTO_PAGE: builder["auto_page"], SPA: builder["spa"]}
    return Form([*values.items(), *((name, "on") for name, is_on in ticked.items() if is_on)])


def whole(form: Form, name: str, problems: Problems) -> int:
    """A whole number, or 0 and a problem."""
    text = form.word(name)
    if text.isascii() and text.isdecimal() and len(text) <= 15:
        return int(text)
    problems.add(name, "must be a whole number")
    return 0


def pairs(form: Form, name: str, sign: str, problems: Problems) -> dict[str, str]:
    """`name=value` a line -> an object."""
    found: dict[str, str] = {}
    for number, line in enumerate(form.lines(name), 1):
        key, separator, value = line.partition(sign)
        if not separator or not key.strip():
            problems.add(name, f"line {number}: write it as name{sign}{' ' if sign == ':' else ''}value")
        elif key.strip() in found:
            problems.add(name, f"line {number}: {key.strip()} stands above already")
        else:
            found[key.strip()] = value.strip()
    return found
