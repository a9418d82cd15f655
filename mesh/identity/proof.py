"""
Who makes a call, by what it says of itself, or the refusal that it gets: for servers of any kind.

    sealed by this mesh's secret .......... the caller it names, for whom a service may call
    else a bearer token that is known ..... user:<sub>, for who calls past the gateway
    neither ............................... UNAUTHENTICATED
"""

from __future__ import annotations

from collections.abc import Sequence

from mesh.errors import Code, StatusError
from mesh.identity.caller import BadToken, Caller, Verifier
from mesh.identity.jwks import JwksError
from mesh.identity.seal import BadSeal, Seal
from mesh.status import DOMAIN

Metadata = Sequence[tuple[str, str | bytes]]


async def proven(seal: Seal, tokens: Verifier | None, metadata: Metadata) -> Caller:
    """The caller that metadata, or headers in small letters, prove; StatusError without proof."""
    try:
        return seal.heard(metadata) or await _bearer(tokens, metadata)
    except BadSeal as error:
        raise _refused(str(error)) from error
    except BadToken as error:
        raise _refused(f"the token is refused: {error}") from error
    except JwksError as error:
        raise StatusError(
            Code.UNAVAILABLE,
            "tokens cannot be verified now",
            reason="JWKS_UNAVAILABLE",
            domain=DOMAIN,
            retry_after=1.0,
        ) from error


async def _bearer(tokens: Verifier | None, metadata: Metadata) -> Caller:
    if tokens is None:
        raise _refused("who calls is not said")
    given = [str(value) for name, value in metadata if name == "authorization"]
    scheme, _, token = given[0].partition(" ") if given else ("", "", "")
    if len(given) != 1 or scheme.lower() != "bearer":
        raise _refused("it needs one bearer token")
    return Caller.named("user", await tokens.subject(token.strip()))


def _refused(message: str) -> StatusError:
    return StatusError(Code.UNAUTHENTICATED, message, reason="UNAUTHENTICATED", domain=DOMAIN)
