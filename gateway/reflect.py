"""
What an instance says it serves: gRPC server reflection, asked of that instance alone.

Two instances of a service may run two versions; behind a balanced channel the answers would mix.
Descriptors come back as the bytes they were sent as, so that two instances can be compared
without parsing anything.
"""

from __future__ import annotations

import asyncio
import hashlib
from collections.abc import AsyncIterator, Iterable
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Any

import grpc
import grpc.aio
from google.protobuf import descriptor_pb2
from grpc_reflection.v1alpha import reflection_pb2 as pb

from gateway.contract import Contract

# The messages of v1 and v1alpha are the same on the wire.
VERSIONS = ("grpc.reflection.v1.ServerReflection", "grpc.reflection.v1alpha.ServerReflection")
OWN = ("grpc.reflection.", "grpc.health.", "grpc.channelz.")
# A server that names ever new files is not a server to learn from.
MOST_FILES = 2000
SECONDS = 5.0


class ReflectionError(Exception):
    """An instance that does not say what it serves."""


@dataclass(frozen=True, slots=True)
class Reflection:
    """An instance's services and the files that define them."""

    services: tuple[str, ...]
    files: tuple[bytes, ...]

    @property
    def fingerprint(self) -> str:
        digest = hashlib.sha256(" ".join(self.services).encode())
        for file in self.files:
            digest.update(len(file).to_bytes(4, "big") + file)
        return digest.hexdigest()[:12]

    def contract(self) -> Contract:
        parse = descriptor_pb2.FileDescriptorProto.FromString
        return Contract(map(parse, self.files), self.services)


async def reflect(
    address: str,
    services: Iterable[str] = (),
    credentials: grpc.ChannelCredentials | None = None,
) -> Reflection:
    """Ask the server at `address` for `services`; without them it lists its own."""
    failure = ""
    try:
        async with asyncio.timeout(SECONDS), _channel(address, credentials) as channel:
            for version in VERSIONS:
                try:
                    return await _Conversation(channel, version).whole(tuple(services))
                except grpc.aio.AioRpcError as error:
                    # UNIMPLEMENTED shows as INTERNAL when it overtakes the question: ask the next.
                    failure = f"{error.code().name} {error.details()}"
    except TimeoutError as error:
        raise ReflectionError(f"{address} did not answer within {SECONDS:g} s") from error
    raise ReflectionError(f"{address}: {failure}")


@asynccontextmanager
async def _channel(
    address: str, credentials: grpc.ChannelCredentials | None
) -> AsyncIterator[grpc.aio.Channel]:
    # A failed connect of another channel must not make this one wait for its backoff.
    options = (("grpc.use_local_subchannel_pool", 1), ("grpc.max_receive_message_length", 1 << 26))
    make = grpc.aio.insecure_channel
    channel = (
        make(address, options=options)
        if credentials is None
        else grpc.aio.secure_channel(address, credentials, options=options)
    )
    async with channel:
        yield channel


class _Conversation:
    """One reflection stream: a question, an answer, until every file is there."""

    def __init__(self, channel: grpc.aio.Channel, version: str) -> None:
        stream: Any = channel.stream_stream(
            f"/{version}/ServerReflectionInfo",
            request_serializer=pb.ServerReflectionRequest.SerializeToString,
            response_deserializer=pb.ServerReflectionResponse.FromString,
        )
        self._call = stream()
        self._files: dict[str, tuple[bytes, descriptor_pb2.FileDescriptorProto]] = {}

    async def whole(self, services: tuple[str, ...]) -> Reflection:
        try:
            if not services:
                listed = await self._ask(pb.ServerReflectionRequest(list_services=""))
                names = [service.name for service in listed.list_services_response.service]
                services = tuple(name for name in names if not name.startswith(OWN))
            for service in services:
                await self._learn(pb.ServerReflectionRequest(file_containing_symbol=service))
            while missing := self._missing():
                for name in missing:
                    await self._learn(pb.ServerReflectionRequest(file_by_filename=name))
            await self._call.done_writing()
        finally:
            self._call.cancel()
        files = tuple(self._files[name][0] for name in sorted(self._files))
        return Reflection(tuple(sorted(services)), files)

    def _missing(self) -> list[str]:
        needed = {name for _, file in self._files.values() for name in file.dependency}
        return sorted(needed - self._files.keys())

    async def _learn(self, request: pb.ServerReflectionRequest) -> None:
        answer = await self._ask(request)
        before = len(self._files)
        for raw in answer.file_descriptor_response.file_descriptor_proto:
            file = descriptor_pb2.FileDescriptorProto.FromString(raw)
            self._files.setdefault(file.name, (raw, file))
        if len(self._files) > MOST_FILES:
            raise ReflectionError(f"more than {MOST_FILES} files")
        if request.file_by_filename and len(self._files) == before:
            raise ReflectionError(f"the server does not have {request.file_by_filename}")

    async def _ask(self, request: pb.ServerReflectionRequest) -> pb.ServerReflectionResponse:
        await self._call.write(request)
        answer = await self._call.read()
        if answer is grpc.aio.EOF:
            raise ReflectionError("the server ended the conversation")
        if answer.HasField("error_response"):
            raise ReflectionError(answer.error_response.error_message)
        found: pb.ServerReflectionResponse = answer
        return found
