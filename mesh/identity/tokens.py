"""
Bearer tokens: signed JWTs (RFC 7519) of an issuer whose public keys are known.

Only signatures that need a private key count: never `none`, and never HS*, whose key would be the
public one.  A token must say who it is for (`sub`) and until when (`exp`); one with an audience is
refused unless it is ours.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import jwt

from mesh.identity.caller import BadToken
from mesh.identity.jwks import Jwks

# By the type of key, so that a key is never used as one of another type.
ALGORITHMS = {
    "RSA": ("RS256", "RS384", "RS512", "PS256", "PS384", "PS512"),
    "EC": ("ES256", "ES384", "ES512"),
    "OKP": ("EdDSA",),
}
LONGEST = 16 * 1024
# How far the issuer's clock may be from ours.
LEEWAY_SECONDS = 30


@dataclass(frozen=True, slots=True)
class Tokens:
    """The rule: whose signature counts, and who it must have been made for."""

    jwks: Jwks
    issuer: str | None = None
    audience: str | None = None

    async def subject(self, token: str) -> str:
        """Whom the token speaks for, or BadToken (JwksError when no key can be had)."""
        if len(token) > LONGEST:
            raise BadToken("it is too long")
        try:
            head = jwt.get_unverified_header(token)
        except jwt.InvalidTokenError as error:
            raise BadToken("it is not a JWT") from error
        algorithm, kid = head.get("alg"), head.get("kid")
        found = await self.jwks.keys(kid if isinstance(kid, str) else None)
        keys = [key for key in found if _fits(key, algorithm)]
        if not keys:
            raise BadToken("no known key has signed it")
        failure: Exception = BadToken("no known key has signed it")
        for key in keys[:4]:  # without a key id there may be more than one to try
            try:
                return self._read(token, key, algorithm)
            except jwt.InvalidSignatureError as error:
                failure = error
            except jwt.PyJWTError as error:
                raise BadToken(_why(error)) from error
        raise BadToken("its signature is wrong") from failure

    def _read(self, token: str, key: dict[str, Any], algorithm: Any) -> str:
        claims = jwt.decode(
            token,
            jwt.PyJWK(key, algorithm).key,
            algorithms=[algorithm],
            audience=self.audience,
            issuer=self.issuer,
            leeway=LEEWAY_SECONDS,
            options={"require": ["exp", "sub"]},
        )
        subject: str = claims["sub"]
        if not subject:
            raise BadToken("it names nobody")
        return subject


def _fits(key: dict[str, Any], algorithm: Any) -> bool:
    return (
        algorithm in ALGORITHMS.get(key.get("kty", ""), ())
        and key.get("alg", algorithm) == algorithm
    )


def _why(error: jwt.PyJWTError) -> str:
    match error:
        case jwt.ExpiredSignatureError():
            return "it has expired"
        case jwt.InvalidAudienceError():
            return "it is for another audience"
        case jwt.InvalidIssuerError():
            return "it is by another issuer"
        case jwt.MissingRequiredClaimError():
            return f"it lacks {error.claim}"
        case jwt.ImmatureSignatureError():
            return "it is not valid yet"
    return "it is not valid"
