"""What `import mesh` offers: exactly what it says, and no grpc before it is needed."""

from __future__ import annotations

import importlib.util
import subprocess
import sys

import pytest

import mesh


def test_every_name_that_is_offered_exists():
    assert mesh.__all__ == sorted(mesh.__all__)
    for name in mesh.__all__:
        assert getattr(mesh, name) is not None
    assert set(mesh.__all__) <= set(dir(mesh))


def test_no_other_name_is_offered():
    with pytest.raises(AttributeError, match="nothing"):
        mesh.nothing  # noqa: B018


def test_a_policy_is_read_without_grpc():
    script = "import sys, mesh; mesh.Policy.production(); sys.exit('grpc' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", script], check=False).returncode == 0


def test_no_module_hides_an_offered_name():
    """`import mesh.guard` would otherwise put the module where the function belongs."""
    for name in mesh.__all__:
        assert importlib.util.find_spec(f"mesh.{name}") is None
