"""A URL chooses the database: sqlite:///relative.db, sqlite:////absolute.db, postgresql://host/db."""

from pathlib import Path

from mesh.store.database import Database, StoreError
from mesh.store.sqlite import SqliteDatabase

_SQLITE = "sqlite:///"
_POSTGRES = ("postgresql://", "postgres://")
_EXPECTED = "expected sqlite:///path/to/file.db or postgresql://host/database"


def connect(url: str) -> Database:
    """The database that `url` names; nothing is opened until it is entered."""
    if url.startswith(_POSTGRES):
        return _postgres(url)
    if not url.startswith(_SQLITE):
        raise StoreError(repr(url), f"is no database URL: {_EXPECTED}")
    path = url.removeprefix(_SQLITE)
    if not path or path.endswith("/") or path == ":memory:":
        raise StoreError(repr(url), f"names no file: {_EXPECTED}")
    return SqliteDatabase(Path(path))


def _postgres(url: str) -> Database:
    try:
        from mesh.store.postgres import PostgresDatabase  # noqa: PLC0415 - an extra
    except ModuleNotFoundError as error:
        if error.name != "psycopg":
            raise
        scheme = url.partition("://")[0]
        cause = "needs psycopg: install proxyless with its extra, 'proxyless[postgres]'"
        raise StoreError(f"{scheme}://...", cause) from error
    return PostgresDatabase(url)
