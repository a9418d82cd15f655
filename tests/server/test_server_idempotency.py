"""A command asked twice runs once and is answered twice: over real sockets, on a real database."""

from __future__ import annotations

import asyncio
import time
from typing import Any

import grpc
import pytest

from mesh.errors import Code, StatusError
from mesh.server.idempotency import current_key, is_read
from mesh.server.key import fingerprint
from mesh.status import from_error
from tests.server.commands import IN_PROGRESS, REUSED, Commands, answer, effects, key, serving
from tests.server.echo import SERVICE, Text


async def test_the_same_key_gives_the_same_answer_once_more(database):
    commands = Commands(database)
    async with serving(commands) as echo:
        assert await answer(echo.Say(Text(text="a"), metadata=key("k"))) == ("a 1", False)
        assert await answer(echo.Say(Text(text="a"), metadata=key("k"))) == ("a 1", True)
        assert await answer(echo.Say(Text(text="a", request_id="k"))) == ("a 1", True)
        assert await answer(echo.Say(Text(text="a", request_id="k", wait=True))) == ("a 1", True)
        assert await answer(echo.Say(Text(text="a"), metadata=key("other"))) == ("a 2", False)
        assert await answer(echo.Say(Text(text="a"))) == ("a 3", False)
    assert await effects(database) == ["a", "a", "a"]


async def test_the_handler_can_read_its_key(database):
    class Reads(Commands):
        async def Say(self, request, context):
            return Text(text=str(current_key()))

    async with serving(Reads(database)) as echo:
        assert (await echo.Say(Text(request_id="k-1"))).text == "k-1"
        assert (await echo.Say(Text())).text == "None"


@pytest.mark.parametrize(
    ("request_", "metadata", "reason"),
    [
        (Text(text="b"), key("k"), REUSED),
        (Text(text="a", number=1), key("k"), REUSED),
        (Text(text="a", request_id="x"), key("k"), "IDEMPOTENCY_KEY_MISMATCH"),
        (Text(text="a"), (*key("k"), *key("l")), "IDEMPOTENCY_KEY_MISMATCH"),
        (Text(text="a"), key("k" * 256), "IDEMPOTENCY_KEY_INVALID"),
        (Text(text="a", request_id="k"), key("k"), "a 1"),
    ],
)
async def test_a_key_means_one_request(database, request_, metadata, reason):
    commands = Commands(database)
    async with serving(commands) as echo:
        await echo.Say(Text(text="a"), metadata=key("k"))
        said, _ = await answer(echo.Say(request_, metadata=metadata))
    assert said == reason
    assert commands.runs == 1


async def test_a_key_belongs_to_its_caller(database):
    commands = Commands(database)

    def caller(context: Any) -> str:
        return str(dict(context.invocation_metadata()).get("who", ""))

    async with serving(commands, caller=caller) as echo:
        for who, expected in (("ann", "a 1"), ("bob", "a 2"), ("ann", "a 1")):
            metadata = (*key("k"), ("who", who))
            assert (await answer(echo.Say(Text(text="a"), metadata=metadata)))[0] == expected


async def test_an_invalid_request_leaves_its_key_free(database):
    commands = Commands(database)
    async with serving(commands) as echo:
        said, _ = await answer(echo.Say(Text(number=-1), metadata=key("k")))
        assert said == "INVALID_REQUEST"
        assert await answer(echo.Say(Text(text="a"), metadata=key("k"))) == ("a 1", False)


@pytest.mark.parametrize("code", [each for each in Code if each is not Code.OK])
async def test_only_errors_that_stay_true_are_answered_again(database, code):
    final = {"NOT_FOUND", "ALREADY_EXISTS", "FAILED_PRECONDITION", "OUT_OF_RANGE"}
    commands = Commands(database)
    commands.error = StatusError(code, "no", reason="REFUSED", domain="test", fields=[("f", "w")])
    async with serving(commands) as echo:
        assert await answer(echo.Say(Text(), metadata=key("k"))) == ("REFUSED", False)
        again = echo.Say(Text(), metadata=key("k"))
        assert await answer(again) == ("REFUSED", code.name in final)
        with pytest.raises(grpc.aio.AioRpcError) as said:
            await again
    assert (said.value.code().name, from_error(said.value).fields) == (code.name, (("f", "w"),))
    assert commands.runs == (1 if code.name in final else 2)


async def test_an_unexpected_error_leaves_the_key_free(database):
    commands = Commands(database)
    commands.error = ValueError("bug")
    async with serving(commands) as echo:
        assert await answer(echo.Say(Text(), metadata=key("k"))) == ("INTERNAL", False)
        commands.error = None
        assert await answer(echo.Say(Text(), metadata=key("k"))) == (" 2", False)


async def test_a_duplicate_waits_for_the_first_and_gets_its_answer(database):
    commands = Commands(database)
    commands.release.clear()
    async with serving(commands, wait=10.0) as echo:
        first = asyncio.ensure_future(answer(echo.Say(Text(text="a"), metadata=key("k"))))
        await asyncio.wait_for(commands.begun.wait(), 5)
        second = asyncio.ensure_future(answer(echo.Say(Text(text="a"), metadata=key("k"))))
        done, _ = await asyncio.wait({second}, timeout=0.2)
        assert not done
        start = time.monotonic()
        commands.release.set()
        assert await asyncio.wait_for(first, 5) == ("a 1", False)
        assert await asyncio.wait_for(second, 5) == ("a 1", True)
        assert time.monotonic() - start < 1.0
    assert commands.runs == 1


@pytest.mark.parametrize(("wait", "timeout"), [(0.2, None), (30.0, 0.6)])
async def test_a_duplicate_waits_no_longer_than_its_patience_or_deadline(database, wait, timeout):
    commands = Commands(database)
    commands.release.clear()
    async with serving(commands, wait=wait) as echo:
        first = asyncio.ensure_future(answer(echo.Say(Text(text="a"), metadata=key("k"))))
        await asyncio.wait_for(commands.begun.wait(), 5)
        start = time.monotonic()
        with pytest.raises(grpc.aio.AioRpcError) as caught:
            await echo.Say(Text(text="a"), metadata=key("k"), timeout=timeout)
        assert time.monotonic() - start < 3
        if timeout is None:
            said = from_error(caught.value)
            assert (said.code, said.reason) == (Code.ABORTED, IN_PROGRESS)
            assert said.retry_after == 1.0
        commands.release.set()
        assert await first == ("a 1", False)
    assert commands.runs == 1


@pytest.mark.parametrize(
    ("one", "other", "same"),
    [
        (Text(text="a"), Text(text="a", request_id="k"), True),
        (Text(text="a"), Text(text="a", wait=True), True),
        (Text(text="a"), Text(text="b"), False),
        (Text(items=[Text(wait=True)]), Text(items=[Text()]), False),
        (Text(text="a"), Text(items=[Text(text="a")]), False),
    ],
)
def test_the_fingerprint_is_of_what_is_asked(one, other, same):
    assert (fingerprint(one) == fingerprint(other)) is same


@pytest.mark.parametrize(
    ("method", "read"),
    [
        ("/shop.orders.v1.OrderService/GetOrder", True),
        ("/shop.orders.v1.OrderService/CreateOrder", False),
        ("/shop.orders.v1.OrderService/CancelOrder", False),
        (f"/{SERVICE}/Say", False),
        ("/no.Such/Method", False),
    ],
)
def test_a_key_on_a_read_means_nothing(method, read):
    __import__("shop.orders.v1")
    assert is_read(method) is read
