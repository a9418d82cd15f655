"""
A seal: proof that somebody who holds the mesh's secret has named the caller of a call.

    x-mesh-principal   user:ada
    x-mesh-subject     whom a service calls for, where it does
    x-mesh-seal        <until>.<HMAC-SHA256 of the version, until, principal and subject>

Who can reach a service's port can send any metadata, but not seal it.  A seal is good for every
service and method until `until` (seconds since 1970): one that leaks is soon worth nothing.  The
secrets are lines of a file: the first one seals, all of them are believed, so that secrets can be
changed one process after another.
"""

from __future__ import annotations

import hmac
import time
from base64 import urlsafe_b64encode
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path

from mesh.identity.caller import Caller

PRINCIPAL, SUBJECT, SEAL = "x-mesh-principal", "x-mesh-subject", "x-mesh-seal"
NAMES = frozenset({PRINCIPAL, SUBJECT, SEAL})

# How long a seal is good, and how far apart clocks may be; seconds.
LIFETIME_SECONDS = 120
LEEWAY_SECONDS = 30
# Shorter secrets are guessed.
SHORTEST = 32
_VERSION = "1"


class SealError(ValueError):
    """The secrets cannot be used; the message never shows one."""


class BadSeal(Exception):
    """A caller is named, and nothing proves it; the message may be shown to who said so."""


class Seal:
    """Seals and believes names by `secrets`, the first of which seals."""

    def __init__(self, secrets: Sequence[bytes], clock: Callable[[], float] = time.time) -> None:
        if not secrets:
            raise SealError("it holds no secret")
        for number, secret in enumerate(secrets, 1):
            if len(secret) < SHORTEST:
                raise SealError(f"secret {number}: a secret has at least {SHORTEST} characters")
        self._secrets = tuple(secrets)
        self._clock = clock

    @classmethod
    def read(cls, path: Path) -> Seal:
        """The secrets of a file, one a line, '#' begins a comment; SealError without any."""
        try:
            lines = path.read_text("utf-8").splitlines()
        except (OSError, UnicodeDecodeError) as error:
            raise SealError(getattr(error, "strerror", None) or "it is not UTF-8") from error
        stripped = (line.partition("#")[0].strip() for line in lines)
        return cls([line.encode() for line in stripped if line])

    def say(self, caller: Caller) -> list[tuple[str, str]]:
        """The metadata that names *caller*, good for LIFETIME_SECONDS."""
        until = str(int(self._clock()) + LIFETIME_SECONDS)
        said = [(PRINCIPAL, caller.principal)]
        if caller.subject:
            said.append((SUBJECT, caller.subject))
        return [*said, (SEAL, f"{until}.{_proof(self._secrets[0], caller, until)}")]

    def heard(self, metadata: Iterable[tuple[str, str | bytes]]) -> Caller | None:
        """The caller that *metadata* names, None where it names nobody; BadSeal without proof."""
        said: dict[str, str] = {}
        for name, value in metadata:
            if name in NAMES:
                if name in said:
                    raise BadSeal(f"{name} is given twice")
                said[name] = str(value)
        if not said:
            return None
        caller = Caller(said.get(PRINCIPAL, ""), said.get(SUBJECT, ""))
        until, _, proof = said.get(SEAL, "").partition(".")
        if not caller.principal or not proof:
            raise BadSeal("who calls is said and not sealed")
        if not any(
            hmac.compare_digest(_proof(secret, caller, until).encode(), proof.encode())
            for secret in self._secrets
        ):
            raise BadSeal("the seal is not of this mesh")
        left = int(until) - self._clock()
        if not -LEEWAY_SECONDS <= left <= LIFETIME_SECONDS + LEEWAY_SECONDS:
            raise BadSeal("the seal has expired, or a clock is wrong")
        return caller


def _proof(secret: bytes, caller: Caller, until: str) -> str:
    # No field can hold a line end: metadata is printable ASCII.
    text = "\n".join((_VERSION, until, caller.principal, caller.subject))
    digest = hmac.digest(secret, text.encode("utf-8", "surrogateescape"), "sha256")
    return urlsafe_b64encode(digest).decode().rstrip("=")
