"""What the gateway itself answers where no route does: it is full, no such path, another method."""

from __future__ import annotations

from http import HTTPStatus

from gateway.catalog import Catalog
from gateway.exchange import Answer, Exchange
from gateway.status import Problem, problem
from mesh.errors import Code


def full(what: str) -> Problem:
    """No more of these, such as requests, for now."""
    return problem(
        Code.UNAVAILABLE,
        f"the gateway serves as many {what} as it may",
        reason="GATEWAY_FULL",
        retry_after=1.0,
    )


def no_route(catalog: Catalog) -> Problem:
    """There is no such path, or none is known yet."""
    if not catalog.ready:  # it may be there soon: "no such path" would be a guess
        return problem(
            Code.UNAVAILABLE, "no service is known yet", reason="NOT_READY", retry_after=1.0
        )
    return problem(Code.NOT_FOUND, "no such path", reason="NO_ROUTE")


def wrong_method(exchange: Exchange, allow: tuple[str, ...]) -> Answer:
    """What OPTIONS is answered; any other method of this path is the Problem that it is none."""
    allowed = ", ".join(dict.fromkeys(allow))
    if exchange.method == "OPTIONS":
        return Answer(HTTPStatus.NO_CONTENT, [(b"allow", allowed.encode())])
    raise problem(
        Code.UNIMPLEMENTED,
        f"{exchange.method} is not a method of this path",
        reason="METHOD_NOT_ALLOWED",
        http=405,
        headers=[("allow", allowed)],
    )
