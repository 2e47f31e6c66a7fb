"""The process as its operator meets it: starts that fail, listeners, links, metrics, the end."""

from __future__ import annotations

import json
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
    wait_until,
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
        private = ["/login", "/v1/admin/auth/me", "/metrics", "/live"]
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


def unread_connection(port: int, request_bytes: bytes) -> socket.socket:
    """A connection that asks for much and reads nothing."""
    connection = socket.socket()
    connection.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4_096)
    connection.connect(("127.0.0.1", port))
    connection.settimeout(5)
    connection.sendall(request_bytes)
    return connection


def test_clients_that_do_not_read_cannot_keep_the_process(data_dir: Path) -> None:
    """Pipelined requests without reading, and a live stream whose frames nobody takes."""
    with running_server(data_dir, env={"DATAFLY_SHUTDOWN_TIMEOUT_S": "1"}) as server:
        pipeline = create_pipeline(server)
        token = Management(server.base_url).token
        stream = (
            b"GET /v1/admin/debug/stream HTTP/1.1\r\nHost: 127.0.0.1\r\nUpgrade: websocket\r\n"
            b"Connection: Upgrade\r\nSec-WebSocket-Version: 13\r\n"
            b"Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n"
            b"Authorization: Bearer %s\r\n\r\n" % token.encode()
        )
        with (
            unread_connection(server.port, b"GET /d.js HTTP/1.1\r\nHost: 127.0.0.1\r\n\r\n" * 300),
            unread_connection(server.port, stream) as watching,
        ):
            subscribe = b'{"action":"subscribe","filters":{}}'
            mask = b"\x01\x02\x03\x04"
            masked = bytes(one ^ mask[place % 4] for place, one in enumerate(subscribe))
            watching.sendall(bytes([0x81, 0x80 | len(subscribe)]) + mask + masked)
            for _ in range(100):
                send_event(
                    server, pipeline.key, {"type": "track", "event": "x", "properties": {"t": "y" * 50_000}}
                )
            assert server.terminate() == 0


def test_what_is_made_is_for_its_owners_eyes_alone(data_dir: Path) -> None:
    with running_server(data_dir):
        modes = {one.name: one.stat().st_mode & 0o077 for one in [data_dir, *data_dir.iterdir()]}
    assert set(modes) >= {"data", "datafly.db", "datafly.db-wal", "secret.key"}
    assert set(modes.values()) == {0}


def test_a_key_that_is_a_folder_is_said_so(data_dir: Path) -> None:
    (data_dir / "secret.key").mkdir(parents=True)
    code, output = run("serve", "--port", str(free_port()), "--data-dir", str(data_dir))
    assert (code, "secret.key cannot be read" in one_line(output)) == (1, True)


def test_the_demo_is_mended_at_each_start(data_dir: Path) -> None:
    """Its pipeline deleted, and the twins on another port than the time before."""
    with running_server(data_dir, dev=True) as server:
        management = Management(server.base_url)
        management.call("DELETE", f"pipelines/{management.call('GET', 'pipelines')['pipelines'][0]['id']}")
    with running_server(data_dir, dev=True) as server:
        management = Management(server.base_url)
        demo = management.call("GET", "pipelines")["pipelines"][0]
        attached = management.call("GET", f"pipelines/{demo['id']}/integrations")["data"]
        assert sorted(one["integration_name"] for one in attached) == ["GA4 twin", "Webhook twin"]
        send_event(
            server, demo["pipeline_key"], {"type": "track", "event": "x", "messageId": "to-the-new-port"}
        )
        path = f"events/{demo['id']}/to-the-new-port"
        wait_until(
            lambda: (
                [one["status"] for one in management.call("GET", path)["deliveries"]]
                == ["delivered", "delivered"]
            ),
            "the twins of this start got it",
        )


def test_behind_a_trusted_proxy_log_ins_are_counted_by_their_own_address(data_dir: Path) -> None:
    with running_server(data_dir, env={"DATAFLY_TRUSTED_PROXIES": "127.0.0.1/32"}) as server:

        def log_in(address: str, password: str) -> int:
            body = json.dumps({"email": OWNER_EMAIL, "password": password}).encode()
            headers = {"X-Forwarded-For": f"203.0.113.250, {address}"}
            return request(f"{server.base_url}/v1/admin/auth/login", "POST", body, headers).status

        assert {log_in("198.51.100.1", "wrong") for _ in range(12)} <= {401, 429}
        assert log_in("198.51.100.2", OWNER_PASSWORD) == 200
