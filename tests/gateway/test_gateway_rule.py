"""The template grammar: what parses, prints back the same, and what a parse error says."""

from __future__ import annotations

from contextlib import suppress

import pytest
from hypothesis import given
from hypothesis import strategies as st

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
