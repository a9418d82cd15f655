"""
Who asks, and how often: API keys, bearer tokens and a rate for each of them.  Off unless told.

    X-Api-Key: <key>                  -> x-mesh-principal: key:<holder>
    Authorization: Bearer <JWT>       -> x-mesh-principal: user:<sub>
    neither, when either is asked for -> 401; a rate exceeded -> 429 with Retry-After

Services learn who asks from the metadata `x-mesh-principal`, which no client can set; a character
that metadata cannot hold is percent-encoded there.  With a secret that they share with the gateway
(MESH_IDENTITY_KEY) it is sealed, so that nobody can forge it past the gateway either.

Everybody draws from one bucket: the key's or token's, or the address's where there is neither, or
one that is not accepted; so who guesses keys is soon told 429.  The address is that of the
connection, never what X-Forwarded-For says.  The buckets are the gateway's, whatever the number of
its workers (gateway.quota); a gateway on another machine has its own.
"""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import AbstractAsyncContextManager, nullcontext
from functools import partial

from gateway.exchange import Exchange
from gateway.keys import ApiKeys
from gateway.quota import Quota, address
from gateway.status import Problem, problem
from mesh.errors import Code, RateLimited
from mesh.identity.caller import BadToken, Caller, Verifier
from mesh.identity.jwks import JwksError
from mesh.identity.seal import PRINCIPAL, Seal


class Guard:
    """The rules; without any, everybody is let in unnamed."""

    def __init__(
        self,
        keys: ApiKeys | None = None,
        tokens: Verifier | None = None,
        quota: Quota | None = None,
        *,
        seal: Seal | None = None,
    ) -> None:
        self._keys = keys
        self._tokens = tokens
        self._quota = quota
        self._seal = seal
        self._asks = keys is not None or tokens is not None

    def shown(self) -> dict[str, object]:
        """What is on, without anything secret."""
        return {
            "api_keys": self._keys is not None,
            "tokens": self._tokens is not None,
            "sealed": self._seal is not None,
            "rates": self._quota.rates.rates if self._quota is not None else {},
            "rates_refused": self._quota.refused if self._quota is not None else "",
        }

    def following(self) -> AbstractAsyncContextManager[None]:
        """Inside the block it goes by what is written meanwhile."""
        return self._quota.following() if self._quota is not None else nullcontext()

    async def admit(self, exchange: Exchange) -> None:
        """Name the exchange's principal, or raise the Problem that it is."""
        if self._asks:
            try:
                exchange.principal = await self._principal(exchange)
            except Problem:
                self._draw(exchange)
                raise
            exchange.saying = partial(self._saying, exchange.principal)
        self._draw(exchange)

    def _draw(self, exchange: Exchange) -> None:
        """Take a token of whoever it is, or raise the Problem that there is none."""
        if self._quota is None:
            return
        try:
            self._quota.take(exchange.principal or address(exchange.client))
        except RateLimited as error:
            raise problem(
                error.code,
                f"too many requests: {error}",
                reason=error.reason,
                retry_after=error.retry_after or 1.0,
            ) from None

    def _saying(self, principal: str) -> Sequence[tuple[str, str]]:
        """What calls made for this principal say of it."""
        if self._seal is None:
            return [(PRINCIPAL, principal)]
        return self._seal.say(Caller(principal))

    async def _principal(self, exchange: Exchange) -> str:
        key = exchange.header(b"x-api-key")
        if key and self._keys is not None:
            holder = self._keys.holder(key)
            if holder is None:
                raise _refused("the API key is not known")
            return Caller.named("key", holder).principal
        scheme, _, token = exchange.header(b"authorization").partition(" ")
        if self._tokens is None or not scheme:
            key_too = ["an X-Api-Key"] if self._keys is not None else []
            token_too = ["a bearer token"] if self._tokens is not None else []
            raise _refused(f"it needs {' or '.join([*key_too, *token_too])}")
        if scheme.lower() != "bearer":
            raise _refused("the Authorization is not a bearer token")
        try:
            return Caller.named("user", await self._tokens.subject(token.strip())).principal
        except BadToken as error:
            raise _refused(f"the token is refused: {error}", invalid=True) from error
        except JwksError as error:
            raise problem(
                Code.UNAVAILABLE,
                "tokens cannot be verified now",
                reason="JWKS_UNAVAILABLE",
                retry_after=1.0,
            ) from error


def _refused(message: str, *, invalid: bool = False) -> Problem:
    challenge = 'Bearer error="invalid_token"' if invalid else "Bearer"
    return problem(
        Code.UNAUTHENTICATED,
        message,
        reason="UNAUTHENTICATED",
        headers=[("www-authenticate", challenge)],
    )
