"""
A server of the mesh: grpc.aio with health, reflection, validation, limits, a place in the registry
and a shutdown that loses no call.

    await mesh.Server("orders", [Orders(store)]).run(port=50051)         # until SIGTERM or SIGINT
    async with mesh.Server("orders", [Orders(store)]).serving() as address: ...         # in tests

The order matters and is kept: listen, then register; deregister, then stop (see drain.py).
"""

from __future__ import annotations

import asyncio
import signal
import threading
import time
from collections.abc import AsyncIterator, Callable, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import AsyncExitStack, asynccontextmanager, contextmanager
from pathlib import Path

import grpc
from grpc_health.v1 import health_pb2_grpc

import discovery
from discovery.model import Check
from discovery.registry import Registration, Registry
from mesh.policy.adaptive import Concurrency
from mesh.server.address import claim, join
from mesh.server.admission import Admission
from mesh.server.contract import Contract
from mesh.server.drain import Drain, drain
from mesh.server.health import MAX_WATCHES, Health
from mesh.server.intercept import Serving
from mesh.server.limits import Limits
from mesh.server.listing import CALLED, Listing
from mesh.server.measuring import Measuring
from mesh.server.reflection import Files, Reflection
from mesh.server.validate import checker
from mesh.telemetry.figures import Figures

DEFAULT_LIMITS = Limits()
# Health watches, reflection streams and calls being refused just now.
HEADROOM = 2 * MAX_WATCHES
HEALTH = "grpc.health.v1.Health"


