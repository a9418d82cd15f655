"""Moved by operators, by a plan, by a new file, and back by itself."""

from __future__ import annotations

import asyncio
import json
import logging
from pathlib import Path
from typing import Any

import pytest

from gateway.strangler import plan
from gateway.strangler.configuration import load
from gateway.strangler.strangler import Strangler
from tests.gateway.scripted import until
from tests.strangler.town import OldShop, Town, document, old_shop, strangled

QUIET = {"emptyIsAbsent": True}
ABORT = {"window": "60s", "minimumCalls": 10, "errorRate": 0.2, "mismatchRate": 0.2}


def standing(town: Town) -> plan.Standing:
    return town.strangler.shifts["products"].standing


# -- aborts


async def test_too_many_errors_of_the_new_side_move_everybody_back(
    request: Any, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.ERROR, "gateway.strangler")
    async with strangled(request.node.nodeid, percent=100, abort=ABORT) as town:
        town.new.status = 500
        answers = [await town.ask("GET", "/v1/products/mug", "ada") for _ in range(15)]
        report = await town.report()
        town.new.status = 200
        still = await town.ask("GET", "/v1/products/mug", "ada")
        await town.operator(route="products", action="resume")
        resumed = await town.ask("GET", "/v1/products/mug", "ada")
        after = await town.report()

    assert [(status, by) for status, _, by in answers] == [(500, "")] * 10 + [(200, "legacy")] * 5
    assert (report["mode"], report["percent"], report["aborted_at"]) == ("aborted", 0, 100)
    assert report["reason"] == "10 of 10 calls failed: 100.0% is more than 20.0%"
    assert (still[2], resumed[2]) == ("legacy", "new")
    # What was seen before it was resumed is judged already.
    assert (after["mode"], after["window"]["calls"]) == ("following", 1)
    assert after["requests"] == {
        "new": {"failed": 10, "answered": 1},
        "legacy": {"answered": 6},
    }
    assert "aborted, 100 % -> 0 %" in caplog.text


async def test_it_can_go_back_to_the_step_before_only(request: Any) -> None:
    ramp = [{"percent": 0}, {"percent": 100}]
    abort = {**ABORT, "minimumCalls": 1, "toStepBefore": True}
    async with strangled(request.node.nodeid, ramp=ramp, abort=abort, shadow=QUIET) as town:
        await town.ask("GET", "/v1/products/mug")  # a call of the new side, as a shadow
        await until(lambda: standing(town).percent == 100)
        town.new.status = 503
        await town.ask("GET", "/v1/products/mug")

        assert standing(town).mode is plan.Mode.ABORTED
        assert standing(town).percent == 0


async def test_answers_that_differ_move_everybody_back(request: Any) -> None:
    async with strangled(request.node.nodeid, percent=50, abort=ABORT, shadow=QUIET) as town:
        town.new.titles["mug"] = "Mug of stone"
        for number in range(10):
            assert (await town.ask("GET", "/v1/products/mug", f"c-{number}"))[0] == 200
        await until(lambda: standing(town).mode is plan.Mode.ABORTED)
        report = await town.report()

    assert report["reason"] == "10 of 10 answers differed: 100.0% is more than 20.0%"
    assert report["percent"] == 0


async def test_a_slow_new_side_moves_everybody_back(request: Any) -> None:
    abort = {**ABORT, "minimumCalls": 5, "slow": "0.02s", "slowRate": 0.5}
    async with strangled(request.node.nodeid, percent=100, abort=abort) as town:
        town.new.delay = 0.05
        for _ in range(5):
            assert (await town.ask("GET", "/v1/products/mug"))[0] == 200
        report = await town.report()

    assert report["mode"] == "aborted"
    assert "5 of 5 calls took over 0.02 s" in report["reason"]


async def test_a_failing_old_side_aborts_nothing_nor_do_the_clients_own_mistakes(
    request: Any,
) -> None:
    abort = {**ABORT, "minimumCalls": 1, "errorRate": 0}
    async with strangled(request.node.nodeid, percent=0, abort=abort) as town:
        town.old.status = 500
        for _ in range(3):
            await town.ask("GET", "/v1/products/mug")
        await town.operator(route="products", percent=100)
        assert (await town.ask("GET", "/v1/products/none"))[0] == 404
        assert (await town.ask("GET", "/v1/products?page_size=x"))[0] == 400

        assert standing(town).mode is plan.Mode.HELD


