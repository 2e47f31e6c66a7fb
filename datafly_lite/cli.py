"""The commands. Every setting is a flag with a DATAFLY_* twin (settings.py)."""

from __future__ import annotations

import http.client
import os
import sys
import threading
from collections.abc import Awaitable, Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, TypeVar, get_args, get_origin
from urllib.parse import urlsplit

import anyio
import click
import structlog

from datafly_lite import __version__, logs, settings
from datafly_lite.errors import AdminError, SettingsError, StorageError
from datafly_lite.settings import PREFIX, Settings

CommandT = TypeVar("CommandT", bound=Callable[..., Any])
EXIT_FAILED = 1
PRIVATE = 0o077
"""The file holds personal data: what is made is its owner's alone to read."""
LEAVE_S = 3.0
"""For the event loop to end by itself; a connection with unread bytes would keep it for ever."""

log = structlog.get_logger(__name__)


def with_settings(command: CommandT) -> CommandT:
    """Add a flag for each setting."""
    for name, kind, default, text in reversed(settings.described()):
        flag = f"--{name.replace('_', '-')}"
        click.option(
            f"{flag}/--no-{name.replace('_', '-')}" if kind is bool else flag,
            envvar=PREFIX + name.upper(),
            type=_type(kind),
            default=default,
            show_default=True,
            show_envvar=True,
            help=text,
        )(command)
    return command


def _type(kind: Any) -> Any:
    if kind is Path:
        return click.Path(path_type=Path)
    return click.Choice(get_args(kind)) if get_origin(kind) is not None else kind


@click.group(context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 110})
@click.version_option(__version__, prog_name="datafly-lite")
def main() -> None:
    """A self-hosted customer data platform in one process and one SQLite file."""


@main.command()
@with_settings
def serve(**values: Any) -> None:
    """Start the appliance and serve until SIGTERM."""
    # The parts are heavy, and no other command needs them.
    from datafly_lite.announcing import announce
    from datafly_lite.app import run

    os.umask(PRIVATE)
    made = Settings(**values)
    logs.configure(made.log_level)
    with clear_errors():
        settings.refuse_unknown(os.environ)
        anyio.run(_serve_and_leave, run, made, announce)


async def _serve_and_leave(run: Callable[..., Awaitable[None]], *args: Any) -> None:
    """Once the store is closed all is safe, so no client that never reads its socket may hold the process."""
    code = EXIT_FAILED
    try:
        await run(*args)
        code = 0
    finally:
        leaving = threading.Timer(LEAVE_S, os._exit, (code,))
        leaving.daemon = True
        leaving.start()


@contextmanager
def clear_errors() -> Iterator[None]:
    """Say what is wrong in a line and end with 1; task groups wrap errors in groups, so look inside."""
    failures: list[BaseException] = []
    try:
        yield
    except* (SettingsError, StorageError, AdminError) as errors:
        failures = _leaves(errors)
    for error in failures:
        click.echo(f"datafly-lite: {error}", err=True)
    if failures:
        sys.exit(EXIT_FAILED)


def _leaves(group: BaseExceptionGroup[Any]) -> list[BaseException]:
    return [
        leaf
        for error in group.exceptions
        for leaf in (_leaves(error) if isinstance(error, BaseExceptionGroup) else [error])
    ]


@main.command()
@click.option(
    "--url", envvar="DATAFLY_READYZ_URL", default="", help="The appliance; empty = http://127.0.0.1:PORT."
)
@click.option(
    "--port", envvar="DATAFLY_PORT", default=8084, show_default=True, help="Its port on this machine."
)
@click.option(
    "--timeout-s",
    envvar="DATAFLY_READYZ_TIMEOUT_S",
    default=5.0,
    show_default=True,
    help="Longest wait for the answer.",
)
def readyz(url: str, port: int, timeout_s: float) -> None:
    """Ask a running appliance whether it can take events: exit code 0 if so, 1 if not."""
    target = urlsplit(url or f"http://127.0.0.1:{port}")
    kind = http.client.HTTPSConnection if target.scheme == "https" else http.client.HTTPConnection
    connection = kind(target.hostname or "127.0.0.1", target.port, timeout=timeout_s)
    try:
        connection.request("GET", "/readyz")
        answer = connection.getresponse()
        click.echo(answer.read().decode("utf-8", "replace"))
    except OSError as error:
        click.echo(f"datafly-lite: no answer from {target.geturl()}: {error}", err=True)
        sys.exit(EXIT_FAILED)
    finally:
        connection.close()
    sys.exit(0 if answer.status == 200 else EXIT_FAILED)


@main.group()
def admin() -> None:
    """People who may sign in."""


@admin.command()
@click.option(
    "--data-dir",
    envvar="DATAFLY_DATA_DIR",
    type=click.Path(path_type=Path),
    default=Path("data"),
    show_default=True,
    help="Folder of the database and the key file.",
)
@click.option("--email", envvar="DATAFLY_ADMIN_EMAIL", prompt=True, help="The owner's e-mail address.")
@click.password_option(
    envvar="DATAFLY_ADMIN_PASSWORD",
    help="The owner's password, at least 12 characters; asked for when left out.",
)
def create(data_dir: Path, email: str, password: str) -> None:
    """Create the owner, or give the owner a new password. The appliance must be stopped."""
    from datafly_lite.announcing import create_owner

    os.umask(PRIVATE)
    logs.configure("warning")
    with clear_errors():
        click.echo(anyio.run(create_owner, Settings(data_dir=data_dir), email, password))
