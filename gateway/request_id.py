"""
One id for a request, wherever it is seen: X-Request-Id.

    the client sent one to be trusted  -> that one      none, or another -> a new one, a UUIDv4
    the service, an old service, each branch of a page  <- it, as x-request-id
    the client                                          <- it, in every answer
    the gateway's log                                   <- it, in every line about the request

To be trusted is to be given once, as 1 to 128 of the characters that mean nothing to a log, a URL
or a shell.  Any other is replaced, never refused: the id is there to find a request by, and nothing
is decided by it.  For the same reason what a service answers as its own is not passed on.
"""

from __future__ import annotations

import logging
import re
from contextvars import ContextVar
from os import urandom

HEADER = b"x-request-id"
_TRUSTED = re.compile(rb"[A-Za-z0-9._-]{1,128}")
_VARIANTS = "89ab"
# The id of the request that this context serves; empty when that is over.
_CURRENT: ContextVar[list[bytes] | None] = ContextVar("gateway_request_id", default=None)


def settled(headers: list[tuple[bytes, bytes]]) -> tuple[bytes, list[tuple[bytes, bytes]]]:
    """The request's id, and its headers with that id and no other."""
    given = [value for name, value in headers if name == HEADER]
    if len(given) == 1 and _TRUSTED.fullmatch(given[0]):
        return given[0], headers
    made = made_up()
    return made, [*(pair for pair in headers if pair[0] != HEADER), (HEADER, made)]


def made_up() -> bytes:
    """A UUIDv4 as text; the half of what uuid.uuid4 takes, since every request has one."""
    text = urandom(16).hex()
    variant = _VARIANTS[int(text[16], 16) & 3]
    return f"{text[:8]}-{text[8:12]}-4{text[13:16]}-{variant}{text[17:20]}-{text[20:]}".encode()


class Named:
    """
    While the block runs, what its context logs is of this request.

    What the block started and left running, such as a connection, is of no request then.
    """

    __slots__ = ("_name",)

    def __init__(self, request_id: bytes) -> None:
        self._name = [request_id]

    def __enter__(self) -> None:
        _CURRENT.set(self._name)  # the server gives every request a context of its own

    def __exit__(self, *_: object) -> None:
        self._name.clear()


class InLog(logging.Filter):
    """Gives each record `request`: " [its id]", or "" where it is about none."""

    def filter(self, record: logging.LogRecord) -> bool:
        name = _CURRENT.get()
        record.request = f" [{name[0].decode()}]" if name else ""
        return True
