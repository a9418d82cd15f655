"""
The trace that work belongs to: a served call's, or the one that a saga was begun in.

Events say so, and calls made under a trace carry it on, however much later they are made.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from mesh.inbound import INBOUND, Inbound


def traceparent() -> str:
    """The W3C traceparent of the call being served; "" outside of one."""
    inbound = INBOUND.get()
    return "" if inbound is None else inbound.traceparent


@contextmanager
def under(trace: str) -> Iterator[None]:
    """Calls made inside belong to the trace of the traceparent *trace*, and to no served call."""
    token = INBOUND.set(Inbound(traceparent=trace))
    try:
        yield
    finally:
        INBOUND.reset(token)
