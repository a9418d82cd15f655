"""
Matching by a parsing expression grammar: ordered choices, and what would have fitted farthest on.

    first(a, b)     the first alternative that fits          never(a)   fits where `a` does not
    literal("and")  takes a text                             many("[0-9]")  takes signs of a class

A rule returns what it found or raises Missed, and takes nothing then.  The complaints are worded as
those of the parsers that Go's pigeon makes.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import TypeVar

T = TypeVar("T")

SPACES, LETTERS = " \t\r\n", "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ"
DIGITS = "0123456789"
CLASSES = {
    "[ \\t\\r\\n]": SPACES,
    "[a-zA-Z]": LETTERS,
    "[a-zA-Z0-9_]": LETTERS + DIGITS + "_",
    "[1-9]": DIGITS[1:],
    "[0-9]": DIGITS,
}


class Missed(Exception):
    """This alternative does not fit here; the next is tried."""


class Matcher:
    """A text, how far it is read, and what was wanted at the farthest place."""

    def __init__(self, text: str) -> None:
        self.text = text
        self.at = 0
        self.errors: dict[str, None] = {}
        self._farthest = 0
        self._expected: set[str] = set()
        self._quiet = 0
        self._known: dict[tuple[str, int], tuple[object, int]] = {}

    def expected(self) -> None:
        """Complain of what was wanted, unless a rule has complained already."""
        if not self.errors:
            wanted = sorted(self._expected - {"EOF"}) + ["EOF"] * ("EOF" in self._expected)
            listed = ", ".join(wanted[:-1]) + " or " + wanted[-1] if len(wanted) > 1 else wanted[0]
            self.complain(f"no match found, expected: {listed}", self._farthest)

    def once(self, name: str, rule: Callable[[], T]) -> T:
        """A rule's result at one place is kept: alternatives ask for it again and again."""
        key = (name, self.at)
        if key not in self._known:
            try:
                self._known[key] = (rule(), self.at)
            except Missed:
                self._known[key] = (Missed, self.at)
        found, self.at = self._known[key]
        if found is Missed:
            raise Missed
        return found  # type: ignore[return-value]

    def first(self, *choices: Callable[[], T]) -> T:
        start = self.at
        for choice in choices:
            try:
                return choice()
            except Missed:
                self.at = start
        raise Missed

    def never(self, rule: Callable[[], object]) -> None:
        """Fits where the rule does not, and takes nothing."""
        start = self.at
        self._quiet += 1
        try:
            rule()
        except Missed:
            return
        finally:
            self._quiet -= 1
            self.at = start
        raise Missed

    def space(self, *, needed: bool = True) -> str:
        found = self.many("[ \\t\\r\\n]")
        if needed and not found:
            raise Missed
        return found

    def words(self, *words: str) -> None:
        for word in words:
            self.space()
            self.literal(word)

    def literal(self, text: str) -> str:
        if not self.text.startswith(text, self.at):
            self._wanted(json.dumps(text))
            raise Missed
        self.at += len(text)
        return text

    def maybe(self, text: str) -> None:
        self.first(lambda: self.literal(text), lambda: "")

    def one_of(self, name: str) -> str:
        sign = self.text[self.at : self.at + 1]
        if not sign or sign not in CLASSES[name]:
            self._wanted(name)
            raise Missed
        self.at += 1
        return sign

    def many(self, name: str) -> str:
        start = self.at
        while self.text[self.at : self.at + 1] and self.text[self.at] in CLASSES[name]:
            self.at += 1
        self._wanted(name)
        return self.text[start : self.at]

    def end(self) -> str:
        if self.at < len(self.text):
            self._wanted("EOF")
            raise Missed
        return ""

    def _wanted(self, what: str) -> None:
        if self._quiet or self.at < self._farthest:
            return
        if self.at > self._farthest:
            self._farthest = self.at
            self._expected.clear()
        self._expected.add(what)

    def complain(self, what: str, at: int | None = None) -> None:
        """Position as line:column (offset in bytes)."""
        before = self.text[: self.at if at is None else at]
        line, column = before.count("\n") + 1, len(before) - before.rfind("\n")
        self.errors[f"{line}:{column} ({len(before.encode())}): {what}"] = None
