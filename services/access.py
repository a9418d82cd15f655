"""
Who may do what in the shop, once it knows who calls.  Off unless MESH_IDENTITY_KEY is set.

    staff (SHOP_STAFF), services    everything
    anybody else                    a customer: the methods of FOR_CUSTOMERS, and of what these
                                    touch only what is theirs

A customer's id is the subject of their token; that of an API key's holder is `key:<holder>`.
What is another's is not found, as if it were not there; who names another customer is refused.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from contextvars import ContextVar
from dataclasses import dataclass
from functools import partial
from typing import Any

import grpc

from mesh.errors import Code, StatusError
from mesh.identity import CALLER, Caller, Saying, Seal, Verifier
from mesh.identity.caller import encoded
from mesh.identity.proof import Metadata, proven
from mesh.identity.seal import SUBJECT
from mesh.identity.settings import seal, verifier
from mesh.server.identify import Identifying
from services.answering import DOMAIN

# The other methods move money and stock, tell of everybody, or repair: they are the shop's own.
FOR_CUSTOMERS = frozenset(
    {
        *(
            f"/shop.orders.v1.OrderService/{name}"
            for name in ("CreateOrder", "GetOrder", "ListOrders", "UpdateOrder", "CancelOrder")
        ),
        "/shop.orders.v1.OrderService/WatchOrder",
        "/shop.payments.v1.PaymentService/GetPayment",
        "/shop.payments.v1.PaymentService/GetOrderPayment",
        "/shop.inventory.v1.InventoryService/ListProducts",
        "/shop.inventory.v1.InventoryService/GetProduct",
        "/shop.inventory.v1.InventoryService/GetReservation",
        "/shop.inventory.v1.InventoryService/GetOrderReservation",
        "/shop.notifications.v1.NotificationService/ListNotifications",
        "/shop.notifications.v1.NotificationService/Subscribe",
    }
)

_CUSTOMER: ContextVar[str | None] = ContextVar("shop_customer", default=None)


@dataclass(frozen=True, slots=True)
class Access:
    """The rule of one process; without a seal everybody may do everything."""

    seal: Seal | None = None
    tokens: Verifier | None = None
    staff: frozenset[str] = frozenset()

    @classmethod
    def from_environment(cls, environ: Mapping[str, str] = os.environ) -> Access:
        """The rule that the environment tells; IdentityError names a setting that can't be used."""
        people = (each.strip() for each in environ.get("SHOP_STAFF", "").split(","))
        return cls(seal(environ), verifier(environ, "MESH"), frozenset(filter(None, people)))

    def interceptors(self) -> list[grpc.aio.ServerInterceptor]:
        """What a server of the shop needs for it, before whatever else it has."""
        if self.seal is None:
            return []
        return [Identifying(self.seal, tokens=self.tokens, allow=self._allow)]

    def saying(self, service: str, customer: str = "") -> Saying:
        """What the calls say that *service* makes by itself, perhaps for a customer's order."""
        if self.seal is not None:
            return partial(self.seal.say, Caller.named("service", service, subject=customer))
        said = [(SUBJECT, encoded(customer))] if customer else []
        return lambda: said

    async def confine(self, headers: Metadata) -> None:
        """
        Have `customer()` be whom a request's headers prove: for doors that are not gRPC's.

        StatusError where they prove nobody, or nobody who may be a customer.
        """
        customer = None
        if self.seal is not None:
            customer = self._customer(await proven(self.seal, self.tokens, headers))
        if customer == "":
            raise StatusError(
                Code.PERMISSION_DENIED,
                "this name is no customer's",
                reason="NOT_FOR_CUSTOMERS",
                domain=DOMAIN,
            )
        _CUSTOMER.set(customer)

    def _customer(self, caller: Caller) -> str | None:
        """The customer that a caller is, "" for nobody's name; None for staff and services."""
        if caller.kind == "service" or caller.principal in self.staff:
            return None
        if _disguised(caller):
            return ""
        return caller.principal if caller.kind == "key" else caller.name

    def _allow(self, method: str, caller: Caller) -> None:
        customer = self._customer(caller)
        if customer is None:
            return
        if method not in FOR_CUSTOMERS or not customer:
            raise StatusError(
                Code.PERMISSION_DENIED,
                f"{method.rpartition('/')[2]} is not for customers",
                reason="NOT_FOR_CUSTOMERS",
                domain=DOMAIN,
            )
        _CUSTOMER.set(customer)


OPEN = Access()


def customer() -> str | None:
    """The customer to whose own things the call is confined; None for who may see everything."""
    return _CUSTOMER.get()


def confined(customer_id: str, field: str = "customer_id") -> str:
    """The customer whom a call is about: the caller where none is named; refuses any other."""
    own = customer()
    if own is None or customer_id == own:
        return customer_id
    if not customer_id:
        return own
    why = "is another customer"
    raise StatusError(
        Code.PERMISSION_DENIED,
        f"{field}: {why}",
        reason="OTHER_CUSTOMER",
        domain=DOMAIN,
        fields=[(field, why)],
    )


def made_for(context: Any) -> str:
    """The customer for whose order a service makes this call; "" for none."""
    caller = CALLER.get()
    if caller is not None:
        return caller.made_for
    # Nobody is asked who they are: it is kept all the same, for the day when they are.
    said = dict(context.invocation_metadata() or ())
    return Caller("", str(said.get(SUBJECT, ""))).made_for


def is_theirs(owner: str) -> bool:
    """Whether who calls may see what belongs to the customer *owner*."""
    own = customer()
    return own is None or owner == own


def _disguised(caller: Caller) -> bool:
    """Whether somebody with a token has a name that an API key's holder goes by."""
    return caller.kind == "user" and caller.name.startswith("key:")
