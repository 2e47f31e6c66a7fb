"""The expression language of conditions and mappings: SQL's words over an event (docs/expressions.md).

The text is read once by lark and becomes closures, which know nothing of lark. One scope serves all:
`properties.x` and `event.properties.x` are the event's, `event` alone its name, `payload.x` what earlier
steps built, and `value` the present value inside a transform.
"""

from __future__ import annotations

from functools import cache, lru_cache
from typing import Any, NamedTuple

from lark import Lark, UnexpectedCharacters, UnexpectedInput, UnexpectedToken

from datafly_lite.errors import ExpressionError
from datafly_lite.expressions_building import Builder
from datafly_lite.expressions_values import UNUSABLE, Run, Scope, truth, unusable

__all__ = ["Expression", "Scope", "compile_expression"]

LONGEST_CHARS = 4_096

GRAMMAR = r"""
?start: either
?either: both (_OR both)*
?both: negated (_AND negated)*
?negated: NOT negated -> negation
    | test
?test: sum
    | sum COMPARE sum -> comparison
    | sum [NOT] _IN "(" sum ("," sum)* ")" -> among
    | sum [NOT] _BETWEEN sum _AND sum -> between
    | sum [NOT] _CONTAINS sum -> contains
    | sum [NOT] _STARTS _WITH sum -> starts
    | sum [NOT] _ENDS _WITH sum -> ends
    | sum [NOT] _LIKE STRING -> like
    | sum [NOT] _MATCHES STRING -> matches
    | sum _IS [NOT] _NULL -> is_null
    | sum _IS [NOT] _MISSING -> is_missing
?sum: product (ADD product)*
?product: signed (MULTIPLY signed)*
?signed: "-" signed -> minus
    | atom
?atom: STRING -> string
    | NUMBER -> number
    | TRUE -> true
    | FALSE -> false
    | _NULL -> null
    | PATH -> path
    | FUNCTION "(" [either ("," either)*] ")" -> function
    | _CASE (_WHEN either _THEN either)+ [_ELSE either] _END -> case
    | "(" either ")"

_OR: /or\b/i
_AND: /and\b/i
NOT: /not\b/i
_IN: /in\b/i
_BETWEEN: /between\b/i
_CONTAINS: /contains\b/i
_STARTS: /starts\b/i
_ENDS: /ends\b/i
_WITH: /with\b/i
_LIKE: /like\b/i
_MATCHES: /matches\b/i
_IS: /is\b/i
_NULL: /null\b/i
_MISSING: /missing\b/i
_CASE: /case\b/i
_WHEN: /when\b/i
_THEN: /then\b/i
_ELSE: /else\b/i
_END: /end\b/i
TRUE: /true\b/i
FALSE: /false\b/i
COMPARE: "==" | "=" | "!=" | "<>" | "<=" | ">=" | "<" | ">"
ADD: "+" | "-" | "||"
MULTIPLY: "*" | "/" | "%"
NUMBER: /\d+(\.\d+)?([eE][+-]?\d{1,3})?/
STRING: /'(?:[^']|'')*'|"(?:[^"]|"")*"/
FUNCTION.1: /(?!(?:WORDS)\b)[a-z_]\w*(?=\s*\()/i
NAME: /(?!(?:WORDS)\b)[a-z_]\w*/i
PATH: NAME /(?:\.[\w$]+|\[\d+\]|\["(?:[^"]|"")*"\]|\['(?:[^']|'')*'\])*/
WHITE: /\s+/
%ignore WHITE
""".replace("WORDS", "or|and|not|in|between|contains|like|matches|is|null|case|when|then|else|true|false")
HINTS = {
    "&": "write AND",
    "!": "write NOT",
    "{": "a pipeline parameter is not filled in: the pipeline has none of that name",
    "'": "the text that begins here has no closing quote",
    '"': "the text that begins here has no closing quote",
    ".": 'a path goes on with .name, [0] or ["odd key"]',
    "[": 'a path goes on with .name, [0] or ["odd key"]',
    ",": "a list stands in brackets after IN, or in a function's",
}


WORDS = {
    "ADD": "an operator such as = or AND",
    "LPAR": "(",
    "COMMA": "a comma",
    "RPAR": ")",
    "_WITH": "WITH",
    "_AND": "AND",
    "_NULL": "NULL",
    "_MISSING": "MISSING",
    "_WHEN": "WHEN",
    "_THEN": "THEN",
    "_ELSE": "ELSE",
    "_END": "END",
    "$END": "the end",
}
"""What may stand where no value may, by the grammar's names."""


class Expression(NamedTuple):
    """A compiled expression. `roots` are the first words of all its paths: `properties`, `event`, `value`…"""

    text: str
    roots: frozenset[str]
    run: Run

    def evaluate(self, scope: Scope) -> Any:
        """Its value; what is missing is None. Raises StepFailed where a value cannot be used."""
        scope.work = 0
        try:
            return self.run(scope)
        except UNUSABLE as error:
            raise unusable(error) from None

    def test(self, scope: Scope) -> bool:
        """As a condition: NULL is false. Raises StepFailed for what is neither true nor false."""
        return truth(self.evaluate(scope), "a condition")


@lru_cache(maxsize=4096)
def compile_expression(text: str) -> Expression:
    """Raises ExpressionError: what was expected, and the position of the character, from 1."""
    if len(text) > LONGEST_CHARS:
        raise ExpressionError(f"an expression has at most {LONGEST_CHARS} characters", LONGEST_CHARS + 1)
    try:
        tree = _parser().parse(text)
    except UnexpectedInput as error:
        raise _unreadable(text, error) from None
    builder = Builder(text)
    run = builder.part(tree).run
    return Expression(text, frozenset(builder.roots), run)


@cache
def _parser() -> Lark:
    return Lark(GRAMMAR, parser="lalr", propagate_positions=True, maybe_placeholders=True)


# ── What cannot be read ──────────────────────────────────────────────────────────────────────


def _unreadable(text: str, error: UnexpectedInput) -> ExpressionError:
    is_end = isinstance(error, UnexpectedToken) and error.token.type == "$END"
    at = len(text) if is_end else error.pos_in_stream or 0
    wanted = error.allowed if isinstance(error, UnexpectedCharacters) else _accepted(error)
    expected = _expected(wanted)
    found = "the expression ends" if is_end else f"there is {_word(text, at)}"
    hint = HINTS.get(text[at : at + 1], "") if isinstance(error, UnexpectedCharacters) else ""
    return ExpressionError(f"{expected} is expected, but {found}{f' ({hint})' if hint else ''}", at + 1)


def _expected(wanted: set[str]) -> str:
    if "PATH" in wanted:
        return "a value (a field, a number or a text in quotes)"
    if "STRING" in wanted:
        return "a text in quotes"
    words = [word for terminal, word in WORDS.items() if terminal in wanted]
    return words[0] if "ADD" in wanted else " or ".join(words) or "the end"


def _accepted(error: UnexpectedInput) -> set[str]:
    return set(error.accepts or error.expected) if isinstance(error, UnexpectedToken) else set()


def _word(text: str, at: int) -> str:
    """What stands there, up to white space."""
    found = text[at:].split(maxsplit=1)[0][:20]
    return found if found[:1] in "'\"" else f"'{found}'"
