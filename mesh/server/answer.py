"""
What a call was answered, as bytes that can wait in a database: a reply, or a google.rpc.Status.
"""

from __future__ import annotations

from dataclasses import dataclass

from google.protobuf import descriptor_pool, message_factory
from google.protobuf.message import Message
from google.rpc import status_pb2

from mesh.errors import StatusError
from mesh.status import from_status, to_status


@dataclass(frozen=True, slots=True)
class Answer:
    """A reply's bytes and the full name of its type, or a status; never both."""

    type: str = ""
    reply: bytes | None = None
    status: bytes | None = None


def pack(answer: Message | StatusError) -> Answer:
    if isinstance(answer, StatusError):
        return Answer(status=to_status(answer).SerializeToString())
    return Answer(answer.DESCRIPTOR.full_name, answer.SerializeToString())


def unpack(answer: Answer) -> Message:
    """The reply again, or its StatusError raised again."""
    if answer.status is not None:
        raise from_status(status_pb2.Status.FromString(answer.status))
    described = descriptor_pool.Default().FindMessageTypeByName(answer.type)
    made: Message = message_factory.GetMessageClass(described).FromString(answer.reply or b"")
    return made
