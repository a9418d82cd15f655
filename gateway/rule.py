"""
A google.api.http path template: parsed into nodes that print themselves back.

    Template = "/" Segments [ Verb ] ;
    Segments = Segment { "/" Segment } ;
    Segment  = "*" | "**" | LITERAL | Variable ;
    Variable = "{" FieldPath [ "=" Segments ] "}" ;
    FieldPath = IDENT { "." IDENT } ;
    Verb     = ":" LITERAL ;                                — google/api/http.proto

Two rules for who changes this file: ``parse(str(template)) == template`` for every template; and
an error names the position (0 is the first character) and what stood there.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass

from gateway.percent import PercentError, decode

_IDENT = re.compile(r"[A-Za-z_][A-Za-z0-9_]*")
# pchar of RFC 3986 without "*" and without what this grammar means by "{", "}", "=" and "/".
_LITERAL = re.compile(r"(?:[A-Za-z0-9\-._~!$&'()+,;:@]|%[0-9A-Fa-f]{2})+")
_VERB = re.compile(r"(?:[A-Za-z0-9\-._~!$&'()+,;@]|%[0-9A-Fa-f]{2})+")


class RuleError(ValueError):
    """A template that does not follow the grammar."""

    def __init__(self, template: str, position: int, why: str) -> None:
        super().__init__(f"{template!r}, position {position}: {why}")
        self.template = template
        self.position = position
        self.why = why


@dataclass(frozen=True, slots=True)
class Literal:
    """A segment that stands for itself; `text` is as the template writes it, escapes and all."""

    text: str

    def __str__(self) -> str:
        return self.text


@dataclass(frozen=True, slots=True)
class Star:
    """One segment, whatever it says."""

    def __str__(self) -> str:
        return "*"


@dataclass(frozen=True, slots=True)
class DeepStar:
    """The rest of the path: zero or more segments."""

    def __str__(self) -> str:
        return "**"


Plain = Literal | Star | DeepStar


@dataclass(frozen=True, slots=True)
class Variable:
    """Segments whose text goes into the field at `path`."""

    path: tuple[str, ...]
    segments: tuple[Plain, ...] = (Star(),)

    def __str__(self) -> str:
        name = ".".join(self.path)
        if self.segments == (Star(),):
            return f"{{{name}}}"
        return f"{{{name}={'/'.join(map(str, self.segments))}}}"

    @property
    def multi(self) -> bool:
        """Whether it may hold more than one segment, and so keeps %2F apart from "/"."""
        return len(self.segments) > 1 or isinstance(self.segments[0], DeepStar)


Segment = Plain | Variable


@dataclass(frozen=True, slots=True)
class Capture:
    """Where a variable's text lies: segments [start, end), to the last one when end is None."""

    path: tuple[str, ...]
    start: int
    end: int | None
    multi: bool

    def text(self, segments: list[str]) -> str:
        """
        The variable's value, decoded, from the path's raw `segments`.

        A PercentError says that the escapes or the UTF-8 below them are not whole.
        """
        if not self.multi:
            return decode(segments[self.start])
        # "The server side does the reverse decoding, except "%2F" and "%2f" are left unchanged."
        #                                                                  — google/api/http.proto
        return "/".join(decode(part, keep_slash=True) for part in segments[self.start : self.end])


@dataclass(frozen=True, slots=True)
class Template:
    """A whole path template."""

    segments: tuple[Segment, ...]
    verb: str = ""

    def __str__(self) -> str:
        path = "/" + "/".join(map(str, self.segments))
        return f"{path}:{self.verb}" if self.verb else path

    def flat(self) -> tuple[Plain, ...]:
        """The segments with variables replaced by what they match; two equal ones are ambiguous."""
        return tuple(
            part
            for segment in self.segments
            for part in (segment.segments if isinstance(segment, Variable) else (segment,))
        )

    def captures(self) -> Iterator[Capture]:
        """Where each variable lies."""
        start = 0
        for segment in self.segments:
            if not isinstance(segment, Variable):
                start += 1
                continue
            deep = isinstance(segment.segments[-1], DeepStar)
            end = None if deep else start + len(segment.segments)
            yield Capture(segment.path, start, end, segment.multi)
            start += len(segment.segments)


def parse(text: str) -> Template:
    """Read a template, or raise RuleError."""
    return _Parser(text).template()


class _Parser:
    """Recursive descent over one template; `at` is the next character."""

    def __init__(self, text: str) -> None:
        self.text = text
        self.at = 0

    def template(self) -> Template:
        self.expect("/")
        segments: list[Segment] = [self.segment()]
        while self.take("/"):
            segments.append(self.segment())
        verb = self.literal(_VERB, "a verb") if self.take(":") else ""
        if self.at < len(self.text):
            raise self.error(f"unexpected {self.text[self.at]!r}")
        template = Template(tuple(segments), verb)
        self.check(template)
        return template

    def segment(self) -> Segment:
        if self.take("{"):
            return self.variable()
        return self.plain(_LITERAL)

    def plain(self, pattern: re.Pattern[str]) -> Plain:
        if self.take("**"):
            return DeepStar()
        if self.take("*"):
            return Star()
        return Literal(self.literal(pattern, "a segment"))

    def variable(self) -> Variable:
        path = [self.ident()]
        while self.take("."):
            path.append(self.ident())
        segments: tuple[Plain, ...] = (Star(),)
        if self.take("="):
            inner = [self.plain(_LITERAL)]
            while self.take("/"):
                inner.append(self.plain(_LITERAL))
            segments = tuple(inner)
        self.expect("}")
        return Variable(tuple(path), segments)

    def ident(self) -> str:
        return self.literal(_IDENT, "a field name")

    def literal(self, pattern: re.Pattern[str], what: str) -> str:
        match = pattern.match(self.text, self.at)
        if match is None:
            found = repr(self.text[self.at]) if self.at < len(self.text) else "the end"
            raise self.error(f"expected {what}, found {found}")
        text = match[0]
        # The last ':' of the last segment begins the verb; one in an earlier segment is text.
        last = "/" not in self.text[match.end() :] and "}" not in self.text[match.end() :]
        if pattern is _LITERAL and last and ":" in text:
            text = text[: text.rindex(":")]
            if not text:
                raise self.error("expected a segment, found ':'")
        self.at += len(text)
        return text

    def take(self, text: str) -> bool:
        if self.text.startswith(text, self.at):
            self.at += len(text)
            return True
        return False

    def expect(self, text: str) -> None:
        if not self.take(text):
            found = repr(self.text[self.at]) if self.at < len(self.text) else "the end"
            raise self.error(f"expected {text!r}, found {found}")

    def check(self, template: Template) -> None:
        """What the grammar cannot say: "**" ends the path, a field is bound once."""
        flat = template.flat()
        if DeepStar() in flat[:-1]:
            raise self.error("'**' may only end the path", self.text.index("**"))
        paths = [s.path for s in template.segments if isinstance(s, Variable)]
        for index, path in enumerate(paths):
            name = ".".join(path)
            if path in paths[:index]:
                raise self.error(f"{name!r} is bound twice", self.text.rindex("{" + name))
        for text in (*(part.text for part in flat if isinstance(part, Literal)), template.verb):
            try:
                decode(text)
            except PercentError as error:
                raise self.error(str(error), self.text.index(text)) from error

    def error(self, why: str, position: int | None = None) -> RuleError:
        return RuleError(self.text, self.at if position is None else position, why)
