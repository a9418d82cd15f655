"""What runs where, and lines to paste: what scripts/demo prints when all is well."""

from __future__ import annotations

from collections.abc import Mapping

from scripts import parts
from scripts.stage.programs import HOST, REGISTRY_PORT, Registry, python

GUIDE = """
What runs where
  gateway         {gateway}   try {gateway}/docs
  registry        {registry}   {registry_name}
{instances}
Ready after {seconds:.1f} s{memory}. State and logs are in {state}. Ctrl-C stops everything.

REST, through the gateway
  curl '{gateway}/v1/products?page_size=3'
  curl -X POST '{gateway}/v1/orders?wait=true' -H 'Idempotency-Key: my-first-order' \\
       -d '{{"customerId": "ada", "items": [{{"productId": "mug", "quantity": 2}}], "paymentMethod": "card"}}'
  curl '{gateway}/v1/orders?customer_id=ada'

gRPC, straight to an instance of orders{grpcurl_note}
  {grpcurl} -plaintext {orders} list
  {grpcurl} -plaintext {orders} describe shop.orders.v1.OrderService
  {grpcurl} -plaintext -d '{{"customer_id": "ada"}}' {orders} shop.orders.v1.OrderService/ListOrders

Python, with generated stubs on a mesh channel: found in the registry, balanced, retried
  {settings}{python} - <<'END'
import asyncio, mesh
from shop.orders.v1 import ListOrdersRequest, OrderServiceStub

async def main():
    async with mesh.Channel("orders") as channel:
        print(await OrderServiceStub(channel).ListOrders(ListOrdersRequest(page_size=3)))

asyncio.run(main())
END
"""  # noqa: E501 - lines to paste are not broken


def guide(
    *,
    gateway: str,
    registry: Registry,
    addresses: Mapping[str, str],
    state: str,
    seconds: float,
    memory: float | None,
    strangler: str = "",
) -> str:
    """The text; `addresses` is name of an instance -> where it listens."""
    grpcurl = parts.find("grpcurl")
    return (
        GUIDE.format(
            gateway=gateway,
            registry=registry.address,
            registry_name=registry.name,
            settings=_settings(registry),
            instances="".join(f"  {name:15} {where}\n" for name, where in addresses.items()),
            orders=addresses["orders-1"],
            state=state,
            seconds=seconds,
            memory=f", {memory:.0f} MB (PSS)" if memory is not None else "",
            grpcurl=grpcurl or "grpcurl",
            grpcurl_note="" if grpcurl else " (grpcurl is not installed: scripts/parts fetches it)",
            python=python(),
        ).strip("\n")
        + strangler
    )


def _settings(registry: Registry) -> str:
    """What a program must be told to find the registry; nothing when it is where all look first."""
    if registry.address == f"{HOST}:{REGISTRY_PORT}":
        return ""
    return "".join(f"{name}={value} " for name, value in registry.environment.items())
