"""
Opening a SQLite file so that whatever is wrong with it is said now, in one line, and not later.

Called with the write lock held, so that of several starting processes one switches to WAL.
"""

import os
import sqlite3
from pathlib import Path

from mesh.store.database import StoreError
from mesh.store.statement import translated

# SQLite's own lock is waited for this long, in milliseconds: only foreign programs contend for it.
_BUSY_MILLISECONDS = 5000
# A file up to this size, in bytes, is checked page by page when it is opened (some 0.3 s at most).
_CHECKED_BYTES = 64 * 1024 * 1024
# Prepared statements kept per connection.
_STATEMENTS = 512


def prepare(path: Path) -> None:
    """Make the directory of `path`, and see that both may be written to."""
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise StoreError(str(path), f"cannot make its directory: {error.strerror}") from error
    if path.is_dir():
        raise StoreError(str(path), "is a directory")
    if not os.access(path.parent, os.W_OK | os.X_OK):
        raise StoreError(str(path), "its directory may not be written to")
    if path.exists() and not os.access(path, os.R_OK | os.W_OK):
        raise StoreError(str(path), "may not be written to")


def open_writer(path: Path) -> sqlite3.Connection:
    """A connection that commits durably; proves that the file is sound and may be written to."""
    connection = _connect(path)
    try:
        with translated(str(path)):
            (mode,) = connection.execute("pragma journal_mode = wal").fetchone()
            if mode != "wal":
                raise StoreError(str(path), f"cannot be put into WAL mode (it stays in {mode})")
            connection.execute("pragma synchronous = full")
            _check(connection, path)
            connection.execute("begin immediate")
            connection.execute("rollback")
    except BaseException:
        connection.close()
        raise
    return connection


def open_reader(path: Path) -> sqlite3.Connection:
    """A connection that can't write."""
    connection = _connect(path)
    connection.execute("pragma query_only = on")
    return connection


def _connect(path: Path) -> sqlite3.Connection:
    with translated(str(path)):
        connection = sqlite3.connect(path, isolation_level=None, cached_statements=_STATEMENTS)
        connection.row_factory = sqlite3.Row
        connection.execute(f"pragma busy_timeout = {_BUSY_MILLISECONDS:d}")
        connection.execute("pragma foreign_keys = on")
    return connection


def _check(connection: sqlite3.Connection, path: Path) -> None:
    connection.execute("select count(*) from sqlite_schema").fetchone()
    if path.stat().st_size <= _CHECKED_BYTES:
        (verdict,) = connection.execute("pragma quick_check(1)").fetchone()
        if verdict != "ok":
            raise StoreError(str(path), f"is corrupt: {verdict.strip().splitlines()[-1]}")
