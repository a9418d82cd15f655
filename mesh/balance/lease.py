"""
Balancing: an endpoint for each attempt, waited for while that can help.

    pick --> in flight --> inner call --> given back      in flight is counted, whatever happens
      \\--> nobody yet --> Wait(pool.changed) --> pick    bounded by `patience`, queue by `QUEUE`
"""

from __future__ import annotations

from collections.abc import Callable

from mesh.balance.pool import Pool
from mesh.call import Call
from mesh.errors import CallFailed, NoEndpoint
from mesh.flow import Inner, Layer, Steps, Wait

# So many calls may wait for an endpoint; more would only wait longer for the same one.
QUEUE = 1000


def balancing(pool: Pool, clock: Callable[[], float], patience: float = 5.0) -> Layer:
    """
    Take an endpoint for each attempt and tell the pool how it went.

    `patience` is for how many seconds a call waits for the first endpoint to become ready; a call
    with wait_for_ready waits as long as its deadline lets it.
    """

    def layer(call: Call, inner: Inner) -> Steps:
        began = clock()
        member = pool.pick(call, began)
        if member is None:
            member, began = yield from _wait(pool, call, clock, patience)
        lasting = call.method.streams_replies
        call.endpoint = member.endpoint
        call.tried.append(member.id)
        member.begin(began, lasting)
        try:
            reply = yield from inner(call)
        except CallFailed as failure:
            pool.failed(member, call, failure, began, clock())
            raise
        finally:
            member.end(lasting)
        pool.answered(member, call, began, clock())
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
            now = clock()
            member = pool.pick(call, now)
            if member is not None:
                return member, now
    finally:
        pool.waiting -= 1
