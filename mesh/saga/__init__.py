"""Sagas: calls to several services that all happen, or are all undone, whatever dies meanwhile."""

from mesh.saga.journal import Instance
from mesh.saga.machine import SagaError
from mesh.saga.runner import SagaRunner
from mesh.saga.saga import TIMED_OUT, Context, Later, Refused, Saga, Step

__all__ = [
    "TIMED_OUT",
    "Context",
    "Instance",
    "Later",
    "Refused",
    "Saga",
    "SagaError",
    "SagaRunner",
    "Step",
]
