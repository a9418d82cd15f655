"""
PostgreSQL, shared by any number of processes on any number of machines.

    transaction(work) -> one of WRITERS connections:  BEGIN serializable  work  COMMIT
                            met another work, or lost its connection: again from BEGIN
    read(work)        -> one of READERS connections:  BEGIN repeatable read, read only  work  COMMIT
    changes()         <- commits here; NOTIFY by the other processes; a look each second besides

Two rules.  A work is run again only while nothing of it can stand: never once COMMIT was sent.
Works run side by side and are as if one ran after another; PostgreSQL proves it, or undoes one.
"""

from mesh.store.postgres.database import PostgresDatabase

__all__ = ["PostgresDatabase"]
