"""
What asyncpg raises becomes ours here and nowhere else, by the class of its SQLSTATE.

    Again             nothing of the transaction stands: running it again may well succeed
    - Away            the server could not be reached, or is going away: connect anew
    StoreError        as in mesh.store.database
"""

from __future__ import annotations

import asyncio

import asyncpg

from mesh.store.database import StatementFailed, StoreBusy, StoreError, Violation

# Everything that asyncpg and the sockets under it raise.
OUTSIDE = (asyncpg.PostgresError, asyncpg.InterfaceError, OSError, asyncio.TimeoutError)


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
    "3D000": StoreError,  # there is no such database
    "40": Again,  # serialization failure, deadlock
    "42501": StoreError,  # insufficient privilege
    "42": StatementFailed,
    "53300": Away,  # too many connections
    "55P03": StoreBusy,  # lock timeout
    "57014": StoreBusy,  # statement timeout
    "57P": Away,  # shutdown, crash, starting up
}

# Errors that asyncpg raises before anything is sent, or when the server's answer is no use.
_OWN: tuple[tuple[type[BaseException], type[StoreError]], ...] = (
    (asyncpg.InvalidCachedStatementError, Again),  # another process has changed the schema
    (asyncpg.OutdatedSchemaCacheError, Again),
    (asyncpg.exceptions.ClientConfigurationError, StoreError),
    (asyncpg.DataError, StatementFailed),  # an argument of the wrong type
    (asyncpg.InternalClientError, StoreError),
)


def translation(name: str, error: BaseException) -> StoreError:
    """The error as ours; `name` is the database's."""
    cause = str(error).strip() or type(error).__name__
    for foreign, ours in _OWN:
        if isinstance(error, foreign):
            return ours(name, cause)
    state = getattr(error, "sqlstate", None) or ""
    for key in (state, state[:3], state[:2]):
        if key in _TABLE:
            return _TABLE[key](name, cause)
    if isinstance(error, asyncpg.InterfaceError):
        closed = "clos" in cause
        return (Away if closed else StatementFailed)(name, cause)
    if isinstance(error, OSError | asyncio.TimeoutError):
        return Away(name, cause)
    return StoreError(name, cause)
