"""
How many calls may be in the handlers at once: the rest is refused before any work, and at once.

Refusing early is what keeps an overloaded server useful: a queue would only make every answer late.
RESOURCE_EXHAUSTED tells clients to send less (they throttle on it), not that the server is ill.
"""

from __future__ import annotations

from types import TracebackType

from mesh.errors import Code, StatusError
from mesh.inbound import Inbound
from mesh.server.status import DOMAIN

OVERLOADED = "SERVER_OVERLOADED"


class Admission:
    """A count of calls in progress; used as `with admission(method, inbound):`."""

    def __init__(self, limit: int) -> None:
        self.limit = limit
        self.in_flight = 0

    def __call__(self, method: str, inbound: Inbound) -> Admission:
        if self.in_flight >= self.limit:
            raise StatusError(
                Code.RESOURCE_EXHAUSTED,
                f"{self.in_flight} calls are in progress, which is all this server takes on",
                reason=OVERLOADED,
                domain=DOMAIN,
            )
        return self

    def __enter__(self) -> None:
        self.in_flight += 1

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.in_flight -= 1
