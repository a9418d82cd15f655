"""
Who has moved: a key's bucket against a percentage.

    bucket = blake2b(salt, key) % 10 000          moved = bucket < percent * 100

The same key has the same bucket in every process and after every restart, so nobody goes back and
forth; and whoever has moved at 10 % has moved at 50 %, since only the bound rises.  Who has no key
has the last bucket: such requests move when everybody has.
"""

from __future__ import annotations

from hashlib import blake2b

BUCKETS = 10_000
LAST = BUCKETS - 1


def bucket(key: str, salt: str) -> int:
    """The bucket of `key`, from 0 to 9999; another `salt` deals the keys out anew."""
    if not key:
        return LAST
    # The length keeps ("a", "bc") and ("ab", "c") apart.
    text = f"{len(salt)}:{salt}{key}".encode("utf-8", "surrogatepass")
    return int.from_bytes(blake2b(text, digest_size=8).digest()) % BUCKETS


def moved(number: int, percent: float) -> bool:
    """Whether the bucket has moved at `percent`, which counts in hundredths."""
    return number < round(percent * 100)
