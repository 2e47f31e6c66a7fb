"""Country, region and city of an IP address, from the operator's own .mmdb file; without one, no geography.

Read are the layouts of GeoIP2 and GeoLite2 City and Country (dev.maxmind.com/geoip/docs/databases/
city-and-country), of DB-IP (db-ip.com/db/format/ip-to-location/mmdb.html, whose subdivisions have names
and no codes), and the flat one with `country_code` (github.com/sapics/ip-location-db).

The file is held in memory, which takes as much as it is large: a file that is mapped and then written
over in place ends the process with SIGBUS. A lookup takes some 40 us, and nothing when it is remembered.
"""

from __future__ import annotations

import io
import ipaddress
import os
from functools import lru_cache
from pathlib import Path
from typing import Any

import maxminddb

from datafly_lite.errors import SettingsError

OTHER_KINDS = ("ASN", "ISP", "Domain", "Anonymous", "Connection-Type", "Proxy")
LONGEST_VALUE_CHARS = 200
REMEMBERED = 16_384

Stamp = tuple[int, int, int]
"""Modified at, size, inode: another one is another file."""


class GeoDatabase:
    """One reading of the file. `problem` says why a newer one could not be taken up; mostly it is None."""

    def __init__(self, path: Path, stamp: Stamp, reader: maxminddb.Reader) -> None:
        self._path = path
        self._stamp = stamp
        self._reader = reader
        self._remembered = lru_cache(maxsize=REMEMBERED)(self._read)
        self.problem: str | None = None

    @classmethod
    def open(cls, path: str | Path) -> GeoDatabase:
        """Raises SettingsError where the file is missing, is no such database or is just being written."""
        path = Path(path)
        try:
            stamp = _stamp(path)
            content = path.read_bytes()
            is_still = _stamp(path) == stamp
        except OSError as error:
            raise SettingsError(f"the geo database {path} cannot be read: {error.strerror}") from None
        if not is_still:
            raise SettingsError(f"the geo database {path} is just being written: try again")
        return cls(path, stamp, _reader(path, content))

    def refreshed(self) -> GeoDatabase:
        """The newer file's, where there is one that can be read; else this one. Costs one stat()."""
        try:
            stamp = _stamp(self._path)
        except OSError:
            return self  # between the old file and the new one there may be none
        if stamp == self._stamp:
            return self
        try:
            return GeoDatabase.open(self._path)
        except SettingsError as error:
            self.problem = str(error)
            # A file that is whole and wrong is read once; one that is being written changes its stamp.
            self._stamp = stamp
            return self

    def lookup(self, ip: str) -> dict[str, str]:
        """`country` and `region` as ISO codes (a region without a code by its name), `city` by its English
        name, and `timezone`; `{}` where nothing is known, as of private addresses. Shared: not to be changed.
        """
        return self._remembered(ip)

    def _read(self, ip: str) -> dict[str, str]:
        try:
            address = ipaddress.ip_address(ip)
            mapped = address.ipv4_mapped if isinstance(address, ipaddress.IPv6Address) else None
            found = self._reader.get(mapped or address)
        except Exception:
            # No address, IPv6 in a database of IPv4, or a record that is broken in one of many ways.
            return {}
        return _place(found) if isinstance(found, dict) else {}


class Places:
    """The operator's database, if there is one, as it is now: a newer file is taken up while running."""

    def __init__(self, path: str) -> None:
        """Raises SettingsError where there is a path and no database."""
        self._database = GeoDatabase.open(path) if path else None
        self._told: str | None = None

    def lookup(self, ip: str) -> dict[str, str]:
        """As GeoDatabase.lookup; `{}` without a database."""
        return self._database.lookup(ip) if self._database else {}

    def refresh(self) -> str | None:
        """Take up a newer file, if there is one; why it could not be, once, else None."""
        if self._database is None:
            return None
        self._database = self._database.refreshed()
        told, self._told = self._told, self._database.problem
        return self._told if self._told != told else None


def _stamp(path: Path) -> Stamp:
    status = os.stat(path)
    return status.st_mtime_ns, status.st_size, status.st_ino


def _reader(path: Path, content: bytes) -> maxminddb.Reader:
    file = io.BytesIO(content)
    file.name = str(path)  # the reader wants one for its messages
    try:
        reader = maxminddb.open_database(file, maxminddb.MODE_FD)
        kind = reader.metadata().database_type
        reader.get(ipaddress.IPv4Address("192.0.2.1"))
    except Exception as error:
        # The format is read by trust: what is cut off or mixed up fails in many ways.
        raise SettingsError(f"{path} is no complete .mmdb database: {error}") from None
    if any(word.casefold() in kind.casefold() for word in OTHER_KINDS):
        raise SettingsError(f"{path} is a {kind} database: a City or Country one is needed")
    return reader


def _place(found: dict[str, Any]) -> dict[str, str]:
    subdivisions = found.get("subdivisions")
    first = subdivisions[0] if isinstance(subdivisions, list) and subdivisions else subdivisions
    location = found.get("location")
    zone = location.get("time_zone") if isinstance(location, dict) else None
    place = {
        "country": found.get("country_code") or _code(found.get("country")),
        "region": _code(first) or _name(first) or found.get("state1"),
        "city": _name(found.get("city")),
        "timezone": zone or found.get("timezone"),
    }
    return {
        name: value[:LONGEST_VALUE_CHARS]
        for name, value in place.items()
        if isinstance(value, str) and value.strip()
    }


def _code(part: Any) -> Any:
    return part.get("iso_code") if isinstance(part, dict) else part


def _name(part: Any) -> Any:
    if not isinstance(part, dict):
        return part
    names = part.get("names")
    return names.get("en") or next(iter(names.values()), None) if isinstance(names, dict) else None
