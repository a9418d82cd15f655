"""
A regular expression for the whole numbers from `low` to `high`, as JSON strings write them.

    between(1, 128)    ^(?:[1-9][0-9]?|1[0-1][0-9]|12[0-8])$

JSON Schema bounds numbers, but ProtoJSON writes 64-bit integers as strings and takes any integer
as one; only a pattern bounds those.
"""

from __future__ import annotations

from collections.abc import Iterator


def between(low: int, high: int) -> str:
    """The pattern, without leading zeros; ValueError when there is no such number."""
    if low > high:
        raise ValueError(f"no number lies between {low} and {high}")
    parts: list[str] = []
    if low < 0:
        parts += [f"-{part}" for part in _positive(max(1, -high), -low)]
    if low <= 0 <= high:
        parts.append("0")
    if high > 0:
        parts += _positive(max(1, low), high)
    return f"^(?:{'|'.join(parts)})$"


def _positive(low: int, high: int) -> Iterator[str]:
    """Alternatives for `low` to `high`, both at least 1, from the shortest to the longest."""
    full: list[int] = []  # lengths of which every number is in
    for length in range(len(str(low)), len(str(high)) + 1):
        first, last = max(low, 10 ** (length - 1)), min(high, 10**length - 1)
        if (first, last) == (10 ** (length - 1), 10**length - 1):
            full.append(length)
            continue
        if full:
            yield _all(full)
            full = []
        yield from _alike(str(first), str(last))
    if full:
        yield _all(full)


def _all(lengths: list[int]) -> str:
    least, most = lengths[0] - 1, lengths[-1] - 1
    if most == 0:
        return "[1-9]"
    count = "?" if (least, most) == (0, 1) else f"{{{least},{most}}}"
    return f"[1-9][0-9]{count}" if least != most else f"[1-9]{_any(most)}"


def _alike(first: str, last: str) -> list[str]:
    """Alternatives for numbers of the same length."""
    if not first:
        return [""]
    if first[0] == last[0]:
        return [first[0] + rest for rest in _alike(first[1:], last[1:])]
    rest = len(first) - 1
    low, high = int(first[0]), int(last[0])
    below: list[str] = []
    above: list[str] = []
    if first[1:] != "0" * rest:
        below = [first[0] + more for more in _alike(first[1:], "9" * rest)]
        low += 1
    if last[1:] != "9" * rest:
        above = [last[0] + more for more in _alike("0" * rest, last[1:])]
        high -= 1
    if low <= high:
        below.append((str(low) if low == high else f"[{low}-{high}]") + _any(rest))
    return below + above


def _any(count: int) -> str:
    return "" if not count else "[0-9]" if count == 1 else f"[0-9]{{{count}}}"
