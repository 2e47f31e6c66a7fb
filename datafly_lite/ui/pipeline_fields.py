"""Between a pipeline's settings and the fields of its form, whose names are the API's own paths."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from datafly_lite.ui.forms import Form, Problems

SCRIPT_FILENAME = "js_builder_config.script_filename"
GLOBAL_VARIABLE = "js_builder_config.global_variable"
AUTO_PAGE = "js_builder_config.auto_page"
SPA = "js_builder_config.spa"
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
        "js_builder_config": {
            "script_filename": form.word(SCRIPT_FILENAME),
            "global_variable": form.word(GLOBAL_VARIABLE),
            "auto_page": form.ticked(AUTO_PAGE),
            "spa": form.ticked(SPA),
        },
    }


def form_of(pipeline: Mapping[str, Any]) -> Form:
    """The form as the pipeline fills it."""
    builder = {"auto_page": True, "spa": True, **pipeline["js_builder_config"]}
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
