"""
The grammar of ?filter expressions, parsed as Consul's own parser does, complaints included.

    expression := and-expression ["or" expression]       and-expression := not ["and" ...]
    not := "not" not | "(" expression ")" | match
    match := selector op value | selector "is" ["not"] "empty" | value ["not"] "in" selector

A refusal names what was expected at the farthest place that any alternative reached.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import dataclass

from discovery.agent.peg import Matcher, Missed

MAX_TERMS = 64
MAX_NESTED = 16


class Unparsable(ValueError):
    """The text says where and what was expected."""


@dataclass(frozen=True, slots=True)
class Match:
    """`operator` is Consul's name of it, "Equal" or "Not In"; `value` None for emptiness."""

    selector: tuple[str, ...]
    operator: str
    value: str | None = None


@dataclass(frozen=True, slots=True)
class Not:
    inner: Expression


@dataclass(frozen=True, slots=True)
class Both:
    left: Expression
    right: Expression


@dataclass(frozen=True, slots=True)
class Either:
    left: Expression
    right: Expression


Expression = Match | Not | Both | Either

# Operators in the order in which they are tried, each as its words.
_WITH_VALUE = [
    ("Equal", "=="), ("Not Equal", "!="), ("In", "contains"), ("Not In", "not contains"),
    ("Matches", "matches"), ("Not Matches", "not matches"),
]  # fmt: skip
_ALONE = [("Is Empty", "is empty"), ("Is Not Empty", "is not empty")]
_BEFORE = [("In", "in"), ("Not In", "not in")]


class Parser(Matcher):
    """One expression; `parse` it once."""

    def __init__(self, text: str) -> None:
        super().__init__(text)
        self._terms = 0
        self._nested = 0

    def parse(self) -> Expression:
        found: Expression | None = None
        try:
            found = self.first(self._whole_group, self._whole)
        except Missed:
            self.expected()
        if self.errors or found is None:
            raise Unparsable("\n".join(self.errors))
        return found

    # rules

    def _whole_group(self) -> Expression:
        self.space(needed=False)
        self.literal("(")
        self.space(needed=False)
        found = self._or()
        self.space(needed=False)
        self.literal(")")
        self.space(needed=False)
        self.end()
        return found

    def _whole(self) -> Expression:
        self.space(needed=False)
        found = self._or()
        self.space(needed=False)
        self.end()
        return found

    def _or(self) -> Expression:
        return self.once(
            "or",
            lambda: self.first(lambda: self._joined(self._and, "or", self._or, Either), self._and),
        )

    def _and(self) -> Expression:
        return self.once(
            "and",
            lambda: self.first(lambda: self._joined(self._not, "and", self._and, Both), self._not),
        )

    def _not(self) -> Expression:
        return self.once("not", self._deeper)

    def _deeper(self) -> Expression:
        self._terms += 1
        if self._terms > MAX_TERMS:
            raise Unparsable(f"this development agent reads {MAX_TERMS} terms, not more")
        return self.first(self._negated, self._group)

    def _joined(
        self,
        left: Callable[[], Expression],
        word: str,
        right: Callable[[], Expression],
        made: Callable[[Expression, Expression], Expression],
    ) -> Expression:
        first = left()
        self.words(word)
        self.space()
        return made(first, right())

    def _negated(self) -> Expression:
        self.literal("not")
        self.space()
        inner = self._not()
        return inner.inner if isinstance(inner, Not) else Not(inner)

    def _group(self) -> Expression:
        def grouped() -> Expression:
            self.literal("(")
            self.space(needed=False)
            found = self._inner()
            self.space(needed=False)
            self.literal(")")
            return found

        def unmatched() -> Expression:
            self.literal("(")
            self.space(needed=False)
            self._inner()
            self.space(needed=False)
            self.never(lambda: self.literal(")"))
            self.complain('rule "grouping": Unmatched parentheses')
            raise Missed

        return self.first(grouped, self._match, unmatched)

    def _inner(self) -> Expression:
        self._nested += 1
        if self._nested > MAX_NESTED:
            raise Unparsable(f"this development agent reads {MAX_NESTED} parentheses, not more")
        try:
            return self._or()
        finally:
            self._nested -= 1

    def _match(self) -> Expression:
        def with_value() -> Expression:
            selector = self._selector()
            operator = self._operator(_WITH_VALUE)
            return Match(selector, operator, self._value())

        def alone() -> Expression:
            return Match(self._selector(), self._operator(_ALONE))

        def before() -> Expression:
            value = self._value()
            operator = self._operator(_BEFORE)
            return Match(self._selector(), operator, value)

        def no_selector() -> Expression:
            self._value()
            self._operator(_BEFORE)
            self.never(self._selector)
            self.complain('rule "match": Invalid selector')
            raise Missed

        return self.first(with_value, alone, before, no_selector)

    def _operator(self, choices: list[tuple[str, str]]) -> str:
        def one(name: str, words: str) -> Callable[[], str]:
            def fits() -> str:
                if words in ("==", "!="):
                    self.space(needed=False)
                    self.literal(words)
                    self.space(needed=False)
                else:
                    self.words(*words.split())
                    if not words.endswith("empty"):
                        self.space()
                return name

            return fits

        return self.first(*(one(name, words) for name, words in choices))

    def _selector(self) -> tuple[str, ...]:
        parts = [self._identifier()]
        while True:
            try:
                parts.append(self.first(self._dotted, self._indexed))
            except Missed:
                return tuple(parts)

    def _identifier(self) -> str:
        return self.one_of("[a-zA-Z]") + self.many("[a-zA-Z0-9_]")

    def _dotted(self) -> str:
        self.literal(".")
        return self._identifier()

    def _indexed(self) -> str:
        def index() -> str:
            self.literal("[")
            self.space(needed=False)
            found = self._string()
            self.space(needed=False)
            self.literal("]")
            return found

        def wrong(complaint: str, *, quoted: bool) -> Callable[[], str]:
            def fits() -> str:
                self.literal("[")
                self.space(needed=False)
                if quoted:
                    self._string()
                    self.space(needed=False)
                self.never((lambda: self.literal("]")) if quoted else self._string)
                self.complain(f'rule "index": {complaint}')
                raise Missed

            return fits

        return self.first(
            index,
            wrong("Invalid index", quoted=False),
            wrong("Unclosed index expression", quoted=True),
        )

    def _value(self) -> str:
        return self.first(lambda: ".".join(self._selector()), self._number, self._string)

    def _number(self) -> str:
        start = self.at
        self.maybe("-")
        self.first(lambda: self.literal("0"), self._positive)
        self.first(self._fraction, lambda: "")
        end = self.at
        try:
            self.first(self.space, self.end, lambda: self.literal(")"))
        except Missed:
            self.complain('rule "number": Invalid number literal', end)
            raise
        self.at = end
        return self.text[start:end]

    def _positive(self) -> str:
        return self.one_of("[1-9]") + self.many("[0-9]")

    def _fraction(self) -> str:
        self.literal(".")
        return self.one_of("[0-9]") + self.many("[0-9]")

    def _string(self) -> str:
        start = self.at
        quote = self.first(lambda: self.literal("`"), lambda: self.literal('"'))
        end = self.text.find(quote, self.at)
        if end < 0:
            self.at = len(self.text)
            self.complain('rule "string": Unterminated string literal')
            raise Missed
        self.at = end + 1
        inside = self.text[start + 1 : end]
        if quote == "`":
            return inside.replace("\r", "")
        try:
            return str(json.loads(f'"{inside}"'))
        except ValueError:
            self.complain('rule "string": invalid syntax', start)
            return inside
