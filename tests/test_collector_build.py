"""From options to bytes: what is accepted, what comes out, and how large it is."""

from __future__ import annotations

import gzip
import re
import sys
from typing import Any

import brotli
import pytest

from datafly_lite.collector.build import build, configuration_module, integrity
from datafly_lite.collector.compiler import Compilers, compile_script, installed
from datafly_lite.collector.options import DEFAULTS, build_options, check_builder_config
from datafly_lite.collector.snippet import snippet, stub
from datafly_lite.errors import AdminError, BuildError

KEY = "dk_" + "k7w2m9q4x1" * 4 + "abc"
CORE_LIMIT_BYTES = 2_300
STUB_LIMIT_BYTES = 220
HOSTILE = "</script><script>alert(1)</script><!--\u2028\u2029"


def names(config: dict[str, Any]) -> set[str]:
    return {module.name for module in build(build_options(config), KEY).modules}


# ── Options ──────────────────────────────────────────────────────────────────────────────────


def test_nothing_given_is_seed_001() -> None:
    assert check_builder_config({}) == {
        "script_filename": "d.js",
        "global_variable": "_df",
        "delivery_method": "cdn",
        "vendor_syncs": {},
        "consent_config": {},
        "cross_domain": False,
    }


def test_what_is_given_is_kept() -> None:
    given = {
        "script_filename": "a-b_c.2.js",
        "global_variable": "$shop",
        "delivery_method": "download",
        "spa": False,
        "batch_size": 100,
        "flush_interval_ms": 0,
        "endpoint": "https://data.example.com:8443",
    }
    assert check_builder_config(given) == {**DEFAULTS, **given}


@pytest.mark.parametrize(
    ("name", "value"),
    [
        *(
            ("script_filename", value)
            for value in ["", ".js", "d", "../x.js", "a/b.js", "d.js\n", "é.js", None]
        ),
        *(("script_filename", value) for value in ["a" * 300 + ".js", "d.json", "-d.js", "a1b2c3d4.js"]),
        *(
            ("global_variable", value)
            for value in ["", "1a", "a-b", "a.b", "alert(1)//", "_df\n", "é", 1, None]
        ),
        *(("global_variable", value) for value in ["class", "await", "eval", "__proto__", "constructor"]),
        *(("global_variable", value) for value in ["window", "document", "fetch", "onload", "name", "JSON"]),
        ("delivery_method", "ftp"),
        ("delivery_method", []),
        ("vendor_syncs", []),
        ("consent_config", None),
        ("cross_domain", 1),
        ("spa", "no"),
        *(("batch_size", value) for value in [0, 101, True, 1.5, "10", 10**400]),
        ("flush_interval_ms", -1),
        *(
            ("endpoint", value)
            for value in ["data.example.com", "ftp://a.example", "https://", "javascript:1"]
        ),
        *(
            ("endpoint", value)
            for value in ["https://a.example/?q", "https://u:p@a.example", "https://a b", 1]
        ),
        *(("endpoint", value) for value in ["https://[::1", "https://a:99999", 'https://a.example/"']),
        ("batchsize", 10),
    ],
)
def test_a_wrong_value_is_refused_under_its_name(name: str, value: object) -> None:
    with pytest.raises(AdminError) as refused:
        check_builder_config({"cross_domain": False, name: value})
    assert refused.value.code == "VALIDATION_ERROR"
    assert [detail["field"] for detail in refused.value.details] == [f"js_builder_config.{name}"]


@pytest.mark.parametrize("config", [None, [], "d.js", 1])
def test_a_configuration_is_an_object(config: object) -> None:
    with pytest.raises(AdminError):
        check_builder_config(config)


# ── The configuration in the script ──────────────────────────────────────────────────────────


def test_configuration_is_json_that_cannot_end_a_script_or_a_line() -> None:
    written = configuration_module({"KEY": HOSTILE, "COUNT": 1})
    assert written == (
        'export const KEY = "\\u003c/script>\\u003cscript>alert(1)\\u003c/script>\\u003c!--\\u2028\\u2029";\n'
        "export const COUNT = 1;\n"
    )


@pytest.mark.parametrize(
    "compilers",
    [
        installed(),
        installed()._replace(transform=None),
        installed()._replace(minify=None),
        Compilers(None, None),
    ],
    ids=["both", "without esbuild", "without minifier", "neither"],
)
def test_no_compiler_brings_the_end_of_a_script_back(compilers: Compilers) -> None:
    script = build(build_options({}), HOSTILE, compilers).script.plain.decode()
    assert "alert(1)" in script
    assert not re.search(r"</script|<!--|[\u2028\u2029]", script, re.IGNORECASE)


