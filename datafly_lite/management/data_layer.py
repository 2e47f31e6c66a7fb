"""The organisation's data layer: rules for the events of all pipelines (spec/datafly-signal.md, 9.6)."""

from __future__ import annotations

from typing import Any

from datafly_lite import data_layer, expressions
from datafly_lite.data_layer import DataLayer
from datafly_lite.errors import ExpressionError
from datafly_lite.management import fields as f
from datafly_lite.management.auditing import Audited
from datafly_lite.management.versioned import Rules

EXPRESSION_CHECKS: dict[str, f.Check] = {"expression": f.text(65_536)}


RULES = Rules("data_layers", DataLayer, data_layer.problems, Audited("data_layer.updated", "data_layer"))


def check_expression(fields: dict[str, Any]) -> dict[str, Any]:
    """Of `{expression}`: `{"valid", "message", "position"}`; a position counts characters from 1."""
    given = f.checked(fields, EXPRESSION_CHECKS, required=EXPRESSION_CHECKS)
    try:
        expressions.compile_expression(given["expression"])
    except ExpressionError as error:
        return {"valid": False, "message": str(error), "position": error.position}
    return {"valid": True, "message": None, "position": None}
