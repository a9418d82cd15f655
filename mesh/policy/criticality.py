"""
Criticality: which calls go first when not all can go (SRE book, "Handling Overload").

    CRITICAL_PLUS   a person waits and money moves      may use a little more than the limit
    CRITICAL        the default of every call           may use the whole limit
    SHEDDABLE_PLUS  batch work that retries by itself   may use three quarters
    SHEDDABLE       nobody notices today                may use half

It travels with the call in metadata and is inherited by the calls made inside it.
"""

from __future__ import annotations

from enum import Enum

# The metadata key it travels under.
KEY = "x-mesh-criticality"


class Criticality(Enum):
    """How much a call matters; the value is the share of a limit that such calls may use."""

    CRITICAL_PLUS = 1.1
    CRITICAL = 1.0
    SHEDDABLE_PLUS = 0.75
    SHEDDABLE = 0.5

    @classmethod
    def of(cls, name: str) -> Criticality:
        """The level of this name, in any case; whatever else is said is CRITICAL."""
        return cls.__members__.get(name.upper(), cls.CRITICAL)
