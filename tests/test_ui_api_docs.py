"""The page /docs: all of the document, for a person without a script or a log-in."""

from __future__ import annotations

import json
import re
import subprocess
from collections.abc import Iterator
from html import unescape

import pytest
from playwright.sync_api import Browser, expect

from datafly_lite.management.openapi import document
from datafly_lite.management.routes import OPERATIONS, PREFIX
from kit import Management, Server
from ui_kit import LOOKS, Client, Look, person, running_ui

DOCUMENT = document(PREFIX, OPERATIONS)


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    with running_ui(tmp_path_factory.mktemp("docs") / "data") as running:
        yield running


@pytest.fixture(scope="module")
def page(server: Server) -> str:
    answer = Client(server.base_url, None).get("/docs")
    assert answer.status == 200
    return answer.body.decode()


def test_everything_that_the_document_has_is_on_it(page: str) -> None:
    shown = unescape(page)
    for path, methods in DOCUMENT["paths"].items():
        for method, operation in methods.items():
            assert f">{method.upper()} {path}</code> — {operation['summary']}" in shown
            assert f'id="operation-{operation["operationId"]}"' in shown
    for name in DOCUMENT["components"]["schemas"]:
        assert f'id="type-{name}"' in shown


def test_every_link_leads_somewhere(page: str) -> None:
    ids = re.findall(r' id="([^"]+)"', page)
    assert sorted(ids) == sorted(set(ids))
    assert set(re.findall(r'href="#([^"]+)"', page)) - set(ids) == set()


def test_nothing_on_it_comes_from_elsewhere(page: str) -> None:
    assert re.findall(r'(?:src|href)="(?:https?:)?//[^"]*"', page) == []
    assert "style=" not in page


def test_an_example_runs_as_printed(server: Server, page: str) -> None:
    examples = [unescape(one) for one in re.findall(r'aria-label="Example">(.*?)</pre>', page, re.DOTALL)]
    [example] = [one for one in examples if one.startswith('curl -X POST "$URL/v1/admin/pipelines" ')]
    variables = {"URL": server.base_url, "TOKEN": Management(server.base_url).token, "PATH": "/usr/bin:/bin"}
    output = subprocess.run(["sh", "-c", example], env=variables, capture_output=True, check=True).stdout
    assert json.loads(output)["name"] == "<name>"


@pytest.mark.parametrize("look", [LOOKS[0], LOOKS[-1]], ids=str)
def test_it_can_be_read_without_scripts(browser: Browser, server: Server, look: Look) -> None:
    with person(browser, server.base_url, look, None, java_script_enabled=False) as visitor:
        page = visitor.open("/docs")
        page.get_by_role("navigation", name="Sections").get_by_role("link", name="pipelines").click()
        entry = page.locator("#operation-create_pipeline")
        entry.locator("summary").click()
        expect(entry.get_by_role("row", name="rate_limit_rps")).to_have_count(2)
        expect(entry.get_by_text("CONFLICT")).to_be_visible()
        entry.get_by_role("link", name="BuilderConfig").click()
        expect(page.locator("#type-BuilderConfig")).to_be_in_viewport()
    with person(browser, server.base_url, look, None) as visitor:
        page = visitor.open("/docs")
        page.evaluate(
            "document.querySelectorAll('#operation-create_pipeline').forEach(one => one.open = true)"
        )
        visitor.check_layout()
        page.evaluate("document.querySelectorAll('details').forEach(one => one.open = true)")
        assert page.evaluate("document.documentElement.scrollWidth") <= look.width
