"""
What keeps a request on its side: the value of a header, a variable of the path, a parameter, ...

    header:x-customer-id      query:customer_id       body:order.customer_id
    path:order_id             principal               (whom gateway.guard has found)

A request without it has the key "", which moves last.  Names of fields and parameters are taken
in either of ProtoJSON's spellings: who writes customerId today and customer_id tomorrow is one.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from gateway.exchange import Exchange
from gateway.percent import PercentError, decode_form
from gateway.rule import Template
from mesh.errors import PolicyError

SOURCES = ("header", "path", "query", "body", "principal")
# More of a key than this is not looked at: it is a client's text.
LONGEST = 1024
_NAMES = {
    "header": re.compile(r"[!#$%&'*+.^_`|~0-9A-Za-z-]+"),
    "path": re.compile(r"[A-Za-z_][A-Za-z0-9_.]*"),
    "query": re.compile(r"[A-Za-z_][A-Za-z0-9_.-]*"),
    "body": re.compile(r"[A-Za-z_][A-Za-z0-9_]*(\.[A-Za-z_][A-Za-z0-9_]*)*"),
    "principal": re.compile(r""),
}


@dataclass(frozen=True, slots=True)
class Key:
    """Where the key stands: a `source` and the name there."""

    source: str
    name: str = ""

    @classmethod
    def parse(cls, text: str, path: str = "key") -> Key:
        """The key that `text` spells; PolicyError at `path` when it spells none."""
        source, _, name = text.partition(":")
        if source not in SOURCES:
            raise PolicyError(path, text, f"is not one of {', '.join(SOURCES)} and a name")
        if not _NAMES[source].fullmatch(name):
            raise PolicyError(path, text, f"names no {source}")
        return cls(source, name.lower() if source == "header" else name)

    def __str__(self) -> str:
        return f"{self.source}:{self.name}" if self.name else self.source

    def of(self, exchange: Exchange, template: Template, segments: list[str], body: Any) -> str:
        """The request's key; `body` is its JSON, where this key stands in it."""
        match self.source:
            case "header":
                found = exchange.header(self.name.encode())
            case "path":
                found = _variable(template, segments, self.name)
            case "query":
                found = _parameter(exchange.query, self.name)
            case "body":
                found = _member(body, self.name.split("."))
            case _:
                found = exchange.principal
        return found.strip()[:LONGEST]


def _variable(template: Template, segments: list[str], name: str) -> str:
    for capture in template.captures():
        if ".".join(capture.path) == name:
            try:
                return capture.text(segments)
            except PercentError:
                return ""  # the route itself will say so
    return ""


def _parameter(query: str, name: str) -> str:
    names = set(spellings(name))
    for pair in query.split("&"):
        given, _, text = pair.partition("=")
        try:
            if decode_form(given) in names:
                return decode_form(text)
        except PercentError:
            continue
    return ""


def _member(body: Any, path: list[str]) -> str:
    for name in path:
        if not isinstance(body, Mapping):
            return ""
        body = next((body[each] for each in spellings(name) if each in body), None)
    if isinstance(body, bool) or not isinstance(body, str | int):
        return ""
    return str(body)


def spellings(name: str) -> Iterator[str]:
    """A name as it is, in lowerCamelCase and in snake_case."""
    yield name
    yield re.sub(r"_([a-z0-9])", lambda match: match[1].upper(), name)
    yield re.sub(r"(?<!^)([A-Z])", lambda match: f"_{match[1].lower()}", name)
