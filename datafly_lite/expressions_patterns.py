"""LIKE and MATCHES, whose cost stays in proportion to the text: strangers send the texts.

Python's own `re` tries one way after another, and on some patterns takes for ever (`(a+)+$`). So a
regular expression is followed along all its ways at once (Ken Thompson, "Regular Expression Search
Algorithm", CACM 11(6), 1968); what that cannot do, back references and looking around, is not offered.
A set of ways that was met before is remembered. `LIKE` needs no such thing: as in CPython's `fnmatch`,
an atomic group for each `%` but the last keeps `re` from trying the earlier ones again.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable
from functools import lru_cache
from typing import NamedTuple

from datafly_lite.errors import ExpressionError, StepFailed

LONGEST_PATTERN_CHARS = 500
MOST_STATES = 250
DEEPEST_GROUP = 20
MOST_REPEATS = 100
LONGEST_TEXT_CHARS = 4_096
REMEMBERED = 4_096

Test = Callable[[str], bool]
States = frozenset[int]

CLASSES: dict[str, Test] = {
    "d": str.isdecimal,
    "w": lambda char: char.isalnum() or char == "_",
    "s": str.isspace,
    "D": lambda char: not char.isdecimal(),
    "W": lambda char: not (char.isalnum() or char == "_"),
    "S": lambda char: not char.isspace(),
}
ESCAPES = {"n": "\n", "r": "\r", "t": "\t"}
COUNT = re.compile(r"\{(\d{1,4})(,(\d{0,4}))?\}")


@lru_cache(maxsize=1024)
def like(pattern: str) -> re.Pattern[str]:
    """`%` stands for any characters, `_` for one; the whole text must fit."""
    pieces = [re.escape(one).replace("_", ".") for one in pattern.split("%")]
    if len(pieces) == 1:
        return re.compile(rf"(?s:{pieces[0]})\Z")
    middle = "".join(f"(?>.*?{one})" for one in pieces[1:-1] if one)
    return re.compile(rf"(?s:{pieces[0]}{middle}.*{pieces[-1]})\Z")


# ── Reading a pattern ────────────────────────────────────────────────────────────────────────


class Char(NamedTuple):
    """One character that passes the test."""

    test: Test


class Edge(NamedTuple):
    """`^` (is_start) or `$`."""

    is_start: bool


class Repeat(NamedTuple):
    """`most` None: as often as it likes."""

    inner: Node
    least: int
    most: int | None


class Choice(NamedTuple):
    """One of several."""

    options: tuple[Node, ...]


class Row(NamedTuple):
    """One after another."""

    parts: tuple[Node, ...]


Node = Char | Edge | Repeat | Choice | Row


class _Reader:
    """A pattern from left to right. Raises ExpressionError with the place in the pattern."""

    def __init__(self, pattern: str) -> None:
        self.ignores_case = pattern.startswith("(?i)")
        self.pattern = pattern
        self.at = 4 if self.ignores_case else 0
        self.depth = 0

    def whole(self) -> Node:
        node = self._choice()
        if self.at < len(self.pattern):
            raise self._error("a ) that closes nothing")
        return node

    def _error(self, message: str) -> ExpressionError:
        return ExpressionError(f"in the pattern: {message}", self.at + 1)

    def _next(self) -> str:
        return self.pattern[self.at : self.at + 1]

    def _take(self, what: str) -> str:
        if self.at >= len(self.pattern):
            raise self._error(f"it ends where {what} is expected")
        self.at += 1
        return self.pattern[self.at - 1]

    def _choice(self) -> Node:
        options = [self._row()]
        while self._next() == "|":
            self.at += 1
            options.append(self._row())
        return options[0] if len(options) == 1 else Choice(tuple(options))

    def _row(self) -> Node:
        parts: list[Node] = []
        while self._next() not in ("", "|", ")"):
            parts.append(self._repeated(self._atom()))
        return Row(tuple(parts))

    def _repeated(self, node: Node) -> Node:
        least, most = 1, 1
        found = COUNT.match(self.pattern, self.at)
        if self._next() in ("*", "+", "?") and self._next():
            sign = self._take("a sign")
            return self._lazy(Repeat(node, 1 if sign == "+" else 0, 1 if sign == "?" else None))
        if found is None:
            return node
        least = int(found[1])
        most = least if found[2] is None else int(found[3] or MOST_REPEATS)
        if not least <= most <= MOST_REPEATS:
            raise self._error(f"a repetition is of at most {MOST_REPEATS}, and rises")
        self.at = found.end()
        return self._lazy(Repeat(node, least, None if found[2] and not found[3] else most))

    def _lazy(self, node: Node) -> Node:
        """Greedy or not finds the same texts. A second repetition would be another language's."""
        if self._next() == "?":
            self.at += 1
        if self._next() in ("*", "+", "?") and self._next():
            raise self._error("a repetition of a repetition; put the inner one in ( )")
        return node

    def _atom(self) -> Node:
        sign = self._take("something")
        if sign == "(":
            return self._group()
        if sign == "[":
            return self._set()
        if sign in "*+?":
            self.at -= 1
            raise self._error("there is nothing to repeat")
        if sign in "^$":
            return Edge(sign == "^")
        if sign == ".":
            return Char(lambda char: char != "\n")
        return Char(self._escaped() if sign == "\\" else self._literal(sign))

    def _group(self) -> Node:
        if self.pattern.startswith("?:", self.at):
            self.at += 2
        elif self._next() == "?":
            raise self._error("groups are ( ) and (?: ); looking around is not offered; (?i) stands first")
        self.depth += 1
        if self.depth > DEEPEST_GROUP:
            raise self._error(f"groups are nested deeper than {DEEPEST_GROUP}")
        node = self._choice()
        if self._next() != ")":
            raise self._error("a ( without its )")
        self.at += 1
        self.depth -= 1
        return node

    def _escaped(self) -> Test:
        sign = self._take("an escaped character")
        if sign in CLASSES:
            return CLASSES[sign]
        if sign.isalnum() and sign not in ESCAPES:
            self.at -= 1
            raise self._error(f"\\{sign} is not offered")
        return self._literal(ESCAPES.get(sign, sign))

    def _literal(self, wanted: str) -> Test:
        if self.ignores_case:
            folded = wanted.casefold()
            return lambda char: char.casefold() == folded
        return lambda char: char == wanted

    def _set(self) -> Node:
        is_inverted = self._next() == "^"
        self.at += is_inverted
        tests: list[Test] = []
        while not tests or self._next() != "]":
            tests.append(self._member())
        self.at += 1
        return Char(lambda char: any(test(char) for test in tests) is not is_inverted)

    def _member(self) -> Test:
        first = self._take("a ] ")
        if first == "\\":
            return self._escaped()
        if self._next() != "-" or self.pattern[self.at + 1 : self.at + 2] in ("]", "", "\\"):
            return self._literal(first)
        self.at += 1
        last = self._take("the end of a range")
        if last < first:
            raise self._error("a range that falls")
        if self.ignores_case:
            return lambda char: first <= char.lower() <= last or first <= char.upper() <= last
        return lambda char: first <= char <= last


