"""
What must hold without running the project: lint, format, types, the contract, the compose file.

Every check runs, so that one run tells all; exit code 1 when any of them failed.
"""

from __future__ import annotations

import subprocess
import sys
import time
from pathlib import Path

from scripts.environment import ROOT

BIN = Path(sys.executable).parent
CHECKS: dict[str, tuple[str, ...]] = {
    "lint": (f"{BIN}/ruff", "check", "."),
    "format": (f"{BIN}/ruff", "format", "--check", "."),
    "types": (f"{BIN}/mypy",),
    "contract": (sys.executable, "-m", "scripts.protos", "--check"),
    "compose": (
        f"{BIN}/check-jsonschema",
        "--builtin-schema",
        "vendor.compose-spec",
        "docker-compose.yml",
    ),
}


def main(arguments: list[str]) -> int:
    unknown = [name for name in arguments if name not in CHECKS]
    if unknown:
        print(f"check: {unknown[0]!r} is not one of {', '.join(CHECKS)}", file=sys.stderr)
        return 2
    failed = [name for name in arguments or CHECKS if not _holds(name)]
    return 1 if failed else 0


def _holds(name: str) -> bool:
    began = time.monotonic()
    done = subprocess.run(
        CHECKS[name], cwd=ROOT, capture_output=True, text=True, errors="replace", check=False
    )
    verdict = "ok" if done.returncode == 0 else "FAILED"
    print(f"check: {name:9} {verdict} in {time.monotonic() - began:.1f} s", flush=True)
    if done.returncode:
        print((done.stdout + done.stderr).rstrip(), flush=True)
    return done.returncode == 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
