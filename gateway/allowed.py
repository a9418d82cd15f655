"""
What a field may hold by its buf.validate rules, as plain values that a schema is written from.

    string.min_len = 1, string.max_len = 128     Allowed(min_length=1, max_length=128)
    int32.gt = 0                                 Allowed(above=0)
    cel "this.units >= 0 && ..."                 Allowed(inside={"units": Allowed(low=0)})

A rule that JSON Schema has no word for is left out: the schema then promises more than the service
takes, never less.  The service checks every rule anyway.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, fields, replace
from re import escape
from typing import Any

from buf.validate import validate_pb2

Rules = validate_pb2.FieldRules
IGNORE_ALWAYS = validate_pb2.IGNORE_ALWAYS
IGNORE_ZERO = validate_pb2.IGNORE_IF_ZERO_VALUE
# string.well_known as JSON Schema's formats, and as patterns where it has none.
FORMATS = {
    **{name: name for name in ("email", "hostname", "ipv4", "ipv6", "uri", "uuid")},
    "uri_ref": "uri-reference",
}
PATTERNS = {
    "tuuid": "^[0-9a-fA-F]{32}$",
    "ulid": "^[0-7][0-9A-HJKMNP-TV-Za-hjkmnp-tv-z]{25}$",
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Allowed:
    """The rules of one field; None and empty are no rule."""

    required: bool = False
    # Whether the zero value is let through whatever else is said.
    zero_passes: bool = False
    low: float | None = None
    high: float | None = None
    above: float | None = None
    below: float | None = None
    finite: bool = False
    only: tuple[Any, ...] | None = None
    never: tuple[Any, ...] = ()
    min_length: int | None = None
    max_length: int | None = None
    patterns: tuple[str, ...] = ()
    absent: tuple[str, ...] = ()  # patterns that must not match
    format: str = ""
    min_items: int | None = None
    max_items: int | None = None
    unique: bool = False
    defined_only: bool = False
    items: Allowed | None = None
    keys: Allowed | None = None
    # Of a message: by the names of its fields.
    inside: Mapping[str, Allowed] = field(default_factory=dict)

    def and_(self, other: Allowed) -> Allowed:
        """Both: the narrower of two bounds."""
        new: dict[str, Any] = {}
        for slot in fields(self):
            mine, theirs = getattr(self, slot.name), getattr(other, slot.name)
            new[slot.name] = _both(slot.name, mine, theirs)
        return Allowed(**new)


ANYTHING = Allowed()


def _both(name: str, mine: Any, theirs: Any) -> Any:
    if name == "inside":
        keys = {**mine, **theirs}
        return {key: mine.get(key, ANYTHING).and_(theirs.get(key, ANYTHING)) for key in keys}
    if name in ("never", "patterns", "absent"):
        return (*mine, *(item for item in theirs if item not in mine))
    if mine is None or mine is False or mine == "":
        return theirs
    if theirs is None or theirs is False or theirs == "":
        return mine
    if name in ("low", "above", "min_length", "min_items"):
        return max(mine, theirs)
    if name in ("high", "below", "max_length", "max_items"):
        return min(mine, theirs)
    if name == "only":
        return tuple(item for item in mine if item in theirs)
    return mine.and_(theirs) if name in ("items", "keys") else mine


def rules_of(field_: Any) -> Any:
    """The field's buf.validate rules, empty ones when it has none."""
    return field_.GetOptions().Extensions[validate_pb2.field]


def allowed(rules: Any) -> Allowed:
    """What `rules` (buf.validate.FieldRules) let through; CEL is gateway.cel's."""
    if rules.ignore == IGNORE_ALWAYS:
        return ANYTHING
    kind = rules.WhichOneof("type")
    made = ANYTHING if kind is None else _typed(kind, getattr(rules, kind))
    return replace(made, required=rules.required, zero_passes=rules.ignore == IGNORE_ZERO)


def _typed(kind: str, rules: Any) -> Allowed:
    if kind == "repeated":
        return Allowed(
            min_items=_given(rules, "min_items"),
            max_items=_given(rules, "max_items"),
            unique=rules.unique,
            items=allowed(rules.items),
        )
    if kind == "map":
        return Allowed(
            min_items=_given(rules, "min_pairs"),
            max_items=_given(rules, "max_pairs"),
            keys=allowed(rules.keys),
            items=allowed(rules.values),
        )
    if kind in ("any", "duration", "timestamp", "field_mask"):
        return ANYTHING
    only = tuple(getattr(rules, "in", ())) or None
    if _given(rules, "const") is not None:
        only = (rules.const,)
    made = Allowed(only=only, never=tuple(getattr(rules, "not_in", ())))
    if kind in ("string", "bytes"):
        return _text(kind, rules, made)
    if kind == "enum":
        return replace(made, defined_only=rules.defined_only)
    if kind == "bool":
        return made
    bounds = {"gte": "low", "lte": "high", "gt": "above", "lt": "below"}
    given = {ours: _given(rules, theirs) for theirs, ours in bounds.items()}
    low = given["low"] if given["low"] is not None else given["above"]
    high = given["high"] if given["high"] is not None else given["below"]
    if low is not None and high is not None and low > high:
        given = {}  # "outside of": JSON Schema would need a choice of two
    return replace(made, **given, finite=getattr(rules, "finite", False))


def _text(kind: str, rules: Any, made: Allowed) -> Allowed:
    length = _given(rules, "len")
    made = replace(
        made,
        min_length=_given(rules, "min_len") if length is None else length,
        max_length=_given(rules, "max_len") if length is None else length,
    )
    if kind == "bytes":  # what they hold is behind base64
        return made
    patterns = [rules.pattern] if rules.pattern else []
    patterns += [f"^{escape(rules.prefix)}"] if rules.prefix else []
    patterns += [f"{escape(rules.suffix)}$"] if rules.suffix else []
    patterns += [escape(rules.contains)] if rules.contains else []
    most = _given(rules, "max_bytes")
    if most is not None and (made.max_length is None or most < made.max_length):
        made = replace(made, max_length=most)
    known = rules.WhichOneof("well_known") or ""
    patterns += [PATTERNS[known]] if known in PATTERNS else []
    return replace(
        made,
        patterns=tuple(patterns),
        absent=(escape(rules.not_contains),) if rules.not_contains else (),
        format=FORMATS.get(known, ""),
    )


def _given(rules: Any, name: str) -> Any:
    """The rule's value, None when it is not given."""
    return getattr(rules, name) if rules.HasField(name) else None
