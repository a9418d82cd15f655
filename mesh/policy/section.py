"""
Sections: how a rule is spelled in JSON, as a table that reads and writes it.

    RETRY = Section(Retry, Field("attempts", "maxAttempts", int, required=True),
                           Field("base", "initialBackoff", SECONDS), ...)

    {"maxAttempts": 3, "initialBackoff": "0.05s"}  --read-->  Retry(attempts=3, base=0.05)
                                                   <--write--

msgspec checks the shape, strictly: nothing unknown, nothing converted.  The rule checks the
numbers, and its complaint comes back under the name that the file has for the field.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, fields
from typing import Annotated, Any

import msgspec

from mesh.errors import Code, PolicyError

# google.protobuf.Duration as JSON: "1.5s".
SECONDS = Annotated[str, msgspec.Meta(pattern=r"^[0-9]{1,12}(\.[0-9]{1,9})?s$")]
# "integers or case-insensitive names" - gRFC A6
CODES = list[int | str]


@dataclass(frozen=True, slots=True)
class Field:
    """One field: its name in the rule, in the file, and what it is."""

    name: str
    json: str
    kind: Any
    required: bool = False


class Section:
    """One kind of rule in a file."""

    def __init__(
        self, rule: type, *entries: Field, absent: Mapping[str, Any] | None = None
    ) -> None:
        self.rule = rule
        self.entries = entries
        # What a field is when a file leaves it out, where that is not the rule's own default.
        self._absent = dict(absent or {})
        self._defaults = {item.name: item.default for item in fields(rule)} | self._absent
        self.shape = msgspec.defstruct(
            rule.__name__,
            [
                (entry.name, _shape(entry.kind))
                if entry.required
                else (entry.name, _shape(entry.kind) | msgspec.UnsetType, msgspec.UNSET)
                for entry in entries
            ],
            rename={entry.name: entry.json for entry in entries},
            forbid_unknown_fields=True,
            kw_only=True,
        )

    def read(self, found: Any, path: str) -> Any:
        """The rule that a checked section spells; PolicyError names the place in the file."""
        given = dict(self._absent)
        for entry in self.entries:
            value = getattr(found, entry.name)
            if value is not msgspec.UNSET:
                given[entry.name] = _read(entry.kind, value, f"{path}.{entry.json}")
        try:
            return self.rule(**given)
        except PolicyError as error:
            raise PolicyError(self._where(error, path), error.value, error.why) from None

    def write(self, rule: Any) -> dict[str, Any]:
        """The section as JSON; what reading would put there anyway is left out."""
        written: dict[str, Any] = {}
        for entry in self.entries:
            value = getattr(rule, entry.name)
            if entry.required or value != self._defaults[entry.name]:
                written[entry.json] = None if value is None else _write(entry.kind, value)
        return written

    def _where(self, error: PolicyError, path: str) -> str:
        name = error.field.rsplit(".", 1)[-1]
        known = {entry.name: entry.json for entry in self.entries}
        return f"{path}.{known[name]}" if name in known else path


def code_of(value: int | str, path: str) -> Code:
    """A status code by number, or by name in any case."""
    try:
        return Code(value) if isinstance(value, int) else Code[value.upper()]
    except (ValueError, KeyError):
        raise PolicyError(path, value, "is not a status code") from None


def seconds_of(text: str) -> float:
    """Seconds of a Duration as JSON."""
    return float(text[:-1])


def duration(seconds: float) -> str:
    """Seconds as JSON's Duration, to the nanosecond."""
    return f"{seconds:.9f}".rstrip("0").rstrip(".") + "s"


def convert(raw: Any, kind: Any, path: str) -> Any:
    """`raw` as `kind`; msgspec's complaint as a PolicyError that shows the value."""
    try:
        return msgspec.convert(raw, kind)
    except msgspec.ValidationError as error:
        complaint, _, place = str(error).partition(" - at `$")
        place = place.rstrip("`")
        unknown = re.search(r"unknown field `(.+)`", complaint)
        if unknown is not None:
            place, complaint = f"{place}.{unknown[1]}", "is not a field we know"
        value = _at(raw, place)
        raise PolicyError(f"{path}{place}", value, complaint[:1].lower() + complaint[1:]) from None


def _at(raw: Any, place: str) -> Any:
    """What stands at a path like `.a[0].b`, shortened; None where nothing does."""
    for key, index in re.findall(r"\.([^.\[]+)|\[(\d+)\]", place):
        try:
            raw = raw[key] if key else raw[int(index)]
        except (KeyError, IndexError, TypeError):
            return None
    return raw if isinstance(raw, int | float | bool | None) else short(raw)


def short(value: Any) -> str:
    """The value as an error quotes it: at most 60 characters."""
    text = value if isinstance(value, str) else str(value)
    return text if len(text) <= 60 else text[:57] + "..."


def _shape(kind: Any) -> Any:
    return kind.shape if isinstance(kind, Section) else int | str if kind is Code else kind


def _read(kind: Any, value: Any, path: str) -> Any:
    if isinstance(kind, Section):
        return kind.read(value, path)
    if kind is SECONDS:
        return seconds_of(value)
    if kind is CODES:
        return frozenset(code_of(each, f"{path}[{place}]") for place, each in enumerate(value))
    return code_of(value, path) if kind is Code else value


def _write(kind: Any, value: Any) -> Any:
    if isinstance(kind, Section):
        return kind.write(value)
    if kind is SECONDS:
        return duration(value)
    if kind is CODES:
        return [code.name for code in sorted(value)]
    if kind is Code:
        return value.name
    if isinstance(value, tuple):
        return list(value)
    return dict(value) if isinstance(value, Mapping) else value