# ── Following it ─────────────────────────────────────────────────────────────────────────────

FOUND, ALWAYS, AT_START, AT_END, READ = range(5)


class State(NamedTuple):
    """Where one way stands: what it takes to go on, and to which states."""

    kind: int
    test: Test | None = None
    after: tuple[int, ...] = ()


class Pattern:
    """A regular expression that is looked for anywhere in a text."""

    def __init__(self, text: str) -> None:
        """Raises ExpressionError; its position counts in the pattern."""
        if len(text) > LONGEST_PATTERN_CHARS:
            raise ExpressionError(f"a pattern has at most {LONGEST_PATTERN_CHARS} characters", 1)
        self._states = [State(FOUND)]
        self._begin = self._built(_Reader(text).whole(), 0)
        self._first = self._reached([self._begin], {ALWAYS, AT_START})
        self._steps: dict[tuple[States, str], States] = {}

    def found_in(self, text: str) -> bool:
        """Raises StepFailed for a text that is too long."""
        if len(text) > LONGEST_TEXT_CHARS:
            raise StepFailed(f"MATCHES looks at texts of at most {LONGEST_TEXT_CHARS} characters")
        now, steps = self._first, self._steps
        for char in text:
            if 0 in now:
                return True
            after = steps.get((now, char))
            now = self._step(now, char) if after is None else after
        return 0 in self._reached(now, {ALWAYS, AT_END})

    def _step(self, now: States, char: str) -> States:
        states = (self._states[one] for one in now)
        ahead = [state.after[0] for state in states if state.test is not None and state.test(char)]
        after = self._reached([self._begin, *ahead], {ALWAYS})
        if len(self._steps) >= REMEMBERED:
            self._steps.clear()
        self._steps[now, char] = after
        return after

    def _reached(self, begin: Iterable[int], free: set[int]) -> States:
        """All states to which a way leads without a character."""
        seen: set[int] = set()
        waiting = list(begin)
        while waiting:
            one = waiting.pop()
            if one not in seen:
                seen.add(one)
                state = self._states[one]
                waiting += state.after if state.kind in free else ()
        return frozenset(seen)

    def _new(self, state: State) -> int:
        if len(self._states) >= MOST_STATES:
            raise ExpressionError("the pattern is too large; repeat less", 1)
        self._states.append(state)
        return len(self._states) - 1

    def _built(self, node: Node, after: int) -> int:
        """The state in which `node` begins; `after` is where it goes when it is done."""
        match node:
            case Char(test):
                return self._new(State(READ, test, (after,)))
            case Edge(is_start):
                return self._new(State(AT_START if is_start else AT_END, None, (after,)))
            case Choice(options):
                return self._new(State(ALWAYS, None, tuple(self._built(one, after) for one in options)))
            case Row(parts):
                for part in reversed(parts):
                    after = self._built(part, after)
                return after
            case Repeat():
                return self._built_repeat(node, after)

    def _built_repeat(self, node: Repeat, after: int) -> int:
        if node.most is None:
            loop = self._new(State(ALWAYS))
            self._states[loop] = State(ALWAYS, None, (self._built(node.inner, loop), after))
            after = loop
        else:
            for _ in range(node.most - node.least):
                after = self._new(State(ALWAYS, None, (self._built(node.inner, after), after)))
        for _ in range(node.least):
            after = self._built(node.inner, after)
        return after
