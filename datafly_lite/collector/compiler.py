"""esbuild for correctness, tdewolff-minify for size: each where its wheel is there (stack.md).

`esbuild_py.transform` takes no options, answers a syntax error with an empty string, loses what
follows a NUL byte, and hangs in a forked child: it is called in threads, never around a fork.
"""

from __future__ import annotations

import functools
import re
import warnings
from collections.abc import Callable
from typing import NamedTuple

from datafly_lite.errors import BuildError

ECMASCRIPT_YEAR = 2018
"""The sources' language; without it the minifier writes newer syntax, which older browsers refuse whole."""

SCRIPT_END = re.compile(r"</(?=script)", re.IGNORECASE)
UNSAFE = {"<!--": r"\x3c!--", "\u2028": r"\u2028", "\u2029": r"\u2029"}


class Compilers(NamedTuple):
    """The two compilers, None where one is not installed; `remarks` says what that means for a build."""

    transform: Callable[[str], str] | None
    minify: Callable[[str], str] | None
    remarks: tuple[str, ...] = ()


@functools.cache
def installed() -> Compilers:
    """What this machine has. Loading takes about 0.1 s, so it happens with the first build."""
    remarks = []
    transform, minify = _esbuild(), _minifier()
    if transform is None:
        remarks.append("esbuild-py is not installed on this platform: the syntax was checked less strictly")
    if minify is None:
        remarks.append("tdewolff-minify is not installed on this platform: the script works, but is larger")
    return Compilers(transform, minify, tuple(remarks))


def _esbuild() -> Callable[[str], str] | None:
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", DeprecationWarning)  # it imports distutils
            from esbuild_py import transform
    except (ImportError, OSError, AttributeError):  # no wheel, a library that does not load, or none found
        return None
    found: Callable[[str], str] = transform
    return found


def _minifier() -> Callable[[str], str] | None:
    try:
        import minify
    except (ImportError, OSError):
        return None
    minify.config({"js-version": ECMASCRIPT_YEAR})
    found: Callable[[str], str] = functools.partial(minify.string, "application/javascript")
    return found


def compile_script(source: str, compilers: Compilers) -> str:
    """The smallest script that does what `source` does. Raises BuildError for a syntax error."""
    if "\0" in source:
        raise BuildError("the collector's source holds a NUL character")
    script = source
    if compilers.transform is not None:
        script = compilers.transform(source)
        if not script:
            raise BuildError(f"esbuild found a syntax error in the collector{_position(source, compilers)}")
    return _harden(_minified(script, compilers).strip() + "\n")


def _minified(script: str, compilers: Compilers) -> str:
    if compilers.minify is None:
        return script
    try:
        return compilers.minify(script)
    except ValueError as error:
        raise BuildError(f"the collector cannot be minified: {error}") from None


def _position(source: str, compilers: Compilers) -> str:
    """Where the minifier, which says so, sees the error that esbuild keeps to itself."""
    if compilers.minify is None:
        return ""
    try:
        compilers.minify(source)
    except ValueError as error:
        return f": {error}"
    return ""


def _harden(script: str) -> str:
    """Undo what a compiler unescapes in strings: the script may be pasted into a page."""
    script = SCRIPT_END.sub(r"<\\/", script)
    for text, escaped in UNSAFE.items():
        script = script.replace(text, escaped)
    return script
