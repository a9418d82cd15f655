"""
Domain errors become answers at one edge, by a table: error class -> (status code, reason).

Each service keeps its own table beside its servicer.  What is not in it is a fault of ours, and
the server answers INTERNAL without a word of it.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager

from mesh.errors import Code, StatusError

DOMAIN = "shop"

Table = Mapping[type[Exception], tuple[Code, str]]


@contextmanager
def answering(table: Table) -> Iterator[None]:
    """Answer a domain error raised inside by *table*; its `fields` say which of them are wrong."""
    try:
        yield
    except tuple(table) as error:
        code, reason = table[type(error)]
        raise StatusError(
            code,
            str(error),
            reason=reason,
            domain=DOMAIN,
            metadata=getattr(error, "facts", None),
            fields=getattr(error, "fields", ()),
        ) from error
