"""
What numbers a rule may hold: checked when it is made, refused by field and value.

    above_zero("retry", base=self.base)      ->  PolicyError: retry.base: -1 is not above 0

None always passes: it says that the rule has no such part.  True is not a number here.
"""

from __future__ import annotations

from collections.abc import Collection
from math import isfinite

from mesh.errors import PolicyError


def above_zero(rule: str, **fields: object) -> None:
    """Every field is a finite number above 0."""
    for name, value in _given(fields):
        if _number(rule, name, value) <= 0:
            raise PolicyError(f"{rule}.{name}", value, "is not above 0")


def not_negative(rule: str, **fields: object) -> None:
    """Every field is a finite number, 0 or above."""
    for name, value in _given(fields):
        if _number(rule, name, value) < 0:
            raise PolicyError(f"{rule}.{name}", value, "is below 0")


def between(rule: str, low: float, high: float, **fields: object) -> None:
    """Every field is a number from `low` to `high`, both included."""
    for name, value in _given(fields):
        if not low <= _number(rule, name, value) <= high:
            raise PolicyError(f"{rule}.{name}", value, f"is not between {low:g} and {high:g}")


def share(rule: str, **fields: object) -> None:
    """Every field is a part of a whole: above 0, at most 1."""
    for name, value in _given(fields):
        if not 0 < _number(rule, name, value) <= 1:
            raise PolicyError(f"{rule}.{name}", value, "is not above 0 and at most 1")


def whole(rule: str, low: int, high: int | None = None, **fields: object) -> None:
    """Every field is an integer, at least `low` and at most `high`."""
    for name, value in _given(fields):
        if not isinstance(value, int) or isinstance(value, bool):
            raise PolicyError(f"{rule}.{name}", value, "is not an integer")
        if value < low:
            raise PolicyError(f"{rule}.{name}", value, f"is below {low}")
        if high is not None and value > high:
            raise PolicyError(f"{rule}.{name}", value, f"is above {high}")


def one_of(rule: str, choices: Collection[object], **fields: object) -> None:
    """Every field is one of `choices`."""
    for name, value in _given(fields):
        if value not in choices:
            allowed = ", ".join(str(choice) for choice in choices)
            raise PolicyError(f"{rule}.{name}", value, f"is not one of {allowed}")


def _given(fields: dict[str, object]) -> list[tuple[str, object]]:
    return [(name, value) for name, value in fields.items() if value is not None]


def _number(rule: str, name: str, value: object) -> float:
    if isinstance(value, bool) or not isinstance(value, int | float) or not isfinite(value):
        raise PolicyError(f"{rule}.{name}", value, "is not a number")
    return float(value)
