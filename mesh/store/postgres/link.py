"""
A link: a wire, made when it is needed and anew when it was lost, and statements on it.

    post(a)  post(b)  await answer(c)     ->  a b c go out in one exchange

It knows what the transaction on it has come to: whether it was lost, is broken, has written.
"""

from __future__ import annotations

from mesh.store.database import StoreError
from mesh.store.postgres.address import Address
from mesh.store.postgres.failures import Again, Away
from mesh.store.postgres.values import Answer
from mesh.store.postgres.wire import Outcome, Wire
from mesh.store.postgres.work import Ask

# What changes nothing that others could see.
_QUIET = frozenset({"SELECT", "SAVEPOINT", "RELEASE", "ROLLBACK", "BEGIN", "COMMIT", "SET", "SHOW"})


class Link:
    """Used by one task at a time."""

    def __init__(self, address: Address, **settings: str) -> None:
        self.name = address.name
        self._address = address
        self._settings = settings
        self._wire: Wire | None = None
        self._outdated = False
        # What goes out with the next statement that is answered.
        self.posted: list[Ask] = []
        # How many exchanges the transaction took, and how many statements went well.
        self.exchanges = self.answered = 0
        # Why the transaction can't go on, but only be run again.
        self.again: Again | None = None
        # The statement that failed; until a rollback nothing else is heard.
        self.broken: StoreError | None = None
        self.wrote = False

    @property
    def closed(self) -> bool:
        """Whether it is known that nothing can be sent."""
        return self._wire is None or self._wire.closed

    async def open(self) -> None:
        """Have a connection, with nothing going on."""
        self.posted.clear()
        self.exchanges = self.answered = 0
        self.again = self.broken = None
        self.wrote = False
        if self._wire is None or self._wire.closed:
            self.drop()
            connection = await self._address.connect(**self._settings)
            self._wire, self._outdated = Wire(self.name, connection), False
        elif self._outdated or self._wire.crowded:
            await self._wire.forget()
            self._outdated = False

    async def close(self) -> None:
        self.drop()

    def drop(self) -> None:
        """Forget the connection: the server rolls back what it loses."""
        wire, self._wire = self._wire, None
        if wire is not None:
            wire.close()

    async def reset(self) -> None:
        """Roll back whatever is going on."""
        self.posted.clear()
        if isinstance(self.again, Away):
            self.drop()
        if self._wire is None or not self.exchanges:
            return
        if self.again:
            self._outdated = True  # the schema may be another one now
        try:
            await self.say("rollback")
        except StoreError:
            self.drop()

    def post(self, ask: Ask) -> None:
        """Have a statement go out with the next one; what comes of it is told then."""
        self.posted.append(ask)

    async def say(self, *script: str) -> Answer:
        """Run statements without arguments, up to the first that fails; the last one's answer."""
        for sql in script:
            self.post(Ask(sql))
        return (await self._exchange())[-1]

    async def flush(self) -> None:
        """Have what is posted go out."""
        await self._exchange()

    async def answer(self, ask: Ask) -> Answer:
        """Run a work's statement; once the transaction is lost, there is no answer to any."""
        if self.again:
            raise self.again
        self.post(ask)
        return (await self._exchange())[-1]

    async def each(self, asks: list[Ask]) -> list[Outcome]:
        """What each of some statements comes to that are no transaction's."""
        try:
            return await self._connected().exchange(asks)
        except Away as away:
            self.again = away
            raise

    async def _exchange(self) -> list[Answer]:
        asks, self.posted = self.posted, []
        self.exchanges += 1
        try:
            outcomes = await self._connected().exchange(asks)
        except Away as away:
            self.again = away
            raise
        answers = []
        for outcome in outcomes:
            if not isinstance(outcome, Answer):
                assert outcome is not None, "what is left out comes after what has failed"
                raise self._met(outcome)
            answers.append(outcome)
            self.answered += 1
            if outcome.verb == "ROLLBACK":
                self.broken = None
            if outcome.verb not in _QUIET and (outcome.changed or not outcome.counted):
                self.wrote = True
        return answers

    def _connected(self) -> Wire:
        if self._wire is None:
            raise Away(self.name, "the connection is closed")
        return self._wire

    def _met(self, error: StoreError) -> StoreError:
        if isinstance(error, Again):
            self.again = error
        else:
            self.broken = self.broken or error
        return error
