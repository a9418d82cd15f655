"""
?filter: which of what was found is shown, by an expression over its fields.

    keep = filter_of('Service.Meta.zone == a and Checks is not empty', HEALTH)
    [entry for entry in found if keep(entry)]

A shape says which selectors there are and of which type, as Consul's structs do: fields that its
JSON leaves out when empty can be asked for too.  Every selector, operator and value is looked at
before the first entry, so that a wrong one is refused even where nothing is found.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Any

from discovery.agent import go
from discovery.agent.grammar import Both, Either, Expression, Match, Not, Parser, Unparsable

# "string", "int", "bool"; [x] a list of x; {"*": x} a map to x; {name: x} a struct.
Shape = Any
Test = Callable[[Any], bool]

_ADDRESSES = {"*": {"Address": "string", "Port": "int"}}
_WEIGHTS = {"Passing": "int", "Warning": "int"}
_CONNECT = {"Native": "bool"}
_PROXY = {
    "DestinationServiceName": "string",
    "DestinationServiceID": "string",
    "LocalServiceAddress": "string",
    "LocalServicePort": "int",
    "MeshGateway": {"Mode": "string"},
}
NODE: Shape = {
    **dict.fromkeys(("ID", "Node", "Address", "Datacenter"), "string"),
    "TaggedAddresses": {"*": "string"},
    "Meta": {"*": "string"},
}
SERVICE: Shape = {
    **dict.fromkeys(("Kind", "ID", "Service", "Address"), "string"),
    "Tags": ["string"],
    "TaggedAddresses": _ADDRESSES,
    "Meta": {"*": "string"},
    "Port": "int",
    "Weights": _WEIGHTS,
    "EnableTagOverride": "bool",
    "Proxy": _PROXY,
    "Connect": _CONNECT,
}
CHECK: Shape = {
    **dict.fromkeys(
        (
            *("Node", "CheckID", "Name", "Status", "Notes", "Output"),
            *("ServiceID", "ServiceName", "Type"),
        ),
        "string",
    ),
    "ServiceTags": ["string"],
}
CATALOG_SERVICE: Shape = {
    **dict.fromkeys(("ID", "Node", "Address", "Datacenter"), "string"),
    "TaggedAddresses": {"*": "string"},
    "NodeMeta": {"*": "string"},
    **{f"Service{name}": shape for name, shape in SERVICE.items() if name != "Service"},
    "ServiceName": "string",
}
HEALTH: Shape = {"Node": NODE, "Service": SERVICE, "Checks": [CHECK]}

_STRING = {"Equal", "Not Equal", "In", "Not In", "Matches", "Not Matches"}
_HOLDS = {"In", "Not In", "Is Empty", "Is Not Empty"}
_OPERATORS = {"string": _STRING, "int": {"Equal", "Not Equal"}, "bool": {"Equal", "Not Equal"}}
# What is true of a map's key that is not there.
_OF_NOTHING = {"Equal": False, "In": False, "Is Empty": False}


class Unfit(ValueError):
    """The expression cannot be used; the text is Consul's."""


def every(entry: Any) -> bool:
    """The test that all entries pass: there is no expression."""
    return True


def filter_of(text: str, shape: Shape) -> Test:
    """A test of entries; everything passes where there is no expression."""
    if not text:
        return every
    try:
        return _test(Parser(text).parse(), shape)
    except Unparsable as error:
        raise Unfit(str(error)) from None


def _test(expression: Expression, shape: Shape) -> Test:
    match expression:
        case Not(inner):
            test = _test(inner, shape)
            return lambda entry: not test(entry)
        case Both(left, right):
            first, second = _test(left, shape), _test(right, shape)
            return lambda entry: first(entry) and second(entry)
        case Either(left, right):
            first, second = _test(left, shape), _test(right, shape)
            return lambda entry: first(entry) or second(entry)
        case Match():
            return _match(expression, shape)


def _match(asked: Match, shape: Shape) -> Test:
    selected = _selected(asked.selector, shape)
    shown = ".".join(asked.selector)
    if asked.operator not in _operators(selected):
        raise Unfit(f'Invalid match operator "{asked.operator}" for selector "{shown}"')
    compare = _comparison(asked, selected, shown)
    return lambda entry: _reach(entry, shape, asked.selector, compare, asked.operator)


def _selected(selector: tuple[str, ...], shape: Shape) -> Shape:
    """The shape that a selector leads to; a list of structs is looked through."""
    for depth, name in enumerate(selector, 1):
        if isinstance(shape, list):
            shape = shape[0]
        shape = (shape.get("*") or shape.get(name)) if isinstance(shape, dict) else None
        if shape is None:
            raise Unfit(f'Selector "{".".join(selector[:depth])}" is not valid')
    return shape


def _operators(shape: Shape) -> set[str]:
    if isinstance(shape, str):
        return _OPERATORS[shape]
    if isinstance(shape, list):
        return _HOLDS if isinstance(shape[0], str) else {"Is Empty", "Is Not Empty"}
    return _HOLDS if "*" in shape else set()


def _comparison(asked: Match, shape: Shape, shown: str) -> Test:
    value: Any = asked.value
    negative = asked.operator.startswith(("Not", "Is Not"))
    if asked.operator in ("Matches", "Not Matches"):
        try:
            pattern = re.compile(value)
        except re.error as error:
            why = go.said_of_pattern(value, error)
            raise Unfit(f'Failed to compile regular expression "{value}": {why}') from None
        return lambda found: (pattern.search(found or "") is not None) is not negative
    if asked.operator in ("Is Empty", "Is Not Empty"):
        return lambda found: bool(found) is negative
    if asked.operator in ("In", "Not In"):
        return lambda found: (value in (found or ())) is not negative
    wanted = _coerced(value, shape, shown)
    return lambda found: (found == wanted) is not negative


def _coerced(value: str, shape: Shape, shown: str) -> object:
    if shape == "string":
        return value
    try:
        found = go.truth(value) if shape == "bool" else int(value, 0)
    except ValueError:
        found = None
    if found is None:
        parser = "ParseBool" if shape == "bool" else "ParseInt"
        raise Unfit(
            f'Failed to coerce value "{value}" for selector "{shown}":'
            f' strconv.{parser}: parsing "{value}": invalid syntax'
        )
    return found


_ZERO = {"string": "", "int": 0, "bool": False}


def _reach(
    value: Any, shape: Shape, selector: tuple[str, ...], compare: Test, operator: str
) -> bool:
    """Whether what the selector leads to compares; of a list, whether any element's does."""
    if not selector:
        if value is None and isinstance(shape, str):
            value = _ZERO[shape]
        return compare(value)
    if isinstance(shape, list):
        return any(_reach(one, shape[0], selector, compare, operator) for one in value or ())
    name, *rest = selector
    if "*" in shape and name not in (value or {}):
        return _OF_NOTHING.get(operator, True)
    inner = (value or {}).get(name)
    return _reach(inner, shape.get("*") or shape[name], tuple(rest), compare, operator)
