"""The project's source as data: its modules, and what each of them imports on which line."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
PACKAGES = ("discovery", "mesh", "gateway", "services", "scripts", "tests")
CONTRACT = ("shop", "proxyless", "buf")
OURS = (*PACKAGES, *CONTRACT)


@dataclass(frozen=True)
class Import:
    """One import: which file, on which line, of what."""

    path: Path
    line: int
    target: str

    @property
    def place(self) -> str:
        return f"{self.path.relative_to(ROOT)}:{self.line}"


def within(module: str, package: str) -> bool:
    return module == package or module.startswith(package + ".")


@cache
def sources() -> dict[str, Path]:
    """Every module of ours that is written by hand, by its dotted name."""
    found = {}
    for package in PACKAGES:
        for path in sorted((ROOT / package).rglob("*.py")):
            parts = path.relative_to(ROOT).with_suffix("").parts
            found[".".join(parts[:-1] if parts[-1] == "__init__" else parts)] = path
    return found


@cache
def tree(path: Path) -> ast.Module:
    return ast.parse(path.read_text(), str(path))


def imports(path: Path) -> Iterator[Import]:
    """Every import of a file, also those inside functions and under TYPE_CHECKING."""
    for node in ast.walk(tree(path)):
        if isinstance(node, ast.Import):
            for alias in node.names:
                yield Import(path, node.lineno, alias.name)
        elif isinstance(node, ast.ImportFrom):
            around = path.relative_to(ROOT).parts[: -node.level] if node.level else ()
            module = ".".join((*around, *filter(None, [node.module])))
            for target in dict.fromkeys(_target(module, alias.name) for alias in node.names):
                yield Import(path, node.lineno, target)


def _target(module: str, name: str) -> str:
    """`from mesh.policy import backoff` is of mesh.policy.backoff, which is a module."""
    whole = f"{module}.{name}"
    place = ROOT.joinpath(*whole.split("."))
    is_module = place.with_suffix(".py").exists() or (place / "__init__.py").exists()
    return whole if is_module else module
