"""
A grpc.Channel to a service, for stubs that block: the same column, driven by threads.

    with mesh.SyncChannel("orders") as channel:
        order = OrderServiceStub(channel).GetOrder(GetOrderRequest(order_id="o-1"), timeout=0.5)

Discovery runs on an event loop of the channel's own, on a background thread; every step of a flow
and every change of what it remembers happens under the driver's one lock.
"""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable
from concurrent.futures import Future
from contextlib import AsyncExitStack
from functools import partial
from time import monotonic
from types import TracebackType
from typing import Any, Self, cast

import grpc

import discovery
from discovery.model import Endpoint, Snapshot
from discovery.registry import Registry
from mesh import reports
from mesh.call import Kind, Method
from mesh.client import contract
from mesh.client import sync_callables as callables
from mesh.client import target as targets
from mesh.client.flows import flows
from mesh.client.follow import follow
from mesh.client.forked import remember
from mesh.client.options import Options
from mesh.client.pool import READY
from mesh.client.sync_pool import SyncPool
from mesh.column import Memory
from mesh.drive import Blocking
from mesh.policy.circuit import State
from mesh.policy.config import Policy
from mesh.reports import CircuitReport, EndpointReport
from mesh.sources import Followed, PolicySource
from mesh.telemetry.events import Emit

FIRST_SNAPSHOT_SECONDS = 2.0
CLOSING_SECONDS = 5.0
Callback = Callable[[grpc.ChannelConnectivity], None]


