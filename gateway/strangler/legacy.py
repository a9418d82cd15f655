"""
An old HTTP service as the gateway calls it: through the mesh's column, on kept connections.

    ask -- deadline, bulkhead, retries of what may be repeated, breaker --> aiohttp

The status decides what the column learns: 502, 503 and 504 say that nobody answered, any other
5xx that the service failed.  Its own answer is what the client gets, whatever it says; the
gateway answers in its stead only when there is none.  An answer of at most `WHOLE` bytes is read
inside the attempt, so that one that breaks off is a failure like any; a longer one is passed on
as it comes.  So are bodies, where nobody needs them whole (gateway.strangler.sending).
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import suppress
from dataclasses import dataclass, replace
from time import monotonic

import aiohttp
from yarl import URL

from gateway.exchange import Answer, RawHeaders
from gateway.status import Problem, problem
from gateway.strangler.forwarding import response as passed_back
from gateway.strangler.route import System
from gateway.strangler.sending import Sending
from mesh.column import Memory
from mesh.errors import Code, MeshError, Rejected
from mesh.guarding import Guard, unrepeated
from mesh.guarding import classify as usually
from mesh.inbound import INBOUND, Inbound
from mesh.policy.config import Policy

WHOLE = 256 * 1024
PIECE = 64 * 1024
Body = bytes | AsyncIterator[bytes] | None
NOBODY = frozenset({502, 503, 504})
# How long a service that the configuration no longer names may finish what it began.
RETIRE_SECONDS = 30.0


@dataclass(frozen=True, slots=True)
class Request:
    """What is asked: its head, and its body: the whole of it, or as it arrives."""

    method: str
    # With its query, percent-encoded as it came.
    path: str
    headers: list[tuple[str, str]]
    body: bytes | Sending = b""
    # Whether asking twice is asking once.
    repeatable: bool = False
    timeout: float | None = None
    traceparent: str = ""


class AnsweredBadly(Exception):
    """The service answered 5xx: a failure to the column, an answer to the client."""

    def __init__(self, answer: Answer) -> None:
        super().__init__(f"it answered {answer.status}")
        self.answer = answer

    async def close(self) -> None:
        """Nobody reads the rest of it."""
        if isinstance(self.answer.body, _Rest):
            await self.answer.body.aclose()


class Legacy:
    """One old service; a context manager, since it keeps connections."""

    def __init__(self, name: str, system: System, *, shadow: bool = False) -> None:
        self.name = name
        self.system = system
        policy = system.policy or Policy.production()
        policy = replace(policy, timeout=min(filter(None, (policy.timeout, system.timeout))))
        if shadow:  # what nobody waits for is asked once
            policy = replace(policy, retry=None, hedge=None)
        title, memory = f"legacy:{name}", Memory()
        self._twice = Guard(policy, title, idempotent=True, classify=classify, memory=memory)
        once = unrepeated(policy)
        self._once = Guard(once, title, classify=classify, memory=memory)
        # What is sent as it arrives has limits of its own: the client's time is not the service's.
        self._streamed = Guard(
            replace(once, timeout=None, attempt_timeout=None),
            title,
            classify=classify,
            memory=memory,
        )
        self._seconds = min(filter(None, (policy.timeout, policy.attempt_timeout)))
        self._base = URL(system.url.rstrip("/"))
        self._session: aiohttp.ClientSession | None = None
        # Answers that are being passed on, and how many calls are on their way to one.
        self._open: set[_Rest] = set()
        self._asking = 0

    async def ask(self, request: Request) -> Answer:
        """
        The service's answer, or the Problem of not having one.

        Whoever takes the answer reads its body to the end or closes it.
        """
        seconds, streamed = request.timeout, isinstance(request.body, Sending)
        if seconds is None and not streamed:
            seconds = self.system.timeout
        deadline = None if seconds is None else monotonic() + seconds
        token = INBOUND.set(Inbound(deadline, request.traceparent))
        bad: AnsweredBadly | None = None

        async def attempt() -> Answer:
            nonlocal bad
            if bad is not None:
                await bad.close()
            try:
                return await self._attempt(request)
            except AnsweredBadly as error:
                bad = error
                raise

        guard = self._twice if request.repeatable else self._once
        if streamed:
            guard = self._streamed
        self._asking += 1
        try:
            return await guard(attempt)()
        except AnsweredBadly as error:
            return error.answer
        except (MeshError, OSError, aiohttp.ClientError, TimeoutError) as error:
            raise self._problem(error) from error
        finally:
            self._asking -= 1
            INBOUND.reset(token)

    @property
    def in_flight(self) -> int:
        """How many answers are awaited or being passed on."""
        return self._asking + len(self._open)

    async def _attempt(self, request: Request) -> Answer:
        if not isinstance(request.body, Sending):
            return await self._exchanged(request, request.body or None)
        try:
            async with request.body.within(self._seconds):
                return await self._exchanged(request, request.body.pieces())
        except aiohttp.ClientError:
            if request.body.failure is not None:
                raise request.body.failure from None
            raise

    async def _exchanged(self, request: Request, body: Body) -> Answer:
        response = await self._opened().request(
            request.method,
            self._url(request.path),
            headers=request.headers,
            data=body,
            allow_redirects=False,
            skip_auto_headers=("user-agent", "accept", "accept-encoding", "content-type"),
        )
        try:
            answer = await self._read(response)
        except BaseException:
            response.close()
            raise
        if answer.status >= 500:
            raise AnsweredBadly(answer)
        return answer

    def _url(self, path: str) -> URL:
        return URL(f"{self._base}{path}", encoded=True)

    async def _read(self, response: aiohttp.ClientResponse) -> Answer:
        headers: RawHeaders = passed_back(response.raw_headers)
        length = response.content_length
        if length is not None and length > self.system.answer_bytes:
            raise aiohttp.ClientPayloadError(f"an answer of {length} bytes is too large")
        pieces: list[bytes] = []
        size = 0
        while size < WHOLE:
            piece = await response.content.read(PIECE)
            if not piece:
                response.release()
                return Answer(response.status, headers, b"".join(pieces))
            pieces.append(piece)
            size += len(piece)
        self._open.add(rest := _Rest(response, pieces, self))
        return Answer(response.status, headers, rest)

    def _problem(self, error: Exception) -> Problem:
        if isinstance(error, Rejected):  # the column's own refusal, with its reason
            return problem(
                error.code,
                f"{self.name}: {error}",
                reason=error.reason,
                retry_after=error.retry_after,
            )
        code = error.code if isinstance(error, MeshError) else classify(error)
        if code is Code.DEADLINE_EXCEEDED:
            return problem(code, f"{self.name} did not answer in time", reason="LEGACY_TIMEOUT")
        return problem(
            Code.UNAVAILABLE,
            f"{self.name} is not available",
            reason="LEGACY_UNAVAILABLE",
            retry_after=1.0,
        )

    # -- its connections

    def _opened(self) -> aiohttp.ClientSession:
        if self._session is None:
            self._session = aiohttp.ClientSession(
                connector=aiohttp.TCPConnector(
                    limit=self.system.connections, ttl_dns_cache=10, keepalive_timeout=15
                ),
                cookie_jar=aiohttp.DummyCookieJar(),
                auto_decompress=False,
                # The column's deadline ends a call; this one a connection nobody answers.
                timeout=aiohttp.ClientTimeout(total=None, sock_connect=self.system.timeout),
            )
        return self._session

    def done(self, rest: _Rest) -> None:
        """An answer has been passed on, or nobody wants it any more."""
        self._open.discard(rest)

    async def close(self) -> None:
        """End at once."""
        for rest in list(self._open):
            await rest.aclose()
        if self._session is not None:
            await self._session.close()
            self._session = None

    async def retire(self) -> None:
        """Let what was begun end, for a while; then close."""
        with suppress(TimeoutError):
            async with asyncio.timeout(RETIRE_SECONDS):
                while self.in_flight:  # noqa: ASYNC110 - rare, and nobody waits for it
                    await asyncio.sleep(0.1)
        await self.close()


class _Rest:
    """What was read of an answer and what follows, each piece within the service's timeout."""

    def __init__(self, response: aiohttp.ClientResponse, read: list[bytes], legacy: Legacy) -> None:
        self._response = response
        self._read = read[::-1]
        self._legacy = legacy
        self._size = 0

    def __aiter__(self) -> _Rest:
        return self

    async def __anext__(self) -> bytes:
        system = self._legacy.system
        if self._read:
            piece = self._read.pop()
        else:
            async with asyncio.timeout(system.timeout):
                piece = await self._response.content.read(PIECE)
        self._size += len(piece)
        if not piece:
            await self.aclose()
            raise StopAsyncIteration
        if self._size > system.answer_bytes:
            await self.aclose()
            raise aiohttp.ClientPayloadError("the answer is larger than it may be")
        return piece

    async def aclose(self) -> None:
        self._response.close()
        self._legacy.done(self)


def classify(error: BaseException) -> Code | None:
    """Which status a call's end amounts to."""
    if isinstance(error, AnsweredBadly):
        return Code.UNAVAILABLE if error.answer.status in NOBODY else Code.INTERNAL
    if isinstance(error, aiohttp.ClientError):
        return Code.UNAVAILABLE
    return usually(error)
