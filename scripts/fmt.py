"""Format the code, sort its imports and repair what ruff can repair: `scripts/fmt [path ...]`."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

from scripts.environment import ROOT


def main(arguments: list[str]) -> int:
    paths = arguments or [str(ROOT)]
    ruff = str(Path(sys.executable).parent / "ruff")
    fixed = subprocess.run([ruff, "check", "--fix-only", *paths], check=False).returncode
    return subprocess.run([ruff, "format", *paths], check=False).returncode or fixed


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
