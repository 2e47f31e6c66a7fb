"""The process as its operator meets it: starts that fail, listeners, links, metrics, the end."""

from __future__ import annotations

import re
import socket
import subprocess
import sys
from pathlib import Path

import pytest

from datafly_lite import __version__, settings
from datafly_lite.errors import SettingsError
from kit import (
    OWNER_EMAIL,
    OWNER_PASSWORD,
    Management,
    create_pipeline,
    environment,
    free_port,
    request,
    running_server,
    send_event,
)

COMMAND = (sys.executable, "-m", "datafly_lite")


def run(*arguments: str, **variables: str) -> tuple[int, str]:
    """The exit code and all that a command printed."""
    done = subprocess.run(
        [*COMMAND, *arguments],
        capture_output=True,
        text=True,
        timeout=60,
        env=environment(variables),
        check=False,
    )
    return done.returncode, done.stdout + done.stderr


def one_line(output: str) -> str:
    """The error, which is one line and no traceback."""
    lines = [line for line in output.splitlines() if line]
    assert len(lines) == 1, output
    assert lines[0].startswith("datafly-lite: ")
    return lines[0]


def test_the_version() -> None:
    assert run("--version") == (0, f"datafly-lite, version {__version__}\n")


def test_help_names_every_setting_and_its_variable() -> None:
    code, output = run("serve", "--help")
    assert code == 0
    for name, *_ in settings.described():
        assert f"--{name.replace('_', '-')}" in output
        assert f"DATAFLY_{name.upper()}" in output


@pytest.mark.parametrize(
    ("variables", "said"),
    [
        ({"DATAFLY_PROT": "1"}, "unknown setting DATAFLY_PROT"),
        ({"DATAFLY_TRUSTED_PROXIES": "me"}, "trusted_proxies"),
        ({"DATAFLY_DELIVERY_ALLOW_NETWORKS": "10.0.0.1/8"}, "delivery_allow_networks"),
        ({"DATAFLY_ADMIN_EMAIL": "a@b.example", "DATAFLY_ADMIN_PASSWORD": "short"}, "at least 12 characters"),
        ({"DATAFLY_ADMIN_PASSWORD_FILE": "/nowhere/at/all"}, "admin_password_file"),
    ],
    ids=lambda one: next(iter(one), "") if isinstance(one, dict) else "",
)
def test_a_setting_that_cannot_be_used_stops_the_start(
    data_dir: Path, variables: dict[str, str], said: str
) -> None:
    code, output = run("serve", "--port", str(free_port()), "--data-dir", str(data_dir), **variables)
    assert code == 1
    assert said in one_line(output)


def test_a_value_of_the_wrong_type_is_named() -> None:
    code, output = run("serve", "--port", "eighty")
    assert code == 2
    assert "'--port'" in output
    assert "Traceback" not in output


def test_a_busy_port_costs_nothing(data_dir: Path) -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        code, output = run("serve", "--port", str(taken.getsockname()[1]), "--data-dir", str(data_dir))
    assert code == 1
    assert "Address already in use" in one_line(output)
    assert not data_dir.exists()


def test_a_second_process_on_the_same_folder_is_refused(data_dir: Path) -> None:
    with running_server(data_dir) as server:
        code, output = run("serve", "--port", str(free_port()), "--data-dir", str(data_dir))
        assert code == 1
        assert "another datafly-lite is running" in one_line(output)
        assert run(
            "admin", "create", "--data-dir", str(data_dir), "--email", "a@b.example", "--password", "x" * 20
        )[0]
        assert run("readyz", "--port", str(server.port))[0] == 0
    assert run("readyz", "--port", str(server.port))[0] == 1


def test_a_lost_key_file_is_not_replaced(data_dir: Path) -> None:
    with running_server(data_dir):
        assert (data_dir / "secret.key").stat().st_mode & 0o777 == 0o600
    (data_dir / "secret.key").rename(data_dir / "away.key")
    code, output = run("serve", "--port", str(free_port()), "--data-dir", str(data_dir))
    assert code == 1
    assert "secret.key is missing" in one_line(output)
    assert not (data_dir / "secret.key").exists()


