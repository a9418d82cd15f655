"""
Balancing: an endpoint for each attempt, waited for while that can help.

    pick --> lease --> inner call --> given back          in flight is counted, whatever happens
      \\--> nobody yet --> Wait(pool.changed) --> pick    bounded by `patience`, queue by `QUEUE`
"""

from __future__ import annotations

from collections.abc import Callable

from mesh.balance.pool import Lease, Pool
from mesh.call import Call
from mesh.errors import CallFailed, NoEndpoint
from mesh.flow import Inner, Layer, Steps, Wait

# So many calls may wait for an endpoint; more would only wait longer for the same one.
QUEUE = 1000


def balancing(pool: Pool, clock: Callable[[], float], patience: float = 5.0) -> Layer:
    """
    Lease an endpoint for each attempt and tell the pool how it went.

    `patience` is for how many seconds a call waits for the first endpoint to become ready; a call
    with wait_for_ready waits as long as its deadline lets it.
    """

    def layer(call: Call, inner: Inner) -> Steps:
        lease = pool.pick(call, clock()) or (yield from _wait(pool, call, clock, patience))
        call.endpoint = endpoint = lease.member.endpoint
        call.tried.append(endpoint.id)
        with lease:
            try:
                reply = yield from inner(call)
            except CallFailed as failure:
                pool.failed(lease, failure, clock(), call.remaining(lease.since))
                raise
            pool.answered(lease, clock())
            return reply

    return layer


def _wait(pool: Pool, call: Call, clock: Callable[[], float], patience: float) -> Steps:
    ends = None if call.wait_for_ready else clock() + patience
    if pool.waiting >= QUEUE:
        raise NoEndpoint(f"{pool.waiting} calls wait for an endpoint already")
    pool.waiting += 1
    try:
        while True:
            left = None if ends is None else ends - clock()
            if left is not None and left <= 0:
                raise NoEndpoint(f"no endpoint became ready within {patience:g} s")
            yield Wait(pool.changed, left)
            lease: Lease | None = pool.pick(call, clock())
            if lease is not None:
                return lease
    finally:
        pool.waiting -= 1