class Server:
    """
    Serves *servicers* (of generated code, async or blocking) under the name *name*.

    `registry` has been entered by the caller; without one `run` takes the environment's and
    `serving` registers nowhere.  `interceptors` run inside the mesh's own, in their order.
    `descriptors` is a FileDescriptorSet file with source info, so that reflection has comments.
    `figures` are told what is served (mesh.server.measuring); without any nothing is counted.
    """

    def __init__(
        self,
        name: str,
        servicers: Iterable[object],
        *,
        registry: Registry | None = None,
        interceptors: Sequence[grpc.aio.ServerInterceptor] = (),
        limits: Limits = DEFAULT_LIMITS,
        validate: bool = True,
        descriptors: str | Path | None = None,
        figures: Figures | None = None,
    ) -> None:
        self.name = name
        self.limits = limits
        self._contract = Contract(servicers)
        self._registry = registry
        self._interceptors = tuple(interceptors)
        self._check = checker() if validate else None
        self._files = Files(descriptors)
        self._figures = figures
        self._stopping = asyncio.Event()
        self._hurry = asyncio.Event()

    @property
    def services(self) -> tuple[str, ...]:
        """Full names of the services served, without health and reflection."""
        return self._contract.services

    async def run(
        self,
        host: str = "127.0.0.1",
        port: int = 0,
        *,
        instance: str | int = "",
        tags: Sequence[str] = ("grpc",),
        meta: Mapping[str, str] | None = None,
        advertise: str = "",
        check: Check = CALLED,
        weight: int = 1,
        drain_seconds: float = 2.0,
        grace: float = 5.0,
        started: Callable[[str], None] | None = None,
        metrics: tuple[str, int] | None = None,
    ) -> None:
        """
        Serve until SIGTERM, SIGINT or `shutdown()`, then drain; a second signal stops at once.

        `metrics` is the host and port at which its figures are shown to Prometheus, until the end.

        `started` is told the address once the server listens and is registered.  What it is
        registered with, `instance` to `weight`, is explained in listing.py.
        """
        listing = Listing(
            instance=instance,
            tags=tags,
            meta=meta or {},
            advertise=advertise,
            check=check,
            weight=weight,
        )
        rule = Drain(wait=drain_seconds, grace=grace)
        self._stopping.clear()
        self._hurry.clear()
        async with AsyncExitStack() as stack:
            registry = self._registry
            if registry is None:
                registry = await stack.enter_async_context(discovery.from_environment())
            stack.enter_context(self._signals())
            if metrics is not None:
                # It needs an HTTP server, which few processes of a service do.
                from mesh.telemetry.endpoint import exposing  # noqa: PLC0415

                self._figures = self._figures or Figures()
                await stack.enter_async_context(exposing(self._figures, *metrics))
            address = await stack.enter_async_context(
                self._serving(registry, rule, host, port, listing)
            )
            if started is not None:
                started(address)
            await self._stopping.wait()

    def shutdown(self) -> None:
        """Do what a signal does: the first call begins to drain, the second stops at once."""
        if self._stopping.is_set():
            self._hurry.set()
        self._stopping.set()

    @asynccontextmanager
    async def serving(
        self,
        host: str = "127.0.0.1",
        port: int = 0,
        *,
        instance: str | int = "",
        tags: Sequence[str] = ("grpc",),
        meta: Mapping[str, str] | None = None,
        advertise: str = "",
        check: Check = CALLED,
        weight: int = 1,
        drain_seconds: float = 0.0,
        grace: float = 1.0,
    ) -> AsyncIterator[str]:
        """Serve inside the `async with`, which yields host:port; no signals, the same drain."""
        listing = Listing(
            instance=instance,
            tags=tags,
            meta=meta or {},
            advertise=advertise,
            check=check,
            weight=weight,
        )
        rule = Drain(wait=drain_seconds, grace=grace)
        self._hurry.clear()
        async with self._serving(self._registry, rule, host, port, listing) as address:
            yield address

    @asynccontextmanager
    async def _serving(
        self,
        registry: Registry | None,
        rule: Drain,
        host: str,
        port: int,
        listing: Listing,
    ) -> AsyncIterator[str]:
        health = Health(self.services)
        with _pool(self.limits.threads, self.name) as pool:
            serving = Serving(
                check=self._check,
                floor=self.limits.deadline_floor,
                admit=self._admission(),
                pool=pool,
            )
            server = self._build(health, serving, pool)
            claim(host, port)
            bound = server.add_insecure_port(join(host, port))
            await server.start()
            registration: Registration | None = None
            async with AsyncExitStack() as stack:
                try:
                    if registry is not None:
                        age = self.limits.max_connection_age
                        listed = listing.instance_of(
                            self.name, self.services, host, bound, connection_age=age
                        )
                        registration = await stack.enter_async_context(registry.register(listed))
                    yield join(host, bound)
                finally:
                    await drain(rule, health, registration, server, serving, self._hurry)

    def _admission(self) -> Admission:
        maximum, rule = self.limits.maximum_concurrent_rpcs, self.limits.adaptive
        learnt = None if rule is None else Concurrency(rule.within(maximum))
        return Admission(maximum, learnt, time.monotonic)

    def _build(self, health: Health, serving: Serving, pool: ThreadPoolExecutor) -> grpc.aio.Server:
        server = grpc.aio.server(
            handlers=self._contract.generic_handlers(pool),
            interceptors=(*self._measuring(), serving, *self._interceptors),
            options=self.limits.options(),
            # Ours counts exactly and spares health checks; gRPC's own is the wall behind it.
            maximum_concurrent_rpcs=self.limits.maximum_concurrent_rpcs + HEADROOM,
        )
        health_pb2_grpc.add_HealthServicer_to_server(health, server)
        reflection = Reflection((*self.services, HEALTH), self._files)
        server.add_generic_rpc_handlers(tuple(reflection.handlers()))
        return server

    def _measuring(self) -> tuple[Measuring, ...]:
        return () if self._figures is None else (Measuring(self._figures),)

    @contextmanager
    def _signals(self) -> Iterator[None]:
        """SIGTERM and SIGINT ask for a shutdown; only a main thread can hear them."""
        if threading.current_thread() is not threading.main_thread():
            yield
            return
        loop = asyncio.get_running_loop()
        wanted = (signal.SIGTERM, signal.SIGINT)
        for each in wanted:
            loop.add_signal_handler(each, self.shutdown)
        try:
            yield
        finally:
            for each in wanted:
                loop.remove_signal_handler(each)


@contextmanager
def _pool(threads: int, name: str) -> Iterator[ThreadPoolExecutor]:
    """Threads for blocking servicer methods, started when needed; leaving waits for none."""
    pool = ThreadPoolExecutor(threads, f"{name}-servicer")
    try:
        yield pool
    finally:
        pool.shutdown(wait=False, cancel_futures=True)
