"""
JSON and durations as Go's decoder reads them, refused in its words.

    fields(decode(body, "agent.checkUpdate"), {"status": ("status", "string")})

Field names are taken in any case and some under a second name; a field that Go does not know is
refused where Consul's decoder is strict.  What follows the first value is not read.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from typing import Any

# JSON name in lower case -> our field ("" to check its type only) and the Go type it has.
Table = Mapping[str, tuple[str, str]]

ANY, DURATION = "any", "duration"
_KINDS: dict[str, type] = {
    "string": str,
    "int": int,
    "uint64": int,
    "bool": bool,
    "structs.HealthChecks": list,
    "api.NodeOp": str,
    "api.ServiceOp": str,
    "api.CheckOp": str,
}
_LITERALS = {"n": "null", "t": "true", "f": "false"}
_A_KEY = "looking for beginning of object key string"
_WHERE = {
    "Expecting property name enclosed in double quotes": _A_KEY,
    "Illegal trailing comma before end of object": _A_KEY,
    "Expecting ':' delimiter": "after object key",
}
_PART = re.compile(r"(\d+(?:\.\d*)?|\.\d+)(h|ms|m|s|us|µs|ns)")
_UNITS = {"h": 3600.0, "m": 60.0, "s": 1.0, "ms": 1e-3, "us": 1e-6, "µs": 1e-6, "ns": 1e-9}


class Refused(Exception):
    """The request is answered with `status`, this text and these headers."""

    def __init__(self, status: int, text: str, headers: Mapping[str, str] | None = None) -> None:
        super().__init__(text)
        self.status = status
        self.text = text
        self.headers = dict(headers or {})


class Misread(ValueError):
    """What Go's decoder would say."""


def decode(body: bytes, into: str) -> dict[str, Any]:
    """The object in a body; `into` is the Go type that the refusal of anything else names."""
    try:
        found = value(body)
        if not isinstance(found, dict):
            raise Misread(f"json: cannot unmarshal {kind(found)} into Go value of type {into}")
    except Misread as error:
        raise Refused(400, f"Request decode failed: {error}") from None
    return found


def value(body: bytes) -> Any:
    """The first JSON value of a body; raises Misread."""
    text = body.decode(errors="replace").lstrip(" \t\r\n")
    if not text:
        raise Misread("EOF")
    try:
        return json.JSONDecoder().raw_decode(text)[0]
    except ValueError as error:
        raise Misread(_said(text, error)) from None


def _said(text: str, error: ValueError) -> str:
    if not isinstance(error, json.JSONDecodeError):
        return str(error)
    at = error.pos
    if at >= len(text.rstrip()) or error.msg.startswith("Unterminated string"):
        return "unexpected EOF"
    literal = _LITERALS.get(text[at])
    if error.msg == "Expecting value" and literal is not None:
        same = next(n for n in range(1, 9) if text[at : at + n] != literal[:n]) - 1
        if at + same >= len(text):
            return "unexpected EOF"
        wanted = literal[same]
        return f"invalid character {text[at + same]!r} in literal {literal} (expecting {wanted!r})"
    if error.msg == "Expecting ',' delimiter":
        where = "after array element" if _in_array(text[:at]) else "after object key:value pair"
    else:
        where = _WHERE.get(error.msg, "looking for beginning of value")
    return f"invalid character {text[at]!r} {where}"


def _in_array(text: str) -> bool:
    """Whether the innermost bracket still open is a square one."""
    open_ = []
    for sign in re.findall(r'"(?:[^"\\]|\\.)*"|[\[\]{}]', text):
        if sign in "[{":
            open_.append(sign)
        elif sign in "]}" and open_:
            open_.pop()
    return bool(open_) and open_[-1] == "["


def fields(
    found: dict[str, Any], table: Table, *, owner: str = "", strict: bool = False
) -> dict[str, Any]:
    """As `read`, of a request's body."""
    try:
        return read(found, table, owner=owner, strict=strict)
    except Misread as error:
        raise Refused(400, f"Request decode failed: {error}") from None


