"""A visitor whose `_dfid` is gone is known again by `_dfdid`, where the pipeline asks for it (spec, 6.4)."""

from __future__ import annotations

import itertools
import json
import re
import sqlite3
import uuid
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

import pytest

from datafly_lite.gateway import devices
from gateway_kit import ORIGIN, Appliance, running_appliance
from kit import request, wait_until

WINDOWS = (
    "Mozilla/5.0 (Windows NT 10.0; Win64; x64) AppleWebKit/537.36 (KHTML, like Gecko) "
    "Chrome/{version}.0.0.0 Safari/537.36"
)
IPHONE = (
    "Mozilla/5.0 (iPhone; CPU iPhone OS {version}_1 like Mac OS X) AppleWebKit/605.1.15 "
    "(KHTML, like Gecko) Version/{version}.1 Mobile/15E148 Safari/604.1"
)
HEAD = {
    "User-Agent": WINDOWS.format(version=131),
    "Accept-Language": "de-DE,de;q=0.9,en;q=0.8",
    "Sec-CH-UA-Platform": '"Windows"',
    "Sec-CH-UA-Mobile": "?0",
}
COOKIE = re.compile(r"([a-z_]+)=([^;]*); (.*)")
COMMON = {"Path=/", "HttpOnly", "SameSite=Lax"}
numbers = itertools.count()


@pytest.fixture(scope="module")
def appliance(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Appliance]:
    with running_appliance(
        tmp_path_factory.mktemp("devices") / "data", identity_config={"device_recognition": True}
    ) as running:
        yield running


class Seen(NamedTuple):
    """What came of a page view: the cookies that were set, and the event's visitor."""

    cookies: dict[str, str]
    attributes: dict[str, set[str]]
    visitor: str


def view(
    appliance: Appliance, cookies: dict[str, str] | None = None, consent: Any = None, **head: str | None
) -> Seen:
    """A page view by a browser; a header that is None is not sent."""
    message_id = f"m-{next(numbers)}"
    context = {} if consent is None else {"consent": consent}
    body = {"type": "page", "messageId": message_id, "context": context}
    named = {name.replace("_", "-"): value for name, value in head.items()}
    headers = {"Authorization": f"Bearer {appliance.pipeline.key}", "Origin": ORIGIN, **HEAD, **named}
    if cookies:
        headers["Cookie"] = "; ".join(f"{name}={value}" for name, value in cookies.items())
    sent = {name: value for name, value in headers.items() if value is not None}
    answer = request(f"{appliance.server.base_url}/v1/p", "POST", json.dumps(body).encode(), sent)
    assert answer.status == 200, answer.body
    found = [COOKIE.fullmatch(one) for one in answer.headers.get_all("Set-Cookie") or []]
    return Seen(
        {one[1]: one[2] for one in found if one},
        {one[1]: set(one[3].split("; ")) for one in found if one},
        appliance.stored(message_id)["anonymousId"],
    )


def known(appliance: Appliance, device: str) -> dict[str, Any] | None:
    """The device's row."""
    with sqlite3.connect(f"file:{appliance.database}?mode=ro", uri=True) as connection:
        connection.row_factory = sqlite3.Row
        row = connection.execute("SELECT * FROM devices WHERE device_id = ?", (device,)).fetchone()
    connection.close()
    return dict(row) if row else None


def test_a_second_cookie_is_set_beside_the_first(appliance: Appliance) -> None:
    seen = view(appliance)
    assert set(seen.cookies) == {"_dfid", "_dfdid"}
    assert seen.cookies["_dfid"] == seen.visitor
    assert uuid.UUID(seen.cookies["_dfdid"]).version == 4
    assert seen.cookies["_dfdid"] != seen.cookies["_dfid"]
    assert seen.attributes["_dfdid"] == seen.attributes["_dfid"] == COMMON | {"Max-Age=34560000"}
    row = known(appliance, seen.cookies["_dfdid"])
    assert row is not None
    assert (row["anonymous_id"], row["pipeline_id"]) == (seen.visitor, appliance.pipeline.id)
    assert "131" not in row["signals"]
    assert "127.0.0.1" not in json.dumps(row)


def test_a_visitor_whose_cookie_is_gone_is_known_again(appliance: Appliance) -> None:
    first = view(appliance)
    later = view(appliance, {"_dfdid": first.cookies["_dfdid"]}, User_Agent=WINDOWS.format(version=140))
    assert later.visitor == first.visitor
    assert later.cookies == first.cookies, "both cookies are set again"


