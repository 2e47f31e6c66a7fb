"""The demo shop of dev mode: a small shop whose every click is an event of the demo pipeline.

It is a customer's page, not one of the product's own: it loads the built collector as any site would,
and brings its own stylesheet, modules and pictures, so that it also stands on the public listener.
"""

from __future__ import annotations

from collections.abc import Callable, Coroutine
from functools import cache
from pathlib import Path
from typing import Any, NamedTuple

import jinja2
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import HTMLResponse, Response
from starlette.routing import Route

from datafly_lite.assets import asset
from datafly_lite.collector.snippet import stub

CONTENT_SECURITY_POLICY = (
    "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self'; connect-src 'self'; "
    "form-action 'none'; base-uri 'none'; frame-ancestors 'none'; "
    "require-trusted-types-for 'script'; trusted-types 'none'"
)
HEADERS = {
    "Content-Security-Policy": CONTENT_SECURITY_POLICY,
    "X-Content-Type-Options": "nosniff",
    "Cache-Control": "no-cache",
}
MEDIA_TYPES = {".css": "text/css", ".js": "text/javascript", ".svg": "image/svg+xml"}


class Product(NamedTuple):
    """`slug` names its page and its picture; the rest are the properties of its events, and words."""

    slug: str
    product_id: str
    name: str
    category: str
    price: float
    line: str
    story: str


PRODUCTS = (
    Product(
        "headphones",
        "SKU-1234",
        "Wireless Headphones",
        "Headphones",
        79.99,
        "Forty hours, and quiet around you.",
        "Closed, light, and folded flat in a coat pocket. Two microphones take the street away; "
        "a real knob sets how much of it you want back.",
    ),
    Product(
        "turntable",
        "SKU-2201",
        "Belt-Drive Turntable",
        "Turntables",
        249.0,
        "Sets itself up, then keeps out of the way.",
        "A heavy platter on a rubber belt, an arm that lifts at the end of the side, and a "
        "preamplifier inside, so that any speaker will do.",
    ),
    Product(
        "speaker",
        "SKU-3107",
        "Bookshelf Speaker",
        "Speakers",
        129.5,
        "Small box, whole orchestra.",
        "A silk dome over a paper cone in a box of oiled ash. Sits between the atlas and the "
        "dictionary and fills the room from there.",
    ),
    Product(
        "radio",
        "SKU-4080",
        "Kitchen Radio",
        "Radios",
        64.0,
        "One dial, all the stations.",
        "FM, DAB+ and a timer for the eggs. Wipes clean, wakes gently, and remembers the four "
        "stations that you really listen to.",
    ),
    Product(
        "microphone",
        "SKU-5312",
        "Studio Microphone",
        "Microphones",
        98.0,
        "Sounds like you on a good day.",
        "A large capsule with a cable that goes straight into the laptop. For the podcast, the "
        "choir, and the call with the accountant.",
    ),
)
CURRENCY = "USD"


def demo_routes(pipeline_key: str) -> list[Route]:
    """`/demo/shop`, `/demo/shop/{product}` and the shop's own files; its events go to this pipeline."""
    return [
        Route("/demo/shop", _page(pipeline_key)),
        Route("/demo/shop/{product}", _page(pipeline_key)),
        Route("/demo/static/{name}", _file),
    ]


def _page(pipeline_key: str) -> Callable[[Request], Coroutine[Any, Any, Response]]:
    async def page(request: Request) -> Response:
        shown = request.path_params.get("product", "")
        if shown and shown not in {product.slug for product in PRODUCTS}:
            return HTMLResponse(_render(pipeline_key, "", is_missing=True), 404, HEADERS)
        return HTMLResponse(_render(pipeline_key, shown), headers=HEADERS)

    return page


def _render(pipeline_key: str, shown: str, *, is_missing: bool = False) -> str:
    """All views are in the page, so that the shop's module need not build any from text."""
    return _template().render(
        key=pipeline_key, products=PRODUCTS, currency=CURRENCY, shown=shown, is_missing=is_missing
    )


@cache
def _template() -> jinja2.Template:
    loader = jinja2.FileSystemLoader(asset("web/templates"))
    environment = jinja2.Environment(
        loader=loader, autoescape=True, undefined=jinja2.StrictUndefined, trim_blocks=True, lstrip_blocks=True
    )
    return environment.get_template("demo/shop.html")


async def _file(request: Request) -> Response:
    """Looked up among what was read: no path is joined from a request."""
    name = request.path_params["name"]
    content = _files().get(name)
    if content is None:
        raise HTTPException(404)
    return Response(content, headers={**HEADERS, "Content-Type": MEDIA_TYPES[Path(name).suffix]})


@cache
def _files() -> dict[str, bytes]:
    found = {path.name: path.read_bytes() for path in asset("web/static/demo").iterdir()}
    # The collector's own stub, as a file: the policy allows no script inside the page.
    return {**found, "stub.js": stub().removeprefix("<script>").removesuffix("</script>").encode()}
