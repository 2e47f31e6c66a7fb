"""The collector's files over HTTP: compressed once, served to any origin, cached by browsers."""

from __future__ import annotations

import re

import structlog
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from datafly_lite.collector.build import Script
from datafly_lite.collector.builder import CollectorBuilder, script_of
from datafly_lite.collector.options import DEFAULTS, HASH_FILENAME
from datafly_lite.configuration import LiveConfiguration, Pipeline
from datafly_lite.errors import BuildError, StorageError
from datafly_lite.store import Store, builds

ALIAS_CACHE = "public, max-age=300"
IMMUTABLE_CACHE = "public, max-age=31536000, immutable"
HEADERS = {
    "Content-Type": "application/javascript; charset=utf-8",
    "Cross-Origin-Resource-Policy": "cross-origin",
    "X-Content-Type-Options": "nosniff",
    "Access-Control-Allow-Origin": "*",  # a script with an integrity value is fetched with CORS
    "Vary": "Accept-Encoding",
}
CODING = re.compile(r"\s*([a-z*]+)\s*(?:;\s*q\s*=\s*([0-9.]+)\s*)?", re.IGNORECASE)

log = structlog.get_logger(__name__)


def routes(store: Store, configuration: LiveConfiguration, builder: CollectorBuilder) -> list[Route]:
    """`/c/{pipeline_key}/{filename}`, `/datafly.js` and `/d.js` (api.md, section 1)."""

    async def pipeline_script(request: Request) -> Response:
        pipeline = configuration.current.by_key.get(request.path_params["pipeline_key"])
        if pipeline is None:
            return _missing("there is no pipeline with this key")
        filename: str = request.path_params["filename"]
        try:
            if HASH_FILENAME.fullmatch(filename):
                return await _immutable(request, store, pipeline, filename)
            return await _alias(request, builder, pipeline, filename)
        except StorageError:
            return _unavailable()

    async def default_script(request: Request) -> Response:
        try:
            return _answer(request, await builder.default(), ALIAS_CACHE)
        except BuildError as error:
            log.error("default collector not built", error=str(error))
            return _missing("the default collector cannot be built; the server's log says why")

    return [
        Route("/c/{pipeline_key}/{filename}", pipeline_script),
        Route("/datafly.js", default_script),
        Route("/d.js", default_script),
    ]


async def _immutable(request: Request, store: Store, pipeline: Pipeline, filename: str) -> Response:
    row = await store.read(builds.by_hash, pipeline.id, filename.removesuffix(".js"))
    if row is None:
        return _missing("this pipeline has no build with this hash")
    return _answer(request, script_of(row), IMMUTABLE_CACHE)


async def _alias(request: Request, builder: CollectorBuilder, pipeline: Pipeline, filename: str) -> Response:
    config = {**DEFAULTS, **pipeline.js_builder_config}
    if filename != config["script_filename"]:
        return _missing("this pipeline's script has another file name: see its collector page")
    script = await builder.ready_or_first(pipeline.id, pipeline.key, config)
    if script is None:
        return _missing("this pipeline's collector could not be built: see its collector page")
    return _answer(request, script, ALIAS_CACHE)


def _answer(request: Request, script: Script, caching: str) -> Response:
    coding = negotiated(request.headers.get("accept-encoding", ""))
    body = {"br": script.brotli, "gzip": script.gzip, "": script.plain}[coding]
    etag = f'"{script.version_hash}{"-" if coding else ""}{coding}"'
    headers = {**HEADERS, "Cache-Control": caching, "ETag": etag}
    if coding:
        headers["Content-Encoding"] = coding
    if _matches(request.headers.get("if-none-match", ""), etag):
        return Response(status_code=304, headers=headers)
    headers["Content-Length"] = str(len(body))
    return Response(b"" if request.method == "HEAD" else body, headers=headers)


def negotiated(accept_encoding: str) -> str:
    """`br`, `gzip` or, for the plain script, ``: the smallest that the client takes (RFC 9110, 12.5.3)."""
    accepted = set()
    for part in accept_encoding.split(","):
        found = CODING.fullmatch(part)
        if found and found[2] not in {"0", "0.", "0.0", "0.00", "0.000"}:
            accepted.add(found[1].lower())
    return next((coding for coding in ("br", "gzip") if coding in accepted), "")


def _matches(if_none_match: str, etag: str) -> bool:
    """Weak comparison: a proxy may have weakened the tag (RFC 9110, 13.1.2)."""
    tags = {tag.strip().removeprefix("W/") for tag in if_none_match.split(",")}
    return etag in tags or "*" in tags


def _missing(reason: str) -> Response:
    """Say why where its reader looks: in the script. Nothing of the request is repeated."""
    return Response(f"// datafly: {reason}\n", 404, {**HEADERS, "Cache-Control": "no-store"})


def _unavailable() -> Response:
    headers = {**HEADERS, "Cache-Control": "no-store", "Retry-After": "5"}
    return Response("// datafly: the store cannot be read at the moment\n", 503, headers)
