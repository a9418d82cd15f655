"""What google.api.http can say beyond the shop's own routes, served by a server made of bytes."""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import Any

import aiohttp
import grpc
import grpc.aio
import pytest
from google.api import annotations_pb2, http_pb2, httpbody_pb2
from google.protobuf import any_pb2, descriptor_pb2, descriptor_pool, message_factory, text_format
from grpc_reflection.v1alpha import reflection

import discovery
from discovery import Instance
from gateway import Gateway
from mesh.call import Idempotency, Kind
from tests.gateway.scripted import LIMITS, until

FILE = """
name: 'box.proto' package: 'box' syntax: 'proto3'
dependency: 'google/api/annotations.proto' dependency: 'google/api/httpbody.proto'
message_type { name: 'Thing'
  field { name: 'name' number: 1 type: TYPE_STRING label: LABEL_OPTIONAL }
  field { name: 'parts' number: 2 type: TYPE_STRING label: LABEL_REPEATED }
  field { name: 'request_id' number: 3 type: TYPE_STRING label: LABEL_OPTIONAL }
  field { name: 'raw' number: 4 type: TYPE_MESSAGE type_name: '.google.api.HttpBody'
          label: LABEL_OPTIONAL }
}
service { name: 'Box'
  method { name: 'Echo' input_type: '.box.Thing' output_type: '.box.Thing'
    options { idempotency_level: IDEMPOTENT [google.api.http] {
      get: '/v1/{name=things/*/parts/**}'
      additional_bindings { post: '/v1/things' body: '*' }
      additional_bindings { get: '/v1/parts' response_body: 'parts' }
      additional_bindings { custom { kind: 'LINK' path: '/v1/link/{name}' } }
      additional_bindings { custom { kind: '*' path: '/v1/any' } }
    } } }
  method { name: 'Down' input_type: '.box.Thing' output_type: '.google.api.HttpBody'
    options { [google.api.http] { get: '/v1/down/{name}' } } }
  method { name: 'Download' input_type: '.box.Thing' output_type: '.google.api.HttpBody'
    server_streaming: true options { [google.api.http] { get: '/v1/download/{name}' } } }
  method { name: 'Upload' input_type: '.google.api.HttpBody' output_type: '.box.Thing'
    client_streaming: true options { [google.api.http] { post: '/v1/upload' body: '*' } } }
  method { name: 'Up' input_type: '.box.Thing' output_type: '.box.Thing'
    options { [google.api.http] { post: '/v1/up/{name}' body: 'raw' } } }
}
"""


class Box(grpc.GenericRpcHandler):
    """Answers by hand, so that no generated code of it exists anywhere."""

    def __init__(self, pool: Any) -> None:
        find = pool.FindMessageTypeByName
        self.thing = message_factory.GetMessageClass(find("box.Thing"))
        self.body = message_factory.GetMessageClass(find("google.api.HttpBody"))
        self.failures = 0
        self.calls = 0

    def service(self, details: Any) -> Any:
        unary = grpc.unary_unary_rpc_method_handler
        make, method, request = {
            "/box.Box/Echo": (unary, self.echo, self.thing),
            "/box.Box/Down": (unary, self.down, self.thing),
            "/box.Box/Up": (unary, self.up, self.thing),
            "/box.Box/Download": (
                grpc.unary_stream_rpc_method_handler,
                self.download,
                self.thing,
            ),
            "/box.Box/Upload": (grpc.stream_unary_rpc_method_handler, self.upload, self.body),
        }.get(details.method, (None, None, None))
        if make is None:
            return None
        return make(
            method,
            request_deserializer=request.FromString,
            response_serializer=lambda message: message.SerializeToString(),
        )

    async def echo(self, request: Any, context: Any) -> Any:
        self.calls += 1
        if self.failures:
            self.failures -= 1
            await context.abort(grpc.StatusCode.UNAVAILABLE, "not now")
        return request

    async def down(self, request: Any, context: Any) -> Any:
        return self.body(content_type="image/png", data=b"\x89PNG")

    async def download(self, request: Any, context: Any) -> AsyncIterator[Any]:
        if request.name == "missing":
            await context.abort(grpc.StatusCode.NOT_FOUND, "no such file")
        kind = "text/plain\r\nX-Injected: y" if request.name == "sly" else "image/png"
        yield self.body(content_type=kind, data=b"\x89PNG")
        if request.name == "broken":
            await context.abort(grpc.StatusCode.DATA_LOSS, "the disk is gone")
        yield self.body(data=b"rest")

    async def upload(self, requests: Any, context: Any) -> Any:
        parts = [part async for part in requests]
        kinds = {part.content_type for part in parts}
        return self.thing(name=f"{kinds} {sum(len(part.data) for part in parts)}")

    async def up(self, request: Any, context: Any) -> Any:
        return self.thing(name=f"{request.raw.content_type} {len(request.raw.data)}")


