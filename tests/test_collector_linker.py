"""Modules into one scope: the order, what is taken off, and every form that is refused."""

from __future__ import annotations

import pytest

from datafly_lite.collector.linker import join, order, parse
from datafly_lite.errors import BuildError

CLOCK = "export const tick = 1;\nconst hidden = 2;\n"
USER = 'import { tick } from "./clock.js";\n\nexport function use() {\n  return tick;\n}\n'


def test_a_module_loses_its_imports_and_export_words() -> None:
    module = parse("user.js", USER)
    assert module.imports == (("clock.js", ("tick",)),)
    assert module.exports == {"use"}
    assert module.body == "function use() {\n  return tick;\n}\n"


def test_each_module_comes_once_after_what_it_imports() -> None:
    sources = {
        "entry.js": 'import { use } from "./user.js";\nimport { tick } from "./clock.js";\nuse(tick);\n',
        "user.js": USER,
        "clock.js": CLOCK,
        "unneeded.js": "export const never = 1;\n",
    }
    modules = order(sources, "entry.js")
    assert [module.name for module in modules] == ["clock.js", "user.js", "entry.js"]
    assert join(modules) == (
        '(() => {\n"use strict";\nconst tick = 1;\nconst hidden = 2;\n\n'
        "function use() {\n  return tick;\n}\n\nuse(tick);\n})();\n"
    )


@pytest.mark.parametrize(
    "line",
    [
        'import clock from "./clock.js";',
        'import * as clock from "./clock.js";',
        'import { tick as tock } from "./clock.js";',
        'import { tick } from "clock.js";',
        'import { tick } from "../clock.js";',
        'import { tick } from "./clock.js"',
        'import "./clock.js";',
        "import {",
        'export { tick } from "./clock.js";',
        'export * from "./clock.js";',
        "export default 1;",
        "export class Clock {}",
        "export const { tick } = clock;",
        "export let tick, tock;",
        "let tick , tock;",
        "var tick = 1;",
        "class Clock {}",
        "function* ticks() {}",
    ],
)
def test_a_form_that_lines_cannot_link_is_refused_with_its_place(line: str) -> None:
    with pytest.raises(BuildError, match=r"^clock\.js, line 2: this form is not linked: "):
        parse("clock.js", f"// a clock\n{line}\n")


@pytest.mark.parametrize(
    ("sources", "message"),
    [
        ({"a.js": 'import { b } from "./b.js";'}, "a.js: there is no module b.js"),
        ({}, "a.js: there is no module a.js"),
        (
            {"a.js": 'import { b, c, d } from "./b.js";', "b.js": "export const b = 1;\nconst c = 2;"},
            "a.js: b.js does not export c, d",
        ),
        (
            {"a.js": 'import { b } from "./b.js";\nfunction clash() {}', "b.js": "export let b;\nlet clash;"},
            "a.js: clash is already declared at the top of b.js",
        ),
        (
            {
                "a.js": 'import { b } from "./b.js";\nexport const a = 1;',
                "b.js": 'import { a } from "./a.js";\nexport const b = 1;',
            },
            "a.js: modules import one another in a circle: a.js -> b.js -> a.js",
        ),
        (
            {"a.js": "const twice = 1;\nconst twice = 2;"},
            "a.js: twice is already declared at the top of a.js",
        ),
    ],
)
def test_what_does_not_fit_together_is_refused_by_name(sources: dict[str, str], message: str) -> None:
    with pytest.raises(BuildError) as refused:
        order(sources, "a.js")
    assert str(refused.value) == message
