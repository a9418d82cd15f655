"""
What a servicer serves, read from the code generated for it.

The generated `add_XServicer_to_server` is found beside the generated base class, so that a user
names neither; a servicer with several generated bases serves them all.
"""

from __future__ import annotations

import sys
from collections.abc import Iterable, Mapping
from concurrent.futures import Executor
from typing import Any

import grpc

from mesh.server.blocking import Handler, awaitable


class Contract:
    """The services of a set of servicers: full names and handlers, ready to be served."""

    def __init__(self, servicers: Iterable[object]) -> None:
        self._handlers: dict[str, dict[str, Handler]] = {}
        self._generic: dict[str, grpc.ServiceRpcHandler] = {}
        for servicer in servicers:
            self._add(servicer)

    @property
    def services(self) -> tuple[str, ...]:
        """Full service names, sorted: "shop.orders.v1.OrderService"."""
        return tuple(sorted({*self._handlers, *self._generic}))

    def generic_handlers(self, pool: Executor) -> list[grpc.GenericRpcHandler]:
        """What grpc serves; blocking methods run on *pool*."""
        made = [
            grpc.method_handlers_generic_handler(
                service, {name: awaitable(each, pool) for name, each in methods.items()}
            )
            for service, methods in self._handlers.items()
        ]
        return [*made, *self._generic.values()]

    def _add(self, servicer: object) -> None:
        if isinstance(servicer, grpc.ServiceRpcHandler):
            name = servicer.service_name()
            self._generic[self._new(name)] = servicer
            return
        adders = list(_adders(type(servicer)))
        if not adders:
            raise TypeError(
                f"{type(servicer).__qualname__} is no servicer: none of its base classes"
                " was generated with an add_..._to_server function"
            )
        for add in adders:
            add(servicer, _Recorder(self))

    def record(self, service: str, handlers: Mapping[str, Handler]) -> None:
        self._handlers[self._new(service)] = dict(handlers)

    def _new(self, service: str) -> str:
        if service in self.services:
            raise ValueError(f"{service} is served twice")
        return service


def _adders(servicer: type) -> Iterable[Any]:
    for base in servicer.__mro__:
        add = getattr(sys.modules.get(base.__module__), f"add_{base.__name__}_to_server", None)
        if add is not None:
            yield add


class _Recorder:
    """Takes a server's place in generated code and keeps what it is told."""

    def __init__(self, contract: Contract) -> None:
        self._contract = contract

    def add_generic_rpc_handlers(self, handlers: Iterable[grpc.GenericRpcHandler]) -> None:
        """The same handlers come again, by method, below."""

    def add_registered_method_handlers(self, service: str, handlers: Mapping[str, Handler]) -> None:
        self._contract.record(service, handlers)
