"""How the operator's commands speak: a line for each thing, a deadline for each call."""

from __future__ import annotations

import sys
from collections.abc import Awaitable, Callable, Sequence

import grpc

# One call takes no longer.
SECONDS = 5.0
# What one thing may be refused with, and the next one not.
_ITS_OWN = (
    grpc.StatusCode.NOT_FOUND,
    grpc.StatusCode.FAILED_PRECONDITION,
)


async def each(ids: Sequence[str], do: Callable[[str], Awaitable[str]]) -> int:
    """`do` each and print what it says; 1 when one of them was refused, which is said."""
    code = 0
    for name in ids:
        try:
            print(await do(name))
        except grpc.aio.AioRpcError as error:
            if error.code() not in _ITS_OWN:
                raise
            print(f"{name}  {error.details()}", file=sys.stderr)
            code = 1
    return code
