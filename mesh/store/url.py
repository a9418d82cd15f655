"""A URL chooses the database: sqlite:///relative.db, sqlite:////absolute.db."""

from pathlib import Path

from mesh.store.database import Database, StoreError
from mesh.store.sqlite import SqliteDatabase

_SQLITE = "sqlite:///"


def connect(url: str) -> Database:
    """The database that `url` names; nothing is opened until it is entered."""
    if not url.startswith(_SQLITE):
        raise StoreError(repr(url), "is no database URL: expected sqlite:///path/to/file.db")
    path = url.removeprefix(_SQLITE)
    if not path or path.endswith("/") or path == ":memory:":
        raise StoreError(repr(url), "names no file: expected sqlite:///path/to/file.db")
    return SqliteDatabase(Path(path))
