"""What must survive: a database with transactions, migrations, and news of commits."""

from mesh.store.database import (
    Database,
    Row,
    StatementFailed,
    StoreBusy,
    StoreError,
    Transaction,
    Violation,
    Work,
)
from mesh.store.migrate import migrations
from mesh.store.url import connect

__all__ = [
    "Database",
    "Row",
    "StatementFailed",
    "StoreBusy",
    "StoreError",
    "Transaction",
    "Violation",
    "Work",
    "connect",
    "migrations",
]
