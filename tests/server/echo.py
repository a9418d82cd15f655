"""
A contract for tests, written as generated code would be: one rpc of each kind and rules on Text.

Built at run time, so that these tests need no generated file of another part of the house.
"""

from __future__ import annotations

from typing import Any

import grpc
from buf.validate import validate_pb2
from google.protobuf import descriptor_pb2, descriptor_pool, message_factory

SERVICE = "test.echo.v1.EchoService"
Proto = descriptor_pb2.FieldDescriptorProto


def _file() -> descriptor_pb2.FileDescriptorProto:
    file = descriptor_pb2.FileDescriptorProto(
        name="test/echo/v1/echo.proto",
        package="test.echo.v1",
        syntax="proto3",
        dependency=["buf/validate/validate.proto"],
    )
    text = file.message_type.add(name="Text")
    for number, (name, kind) in enumerate(
        (
            ("text", Proto.TYPE_STRING),
            ("number", Proto.TYPE_INT32),
            ("request_id", Proto.TYPE_STRING),
            ("wait", Proto.TYPE_BOOL),
        ),
        start=1,
    ):
        text.field.add(name=name, number=number, type=kind, label=Proto.LABEL_OPTIONAL)
    rules = text.field[0].options.Extensions[validate_pb2.field]
    rules.string.max_len = 1000
    text.field[1].options.Extensions[validate_pb2.field].int32.gte = 0
    items = text.field.add(
        name="items",
        number=5,
        type=Proto.TYPE_MESSAGE,
        type_name=".test.echo.v1.Text",
        label=Proto.LABEL_REPEATED,
    )
    items.json_name = "items"
    service = file.service.add(name="EchoService")
    for name, client, server in (
        ("Say", False, False),
        ("Count", False, True),
        ("Gather", True, False),
        ("Chat", True, True),
    ):
        service.method.add(
            name=name,
            input_type=".test.echo.v1.Text",
            output_type=".test.echo.v1.Text",
            client_streaming=client,
            server_streaming=server,
        )
    return file


try:
    _described = descriptor_pool.Default().FindFileByName("test/echo/v1/echo.proto")
except KeyError:
    _described = descriptor_pool.Default().AddSerializedFile(_file().SerializeToString())
    _described = descriptor_pool.Default().FindFileByName("test/echo/v1/echo.proto")

Text: Any = message_factory.GetMessageClass(_described.message_types_by_name["Text"])


class EchoServicer:
    """The generated base class."""


def add_EchoServicer_to_server(servicer: Any, server: Any) -> None:
    makes = {
        "Say": grpc.unary_unary_rpc_method_handler,
        "Count": grpc.unary_stream_rpc_method_handler,
        "Gather": grpc.stream_unary_rpc_method_handler,
        "Chat": grpc.stream_stream_rpc_method_handler,
    }
    handlers = {
        name: make(
            getattr(servicer, name),
            request_deserializer=Text.FromString,
            response_serializer=Text.SerializeToString,
        )
        for name, make in makes.items()
        if hasattr(servicer, name)
    }
    generic = grpc.method_handlers_generic_handler(SERVICE, handlers)
    server.add_generic_rpc_handlers((generic,))
    server.add_registered_method_handlers(SERVICE, handlers)


class EchoStub:
    """The generated stub."""

    def __init__(self, channel: Any) -> None:
        ways = {
            "request_serializer": Text.SerializeToString,
            "response_deserializer": Text.FromString,
        }
        self.Say = channel.unary_unary(f"/{SERVICE}/Say", **ways)
        self.Count = channel.unary_stream(f"/{SERVICE}/Count", **ways)
        self.Gather = channel.stream_unary(f"/{SERVICE}/Gather", **ways)
        self.Chat = channel.stream_stream(f"/{SERVICE}/Chat", **ways)


class Echo(EchoServicer):
    """Answers what it hears; the behaviour of all four kinds in one table of nothing special."""

    async def Say(self, request: Any, context: Any) -> Any:
        return request

    async def Count(self, request: Any, context: Any) -> Any:
        for number in range(request.number):
            yield Text(text=request.text, number=number)

    async def Gather(self, requests: Any, context: Any) -> Any:
        return Text(text="".join([each.text async for each in requests]))

    async def Chat(self, requests: Any, context: Any) -> Any:
        async for each in requests:
            yield each
