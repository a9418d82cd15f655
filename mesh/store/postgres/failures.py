"""
What the server and libpq say went wrong becomes ours here and nowhere else.

    Again             nothing of the transaction stands: running it again may well succeed
    - Away            the server could not be reached, or is going away: connect anew
    StoreError        as in mesh.store.database, by the class of its SQLSTATE
"""

from __future__ import annotations

import psycopg
from psycopg import pq

from mesh.store.database import StatementFailed, StoreBusy, StoreError, Violation

_Field = pq.DiagnosticField


class Again(StoreBusy):
    """The transaction met another one: nothing of it stands."""


class Away(Again):
    """The server is not there just now; nothing of the transaction stands."""


# SQLSTATE, or its class (the first two characters).
_TABLE: dict[str, type[StoreError]] = {
    "08": Away,  # connection exception
    "0A": StatementFailed,  # feature not supported
    "22": StatementFailed,  # data exception
    "23": Violation,
    "25P03": Away,  # idle in transaction for too long
    "25": StatementFailed,
    "3B": StatementFailed,  # there is no such savepoint
    "3D000": StoreError,  # there is no such database
    "40": Again,  # serialization failure, deadlock
    "42501": StoreError,  # insufficient privilege
    "42": StatementFailed,
    "53300": Away,  # too many connections
    "55P03": StoreBusy,  # lock timeout
    "57014": StoreBusy,  # statement timeout
    "57P": Away,  # shutdown, crash, starting up
}

# Where the server is when a statement that was prepared doesn't fit the schema any more.
_OUTDATED = b"RevalidateCachedQuery"


def refusal(name: str, result: pq.abc.PGresult) -> StoreError:
    """What the server answered instead of rows; `name` is the database's."""
    field = result.error_field
    cause = (field(_Field.MESSAGE_PRIMARY) or result.error_message).decode(errors="replace")
    if detail := field(_Field.MESSAGE_DETAIL):
        cause += f": {detail.decode(errors='replace')}"
    if field(_Field.SOURCE_FUNCTION) == _OUTDATED:
        return Again(name, cause)
    state = (field(_Field.SQLSTATE) or b"").decode()
    for key in (state, state[:3], state[:2]):
        if key in _TABLE:
            return _TABLE[key](name, cause)
    # libpq's own errors have no SQLSTATE: it has lost the connection.
    return StoreError(name, cause) if state else Away(name, cause)


def translation(name: str, error: BaseException) -> StoreError:
    """An exception of psycopg's, or of the sockets under it, as ours."""
    lines = str(error).strip().splitlines() or [type(error).__name__]
    cause = "; ".join(line.strip() for line in lines)
    if isinstance(error, psycopg.ProgrammingError):
        return StoreError(name, cause)  # the URL is no use
    return Away(name, cause)
