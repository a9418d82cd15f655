"""The compose file and the image start what the code has, on the ports that the code has."""

from __future__ import annotations

import importlib.util
import re
import subprocess
import sys
import tomllib
import zipfile
from pathlib import Path
from typing import Any

import pytest
from ruamel.yaml import YAML

from scripts.stage import programs
from services import process
from tests.architecture.source import ROOT

COMPOSE: dict[str, Any] = YAML(typ="safe").load(ROOT / "docker-compose.yml")
CONTAINERS: dict[str, Any] = COMPOSE["services"]
INSTANCES = {
    f"{service}-{slot}": service
    for service, count in programs.INSTANCES.items()
    for slot in range(1, count + 1)
}
DOCKERFILE = (ROOT / "Dockerfile").read_text()


def test_compose_starts_what_the_demo_starts() -> None:
    assert set(CONTAINERS) == {"consul", "gateway", *INSTANCES}


@pytest.mark.parametrize("name", INSTANCES)
def test_a_service_is_told_what_it_understands(name: str) -> None:
    service, container = INSTANCES[name], CONTAINERS[name]
    python, dash_m, module, *arguments = container["command"]

    told = process.read(service, arguments, container["environment"])

    assert (python, dash_m, module) == ("python", "-m", f"services.{service}")
    assert told.port == programs.PORTS[service]
    assert f"{service}-{told.slot}" == name
    assert told.host == "0.0.0.0"
    assert container["healthcheck"]["test"][-1] == f"127.0.0.1:{told.port}"


@pytest.mark.parametrize("service", programs.INSTANCES)
def test_instances_share_a_volume_and_the_first_one_has_the_known_port(service: str) -> None:
    ours = [CONTAINERS[name] for name in INSTANCES if INSTANCES[name] == service]
    port = programs.PORTS[service]

    assert {tuple(each["volumes"]) for each in ours} == {(f"{service}:/state",)}
    assert service in COMPOSE["volumes"]
    assert ours[0]["ports"] == [f"127.0.0.1:{port}:{port}"]
    assert not any(each["ports"] for each in ours[1:])


def test_the_gateway_and_the_registry_are_where_the_demo_has_them() -> None:
    port = programs.GATEWAY_PORT

    assert CONTAINERS["gateway"]["ports"] == [f"127.0.0.1:{port}:{port}"]
    assert f"--port={port}" in CONTAINERS["gateway"]["command"]
    assert "--pages=services.edge.pages" in CONTAINERS["gateway"]["command"]
    assert CONTAINERS["consul"]["ports"] == [f"127.0.0.1:{programs.REGISTRY_PORT}:8500"]


def test_the_image_names_modules_ports_and_files_that_exist() -> None:
    exposed = re.search(r"^EXPOSE (.+)$", DOCKERFILE, re.MULTILINE)
    assert exposed
    ports = {int(port) for port in exposed[1].split()}
    assert ports == {*programs.PORTS.values(), programs.GATEWAY_PORT}
    for module in re.findall(r'"-m", "([\w.]+)"', DOCKERFILE):
        assert importlib.util.find_spec(module), module
    copied = re.findall(r"^COPY (?!--from)(.+) \S+$", DOCKERFILE, re.MULTILINE)
    sources = {name for line in copied for name in line.split()}
    assert all((ROOT / name).exists() for name in sources)
    let_in = set(re.findall(r"^!(\S+)$", (ROOT / ".dockerignore").read_text(), re.MULTILINE))
    assert sources == let_in


def test_the_image_builds_from_the_packages_that_the_wheel_holds() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())
    packages = project["tool"]["hatch"]["build"]["targets"]["wheel"]["packages"]

    for package in packages:
        assert f"COPY {package.split('/')[0]} " in DOCKERFILE


def test_the_wheel_runs_without_the_checkout(tmp_path: Path) -> None:
    wheel = [sys.executable, "-m", "pip", "wheel", "--quiet", "--no-deps", "--no-build-isolation"]
    subprocess.run([*wheel, "--wheel-dir", tmp_path, ROOT], check=True, cwd=tmp_path)
    (built,) = tmp_path.glob("*.whl")
    held = set(zipfile.ZipFile(built).namelist())

    for name in ("mesh", "discovery", "gateway", "shop", "proxyless"):
        assert f"{name}/py.typed" in held
    assert "services/orders/__main__.py" in held
    assert process.CONTRACT.relative_to(ROOT).as_posix() in held
    assert not any(name.startswith(("tests/", "scripts/")) for name in held)
