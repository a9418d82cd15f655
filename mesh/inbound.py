"""
What the call being served hands down to the calls made for it: deadline, trace, criticality, and
who they are made for.

A server sets `INBOUND` around each handler; channels read it.  A task that must outlive the call
opts out with ``with detached():`` and starts from nothing.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Inbound:
    """The served call: absolute `deadline` (s, monotonic), `traceparent`, how much it matters."""

    deadline: float | None = None
    traceparent: str = ""
    criticality: str = ""
    # How often its caller had tried before (grpc-previous-rpc-attempts).
    previous_attempts: int = 0
    # Metadata by which calls say who makes them (mesh.identity); asked anew for each call.
    saying: Callable[[], Sequence[tuple[str, str | bytes]]] | None = None


INBOUND: ContextVar[Inbound | None] = ContextVar("mesh_inbound", default=None)


@contextmanager
def detached() -> Iterator[None]:
    """Calls made inside belong to no served call: they inherit no deadline and no trace."""
    token = INBOUND.set(None)
    try:
        yield
    finally:
        INBOUND.reset(token)
