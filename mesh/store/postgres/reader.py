"""
A reader: works that only read, each on one snapshot.

One statement is a snapshot by itself, and most works have no other: the first one is run bare.  A
work that asks for a second one is begun again in a transaction, and its first statement remembered:
works that begin with it get their transaction at once.
"""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from random import Random

from mesh.store.postgres.failures import Again
from mesh.store.postgres.link import Link
from mesh.store.postgres.patience import Patience
from mesh.store.postgres.work import Answer, Ask, conduct
from mesh.store.worker import Job

# Its connection has default_transaction_read_only on.
_BEGIN = "begin isolation level repeatable read"
# First statements remembered.
_REMEMBERED = 512


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
        for job in jobs:
            try:
                await self._read(job)
            except asyncio.CancelledError:
                raise
            except BaseException as error:  # noqa: BLE001 - raised where the work was awaited
                job.error = error
            return  # the next one may be another hand's

    async def _read(self, job: Job) -> None:
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
        snapshot = _Snapshot(link, self._first_of_many)
        try:
            result: object = await conduct(job, link.name, snapshot.answer)
        except BaseException as error:
            if snapshot.too_short:
                return await self._once(job)
            if link.again and not isinstance(error, asyncio.CancelledError):
                raise link.again from error
            if snapshot.begun:
                await link.reset()
            raise
        if snapshot.too_short:
            return await self._once(job)
        if link.again:
            raise link.again
        if snapshot.begun:
            await link.say("commit")
        return result


class _Snapshot:
    """What one work sees; `too_short` for the work that wanted more than one statement."""

    def __init__(self, link: Link, first_of_many: dict[str, None]) -> None:
        self._link = link
        self._first_of_many = first_of_many
        self._first = ""
        self.begun = False
        self.too_short = False

    async def answer(self, ask: Ask) -> Answer:
        if self._first and not self.begun:
            self._remember()
            self.too_short = True
            raise Again(self._link.name, "the work goes on")
        if not self._first:
            self._first = ask.sql
            if ask.sql in self._first_of_many or not ask.sql.lstrip().startswith("select"):
                await self._link.say(_BEGIN)
                self.begun = True
        return await self._link.answer(ask)

    def _remember(self) -> None:
        if len(self._first_of_many) >= _REMEMBERED:
            del self._first_of_many[next(iter(self._first_of_many))]
        self._first_of_many[self._first] = None
