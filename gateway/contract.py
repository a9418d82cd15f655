"""
The services of a set of .proto files, in a descriptor pool of their own.

Each version of a service gets its own Contract, so that two versions, or two services that define
the same name differently, live side by side: the messages of a route belong to its contract.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from google.api import annotations_pb2, http_pb2
from google.protobuf import descriptor_pb2, descriptor_pool
from google.protobuf.descriptor import Descriptor, FileDescriptor
from google.rpc import error_details_pb2, status_pb2

from gateway.codec import Codec
from mesh.call import Idempotency, Kind, Method

FileProto = descriptor_pb2.FileDescriptorProto
# What an error's details may hold even where the service's own files do not import it.
KNOWN_DETAILS = (error_details_pb2.DESCRIPTOR, status_pb2.DESCRIPTOR)
_LEVELS = {
    descriptor_pb2.MethodOptions.NO_SIDE_EFFECTS: Idempotency.NO_SIDE_EFFECTS,
    descriptor_pb2.MethodOptions.IDEMPOTENT: Idempotency.IDEMPOTENT,
}


class ContractError(ValueError):
    """Descriptors that do not make a whole."""


@dataclass(frozen=True, slots=True, eq=False)
class Rpc:
    """One method of a service, with its messages."""

    contract: Contract
    name: str  # "shop.orders.v1.OrderService.GetOrder"
    input: Descriptor
    output: Descriptor
    client_streaming: bool
    server_streaming: bool
    options: descriptor_pb2.MethodOptions

    @property
    def path(self) -> str:
        """The path on gRPC's wire."""
        service, _, method = self.name.rpartition(".")
        return f"/{service}/{method}"

    @property
    def kind(self) -> Kind:
        names = {False: "unary", True: "stream"}
        return Kind(f"{names[self.client_streaming]}_{names[self.server_streaming]}")

    @property
    def method(self) -> Method:
        """The same as the mesh knows it."""
        idempotency = _LEVELS.get(self.options.idempotency_level, Idempotency.UNKNOWN)
        return Method(self.path, self.kind, idempotency)

    @property
    def keyed(self) -> bool:
        """Whether the request names its own idempotency key."""
        field = self.input.fields_by_name.get("request_id")
        return (
            field is not None
            and field.type == field.TYPE_STRING
            and not field.is_repeated
            and not self.client_streaming
        )

    def rules(self) -> Iterator[http_pb2.HttpRule]:
        """Its google.api.http bindings; the additional ones have none of their own."""
        if self.options.HasExtension(annotations_pb2.http):
            rule = self.options.Extensions[annotations_pb2.http]
            yield rule
            yield from rule.additional_bindings


class Contract:
    """`services` of `files`; what one of them imports must be among them or be well known."""

    def __init__(self, files: Iterable[FileProto], services: Iterable[str]) -> None:
        self.files: Mapping[str, FileProto] = {file.name: file for file in files}
        self.pool: Any = descriptor_pool.DescriptorPool()
        self.codec = Codec(self.pool, descriptor_pool.Default())
        digest = hashlib.sha256()
        self._added: set[str] = set()
        for name in sorted(self.files):
            digest.update(self.files[name].SerializeToString(deterministic=True))
            self._add(name, needed_by=name)
        self.rpcs = {
            rpc.name: rpc for service in sorted(services) for rpc in self._methods(service)
        }
        digest.update(" ".join(self.rpcs).encode())
        self.fingerprint = digest.hexdigest()[:12]
        self._comments: Mapping[str, str] | None = None

    def _add(self, name: str, needed_by: str) -> None:
        if name in self._added:
            return
        self._added.add(name)
        file = self.files.get(name) or _well_known(name, needed_by)
        for dependency in file.dependency:
            self._add(dependency, needed_by=name)
        try:
            self.pool.Add(file)
        except TypeError as error:
            raise ContractError(f"{name} cannot be loaded: {error}") from error

    def _methods(self, service: str) -> Iterator[Rpc]:
        try:
            found = self.pool.FindServiceByName(service)
        except KeyError as error:
            raise ContractError(f"the descriptors define no service {service}") from error
        for method in found.methods:
            yield Rpc(
                self,
                method.full_name,
                method.input_type,
                method.output_type,
                method.client_streaming,
                method.server_streaming,
                method.GetOptions(),
            )

    def comment(self, full_name: str) -> str:
        """What the .proto says above the thing of this name; "" without source info."""
        if self._comments is None:
            self._comments = {
                name: text for file in self.files.values() for name, text in _comments(file)
            }
        return self._comments.get(full_name, "")


def _well_known(name: str, needed_by: str) -> FileProto:
    """A file that this process has anyway: google/protobuf/*, google/rpc/*."""
    try:
        found: FileDescriptor = descriptor_pool.Default().FindFileByName(name)
    except KeyError as error:
        raise ContractError(f"{needed_by} imports {name}, which is missing") from error
    return FileProto.FromString(found.serialized_pb)


def _comments(file: FileProto) -> Iterator[tuple[str, str]]:
    """(full name, comment) of everything in the file that has one."""
    for location in file.source_code_info.location:
        text = location.leading_comments.strip() or location.trailing_comments.strip()
        if not text or not location.path:
            continue
        name = _named(file, list(location.path))
        if name:
            lines = [line.strip() for line in text.splitlines()]
            yield name, "\n".join(lines)


def _named(file: FileProto, path: list[int]) -> str:
    """The full name of what lies at `path` in the file's own descriptor; "" for what has none."""
    names, at = [file.package] if file.package else [], file
    while path:
        if len(path) < 2:
            return ""
        number, index, path = path[0], path[1], path[2:]
        field: Any = at.DESCRIPTOR.fields_by_number.get(number)
        if field is None or not field.is_repeated or field.message_type is None:
            return ""
        at = getattr(at, field.name)[index]
        if not hasattr(at, "name"):
            return ""
        names.append(at.name)
    return ".".join(names)
