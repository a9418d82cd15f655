"""The demo with the shop of before: its lines can be pasted, customers move, and back."""

from __future__ import annotations

import json
import shutil
import signal
import time
import urllib.request
from pathlib import Path

import pytest

from tests.system.test_system_demo import Running, demo, left_of, shell

pytestmark = [
    pytest.mark.slow,
    pytest.mark.timeout(240),
    pytest.mark.skipif(not shutil.which("curl"), reason="pastes lines for curl"),
]


def sides(running: Running, customers: int = 60) -> dict[str, str]:
    """Who answers each of so many customers."""
    found = {}
    for number in range(customers):
        request = urllib.request.Request(
            f"{running.gateway}/v1/products/mug", headers={"X-Customer-Id": f"c-{number}"}
        )
        with urllib.request.urlopen(request, timeout=10) as answer:
            assert json.load(answer)["title"] == "Stoneware mug"
            found[f"c-{number}"] = answer.headers["x-served-by"]
    return found


def test_the_old_shop_is_strangled_as_the_guide_says(tmp_path: Path) -> None:
    with demo(tmp_path / "state", tmp_path / "log", "--legacy") as running:
        end = time.monotonic() + 10
        while "The shop of before" not in running.guide or len(running.pasted("curl")) < 7:
            assert time.monotonic() < end, running.guide
            time.sleep(0.05)
        *_, ada, written, moved, shown = running.pasted("curl")
        first = sides(running)
        assert "x-served-by: " in shell(ada).lower()
        assert json.loads(shell(written))["stars"] == 5
        reviews = running.get("/v1/products/mug/reviews")
        assert json.loads(shell(moved))["percent"] == 50
        second = sides(running)
        report = json.loads(shell(shown))
        products = report["routes"][0]

        running.process.send_signal(signal.SIGTERM)
        assert running.process.wait(15) == 0
        assert left_of(running.children, 0) == set()

    before, after = ({who for who, by in each.items() if by == "new"} for each in (first, second))
    assert 0 < len(before) < 20
    assert before < after
    assert reviews == {"reviews": [{"stars": 5, "text": "Keeps warm.", "author": "somebody"}]}
    assert products["shadows"]["same"] > 50
    assert products["differences"] == []
    assert products["mode"] == "held"


def test_a_moved_percentage_outlives_the_demo(tmp_path: Path) -> None:
    state = tmp_path / "state"
    state.mkdir()
    kept = {"products": {"percent": 100.0, "since": 1.0, "mode": "held", "revision": 5}}
    (state / "strangler.json.state").write_text(json.dumps(kept))
    with demo(state, tmp_path / "log", "--legacy") as running:
        assert set(sides(running, 5).values()) == {"new"}
