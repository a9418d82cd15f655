"""A real PostgreSQL server for the tests, started once and stopped with the tests' process."""

from __future__ import annotations

import atexit
from functools import cache
from pathlib import Path

import pytest

from mesh.store import Database, connect
from scripts.measuring.postgresql import Server, Unavailable, cluster

DATABASES = ("sqlite", "postgresql")


@cache
def _server() -> Server | Unavailable:
    """The server that this process's tests share, started at the first call."""
    shared = cluster()
    try:
        server = shared.__enter__()
    except Unavailable as why:
        return why
    atexit.register(shared.__exit__, None, None, None)
    return server


def new_url(sort: str, path: Path) -> str:
    """The URL of an empty database; skips the test where there is no such thing."""
    return f"sqlite:///{path}" if sort == "sqlite" else running().new_database()


def running() -> Server:
    """The shared server; skips the test where there is none."""
    found = _server()
    if isinstance(found, Unavailable):
        pytest.skip(f"no PostgreSQL: {found}")
    return found


def quiet(url: str) -> Database:
    """The database of a URL, which tells of commits only: no look that could be too early."""
    if url.startswith("sqlite"):
        return connect(url)
    from mesh.store.postgres import PostgresDatabase

    return PostgresDatabase(url, look_seconds=60.0)
