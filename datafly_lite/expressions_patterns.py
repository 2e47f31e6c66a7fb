"""LIKE and MATCHES, whose cost stays in proportion to the text: strangers send the texts.

Python's own `re` tries one way after another, and on some patterns takes for ever (`(a+)+$`). RE2 follows
all ways at once (github.com/google/re2, "RE2 was designed and implemented with an explicit goal of being
able to handle regular expressions from untrusted users without risk"), so back references and looking
around are not offered. `LIKE` needs no such thing: as in CPython's `fnmatch.translate`, an atomic group
for each `%` but the last keeps `re` from trying the earlier ones again.

Following all ways at once costs up to an instruction of the compiled pattern for each byte: 4.6 ns each where
RE2 falls back to its NFA (measured on the project's two cores: 56 ms for `(x|[ab]{1,50}){15}c` of 1,505
instructions over 8,192 characters). `LIKE` takes up to 0.9 ns for each character of the pattern and of the
text. An evaluation has a limit for both (expressions_values.MOST_WORK).
"""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import NamedTuple

import re2

from datafly_lite.errors import ExpressionError

LONGEST_PATTERN_CHARS = 500
LARGEST_PATTERN_BYTES = 256 * 1024
"""What RE2 may take for one compiled pattern. With less, harmless ones too fall back to its NFA."""

MOST_INSTRUCTIONS = 1_000
"""Of a compiled pattern. A word of a list costs about one for each letter."""


class Pattern(NamedTuple):
    """`work` is what `fits` may cost for the text, in units of expressions_values.MOST_WORK."""

    fits: Callable[[str], bool]
    work: Callable[[str], int]


def like(pattern: str) -> Pattern:
    """`%` stands for any characters, `_` for one; the whole text must fit."""
    pieces = [re.escape(one).replace("_", ".") for one in pattern.split("%")]
    middle = "".join(f"(?>.*?{one})" for one in pieces[1:-1] if one)
    rest = f"{middle}.*{pieces[-1]}" if len(pieces) > 1 else ""
    fits = re.compile(rf"(?s:{pieces[0]}{rest})\Z").match
    char_work = len(pattern) // 4 + 1
    return Pattern(lambda text: fits(text) is not None, lambda text: len(text) * char_work)


def matcher(pattern: str) -> Pattern:
    """A regular expression that is looked for anywhere in a text. Raises ExpressionError at position 1."""
    if len(pattern) > LONGEST_PATTERN_CHARS:
        raise ExpressionError(f"a pattern has at most {LONGEST_PATTERN_CHARS} characters", 1)
    options = re2.Options()
    options.log_errors = False
    options.never_capture = True
    options.max_mem = LARGEST_PATTERN_BYTES
    try:
        compiled = re2.compile(pattern, options)
    except re2.error as error:
        words = error.args[0].decode() if error.args and isinstance(error.args[0], bytes) else str(error)
        raise ExpressionError(f"the pattern cannot be read: {words}", 1) from None
    search, byte_work = compiled.search, compiled.programsize
    if byte_work > MOST_INSTRUCTIONS:
        raise ExpressionError(
            f"the pattern is too large: {byte_work:,} instructions, at most {MOST_INSTRUCTIONS:,}; "
            "repeat less, such as {1,9} in place of {1,99}",
            1,
        )
    return Pattern(lambda text: search(text) is not None, lambda text: _size_bytes(text) * byte_work)


def _size_bytes(text: str) -> int:
    return len(text) if text.isascii() else len(text.encode("utf-8", "replace"))
