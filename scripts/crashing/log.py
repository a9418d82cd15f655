"""
A matrix that is gone through in several sittings: its points and what came of them, a line each.

    {"points": [["bought", "orders", [["pwrite64", 7]]], ...]}
    {"point": [...], "kills": 1, "outcome": "CONFIRMED", "seconds": 3.2, "recovery": 1.1, ...}
"""

from __future__ import annotations

import json
import random
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from scripts.crashing.point import Point, Result
from scripts.crashing.victim import Kill


class Log:
    """The log in one file, or one that nobody keeps."""

    def __init__(self, path: Path | None) -> None:
        self._path = path
        self.points: list[Point] = []
        self.results: list[Result] = []
        if path is not None and path.exists():
            self._read(path)

    def plan(self, points: Sequence[Point]) -> None:
        """Write down what is to be gone through: in an order in which each part stands for all."""
        self.points = list(points)
        random.Random(len(points)).shuffle(self.points)
        self._write({"points": [_written(point) for point in self.points]})

    @property
    def left(self) -> list[Point]:
        """The points that nobody has gone through yet."""
        done = {result.point for result in self.results}
        return [point for point in self.points if point not in done]

    def add(self, result: Result) -> None:
        self.results.append(result)
        self._write(
            {
                "point": _written(result.point),
                "kills": result.kills,
                "outcome": result.outcome,
                "seconds": round(result.seconds, 3),
                "recovery": round(result.recovery, 3),
                "wrong": list(result.wrong),
            }
        )

    def _write(self, line: Any) -> None:
        if self._path is not None:
            with self._path.open("a") as file:
                file.write(json.dumps(line) + "\n")

    def _read(self, path: Path) -> None:
        try:
            first, *others = map(json.loads, path.read_text().splitlines())
            self.points = [_point(each) for each in first["points"]]
            for line in others:
                point = _point(line.pop("point"))
                self.results.append(Result(point, **line))
        except (ValueError, TypeError, KeyError, AttributeError) as error:
            raise RuntimeError(f"{path} is no log of a matrix: {error}") from error


def _written(point: Point) -> list[Any]:
    return [point.story, point.victim, [[kill.call, kill.nth] for kill in point.kills]]


def _point(kept: Any) -> Point:
    story, victim, kills = kept
    return Point(story, victim, tuple(Kill(call, nth) for call, nth in kills))
