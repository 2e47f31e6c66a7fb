"""Where the package's own files lie: beside the package in a checkout, inside it in a wheel."""

from __future__ import annotations

from pathlib import Path

PACKAGE = Path(__file__).resolve().parent


def asset(name: str) -> Path:
    """`asset("web/static")`, `asset("schema.sql")`: in the wheel if there, else in the checkout."""
    inside = PACKAGE / name
    return inside if inside.exists() else PACKAGE.parent / name
