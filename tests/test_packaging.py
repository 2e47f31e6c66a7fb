"""What is shipped is what runs: the wheel, made through the sdist, and the editable install."""

from __future__ import annotations

import re
import subprocess
import sys
import tarfile
import tomllib
import zipfile
from pathlib import Path
from typing import Any

import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

from datafly_lite import __version__
from kit import Server, request, running_server

ROOT = Path(__file__).parent.parent
LOCK = ROOT / ".ci" / "requirements.lock"
PINNED = re.compile(r"^([A-Za-z0-9._-]+)==([^ ;\\]+)", re.MULTILINE)
STYLESHEET = re.compile(r'<link[^>]+href="([^"]+\.css[^"]*)"')


@pytest.fixture(scope="module")
def dist(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The sdist, and the wheel built from it."""
    folder = tmp_path_factory.mktemp("dist")
    command = [sys.executable, "-m", "build", "--no-isolation", "--outdir", str(folder), str(ROOT)]
    built = subprocess.run(command, capture_output=True, text=True)
    assert built.returncode == 0, built.stdout + built.stderr
    return folder


@pytest.fixture(scope="module")
def installed(dist: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The wheel in a venv of its own, with the locked releases; the venv's bin folder."""
    venv = tmp_path_factory.mktemp("venv") / "venv"
    uv = [sys.executable, "-m", "uv"]
    subprocess.run([*uv, "venv", "--quiet", "--python", sys.executable, str(venv)], check=True)
    python, wheel = str(venv / "bin" / "python"), str(next(dist.glob("*.whl")))
    install = ["pip", "install", "--quiet", "--python", python, "--constraint", str(LOCK), wheel]
    subprocess.run([*uv, *install], check=True)
    return venv / "bin"


def shipped_files() -> set[str]:
    """What stands at the top of the checkout and travels inside the package."""
    web = {path.relative_to(ROOT).as_posix() for path in (ROOT / "web").rglob("*") if path.is_file()}
    return {f"datafly_lite/{name}" for name in web | {"schema.sql"}}


def test_the_wheel_carries_the_pages_and_the_schema(dist: Path) -> None:
    with zipfile.ZipFile(next(dist.glob("*.whl"))) as wheel:
        names = set(wheel.namelist())
        assert wheel.read("datafly_lite/schema.sql") == (ROOT / "schema.sql").read_bytes()
    assert shipped_files() - names == set()
    assert {name.split("/")[0] for name in names} == {"datafly_lite", next_dist_info(names)}


def next_dist_info(names: set[str]) -> str:
    return next(name.split("/")[0] for name in names if ".dist-info/" in name)


def test_the_sdist_carries_the_tests_and_the_licence(dist: Path) -> None:
    with tarfile.open(next(dist.glob("*.tar.gz"))) as sdist:
        names = {name.partition("/")[2] for name in sdist.getnames()}
    assert {"LICENSE", "README.md", "Makefile", "pyproject.toml", "schema.sql", "tests/kit.py"} <= names


def test_the_wheel_serves_the_pages(installed: Path, data_dir: Path) -> None:
    with running_server(data_dir, command=(str(installed / "datafly-lite"),)) as server:
        check_pages(server)


def test_the_editable_install_serves_the_pages(data_dir: Path) -> None:
    with running_server(data_dir) as server:
        check_pages(server)


def check_pages(server: Server) -> None:
    """Alive, and the page that a person sees first, with its stylesheet."""
    assert request(f"{server.base_url}/healthz").status == 200
    page = request(f"{server.base_url}/")
    while page.status in {302, 303, 307}:
        page = request(f"{server.base_url}{page.headers['Location'].removeprefix(server.base_url)}")
    assert page.status == 200, page.body
    found = STYLESHEET.search(page.body.decode())
    assert found is not None, "the page names no stylesheet"
    stylesheet = request(f"{server.base_url}{found[1]}")
    assert stylesheet.status == 200
    assert stylesheet.headers["Content-Type"].startswith("text/css")


def test_the_installed_command_says_its_version(installed: Path, dist: Path) -> None:
    said = subprocess.run(
        [installed / "datafly-lite", "--version"], capture_output=True, text=True, check=True
    )
    version = said.stdout.split()[-1]
    assert next(dist.glob("*.whl")).name.startswith(f"datafly_lite-{version}-")


def required(project: dict[str, Any]) -> list[Requirement]:
    lines = [*project["project"]["dependencies"], *project["dependency-groups"]["dev"]]
    return [Requirement(line) for line in lines]


def test_the_lock_holds_what_the_project_asks_for() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())
    locked = {canonicalize_name(name): version for name, version in PINNED.findall(LOCK.read_text())}
    wrong = [
        str(one)
        for one in required(project)
        if not one.specifier.contains(locked.get(canonicalize_name(one.name), "0"))
    ]
    assert wrong == [], "run `make lock`"


def test_the_lock_names_no_index_and_hashes_everything() -> None:
    text = LOCK.read_text()
    assert "://" not in text
    assert "--index-url" not in text
    entries = re.split(r"^(?=[A-Za-z0-9])", text, flags=re.MULTILINE)[1:]
    assert [entry.split()[0] for entry in entries if "--hash=sha256:" not in entry] == []


def test_the_container_says_the_version_it_carries() -> None:
    assert f"ARG VERSION={__version__}\n" in (ROOT / "Containerfile").read_text()
