"""
What a server says of itself in the mesh's name: that it is full, about to stop, stopping.

Only the mesh raises these.  The same words in somebody else's answer are about somebody else, and
translate.py does not pass them on: a caller who reads SERVER_DRAINING sends again what may be done
only once.
"""

from __future__ import annotations

from mesh.errors import Code, StatusError
from mesh.status import DOMAIN, DRAINING, STOPPING

OVERLOADED = "SERVER_OVERLOADED"


class Refusal(StatusError):
    """A status that is about this very server."""


def overloaded(message: str) -> Refusal:
    """Refused before any work.  No retry_after: it would ask every client back at once."""
    return Refusal(Code.RESOURCE_EXHAUSTED, message, reason=OVERLOADED, domain=DOMAIN)


def draining() -> Refusal:
    """Refused before any handler saw it: the client may send anything again elsewhere."""
    return Refusal(
        Code.UNAVAILABLE,
        "the server is about to stop and takes no new calls; no handler has seen this one",
        reason=DRAINING,
        domain=DOMAIN,
    )


def stopping() -> Refusal:
    """A stream that ends before its time."""
    return Refusal(
        Code.UNAVAILABLE,
        "the server is stopping; follow on at another one",
        reason=STOPPING,
        domain=DOMAIN,
    )
