"""
What a process is told of identities by its environment; each is off when absent.

    MESH_IDENTITY_KEY         a file of secrets, see mesh.identity.seal: who has it believes seals
    <prefix>_JWKS             file or URL of the keys that bearer tokens are signed with
    <prefix>_JWT_ISSUER, _JWT_AUDIENCE     what a token's iss and aud must be
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from mesh.identity.caller import Verifier
from mesh.identity.jwks import Jwks
from mesh.identity.seal import Seal, SealError

KEY = "MESH_IDENTITY_KEY"


class IdentityError(ValueError):
    """A setting that cannot be used; the message names it and shows no secret."""


def seal(environ: Mapping[str, str]) -> Seal | None:
    """The seal of this mesh, or IdentityError; None where there is none."""
    path = environ.get(KEY) or ""
    try:
        return Seal.read(Path(path)) if path else None
    except SealError as error:
        raise IdentityError(f"{KEY}: {path}: {error}") from error


def verifier(environ: Mapping[str, str], prefix: str) -> Verifier | None:
    """Who knows the tokens of the issuer that is named, or IdentityError; None when none is."""
    setting = f"{prefix}_JWKS"
    source = environ.get(setting) or ""
    if not source:
        return None
    try:
        from mesh.identity.tokens import Tokens  # noqa: PLC0415  its library is an extra

        jwks = Jwks(source)
    except ImportError as error:
        why = f"{setting} needs the extra `auth`: pip install 'proxyless[auth]'"
        raise IdentityError(why) from error
    except ValueError as error:
        raise IdentityError(f"{setting}: {error}") from error
    if "://" not in source and not Path(source).is_file():
        raise IdentityError(f"{setting}: {source}: no such file")
    issuer, audience = (environ.get(f"{prefix}_JWT_{name}") for name in ("ISSUER", "AUDIENCE"))
    return Tokens(jwks, issuer or None, audience or None)
