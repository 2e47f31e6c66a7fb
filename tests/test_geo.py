"""Places of addresses, from databases in each known layout; and files that are missing, wrong or replaced."""

from __future__ import annotations

import os
import threading
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from mmdb_writer import MMDBWriter
from netaddr import IPSet  # type: ignore[import-untyped]

from datafly_lite.errors import SettingsError
from datafly_lite.geo import GeoDatabase

CITY = {
    "city": {"geoname_id": 1, "names": {"de": "Rom", "en": "Rome"}},
    "country": {"iso_code": "IT", "names": {"en": "Italy"}},
    "subdivisions": [
        {"iso_code": "62", "names": {"en": "Lazio"}},
        {"iso_code": "RM", "names": {"en": "Rome"}},
    ],
    "location": {"latitude": 41.9, "longitude": 12.5, "time_zone": "Europe/Rome"},
}


def database(path: Path, record: dict[str, Any], *, kind: str = "GeoLite2-City", version: int = 6) -> Path:
    """A file that knows 81.2.69.0/24 and, where it holds IPv6, 2001:218::/32."""
    writer = MMDBWriter(version, kind, languages=["en"], ipv4_compatible=version == 6)
    networks = ["81.2.69.0/24", *(["2001:218::/32"] if version == 6 else [])]
    writer.insert_network(IPSet(networks), record)
    file = path / "made.mmdb"
    writer.to_db_file(str(file))
    return file


def opened(path: Path, record: dict[str, Any], **given: Any) -> GeoDatabase:
    return GeoDatabase.open(database(path, record, **given))


@pytest.mark.parametrize("ip", ["81.2.69.160", "2001:218::7", "::ffff:81.2.69.160"])
def test_a_place_has_country_region_city_and_time_zone(tmp_path: Path, ip: str) -> None:
    place = {"country": "IT", "region": "62", "city": "Rome", "timezone": "Europe/Rome"}
    assert opened(tmp_path, CITY).lookup(ip) == place


@pytest.mark.parametrize(
    ("record", "place"),
    [
        ({"country": {"iso_code": "GB", "names": {"en": "United Kingdom"}}}, {"country": "GB"}),
        (
            {
                "city": {"names": {"fr": "Genève"}},
                "country": {"iso_code": "CH", "is_in_european_union": False},
                "subdivisions": [{"names": {"en": "Geneva"}}],
            },
            {"country": "CH", "region": "Geneva", "city": "Genève"},
        ),
        (
            {"country_code": "US", "state1": "Ohio", "city": "Troy", "timezone": "America/New_York"},
            {"country": "US", "region": "Ohio", "city": "Troy", "timezone": "America/New_York"},
        ),
        ({"continent": {"code": "EU"}, "subdivisions": [], "city": {}, "country": {}}, {}),
        (
            {"country": {"iso_code": 7}, "city": {"names": []}, "location": "x", "subdivisions": "x"},
            {"region": "x"},
        ),
    ],
)
def test_each_layout_is_read(tmp_path: Path, record: dict[str, Any], place: dict[str, str]) -> None:
    assert opened(tmp_path, record).lookup("81.2.69.160") == place


@pytest.mark.parametrize(
    "ip", ["10.0.0.1", "127.0.0.1", "::1", "fe80::1%eth0", "8.8.8.8", "", "x", "1.2.3", "9" * 999]
)
def test_what_is_unknown_or_no_address_has_no_place(tmp_path: Path, ip: str) -> None:
    assert opened(tmp_path, CITY).lookup(ip) == {}


def test_ipv6_in_a_database_of_ipv4_has_no_place(tmp_path: Path) -> None:
    geo = opened(tmp_path, CITY, version=4)
    assert geo.lookup("2001:218::7") == {}
    assert geo.lookup("81.2.69.1")["city"] == "Rome"


def test_a_file_that_is_missing_or_wrong_says_so(tmp_path: Path) -> None:
    with pytest.raises(SettingsError, match="cannot be read: No such file"):
        GeoDatabase.open(tmp_path / "none.mmdb")
    with pytest.raises(SettingsError, match="cannot be read: Is a directory"):
        GeoDatabase.open(tmp_path)
    wrong = tmp_path / "wrong.mmdb"
    wrong.write_bytes(b"<html>not found</html>")
    with pytest.raises(SettingsError, match=r"no complete \.mmdb database"):
        GeoDatabase.open(wrong)
    with pytest.raises(SettingsError, match="GeoLite2-ASN database: a City or Country one is needed"):
        opened(tmp_path, {"autonomous_system_number": 1}, kind="GeoLite2-ASN")


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.data())
def test_a_damaged_file_is_refused_or_read_and_nothing_worse(tmp_path: Path, data: st.DataObject) -> None:
    content = bytearray(database(tmp_path, CITY).read_bytes())
    for _ in range(data.draw(st.integers(1, 4))):
        content[data.draw(st.integers(0, len(content) - 1))] = data.draw(st.integers(0, 255))
    damaged = tmp_path / "damaged.mmdb"
    damaged.write_bytes(content[: data.draw(st.integers(0, len(content)))])
    try:
        found = GeoDatabase.open(damaged).lookup("81.2.69.160")
    except SettingsError:
        return
    assert found.keys() <= {"country", "region", "city", "timezone"}


def test_a_newer_file_is_taken_up(tmp_path: Path) -> None:
    geo = opened(tmp_path, CITY)
    assert geo.refreshed() is geo
    elsewhere = tmp_path / "new"
    elsewhere.mkdir()
    database(elsewhere, {"country": {"iso_code": "FR"}}).replace(tmp_path / "made.mmdb")
    again = geo.refreshed()
    assert again.lookup("81.2.69.160") == {"country": "FR"}
    assert geo.lookup("81.2.69.160")["country"] == "IT"
    assert again.refreshed() is again


def test_a_newer_file_that_is_wrong_or_gone_leaves_the_old_one(tmp_path: Path) -> None:
    geo = opened(tmp_path, CITY)
    file = tmp_path / "made.mmdb"
    whole = file.read_bytes()
    file.write_bytes(whole[: len(whole) // 2])
    assert geo.refreshed() is geo
    assert "no complete .mmdb database" in str(geo.problem)
    assert geo.lookup("81.2.69.160")["city"] == "Rome"
    file.unlink()
    assert geo.refreshed() is geo
    file.write_bytes(whole)
    os.utime(file, (1, 1))
    again = geo.refreshed()
    assert again is not geo
    assert again.problem is None


def test_a_file_that_is_written_over_in_place_hurts_no_lookup(tmp_path: Path) -> None:
    geo = opened(tmp_path, CITY)
    file = tmp_path / "made.mmdb"
    whole = file.read_bytes()
    stop = threading.Event()

    def write() -> None:
        while not stop.is_set():
            file.write_bytes(b"")
            file.write_bytes(whole)

    thread = threading.Thread(target=write)
    thread.start()
    try:
        for n in range(300):
            geo = geo.refreshed()
            assert geo.lookup(f"81.2.69.{n % 256}")["city"] == "Rome"
    finally:
        stop.set()
        thread.join()
