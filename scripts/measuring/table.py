"""
A table in Markdown of what calls cost: a row a variant, the first of which is what the others are
compared with.

    | a unary call, asyncio | CPU us, serial | CPU us, 64 in flight |
    |---|---|---|
    | bare grpc.aio   | 228        | 147        |
    | mesh, no rules  | 269, x1.18 | 160, x1.09 |
"""

from __future__ import annotations

import statistics
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True)
class Column:
    """What blocks of calls took per call, by variant; those at one place are of one time."""

    unit: str
    concurrency: int
    blocks: dict[str, list[float]]

    @property
    def load(self) -> str:
        """How many calls at once, in words."""
        return "serial" if self.concurrency == 1 else f"{self.concurrency} in flight"

    def ratios(self, name: str) -> list[float]:
        """Each block's ratio to the first variant's of the same time."""
        first = next(iter(self.blocks.values()))
        return [value / bare for value, bare in zip(self.blocks[name], first, strict=True)]

    def cell(self, name: str) -> str:
        """The median, and the median of the ratios."""
        median = f"{statistics.median(self.blocks[name]):.0f}"
        if name == next(iter(self.blocks)):
            return median
        return f"{median}, x{statistics.median(self.ratios(name)):.2f}"

    def data(self) -> dict[str, Any]:
        """The same for programs, with the quartiles of the ratios."""
        found = {}
        for name, values in self.blocks.items():
            ratios = self.ratios(name)
            low, middle, high = min(ratios), statistics.median(ratios), max(ratios)
            if len(ratios) > 3:
                low, middle, high = statistics.quantiles(ratios, n=4)
            median = statistics.median(values)
            found[name] = {"median": median, "ratio": middle, "low": low, "high": high}
        return {"unit": self.unit, "in_flight": self.concurrency, "variants": found}


def table(title: str, columns: Sequence[Column]) -> str:
    """The table, as it stands in the README."""
    heads = [f"{column.unit}, {column.load}" for column in columns]
    names = list(columns[0].blocks) if columns else []
    rows = [[name, *(column.cell(name) for column in columns)] for name in names]
    lines = [[title, *heads], ["---"] * (len(heads) + 1), *rows]
    return "\n".join("| " + " | ".join(line) + " |" for line in lines)
