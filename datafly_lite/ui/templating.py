"""Templates to HTML: everything is escaped, and a name that is not there is an error."""

from __future__ import annotations

import json
from functools import cache
from typing import Any
from urllib.parse import quote

import jinja2
from markupsafe import Markup

from datafly_lite.assets import asset
from datafly_lite.ui.static import static_url

WORDS = {
    "delivered": ("ok", "✓"),
    "ready": ("ok", "✓"),
    "live": ("ok", "✓"),
    "enabled": ("ok", "✓"),
    "active": ("ok", "✓"),
    "success": ("ok", "✓"),
    "pending": ("waiting", "…"),
    "waiting": ("waiting", "…"),
    "building": ("waiting", "…"),
    "invited": ("waiting", "…"),
    "retry": ("waiting", "↻"),
    "shadow": ("quiet", "○"),
    "dropped": ("quiet", "–"),
    "discarded": ("quiet", "–"),
    "disabled": ("quiet", "–"),
    "expired": ("quiet", "–"),
    "not built": ("quiet", "–"),
    "paused": ("bad", "‖"),
    "pause": ("bad", "‖"),
    "dead": ("bad", "✕"),
    "failed": ("bad", "✕"),
    "failing": ("bad", "✕"),
    "give up": ("bad", "✕"),
    "disable": ("bad", "✕"),
}
"""A state -> its colour and its sign: the word always stands beside them."""


def pretty(value: Any) -> str:
    """JSON for people."""
    return json.dumps(value, indent=2, ensure_ascii=False)


def pretty_text(text: str) -> str:
    """As `pretty` where the text is JSON, else the text itself."""
    try:
        return pretty(json.loads(text))
    except (ValueError, RecursionError):
        return text


def compact(value: Any) -> str:
    """JSON on one line."""
    return json.dumps(value, ensure_ascii=False)


def path_part(value: object) -> str:
    """For one part of a path: a messageId may hold a slash."""
    return quote(str(value), safe="")


def moment(iso: str | None) -> Markup:
    """`2026-02-25T14:30:00.000Z` as a time element that reads `2026-02-25 14:30:00.000`; `–` for None."""
    if iso is None:
        return Markup("–")
    date, _, clock = iso.removesuffix("Z").partition("T")
    return Markup('<time datetime="{}" title="{}"><span>{}</span> <span>{}</span></time>').format(
        iso, iso, date, clock
    )


def figure(number: int) -> str:
    """`1234567` -> `1,234,567`."""
    return f"{number:,}"


def badge(state: str, label: str | None = None) -> Markup:
    """A state as a word with a sign before it."""
    word = state.replace("_", " ")
    colour, sign = WORDS.get(word, ("quiet", "·"))
    return Markup('<span class="badge {}"><span aria-hidden="true">{}</span> {}</span>').format(
        colour, sign, label or word
    )


@cache
def environment() -> jinja2.Environment:
    """The one environment."""
    made = jinja2.Environment(
        loader=jinja2.FileSystemLoader(asset("web/templates")),
        autoescape=True,
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        auto_reload=False,
    )
    made.filters |= {
        "pretty": pretty,
        "pretty_text": pretty_text,
        "compact": compact,
        "path_part": path_part,
        "moment": moment,
        "figure": figure,
    }
    made.globals |= {"static": static_url, "badge": badge}
    return made


def render(template: str, **values: Any) -> str:
    """The page's HTML."""
    return environment().get_template(template).render(**values)
