"""
Who holds a lease, told so that another process can see whether it still lives.

An owner on this very machine and pid namespace that is gone needs no waiting for its lease: a dead
process runs no handler.  Anybody else's word is the lease alone.
"""

from __future__ import annotations

import os
import socket
import uuid
from functools import cache
from pathlib import Path


@cache
def _here() -> str:
    """This machine as processes see each other: the same string means that pids are comparable."""
    try:
        namespace = Path("/proc/self/ns/pid").readlink()
        boot = Path("/proc/sys/kernel/random/boot_id").read_text().strip()
    except OSError:
        return f"{socket.gethostname()}?"
    return f"{socket.gethostname()}.{boot}.{namespace}"


def _born(pid: int) -> str | None:
    """When the process started, in ticks since boot; None when there is no such process."""
    try:
        stat = Path(f"/proc/{pid}/stat").read_text()
    except OSError:
        return None
    # The name in parentheses may hold anything; state is the first field after it, start the 20th.
    state, *fields = stat.rpartition(")")[2].split()
    return None if state in ("Z", "X") else fields[18]


@cache
def _process(pid: int) -> str:
    return f"{_here()}/{pid}/{_born(pid)}"


def new_owner() -> str:
    """A name for one run of one handler in this process."""
    return f"{_process(os.getpid())}/{uuid.uuid4().hex}"


def is_gone(owner: str) -> bool:
    """Whether the owner's process is known to have ended; False when that cannot be known."""
    here, pid, born, _ = owner.split("/")
    if here != _here() or here.endswith("?") or not pid.isdigit():
        return False
    return _born(int(pid)) != born
