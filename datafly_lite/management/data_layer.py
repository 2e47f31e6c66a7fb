"""The organisation's data layer: rules for the events of all pipelines (spec/datafly-signal.md, 9.6)."""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Any

from datafly_lite import data_layer, expressions, paths, scripting
from datafly_lite.data_layer import DataLayer, Problem
from datafly_lite.errors import ExpressionError, ScriptError
from datafly_lite.management import fields as f
from datafly_lite.management.auditing import Audited
from datafly_lite.management.versioned import Rules

CONDITION = re.compile(r"routing_rules\[(\d+)\]\.condition")
KEY_PATH = re.compile(r"deduplication\.keys\[(\d+)\]\.path")
EXPRESSION_CHECKS: dict[str, f.Check] = {"expression": f.text(65_536)}


def problems(config: DataLayer) -> Iterator[Problem]:
    """What must be mended before it can be saved, each with its place inside a text."""
    for field, message in data_layer.problems(config):
        yield field, f"{message}{_place(config, field)}"


def _place(config: DataLayer, field: str) -> str:
    try:
        if found := CONDITION.fullmatch(field):
            expressions.compile_expression(config.routing_rules[int(found[1])].condition)
        elif found := KEY_PATH.fullmatch(field):
            paths.parse(config.deduplication.keys[int(found[1])].path)
        elif field == "custom_js.code":
            scripting.compile_script(config.custom_js.code)
    except ExpressionError as error:
        return f", at character {error.position:,}"
    except ScriptError as error:
        return f", in line {error.line:,}" if error.line else ""
    return ""


RULES = Rules("data_layers", DataLayer, problems, Audited("data_layer.updated", "data_layer"))


def check_expression(fields: dict[str, Any]) -> dict[str, Any]:
    """Of `{expression}`: `{"valid", "message", "position"}`; a position counts characters from 1."""
    given = f.checked(fields, EXPRESSION_CHECKS, required=EXPRESSION_CHECKS)
    try:
        expressions.compile_expression(given["expression"])
    except ExpressionError as error:
        return {"valid": False, "message": str(error), "position": error.position}
    return {"valid": True, "message": None, "position": None}
