"""
DeadLetterAdmin: what an operator sees of the events that a service could not deal with, and does.

    mesh.Server("notifications", [Notifications(...), DeadLetterAdmin(database)])

Any instance on the service's database may answer; whoever holds the event sees to the rest.
"""

from __future__ import annotations

import json
from base64 import urlsafe_b64decode, urlsafe_b64encode
from typing import Any, NoReturn

from google.protobuf.timestamp_pb2 import Timestamp
from proxyless.admin.v1 import DeadLetter as Message
from proxyless.admin.v1 import (
    DeadLetterAdminServicer,
    DropDeadLetterRequest,
    GetDeadLetterRequest,
    ListDeadLettersRequest,
    ListDeadLettersResponse,
    RedriveDeadLetterRequest,
)

from mesh.errors import Code, StatusError
from mesh.events.dead import DeadLetter, DeadLetters, Name
from mesh.status import DOMAIN
from mesh.store import Database, Transaction

DEFAULT_SIZE, MAX_SIZE = 50, 1000


class DeadLetterAdmin(DeadLetterAdminServicer):
    """Answers DeadLetterAdmin from the events held in *database*."""

    def __init__(self, database: Database) -> None:
        self._database = database
        self._letters = DeadLetters(database)

    async def ListDeadLetters(
        self, request: ListDeadLettersRequest, context: Any
    ) -> ListDeadLettersResponse:
        size = min(request.page_size or DEFAULT_SIZE, MAX_SIZE)
        after = _place(request.page_token) if request.page_token else None
        found = await self._database.read(lambda tx: self._letters.listed(tx, size + 1, after))
        shown = found[:size]
        return ListDeadLettersResponse(
            dead_letters=[_message(each, payload=False) for each in shown],
            next_page_token=_token(shown[-1].name) if len(found) > size else "",
        )

    async def GetDeadLetter(self, request: GetDeadLetterRequest, context: Any) -> Message:
        name = _name(request.dead_letter_id)
        return _message(await self._database.read(lambda tx: self._found(tx, name)))

    async def RedriveDeadLetter(self, request: RedriveDeadLetterRequest, context: Any) -> Message:
        name = _name(request.dead_letter_id)

        async def work(tx: Transaction) -> DeadLetter:
            await self._letters.redrive(tx, name)
            return await self._found(tx, name)

        return _message(await self._database.transaction(work))

    async def DropDeadLetter(self, request: DropDeadLetterRequest, context: Any) -> Message:
        name = _name(request.dead_letter_id)

        async def work(tx: Transaction) -> DeadLetter:
            found = await self._found(tx, name)
            if not await self._letters.drop(tx, name):
                raise StatusError(
                    Code.FAILED_PRECONDITION,
                    f"dead letter {str(name)!r} is being tried again",
                    reason="DEAD_LETTER_TRIED",
                    domain=DOMAIN,
                )
            return found

        return _message(await self._database.transaction(work))

    async def _found(self, tx: Transaction, name: Name) -> DeadLetter:
        found = await self._letters.find(tx, name)
        if found is None:
            raise StatusError(
                Code.NOT_FOUND,
                f"there is no dead letter {str(name)!r}",
                reason="DEAD_LETTER_NOT_FOUND",
                domain=DOMAIN,
            )
        return found


def _message(letter: DeadLetter, *, payload: bool = True) -> Message:
    event = letter.held.event
    return Message(
        dead_letter_id=str(letter.name),
        consumer=letter.name.consumer,
        source=letter.name.source,
        event_id=event.event_id,
        event_type=event.event_type,
        aggregate=event.aggregate,
        aggregate_id=event.aggregate_id,
        sequence=event.sequence,
        occur_time=_time(event.occurred_at),
        attempts=letter.held.attempts,
        cause=letter.held.cause,
        death_time=None if letter.dead_at is None else _time(letter.dead_at),
        waiting=letter.waiting,
        payload_size=len(event.payload),
        payload=event.payload if payload else b"",
    )


def _time(seconds: float) -> Timestamp:
    made = Timestamp()
    made.FromMicroseconds(round(seconds * 1e6))
    return made


def _name(text: str) -> Name:
    try:
        return Name.parse(text)
    except ValueError as error:
        _invalid("dead_letter_id", str(error), "INVALID_DEAD_LETTER_ID", error)


def _token(last: Name) -> str:
    text = json.dumps(last, separators=(",", ":"))
    return urlsafe_b64encode(text.encode()).decode().rstrip("=")


def _place(token: str) -> Name:
    """The last dead letter of the page before."""
    try:
        consumer, source, position = json.loads(urlsafe_b64decode(token + "=" * (-len(token) % 4)))
        return Name.checked(str(consumer), str(source), int(position))
    except (ValueError, TypeError, OverflowError, RecursionError) as error:
        _invalid("page_token", "is not a token of this list", "INVALID_PAGE_TOKEN", error)


def _invalid(field: str, why: str, reason: str, error: Exception) -> NoReturn:
    raise StatusError(
        Code.INVALID_ARGUMENT,
        f"{field}: {why}",
        reason=reason,
        domain=DOMAIN,
        fields=[(field, why)],
    ) from error
