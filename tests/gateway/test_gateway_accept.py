"""Which form Accept asks for."""

from __future__ import annotations

import pytest

from gateway.accept import names, preferred
from gateway.stream import FORMS

LINES, EVENTS, ARRAY = "application/x-ndjson", "text/event-stream", "application/json"


@pytest.mark.parametrize(
    ("accept", "form"),
    [
        ("", ARRAY),
        ("*/*", ARRAY),
        ("application/json", ARRAY),
        (LINES, LINES),
        (EVENTS, EVENTS),
        ("Text/Event-Stream", EVENTS),
        ("text/*", EVENTS),
        ("application/*", ARRAY),
        ("application/jsonl", "application/jsonl"),
        # The greatest weight, then the first that is named.
        ("application/json;q=0.1, text/event-stream", EVENTS),
        ("text/event-stream;q=0.1, */*", ARRAY),
        ("text/event-stream, application/x-ndjson", EVENTS),
        ("application/x-ndjson, text/event-stream", LINES),
        # The most exact range decides for a form, 0 says that it is not wanted.
        ("*/*, application/json;q=0", LINES),
        ("text/event-stream;q=0.000, application/x-ndjson;q=0.5", LINES),
        ("text/event-stream ; charset=utf-8 ; q=0.9, application/json;q=0.8", EVENTS),
        # What nobody serves, and what makes no sense, is disregarded.
        ("text/html", ARRAY),
        ("text/html, application/x-ndjson;q=0.2", LINES),
        (";;;q=,", ARRAY),
        ("text/event-stream;q=x", ARRAY),
        ("application/json;q=9, text/event-stream;q=0.9", ARRAY),
    ],
)
def test_the_form_that_is_wanted_most_is_preferred(accept: str, form: str) -> None:
    assert preferred(accept, tuple(FORMS)) == form


@pytest.mark.parametrize(
    ("accept", "wanted"),
    [
        ("application/problem+json", True),
        ("application/json, application/Problem+JSON;q=0.5", True),
        ("application/problem+json;q=0", False),
        ("*/*", False),
        ("application/*", False),
        ("", False),
    ],
)
def test_a_problem_is_given_to_who_names_it(accept: str, wanted: bool) -> None:
    assert names(accept, "application/problem+json") is wanted
