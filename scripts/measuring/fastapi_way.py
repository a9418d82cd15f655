"""
The same routes the FastAPI way: models written a second time, and a gRPC client of one's own.

    uvicorn scripts.measuring.fastapi_way:app        BACKEND=host:port
    uvicorn scripts.measuring.fastapi_way:lean       replies written past FastAPI

As a team that knows both would write it: one channel for all calls, a deadline on each, request id
and trace passed on, gRPC's errors told as HTTP's, uvloop and httptools underneath.  `app` declares
what it returns, as FastAPI's own documentation has it, so that a reply is checked and in the
schema; `lean` returns responses made by hand, which FastAPI does not look at.
"""

from __future__ import annotations

import os
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import grpc.aio
from fastapi import FastAPI, Request
from fastapi.responses import JSONResponse
from google.protobuf.json_format import MessageToDict, ParseDict
from pydantic import BaseModel, ConfigDict
from pydantic.alias_generators import to_camel
from shop.orders.v1 import orders_pb2, orders_pb2_grpc

TIMEOUT = 5.0
PASSED_ON = ("authorization", "idempotency-key", "traceparent", "tracestate", "x-request-id")
STATUSES = {
    grpc.StatusCode.INVALID_ARGUMENT: 400,
    grpc.StatusCode.FAILED_PRECONDITION: 400,
    grpc.StatusCode.UNAUTHENTICATED: 401,
    grpc.StatusCode.PERMISSION_DENIED: 403,
    grpc.StatusCode.NOT_FOUND: 404,
    grpc.StatusCode.ALREADY_EXISTS: 409,
    grpc.StatusCode.ABORTED: 409,
    grpc.StatusCode.RESOURCE_EXHAUSTED: 429,
    grpc.StatusCode.UNIMPLEMENTED: 501,
    grpc.StatusCode.UNAVAILABLE: 503,
    grpc.StatusCode.DEADLINE_EXCEEDED: 504,
}


class Model(BaseModel):
    """JSON in lowerCamelCase, nothing that is not known."""

    model_config = ConfigDict(alias_generator=to_camel, populate_by_name=True, extra="forbid")


class Money(Model):
    currency_code: str
    units: str = "0"
    nanos: int = 0


class Item(Model):
    product_id: str
    quantity: int
    unit_price: Money | None = None


class Order(Model):
    order_id: str = ""
    customer_id: str
    items: list[Item]
    payment_method: str = ""
    note: str = ""
    shipping_address: str = ""
    status: str = "ORDER_STATUS_UNSPECIFIED"
    cancel_reason: str = ""
    total: Money | None = None
    create_time: str | None = None
    update_time: str | None = None


@asynccontextmanager
async def _lifespan(app: FastAPI) -> AsyncIterator[None]:
    async with grpc.aio.insecure_channel(os.environ["BACKEND"]) as channel:
        app.state.orders = orders_pb2_grpc.OrderServiceStub(channel)
        yield


def _metadata(request: Request) -> list[tuple[str, str]]:
    return [(name, value) for name in PASSED_ON if (value := request.headers.get(name))]


def _shown(reply: Any) -> Any:
    return MessageToDict(reply, always_print_fields_with_no_presence=True)


async def _create(order: Order, request: Request, request_id: str, wait: bool) -> Any:
    asked = orders_pb2.CreateOrderRequest(request_id=request_id, wait=wait)
    ParseDict(order.model_dump(by_alias=True, exclude_unset=True), asked.order)
    stub = request.app.state.orders
    return _shown(await stub.CreateOrder(asked, timeout=TIMEOUT, metadata=_metadata(request)))


async def _get(order_id: str, request: Request) -> Any:
    asked = orders_pb2.GetOrderRequest(order_id=order_id)
    stub = request.app.state.orders
    return _shown(await stub.GetOrder(asked, timeout=TIMEOUT, metadata=_metadata(request)))


async def _failed(_: Request, error: Any) -> JSONResponse:
    status = STATUSES.get(error.code(), 500)
    return JSONResponse({"code": error.code().value[0], "message": error.details()}, status)


app = FastAPI(lifespan=_lifespan)
app.add_exception_handler(grpc.aio.AioRpcError, _failed)


@app.post("/v1/orders", response_model=Order, response_model_exclude_unset=True)
async def create_order(
    order: Order, request: Request, request_id: str = "", wait: bool = False
) -> Any:
    return await _create(order, request, request_id, wait)


@app.get("/v1/orders/{order_id}", response_model=Order, response_model_exclude_unset=True)
async def get_order(order_id: str, request: Request) -> Any:
    return await _get(order_id, request)


lean = FastAPI(lifespan=_lifespan)
lean.add_exception_handler(grpc.aio.AioRpcError, _failed)


@lean.post("/v1/orders")
async def create_order_lean(
    order: Order, request: Request, request_id: str = "", wait: bool = False
) -> JSONResponse:
    return JSONResponse(await _create(order, request, request_id, wait))


@lean.get("/v1/orders/{order_id}")
async def get_order_lean(order_id: str, request: Request) -> JSONResponse:
    return JSONResponse(await _get(order_id, request))