# ── The compilers ────────────────────────────────────────────────────────────────────────────


def test_a_syntax_error_is_a_build_error_with_its_place() -> None:
    with pytest.raises(BuildError, match=r"esbuild found a syntax error in the collector: .* on line 2"):
        compile_script("(() => {\nconst = 1;\n})();", installed())


def test_an_empty_result_is_a_build_error() -> None:
    with pytest.raises(BuildError, match="esbuild found a syntax error"):
        compile_script("let a = 1;", Compilers(lambda source: "", None))


def test_a_syntax_error_is_found_without_esbuild() -> None:
    with pytest.raises(BuildError, match=r"cannot be minified: .* line 1"):
        compile_script("const = 1;", installed()._replace(transform=None))


def test_a_nul_character_is_refused_because_esbuild_stops_there() -> None:
    with pytest.raises(BuildError, match="NUL"):
        compile_script("let a = '\0';", installed())


def test_a_missing_compiler_is_said_in_the_report() -> None:
    built = build(build_options({}), KEY, Compilers(None, None, ("esbuild-py is not installed",)))
    assert built.report == ("esbuild-py is not installed",)
    assert len(built.script.gzip) > CORE_LIMIT_BYTES


def test_both_compilers_are_installed_here() -> None:
    assert installed().remarks == ()


# ── The bytes ────────────────────────────────────────────────────────────────────────────────


def test_the_core_is_small(capsys: pytest.CaptureFixture[str]) -> None:
    built = build(build_options({}), KEY)
    script = built.script
    sizes = {module.name: module.gzip_size_bytes for module in built.modules}
    figures = f"{len(script.plain)} B, gzip {len(script.gzip)} B, brotli {len(script.brotli)} B: {sizes}"
    with capsys.disabled():
        sys.stdout.write(f"\ncollector: {figures}\n")
    assert len(script.gzip) <= CORE_LIMIT_BYTES
    assert sum(sizes.values()) == len(script.gzip)


def test_the_same_input_gives_the_same_bytes() -> None:
    first, second = (build(build_options({"spa": False}), KEY) for _ in range(2))
    assert first == second
    assert re.fullmatch(r"[0-9a-f]{8}", first.script.version_hash)
    assert build(build_options({"spa": False}), KEY + "d").script.version_hash != first.script.version_hash


def test_the_compressed_forms_are_the_script() -> None:
    script = build(build_options({}), KEY).script
    assert gzip.decompress(script.gzip) == brotli.decompress(script.brotli) == script.plain


def test_integrity_is_the_sha384_of_the_script() -> None:
    assert integrity(b"alert(1)\n").startswith("sha384-")
    assert len(integrity(b"")) == len("sha384-") + 64


def test_a_feature_that_is_off_is_not_in_the_script() -> None:
    features = {"auto_page.js", "spa.js"}
    assert names({}) & features == features
    assert names({"spa": False}) & features == {"auto_page.js"}
    assert names({"auto_page": False}) & features == set()


@pytest.mark.parametrize(
    ("config", "remark"),
    [
        ({"cross_domain": True}, "cross_domain is set, but this version's collector has no module for it"),
        (
            {"delivery_method": "download"},
            "a script on another host needs an endpoint, here or as data-endpoint on its tag",
        ),
    ],
)
def test_what_the_script_leaves_open_is_reported(config: dict[str, Any], remark: str) -> None:
    assert build(build_options(config), KEY).report == (remark,)


def test_the_script_keeps_to_the_language_of_its_sources() -> None:
    script = build(build_options({}), KEY).script.plain.decode()
    newer = r"\?\?|\?\.[A-Za-z_$(\[]|catch\s*\{|\|\|=|&&="
    assert re.findall(newer, script) == []


# ── What a person copies ─────────────────────────────────────────────────────────────────────


def test_the_stub_is_small() -> None:
    assert len(stub("_df").encode()) <= STUB_LIMIT_BYTES


def test_the_snippet() -> None:
    assert snippet("https://data.example.com/", "dk_x", "d.js", "shop") == (
        f"{stub('shop')}\n"
        '<script async src="https://data.example.com/c/dk_x/d.js" data-pipeline-key="dk_x"></script>\n'
    )
    assert 'integrity="sha384-x" crossorigin="anonymous"' in snippet(
        "http://a", "dk_x", "a1b2c3d4.js", "_df", "sha384-x"
    )
