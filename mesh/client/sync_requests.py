"""
An iterator of requests that several attempts may read from the start.

What the caller's iterator gave is kept, serialized, until the call is committed or more than
256 KiB are kept, which commits it (gRFC A6).  One thread at a time pulls from the iterator: an
attempt that failed may still be waiting there, and what it gets is for its successor.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterable, Iterator
from typing import Any

from mesh.call import Call
from mesh.client.requests import KEPT_BYTES, size_of


class Replay:
    """The request stream of one logical call."""

    def __init__(self, source: Iterable[object], serializer: Callable[[object], bytes] | None):
        self._source = iter(source)
        self._serializer = serializer
        self._turned = threading.Condition()
        self._kept: list[Any] = []
        self._dropped = 0
        self._bytes = 0
        self._pulling = False
        self._exhausted = False
        self._error: BaseException | None = None

    def attempt(self, call: Call) -> Iterator[Any]:
        """All requests from the first on, for one attempt."""
        place = 0
        while (message := self._take(place, call)) is not None:
            place += 1
            yield message

    def end(self) -> None:
        """The call is over: nobody will read again."""
        with self._turned:
            self._exhausted = True
            self._kept.clear()
            self._turned.notify_all()

    def _take(self, place: int, call: Call) -> Any:
        while True:
            with self._turned:
                self._turned.wait_for(
                    lambda: (
                        place < self._dropped + len(self._kept)
                        or self._exhausted
                        or not self._pulling
                    )
                )
                if call.committed and place > self._dropped:
                    del self._kept[: place - self._dropped]
                    self._dropped = place
                if place < self._dropped + len(self._kept):
                    return self._kept[place - self._dropped]
                if self._exhausted:
                    if self._error is not None:
                        raise self._error
                    return None
                self._pulling = True
            self._pull(call)

    def _pull(self, call: Call) -> None:
        message: Any = None
        error: BaseException | None = None
        try:
            request = next(self._source)
            message = request if self._serializer is None else self._serializer(request)
        except StopIteration:
            pass
        except BaseException as raised:  # noqa: BLE001 - it belongs to whichever attempt reads on
            error = raised
        with self._turned:
            self._pulling = False
            if message is None:
                self._exhausted, self._error = True, error
            else:
                self._kept.append(message)
                self._bytes += size_of(message)
                if self._bytes > KEPT_BYTES:
                    call.committed = True
            self._turned.notify_all()