# -- plans


async def test_a_ramp_is_climbed_while_it_is_served_and_waits_for_evidence(request: Any) -> None:
    ramp = [{"percent": 1, "dwell": "0.1s"}, {"percent": 50, "dwell": "0.1s"}, {"percent": 100}]
    abort = {**ABORT, "minimumCalls": 2}
    async with strangled(request.node.nodeid, ramp=ramp, abort=abort, shadow=QUIET) as town:
        seen = [standing(town).percent]
        for percent in (50, 100):
            for _ in range(2):
                await town.ask("GET", "/v1/products/mug")
            await until(lambda percent=percent: standing(town).percent == percent)  # type: ignore[misc]
            seen.append(standing(town).percent)

    assert seen == [1, 50, 100]


async def test_a_first_step_of_nobody_is_left_in_its_time(request: Any) -> None:
    ramp = [{"percent": 0, "dwell": "0.1s"}, {"percent": 100}]
    async with strangled(request.node.nodeid, ramp=ramp, abort=ABORT) as town:
        await until(lambda: standing(town).percent == 100)


async def test_what_cannot_be_written_is_in_force_here_and_said(
    request: Any, tmp_path: Path
) -> None:
    file = tmp_path / "strangler.json"
    async with strangled(request.node.nodeid, file=file, percent=0) as town:
        file.with_suffix(".state").mkdir()
        status, body = await town.operator(route="products", percent=100)
        side = (await town.ask("GET", "/v1/products/mug"))[2]
        file.with_suffix(".state").rmdir()
        await until(lambda: town.strangler.book.settled)

    assert (status, body["kept"], side) == (200, False, "new")


# -- what operators say


async def test_operators_move_a_route_and_the_report_says_so(request: Any) -> None:
    async with strangled(request.node.nodeid, percent=5) as town:
        held = await town.operator(route="products", percent=40.5, reason="a look")
        shown = await town.report()
        aborted = await town.operator(route="products", action="abort")
        resumed = await town.operator(route="products", action="resume")

    assert (held[0], held[1]["percent"], held[1]["mode"]) == (200, 40.5, "held")
    assert held[1]["kept"]
    assert (shown["percent"], shown["mode"], shown["reason"]) == (40.5, "held", "a look")
    assert (aborted[1]["percent"], aborted[1]["reason"]) == (0, "by an operator")
    assert (resumed[1]["percent"], resumed[1]["mode"]) == (5, "following")


@pytest.mark.parametrize(
    ("order", "said"),
    [
        ({}, "missing required field `route`"),
        ({"route": "products"}, "percent"),
        ({"route": "products", "percent": 1, "action": "resume"}, "percent"),
        ({"route": "nowhere", "percent": 1}, "'nowhere' is no route; there are: products, rest"),
        ({"route": "products", "percent": 101}, "percent: 101.0 is not between 0 and 100"),
        ({"route": "products", "percent": "5"}, "$.percent: '5'"),
        ({"route": "products", "action": "stop"}, "$.action: 'stop'"),
        ({"route": "products", "nope": 1}, "$.nope: 1"),
        ({"route": "products", "percent": 1, "reason": "x" * 201}, "reason: is longer than 200"),
    ],
)
async def test_an_order_that_makes_no_sense_is_refused_and_moves_nothing(
    request: Any, order: dict[str, Any], said: str
) -> None:
    async with strangled(request.node.nodeid, percent=5) as town:
        status, body = await town.operator(**order)
        percent = standing(town).percent

    assert (status, percent) == (400, 5)
    assert said in body["message"]


async def test_no_page_in_a_browser_and_nobody_from_afar_moves_anything(request: Any) -> None:
    order = json.dumps({"route": "products", "percent": 100})
    async with strangled(request.node.nodeid, percent=5) as town:
        url = f"{town.gateway.app.admin_url}admin/strangler"
        json_type = {"Content-Type": "application/json"}

        async def post(headers: dict[str, str], data: str = order) -> int:
            async with town.http.post(url, data=data, headers=headers) as response:
                return response.status

        assert await post({"Content-Type": "text/plain"}) == 415
        assert await post({**json_type, "Origin": "https://evil.example"}) == 403
        assert await post({**json_type, "Host": "rebound.example"}) == 403
        assert await post(json_type, "{") == 400
        assert await post(json_type, " " * 70_000) == 413
        async with town.http.options(url) as response:
            assert response.status == 405
        town.gateway.admin.loopback = False
        assert await post(json_type) == 403
        town.gateway.admin.loopback = True
        assert standing(town).percent == 5
        own = town.gateway.app.admin_url.rstrip("/")
        assert await post({**json_type, "Origin": own}) == 200
        async with town.http.post(f"{town.url}/admin/strangler", json={}) as response:
            assert response.status == 404


