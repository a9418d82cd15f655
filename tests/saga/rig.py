"""Steps that write down what they were asked, and how the tests of runners use them."""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from typing import Any

from mesh.errors import CallFailed, Code
from mesh.policy.backoff import Backoff
from mesh.saga import Context, Instance, Saga, SagaRunner, Step
from mesh.store import Database, Transaction

QUICK = Backoff(base=0.001, cap=0.01)
DOWN = CallFailed(Code.UNAVAILABLE)


class Till:
    """Steps that write down what they were asked, and answer what they are told to."""

    def __init__(self) -> None:
        self.asked: list[str] = []
        self.requests: dict[str, set[str]] = {}
        self.answers: dict[str, list[object]] = {}
        self.gates: dict[str, asyncio.Event] = {}
        self.entered: dict[str, asyncio.Event] = {}
        self.ends: list[tuple[str, str, str]] = []

    def step(self, name: str, *, undo: bool = True, **rest: Any) -> Step:
        undoing = self.call(f"undo {name}") if undo else None
        return Step(name, self.call(name), undoing, **rest)

    def call(self, name: str) -> Callable[[Context], Awaitable[Any]]:
        async def function(context: Context) -> object:
            self.asked.append(name)
            self.requests.setdefault(name, set()).add(context.request_id)
            self.entered.setdefault(name, asyncio.Event()).set()
            if gate := self.gates.get(name):
                await gate.wait()
            script = self.answers.get(name, [])
            answer = script.pop(0) if script else {"answer": name}
            if isinstance(answer, Exception):
                raise answer
            return answer

        return function

    def gate(self, name: str) -> asyncio.Event:
        self.entered[name] = asyncio.Event()
        return self.gates.setdefault(name, asyncio.Event())

    async def ended(self, tx: Transaction, context: Context, outcome: str, reason: str) -> None:
        self.ends.append((context.id, outcome, reason))

    def saga(self, **rest: Any) -> Saga:
        steps = (
            self.step("reserve"),
            self.step("charge"),
            self.step("confirm", undo=False, kind="pivot"),
        )
        return Saga("place", *steps, ended=self.ended, **rest)


@asynccontextmanager
async def running(database: Database, *sagas: Saga, **rest: Any) -> AsyncIterator[SagaRunner]:
    async with SagaRunner(database, sagas, backoff=QUICK, **rest) as runner:
        yield runner


async def start(database: Database, runner: SagaRunner, saga_id: str = "o-1", **data: Any) -> bool:
    return await database.transaction(lambda tx: runner.start(tx, "place", saga_id, data))


async def until(
    database: Database, runner: SagaRunner, *states: str, saga_id: str = "o-1"
) -> Instance:
    """The saga once it is in one of these states."""
    async with asyncio.timeout(20):
        async for _ in database.changes():
            found = await database.read(lambda tx: runner.find(tx, saga_id))
            if found and found.state in states:
                return found
    raise AssertionError("the database was closed")


def told(instance: Instance) -> list[str]:
    return [f"{entry.step} {entry.what}".strip() for entry in instance.entries]
