"""
What Accept asks for, of the forms there are (RFC 9110 12.5.1).

    preferred("application/json;q=0.1, text/event-stream", FORMS) -> "text/event-stream"

The most exact range counts for a form; the form with the greatest weight wins, and of equal ones
the one that Accept names first.  Who names none of them gets the first form there is: "the server
... can ... disregard the header field".
"""

from __future__ import annotations

from functools import lru_cache

_REMEMBERED = 256


@lru_cache(maxsize=_REMEMBERED)
def preferred(accept: str, forms: tuple[str, ...]) -> str:
    """The one of `forms` that is wanted most; the first when none is."""
    ranges = [_range(part) for part in accept.lower().split(",") if part.strip()]
    weighed = [_weighed(form, ranges) for form in forms]
    best = max(range(len(forms)), key=lambda at: (weighed[at][0], -weighed[at][1], -at))
    return forms[best]


def names(accept: str, form: str) -> bool:
    """Whether Accept names this very form, and not with the weight 0."""
    return any(kind == form and weight for kind, weight in map(_range, accept.lower().split(",")))


def _weighed(form: str, ranges: list[tuple[str, float]]) -> tuple[float, int]:
    """The weight and the place of the most exact range that the form is in; (0, 0) without one."""
    whole = form.partition("/")[0] + "/*"
    for wanted in (form, whole, "*/*"):
        for place, (kind, weight) in enumerate(ranges):
            if kind == wanted:
                return weight, place
    return 0.0, 0


def _range(part: str) -> tuple[str, float]:
    kind, *parameters = (word.strip() for word in part.split(";"))
    for parameter in parameters:
        name, _, value = parameter.partition("=")
        if name.strip() == "q":
            try:
                return kind, min(1.0, max(0.0, float(value)))
            except ValueError:
                return kind, 0.0
    return kind, 1.0
