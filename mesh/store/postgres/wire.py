"""
A wire: one connection, on which any number of statements go out and come back in one exchange.

    exchange(a, b, c):   a b c SYNC --->
                                    <--- answer of a, of b, of c, SYNC

This is libpq's pipeline mode: one statement more in an exchange costs some 10 microseconds, one
exchange more costs 60.  When a statement fails, the server leaves out those after it.  Each text is
prepared when it is first sent, in the same exchange.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence

import psycopg
from psycopg import pq

from mesh.store.database import StoreError
from mesh.store.postgres.failures import Away, refusal, translation
from mesh.store.postgres.values import Answer, answer
from mesh.store.postgres.work import Ask

# No exchange takes longer, in seconds.
EXCHANGE_SECONDS = 30.0
# Prepared statements kept; when there are more, all are prepared anew.
_STATEMENTS = 512

_WELL = frozenset({pq.ExecStatus.COMMAND_OK, pq.ExecStatus.TUPLES_OK, pq.ExecStatus.EMPTY_QUERY})
_SYNC, _LEFT_OUT = pq.ExecStatus.PIPELINE_SYNC, pq.ExecStatus.PIPELINE_ABORTED

# None: left out, because of an error before.
Outcome = Answer | StoreError | None


class Wire:
    """Used by one task at a time; `heard` is told of each NOTIFY with its sender's process id."""

    def __init__(
        self,
        name: str,
        connection: psycopg.AsyncConnection,
        heard: Callable[[int], None] | None = None,
    ) -> None:
        self._name = name
        self._connection = connection
        self._pg = connection.pgconn
        self._heard = heard
        self._loop = asyncio.get_running_loop()
        self._socket = self._pg.socket
        self._prepared: dict[str, bytes] = {}
        self._made = 0
        # The exchange that goes on: what was answered so far, and its end.
        self._results: list[pq.abc.PGresult] = []
        self._end: asyncio.Future[None] | None = None
        self.closed = False
        self.process = self._pg.backend_pid
        self._pg.nonblocking = 1
        self._pg.enter_pipeline_mode()
        self._loop.add_reader(self._socket, self._guarded, self._receive)

    def close(self) -> None:
        """Close the connection; the server rolls back what is going on."""
        self._lose(Away(self._name, "the connection is closed"))

    @property
    def crowded(self) -> bool:
        """Whether it is time to `forget`."""
        return len(self._prepared) >= _STATEMENTS

    async def forget(self) -> None:
        """Have every statement prepared anew; outside of a transaction."""
        await self.exchange([Ask("deallocate all")])
        self._prepared.clear()

    async def exchange(self, asks: Sequence[Ask]) -> list[Outcome]:
        """What each statement came to; Away when nobody knows."""
        if self.closed:
            raise Away(self._name, "the connection is closed")
        try:
            fresh = [self._send(ask) for ask in asks]
            await self._answered()
        except psycopg.Error as error:
            lost = translation(self._name, error)
            self._lose(lost)
            raise lost from error
        except BaseException:
            self.close()  # whose answer comes next on it?
            raise
        results = iter(self._results)
        outcomes: list[Outcome] = []
        for ask, is_fresh in zip(asks, fresh, strict=True):
            made = self._outcome(next(results)) if is_fresh else None
            outcome = self._outcome(next(results))
            if is_fresh and not isinstance(made, Answer):
                del self._prepared[ask.sql]
            outcomes.append(made if isinstance(made, StoreError) else outcome)
        return outcomes

    def _send(self, ask: Ask) -> bool:
        """Put a statement into the exchange; whether it had to be prepared."""
        name = self._prepared.get(ask.sql)
        fresh = name is None
        if name is None:
            self._made += 1
            name = self._prepared[ask.sql] = b"mesh_%d" % self._made
            self._pg.send_prepare(name, ask.sql.encode())
        self._pg.send_query_prepared(name, ask.values, ask.formats)
        return fresh

    async def _answered(self) -> None:
        self._results = []
        end = self._end = self._loop.create_future()
        late = self._loop.call_later(EXCHANGE_SECONDS, self._late)
        try:
            self._pg.pipeline_sync()
            if self._pg.flush():
                self._loop.add_writer(self._socket, self._guarded, self._drain)
            await end
        finally:
            late.cancel()
            self._end = None

    def _outcome(self, result: pq.abc.PGresult) -> Outcome:
        if result.status in _WELL:
            return answer(result)
        return None if result.status == _LEFT_OUT else refusal(self._name, result)

    def _guarded(self, on_socket: Callable[[], None]) -> None:
        try:
            on_socket()
        except psycopg.Error as error:
            self._lose(translation(self._name, error))

    def _drain(self) -> None:
        if not self._pg.flush():
            self._loop.remove_writer(self._socket)

    def _receive(self) -> None:
        pg = self._pg
        pg.consume_input()
        while notification := pg.notifies():
            if self._heard:
                self._heard(notification.be_pid)
        while self._end and not self._end.done() and not pg.is_busy():
            result = pg.get_result()
            if result is None:  # between the answers of two statements, or for ever
                if pg.status != pq.ConnStatus.OK:
                    self._lose(Away(self._name, "the connection was lost"))
                continue
            if result.status == _SYNC:
                self._end.set_result(None)
            else:
                self._results.append(result)

    def _late(self) -> None:
        self._lose(Away(self._name, f"no answer within {EXCHANGE_SECONDS:.0f} s"))

    def _lose(self, lost: StoreError) -> None:
        if not self.closed:
            self.closed = True
            self._loop.remove_reader(self._socket)
            self._loop.remove_writer(self._socket)
            self._pg.finish()
        if self._end and not self._end.done():
            self._end.set_exception(lost)
