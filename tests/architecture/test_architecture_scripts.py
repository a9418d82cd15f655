"""Every script has its launcher and its line in the README, and what they promise to be."""

from __future__ import annotations

import ast
import os
import re
import shutil
import subprocess
from pathlib import Path

import pytest

from tests.architecture.source import ROOT, tree

SCRIPTS = ROOT / "scripts"
# Not verbs: what the launchers themselves run.
BEHIND = {"environment"}
VERBS = sorted({path.stem for path in SCRIPTS.glob("*.py")} - BEHIND - {"__init__"})
README = (ROOT / "README.md").read_text()


@pytest.mark.parametrize("verb", VERBS)
def test_a_script_has_a_launcher_of_at_most_five_lines(verb: str) -> None:
    launcher = SCRIPTS / verb
    lines = launcher.read_text().splitlines()

    assert os.access(launcher, os.X_OK)
    assert lines[0].startswith("#!")
    assert lines[1].startswith("# "), "the second line says what it does"
    assert len(lines) <= 5


@pytest.mark.parametrize("verb", VERBS)
def test_a_script_says_what_it_does_and_stands_in_the_readme(verb: str) -> None:
    assert ast.get_docstring(tree(SCRIPTS / f"{verb}.py"))
    assert f"scripts/{verb}" in README


def test_every_launcher_has_its_script() -> None:
    launchers = {path.name for path in SCRIPTS.iterdir() if path.is_file() and not path.suffix}

    assert launchers == set(VERBS)


def test_every_script_and_file_that_the_readme_names_exists() -> None:
    named = set(
        re.findall(r"`((?:scripts|docs|tests|protos|services|mesh|gateway)/[\w./-]+)", README)
    )
    missing = {name for name in named if not (ROOT / name).exists()}

    assert not missing


def test_launchers_complain_in_one_line_where_there_is_no_python(tmp_path: Path) -> None:
    (tmp_path / "scripts").mkdir()
    launch = shutil.copy(SCRIPTS / "launch.sh", tmp_path / "scripts")
    (tmp_path / "bin").mkdir()
    (tmp_path / "bin" / "dirname").symlink_to(shutil.which("dirname") or "")

    done = subprocess.run(
        ["/bin/sh", launch, "requirements.lock", "demo"],
        env={"PATH": str(tmp_path / "bin")},
        capture_output=True,
        text=True,
        check=False,
    )

    assert done.returncode == 2
    assert done.stderr.startswith("demo: Python 3.11 or newer is needed")
    assert done.stderr.count("\n") == 1
