"""
PostgreSQL, shared by any number of processes on any number of machines.

    transaction(work) -> writer:   BEGIN  the writers' lock
                                       work  work  work
                                   COMMIT                    one wait for the disk
    read(work)        -> readers:  the single statements of many works, in one exchange;
                                   a read-only snapshot for a work that has more
    changes()         <- commits here; NOTIFY by the other processes; a look each second besides

Two rules.  Who writes is alone with the database, as on SQLite: works really run one after another,
in the order of their commits.  What was lost before its COMMIT was sent is run again, never after.

What costs are exchanges with the server, not statements: see wire.py.  So whatever need not be
waited for is posted, and goes out with what follows it: BEGIN and the lock with a work's first
statement, its last ones with the next work's first, or with the COMMIT.

Tried instead: works side by side at isolation level serializable, run again when PostgreSQL says
so.  With 32 orders at once every second transaction met another one (to read and to write the same
index page is enough), and the shop was no faster.
"""

from mesh.store.postgres.database import PostgresDatabase

__all__ = ["PostgresDatabase"]
