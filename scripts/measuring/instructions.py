"""
Instructions that this process executes, user and kernel, counted by the CPU (perf_event_open).

They repeat within a few percent whatever else the host does, which no time does.  The counter is
inherited by threads made after it, so it is opened first.
"""

from __future__ import annotations

import ctypes
import os
import platform
import struct
from types import TracebackType
from typing import Self

# perf_event_open's number, by machine.
SYSCALLS = {"x86_64": 298, "aarch64": 241}
HARDWARE, INSTRUCTIONS = 0, 1
ATTRIBUTES = 128
INHERIT = 1 << 1
CLOSE_ON_EXEC = 1 << 3


class Counter:
    """A count of instructions since it was entered."""

    def __init__(self) -> None:
        self._descriptor = -1

    def __enter__(self) -> Self:
        number = SYSCALLS.get(platform.machine())
        if number is None:
            raise OSError(f"no perf_event_open on {platform.machine()}")
        attributes = struct.pack("=IIQQQQQ", HARDWARE, ATTRIBUTES, INSTRUCTIONS, 0, 0, 0, INHERIT)
        buffer = ctypes.create_string_buffer(attributes.ljust(ATTRIBUTES, b"\0"), ATTRIBUTES)
        libc = ctypes.CDLL(None, use_errno=True)
        # This process, on any core, in no group.
        self._descriptor = libc.syscall(number, buffer, 0, -1, -1, CLOSE_ON_EXEC)
        if self._descriptor < 0:
            error = ctypes.get_errno()
            raise OSError(error, os.strerror(error))
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        os.close(self._descriptor)

    def read(self) -> int:
        """How many so far, in all threads."""
        count: int = struct.unpack("=Q", os.read(self._descriptor, 8))[0]
        return count

    @classmethod
    def allowed(cls) -> bool:
        """Whether this host lets us count."""
        try:
            with cls() as counter:
                return counter.read() > 0
        except OSError:
            return False