class Served:
    def __init__(self, url: str, http: aiohttp.ClientSession, box: Box, gateway: Gateway) -> None:
        self.url = url
        self.http = http
        self.box = box
        self.gateway = gateway

    async def ask(self, line: str, **keywords: Any) -> tuple[int, Any]:
        method, _, path = line.partition(" ")
        async with self.http.request(method, self.url + path, **keywords) as response:
            return response.status, await response.json()


@pytest.fixture
async def served(request: pytest.FixtureRequest) -> AsyncIterator[Served]:
    pool = descriptor_pool.DescriptorPool()
    for module in (descriptor_pb2, any_pb2, http_pb2, annotations_pb2, httpbody_pb2):
        pool.AddSerializedFile(module.DESCRIPTOR.serialized_pb)
    pool.Add(text_format.Parse(FILE, descriptor_pb2.FileDescriptorProto()))
    box, server = Box(pool), grpc.aio.server()
    server.add_generic_rpc_handlers((box,))
    reflection.enable_server_reflection(("box.Box", reflection.SERVICE_NAME), server, pool=pool)
    port = server.add_insecure_port("127.0.0.1:0")
    await server.start()
    # No meta: the gateway must ask which services there are.
    instance = Instance("box", "127.0.0.1", port, tags=("grpc",), check=None)
    try:
        async with (
            discovery.connect(f"memory://{request.node.nodeid}") as registry,
            registry.register(instance),
            aiohttp.ClientSession() as http,
        ):
            gateway = Gateway(registry, limits=LIMITS)
            async with gateway.serving() as url:
                await until(lambda: gateway.app.catalog.ready)
                yield Served(url, http, box, gateway)
    finally:
        await server.stop(0)


async def test_every_binding_of_an_rpc_is_served(served: Served) -> None:
    deep = await served.ask("GET /v1/things/a/parts/b/c?parts=x&parts=y")
    body = await served.ask("POST /v1/things", json={"name": "n"})
    part = await served.ask("GET /v1/parts?parts=x&parts=y")
    link = await served.ask("LINK /v1/link/n")
    other = await served.ask("BREW /v1/any?name=n")

    assert (deep[0], deep[1]["name"], deep[1]["parts"]) == (200, "things/a/parts/b/c", ["x", "y"])
    assert [body[1]["name"], link[1]["name"], other[1]["name"]] == ["n", "n", "n"]
    assert part == (200, ["x", "y"])


async def test_http_body_goes_down_and_up_as_it_is(served: Served) -> None:
    async with served.http.get(f"{served.url}/v1/down/x") as response:
        assert (response.content_type, await response.read()) == ("image/png", b"\x89PNG")
    png = {"Content-Type": "image/png"}
    answer = await served.ask("POST /v1/up/x", data=b"\x00" * 10, headers=png)

    assert (answer[0], answer[1]["name"]) == (200, "image/png 10")


async def test_a_stream_of_http_body_is_its_content(served: Served) -> None:
    async with served.http.get(f"{served.url}/v1/download/x") as response:
        assert (response.content_type, await response.read()) == ("image/png", b"\x89PNGrest")
    async with served.http.get(f"{served.url}/v1/download/missing") as response:
        assert (response.status, (await response.json())["code"]) == (404, 5)
    async with served.http.get(f"{served.url}/v1/download/sly") as response:
        assert response.headers["content-type"] == "application/octet-stream"
        assert "x-injected" not in response.headers


async def test_content_that_ends_early_does_not_look_whole(served: Served) -> None:
    async with served.http.get(f"{served.url}/v1/download/broken") as response:
        assert response.status == 200
        with pytest.raises(aiohttp.ClientPayloadError):
            await response.read()


async def test_a_body_goes_up_piece_by_piece_whatever_it_is(served: Served) -> None:
    """Larger than any one message may be."""

    async def pieces() -> AsyncIterator[bytes]:
        for _ in range(100):
            yield b"\xff" * 65536

    answer = await served.ask(
        "POST /v1/upload", data=pieces(), headers={"Content-Type": "video/mp4"}
    )

    assert (answer[0], answer[1]["name"]) == (200, "{'video/mp4'} 6553600")


async def test_the_contract_learnt_by_reflection_says_what_may_be_repeated(
    served: Served,
) -> None:
    channel = served.gateway.channel("box")
    echo = channel.contracts("/box.Box/Echo", Kind.UNARY_UNARY)
    down = channel.contracts("/box.Box/Down", Kind.UNARY_UNARY)

    assert echo[0].idempotency is Idempotency.IDEMPOTENT
    assert down[0].idempotency is Idempotency.UNKNOWN
    assert echo[1]


async def test_what_may_be_repeated_is_repeated_by_the_mesh(served: Served) -> None:
    served.box.failures = 1
    status, _ = await served.ask("GET /v1/parts")

    assert (status, served.box.calls) == (200, 2)


async def test_the_gateway_itself_repeats_nothing(served: Served) -> None:
    served.box.failures = 100
    status, _ = await served.ask("GET /v1/parts")

    assert status == 503
    assert served.box.calls <= 3  # the mesh's own attempts
