"""
The two columns of a target: for calls that end with a reply, and for those that stream replies.

    policy --+--> flow           unary replies
             +--> stream_flow    no attempt timeout, no timeout but the method's own

What bounds the wait for a reply would cut a healthy stream: a watch may last for days.  Both share
one memory, and assigning a policy replaces both.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from functools import partial
from random import Random
from time import monotonic

from mesh.call import Call
from mesh.column import Memory, column
from mesh.flow import Inner, Steps
from mesh.policy.config import Policy
from mesh.telemetry.events import Emit


def flows(
    policy: Policy | None,
    memory: Memory,
    *,
    emit: Emit | None = None,
    balanced: bool = True,
    clock: Callable[[], float] = monotonic,
) -> Inner:
    """The flow of every call to a target, whatever its kind."""
    policy = policy or Policy.production()
    make = partial(column, memory=memory, clock=clock, rng=Random(), emit=emit, balanced=balanced)
    endless, ending = make(without_timeouts(policy)), make(policy)

    def flow(call: Call) -> Steps:
        method = call.method
        return (endless if method.streams_replies else ending)[method.name](call)

    return flow


def without_timeouts(policy: Policy) -> Policy:
    """The policy for streams of replies; a timeout that a method states for itself stays."""
    methods = {name: replace(rules, attempt_timeout=None) for name, rules in policy.methods.items()}
    return replace(policy, timeout=None, attempt_timeout=None, methods=methods)
