"""One build: options in, the script with its sizes out. Same input, same bytes."""

from __future__ import annotations

import base64
import gzip
import hashlib
import json
from collections.abc import Mapping, Sequence
from typing import Any

import brotli
import msgspec

from datafly_lite import __version__
from datafly_lite.assets import asset
from datafly_lite.collector.compiler import Compilers, compile_script, installed
from datafly_lite.collector.linker import Module, join, order

ENTRY = "entry.js"
CONFIGURATION = "config.js"
ESCAPES = str.maketrans({"<": "\\u003c", "\u2028": "\\u2028", "\u2029": "\\u2029"})


class ModuleSize(msgspec.Struct, frozen=True):
    """What one module adds to the compressed script; all of them add up to its size."""

    name: str
    gzip_size_bytes: int


class Script(msgspec.Struct, frozen=True):
    """A finished collector. `version_hash` is the first 8 hex digits of the script's SHA-256."""

    version_hash: str
    plain: bytes
    gzip: bytes
    brotli: bytes


class Built(msgspec.Struct, frozen=True):
    """A script with what is to be said of it. `report` holds remarks in words."""

    script: Script
    modules: tuple[ModuleSize, ...]
    report: tuple[str, ...]


def build(options: Mapping[str, Any], pipeline_key: str, compilers: Compilers | None = None) -> Built:
    """Link, compile, compress. `options` are those of `build_options`. Raises BuildError."""
    compilers = compilers or installed()
    modules = order(sources(options, pipeline_key), ENTRY)
    sizes = _sizes(modules, compilers)
    plain = compile_script(join(modules), compilers).encode()
    return Built(packed(plain), sizes, (*compilers.remarks, *_remarks(options)))


def sources(options: Mapping[str, Any], pipeline_key: str) -> dict[str, str]:
    """Every module by name: the files of web/collector, the configuration, the entry that picks features."""
    found = {path.name: path.read_text(encoding="utf-8") for path in asset("web/collector").glob("*.js")}
    found[CONFIGURATION] = configuration_module(
        {
            "PIPELINE_KEY": pipeline_key,
            "ENDPOINT": options["endpoint"],
            "GLOBAL_VARIABLE": options["global_variable"],
            "BATCH_SIZE": options["batch_size"],
            "FLUSH_INTERVAL_MS": options["flush_interval_ms"],
            "VERSION": __version__,
        }
    )
    found[ENTRY] = _entry(_features(options))
    return found


def configuration_module(values: Mapping[str, Any]) -> str:
    """Constants as JSON that cannot end a script element or a line."""
    return "".join(
        f"export const {name} = {json.dumps(value, ensure_ascii=False).translate(ESCAPES)};\n"
        for name, value in values.items()
    )


def _features(options: Mapping[str, Any]) -> dict[str, str]:
    """Module -> the function that starts it, in the order they start."""
    features = {}
    if options["auto_page"]:
        features["auto_page.js"] = "viewOnShow"
        if options["spa"]:
            features["spa.js"] = "viewOnNavigation"
    return features


def _entry(features: Mapping[str, str]) -> str:
    wanted = {"start.js": "start", **features}
    imports = [f'import {{ {function} }} from "./{name}";' for name, function in wanted.items()]
    return "\n".join([*imports, f"start([{', '.join(features.values())}]);"])


def _sizes(modules: Sequence[Module], compilers: Compilers) -> tuple[ModuleSize, ...]:
    """Grow the script module by module: what each adds."""
    sizes = []
    before = 0
    for count, module in enumerate(modules, 1):
        after = len(compressed(compile_script(join(modules[:count]), compilers).encode()))
        sizes.append(ModuleSize(module.name, after - before))
        before = after
    return tuple(sizes)


def packed(plain: bytes) -> Script:
    """Compress as hard as it goes: it is done once and served often."""
    return Script(
        version_hash=hashlib.sha256(plain).hexdigest()[:8],
        plain=plain,
        gzip=compressed(plain),
        brotli=brotli.compress(plain, mode=brotli.MODE_TEXT, quality=11),
    )


def compressed(plain: bytes) -> bytes:
    """gzip -9, without a time in its header, so that the same script gives the same bytes."""
    return gzip.compress(plain, compresslevel=9, mtime=0)


def integrity(plain: bytes) -> str:
    """The script's Subresource Integrity value: `sha384-...`."""
    return "sha384-" + base64.b64encode(hashlib.sha384(plain).digest()).decode()


def _remarks(options: Mapping[str, Any]) -> list[str]:
    """Say what was asked for and is not in the script, rather than leave it out in silence."""
    asked = [name for name in ("vendor_syncs", "consent_config", "cross_domain") if options[name]]
    remarks = [f"{name} is set, but this version's collector has no module for it" for name in asked]
    if options["delivery_method"] == "download" and not options["endpoint"]:
        remarks.append("a script on another host needs an endpoint, here or as data-endpoint on its tag")
    return remarks
