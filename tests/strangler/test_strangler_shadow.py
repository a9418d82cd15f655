"""Shadows on real sockets: both sides are asked, what they say is compared, nobody waits."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from tests.gateway.scripted import until
from tests.strangler.town import Town, strangled

QUIET = {"ignore": [], "emptyIsAbsent": True}


async def counted(town: Town, **expected: int) -> dict[str, int]:
    """The counts of shadows, once they are what is expected."""
    shadows = town.strangler.shifts["products"].shadows
    assert shadows is not None
    await until(lambda: all(shadows.counts[name] == many for name, many in expected.items()))
    return dict(shadows.counts)


@pytest.mark.parametrize("percent", [0, 100])
async def test_the_side_that_does_not_answer_is_asked_too_and_says_the_same(
    request: Any, percent: float
) -> None:
    async with strangled(request.node.nodeid, percent=percent, shadow=QUIET) as town:
        for path in ("/v1/products", "/v1/products/mug", "/v1/products/none"):
            await town.ask("GET", path, headers={"Idempotency-Key": "k", "Accept-Encoding": "gzip"})
        counts = await counted(town, sent=3, same=3)
        asked = town.new.seen if percent == 0 else town.old.seen
        report = await town.report()

    assert counts == {"sent": 3, "same": 3}
    assert len(town.old.seen) == len(town.new.seen) == 3
    told = [{name.lower(): value for name, value in seen.items()} for seen in asked]
    assert [seen["x-mesh-shadow"] for seen in told] == ["true"] * 3
    if percent == 0:
        assert told[0]["x-mesh-criticality"] == "SHEDDABLE"
        assert "idempotency-key" not in told[0]
        assert "x-mesh-shadow" not in {name.lower() for name in town.old.seen[0]}
    assert report["window"]["compared"] == 3
    assert report["differences"] == []


async def test_what_differs_is_counted_and_kept_as_a_bounded_sample(request: Any) -> None:
    shadow = {**QUIET, "samples": 2}
    async with strangled(request.node.nodeid, percent=0, shadow=shadow) as town:
        town.new.titles = {"mug": "Mug of stone", "lid": "Lid"}
        for path in ("/v1/products/mug?a=1", "/v1/products/jug", "/v1/products/lid"):
            await town.ask("GET", path, "ada")
        counts = await counted(town, different=3)
        report = await town.report()

    assert counts["sent"] == 3
    samples = {sample["request"]: sample["differences"] for sample in report["differences"]}
    assert samples == {
        "GET /v1/products/jug": [{"at": "status", "legacy": "200", "new": "404"}],
        "GET /v1/products/lid": [{"at": "status", "legacy": "404", "new": "200"}],
    }
    assert report["shadows"]["different"] == 3


async def test_a_difference_is_told_with_its_place(request: Any) -> None:
    async with strangled(request.node.nodeid, percent=100, shadow=QUIET) as town:
        town.new.titles["mug"] = "Mug of stone"
        await town.ask("GET", "/v1/products")
        await counted(town, different=1)
        (sample,) = (await town.report())["differences"]

    assert sample["differences"] == [
        {"at": "/products/1/title", "legacy": "Stoneware mug", "new": "Mug of stone"}
    ]


async def test_an_answer_never_waits_for_its_shadow_and_shadows_are_bounded(request: Any) -> None:
    shadow = {**QUIET, "limit": 2, "timeout": "30s"}
    async with strangled(request.node.nodeid, percent=0, shadow=shadow) as town:
        town.new.delay = 30.0
        loop = asyncio.get_running_loop()
        began = loop.time()
        for _ in range(5):
            assert (await town.ask("GET", "/v1/products/mug"))[0] == 200
        took = loop.time() - began
        counts = await counted(town, sent=2, dropped=3)
        await asyncio.wait_for(town.new.entered.wait(), 5)
        stopping = loop.time()
    stopped = loop.time() - stopping

    assert took < 10
    assert stopped < 15
    assert counts == {"sent": 2, "dropped": 3}


async def test_a_shadow_has_a_time_of_its_own(request: Any) -> None:
    shadow = {**QUIET, "timeout": "0.1s"}
    async with strangled(request.node.nodeid, percent=0, shadow=shadow) as town:
        town.new.delay = 30.0
        await town.ask("GET", "/v1/products/mug")
        counts = await counted(town, sent=1, uncompared=1)
        report = await town.report()
        await asyncio.wait_for(town.new.left.wait(), 5)

    assert "different" not in counts
    assert counts.get("timed_out", 0) + counts.get("failed", 0) >= 1
    assert (report["window"]["calls"], report["window"]["failed"]) == (1, 1)


async def test_shadows_count_in_no_breaker_or_budget_of_the_answering_side(request: Any) -> None:
    async with strangled(request.node.nodeid, percent=0, shadow=QUIET) as town:
        town.new.status = 503
        for _ in range(40):
            assert (await town.ask("GET", "/v1/products/mug"))[0] == 200
        await counted(town, uncompared=40)
        channel = town.gateway.channel("inventory")
        untouched = channel.circuits()
        healthy = [endpoint.ejected for endpoint in channel.endpoints()]
        town.new.status = 200
        await town.operator(route="products", percent=100)
        answered = await town.ask("GET", "/v1/products/mug")

    assert untouched == ()
    assert healthy == [False]
    assert (answered[0], answered[2]) == (200, "new")


async def test_an_old_service_that_fails_as_a_shadow_leaves_its_own_circuit_closed(
    request: Any,
) -> None:
    policy = {"methodConfig": [{"name": [{}], "circuitBreaker": {"consecutiveFailures": 3}}]}
    async with strangled(
        request.node.nodeid, percent=100, shadow=QUIET, system={"policy": policy}
    ) as town:
        town.old.status = 503
        for _ in range(6):
            assert (await town.ask("GET", "/v1/products/mug"))[2] == "new"
        await counted(town, uncompared=6)
        asked = len(town.old.seen)
        town.old.status = 200
        await town.operator(route="products", percent=0)
        answered = await town.ask("GET", "/v1/products/mug")
        window = (await town.report())["window"]

    assert asked == 3  # the shadows' own circuit is open
    assert (answered[0], answered[2]) == (200, "legacy")
    assert window["failed"] == 0


async def test_what_may_have_side_effects_has_no_shadow(request: Any) -> None:
    match = ["POST /v1/reservations", "GET /v1/products", "GET /v1/products/{id}"]
    async with strangled(request.node.nodeid, percent=0, match=match, shadow=QUIET) as town:
        status, _, by = await town.ask("POST", "/v1/reservations", json={"orderId": "o"})
        report = await town.report()
        await town.ask("GET", "/v1/products/mug")
        await counted(town, sent=1, same=1)

    assert (status, by) == (200, "legacy")
    assert "NO_SIDE_EFFECTS" in report["not_shadowed"]["POST /v1/reservations"]
    assert len(town.new.seen) == 1


async def test_a_client_that_leaves_leaves_nothing_to_compare(request: Any) -> None:
    async with strangled(request.node.nodeid, percent=0, shadow=QUIET) as town:
        town.old.delay = 30.0
        asking = asyncio.ensure_future(town.ask("GET", "/v1/products/mug"))
        await asyncio.wait_for(town.old.entered.wait(), 5)
        asking.cancel()
        await asyncio.wait_for(town.old.left.wait(), 5)
        counts = await counted(town, sent=1, uncompared=1)

    assert counts == {"sent": 1, "uncompared": 1}


async def test_only_so_many_percent_of_the_requests_have_a_shadow(request: Any) -> None:
    async with strangled(request.node.nodeid, percent=0, shadow={**QUIET, "percent": 0}) as town:
        for _ in range(5):
            await town.ask("GET", "/v1/products/mug")

    assert town.new.seen == []
