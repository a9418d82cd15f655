"""The template grammar: what parses, prints back the same, and what a parse error says."""

from __future__ import annotations

from contextlib import suppress
from dataclasses import dataclass

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.router import Router
from gateway.rule import DeepStar, Literal, RuleError, Star, Template, Variable, parse

words = st.from_regex(r"[a-z0-9\-_.~]{1,6}|%20", fullmatch=True).filter(lambda w: w.strip("."))
names = st.from_regex(r"[a-z_][a-z0-9_]{0,5}", fullmatch=True)
paths = st.lists(names, min_size=1, max_size=3).map(tuple)
plain = st.one_of(words.map(Literal), st.just(Star()))


@st.composite
def templates(draw: st.DrawFn) -> Template:
    segments: list[Literal | Star | DeepStar | Variable] = []
    used: set[tuple[str, ...]] = set()
    for _ in range(draw(st.integers(1, 4))):
        if draw(st.booleans()):
            segments.append(draw(plain))
            continue
        path = draw(paths.filter(lambda p: p not in used))
        used.add(path)
        segments.append(Variable(path, tuple(draw(st.lists(plain, min_size=1, max_size=3)))))
    if draw(st.booleans()):
        segments.append(draw(st.sampled_from([DeepStar(), Variable(("zz",), (DeepStar(),))])))
    return Template(tuple(segments), draw(st.one_of(st.just(""), words)))


@given(templates())
def test_a_template_printed_and_parsed_is_the_same_template(template: Template) -> None:
    assert parse(str(template)) == template


@given(st.text(max_size=30) | st.text("/{}=*.:a%2", max_size=12))
def test_any_text_parses_to_what_prints_it_or_is_a_rule_error(text: str) -> None:
    with suppress(RuleError):
        assert parse(str(parse(text))) == parse(text)


@pytest.mark.parametrize(
    ("text", "position", "why"),
    [
        ("", 0, "expected '/'"),
        ("v1/x", 0, "expected '/'"),
        ("/", 1, "expected a segment, found the end"),
        ("/v1//x", 4, "expected a segment, found '/'"),
        ("/v1/{a={b}}", 7, "expected a segment, found '{'"),
        ("/v1/{a", 6, "expected '}', found the end"),
        ("/v1/{1}", 5, "expected a field name"),
        ("/v1/{a}{b}", 7, "unexpected '{'"),
        ("/v1/x:", 6, "expected a verb"),
        ("/**/x", 1, "'**' may only end the path"),
        ("/{a=**}/x", 4, "'**' may only end the path"),
        ("/{a}/{a}", 5, "'a' is bound twice"),
        ("/a b", 2, "unexpected ' '"),
        ("/%zz", 1, "expected a segment, found '%'"),
        ("/%ff", 1, "not percent-encoded UTF-8"),
    ],
)
def test_a_bad_template_says_where_and_why(text: str, position: int, why: str) -> None:
    with pytest.raises(RuleError) as caught:
        parse(text)

    assert caught.value.position == position
    assert why in str(caught.value)


@pytest.mark.parametrize(
    ("template", "path", "texts"),
    [
        ("/v1/{a}", "v1/x%2Fy", ["x/y"]),
        ("/v1/{a}", "v1/x+y", ["x+y"]),
        ("/v1/{a=b/*}", "v1/b/x%2Fy%20z", ["b/x%2Fy z"]),
        ("/v1/{a=**}", "v1/x%2fy/z", ["x%2fy/z"]),
        ("/v1/{a=**}", "v1", [""]),
        ("/{a}/{b.c=d/*}/e", "x/d/y/e", ["x", "d/y"]),
    ],
)
def test_variables_are_decoded_as_the_specification_says(
    template: str, path: str, texts: list[str]
) -> None:
    assert [c.text(path.split("/")) for c in parse(template).captures()] == texts


# What a client may write for one segment, and what it means: alone, and where "/" must stay apart.
PIECES = {
    "a": "a",
    "%41": "A",
    "%2e": ".",
    "..": "..",
    "é": "é",
    "%C3%A9": "é",
    "+": "+",
    "%3A": ":",
    "%25": "%",
    "%20": " ",
    ";x=1": ";x=1",
    "%7B%7D": "{}",
}
segments_in = st.lists(st.sampled_from([*PIECES, "%2F", "%2f"]), min_size=1, max_size=3)


@given(templates(), st.data())
def test_a_path_made_of_a_template_is_routed_to_it_and_read_back(
    template: Template, data: st.DataObject
) -> None:
    """The third of parse, print and match: what stands in the path stands in the variables."""

    def written(part: Literal | Star | DeepStar) -> list[list[str]]:
        if isinstance(part, Literal):
            return [[part.text]]
        if isinstance(part, Star):
            return [data.draw(segments_in)]
        return data.draw(st.lists(segments_in, max_size=3))

    path: list[str] = []
    expected: list[str] = []
    for segment in template.segments:
        parts = segment.segments if isinstance(segment, Variable) else (segment,)
        pieces = [piece for part in parts for piece in written(part)]
        path += ["".join(piece) for piece in pieces]
        if isinstance(segment, Variable):
            expected.append("/".join(_meant(piece, segment.multi) for piece in pieces))
    line = "/" + "/".join(path) + (f":{template.verb}" if template.verb else "")
    router: Router[Entry] = Router()
    router.add(Entry(template))

    found, raw = router.find("GET", line.encode().decode("latin-1"))

    assert found.template == template
    assert [capture.text(raw) for capture in template.captures()] == expected


def _meant(piece: list[str], multi: bool) -> str:
    slash = {"%2F": "%2F" if multi else "/", "%2f": "%2f" if multi else "/"}
    return "".join({**PIECES, "%20": " ", **slash}.get(each, each) for each in piece)


@dataclass(frozen=True)
class Entry:
    template: Template
    http_method: str = "GET"
    name: str = "it"