class SyncChannel(grpc.Channel):
    """A channel to all instances of a service, for callers that block."""

    def __init__(
        self,
        target: str,
        policy: Policy | PolicySource | None = None,
        *,
        registry: Registry | None = None,
        options: Options = (),
        credentials: grpc.ChannelCredentials | None = None,
        drain_seconds: float = 30.0,
        emit: Emit | None = None,
    ) -> None:
        self.target = target
        self.secure = credentials is not None
        self.active: set[Any] = set()
        self.driver = Blocking()
        self._where = targets.parse(target)
        self._registry = registry
        self._emit = emit
        self.memory = Memory()
        self._snapshot: Snapshot | None = None
        self._background: _Background | None = None
        self._followed = Followed(policy, self._use, emit)
        self._use(self._followed.first)
        self._make_pool = partial(
            SyncPool,
            self._ready,
            self.driver.lock,
            options=options,
            credentials=credentials,
            drain_seconds=drain_seconds,
        )
        self._watchers: list[Callback] = []
        self._open = self._closed = self._orphaned = False
        self._first = threading.Event()
        self.pool: SyncPool

    @property
    def policy(self) -> Policy:
        """What is in force; assign another and the calls that start then follow it."""
        return self._policy

    @policy.setter
    def policy(self, policy: Policy | None) -> None:
        with self.driver.lock:
            self._policy = policy or Policy.production()
            self.flow = flows(self._policy, self.memory, emit=self._emit)
        if self._background is not None and self._snapshot is not None:
            # Who is connected to may have changed with it.
            self._background.call(partial(self._publish, self._snapshot))

    def _use(self, policy: Policy | None) -> None:
        self.policy = policy

    @property
    def policy_error(self) -> str:
        """What is wrong with the newest policy of a file or key; "" when it is in force."""
        return self._followed.error

    def endpoints(self) -> tuple[EndpointReport, ...]:
        """Everyone this channel knows, as they are now."""
        with self.driver.lock:
            return reports.endpoints(self.memory, monotonic())

    def circuits(self) -> tuple[CircuitReport, ...]:
        """Every circuit there is, as it is now."""
        with self.driver.lock:
            return reports.circuits(self.memory, monotonic())

    def set_circuit(self, state: State, *, endpoint: str = "", method: str = "") -> None:
        """Put circuits into a state by hand, all where "" is said; CLOSED gives them back."""
        with self.driver.lock:
            reports.set_circuit(self.memory, self._policy, state, monotonic(), endpoint, method)

    def check(self) -> None:
        """Raise unless calls can be made now."""
        if self._orphaned:
            raise ValueError(
                f"mesh.SyncChannel({self.target!r}) was opened before a fork: open one in the child"
            )
        if self._closed:
            raise ValueError("Cannot invoke RPC on closed channel!")
        if not self._open:
            raise ValueError(
                f"mesh.SyncChannel({self.target!r}) is not entered: use `with` around its calls"
            )

    def __enter__(self) -> Self:
        if self._open or self._closed:
            raise ValueError(f"mesh.SyncChannel({self.target!r}) can be entered only once")
        self.pool = self._make_pool()
        self._background = _Background(self._follow)
        self._open = True
        remember(self)
        self._background.started.result()
        self._first.wait(FIRST_SNAPSHOT_SECONDS)
        return self

    def __exit__(
        self,
        exc_type: type[BaseException] | None,
        exc: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.close()

    def forked(self) -> None:
        """Refuse every call: the connections and the threads are the parent's."""
        self._orphaned = self._closed = True

    def close(self) -> None:
        """Refuse new calls and cancel those in flight."""
        if self._closed:
            return
        self._closed = True
        for call in list(self.active):
            call.cancel()
        if self._background is not None:
            self.pool.close()
            self._background.stop(CLOSING_SECONDS)

    async def _follow(self, stack: AsyncExitStack) -> asyncio.Future[None]:
        registry = self._registry
        if registry is None:
            where = self._where.registry
            registry = await stack.enter_async_context(
                discovery.from_environment() if where is None else discovery.connect(where)
            )
        await stack.enter_async_context(self._followed.following(registry))
        return asyncio.ensure_future(
            follow(registry, self._where.service, self._where.tag, self._publish)
        )

    def _publish(self, snapshot: Snapshot) -> None:
        with self.driver.lock:
            self._snapshot = snapshot
            self.pool.health_check = self._policy.health_check
            self.pool.follow(self.memory.select(snapshot))
            self.memory.publish(snapshot)
        self._first.set()
        self._tell()

    def _ready(self, endpoint: Endpoint, ready: bool | None) -> None:
        # None, "not known", makes calls wait where False would make them fail.
        self.memory.set_ready(endpoint.id, cast("bool", ready), endpoint.address)
        if self._background is not None:
            self._background.call(self._tell)

    # -- connectivity, over all links

    def _state(self) -> grpc.ChannelConnectivity:
        states = grpc.ChannelConnectivity
        found = {link.state for link in list(self.pool.links.values())}
        if READY in found:
            return READY
        if states.CONNECTING in found or states.IDLE in found:
            return states.CONNECTING
        return states.TRANSIENT_FAILURE

    def _tell(self) -> None:
        state = self._state()
        for callback in list(self._watchers):
            callback(state)

    def subscribe(self, callback: Callback, try_to_connect: bool | None = False) -> None:
        self._watchers.append(callback)
        if self._background is not None:
            self._background.call(self._tell)

    def unsubscribe(self, callback: Callback) -> None:
        self._watchers.remove(callback)

    # -- what stubs call

    def contracts(self, path: str, kind: Kind) -> tuple[Method, bool]:
        """What is known of a method, and whether its requests carry a key; see contract.read."""
        return contract.read(path, kind)

    def unary_unary(self, *method: Any, **method_too: Any) -> callables.SyncUnaryUnary:
        return callables.SyncUnaryUnary(self, *method, **method_too)

    def unary_stream(self, *method: Any, **method_too: Any) -> callables.SyncUnaryStream:
        return callables.SyncUnaryStream(self, *method, **method_too)

    def stream_unary(self, *method: Any, **method_too: Any) -> callables.SyncStreamUnary:
        return callables.SyncStreamUnary(self, *method, **method_too)

    def stream_stream(self, *method: Any, **method_too: Any) -> callables.SyncStreamStream:
        return callables.SyncStreamStream(self, *method, **method_too)


class _Background:
    """An event loop on a thread, for as long as the channel is open."""

    def __init__(self, begin: Callable[[AsyncExitStack], Any]) -> None:
        self.started: Future[None] = Future()
        self._begin = begin
        self._loop = asyncio.new_event_loop()
        self._ending = asyncio.Event()
        self._thread = threading.Thread(target=self._run, name="mesh-discovery", daemon=True)
        self._thread.start()

    def call(self, action: Callable[[], None]) -> None:
        """Run `action` on the loop, if it still runs."""
        if not self._loop.is_closed():
            self._loop.call_soon_threadsafe(action)

    def stop(self, seconds: float) -> None:
        """End the loop and wait for it, at most for `seconds`."""
        self.call(self._ending.set)
        self._thread.join(seconds)

    def _run(self) -> None:
        with asyncio.Runner(loop_factory=lambda: self._loop) as runner:
            runner.run(self._live())

    async def _live(self) -> None:
        async with AsyncExitStack() as stack:
            try:
                following = await self._begin(stack)
            except BaseException as error:  # noqa: BLE001 - raised where the channel is entered
                self.started.set_exception(error)
                return
            self.started.set_result(None)
            await self._ending.wait()
            following.cancel()
            await asyncio.wait([following])
