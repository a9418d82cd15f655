"""
A reader: works that only read, each on one snapshot; those that wait go out together.

    work, work, work --first statements--> one exchange --> most works have no other
                                                  |
    one that asks for a second: BEGIN first ... second ... COMMIT, again from its beginning

One statement is a snapshot by itself.  The first statement of a work that asked for a second is
remembered: works that begin with it get their transaction at once.
"""

from __future__ import annotations

import asyncio
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, closing
from itertools import islice
from random import Random

from mesh.store.database import StoreError
from mesh.store.postgres.failures import Again
from mesh.store.postgres.link import Link
from mesh.store.postgres.patience import Patience
from mesh.store.postgres.values import Answer
from mesh.store.postgres.work import Ask, Conversation, conduct
from mesh.store.worker import Job

# Its connection has default_transaction_read_only on.
_BEGIN = "begin isolation level repeatable read"
# First statements remembered.
_REMEMBERED = 512
# Works that go out together: one that takes long keeps no more than these waiting.
_TOGETHER = 8


class Reader:
    """One hand of its crew."""

    def __init__(self, link: Link, patience: float) -> None:
        self._link = link
        self._patience = patience
        self._rng = Random()
        self._first_of_many: dict[str, None] = {}

    async def open(self) -> None:
        await self._link.open()

    async def close(self) -> None:
        await self._link.close()

    async def do(self, jobs: Iterator[Job]) -> None:
        for job in await self._together(list(islice(jobs, _TOGETHER))):
            try:
                await self._alone(job)
            except asyncio.CancelledError:
                raise
            except BaseException as error:  # noqa: BLE001 - raised where the work was awaited
                job.error = error

    async def _together(self, jobs: Sequence[Job]) -> list[Job]:
        """Do the works that have one statement; answers those that have more, or met trouble."""
        with ExitStack() as stack:
            glances = [stack.enter_context(closing(_Glance(job, self._link))) for job in jobs]
            asking = [each for each in glances if each.first and not self._has_more(each.first)]
            try:
                if asking:
                    await self._link.open()
                    told = await self._link.each([each.first for each in asking if each.first])
                    for each, outcome in zip(asking, told, strict=True):
                        each.tell(outcome)
                        if each.has_more and each.first:
                            self._remember(each.first)
            except Again:
                pass  # those that were told nothing are done alone, with patience
            return [each.job for each in glances if not each.is_done]

    async def _alone(self, job: Job) -> None:
        patience = Patience(self._patience, self._rng)
        while True:
            try:
                await self._link.open()
                job.result = await self._once(job)
            except Again as again:
                await self._link.reset()
                await patience.wait(again)
            else:
                return

    async def _once(self, job: Job) -> object:
        link = self._link
        link.post(Ask(_BEGIN))
        try:
            result: object = await conduct(job, link.name, link.answer, link.post)
        except BaseException as error:
            if link.again and not isinstance(error, asyncio.CancelledError):
                raise link.again from error
            await link.reset()
            raise
        if link.again:
            raise link.again
        await link.say("commit")
        return result

    def _has_more(self, ask: Ask) -> bool:
        return ask.sql in self._first_of_many or not ask.sql.lstrip().startswith("select")

    def _remember(self, ask: Ask) -> None:
        if len(self._first_of_many) >= _REMEMBERED:
            del self._first_of_many[next(iter(self._first_of_many))]
        self._first_of_many[ask.sql] = None


class _Glance:
    """A work that may have no more than one statement, its `first`."""

    def __init__(self, job: Job, link: Link) -> None:
        self.job = job
        self.first: Ask | None = None
        self.is_done = False
        self.has_more = False
        self._posted: list[Ask] = []
        self._talk = Conversation(job, link.name, self._posted.append)
        self.first = self._hear(None)

    def tell(self, outcome: Answer | StoreError | None) -> None:
        """What the first statement came to; nothing at all when it was left out."""
        if outcome is not None and not isinstance(outcome, Again):
            self.has_more = self._hear(outcome) is not None

    def close(self) -> None:
        self._talk.close()

    def _hear(self, told: Answer | StoreError | None) -> Ask | None:
        try:
            ask = self._talk.tell(told)
        except BaseException as error:  # noqa: BLE001 - raised where the work was awaited
            self.job.error, self.is_done = error, True
            return None
        if ask is None and not self._posted:
            self.job.result, self.is_done = self._talk.result, True
        # What was posted has to be run as well, in a transaction.
        return None if self._posted else ask
