"""
Run the tests: `scripts/test [--all] [pytest's own arguments]`.

Without --all the tests marked slow are left out.  The others, when nothing is asked of pytest
but perhaps -q, are spread over the cores a file at a time: most of them wait.  Real programs
to compare with (Consul, grpcurl) are fetched once into .tools/; what cannot be had is said, and its
tests skip.
"""

from __future__ import annotations

import os
import sys

from scripts import parts
from scripts.environment import ROOT

# Each has a Consul, a PostgreSQL and a broker of its own.
MOST_WORKERS = 4


def main(arguments: list[str]) -> None:
    everything = "--all" in arguments
    rest = [argument for argument in arguments if argument != "--all"]
    parts.main([])
    sys.stdout.flush()
    os.chdir(ROOT)
    chosen = [] if everything else ["-m", "not slow"]
    if not everything and rest in ([], ["-q"]):
        workers = min(len(os.sched_getaffinity(0)), MOST_WORKERS)
        chosen += [f"--numprocesses={workers}", "--dist=loadfile"]
    os.execv(sys.executable, [sys.executable, "-m", "pytest", *chosen, *rest])  # noqa: S606


if __name__ == "__main__":
    main(sys.argv[1:])
