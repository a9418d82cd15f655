"""
Write the lock files anew from pyproject.toml: `scripts/lock [--upgrade]`; needs uv on PATH.

    requirements.lock       what runs: the dependencies, and what installs the project in place
    requirements-dev.lock   all of that at the same versions, and the tools of test and check

Both pin by hash and for every platform, and name no index: pip asks whichever it knows.
requirements-protos.lock is made the same way from requirements-protos.in.
"""

from __future__ import annotations

import shutil
import subprocess
import sys

from scripts.environment import LOCKS, ROOT

FLAGS = (
    "--universal",
    "--generate-hashes",
    "--no-header",
    "--no-annotate",
    "--python-version=3.11",
    "--quiet",
)


def main(arguments: list[str]) -> int:
    uv = shutil.which("uv")
    if uv is None:
        print("lock: uv is not on PATH (pip install uv)", file=sys.stderr)
        return 2
    runtime, everything = LOCKS
    wanted = {
        runtime: ("pyproject.toml", "--group=build"),
        everything: ("pyproject.toml", "--group=dev", f"--constraint={runtime}"),
        "requirements-protos.lock": ("requirements-protos.in",),
    }
    for lock, source in wanted.items():
        command = [uv, "pip", "compile", *source, *FLAGS, f"--output-file={lock}", *arguments]
        if subprocess.run(command, cwd=ROOT, check=False).returncode:
            return 1
        print(f"lock: {lock}")
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
