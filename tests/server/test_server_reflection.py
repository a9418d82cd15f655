"""Reflection as the gateway and grpcurl use it: whole files, their imports, and the comments."""

from __future__ import annotations

import asyncio
import shutil
from pathlib import Path
from typing import Any

import grpc
import pytest
from google.protobuf import descriptor_pb2
from grpc_reflection.v1alpha import reflection_pb2
from shop.orders.v1 import orders_pb2_grpc

from mesh.server import Server
from mesh.server.reflection import NAMES
from tests.server.echo import SERVICE, Echo

ROOT = Path(__file__).parents[2]
ORDERS = "shop.orders.v1.OrderService"


class Orders(orders_pb2_grpc.OrderServiceServicer):
    """The generated base class answers UNIMPLEMENTED everywhere."""


def serving() -> Any:
    return Server("orders", [Orders(), Echo()], descriptors=ROOT / "protos/shop.binpb").serving()


async def ask(address: str, *requests: Any, name: str = NAMES[0]) -> list[Any]:
    async with grpc.aio.insecure_channel(address) as channel:
        call = channel.stream_stream(
            f"/{name}/ServerReflectionInfo",
            request_serializer=reflection_pb2.ServerReflectionRequest.SerializeToString,
            response_deserializer=reflection_pb2.ServerReflectionResponse.FromString,
        )
        return [each async for each in call(iter(requests))]


def files_of(response: Any) -> dict[str, descriptor_pb2.FileDescriptorProto]:
    raw = response.file_descriptor_response.file_descriptor_proto
    files = [descriptor_pb2.FileDescriptorProto.FromString(each) for each in raw]
    return {each.name: each for each in files}


Request = reflection_pb2.ServerReflectionRequest


@pytest.mark.parametrize("name", NAMES)
async def test_both_versions_list_what_is_served(name):
    async with serving() as address:
        (listed,) = await ask(address, Request(list_services=""), name=name)
    assert [each.name for each in listed.list_services_response.service] == [
        "grpc.health.v1.Health",
        NAMES[1],
        ORDERS,
        SERVICE,
    ]


async def test_a_service_comes_with_its_comments_and_all_imports():
    async with serving() as address:
        (answer,) = await ask(address, Request(file_containing_symbol=ORDERS))
    files = files_of(answer)
    orders = next(iter(files.values()))
    assert orders.package == "shop.orders.v1"
    assert any(each.leading_comments for each in orders.source_code_info.location)
    for file in files.values():
        assert set(file.dependency) <= set(files)


async def test_what_the_descriptor_set_does_not_hold_comes_from_the_process():
    async with serving() as address:
        answers = await ask(
            address,
            Request(file_containing_symbol=SERVICE),
            Request(file_by_filename="test/echo/v1/echo.proto"),
            Request(file_containing_symbol="grpc.health.v1.Health"),
            Request(file_containing_symbol=f"{ORDERS}.GetOrder"),
        )
    names = [next(iter(files_of(each))) for each in answers]
    assert names[0] == names[1] == "test/echo/v1/echo.proto"
    assert names[2].endswith("health.proto")
    assert names[3].startswith("shop/orders/v1/")


@pytest.mark.parametrize(
    "request_",
    [
        Request(file_containing_symbol="no.Such"),
        Request(file_by_filename="no/such.proto"),
        Request(all_extension_numbers_of_type="no.Such"),
        Request(
            file_containing_extension=reflection_pb2.ExtensionRequest(
                containing_type="google.protobuf.MethodOptions", extension_number=1
            )
        ),
        Request(),
    ],
)
async def test_what_nobody_knows_is_an_error_and_the_stream_goes_on(request_):
    async with serving() as address:
        failed, fine = await ask(address, request_, Request(list_services=""))
    assert failed.WhichOneof("message_response") == "error_response"
    assert fine.WhichOneof("message_response") == "list_services_response"


async def test_extensions_are_found_by_number():
    http = reflection_pb2.ExtensionRequest(
        containing_type="google.protobuf.MethodOptions", extension_number=72295728
    )
    async with serving() as address:
        by_number, numbers = await ask(
            address,
            Request(file_containing_extension=http),
            Request(all_extension_numbers_of_type="google.protobuf.MethodOptions"),
        )
    assert next(iter(files_of(by_number))) == "google/api/annotations.proto"
    assert 72295728 in numbers.all_extension_numbers_response.extension_number


GRPCURL = shutil.which("grpcurl", path=str(ROOT / ".tools")) or shutil.which("grpcurl")


@pytest.mark.skipif(GRPCURL is None, reason="grpcurl is not installed")
@pytest.mark.parametrize(
    ("arguments", "expected"),
    [
        (["ADDRESS", "list"], ORDERS),
        (["ADDRESS", "describe", ORDERS], "rpc GetOrder"),
        (["-d", '{"text":"hello"}', "ADDRESS", f"{SERVICE}/Say"], '"text": "hello"'),
        (["-d", "{}", "ADDRESS", "grpc.health.v1.Health/Check"], "SERVING"),
    ],
)
async def test_grpcurl_finds_its_way(arguments, expected):
    async with serving() as address:
        process = await asyncio.create_subprocess_exec(
            str(GRPCURL),
            "-plaintext",
            *(address if each == "ADDRESS" else each for each in arguments),
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.STDOUT,
        )
        said, _ = await asyncio.wait_for(process.communicate(), 20)
    assert expected in said.decode()


@pytest.mark.skipif(GRPCURL is None, reason="grpcurl is not installed")
async def test_grpcurl_shows_the_field_violations():
    async with serving() as address:
        process = await asyncio.create_subprocess_exec(
            str(GRPCURL),
            "-plaintext",
            "-d",
            '{"number":-1}',
            address,
            f"{SERVICE}/Say",
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.STDOUT,
        )
        said, _ = await asyncio.wait_for(process.communicate(), 20)
    assert "InvalidArgument" in said.decode()
    assert '"INVALID_REQUEST"' in said.decode()
    assert '"field":"number"' in said.decode()
