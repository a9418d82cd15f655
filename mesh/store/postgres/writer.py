"""
The writer: works under the writers' lock, many to a commit.

    BEGIN lock | work | work | ... | COMMIT
        |
        one that had written raises: all of it is undone and run again, this time
        v
    BEGIN lock SAVEPOINT | work | RELEASE SAVEPOINT | work | ... | RELEASE COMMIT

What stands between two bars goes out with what follows it, in one exchange with the server.  Works
that fail do so mostly before they write, and a savepoint has to be waited for.  Lost in the middle,
nothing of it stands, and all its works are run again.  Refused by the COMMIT (a constraint that was
deferred), they are run again one by one, to find whose fault it is.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Iterator
from itertools import chain, islice
from random import Random

from mesh.store.database import StatementFailed, StoreError
from mesh.store.postgres.failures import Again, Away
from mesh.store.postgres.link import Link
from mesh.store.postgres.patience import Patience
from mesh.store.postgres.work import Ask, conduct
from mesh.store.worker import Job

# Works begun per commit end after this long, in seconds; one work may take longer.
BATCH_SECONDS = 0.02
# Statements that may wait to go out between two works, so that a batch lets the loop have its turn.
_MOST_POSTED = 128
# The COMMIT gives the lock back, after what it has written can be seen.  The number says "mesh".
_OPENING = ("begin", f"select pg_advisory_xact_lock({0x6D657368})")


class Writer:
    """The only hand of its crew; `wrote` is called after each commit that has changed something."""

    def __init__(self, link: Link, patience: float, wrote: Callable[[], None]) -> None:
        self._link = link
        self._patience = patience
        self._wrote = wrote
        self._rng = Random()

    async def open(self) -> None:
        await self._link.open()

    async def close(self) -> None:
        await self._link.close()

    async def do(self, jobs: Iterator[Job]) -> None:
        begun = list(islice(jobs, 1))
        if not begun:
            return
        try:
            await self._try(_recorded(jobs, begun, BATCH_SECONDS), begun)
        except _Refused as refused:
            if len(begun) == 1:
                _lose(begun, refused.error)
                return
            for job in begun:
                await self._alone(job)

    async def _alone(self, job: Job) -> None:
        try:
            await self._try(iter(()), [job])
        except _Refused as refused:
            job.error = refused.error

    async def _try(self, more: Iterator[Job], begun: list[Job]) -> None:
        """Commit the works of `begun` and `more`; raises only _Refused."""
        patience, guarded = Patience(self._patience, self._rng), False
        try:
            while True:
                try:
                    await self._commit(tuple(begun), more, guarded)
                except _Undo:
                    await self._link.reset()
                    if len(begun) == 1:
                        return  # nobody else's work went with it
                    guarded = True
                except Again as again:
                    await self._link.reset()
                    await patience.wait(again)
                else:
                    return
        except StoreError as error:
            await self._link.reset()
            _lose(begun, error)

    async def _commit(self, begun: tuple[Job, ...], more: Iterator[Job], guarded: bool) -> None:
        link, job = self._link, None
        await link.open()
        for sql in _OPENING:
            link.post(Ask(sql))
        for job in chain(begun, more):
            await self._do(job, guarded)
            if len(link.posted) > _MOST_POSTED:
                await self._flush(job)
        if not link.exchanges and len(link.posted) == len(_OPENING):
            return  # no work had anything to say
        if link.closed:
            raise Away(link.name, "lost before it could commit")
        before_commit = link.answered + len(link.posted)
        try:
            committed = (await link.say("commit")).verb == "COMMIT"
        except Away as lost:
            link.drop()
            cause = f"lost while it was committing, nobody knows whether it did: {lost.cause}"
            raise StoreError(lost.path, cause) from lost
        except StatementFailed as error:
            if link.answered == before_commit:
                raise _Refused(error) from error
            if job:
                job.error = error  # if it is the only one, it is its own
            raise _Undo from error
        assert committed, "what is broken is not committed"
        if link.wrote:
            self._wrote()

    async def _flush(self, job: Job) -> None:
        """Have what is posted go out; if that fails, and `job` was the only one, it is its own."""
        try:
            await self._link.flush()
        except StatementFailed as error:
            job.error = error
            raise _Undo from error

    async def _do(self, job: Job, guarded: bool) -> None:
        """Run one work; what it has posted may be still to go out."""
        link = self._link
        if guarded:
            link.post(Ask("savepoint work"))
        posted, exchanges = len(link.posted), link.exchanges
        before, link.wrote = link.wrote, False
        job.error = None
        try:
            job.result = await conduct(job, link.name, link.answer, link.post)
            if link.broken:
                cause = f"nothing stands after: {link.broken.cause}"
                raise StatementFailed(link.name, cause)
            if guarded and not link.again:
                await link.say("release work")
        except asyncio.CancelledError:
            raise
        except BaseException as error:  # noqa: BLE001 - raised where the work was awaited
            job.error = error
        if link.again:
            raise link.again
        if link.broken and link.answered < len(_OPENING):
            job.error = None
            raise link.broken  # no work's fault
        wrote, link.wrote = link.wrote, before
        if job.error is None:
            link.wrote = before or wrote
            return
        del link.posted[posted if link.exchanges == exchanges else 0 :]
        if guarded:
            await link.say("rollback to work", "release work")
        elif wrote or link.broken:
            raise _Undo


class _Undo(Exception):
    """A work failed that had written, with no savepoint before it."""


class _Refused(Exception):
    """The server has refused the commit: nothing of the batch stands."""

    def __init__(self, error: StoreError) -> None:
        super().__init__(str(error))
        self.error = error


def _recorded(jobs: Iterator[Job], begun: list[Job], seconds: float) -> Iterator[Job]:
    """`jobs` until time is up, each written down before it begins; asked when one is done."""
    ends = time.monotonic() + seconds
    for job in jobs:
        begun.append(job)
        yield job
        if time.monotonic() >= ends:
            return


def _lose(jobs: list[Job], error: StoreError) -> None:
    for job in jobs:
        job.error = job.error or error
