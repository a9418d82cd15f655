"""
Who may ask how often: a file of rates, by API key, token or address.

    # who            how often, and how many at once (unless told: all of them)
    key:acme         100/s:200
    key:*            10/s
    user:*           600/min:20
    address:*        20
    *                50            # whoever no other line names

The line that names somebody decides, else the one for all of that kind, else `*`; with none of them
there is no limit.  A rate without unit is a second's.  It may be changed while it is in force: see
gateway.rates_file.
"""

from __future__ import annotations

import math
import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

SECONDS = {"s": 1.0, "min": 60.0, "h": 3600.0, "d": 86400.0}
KINDS = ("key", "user", "address")
ALL = "*"
_RATE = re.compile(r"([0-9]{1,12}(?:\.[0-9]{1,6})?)(?:/(s|min|h|d))?(?::([0-9]{1,9}))?")


class RatesError(ValueError):
    """The file cannot be used; the message names the line."""


@dataclass(frozen=True, slots=True)
class Rate:
    """So many requests a second, and how many of them at once."""

    per_second: float
    burst: int

    @classmethod
    def parse(cls, text: str) -> Rate:
        """A rate such as 10, 10:20, 600/min or 10000/d:500; ValueError when it is none."""
        match = _RATE.fullmatch(text)
        if match is None:
            raise ValueError(f"{text!r} is not RATE, RATE/UNIT or RATE/UNIT:BURST")
        many, unit, burst = float(match[1]), match[2] or "s", match[3]
        if many <= 0 or burst == "0":
            raise ValueError(f"{text!r} lets nobody through")
        at_once = int(burst) if burst else max(1, math.ceil(many))
        return cls(many / SECONDS[unit], at_once)


class Rates:
    """The rates by who asks: "key:acme", "user:*", "*"."""

    def __init__(self, rates: Mapping[str, Rate]) -> None:
        self.rates = dict(rates)

    @classmethod
    def parse(cls, text: str, usual: Rate | None = None) -> Rates:
        """The rates that a file's text names; `usual` is for whoever none of them names."""
        rates: dict[str, Rate] = {} if usual is None else {ALL: usual}
        seen: set[str] = set()
        for number, line in enumerate(text.splitlines(), 1):
            words = line.partition("#")[0].split()
            if not words:
                continue
            if len(words) != 2:
                raise RatesError(f"line {number} is not a name and a rate")
            who, rate = words
            kind, _, name = who.partition(":")
            if who != ALL and (kind not in KINDS or not name):
                raise RatesError(
                    f"line {number}: {who!r} is not * or key:, user:, address: and who"
                )
            if who in seen:
                raise RatesError(f"line {number}: {who} has a rate already")
            seen.add(who)
            try:
                rates[who] = Rate.parse(rate)
            except ValueError as error:
                raise RatesError(f"line {number}: {error}") from None
        return cls(rates)

    @classmethod
    def read(cls, path: Path, usual: Rate | None = None) -> Rates:
        """The rates of a file, or RatesError."""
        try:
            return cls.parse(path.read_text("utf-8"), usual)
        except (OSError, UnicodeDecodeError) as error:
            raise RatesError(getattr(error, "strerror", None) or "it is not UTF-8") from error

    def of(self, who: str) -> Rate | None:
        """The rate of "key:acme" or its like; None when there is no limit."""
        rates = self.rates
        return rates.get(who) or rates.get(f"{who.partition(':')[0]}:*") or rates.get(ALL)
