"""Dead letters over gRPC: an operator sees what a service could not deal with, and decides."""

from __future__ import annotations

import random
from collections.abc import AsyncIterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import grpc
import pytest
from proxyless.admin.v1 import (
    DeadLetterAdminStub,
    DropDeadLetterRequest,
    GetDeadLetterRequest,
    ListDeadLettersRequest,
    RedriveDeadLetterRequest,
)

from mesh.events import Event, Inbox
from mesh.events.dead import Name
from mesh.policy.backoff import Backoff
from mesh.server import Server
from mesh.server.dead_letters import DeadLetterAdmin
from mesh.status import from_error
from mesh.store import Database, Transaction
from tests.store.postgresql import DATABASES, new_url, quiet


def event(position: int, aggregate_id: str) -> Event:
    return Event(
        position=position,
        event_id=f"e-{position}",
        event_type="OrderCreated",
        aggregate="order",
        aggregate_id=aggregate_id,
        sequence=position,
        occurred_at=1.5,
        traceparent="",
        payload=b"p" * position,
    )


@dataclass
class Post:
    """A service that takes in events of two sources, and fails on what is poison."""

    database: Database
    stub: Any = None
    poison: set[str] = field(default_factory=set)
    seen: list[str] = field(default_factory=list)

    def inbox(self, consumer: str) -> Inbox:
        return Inbox(
            self.database,
            consumer=consumer,
            source="or/ders",
            handler=self._handle,
            attempts=1,
            backoff=Backoff(base=1.0, cap=1.0, jitter=0.0),
            rng=random.Random(0),
        )

    async def _handle(self, tx: Transaction, event: Event) -> None:
        if event.event_id in self.poison:
            raise ValueError(f"{event.event_id} is poison")
        self.seen.append(event.event_id)

    async def listed(self, size: int = 0) -> list[list[Any]]:
        """The pages of the list."""
        pages, token = [], ""
        while True:
            request = ListDeadLettersRequest(page_size=size, page_token=token)
            page = await self.stub.ListDeadLetters(request)
            pages.append(list(page.dead_letters))
            token = page.next_page_token
            if not token:
                return pages


@pytest.fixture(params=DATABASES)
async def post(request: pytest.FixtureRequest, tmp_path: Path) -> AsyncIterator[Post]:
    async with quiet(new_url(request.param, tmp_path / "post.db")) as database:
        made = Post(database)
        async with (
            Server("post", [DeadLetterAdmin(database)]).serving() as address,
            grpc.aio.insecure_channel(address) as channel,
        ):
            made.stub = DeadLetterAdminStub(channel)
            yield made


def ids(letters: list[Any]) -> list[str]:
    return [letter.dead_letter_id for letter in letters]


async def test_the_dead_of_every_consumer_are_listed_in_pages_with_what_waits(post: Post) -> None:
    assert await post.listed() == [[]]
    post.poison = {"e-1", "e-3"}
    for consumer in ("mail", "sms"):
        await post.inbox(consumer).deliver(
            [event(1, "a"), event(2, "a"), event(3, "b"), event(4, "c"), event(5, "a")]
        )

    pages = await post.listed(size=3)

    assert list(map(ids, pages)) == [
        ["mail/or%2Fders/1", "mail/or%2Fders/3", "sms/or%2Fders/1"],
        ["sms/or%2Fders/3"],
    ]
    first = pages[0][0]
    assert (first.consumer, first.source, first.event_id) == ("mail", "or/ders", "e-1")
    assert (first.attempts, first.cause) == (1, "ValueError: e-1 is poison")
    assert (first.waiting, first.payload_size, first.payload) == (2, 1, b"")
    assert [letter.waiting for letter in pages[0][1:]] == [0, 2]
    whole = await post.stub.GetDeadLetter(GetDeadLetterRequest(dead_letter_id="sms/or%2Fders/3"))
    assert (whole.payload, whole.aggregate_id, whole.sequence) == (b"ppp", "b", 3)
    assert whole.occur_time.ToMicroseconds() == 1_500_000


