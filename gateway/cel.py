"""
The part of CEL that JSON Schema has words for: conjunctions of simple conditions.

    this.currency_code.matches('^[A-Z]{3}$') && this.units >= 0     a pattern, and a minimum
    size(this.name) <= 10    this.tags.size() > 0    this.kind in ['a', 'b']    this.id != ''

Each condition of a conjunction holds by itself, so one that is not understood is left out and the
others are still right.  Anything under || or ! is not understood.
"""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from typing import Any

from gateway.allowed import ANYTHING, Allowed

_STRING = r"""r?(?:'(?:[^'\\]|\\.)*'|"(?:[^"\\]|\\.)*")"""
_LITERAL = rf"(?:{_STRING}|-?[0-9]+(?:\.[0-9]+)?u?)"
_PATH = r"this(?P<path>(?:\.[a-z_][A-Za-z0-9_]*)*)"
_COMPARED = re.compile(rf"{_PATH} *(?P<op>[<>]=?|[=!]=) *(?P<value>{_LITERAL})")
_SIZED = re.compile(
    rf"(?:size\({_PATH}\)|{_PATH.replace('path', 'inner')}\.size\(\))"
    r" *(?P<op>[<>]=?|==) *(?P<value>[0-9]+)"
)
_CALLED = re.compile(
    rf"{_PATH}\.(?P<call>matches|startsWith|endsWith|contains)\((?P<value>{_STRING})\)"
)
_AMONG = re.compile(rf"{_PATH} +in +\[(?P<values> *{_LITERAL}(?: *, *{_LITERAL})* *)\]")
_BOUNDS = {">=": "low", "<=": "high", ">": "above", "<": "below"}
_CALLS = {"matches": "{}", "startsWith": "^{}", "endsWith": "{}$", "contains": "{}"}
_TOKEN = re.compile(rf"{_STRING}|&&|\|\||[()\[\]{{}}?]|[^'\"&|()\[\]{{}}?]+|.", re.DOTALL)


def understood(expression: str) -> Allowed:
    """What the expression asks of `this`, as far as it is understood."""
    found = ANYTHING
    for condition in _conjuncts(expression):
        for path, rule in _conditions(condition):
            found = found.and_(_inside(path, rule))
    return found


def _inside(path: list[str], rule: Allowed) -> Allowed:
    return rule if not path else Allowed(inside={path[0]: _inside(path[1:], rule)})


def _conjuncts(expression: str) -> list[str]:
    """The parts between the outermost &&; none when something else binds weaker."""
    parts, depth = [""], 0
    for word in _TOKEN.findall(expression):
        if word in ("||", "?") and not depth:
            return []
        if word == "&&" and not depth:
            parts.append("")
            continue
        depth += (word in "([{") - (word in ")]}") if len(word) == 1 else 0
        parts[-1] += word
    return [part.strip() for part in parts]


def _conditions(text: str) -> Iterator[tuple[list[str], Allowed]]:
    if match := _COMPARED.fullmatch(text):
        value = _value(match["value"])
        if match["op"] in _BOUNDS:
            if not isinstance(value, str):
                yield _path(match["path"]), Allowed(**{_BOUNDS[match["op"]]: value})
        elif match["op"] == "==":
            yield _path(match["path"]), Allowed(only=(value,))
        else:
            yield _path(match["path"]), Allowed(never=(value,))
    elif match := _SIZED.fullmatch(text):
        path, size = match["path"] or match["inner"] or "", int(match["value"])
        least, most = {
            ">=": (size, None),
            ">": (size + 1, None),
            "<=": (None, size),
            "<": (None, size - 1),
            "==": (size, size),
        }[match["op"]]
        # A string and a list are sized alike here; only one of the two is meant by the schema.
        yield (
            _path(path),
            Allowed(min_length=least, max_length=most, min_items=least, max_items=most),
        )
    elif match := _CALLED.fullmatch(text):
        words = _value(match["value"])
        shape = _CALLS[match["call"]]
        pattern = shape.format(words if match["call"] == "matches" else re.escape(words))
        yield _path(match["path"]), Allowed(patterns=(pattern,))
    elif match := _AMONG.fullmatch(text):
        values = tuple(_value(word) for word in re.findall(_LITERAL, match["values"]))
        yield _path(match["path"]), Allowed(only=values)


def _path(text: str) -> list[str]:
    return text.split(".")[1:]


def _value(text: str) -> Any:
    """A literal of CEL; its strings are written as Python's."""
    return ast.literal_eval(text.removesuffix("u") if text[-1:] == "u" else text)
