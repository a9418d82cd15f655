"""Who calls: named once at the edge, sealed, and believed by those who hold the same secret."""

from mesh.identity.caller import CALLER, BadToken, Caller, Saying, Verifier, speaking
from mesh.identity.seal import BadSeal, Seal, SealError

__all__ = [
    "CALLER",
    "BadSeal",
    "BadToken",
    "Caller",
    "Saying",
    "Seal",
    "SealError",
    "Verifier",
    "speaking",
]
