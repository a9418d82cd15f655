"""What must survive: a database with transactions, migrations, and news of commits."""

from mesh.store.database import (
    Database,
    Row,
    StoreBusy,
    StoreError,
    Transaction,
    Violation,
    Work,
)
from mesh.store.url import connect

__all__ = [
    "Database",
    "Row",
    "StoreBusy",
    "StoreError",
    "Transaction",
    "Violation",
    "Work",
    "connect",
]
