"""
The policy in force, and what happens when a new one is offered.

    offer(text) -- load --> PolicyChanged, in force now
             \\--> PolicyError: PolicyRefused, once; the last good one stays

Whoever watches a file or a key in Consul calls `offer`; whoever uses the policy subscribes.
"""

from __future__ import annotations

from collections.abc import Callable

from mesh.errors import PolicyError
from mesh.policy.config import Policy
from mesh.policy.service_config import load
from mesh.telemetry.events import Emit, PolicyChanged, PolicyRefused, unheard


class Standing:
    """The last good policy; `use` is called with every one that comes into force."""

    def __init__(self, policy: Policy, use: Callable[[Policy], None], emit: Emit = unheard) -> None:
        self.policy = policy
        # Why the last offer was refused; empty when it was not.
        self.refused = ""
        self._use = use
        self._emit = emit

    def offer(self, text: str | bytes, source: str) -> bool:
        """Put the policy in `text` in force, if it makes sense; whether it does."""
        try:
            policy = load(text)
        except PolicyError as error:
            self.refuse(str(error), source)
            return False
        self.refused = ""
        if policy != self.policy:
            self.policy = policy
            self._use(policy)
            self._emit(PolicyChanged(source))
        return True

    def refuse(self, why: str, source: str) -> None:
        """Say that the source has none that makes sense; each reason is told once."""
        if why != self.refused:
            self.refused = why
            self._emit(PolicyRefused(source, why))