def test_while_the_first_cookie_is_there_nothing_is_set_and_it_names_the_visitor(
    appliance: Appliance,
) -> None:
    first, other = view(appliance), view(appliance)
    seen = view(appliance, {"_dfid": first.visitor, "_dfdid": other.cookies["_dfdid"]})
    assert (seen.visitor, seen.cookies) == (first.visitor, {})


def test_a_visitor_from_before_gets_the_second_cookie(appliance: Appliance) -> None:
    visitor = str(uuid.uuid4())
    seen = view(appliance, {"_dfid": visitor})
    assert set(seen.cookies) == {"_dfdid"}
    assert view(appliance, seen.cookies).visitor == visitor


@pytest.mark.parametrize(
    "head",
    [
        {"User_Agent": IPHONE.format(version=17)},
        {"User_Agent": WINDOWS.format(version=131).replace("Chrome", "Firefox")},
        {"User_Agent": None},
        {"User_Agent": "curl/8.0"},
        {"Accept_Language": "fr-FR"},
        {"Accept_Language": None},
        {"Sec_CH_UA_Platform": '"macOS"'},
        {"Sec_CH_UA_Mobile": "?1"},
        {"Sec_CH_UA_Platform": None},
    ],
    ids=str,
)
def test_where_anything_differs_it_is_somebody_new(appliance: Appliance, head: dict[str, str | None]) -> None:
    first = view(appliance)
    seen = view(appliance, {"_dfdid": first.cookies["_dfdid"]}, **head)
    assert seen.visitor != first.visitor
    assert seen.cookies["_dfid"] == seen.visitor
    assert seen.cookies["_dfdid"] != first.cookies["_dfdid"]
    row = known(appliance, first.cookies["_dfdid"])
    assert row is not None
    assert row["anonymous_id"] == first.visitor, "the device's own visitor stays"


@pytest.mark.parametrize(
    "device",
    ["", "x", str(uuid.uuid4()), "' OR 1=1 --", str(uuid.uuid1()), "A" * 5_000],
    ids=lambda one: one[:20],
)
def test_an_unknown_device_is_somebody_new(appliance: Appliance, device: str) -> None:
    seen = view(appliance, {"_dfdid": device})
    assert seen.cookies["_dfid"] == seen.visitor
    assert seen.cookies["_dfdid"] != device


REFUSALS = [{"consent": {"functional": False}}, {"Sec_GPC": "1"}]


@pytest.mark.parametrize("refusal", REFUSALS, ids=["consent", "GPC"])
def test_who_refuses_is_neither_known_again_nor_given_the_cookie(
    appliance: Appliance, refusal: dict[str, Any]
) -> None:
    assert set(view(appliance, **refusal).cookies) == {"_dfid"}
    assert view(appliance, {"_dfid": str(uuid.uuid4())}, **refusal).cookies == {}
    first = view(appliance)
    device = first.cookies["_dfdid"]
    seen = view(appliance, {"_dfdid": device}, **refusal)
    assert seen.visitor != first.visitor
    assert seen.cookies["_dfdid"] == ""
    assert "Max-Age=0" in seen.attributes["_dfdid"]
    assert known(appliance, device) is None, "and the device is forgotten"
    assert view(appliance, {"_dfdid": device}).visitor != first.visitor


def await_choice(appliance: Appliance, visitor: str, **choices: bool) -> None:
    """Until the processing keeps what the visitor said."""

    def is_kept() -> bool:
        with sqlite3.connect(f"file:{appliance.database}?mode=ro", uri=True) as connection:
            row = connection.execute(
                "SELECT consent FROM identities WHERE anonymous_id = ?", (visitor,)
            ).fetchone()
        connection.close()
        return bool(row) and choices.items() <= json.loads(row[0]).get("choices", {}).items()

    wait_until(is_kept, f"{choices} is kept")


def test_a_refusal_that_was_made_before_still_holds(appliance: Appliance) -> None:
    visitor = view(appliance, consent={"functional": False}).cookies["_dfid"]
    await_choice(appliance, visitor, functional=False)
    assert view(appliance, {"_dfid": visitor}).cookies == {}, "a silent event changes nothing"
    assert view(appliance, {"_dfid": visitor}, {"functional": True}).cookies.keys() == {"_dfdid"}


def test_who_refused_elsewhere_is_not_known_by_the_device(appliance: Appliance) -> None:
    """Their other browser, or a server, said no for them: `_dfdid` is still there."""
    first = view(appliance)
    device = first.cookies["_dfdid"]
    view(appliance, {"_dfid": first.visitor}, {"functional": False})
    await_choice(appliance, first.visitor, functional=False)
    seen = view(appliance, {"_dfdid": device})
    assert seen.visitor != first.visitor
    assert seen.cookies == {"_dfid": seen.visitor, "_dfdid": ""}
    assert known(appliance, device) is None


