"""What every module keeps to: its size, its exports, and no clock or chance where it is pure."""

from __future__ import annotations

import ast
import importlib

import pytest

from tests.architecture.source import PACKAGES, ROOT, sources, tree, within

LONGEST = 350
SHIPPED = [name for name in sources() if name.split(".")[0] in ("discovery", "mesh", "gateway")]
EXPORTING = [
    name
    for name in SHIPPED
    if sources()[name].name == "__init__.py" and "__all__" in sources()[name].read_text()
]
PURE = ("mesh.errors", "mesh.call", "mesh.flow", "mesh.column", "mesh.policy", "mesh.balance")
CLOCKS = {"time.time", "time.monotonic", "time.sleep", "asyncio.sleep", "datetime.now"}
# random.Random is asked for as an argument; the module's own functions share one hidden state.
CHANCE = {"random.random", "random.uniform", "random.choice", "random.randrange", "random.shuffle"}


def test_no_file_is_longer_than_350_lines() -> None:
    written = [path for package in PACKAGES for path in (ROOT / package).rglob("*.py")]
    long = {
        str(path.relative_to(ROOT)): lines
        for path in written
        if (lines := len(path.read_text().splitlines())) > LONGEST
    }

    assert not long


def test_every_module_says_what_it_is_for() -> None:
    silent = [
        str(path.relative_to(ROOT))
        for name, path in sources().items()
        if not within(name, "tests") and tree(path).body and not ast.get_docstring(tree(path))
    ]

    assert not silent


@pytest.mark.parametrize("name", EXPORTING)
def test_a_package_exports_exactly_what_it_lists(name: str) -> None:
    module = importlib.import_module(name)
    listed = list(module.__all__)

    assert listed == sorted(listed, key=_as_ruff_sorts), f"{name}.__all__ is not sorted"
    missing = [each for each in listed if not hasattr(module, each)]
    assert not missing, f"{name}.__all__ lists what is not there"
    top = name.split(".", maxsplit=1)[0]
    imported = {
        alias.asname or alias.name
        for node in tree(sources()[name]).body
        if isinstance(node, ast.ImportFrom) and within(node.module or "", top)
        for alias in node.names
        if not alias.name.startswith("_")
    }
    assert imported <= set(listed), f"{name} imports public names that its __all__ leaves out"


def _as_ruff_sorts(name: str) -> tuple[int, str]:
    return (0 if name.isupper() else 1 if name[0].isupper() else 2, name)


@pytest.mark.parametrize("name", [n for n in SHIPPED if any(within(n, pure) for pure in PURE)])
def test_pure_modules_read_no_clock_and_throw_no_dice(name: str) -> None:
    found = [
        f"line {node.lineno}: {dotted}"
        for node in ast.walk(tree(sources()[name]))
        if isinstance(node, ast.Attribute) and (dotted := ast.unparse(node)) in CLOCKS | CHANCE
    ]

    assert not found
