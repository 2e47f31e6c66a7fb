"""ES modules -> one scope, which compresses better than a bundler's wrappers (stack.md, esbuild-py).

Only a strict form is read, so that lines are enough and no JavaScript parser is needed:
`import { a, b } from "./module.js";` on one line, `export` before a named function, const or let,
and every top-level declaration alone at the start of its line. Anything else is refused.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from typing import NamedTuple

from datafly_lite.errors import BuildError

NAME = r"[A-Za-z_$][A-Za-z0-9_$]*"
IMPORT = re.compile(rf'import \{{ ({NAME}(?:, {NAME})*) \}} from "\./([a-z_]+\.js)";')
DECLARATION = re.compile(rf"(export )?(?:const|let|(?:async )?function) ({NAME})(?![\w$])(?! ?,)")
DECLARING = re.compile(r"(?:export|const|let|var|class|function|async function)\b")
MODULE_WORD = re.compile(r"\s*(?:import|export)\b")


class Module(NamedTuple):
    """One source file, its import lines and `export` words taken off."""

    name: str
    imports: tuple[tuple[str, tuple[str, ...]], ...]
    """(module, names) of each import line."""
    exports: frozenset[str]
    declared: tuple[str, ...]
    body: str


def parse(name: str, source: str) -> Module:
    """Read one module. Raises BuildError with module and line for what is not in the strict form."""
    imports: list[tuple[str, tuple[str, ...]]] = []
    exports: set[str] = set()
    declared: list[str] = []
    body: list[str] = []
    for number, line in enumerate(source.splitlines(), 1):
        if found := IMPORT.fullmatch(line):
            imports.append((found[2], tuple(found[1].split(", "))))
        elif found := DECLARATION.match(line):
            declared.append(found[2])
            exports.update([found[2]] if found[1] else [])
            body.append(line.removeprefix("export "))
        elif DECLARING.match(line) or MODULE_WORD.match(line):
            raise BuildError(f"{name}, line {number}: this form is not linked: {line.strip()}")
        else:
            body.append(line)
    return Module(name, tuple(imports), frozenset(exports), tuple(declared), "\n".join(body).strip() + "\n")


def order(sources: Mapping[str, str], entry: str) -> list[Module]:
    """`entry` and all that it needs, each after what it imports.

    Raises BuildError for an unknown module, a name that is not exported, a cycle, and a top-level
    name that two modules declare.
    """
    modules: dict[str, Module] = {}
    _visit(entry, sources, modules, path=())
    for module in modules.values():
        for other, names in module.imports:
            if missing := sorted(set(names) - modules[other].exports):
                raise BuildError(f"{module.name}: {other} does not export {', '.join(missing)}")
    _refuse_clashes(modules.values())
    return list(modules.values())


def _visit(name: str, sources: Mapping[str, str], modules: dict[str, Module], path: tuple[str, ...]) -> None:
    if name in path:
        raise BuildError(f"{name}: modules import one another in a circle: {' -> '.join((*path, name))}")
    if name in modules:
        return
    if name not in sources:
        raise BuildError(f"{path[-1] if path else name}: there is no module {name}")
    module = parse(name, sources[name])
    for needed, _ in module.imports:
        _visit(needed, sources, modules, (*path, name))
    modules[name] = module


def _refuse_clashes(modules: Iterable[Module]) -> None:
    owners: dict[str, str] = {}
    for module in modules:
        for name in module.declared:
            if name in owners:
                raise BuildError(f"{module.name}: {name} is already declared at the top of {owners[name]}")
            owners[name] = module.name


def join(modules: Sequence[Module]) -> str:
    """One function expression, called at once: no global is declared."""
    return '(() => {\n"use strict";\n' + "\n".join(module.body for module in modules) + "})();\n"
