"""The README's promises: its Python runs as it stands, its column is the code's."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

import mesh.column

ROOT = Path(__file__).resolve().parents[2]
README = (ROOT / "README.md").read_text()
SNIPPETS = re.findall(r"^\*\*(.+?)\*\*.*?^```python\n(.*?)^```", README, re.MULTILINE | re.DOTALL)


@pytest.mark.parametrize(("title", "snippet"), SNIPPETS)
def test_a_snippet_runs_as_it_stands(title: str, snippet: str, tmp_path: Path) -> None:
    done = subprocess.run(
        [sys.executable, "-W", "error", "-c", snippet],
        cwd=tmp_path,
        env={**os.environ, "PYTHONDEVMODE": ""},
        capture_output=True,
        text=True,
        timeout=30,
        check=False,
    )

    assert done.returncode == 0, done.stderr
    assert done.stderr == ""


def test_every_snippet_is_found() -> None:
    assert len(SNIPPETS) == README.count("```python")


def test_the_column_is_the_one_in_the_code() -> None:
    shown = re.findall(r"^\| `([a-z_]+)` \|", README, re.MULTILINE)
    layers = re.findall(r"^    (\w+ing\w*) ", mesh.column.__doc__ or "", re.MULTILINE)

    assert shown == layers
