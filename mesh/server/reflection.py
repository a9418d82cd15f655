"""
Server reflection that keeps the comments: files come from a descriptor set made with source info.

Generated modules drop comments, and so does every descriptor pool; the gateway and grpcurl want
them.  A file that the set does not hold (google/protobuf/*, another team's protos) comes from the
process's default pool.  v1 and v1alpha say the same on the wire and are both served.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterable
from pathlib import Path
from typing import Any

import grpc
from google.protobuf import descriptor_pb2, descriptor_pool
from grpc_reflection.v1alpha import reflection_pb2

from mesh.errors import Code

NAMES = ("grpc.reflection.v1.ServerReflection", "grpc.reflection.v1alpha.ServerReflection")
# Only the second has descriptors in grpcio-reflection, so only it can be described.
LISTED = NAMES[1]


class Files:
    """Every .proto file that can be asked for, by path and by the symbols in it."""

    def __init__(self, descriptors: str | Path | None = None) -> None:
        self._pool = descriptor_pool.Default()
        self._files: dict[str, descriptor_pb2.FileDescriptorProto] = {}
        if descriptors is not None:
            parsed = descriptor_pb2.FileDescriptorSet.FromString(Path(descriptors).read_bytes())
            self._files = {file.name: file for file in parsed.file}

    def named(self, path: str) -> descriptor_pb2.FileDescriptorProto:
        """One file; KeyError when nobody knows it."""
        if path not in self._files:
            file = descriptor_pb2.FileDescriptorProto()
            self._pool.FindFileByName(path).CopyToProto(file)
            self._files[path] = file
        return self._files[path]

    def defining(self, symbol: str) -> descriptor_pb2.FileDescriptorProto:
        """The file that defines a service, method, message, enum or extension."""
        try:
            return self.named(self._pool.FindFileContainingSymbol(symbol).name)
        except KeyError:
            # The pool finds services but not their methods.
            service, _, method = symbol.rpartition(".")
            found = self._pool.FindServiceByName(service)
            if method not in found.methods_by_name:
                raise
            return self.named(found.file.name)

    def extending(self, message: str, number: int) -> descriptor_pb2.FileDescriptorProto:
        extended = self._pool.FindMessageTypeByName(message)
        return self.defining(self._pool.FindExtensionByNumber(extended, number).full_name)

    def extensions(self, message: str) -> list[int]:
        extended = self._pool.FindMessageTypeByName(message)
        return sorted(each.number for each in self._pool.FindAllExtensions(extended))

    def closure(self, file: descriptor_pb2.FileDescriptorProto) -> list[bytes]:
        """*file* first, then all that it imports."""
        found = {file.name: file}
        queue = list(file.dependency)
        while queue:
            path = queue.pop()
            if path not in found:
                found[path] = self.named(path)
                queue.extend(found[path].dependency)
        return [each.SerializeToString() for each in found.values()]


class Reflection:
    """The reflection service of one server."""

    def __init__(self, services: Iterable[str], files: Files) -> None:
        self._services = sorted({*services, LISTED})
        self._files = files

    def handlers(self) -> list[grpc.GenericRpcHandler]:
        handler = grpc.stream_stream_rpc_method_handler(
            self.answer_all,
            request_deserializer=reflection_pb2.ServerReflectionRequest.FromString,
            response_serializer=reflection_pb2.ServerReflectionResponse.SerializeToString,
        )
        return [
            grpc.method_handlers_generic_handler(name, {"ServerReflectionInfo": handler})
            for name in NAMES
        ]

    async def answer_all(self, requests: Any, context: Any) -> AsyncIterator[Any]:
        async for request in requests:
            yield self.answer(request)

    def answer(self, request: Any) -> Any:
        response = reflection_pb2.ServerReflectionResponse(
            valid_host=request.host, original_request=request
        )
        asked = request.WhichOneof("message_request")
        try:
            self._fill(response, asked, request)
        except KeyError:
            response.error_response.error_code = Code.NOT_FOUND
            response.error_response.error_message = f"not found: {getattr(request, asked)}".strip()
        return response

    def _fill(self, response: Any, asked: str | None, request: Any) -> None:
        files = self._files
        found = response.file_descriptor_response.file_descriptor_proto
        match asked:
            case "file_by_filename":
                found.extend(files.closure(files.named(request.file_by_filename)))
            case "file_containing_symbol":
                found.extend(files.closure(files.defining(request.file_containing_symbol)))
            case "file_containing_extension":
                extension = request.file_containing_extension
                file = files.extending(extension.containing_type, extension.extension_number)
                found.extend(files.closure(file))
            case "all_extension_numbers_of_type":
                message = request.all_extension_numbers_of_type
                numbers = files.extensions(message)
                response.all_extension_numbers_response.base_type_name = message
                response.all_extension_numbers_response.extension_number.extend(numbers)
            case "list_services":
                for name in self._services:
                    response.list_services_response.service.add(name=name)
            case _:
                response.error_response.error_code = Code.INVALID_ARGUMENT
                response.error_response.error_message = "the request asks for nothing"
