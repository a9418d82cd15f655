"""
What is wrong with a request, in the words of who sent it.

The error starts where the value is read and gathers its path on the way out: each level that it
passes puts its own name before it, so reading a right request costs nothing.
"""

from __future__ import annotations


class Invalid(ValueError):
    """A request that cannot be bound; `field` is what the caller wrote, `why` what is wrong."""

    def __init__(self, why: str, field: str = "", reason: str = "INVALID_REQUEST") -> None:
        super().__init__(why)
        self.why = why
        self.field = field
        self.reason = reason
        self.more: tuple[Invalid, ...] = ()

    def under(self, key: str | int) -> Invalid:
        """The same error, seen from one level further out: a field's name or an element's index."""
        step = f"[{key}]" if isinstance(key, int) else key
        joint = "." if self.field and not self.field.startswith("[") else ""
        self.field = f"{step}{joint}{self.field}"
        return self

    @classmethod
    def several(cls, errors: list[Invalid]) -> Invalid:
        """One error for all of `errors`; the first speaks."""
        first, *rest = errors
        first.more = tuple(rest)
        return first

    @property
    def violations(self) -> list[tuple[str, str]]:
        return [(error.field, error.why) for error in (self, *self.more)]

    def __str__(self) -> str:
        return f"{self.field}: {self.why}" if self.field else self.why


def shown(value: object) -> str:
    """`value` as an error message quotes it: JSON's words, cut short."""
    words = {None: "null", True: "true", False: "false"}
    if value is None or isinstance(value, bool):
        return words[value]
    if isinstance(value, dict):
        return "an object"
    if isinstance(value, list):
        return "an array"
    text = repr(value) if not isinstance(value, str) else f'"{value}"'
    return text if len(text) <= 64 else text[:60] + "..."