# -- files


async def test_a_new_file_is_in_force_without_a_restart_and_a_wrong_one_is_not(
    request: Any, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    file = tmp_path / "strangler.json"
    async with strangled(request.node.nodeid, file=file, percent=0) as town:
        told = json.loads(file.read_text())
        assert (await town.ask("GET", "/v1/products/mug"))[2] == "legacy"
        told["routes"][0]["percent"] = 100
        told["routes"][1]["match"].append("GET /v1/coupons")
        file.write_text(json.dumps(told))
        await until(lambda: standing(town).percent == 100)
        assert (await town.ask("GET", "/v1/products/mug"))[2] == "new"
        assert (await town.ask("GET", "/v1/coupons"))[0] == 200

        file.write_text("{")
        await until(lambda: town.strangler.refused)
        refused = town.strangler.refused
        assert (await town.ask("GET", "/v1/products/mug"))[2] == "new"
        file.unlink()
        await until(lambda: "No such file" in town.strangler.refused)
        told["routes"][0]["percent"] = 0
        del told["routes"][1]
        file.write_text(json.dumps(told))
        await until(lambda: standing(town).percent == 0)
        assert not town.strangler.refused
        assert (await town.ask("GET", "/v1/products/mug"))[2] == "legacy"
        assert (await town.ask("GET", "/v1/coupons"))[0] == 404

    assert str(file) in refused
    assert caplog.text.count("refused, the last good one stays") == 2


async def test_an_old_service_that_moves_is_followed_and_its_answers_underway_end(
    request: Any, tmp_path: Path
) -> None:
    file, other = tmp_path / "strangler.json", OldShop(titles={"mug": "From the other"})
    async with (
        old_shop(other) as url,
        strangled(request.node.nodeid, file=file, percent=0) as town,
    ):
        town.old.delay = 1.0
        underway = asyncio.ensure_future(town.ask("GET", "/v1/products/mug"))
        await asyncio.wait_for(town.old.entered.wait(), 5)
        told = json.loads(file.read_text())
        told["legacy"]["shop"]["url"] = url
        file.write_text(json.dumps(told))

        async def moved() -> bool:
            return (await town.ask("GET", "/v1/products/mug"))[1]["title"] == "From the other"

        async with asyncio.timeout(10):
            while not await moved():
                await asyncio.sleep(0.05)
        status, body, _ = await asyncio.wait_for(underway, 10)

    assert (status, body["title"]) == (200, "Stoneware mug")


async def test_an_abort_outlives_a_restart(request: Any, tmp_path: Path) -> None:
    file = tmp_path / "strangler.json"
    async with strangled(request.node.nodeid, file=file, percent=50) as town:
        await town.operator(route="products", action="abort", reason="prices are wrong")
    again = Strangler(file, file.with_suffix(".state"))

    assert again.shifts["products"].standing.mode is plan.Mode.ABORTED
    assert again.shifts["products"].standing.reason == "prices are wrong"


async def test_an_abort_of_the_last_moment_outlives_a_restart(request: Any, tmp_path: Path) -> None:
    file = tmp_path / "strangler.json"
    async with strangled(request.node.nodeid, file=file, percent=100, abort=ABORT) as town:
        town.new.status = 500
        for _ in range(10):
            await town.ask("GET", "/v1/products/mug")
    again = Strangler(file, file.with_suffix(".state"))

    assert again.shifts["products"].standing.mode is plan.Mode.ABORTED


async def test_counts_outlive_a_change_of_their_route() -> None:
    one = load(json.dumps(document("http://127.0.0.1:9", percent=1)))
    two = load(json.dumps(document("http://127.0.0.1:9", percent=2)))
    strangler = Strangler(one)
    strangler.shifts["products"].counts["new", "answered"] = 7
    same = strangler.shifts["rest"]

    strangler._use(two)
    await asyncio.sleep(0)

    assert strangler.shifts["products"].counts["new", "answered"] == 7
    assert strangler.shifts["rest"] is same
