"""
A process that forks: its open channels stay its own, and a child that calls on one is told so.

gRPC's threads do not live on in a child, so a call there would wait for ever; a channel that the
child opens itself is another matter (see grpc's own words on fork).  C-core's handlers of a fork do
half their work when another thread is in the core just then, and a thread of theirs may then crash
the child: with GRPC_ENABLE_FORK_SUPPORT=false nothing of gRPC runs there.
"""

from __future__ import annotations

import os
from functools import cache
from typing import Protocol
from weakref import WeakSet


class Forkable(Protocol):
    """An open channel."""

    def forked(self) -> None:
        """This process is a child: from now on refuse every call."""
        ...


def remember(channel: Forkable) -> None:
    """Tell `channel` if it is ever open in a child."""
    _open_channels().add(channel)


@cache
def _open_channels() -> WeakSet[Forkable]:
    found: WeakSet[Forkable] = WeakSet()

    def orphan() -> None:
        for channel in list(found):
            channel.forked()

    # With the first channel, not with the import.
    os.register_at_fork(after_in_child=orphan)
    return found
