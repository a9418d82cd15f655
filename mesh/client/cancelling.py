"""
Cancelling a call of grpc.aio's own: the one place that leans on what grpc does not promise.

    inner._cancel(why)   tells the core; the batch that is under way ends, and frees what it holds
    inner.cancel()       the same, and cancels grpc's own task in the middle of that batch, which
                         then never frees it: 1 KB a unary call, 14 KB in bursts (grpc/grpc#43360)

Where grpc has no `_cancel` any more it is the public one that is called: calls end just the same,
and the memory is the price.  A test says so when that day comes.
"""

from __future__ import annotations

from typing import Any

from mesh.client.status import LOCALLY_CANCELLED

QUIETLY = "_cancel"


def cancel(inner: Any) -> None:
    """Tell the core that nobody waits for the reply of a unary call any more."""
    quietly = getattr(inner, QUIETLY, None)
    if quietly is None:
        inner.cancel()
    else:
        quietly(LOCALLY_CANCELLED)
