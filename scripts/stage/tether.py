"""
Run a command that is told to stop when the process that started it is gone: even by kill -9.

    python -I -S tether.py PARENT COMMAND [ARGUMENT ...]

The kernel sends SIGTERM to this process when its parent ends (Linux), and that promise survives
the exec: the command itself never knows.  Where the kernel has no such promise the command just
runs.
"""

from __future__ import annotations

import ctypes
import os
import signal
import sys

PR_SET_PDEATHSIG = 1


def main(arguments: list[str]) -> None:
    parent, command = int(arguments[0]), arguments[1:]
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, signal.SIGTERM)
    if os.getppid() != parent:  # it was gone before the promise was made
        sys.exit(0)
    os.execvp(command[0], command)  # noqa: S606


if __name__ == "__main__":
    main(sys.argv[1:])
