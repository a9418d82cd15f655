"""
Instructions counted by callgrind, where the CPU's own counters are closed to us.

    mark()  block  mark()    mark()  block  mark()     callgrind writes a file at each mark;
       1             2          3             4        every second one holds a block

It runs the process on an emulated CPU: user space only, threads by turns, fifty times slower; but
the counts repeat within a percent whatever else the host does.
"""

from __future__ import annotations

import gc
import shutil
from collections.abc import Sequence
from pathlib import Path

# A function of the interpreter that changes nothing and that nobody else calls.
MARKER = "gc_get_freeze_count"


def mark() -> None:
    """Begin or end a block."""
    gc.get_freeze_count()


def allowed() -> bool:
    """Whether this host has callgrind."""
    return shutil.which("valgrind") is not None


def command(program: Sequence[str], folder: Path) -> list[str]:
    """The command that runs `program` and leaves its counts in `folder`."""
    return [
        "valgrind",
        "--quiet",
        "--tool=callgrind",
        f"--dump-before={MARKER}",
        f"--callgrind-out-file={folder / 'counts'}",
        *program,
    ]


def counts(folder: Path, blocks: int) -> list[int]:
    """How many instructions each block took; none where the interpreter was stripped of names."""
    files = [folder / f"counts.{2 * number}" for number in range(1, blocks + 1)]
    return [_total(file) for file in files] if all(file.exists() for file in files) else []


def _total(file: Path) -> int:
    with file.open() as lines:
        for line in lines:
            if line.startswith(("summary:", "totals:")):
                return int(line.split()[1])
    raise ValueError(f"{file} holds no total")