def test_the_owner_is_made_and_given_a_new_password_from_the_command_line(data_dir: Path) -> None:
    make = ("admin", "create", "--data-dir", str(data_dir), "--email", "Me@Example.com", "--password")
    code, output = run(*make, "short")
    assert (code, "at least 12 characters" in one_line(output)) == (1, True)
    assert run(*make, "a first long password") == (0, "me@example.com is the owner now\n")
    code, output = run(*make, "a second long password")
    assert (code, "new password" in output) == (0, True)
    with running_server(data_dir) as server:
        for password, status in (("a first long password", 401), ("a second long password", 200)):
            body = f'{{"email": "me@example.com", "password": "{password}"}}'.encode()
            assert request(f"{server.base_url}/v1/admin/auth/login", "POST", body).status == status


def test_the_first_start_prints_a_link_that_works_once(data_dir: Path) -> None:
    with running_server(data_dir, env={"DATAFLY_ADMIN_EMAIL": "", "DATAFLY_ADMIN_PASSWORD": ""}) as server:
        found = re.search(r"http://\S+/setup\?token=(\S+)", server.output())
        assert found is not None
        body = f'{{"token": "{found[1]}", "email": "{OWNER_EMAIL}", "password": "{OWNER_PASSWORD}"}}'.encode()
        assert request(f"{server.base_url}/v1/admin/setup", "POST", body).status == 201
        assert request(f"{server.base_url}/v1/admin/setup", "POST", body).status == 410


def test_with_admin_bind_the_public_listener_serves_collection_alone(data_dir: Path) -> None:
    bind = f"127.0.0.1:{free_port()}"
    with running_server(data_dir, env={"DATAFLY_ADMIN_BIND": bind}) as server:
        private = ["/login", "/v1/admin/auth/me", "/metrics", "/events"]
        for path in private:
            assert request(f"{server.base_url}{path}").status == 404
            assert request(f"http://{bind}{path}").status in (200, 303, 401)
        for path in ("/healthz", "/readyz", "/d.js"):
            assert request(f"{server.base_url}{path}").status == 200
        assert request(f"{server.base_url}/v1/t", "POST", b"{}").status == 401


def test_metrics_count_what_came_and_what_was_refused(data_dir: Path) -> None:
    with running_server(data_dir) as server:
        pipeline = create_pipeline(server)
        event = {"type": "track", "event": "x", "messageId": "m-1"}
        for _ in range(3):
            send_event(server, pipeline.key, event)
        send_event(server, "dk_nobody", event)
        page = request(f"{server.base_url}/metrics").body.decode()
        assert f'datafly_events_received_total{{pipeline="{pipeline.id}"}} 3.0' in page
        assert f'datafly_events_duplicate_total{{pipeline="{pipeline.id}"}} 2.0' in page
        assert 'datafly_events_rejected_total{reason="invalid_key"} 1.0' in page
        assert "datafly_log_end_offset 1.0" in page
        assert "nobody" not in page


def test_a_nearly_full_disk_stops_ingest_but_not_the_pages(data_dir: Path) -> None:
    with running_server(data_dir) as server:
        pipeline = create_pipeline(server)
    above_any_disk = {"DATAFLY_MIN_FREE_DISK_BYTES": str(2**62)}
    with running_server(data_dir, env=above_any_disk, up="/healthz") as server:
        refused = send_event(server, pipeline.key, {"type": "track", "event": "x"})
        assert (refused.status, refused.json()["code"]) == (503, "storage_unavailable")
        assert int(refused.headers["Retry-After"]) > 0
        ready = request(f"{server.base_url}/readyz")
        assert (ready.status, [one["name"] for one in ready.json()["checks"] if not one["ok"]]) == (
            503,
            ["disk"],
        )
        assert Management(server.base_url).call("GET", "pipelines")["total"] == 1


@pytest.mark.parametrize("text", ["10.0.0.0/8, ::1", "", " 127.0.0.1 "])
def test_networks_are_read(text: str) -> None:
    assert len(settings.networks(text, setting="x")) == len([one for one in text.split(",") if one.strip()])


def test_a_host_with_bits_set_is_no_network() -> None:
    with pytest.raises(SettingsError, match=r"x: 10\.0\.0\.1/8 has host bits set"):
        settings.networks("10.0.0.1/8", setting="x")
