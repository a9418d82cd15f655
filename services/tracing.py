"""The trace that a served call belongs to, so that events can say what made them happen."""

from __future__ import annotations

from mesh.inbound import INBOUND


def traceparent() -> str:
    """The W3C traceparent of the call being served; "" outside of one."""
    inbound = INBOUND.get()
    return "" if inbound is None else inbound.traceparent
