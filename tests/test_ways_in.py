"""What the pipeline's page tells people to run is run, as it stands there."""

from __future__ import annotations

import html
import os
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from clients_kit import NODE, SDKS, require_node
from datafly_lite.ui.ways_in import WAYS_IN, WayIn, ways_in
from gateway_kit import Appliance, running_appliance
from kit import request, wait_until

SENDING = Path(__file__).parent.parent / "docs" / "sending.md"
EVENTS = {"Signed, from your server": "Order Completed", "Pixel, in an email": "Email Opened"}
EVENTS |= {"Commanders Act": "sign_up"}
IN_CHROMIUM = "Segment, browser"
"""That one needs a page and a bundler: test_clients_browser.py runs the same call."""


@pytest.fixture(scope="module")
def appliance(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Appliance]:
    with running_appliance(tmp_path_factory.mktemp("ways")) as one:
        yield one


def run(way: WayIn, secret: str) -> None:
    environment = {**os.environ, "SECRET": secret}
    if way.code.startswith("<img"):
        found = re.search(r'src="([^"]*)"', way.code)
        assert found
        assert request(html.unescape(found[1])).status == 200
    elif way.name.endswith("Python"):
        subprocess.run([sys.executable, "-c", way.code], check=True, timeout=60, env=environment)
    elif way.name.endswith("Node.js"):
        command = [NODE, "--input-type=module", "-e", way.code]
        subprocess.run(command, check=True, timeout=60, env=environment, cwd=SDKS)
    else:
        subprocess.run(["bash", "-euc", way.code], check=True, timeout=60, env=environment)


@pytest.mark.parametrize("name", [way.name for way in WAYS_IN if way.name != IN_CHROMIUM])
def test_it_works_as_it_stands_there(appliance: Appliance, name: str) -> None:
    if "Node" in name:
        require_node()
    pipeline = appliance.management.create_pipeline(re.sub("[^a-z]+", "-", name.lower()).strip("-"))
    made = appliance.management.call("POST", f"pipelines/{pipeline.id}/rotate-secret")
    way = next(one for one in ways_in(appliance.server.base_url, pipeline.key) if one.name == name)
    run(way, made["pipeline_key_secret"])
    found: list[str] = []

    def is_stored() -> bool:
        listed = appliance.management.call("GET", f"events?pipeline_id={pipeline.id}")["data"]
        found[:] = [one["event"] for one in listed]
        return bool(found)

    wait_until(is_stored, f"the event of {name}")
    assert found == [EVENTS.get(name, "Signed Up")]


def test_the_documentation_says_the_same() -> None:
    text = SENDING.read_text(encoding="utf-8")
    missing = [way.name for way in ways_in("http://127.0.0.1:8084", "dk_pip_…") if way.code not in text]
    assert missing == []
