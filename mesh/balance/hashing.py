"""One hash for rings, subsets and splits: the same in every process, whatever PYTHONHASHSEED is."""

from __future__ import annotations

from hashlib import blake2b


def hash64(text: str | bytes, seed: int = 0) -> int:
    """A 64-bit hash of `text`; another seed is another hash."""
    data = text if isinstance(text, bytes) else text.encode()
    key = seed.to_bytes(8, "big") if seed else b""
    return int.from_bytes(blake2b(data, digest_size=8, key=key).digest(), "big")
