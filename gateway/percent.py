"""
Percent-encoding, strictly: an escape that is not whole, or UTF-8 that is not, is an error.

`urllib.parse.unquote` lets both pass; a gateway that guesses what a client meant stores the guess.
"""

from __future__ import annotations

import re

_ESCAPE = re.compile(rb"%([0-9A-Fa-f]{2})")
_BAD_ESCAPE = re.compile(r"%(?![0-9A-Fa-f]{2})")
_SLASH = re.compile(r"(%2[Ff])")


class PercentError(ValueError):
    """Text that is no percent-encoded UTF-8."""

    def __init__(self, text: str) -> None:
        super().__init__(f"{text[:80]!r} is not percent-encoded UTF-8")


def decode(text: str, *, keep_slash: bool = False) -> str:
    """`text` with its escapes replaced; with `keep_slash`, %2F and %2f stay as they are."""
    if "%" not in text and text.isascii():
        return text
    if keep_slash:
        return "".join(
            part if _SLASH.fullmatch(part) else decode(part) for part in _SLASH.split(text)
        )
    if _BAD_ESCAPE.search(text):
        raise PercentError(text)
    raw = _ESCAPE.sub(lambda match: bytes([int(match[1], 16)]), text.encode("latin-1", "replace"))
    try:
        return raw.decode("utf-8")
    except UnicodeDecodeError as error:
        raise PercentError(text) from error


def decode_form(text: str) -> str:
    """`text` from a query string, where "+" is a space."""
    return decode(text.replace("+", " "))
