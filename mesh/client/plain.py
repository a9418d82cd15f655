"""Round robin among ready endpoints, as long as there is no column."""

from __future__ import annotations

from typing import Any

from discovery.model import Endpoint, Snapshot
from mesh.call import Call
from mesh.errors import NoEndpoint
from mesh.flow import Attempt, Inner, Signal, Steps, Wait


class Memory:
    def __init__(self) -> None:
        self.endpoints: tuple[Endpoint, ...] = ()
        self.ready: set[str] = set()
        self.changed = Signal()
        self.turn = 0

    def publish(self, snapshot: Snapshot) -> None:
        self.endpoints = snapshot.endpoints
        self._stir()

    def set_ready(self, name: str, ready: bool) -> None:
        (self.ready.add if ready else self.ready.discard)(name)
        self._stir()

    def _stir(self) -> None:
        changed, self.changed = self.changed, Signal()
        changed.set()


def column(policy: Any, memory: Memory, **_: Any) -> Inner:
    def flow(call: Call) -> Steps:
        while True:
            ready = [e for e in memory.endpoints if e.id in memory.ready]
            if ready:
                break
            if not (yield Wait(memory.changed, 1.0)):
                raise NoEndpoint("no endpoint")
        memory.turn += 1
        call.endpoint = ready[memory.turn % len(ready)]
        return (yield Attempt(call))

    return flow
