"""What a person copies into a page."""

from __future__ import annotations

from html import escape

METHODS = "track page identify group reset flush"
"""Of the collector's API (web/collector/api.js)."""


def stub(global_variable: str = "_df") -> str:
    """A script element that keeps calls until the collector is there, which then replays them in order.

    `_df` starts as an array of `["track", ...]` and becomes the API itself, so it also takes
    `_df.push(["track", "Signed Up"])`. `global_variable` is a checked JavaScript name.
    """
    return (
        f'<script>(d=>"{METHODS}".split(" ").map(m=>d[m]=d[m]||((...a)=>d.push([m,...a]))))'
        f"(window.{global_variable}=window.{global_variable}||[])</script>"
    )


def snippet(
    base_url: str,
    pipeline_key: str,
    script_filename: str,
    global_variable: str = "_df",
    integrity: str | None = None,
) -> str:
    """The stub and the script element, two lines of HTML for the page's head.

    With `integrity`, `script_filename` is the immutable `{version_hash}.js`: the alias changes
    with the next build, and the browser would then refuse it.
    """
    attributes = {
        "src": f"{base_url.rstrip('/')}/c/{pipeline_key}/{script_filename}",
        "data-pipeline-key": pipeline_key,
    }
    if integrity:
        attributes |= {"integrity": integrity, "crossorigin": "anonymous"}
    written = " ".join(f'{name}="{escape(value)}"' for name, value in attributes.items())
    return f"{stub(global_variable)}\n<script async {written}></script>\n"
