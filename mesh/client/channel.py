"""
A grpc.aio.Channel to a service: who serves it is found, chosen and asked again by the column.

    async with mesh.Channel("orders") as channel:
        order = await OrderServiceStub(channel).GetOrder(GetOrderRequest(order_id="o-1"))

Generated stubs take it unchanged.  The channel owns what the column does not know: the registry,
the links, the event loop.  Assigning `policy` swaps the column for the calls that start after it.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import AsyncExitStack, asynccontextmanager
from functools import partial
from time import monotonic
from types import TracebackType
from typing import Any, Self, cast, get_args

import grpc
import grpc.aio

import discovery
from discovery.model import Endpoint, Snapshot
from discovery.registry import Registry
from mesh import reports
from mesh.call import Kind, Method
from mesh.client import callables, contract
from mesh.client import target as targets
from mesh.client.flows import flows
from mesh.client.follow import follow
from mesh.client.forked import remember
from mesh.client.options import Options
from mesh.client.pool import GRPCIO, Pool, Transport
from mesh.column import Memory
from mesh.policy.circuit import State
from mesh.policy.config import Policy
from mesh.reports import CircuitReport, EndpointReport
from mesh.sources import Followed, PolicySource
from mesh.telemetry.events import Emit

CLOSED, OPEN, FRESH, FORKED = "closed", "open", "fresh", "forked"
# How long entering waits to learn who is there; a registry that is away must not stop a start.
FIRST_SNAPSHOT_SECONDS = 2.0


class Channel(grpc.aio.Channel):
    """
    A channel to all instances of a service, with a policy for what may go wrong.

    `transport` is what its unary calls run on: "grpcio", or "http2", the mesh's own (see
    mesh.transport), which takes half of the CPU and knows which calls a server that goes away
    has never seen.  Streams, and channels with `credentials`, run on grpcio either way.
    """

    def __init__(
        self,
        target: str,
        policy: Policy | PolicySource | None = None,
        *,
        registry: Registry | None = None,
        options: Options = (),
        credentials: grpc.ChannelCredentials | None = None,
        transport: Transport = GRPCIO,
        drain_seconds: float = 30.0,
        emit: Emit | None = None,
    ) -> None:
        if transport not in get_args(Transport):
            raise ValueError(f"transport: {transport!r} is none of {get_args(Transport)}")
        self.target = target
        self.secure = credentials is not None
        self.active: set[Any] = set()
        self._where = targets.parse(target)
        self._registry = registry
        self._emit = emit
        self.memory = Memory()
        self._snapshot: Snapshot | None = None
        self._state = FRESH
        self._followed = Followed(policy, self._use, emit)
        self._use(self._followed.first)
        self._make_pool = partial(
            Pool,
            self._ready,
            options=options,
            credentials=credentials,
            transport=transport,
            drain_seconds=drain_seconds,
        )
        self._stack = AsyncExitStack()
        self._changed = asyncio.Event()
        self.pool: Pool
        self.loop: asyncio.AbstractEventLoop

    @property
    def policy(self) -> Policy:
        """What is in force; assign another and the calls that start then follow it."""
        return self._policy

    @policy.setter
    def policy(self, policy: Policy | None) -> None:
        self._policy = policy or Policy.production()
        self.flow = flows(self._policy, self.memory, emit=self._emit)
        if self._state is OPEN and self._snapshot is not None:
            # Who is connected to may have changed with it.
            self._publish(self._snapshot)

    def _use(self, policy: Policy | None) -> None:
        self.policy = policy

    @property
    def policy_error(self) -> str:
        """What is wrong with the newest policy of a file or key; "" when it is in force."""
        return self._followed.error

    def endpoints(self) -> tuple[EndpointReport, ...]:
        """Everyone this channel knows, as they are now."""
        return reports.endpoints(self.memory, monotonic())

    def circuits(self) -> tuple[CircuitReport, ...]:
        """Every circuit there is, as it is now."""
        return reports.circuits(self.memory, monotonic())

    def set_circuit(self, state: State, *, endpoint: str = "", method: str = "") -> None:
        """Put circuits into a state by hand, all where "" is said; CLOSED gives them back."""
        reports.set_circuit(self.memory, self._policy, state, monotonic(), endpoint, method)

    def check(self) -> None:
        """Raise unless calls can be made now."""
        if self._state is not OPEN:
            if self._state is CLOSED:
                raise grpc.aio.UsageError("Channel is closed.")
            if self._state is FORKED:
                raise grpc.aio.UsageError(
                    f"mesh.Channel({self.target!r}) was opened before a fork: open one in the child"
                )
            raise grpc.aio.UsageError(
                f"mesh.Channel({self.target!r}) is not entered: use `async with` around its calls"
            )

    async def __aenter__(self) -> Self:
        if self._state is not FRESH:
            raise grpc.aio.UsageError(f"mesh.Channel({self.target!r}) can be entered only once")
        self.loop = asyncio.get_running_loop()
        self.pool = self._make_pool()
        async with AsyncExitStack() as stack:
            if self._registry is None:
                where = self._where.registry
                registry = await stack.enter_async_context(
                    discovery.from_environment() if where is None else discovery.connect(where)
                )
            else:
                registry = self._registry
            await stack.enter_async_context(self._followed.following(registry))
            stack.push_async_callback(self.pool.close)
            first = await stack.enter_async_context(self._following(registry))
            self._stack = stack.pop_all()
        self._state = OPEN
        remember(self)
        await asyncio.wait([first], timeout=FIRST_SNAPSHOT_SECONDS)
        return self

    async def __aexit__(
        self,
        exc_type: type[BaseException] | None,
        exc: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        await self.close()

    def forked(self) -> None:
        """Refuse every call: the connections are the parent's."""
        if self._state is OPEN:
            self._state = FORKED

    async def close(self, grace: float | None = None) -> None:
        """Refuse new calls, let those in flight finish for `grace` seconds, cancel the rest."""
        if self._state is not OPEN:
            return
        self._state = CLOSED
        self._stir()
        ends = [asyncio.ensure_future(call.code()) for call in self.active]
        if ends and grace:
            await asyncio.wait(ends, timeout=grace)
        for call in list(self.active):
            call.cancel()
        for end in ends:
            end.cancel()
        await self._stack.aclose()

    @asynccontextmanager
    async def _following(self, registry: Registry) -> AsyncIterator[asyncio.Future[None]]:
        first: asyncio.Future[None] = self.loop.create_future()

        def publish(snapshot: Snapshot) -> None:
            self._publish(snapshot)
            if not first.done():
                first.set_result(None)

        task = asyncio.ensure_future(
            follow(registry, self._where.service, self._where.tag, publish)
        )
        try:
            yield first
        finally:
            task.cancel()
            await asyncio.wait([task])

    def _publish(self, snapshot: Snapshot) -> None:
        self._snapshot = snapshot
        self.pool.health_check = self._policy.health_check
        self.pool.follow(self.memory.select(snapshot))
        self.memory.publish(snapshot)
        self._stir()

    def _ready(self, endpoint: Endpoint, ready: bool | None) -> None:
        # None, "not known", makes calls wait where False would make them fail.
        self.memory.set_ready(endpoint.id, cast("bool", ready), endpoint.address)
        self._stir()

    def _stir(self) -> None:
        """Wake who waits for a change of state."""
        self._changed.set()
        self._changed = asyncio.Event()

    # -- connectivity, over all links

    def get_state(self, try_to_connect: bool = False) -> grpc.ChannelConnectivity:
        states = grpc.ChannelConnectivity
        if self._state is not OPEN:
            return states.SHUTDOWN if self._state is CLOSED else states.IDLE
        found = {link.channel.get_state() for link in self.pool.links.values()}
        # "READY if any, else CONNECTING if any CONNECTING/IDLE, else TRANSIENT_FAILURE"
        if states.READY in found:
            return states.READY
        if states.CONNECTING in found or states.IDLE in found:
            return states.CONNECTING
        return states.TRANSIENT_FAILURE

    async def wait_for_state_change(self, last_observed_state: grpc.ChannelConnectivity) -> None:
        while self.get_state() is last_observed_state:
            await self._changed.wait()

    async def channel_ready(self) -> None:
        while self.get_state() is not grpc.ChannelConnectivity.READY:
            self.check()
            await self._changed.wait()

    # -- what stubs call

    def soon(self, callback: Callable[[], None]) -> asyncio.Handle:
        """Run `callback` in the next turn of the loop."""
        return self.loop.call_soon(callback)

    def contracts(self, path: str, kind: Kind) -> tuple[Method, bool]:
        """What is known of a method, and whether its requests carry a key; see contract.read."""
        return contract.read(path, kind)

    def unary_unary(self, *method: Any, **method_too: Any) -> callables.UnaryUnary:
        return callables.UnaryUnary(self, *method, **method_too)

    def unary_stream(self, *method: Any, **method_too: Any) -> callables.UnaryStream:
        return callables.UnaryStream(self, *method, **method_too)

    def stream_unary(self, *method: Any, **method_too: Any) -> callables.StreamUnary:
        return callables.StreamUnary(self, *method, **method_too)

    def stream_stream(self, *method: Any, **method_too: Any) -> callables.StreamStream:
        return callables.StreamStream(self, *method, **method_too)
