"""
How much memory processes take together: the sum of PSS, so that a shared page counts once.

PSS ("proportional set size") gives each process its share of the pages it has in common with
others; it is read from /proc/PID/smaps_rollup (Linux).
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from pathlib import Path

PROC = Path("/proc")


def megabytes(pids: Iterable[int]) -> float | None:
    """The PSS of the processes and of all they started; None where the kernel does not tell."""
    if not (PROC / "self" / "smaps_rollup").exists():
        return None
    parents = _parents()
    wanted = set(pids)
    grown = True
    while grown:
        started = {pid for pid, parent in parents.items() if parent in wanted} - wanted
        grown = bool(started)
        wanted |= started
    return sum(map(_kilobytes, wanted)) / 1024


def alone(pid: int) -> float:
    """The PSS of one process in megabytes, without what it started."""
    return _kilobytes(pid) / 1024


def _parents() -> dict[int, int]:
    """Every process and who started it."""
    parents = {}
    for status in PROC.glob("[0-9]*/stat"):
        try:
            # The second field is the name in brackets and may hold anything, the fourth the parent.
            fields = status.read_text().rpartition(")")[2].split()
        except OSError:  # it ended meanwhile
            continue
        parents[int(status.parent.name)] = int(fields[1])
    return parents


def _kilobytes(pid: int) -> int:
    try:
        rollup = (PROC / str(pid) / "smaps_rollup").read_text()
    except OSError:
        return 0
    match = re.search(r"^Pss:\s+(\d+) kB", rollup, re.MULTILINE)
    return int(match[1]) if match else 0
