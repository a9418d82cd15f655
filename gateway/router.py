"""
Which entry serves a path: a trie, the most specific one first.

At each segment a literal beats "*", and "*" beats "**"; a branch that leads nowhere is left again.
Two entries that match the same paths by the same HTTP method are an error when they are added,
never a matter of order.

    router.add(entry)                      Ambiguous names both
    router.find("GET", "/v1/orders/o-1")   entry and raw segments; or NoRoute, or WrongMethod(allow)
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Generic, Protocol, TypeVar

from gateway.percent import PercentError, decode
from gateway.rule import DeepStar, Literal, Star, Template

ANY_METHOD = "*"


class Entry(Protocol):
    """What a router holds."""

    @property
    def http_method(self) -> str: ...

    @property
    def template(self) -> Template: ...

    @property
    def name(self) -> str: ...


E = TypeVar("E", bound=Entry)


class Ambiguous(ValueError):
    """Two entries for the same paths and the same HTTP method."""

    def __init__(self, new: Entry, old: Entry) -> None:
        super().__init__(
            f"{new.http_method} {new.template} of {new.name} is also"
            f" {old.http_method} {old.template} of {old.name}"
        )
        self.new = new
        self.old = old


class NoRoute(LookupError):
    """No entry matches the path."""


class WrongMethod(LookupError):
    """Entries match the path, by other HTTP methods only; `allow` names them."""

    def __init__(self, allow: tuple[str, ...]) -> None:
        super().__init__(", ".join(allow))
        self.allow = allow


class _Node(Generic[E]):
    __slots__ = ("deep", "here", "literals", "star")

    def __init__(self) -> None:
        self.literals: dict[str, _Node[E]] = {}
        self.star: _Node[E] | None = None
        # What ends here, and what ends in "**" here: verb -> HTTP method -> entry.
        self.here: dict[str, dict[str, E]] = {}
        self.deep: dict[str, dict[str, E]] = {}


class Router(Generic[E]):
    """All entries; filled once, then only read."""

    def __init__(self) -> None:
        self.entries: list[E] = []
        # By method and path, what says both in full: nothing is more specific.
        self._exact: dict[tuple[str, str], E] = {}
        self._root: _Node[E] = _Node()

    def add(self, entry: E) -> None:
        """Make room for one more entry, or raise Ambiguous."""
        node, leaf = self._root, None
        for part in entry.template.flat():
            match part:
                case Literal(text):
                    node = node.literals.setdefault(decode(text), _Node())
                case Star():
                    node.star = node.star or _Node()
                    node = node.star
                case DeepStar():
                    leaf = node.deep
        leaf = node.here if leaf is None else leaf
        methods = leaf.setdefault(decode(entry.template.verb), {})
        old = methods.setdefault(entry.http_method, entry)
        if old is not entry:
            raise Ambiguous(entry, old)
        self.entries.append(entry)
        path = str(entry.template)
        if all(isinstance(part, Literal) for part in entry.template.flat()) and ":" not in path:
            self._exact[entry.http_method, path] = entry

    def find(self, method: str, path: str) -> tuple[E, list[str]]:
        """
        The entry for a request, and the path's raw segments without the verb.

        A ':' that the client encoded never begins a verb, nor does one without such a verb there.
        """
        if not path.startswith("/"):
            raise NoRoute
        segments = path[1:].split("/")
        exact = self._exact.get((method, path))
        if exact is not None:
            return exact, segments
        stem, colon, verb = segments[-1].rpartition(":")
        if colon:
            with_verb = [*segments[:-1], stem]
            try:
                return self._pick(method, with_verb, decode(verb))
            except (NoRoute, PercentError):
                pass
        return self._pick(method, segments, "")

    def allowed(self, path: str) -> tuple[str, ...]:
        """The HTTP methods that the path takes, HEAD and OPTIONS included, or NoRoute."""
        try:
            self.find("", path)
        except WrongMethod as error:
            return error.allow
        return ("GET", "HEAD", "OPTIONS", "POST", "PUT", "PATCH", "DELETE")  # a route for "*"

    def _pick(self, method: str, segments: list[str], verb: str) -> tuple[E, list[str]]:
        # HEAD is GET without its body, where nothing else is said.
        wanted = (method, "GET", ANY_METHOD) if method == "HEAD" else (method, ANY_METHOD)
        words = [decode(segment) for segment in segments]
        allow: set[str] = set()
        for leaf in _leaves(self._root, segments, words, 0):
            methods = leaf.get(verb)
            if methods is None:
                continue
            for name in wanted:
                if name in methods:
                    return methods[name], segments
            allow.update(methods)
        if not allow:
            raise NoRoute
        if "GET" in allow:
            allow.add("HEAD")
        raise WrongMethod((*sorted(allow), "OPTIONS"))


def _leaves(
    node: _Node[E], segments: list[str], words: list[str], at: int
) -> Iterator[dict[str, dict[str, E]]]:
    """Everything that matches, the most specific first."""
    if at == len(segments):
        if node.here:
            yield node.here
    else:
        if words[at] in node.literals:
            yield from _leaves(node.literals[words[at]], segments, words, at + 1)
        if node.star is not None and segments[at]:  # "*" is one segment, never an empty one
            yield from _leaves(node.star, segments, words, at + 1)
    if node.deep:
        yield node.deep
