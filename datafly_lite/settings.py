"""Every setting: name, type, default with its unit, one line of help.

A setting `rate_limit_rps` is the flag `--rate-limit-rps` and the variable `DATAFLY_RATE_LIMIT_RPS`.
The flag wins. A `DATAFLY_*` variable that is not in this table stops the start.
"""

from __future__ import annotations

import ipaddress
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any, Literal, get_args, get_type_hints

import msgspec

from datafly_lite.errors import SettingsError

PREFIX = "DATAFLY_"
OTHER_COMMANDS = frozenset({"DATAFLY_READYZ_URL", "DATAFLY_READYZ_TIMEOUT_S"})
"""Variables of commands that are not `serve`, which may stand in the same environment."""


def _help(text: str) -> msgspec.Meta:
    return msgspec.Meta(description=text)


class Settings(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """The values a process runs with. The text beside a name is its help."""

    data_dir: Annotated[Path, _help("Folder of the database and the key file.")] = Path("data")
    host: Annotated[str, _help("Address that the listener binds to.")] = "127.0.0.1"
    port: Annotated[int, _help("Port of the listener. 8084, as the product's documentation has it.")] = 8084
    admin_bind: Annotated[
        str,
        _help("HOST:PORT for the UI, the management API and /metrics; empty = the one listener serves all."),
    ] = ""
    public_url: Annotated[
        str, _help("The address that browsers use, for links and snippets; empty = http://HOST:PORT.")
    ] = ""
    trusted_proxies: Annotated[
        str, _help("Comma-separated networks whose X-Forwarded-For and -Proto are believed.")
    ] = ""
    cookie_domain: Annotated[str, _help("Domain of the _dfid cookie; empty = the host that was asked.")] = ""
    dev: Annotated[
        bool, _help("Demo pipeline, demo shop, vendor twins, localhost origins. For your own machine.")
    ] = False
    twins_port: Annotated[
        int, _help("Port of the vendor twins in dev mode; 0 = the listener's port plus one.")
    ] = 0
    log_level: Annotated[
        Literal["debug", "info", "warning", "error"], _help("The least level that is logged.")
    ] = "info"

    admin_email: Annotated[str, _help("Creates the owner on an empty store, with the password below.")] = ""
    admin_password: Annotated[str, _help("The owner's password on an empty store.")] = ""
    admin_password_file: Annotated[str, _help("A file that holds the owner's password.")] = ""

    max_event_size_bytes: Annotated[int, _help("Largest single event.")] = 65_536
    max_body_size_bytes: Annotated[int, _help("Largest body of a single-event request, inflated.")] = 524_288
    max_batch_body_size_bytes: Annotated[int, _help("Largest body of a batch request, inflated.")] = 5_242_880
    max_batch_events: Annotated[int, _help("Most events in one batch.")] = 2_500
    max_json_depth: Annotated[int, _help("Deepest nesting of a body.")] = 32
    body_timeout_s: Annotated[float, _help("Longest wait for a request's body.")] = 20.0
    log_queue_events: Annotated[int, _help("Most events waiting for their commit; then 503.")] = 10_000
    log_tail_events: Annotated[int, _help("Most committed events kept in memory for the processor.")] = 4_000
    dedup_window_days: Annotated[int, _help("How long a messageId is remembered.")] = 7
    geo_database: Annotated[
        str, _help("A .mmdb file that says where addresses are; empty = no event gets a place.")
    ] = ""

    synchronous: Annotated[
        Literal["FULL", "NORMAL"], _help("SQLite's synchronous. NORMAL gives up the promise at a power loss.")
    ] = "FULL"
    min_free_disk_bytes: Annotated[
        int, _help("Below this much free disk /readyz says no and ingest answers 503.")
    ] = 64 * 1024 * 1024
    readers: Annotated[int, _help("Read-only connections to the store.")] = 4

    delivery_allow_networks: Annotated[
        str, _help("Comma-separated networks that deliveries may reach by http or though private.")
    ] = ""
    delivery_timeout_s: Annotated[float, _help("Longest attempt, connection and answer together.")] = 30.0
    delivery_concurrency: Annotated[int, _help("Requests under way at once for one integration.")] = 8
    delivery_rate_limit_rps: Annotated[int, _help("Most requests a second to one integration.")] = 100
    retry_backoff_base: Annotated[
        int, _help("Base of the back-off: the nth retry waits up to base^n seconds.")
    ] = 4
    retry_max_attempts: Annotated[int, _help("Attempts before a delivery is parked in the dead letters.")] = (
        10
    )
    retry_max_delay_s: Annotated[int, _help("Longest wait between two attempts.")] = 21_600

    management_rate_limit_rpm: Annotated[int, _help("Management requests a minute for each user.")] = 600
    access_token_ttl_s: Annotated[int, _help("Life of an access token.")] = 900
    refresh_token_ttl_s: Annotated[int, _help("Life of a refresh token.")] = 604_800
    shutdown_timeout_s: Annotated[
        float, _help("Longest wait for requests and deliveries under way at the stop.")
    ] = 6.0

    @property
    def base_url(self) -> str:
        """Where browsers reach the product, without a trailing slash."""
        host = "127.0.0.1" if self.host in ("0.0.0.0", "::") else self.host  # noqa: S104 - compared, not bound
        host = f"[{host}]" if ":" in host else host
        return self.public_url.rstrip("/") or f"http://{host}:{self.port}"

    @property
    def database(self) -> Path:
        """The one file."""
        return self.data_dir / "datafly.db"


def networks(text: str, *, setting: str) -> tuple[ipaddress.IPv4Network | ipaddress.IPv6Network, ...]:
    """`"10.0.0.0/8, ::1"` -> networks. Raises SettingsError with the name of the setting."""
    try:
        return tuple(ipaddress.ip_network(part.strip()) for part in text.split(",") if part.strip())
    except ValueError as error:
        raise SettingsError(
            f"{setting}: {error}; write networks such as 10.0.0.0/8, comma-separated"
        ) from None


def described() -> list[tuple[str, Any, Any, str]]:
    """(name, type, default, help) of each setting, in the table's order."""
    hints = get_type_hints(Settings, include_extras=True)
    rows = []
    for field in msgspec.structs.fields(Settings):
        kind, meta = get_args(hints[field.name])
        rows.append((field.name, kind, field.default, meta.description))
    return rows


def refuse_unknown(environ: Mapping[str, str]) -> None:
    """Raise SettingsError where a DATAFLY_* variable is no setting: a typing error, or an old name."""
    known = {PREFIX + name.upper() for name, *_ in described()} | OTHER_COMMANDS
    unknown = sorted(name for name in environ if name.startswith(PREFIX) and name not in known)
    if unknown:
        raise SettingsError(
            f"unknown setting {', '.join(unknown)}; `datafly-lite serve --help` lists them all"
        )
