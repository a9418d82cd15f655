"""
Arguments as PostgreSQL reads them, and rows as works read them.

Arguments go out as text whose type the statement decides, and bytes as they are; values come back
as text, and are read by the type of their column.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from decimal import Decimal
from typing import Any

from psycopg import pq

from mesh.store.database import Row

Argument = bytes | bytearray | memoryview

_TEXT, _BINARY = 0, 1


class PostgresRow:
    """One row of a result, by column name or by position."""

    __slots__ = ("_columns", "_values")

    def __init__(self, columns: dict[str, int], values: tuple[Any, ...]) -> None:
        self._columns = columns
        self._values = values

    def __getitem__(self, key: Any, /) -> Any:
        return self._values[self._columns[key] if isinstance(key, str) else key]

    def __iter__(self) -> Iterator[Any]:
        return iter(self._values)

    def __len__(self) -> int:
        return len(self._values)

    def keys(self) -> list[str]:
        return list(self._columns)


@dataclass(frozen=True, slots=True)
class Answer:
    """What a statement came to: its rows, how many it changed, and what it was."""

    rows: list[Row]
    changed: int
    verb: str
    # Whether it says how many: what defines a table doesn't.
    counted: bool


def encoded(args: Sequence[object]) -> tuple[list[Argument | None], list[int]]:
    """The arguments and the format of each; ValueError names the one that can't be sent."""
    values: list[Argument | None] = []
    formats: list[int] = []
    for number, value in enumerate(args, 1):
        binary = isinstance(value, bytes | bytearray | memoryview)
        formats.append(_BINARY if binary else _TEXT)
        match value:
            case None:
                values.append(None)
            case str():
                if "\0" in value:
                    raise ValueError(f"${number} has a NUL in it, which no text may have")
                values.append(value.encode())
            case bool():
                values.append(b"true" if value else b"false")
            case int() | float() | Decimal():
                values.append(str(value).encode())
            case bytes() | bytearray() | memoryview():
                values.append(value)
            case _:
                kind = type(value).__name__
                raise ValueError(f"${number} is of type {kind}, which is no type of a column")
    return values, formats


def answer(result: pq.abc.PGresult) -> Answer:
    """What the server said of a statement that went well."""
    verb, _, rest = (result.command_status or b"").decode().partition(" ")
    count = rest.rpartition(" ")[2]
    changed = int(count) if count.isdigit() else 0
    return Answer(_rows(result), changed, verb, counted=count.isdigit())


def _rows(result: pq.abc.PGresult) -> list[Row]:
    if not result.ntuples:
        return []
    fields = range(result.nfields)
    columns: dict[str, int] = {}
    for each in fields:
        columns.setdefault((result.fname(each) or b"").decode(), each)
    readers = [_READERS.get(result.ftype(each), _text) for each in fields]
    value = result.get_value
    rows: list[Row] = []
    for number in range(result.ntuples):
        found = (value(number, each) for each in fields)
        values = (None if it is None else read(it) for read, it in zip(readers, found, strict=True))
        rows.append(PostgresRow(columns, tuple(values)))
    return rows


def _text(value: bytes) -> str:
    return value.decode()


def _bytea(value: bytes) -> bytes:
    return bytes.fromhex(value[2:].decode())  # "\x...", see Address


def _bool(value: bytes) -> bool:
    return value == b"t"


def _decimal(value: bytes) -> Decimal:
    return Decimal(value.decode())


# By the oid of the type, which no server changes (pg_type.dat).
_READERS: dict[int, Callable[[bytes], Any]] = {
    16: _bool,
    17: _bytea,
    20: int,  # bigint
    21: int,  # smallint
    23: int,  # integer
    26: int,  # oid
    700: float,  # real
    701: float,  # double precision
    1700: _decimal,
}
