"""What an operator does with the dead letters of a service: list, show, redrive, drop."""

from __future__ import annotations

import argparse
from collections.abc import AsyncIterator
from datetime import UTC, datetime
from typing import Any

import grpc
from proxyless.admin.v1 import (
    DeadLetter,
    DeadLetterAdminStub,
    DropDeadLetterRequest,
    GetDeadLetterRequest,
    ListDeadLettersRequest,
    RedriveDeadLetterRequest,
)

from mesh.operator.saying import SECONDS, each

VERBS = ("list", "show", "redrive", "drop")
# So much of a payload is shown.
SHOWN_BYTES = 256


async def run(channel: grpc.aio.Channel, asked: argparse.Namespace) -> int:
    """Do what was asked; the exit code."""
    stub: Any = DeadLetterAdminStub(channel)

    async def redrive(name: str) -> str:
        request = RedriveDeadLetterRequest(dead_letter_id=name)
        letter = await stub.RedriveDeadLetter(request, timeout=SECONDS)
        return f"{letter.dead_letter_id}  tried again, {letter.waiting} behind it"

    async def drop(name: str) -> str:
        request = DropDeadLetterRequest(dead_letter_id=name)
        letter = await stub.DropDeadLetter(request, timeout=SECONDS)
        return f"{letter.dead_letter_id}  {_what(letter)} is lost"

    match asked.verb:
        case "show":
            request = GetDeadLetterRequest(dead_letter_id=asked.ids[0])
            _show(await stub.GetDeadLetter(request, timeout=SECONDS))
            return 0
        case "redrive":
            ids = asked.ids
            if asked.all:
                ids = [letter.dead_letter_id async for letter in listed(stub)]
            return await each(ids, redrive)
        case "drop":
            return await each(asked.ids, drop)
    async for letter in listed(stub):
        print(_line(letter))
    return 0


async def listed(stub: Any) -> AsyncIterator[DeadLetter]:
    """The dead letters, page by page."""
    token = ""
    while True:
        request = ListDeadLettersRequest(page_token=token)
        page = await stub.ListDeadLetters(request, timeout=SECONDS)
        for letter in page.dead_letters:
            yield letter
        token = page.next_page_token
        if not token:
            return


def _line(letter: DeadLetter) -> str:
    stands = "dead" if letter.HasField("death_time") else "tried again"
    return (
        f"{letter.dead_letter_id}  {_what(letter)}  {stands}, {letter.waiting} behind it"
        f"  {letter.attempts} failed: {' '.join(letter.cause.split())}"
    )


def _what(letter: DeadLetter) -> str:
    return f"{letter.event_type} {letter.aggregate}/{letter.aggregate_id} #{letter.sequence}"


def _show(letter: DeadLetter) -> None:
    print(_line(letter))
    print(f"  event     {letter.event_id}")
    print(f"  happened  {_time(letter.occur_time)}")
    if letter.HasField("death_time"):
        print(f"  died      {_time(letter.death_time)}")
    cut = " ..." if letter.payload_size > SHOWN_BYTES else ""
    shown = letter.payload[:SHOWN_BYTES].hex(" ", 4)
    print(f"  payload   {letter.payload_size} bytes: {shown}{cut}")


def _time(time: Any) -> str:
    return f"{datetime.fromtimestamp(time.ToMicroseconds() / 1e6, UTC):%Y-%m-%d %H:%M:%S.%fZ}"