async def test_one_that_is_redriven_is_tried_again_with_those_behind_it(post: Post) -> None:
    post.poison = {"e-1"}
    inbox = post.inbox("mail")
    await inbox.deliver([event(1, "a"), event(2, "a")])
    request = RedriveDeadLetterRequest(dead_letter_id="mail/or%2Fders/1")

    once = await post.stub.RedriveDeadLetter(request)
    again = await post.stub.RedriveDeadLetter(request)
    with pytest.raises(grpc.aio.AioRpcError) as tried:
        await post.stub.DropDeadLetter(DropDeadLetterRequest(dead_letter_id="mail/or%2Fders/1"))

    assert not once.HasField("death_time")
    assert once == again
    assert from_error(tried.value).reason == "DEAD_LETTER_TRIED"
    assert await post.listed() == [[]]
    await inbox.retry()  # it is poison still
    assert list(map(ids, await post.listed())) == [["mail/or%2Fders/1"]]
    post.poison.clear()
    await post.stub.RedriveDeadLetter(request)
    await inbox.retry()
    await inbox.retry()
    assert post.seen == ["e-1", "e-2"]


async def test_one_that_is_dropped_is_gone_and_those_behind_it_go_on(post: Post) -> None:
    post.poison = {"e-1"}
    inbox = post.inbox("mail")
    await inbox.deliver([event(1, "a"), event(2, "a")])
    request = DropDeadLetterRequest(dead_letter_id="mail/or%2Fders/1")

    lost = await post.stub.DropDeadLetter(request)
    await inbox.retry()
    with pytest.raises(grpc.aio.AioRpcError) as gone:
        await post.stub.DropDeadLetter(request)

    assert (lost.event_id, lost.payload) == ("e-1", b"p")
    assert post.seen == ["e-2"]
    assert from_error(gone.value).reason == "DEAD_LETTER_NOT_FOUND"


@pytest.mark.parametrize(
    ("method", "request_", "reason", "fields"),
    [
        ("GetDeadLetter", GetDeadLetterRequest(dead_letter_id="a/b/1"), "NOT_FOUND", []),
        # One that waits behind another is no dead letter.
        ("GetDeadLetter", GetDeadLetterRequest(dead_letter_id="mail/or%2Fders/2"), "NOT_FOUND", []),
        ("RedriveDeadLetter", RedriveDeadLetterRequest(dead_letter_id="a/b/1"), "NOT_FOUND", []),
        *(
            (
                "GetDeadLetter",
                GetDeadLetterRequest(dead_letter_id=text),
                "INVALID_DEAD_LETTER_ID",
                ["dead_letter_id"],
            )
            for text in ("a", "a/b", "a/b/c", "a/b/-1", "a%00/b/1", "a/b/99999999999999999999")
        ),
        *(
            (
                "ListDeadLetters",
                ListDeadLettersRequest(page_token=token),
                "INVALID_PAGE_TOKEN",
                ["page_token"],
            )
            # ["a","b",1e999], ["a","b"] and one of a position that no database has
            for token in ("nonsense", "WyJhIiwiYiIsMWU5OTld", "WyJhIiwiYiJd", "WyIiLCIiLDFlMzBd")
        ),
    ],
)
async def test_what_is_not_there_or_no_name_is_said(
    post: Post, method: str, request_: Any, reason: str, fields: list[str]
) -> None:
    post.poison = {"e-1"}
    await post.inbox("mail").deliver([event(1, "a"), event(2, "a")])
    with pytest.raises(grpc.aio.AioRpcError) as failed:
        await getattr(post.stub, method)(request_)

    said = from_error(failed.value)
    assert said.reason.endswith(reason)
    assert [name for name, _ in said.fields] == fields


def test_a_name_is_read_as_it_is_written() -> None:
    for name in (Name("a", "b", 1), Name("relay:bus", "x/y", 2**63 - 1), Name("", "é %", 0)):
        assert Name.parse(str(name)) == name
