"""
What is looked at before anything starts: the state's directory, its databases, the ports.

    with preflight.hold(state): ...     the directory made, writable, ours alone until left

Each thing that cannot work raises `Unfit`, whose text is one line that names it.
"""

from __future__ import annotations

import errno
import fcntl
import os
import socket
import sqlite3
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path

LOCK = "demo.lock"
# Reading a larger database whole would take longer than starting the demo.
CHECKED_WHOLE_BYTES = 64_000_000


class Unfit(Exception):
    """The demo cannot start here; the text names what and why, in one line."""


@contextmanager
def hold(state: Path) -> Iterator[None]:
    """Make the directory if it is missing and lock it until the end of the block."""
    try:
        state.mkdir(parents=True, exist_ok=True)
        lock = os.open(state / LOCK, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o644)
    except OSError as error:
        raise Unfit(f"{state}: cannot keep state here: {error.strerror}") from error
    try:
        _lock(lock, state)
        _check_databases(state)
        yield
    finally:
        os.close(lock)


def _lock(lock: int, state: Path) -> None:
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        holder = os.pread(lock, 20, 0).decode().strip() or "unknown"
        raise Unfit(f"{state}: another demo runs on it (process {holder})") from None
    os.ftruncate(lock, 0)
    os.pwrite(lock, f"{os.getpid()}\n".encode(), 0)


def _check_databases(state: Path) -> None:
    for path in sorted(state.glob("*.db")):
        for file in (path, *state.glob(f"{path.name}-*")):
            if not os.access(file, os.R_OK | os.W_OK):
                raise Unfit(f"{file}: cannot be read and written")
        try:
            said = _ask(path)
        except sqlite3.Error as error:
            raise Unfit(f"{path}: {error}; move it away to start without it") from error
        if said != "ok":
            raise Unfit(f"{path}: the database is damaged: {' '.join(said.split())}")


def _ask(path: Path) -> str:
    """What SQLite says of the file: "ok", or what is wrong with it."""
    with closing(sqlite3.connect(f"{path.as_uri()}?mode=rw", uri=True)) as database:
        if path.stat().st_size > CHECKED_WHOLE_BYTES:
            database.execute("select count(*) from sqlite_master").fetchall()
            return "ok"
        answer = database.execute("pragma quick_check(1)").fetchone()
        return str(answer[0])


def require_free(port: int, what: str, advice: str, host: str = "127.0.0.1") -> None:
    """Raise Unfit when somebody listens there already."""
    why = _cannot_bind(host, port)
    if why:
        raise Unfit(f"port {port} for {what}: {why}{advice}")


def is_free(port: int, host: str = "127.0.0.1") -> bool:
    return not _cannot_bind(host, port)


def free_port(host: str = "127.0.0.1") -> int:
    """A port that nobody listens on now."""
    with socket.socket() as probe:
        probe.bind((host, 0))
        port: int = probe.getsockname()[1]
        return port


def _cannot_bind(host: str, port: int) -> str:
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((host, port))
        except (OSError, OverflowError) as error:
            busy = isinstance(error, OSError) and error.errno == errno.EADDRINUSE
            return "something listens there already" if busy else str(error)
    return ""
