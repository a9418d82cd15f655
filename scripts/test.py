"""
Run the tests: `scripts/test [--all] [pytest's own arguments]`.

Without --all the tests marked slow are left out.  Real programs to compare with (Consul, grpcurl)
are fetched once into .tools/; what cannot be had is said, and its tests skip.
"""

from __future__ import annotations

import os
import sys

from scripts import parts
from scripts.environment import ROOT


def main(arguments: list[str]) -> None:
    everything = "--all" in arguments
    rest = [argument for argument in arguments if argument != "--all"]
    parts.main([])
    sys.stdout.flush()
    os.chdir(ROOT)
    chosen = [] if everything else ["-m", "not slow"]
    os.execv(sys.executable, [sys.executable, "-m", "pytest", *chosen, *rest])  # noqa: S606


if __name__ == "__main__":
    main(sys.argv[1:])
