"""
Pages of a list: how long one may be, and the opaque token that asks for the next.

A token holds the sort key of the last row shown, never an offset, so rows that come or go do not
shift what follows; and a hash of the filters, so that it continues only the list it came from.
"""

from __future__ import annotations

import json
from base64 import urlsafe_b64decode, urlsafe_b64encode
from collections.abc import Sequence
from dataclasses import dataclass
from hashlib import sha256

from mesh.errors import Code, StatusError
from services.answering import DOMAIN

DEFAULT_SIZE = 50
MAX_SIZE = 1000

Key = tuple[int | str, ...]


@dataclass(frozen=True, slots=True)
class Page:
    """What a list is asked for: at most `size` rows, those after the row with the key `after`."""

    size: int
    after: Key | None
    filters: str

    def next_token(self, last: Key) -> str:
        """The token for the page after the row with the key *last*."""
        text = json.dumps([self.filters, *last], separators=(",", ":"))
        return urlsafe_b64encode(text.encode()).decode().rstrip("=")


def page(size: int, token: str, *, key: Sequence[type], filters: object = None) -> Page:
    """
    Read a request's page_size and page_token; StatusError names the token when it is no good.

    `key` are the types of the sort key's parts, `filters` whatever else the list was asked for.
    """
    if size < 0:
        raise _refused("page_size", "must be 0 or more")
    digest = sha256(repr(filters).encode()).hexdigest()[:8]
    after = _read(token, digest, key) if token else None
    return Page(min(size or DEFAULT_SIZE, MAX_SIZE), after, digest)


def _read(token: str, digest: str, key: Sequence[type]) -> Key:
    try:
        parts = json.loads(urlsafe_b64decode(token + "=" * (-len(token) % 4)))
    except (ValueError, RecursionError):
        raise _refused("page_token", "is not a token of this list") from None
    if not isinstance(parts, list) or [type(part) for part in parts] != [str, *key]:
        raise _refused("page_token", "is not a token of this list")
    if parts[0] != digest:
        raise _refused("page_token", "belongs to a list with other filters")
    return tuple(parts[1:])


def _refused(field: str, why: str) -> StatusError:
    return StatusError(
        Code.INVALID_ARGUMENT,
        f"{field}: {why}",
        reason=f"INVALID_{field.upper()}",
        domain=DOMAIN,
        fields=[(field, why)],
    )
