"""
The call behind a reply that no server gave, for callers that block: a fallback's.
"""

from __future__ import annotations

from typing import Any

import grpc


class Reply(grpc.Call, grpc.Future):  # type: ignore[type-arg]
    """A reply that no server gave: a fallback."""

    def __init__(self, reply: Any, notes: tuple[tuple[str, str], ...]) -> None:
        self._reply = reply
        # What layers say of it: mesh-fallback.
        self._notes = notes

    def result(self, timeout: float | None = None) -> Any:
        return self._reply

    def exception(self, timeout: float | None = None) -> None:
        return None

    def traceback(self, timeout: float | None = None) -> None:
        return None

    def done(self) -> bool:
        return True

    def running(self) -> bool:
        return False

    def cancel(self) -> bool:
        return False

    def cancelled(self) -> bool:
        return False

    def add_done_callback(self, fn: Any) -> None:
        fn(self)

    def is_active(self) -> bool:
        return False

    def time_remaining(self) -> Any:
        return None

    def add_callback(self, callback: Any) -> bool:
        return False

    def initial_metadata(self) -> Any:
        return ()

    def trailing_metadata(self) -> Any:
        return self._notes

    def code(self) -> Any:
        return grpc.StatusCode.OK

    def details(self) -> Any:
        return ""

    def debug_error_string(self) -> Any:
        return ""