def read(
    found: dict[str, Any], table: Table, *, owner: str = "", strict: bool = False
) -> dict[str, Any]:
    """Our fields of a Go struct `owner`; null is left out, as Go leaves a field alone."""
    out: dict[str, Any] = {}
    for key, one in found.items():
        known = table.get(key.lower())
        if known is None:
            if strict:
                raise Misread(f'json: unknown field "{key}"')
            continue
        name, type_ = known
        if one is None:
            continue
        if type_ != DURATION:
            check(one, type_, f"{owner}.{key}")
        if name:
            out[name] = seconds(one) if type_ == DURATION else one
    return out


def check(one: Any, type_: str, where: str) -> None:
    """Raise Misread unless a value fits a Go type, elements of a list or map included."""
    inner = re.fullmatch(r"\[\](.+)|map\[string\](.+)", type_)
    wanted = _KINDS.get(type_, dict) if inner is None else (list if inner[1] else dict)
    fits = isinstance(one, wanted) and (wanted is not int or not isinstance(one, bool))
    if type_ != ANY and not fits:
        raise Misread(
            f"json: cannot unmarshal {kind(one)} into Go struct field {where} of type {type_}"
        )
    if inner is None:
        return
    for element in one if inner[1] else one.values():
        if (inner[1] or inner[2]) in _KINDS and element is not None:
            check(element, inner[1] or inner[2], where)


def seconds(text: object) -> float:
    """A Go duration, as text or as a number of nanoseconds; raises Misread."""
    if isinstance(text, int | float) and not isinstance(text, bool):
        return text / 1e9
    said = str(text)
    digits = said.lstrip("+-")
    if said in ("", "0"):
        return 0.0
    if len(said) - len(digits) > 1 or not re.fullmatch(f"(?:{_PART.pattern})+", digits):
        bare = re.fullmatch(r"\d+(\.\d*)?", digits)
        raise Misread(f'time: {"missing unit in" if bare else "invalid"} duration "{said}"')
    total = sum(float(number) * _UNITS[unit] for number, unit in _PART.findall(digits))
    return -total if said.startswith("-") else total


def duration(seconds: float) -> str:
    """As Go prints one: 1h0m0s, 1m30s, 1.5s, 250ms; "0s" for none."""
    if seconds < 1.0:
        return f"{seconds * 1e3:g}ms" if seconds else "0s"
    minutes, rest = divmod(seconds, 60.0)
    hours, minutes = divmod(int(minutes), 60)
    said = f"{hours}h" if hours else ""
    return said + (f"{minutes}m" if hours or minutes else "") + f"{rest:.9g}s"


def truth(text: str) -> bool | None:
    """What Go's strconv.ParseBool makes of it, None for what it refuses."""
    if text in ("1", "t", "T", "TRUE", "true", "True"):
        return True
    return False if text in ("0", "f", "F", "FALSE", "false", "False") else None


def kind(one: object) -> str:
    """What Go calls a JSON value."""
    if isinstance(one, bool):
        return "bool"
    if isinstance(one, str):
        return "string"
    if isinstance(one, int | float):
        return "number"
    return "array" if isinstance(one, list) else "object"


def said_of_pattern(pattern: str, error: re.error) -> str:
    """The commonest of Go's complaints about a pattern, else Python's own."""
    if "unterminated subpattern" in error.msg:
        return f"error parsing regexp: missing closing ): `{pattern}`"
    if "unterminated character set" in error.msg and error.pos is not None:
        return f"error parsing regexp: missing closing ]: `{pattern[error.pos :]}`"
    if "nothing to repeat" in error.msg and error.pos is not None:
        wrong = pattern[error.pos : error.pos + 1]
        return f"error parsing regexp: missing argument to repetition operator: `{wrong}`"
    if "unbalanced parenthesis" in error.msg:
        return f"error parsing regexp: unexpected ): `{pattern}`"
    return f"error parsing regexp: {error.msg}: `{pattern}`"
