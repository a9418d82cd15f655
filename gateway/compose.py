"""
One page from several calls: what it needs, and what it would like to have.

    def pages(gateway: Gateway) -> None:
        orders = OrderServiceStub(gateway.channel("orders"))
        payments = PaymentServiceStub(gateway.channel("payments"))

        @gateway.get("/v1/orders/{order_id}/summary")
        async def summary(page: Page, order_id: str) -> None:
            page.need("order", orders.GetOrder(GetOrderRequest(order_id=order_id)))
            page.want("payment", payments.GetOrderPayment(GetOrderPaymentRequest(order_id=...)))

The branches run side by side, each with `branch_seconds`.  The page is an object with one member a
branch; a wanted one that failed is null and stands in "missing" as {part, code, message}.  A
needed one that failed is the answer.  Path variables come as keyword arguments; a keyword with a
default is a query parameter, always a string; any other parameter is refused.
"""

from __future__ import annotations

import asyncio
import inspect
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from time import monotonic
from typing import Any

import grpc.aio
from google.protobuf import descriptor_pool
from google.protobuf.message import Message

from gateway.codec import Codec
from gateway.exchange import JSON, Answer, Exchange
from gateway.headers import metadata
from gateway.invalid import Invalid
from gateway.jsontext import dumps
from gateway.percent import decode_form
from gateway.rule import parse
from gateway.status import Problem, from_rpc, problem
from mesh.errors import Code
from mesh.identity.caller import Saying
from mesh.inbound import INBOUND, Inbound

# The trace goes on by itself; a key and a place in a stream belong to one rpc, not to several.
OWN = frozenset({"traceparent", "tracestate", "idempotency-key", "last-event-id"})

_codec = Codec(descriptor_pool.Default())
Handler = Callable[..., Awaitable[None]]


@dataclass(slots=True)
class _Branch:
    part: str
    needed: bool
    task: asyncio.Future[Any]


class Page:
    """What a page's handler fills: the calls that make it."""

    def __init__(self, seconds: float) -> None:
        self._seconds = seconds
        self._branches: list[_Branch] = []

    def need(self, part: str, call: Awaitable[Any]) -> None:
        """Without this branch there is no page: its error is the answer."""
        self._add(part, call, needed=True)

    def want(self, part: str, call: Awaitable[Any]) -> None:
        """Without this branch the page says what is missing."""
        self._add(part, call, needed=False)

    def _add(self, part: str, call: Awaitable[Any], *, needed: bool) -> None:
        self._branches.append(_Branch(part, needed, asyncio.ensure_future(self._within(call))))

    async def _within(self, call: Awaitable[Any]) -> Any:
        try:
            async with asyncio.timeout(self._seconds):
                return await call
        except TimeoutError:
            raise problem(
                Code.DEADLINE_EXCEEDED,
                f"no answer within {self._seconds:g} s",
                reason="BRANCH_TIMEOUT",
            ) from None
        except grpc.aio.AioRpcError as error:
            raise from_rpc(error, _codec, "a page's branch") from error

    async def render(self) -> dict[str, Any]:
        """The page once every branch has ended, or the Problem of the first one needed."""
        body: dict[str, Any] = {}
        missing: list[dict[str, str]] = []
        for branch in self._branches:
            if branch.needed:  # when one fails nothing else is worth waiting for
                await branch.task
        for branch in self._branches:
            try:
                body[branch.part] = written(await branch.task)
            except Problem as error:
                body[branch.part] = None
                missing.append(
                    {
                        "part": branch.part,
                        "code": error.code.name,
                        "message": error.status.message,
                    }
                )
        return {**body, "missing": missing}

    async def close(self) -> None:
        """Cancel what still runs and let every branch end."""
        tasks = [branch.task for branch in self._branches]
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)


class PageRoute:
    """A page at a path; an entry of the router like any rpc's."""

    http_method = "GET"

    def __init__(self, path: str, handler: Handler) -> None:
        self.template = parse(path)
        self.name = f"page {handler.__name__}"
        self.comment = inspect.getdoc(handler) or ""
        self._handler = handler
        self._captures = {".".join(c.path): c for c in self.template.captures()}
        parameters = list(inspect.signature(handler).parameters.values())[1:]
        self.query = [p.name for p in parameters if p.default is not p.empty]
        wanted = {p.name for p in parameters if p.default is p.empty}
        if wanted != set(self._captures):
            raise ValueError(f"{path}: {handler.__name__} takes {sorted(wanted)} from the path")

    async def answer(self, exchange: Exchange, segments: list[str]) -> Answer:
        arguments = {name: c.text(segments) for name, c in self._captures.items()}
        arguments |= self._parameters(exchange.query)
        most = exchange.limits.branch_seconds
        seconds = min(most, exchange.timeout(most) or most)
        page = Page(seconds)
        inbound = Inbound(
            monotonic() + seconds, exchange.header(b"traceparent"), saying=_passed_on(exchange)
        )
        token = INBOUND.set(inbound)
        try:
            async with exchange.watched():
                await self._handler(page, **arguments)
                body = await page.render()
        finally:
            INBOUND.reset(token)
            await page.close()
        return Answer(200, list(JSON), dumps(body))

    def _parameters(self, query: str) -> dict[str, str]:
        found: dict[str, str] = {}
        for pair in filter(None, query.split("&")):
            name, _, text = map(decode_form, pair.partition("="))
            if name not in self.query:
                raise Invalid("no such parameter", name, "UNKNOWN_PARAMETER")
            if name in found:
                raise Invalid("is given twice", name)
            found[name] = text
        return found


def _passed_on(exchange: Exchange) -> Saying:
    """What each branch is told of the request: its headers as any rpc's, and who asks."""
    told = [pair for pair in metadata(exchange.headers, exchange.client) if pair[0] not in OWN]
    who = exchange.saying
    return lambda: [*told, *(who() if who is not None else ())]


def written(value: Any) -> Any:
    """A branch's value as JSON: a message by its descriptor, anything else as it is."""
    return _codec.write(value) if isinstance(value, Message) else value
