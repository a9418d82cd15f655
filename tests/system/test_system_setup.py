"""The environment is made once, made anew when what it is made from changes, or refused clearly."""

from __future__ import annotations

import importlib.util
import shutil
import subprocess
import sys
from pathlib import Path
from types import ModuleType

import pytest

SCRIPTS = Path(__file__).resolve().parents[2] / "scripts"


@pytest.fixture
def environment(tmp_path: Path) -> ModuleType:
    """scripts/environment.py of a checkout of its own, with nothing in its locks."""
    (tmp_path / "scripts").mkdir()
    place = shutil.copy(SCRIPTS / "environment.py", tmp_path / "scripts")
    shutil.copy(SCRIPTS / "launch.sh", tmp_path / "scripts")
    for name in ("requirements.lock", "requirements-dev.lock", "pyproject.toml"):
        (tmp_path / name).touch()
    (tmp_path / ".venv").mkdir()
    spec = importlib.util.spec_from_file_location("environment", place)
    assert spec
    assert spec.loader
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def install(environment: ModuleType, lock: str) -> None:
    environment._stamp(lock).write_text(environment._wanted(lock))


def test_nothing_is_installed_at_first(environment: ModuleType) -> None:
    assert not environment._installed("requirements.lock")


def test_what_the_tests_need_holds_what_the_demo_needs(environment: ModuleType) -> None:
    install(environment, "requirements-dev.lock")

    assert environment._installed("requirements.lock")


def test_what_the_demo_needs_is_not_enough_for_the_tests(environment: ModuleType) -> None:
    install(environment, "requirements.lock")

    assert environment._installed("requirements.lock")
    assert not environment._installed("requirements-dev.lock")


@pytest.mark.parametrize("name", ["requirements.lock", "requirements-dev.lock", "pyproject.toml"])
def test_a_change_of_what_it_is_made_from_is_seen(environment: ModuleType, name: str) -> None:
    install(environment, "requirements.lock")
    (environment.ROOT / name).write_text("# changed")

    assert not environment._installed("requirements.lock")


def test_a_broken_python_in_its_place_is_not_taken_for_one(environment: ModuleType) -> None:
    (environment.VENV / "bin").mkdir()
    environment.PYTHON.symlink_to("/nowhere/python3")

    assert not environment._works()


@pytest.mark.slow
def test_what_cannot_be_installed_is_one_line_and_exit_code_2(environment: ModuleType) -> None:
    (environment.ROOT / "requirements.lock").write_text("not a requirement ==\n")

    done = subprocess.run(
        [sys.executable, environment.__spec__.origin, "requirements.lock", "demo"],
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )

    complaints = [line for line in done.stderr.splitlines() if not line.startswith("setup: ")]
    assert done.returncode == 2
    assert len(complaints) == 1, done.stderr
    assert complaints[0].startswith("demo: pip could not install")
