"""What the column of a channel said, with the time: who was asked when, and who was ejected."""

from __future__ import annotations

from time import monotonic
from typing import TypeVar

from mesh.telemetry.events import AttemptStarted, EndpointEjected, Event

Kind = TypeVar("Kind")


class Witness:
    """Give it to a channel as `emit`."""

    def __init__(self) -> None:
        self.seen: list[tuple[float, Event]] = []

    def __call__(self, event: Event) -> None:
        self.seen.append((monotonic(), event))

    def all(self, kind: type[Kind], since: float = 0.0) -> list[tuple[float, Kind]]:
        """The events of a kind, with their times."""
        return [(at, event) for at, event in self.seen if at >= since and isinstance(event, kind)]

    def ejected(self, endpoint: str, since: float) -> float | None:
        """When the endpoint was first ejected after `since`."""
        found = self.all(EndpointEjected, since)
        return next((at for at, e in found if e.endpoint == endpoint and not e.unenforced), None)

    def attempts(self, endpoint: str, since: float, until: float) -> int:
        """How many attempts went to the endpoint in that time."""
        found = self.all(AttemptStarted, since)
        return sum(1 for at, event in found if event.endpoint == endpoint and at < until)
