"""
The one edge between grpc's errors and the mesh's.

    AioRpcError, RpcError  --failed-->   CallFailed                         into the flow
    MeshError              --surface-->  the server's own error, or RpcFailed   to the caller

Status texts are never parsed: whether a server may have run the call is known from the channel's
state when the attempt began, or from the server's ErrorInfo, not from what the error says.
"""

from __future__ import annotations

from collections.abc import Callable
from types import TracebackType
from typing import Any, Self

import grpc
import grpc.aio

from mesh.errors import CallFailed, Code, MeshError, Processed
from mesh.status import CODES, DOMAIN, DRAINING, GRPC_CODES, Pairs, to_trailing

LOCALLY_CANCELLED = "Locally cancelled by application!"


class RpcFailed(grpc.aio.AioRpcError):
    """What the mesh itself says to a caller on asyncio; `error` is why."""

    def __init__(self, error: MeshError) -> None:
        super().__init__(
            GRPC_CODES[error.code],
            grpc.aio.Metadata(),
            grpc.aio.Metadata(*trailing(error)),
            details=error.message,
            debug_error_string=f"{type(error).__name__} {error}",
        )
        self.error = error

    def __reduce__(self) -> tuple[Any, ...]:
        return type(self), (self.error,)


class BlockingRpcFailed(grpc.RpcError, grpc.Call, grpc.Future):  # type: ignore[type-arg]
    """What the mesh itself says to a caller that blocks; `error` is why."""

    def __init__(self, error: MeshError) -> None:
        super().__init__(f"{error.code.name}: {error.message}")
        self.error = error

    def code(self) -> grpc.StatusCode:
        return GRPC_CODES[self.error.code]

    def details(self) -> str:
        return self.error.message

    def initial_metadata(self) -> tuple[Any, ...]:
        return ()

    def trailing_metadata(self) -> tuple[Any, ...]:
        return trailing(self.error)

    def debug_error_string(self) -> str:
        return f"{type(self.error).__name__} {self.error}"

    def is_active(self) -> bool:
        return False

    def time_remaining(self) -> float:
        return 0.0

    def cancel(self) -> bool:
        return False

    def add_callback(self, callback: Any) -> bool:
        return False

    # -- grpc.Future, as grpc's own errors are: of a call that is over

    def cancelled(self) -> bool:
        return False

    def running(self) -> bool:
        return False

    def done(self) -> bool:
        return True

    def result(self, timeout: float | None = None) -> Any:
        raise self

    def exception(self, timeout: float | None = None) -> Self:
        return self

    def traceback(self, timeout: float | None = None) -> TracebackType | None:
        return self.__traceback__

    def add_done_callback(self, fn: Callable[[Any], None]) -> None:
        fn(self)


def failed(error: Any) -> CallFailed:
    """
    What grpc says of an attempt that we did not cancel ourselves.

    A server that stops may answer CANCELLED to calls in flight (grpc/grpc#41785): nobody here
    cancelled, so to the flow it is a server that went away.
    """
    code = CODES[error.code()]
    failure = CallFailed(
        Code.UNAVAILABLE if code is Code.CANCELLED else code,
        error.details() or "",
        trailing=tuple(error.trailing_metadata() or ()),
        # Our own HTTP/2 knows; grpcio shows headers only by what stands in them.
        headers_seen=getattr(error, "headers_seen", False) or bool(error.initial_metadata()),
        source=error,
    )
    failure.processed = getattr(error, "processed", Processed.UNKNOWN)
    if failure.reason == DRAINING and failure.domain == DOMAIN:
        failure.processed = Processed.REFUSED
    return failure


def surface(error: MeshError) -> grpc.aio.AioRpcError:
    """The error as a caller on asyncio knows it: the server's own where there is one."""
    source = getattr(error, "source", None)
    return source if isinstance(source, grpc.aio.AioRpcError) else RpcFailed(error)


def surface_blocking(error: MeshError) -> grpc.RpcError:
    """The error as a caller that blocks knows it."""
    source = getattr(error, "source", None)
    return source if isinstance(source, grpc.RpcError) else BlockingRpcFailed(error)


def trailing(error: MeshError) -> Pairs:
    """Trailing metadata that says who failed and why: what came from the server, else ErrorInfo."""
    if isinstance(error, CallFailed) and error.trailing:
        return error.trailing
    return to_trailing(error)