def test_who_agreed_once_is_known_again_though_nobody_else_is(tmp_path: Path) -> None:
    with running_appliance(tmp_path, identity_config={"device_recognition": True}) as asking:
        asks_first = {"config": {"default_policy": {"functional": False}}}
        asking.management.call("PUT", "consent-settings", asks_first)
        assert view(asking).cookies.keys() == {"_dfid"}
        first = view(asking, consent={"functional": True})
        await_choice(asking, first.visitor, functional=True)
        again = view(asking, {"_dfdid": first.cookies["_dfdid"]})
        assert (again.visitor, again.cookies) == (first.visitor, first.cookies)
        assert view(asking, first.cookies).cookies == {}


def test_other_categories_have_no_say_in_it(appliance: Appliance) -> None:
    consent = {"functional": True, "marketing": False, "analytics": False}
    assert set(view(appliance, consent=consent).cookies) == {"_dfid", "_dfdid"}


def test_a_form_and_a_server_are_given_no_device(appliance: Appliance) -> None:
    device = view(appliance).cookies["_dfdid"]
    assert view(appliance, Sec_Fetch_Dest="document").cookies == {}
    assert view(appliance, {"_dfdid": device}, Sec_Fetch_Dest="document").cookies == {}
    assert set(view(appliance, Origin=None).cookies) <= {"_dfid"}


def test_it_is_off_unless_the_pipeline_asks_for_it(appliance: Appliance) -> None:
    device = view(appliance).cookies["_dfdid"]
    path = f"pipelines/{appliance.pipeline.id}"
    appliance.management.call("PUT", path, {"identity_config": {"device_recognition": False}})
    try:
        assert set(view(appliance).cookies) == {"_dfid"}
        assert set(view(appliance, {"_dfdid": device}).cookies) == {"_dfid"}
    finally:
        back = appliance.management.call("PUT", path, {"identity_config": {"device_recognition": True}})
    assert back["identity_config"]["device_recognition"] is True


def test_the_api_takes_only_true_and_false(appliance: Appliance) -> None:
    answer = request(
        f"{appliance.server.base_url}/v1/admin/pipelines/{appliance.pipeline.id}",
        "PUT",
        b'{"identity_config": {"device_recognition": "yes"}}',
        {"Authorization": f"Bearer {appliance.management.token}", "Content-Type": "application/json"},
    )
    assert answer.status == 422
    [detail] = answer.json()["error"]["details"]
    assert detail == {"field": "identity_config.device_recognition", "message": "must be true or false"}


def test_a_device_is_forgotten_when_its_cookie_has_ended(tmp_path: Path) -> None:
    with running_appliance(tmp_path, identity_config={"device_recognition": True}) as first:
        young, old = (view(first).cookies["_dfdid"] for _ in range(2))
    with sqlite3.connect(first.database) as connection:
        connection.execute(
            "UPDATE devices SET last_seen_at_ms = last_seen_at_ms - ? WHERE device_id = ?",
            (401 * 86_400_000, old),
        )
    connection.close()
    with running_appliance(tmp_path, identity_config={"device_recognition": True}, name="Two") as second:
        newest = view(second).cookies["_dfdid"]
        wait_until(lambda: known(second, old) is None, "the old device is forgotten")
        assert None not in (known(second, young), known(second, newest))


@pytest.mark.parametrize(
    ("user_agent", "expected"),
    [
        (WINDOWS.format(version=131), {"browser": "Chrome", "os": "Windows"}),
        (IPHONE.format(version=17), {"browser": "Mobile Safari", "os": "iOS"}),
        ("", {}),
        ("\xff\x00" * 5_000, {}),
    ],
    ids=["Windows", "iPhone", "none", "nonsense"],
)
def test_signals_have_no_versions(user_agent: str, expected: dict[str, str]) -> None:
    assert devices.signals_of({b"user-agent": user_agent.encode("latin-1")}) == expected


def test_without_browser_or_system_nothing_is_known() -> None:
    whole = {"browser": "Chrome", "os": "Windows", "language": "de"}
    assert devices.agree(whole, whole)
    assert devices.agree(whole, {**whole, "platform": "Windows"}), "what is new says nothing"
    for missing in ("browser", "os"):
        rest = {name: one for name, one in whole.items() if name != missing}
        assert not devices.agree(rest, rest)
