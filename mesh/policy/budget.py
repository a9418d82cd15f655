"""
The retry budget of one target: repeating is allowed while most calls succeed (gRFC A6).

        full = 10 tokens       failure: -1                half = 5 tokens        empty = 0
    ------+----------------------------------------------------+---------------------+----
          |  retries and hedges are sent                       |  none are sent      |
          +<--------------------- success: +0.1 ----------------+--------------------+

Why not a maximum of retries per call?  In an outage every call would use its maximum and multiply
the load on servers that are down because of load.  A budget per target, shared by all calls, by
retries and hedges alike, adds a tenth at most.
"""

from __future__ import annotations

from mesh.policy import checks

# "up to three decimal places" - gRFC A6: tokens are counted in thousandths, so that none is lost.
SCALE = 1000


class Throttle:
    """The memory: how many tokens the target has left."""

    __slots__ = ("_full", "_tokens")

    def __init__(self, tokens: int = 10) -> None:
        # "maxTokens [...] must be > 0 and <= 1000" - gRFC A6
        checks.whole("throttle", 1, 1000, tokens=tokens)
        self._full = tokens * SCALE
        self._tokens = self._full

    @property
    def tokens(self) -> float:
        return self._tokens / SCALE

    @property
    def allows(self) -> bool:
        """Whether an attempt beyond the first may be sent."""
        # "If token_count is less than or equal to the threshold, defined to be (maxTokens / 2),
        # then RPCs will not be retried" - gRFC A6
        return self._tokens * 2 > self._full

    def failure(self) -> None:
        """Record an attempt that a server failed, or that it asked not to repeat."""
        # "Every failed RPC will decrement the token_count by 1" - gRFC A6
        self._tokens = max(0, self._tokens - SCALE)

    def success(self, ratio: float) -> None:
        """Record a call that went well."""
        # "Every successful RPC will increment the token_count by tokenRatio" - gRFC A6
        if self._tokens < self._full:
            self._tokens = min(self._full, self._tokens + round(ratio * SCALE))

    def resize(self, tokens: int) -> None:
        """Take over another maximum; what was spent stays spent in proportion."""
        checks.whole("throttle", 1, 1000, tokens=tokens)
        full = tokens * SCALE
        self._tokens = self._tokens * full // self._full
        self._full = full
