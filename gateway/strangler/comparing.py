"""
Whether two answers say the same: as JSON, with what may differ left out.

    {"id": 7, "at": "2026-01-02T03:04:05Z"}  same as  {"at": "2026-01-02T03:04:05.000Z", "id": "7",
                                                       "note": null}

The order of members says nothing; null and absent are one; a number is its value, in text or not
(ProtoJSON writes int64 as text); a time is its instant.  `ignore` are JSON Pointers (RFC 6901) in
which `*` stands for every member or element; what lies below an ignored place is ignored.  With
`empty_is_absent`, what ProtoJSON prints of a field that holds nothing ("", 0, false, [], {}) is no
more than its absence, where the other side has nothing there.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from decimal import Decimal, InvalidOperation
from typing import Any

from mesh.errors import PolicyError

# So many differences of two answers are told, each side cut to so many characters.
MOST = 20
SHOWN = 200
ANY = "*"
ABSENT = "(absent)"
# As they are shown.
EMPTY = {"", "0", "0.0", "False", "[]", "{}"}
_NUMBER = re.compile(r"-?(0|[1-9][0-9]{0,39})(\.[0-9]{1,40})?([eE][+-]?[0-9]{1,3})?")
_TIME = re.compile(r"(\d{4}-\d\d-\d\d)[Tt](\d\d:\d\d:\d\d)(\.\d{1,9})?([Zz]|[+-]\d\d:\d\d)")

Pointer = tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Difference:
    """One place where two answers differ, and what each says there, cut short."""

    at: str
    legacy: str
    new: str


def pointer(text: str, path: str = "ignore") -> Pointer:
    """The steps of a JSON Pointer, or PolicyError at `path`."""
    if not text.startswith("/") or re.search(r"~(?![01])", text):
        raise PolicyError(path, text, "is not a JSON Pointer like /products/*/available")
    return tuple(step.replace("~1", "/").replace("~0", "~") for step in text[1:].split("/"))


def differences(
    legacy: Any, new: Any, ignore: Sequence[Pointer] = (), *, empty_is_absent: bool = False
) -> list[Difference]:
    """Where two JSON values differ, the first `MOST` places."""
    found: list[Difference] = []
    for difference in _walk(legacy, new, (), list(ignore)):
        sides = {difference.legacy, difference.new}
        if empty_is_absent and ABSENT in sides and sides & EMPTY:
            continue
        found.append(difference)
        if len(found) == MOST:
            break
    return found


def _walk(legacy: Any, new: Any, at: Pointer, ignore: list[Pointer]) -> Iterator[Difference]:
    if () in ignore:
        return
    if isinstance(legacy, Mapping) and isinstance(new, Mapping):
        for name in sorted({*legacy, *new}):
            yield from _walk(legacy.get(name), new.get(name), (*at, name), _below(ignore, name))
    elif isinstance(legacy, list) and isinstance(new, list):
        for index in range(max(len(legacy), len(new))):
            one, other = (each[index] if index < len(each) else None for each in (legacy, new))
            yield from _walk(one, other, (*at, str(index)), _below(ignore, str(index)))
    elif _plain(legacy) != _plain(new):
        yield Difference(_written(at), _shown(legacy), _shown(new))


def _below(ignore: list[Pointer], name: str) -> list[Pointer]:
    return [rest for step, *rest_ in ignore for rest in [tuple(rest_)] if step in (name, ANY)]


def _plain(value: Any) -> Any:
    """A value in the one form that equal values share."""
    if isinstance(value, bool) or value is None:
        return ("word", value)
    if isinstance(value, int | float):
        return _number(repr(value))
    if isinstance(value, str):
        if _NUMBER.fullmatch(value):
            return _number(value)
        return _instant(value) or value
    return value


def _number(text: str) -> Any:
    try:
        return ("number", Decimal(text))
    except InvalidOperation:  # nan, inf: JSON has none, a float made here might
        return text


def _instant(text: str) -> Any:
    match = _TIME.fullmatch(text)
    if match is None:
        return None
    day, clock, fraction, zone = match.groups()
    try:
        whole = datetime.fromisoformat(f"{day}T{clock}{zone.upper().replace('Z', '+00:00')}")
    except ValueError:
        return None
    return ("time", whole.astimezone(UTC), Decimal(fraction or "0"))


def _written(at: Pointer) -> str:
    return "".join("/" + step.replace("~", "~0").replace("/", "~1") for step in at)


def _shown(value: Any) -> str:
    if value is None:
        return ABSENT
    text = value if isinstance(value, str) else repr(value)
    return text if len(text) <= SHOWN else text[: SHOWN - 3] + "..."
