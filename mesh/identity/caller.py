"""
Who calls, and for whom.

    user:<subject of a token>      somebody whom an issuer of tokens knows
    key:<holder>                   somebody who holds an API key
    service:<name>                 a service of the mesh, by itself or for a `subject`

What is not printable ASCII stands percent-encoded, as metadata can't hold it otherwise.  `CALLER`
is who made the call being served, once it is proven; INBOUND hands the name down.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass, replace
from typing import Protocol
from urllib.parse import quote, unquote

from mesh.inbound import INBOUND, Inbound

_SAFE = "!\"#$&'()*+,/:;<=>?@[\\]^`{|}~"

# What calls say about who makes them; asked for each call, since a seal does not last.
Saying = Callable[[], Sequence[tuple[str, str | bytes]]]


class BadToken(Exception):
    """The token is not one that is accepted; the message may be shown to who sent it."""


class Verifier(Protocol):
    """Who knows tokens; mesh.identity.tokens.Tokens, whose library is an extra."""

    async def subject(self, token: str) -> str:
        """Whom the token speaks for; BadToken, or JwksError when that cannot be known now."""
        ...


@dataclass(frozen=True, slots=True)
class Caller:
    """Who makes a call, as `kind:name`; `subject` is whom a service makes it for, "" for nobody."""

    principal: str
    subject: str = ""

    @classmethod
    def named(cls, kind: str, name: str, *, subject: str = "") -> Caller:
        """The caller of this kind and name; either name may hold any character."""
        return cls(f"{kind}:{encoded(name)}", encoded(subject))

    @property
    def kind(self) -> str:
        return self.principal.partition(":")[0]

    @property
    def name(self) -> str:
        return unquote(self.principal.partition(":")[2])

    @property
    def made_for(self) -> str:
        """`subject` as it was before it was encoded."""
        return unquote(self.subject)


CALLER: ContextVar[Caller | None] = ContextVar("mesh_caller", default=None)


def encoded(text: str) -> str:
    """*text* as metadata can hold it."""
    return quote(text, safe=_SAFE)


@contextmanager
def speaking(saying: Saying | None) -> Iterator[None]:
    """Calls made inside, and by tasks begun inside, say who makes them."""
    token = INBOUND.set(replace(INBOUND.get() or Inbound(), saying=saying))
    try:
        yield
    finally:
        INBOUND.reset(token)
